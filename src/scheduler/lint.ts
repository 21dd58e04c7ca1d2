/**
 * What is wrong with placement policies before any VM finds out (SCH-5): contradictions, single points of failure, and what
 * could not be placed any more after the loss of a node or a zone, found by planning it. Pure.
 */
import { conflictWith, minimal } from "../model/policy-conflict.ts";
import { agrees, isMust, isTargetNode, membersOf, nodesOfOthers } from "../model/policy.ts";
import type { Policy } from "../model/policy.ts";
import type { Node } from "../model/node.ts";
import { NO_TASKS, type View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import { plan } from "./plan.ts";

export type FindingCode = "impossible" | "no-node" | "no-members" | "one-zone" | "prefer-secondary" | "no-room" | "after-loss";

export interface Finding {
  code: FindingCode;
  /** `error`: refused while the others are on. */
  severity: "error" | "warning";
  message: string;
  /** The smallest set that causes it: without any one of them it does not happen. */
  policies: Policy[];
  /** Ids of the VMs it would hit; a few. */
  vmIds: string[];
  /** What would have to fail: names of nodes, or `zone NAME`; empty if nothing needs to. */
  lost: string[];
}

export interface Linted {
  findings: Finding[];
  /** False if the budget ended before every loss was tried. */
  complete: boolean;
}

export interface LintOptions {
  /** Plans that may be made; default by the size of the cluster, so that a lint takes about a second at most. */
  plans?: number;
}

const PLANS_MAX = 150;
const PLANS_MIN = 20;
/** Rows of nodes and VMs that all plans of a lint together may go through. */
const ROWS = 400_000;
const SHOWN_VMS = 10;
/** Other VMs of a lost node that are planned with the members, because they need room, too. */
const DISPLACED = 64;
const SEARCH_STEPS = 2_000;

/**
 * Lints `focus`, as if they were on beside the enabled policies of the view (one with the same id is replaced). Only what
 * one of them has part in is told.
 */
export function lint(view: View, focus: readonly Policy[], options: LintOptions = {}): Linted {
  const ids = new Set(focus.map((policy) => policy.id));
  const others = [...view.policies.values()].filter((policy) => policy.enabled && !ids.has(policy.id));
  const on = focus.map((policy) => ({ ...policy, enabled: true }));
  const findings: Finding[] = [];
  for (const policy of on) {
    const rest = [...others, ...on.filter((other) => other !== policy)];
    findings.push(...contradictions(view, policy, rest, findings), ...weaknesses(view, policy));
  }
  // What cannot be satisfied at all need not be planned to see that.
  const impossible = new Set(
    findings.filter(({ code }) => code === "impossible" || code === "no-node").flatMap((finding) => finding.policies),
  );
  const sound = on.filter((policy) => isMust(policy) && !impossible.has(policy));
  const losses = new Losses(view, [...others, ...on.filter((policy) => !impossible.has(policy))], sound, options.plans ?? plansFor(view));
  findings.push(...losses.findings());
  return { findings, complete: losses.complete };
}

function plansFor(view: View): number {
  return Math.min(PLANS_MAX, Math.max(PLANS_MIN, Math.floor(ROWS / Math.max(1, view.nodes.size + view.vms.size))));
}

/** Running VMs that a policy does not agree with where they are. */
export interface PolicyViolation {
  vm: Vm;
  node: Node;
}

/** Those of the policy's members, as if it were on; nothing moves because of it. */
export function violationsOf(view: View, policy: Policy): PolicyViolation[] {
  return membersOf(view, policy).flatMap((id) => {
    const vm = view.vms.get(id);
    const node = vm?.claim === null || vm === undefined ? undefined : view.nodes.get(vm.claim.nodeId);
    if (vm === undefined || node === undefined) return [];
    return agrees(view, policy, node, othersOf(view, policy, vm)) ? [] : [{ vm, node }];
  });
}

/** Same node means all of them: a group on two nodes is a violation for each of its members. */
function othersOf(view: View, policy: Policy, vm: Vm): ReadonlySet<string> {
  const others = nodesOfOthers(view, policy, vm);
  const together = policy.target.kind === "vms" && policy.target.rule === "same-node";
  return together && others.size > 1 ? new Set([...others].filter((id) => id !== vm.claim?.nodeId)) : others;
}

function contradictions(view: View, policy: Policy, rest: readonly Policy[], known: readonly Finding[]): Finding[] {
  const conflict = conflictWith(view, policy, rest);
  if (conflict === null) return [];
  const same = (finding: Finding): boolean =>
    finding.policies.length === conflict.policies.length && sameSet(finding.policies, conflict.policies);
  if (known.some(same)) return [];
  const alone = conflict.policies.length === 1;
  return [
    {
      code: alone ? "no-node" : "impossible",
      severity: alone ? "warning" : "error",
      message: alone ? `nothing satisfies it now: ${conflict.why}` : `cannot all be satisfied: ${conflict.why}`,
      policies: conflict.policies,
      vmIds: membersOf(view, policy).slice(0, SHOWN_VMS),
      lost: [],
    },
  ];
}

function sameSet<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.every((one) => b.includes(one));
}

/** What needs no planning to be seen. */
function weaknesses(view: View, policy: Policy): Finding[] {
  const members = membersOf(view, policy);
  const finding = (code: FindingCode, message: string): Finding => ({
    code,
    severity: "warning",
    message,
    policies: [policy],
    vmIds: members.slice(0, SHOWN_VMS),
    lost: [],
  });
  if (members.length === 0) return [finding("no-members", "no VM is a member yet")];
  const { target } = policy;
  const found: Finding[] = [];
  const all = [...view.nodes.values()].filter((node) => node.state !== "removed");
  const zones = new Set(all.map((node) => node.zone));
  if (policy.strength === "must" && target.kind === "nodes" && zones.size > 1) {
    const its = new Set(all.filter((node) => isTargetNode(target, node)).map((node) => node.zone));
    const protectedVms = members.filter((id) => view.vms.get(id)?.underHa === true);
    const [only] = its;
    if (its.size === 1 && protectedVms.length > 0)
      found.push(
        finding(
          "one-zone",
          `all its nodes are in zone ${only === "" ? "without a name" : only}: HA has nowhere to go when that zone fails`,
        ),
      );
  }
  if (policy.strength === "prefer" && view.zoneRoles.size > 0) {
    const secondary = all.filter((node) => view.zoneRoles.get(node.zone) === "secondary" && agrees(view, policy, node, new Set()));
    if (secondary.length > 0 && target.kind !== "vms") {
      const names = secondary.map((node) => node.name).slice(0, SHOWN_VMS);
      found.push(
        finding("prefer-secondary", `it prefers ${names.join(", ")} in a secondary zone, and takes its VMs out of the primary one`),
      );
    }
  }
  return found;
}

/** Plans the members again without one node or zone after the other. */
class Losses {
  complete = true;
  private readonly view: View;
  private readonly policies: readonly Policy[];
  private readonly focus: readonly Policy[];
  private readonly members: ReadonlySet<string>;
  private plansLeft: number;

  constructor(view: View, policies: readonly Policy[], focus: readonly Policy[], plans: number) {
    this.view = view;
    this.policies = policies;
    this.focus = focus;
    this.members = new Set(focus.flatMap((policy) => membersOf(view, policy)));
    this.plansLeft = plans;
  }

  findings(): Finding[] {
    if (this.members.size === 0) return [];
    const now = this.tried(new Set(), this.policies);
    if (now.unplaced.length > 0) {
      const found = this.finding("no-room", new Set(), now.unplaced, []);
      return found === null ? [] : [found];
    }
    const merged = new Map<string, Finding>();
    for (const { name, nodeIds } of this.losses()) {
      // Members that can all be elsewhere anyway lose nothing.
      if (![...nodeIds].some((id) => now.used.has(id))) continue;
      const left = this.tried(nodeIds, this.policies).unplaced;
      const found = left.length === 0 ? null : this.finding("after-loss", nodeIds, left, [name]);
      if (found === null) continue;
      const key = found.policies.map((policy) => policy.id).join(" ");
      const known = merged.get(key);
      if (known === undefined) merged.set(key, found);
      else
        merged.set(key, {
          ...known,
          lost: [...known.lost, name],
          vmIds: [...new Set([...known.vmIds, ...found.vmIds])].slice(0, SHOWN_VMS),
        });
    }
    return [...merged.values()].map((found) => ({ ...found, message: `${found.message} after the loss of ${orList(found.lost)}` }));
  }

  /** Zones, where there are several; then nodes: those that members are on, those that must policies name, the rest. */
  private losses(): { name: string; nodeIds: Set<string> }[] {
    const nodes = [...this.view.nodes.values()].filter((node) => node.state === "ready");
    const holders = new Set([...this.members].map((id) => this.view.vms.get(id)?.claim?.nodeId));
    const named = (node: Node): boolean =>
      this.focus.some((policy) => policy.target.kind !== "vms" && isMust(policy) && agrees(this.view, policy, node, new Set()));
    const weight = (node: Node): number => (holders.has(node.id) ? 0 : named(node) ? 1 : 2);
    const sorted = nodes.toSorted((a, b) => weight(a) - weight(b) || (a.id < b.id ? -1 : 1));
    const zones = new Map<string, Set<string>>();
    for (const node of nodes) if (node.zone !== "") zones.set(node.zone, (zones.get(node.zone) ?? new Set()).add(node.id));
    const byZone = zones.size < 2 ? [] : [...zones].map(([zone, nodeIds]) => ({ name: `zone ${zone}`, nodeIds }));
    return [...byZone, ...sorted.map((node) => ({ name: node.name, nodeIds: new Set([node.id]) }))];
  }

  /**
   * Members that get no node when the lost ones are gone and these policies hold, and the nodes that the others get; no members once
   * the budget is used up.
   */
  private tried(lost: ReadonlySet<string>, policies: readonly Policy[]): { unplaced: string[]; used: ReadonlySet<string> } {
    if (this.plansLeft <= 0) {
      this.complete = false;
      return { unplaced: [], used: new Set() };
    }
    this.plansLeft--;
    const { view, vms } = this.without(lost, policies);
    const request = { vms, mode: "batch", kind: "recover", scoring: null, manual: true, searchSteps: SEARCH_STEPS } as const;
    const { placements, rejections } = plan(view, request, "policy lint");
    const used = placements.filter(({ vmId }) => this.members.has(vmId)).map(({ nodeId }) => nodeId);
    return { unplaced: rejections.map(({ vmId }) => vmId).filter((id) => this.members.has(id)), used: new Set(used) };
  }

  /** The smallest set of policies that keeps the first of the VMs waiting; null if it is not policies that do, or none in focus. */
  private finding(code: FindingCode, lost: ReadonlySet<string>, vmIds: readonly string[], names: string[]): Finding | null {
    const first = vmIds[0]!;
    const waits = (set: readonly Policy[]): boolean => this.tried(lost, set).unplaced.includes(first);
    const concerned = this.policies.filter((policy) => isMust(policy) && membersOf(this.view, policy).some((id) => this.members.has(id)));
    if (waits([]) || !waits(concerned)) return null;
    const least = minimal(concerned, waits);
    if (!least.some((policy) => this.focus.includes(policy))) return null;
    return {
      code,
      severity: "warning",
      message: "members cannot all be placed",
      policies: least,
      vmIds: vmIds.slice(0, SHOWN_VMS),
      lost: names,
    };
  }

  /**
   * The cluster without these nodes, and the VMs to be placed then: all members anew, wherever they are now, because the question is
   * whether they could be; and whatever else ran on the lost nodes under HA.
   */
  private without(lost: ReadonlySet<string>, policies: readonly Policy[]): { view: View; vms: string[] } {
    const { view } = this;
    const waiting: string[] = [];
    const changed = new Map<string, Vm>();
    const claimsByNode = new Map(view.claimsByNode);
    const free = (vm: Vm): void => {
      const desired = { ...vm.desired, power: "on" as const, hold: false, nodeId: null };
      changed.set(vm.id, { ...vm, claim: null, state: "recovering", desired });
    };
    for (const id of this.members) {
      const vm = view.vms.get(id);
      if (vm === undefined || vm.desired.deleted) continue;
      waiting.push(id);
      free(vm);
      const nodeId = vm.claim?.nodeId;
      if (nodeId !== undefined) claimsByNode.set(nodeId, new Set([...(claimsByNode.get(nodeId) ?? [])].filter((other) => other !== id)));
    }
    let displaced = 0;
    for (const nodeId of lost) {
      for (const id of claimsByNode.get(nodeId) ?? []) {
        const vm = view.vms.get(id);
        if (vm === undefined) continue;
        free(vm);
        if (vm.underHa && displaced++ < DISPLACED) waiting.push(id);
      }
      claimsByNode.delete(nodeId);
    }
    return {
      view: {
        index: view.index,
        term: view.term,
        cluster: view.cluster,
        nodes: new Map([...view.nodes].filter(([id]) => !lost.has(id))),
        vms: changed.size === 0 ? view.vms : new Map([...view.vms].map(([id, vm]) => [id, changed.get(id) ?? vm])),
        pools: view.pools,
        policies: new Map(policies.map((policy) => [policy.id, policy])),
        policyIdByName: view.policyIdByName,
        zoneRoles: view.zoneRoles,
        tokens: view.tokens,
        ...NO_TASKS,
        claimsByNode,
        vmIdByName: view.vmIdByName,
        nodeIdByName: view.nodeIdByName,
        poolIdByName: view.poolIdByName,
      },
      vms: waiting,
    };
  }
}

function orList(names: readonly string[]): string {
  if (names.length <= 1) return names[0] ?? "";
  if (names.length > SHOWN_VMS) return `any of ${names.slice(0, SHOWN_VMS).join(", ")}, … (${names.length})`;
  return `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}
