/**
 * Why a VM went where it went, and what would have to change (SCH-17, SCH-18). The plan is made again from the same view,
 * request and seed, so nothing but those three has to be kept.
 */
import { limitsOf, nodeUsage, usageOf } from "../model/capacity.ts";
import type { Usage } from "../model/capacity.ts";
import { checkPlacement } from "../model/placement.ts";
import type { Refusal } from "../model/placement.ts";
import type { Node } from "../model/node.ts";
import type { View } from "../model/view.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import { scorerOfItem } from "./attempt.ts";
import { playback } from "./certify.ts";
import { FILTERS, tierOf } from "./filters.ts";
import type { FilterContext } from "./filters.ts";
import { solve } from "./plan.ts";
import { promisedBy } from "./reasons.ts";
import type { PlanRequest } from "./types.ts";

/** What one node said to the VM. */
export interface Verdict {
  nodeId: string;
  nodeName: string;
  /** True for the node that was chosen. */
  chosen: boolean;
  /** Lowest wins; null if refused. */
  score: number | null;
  /** 0 is preferred; a higher tier is used only if no lower one is left. */
  tier: number;
  /** All reasons against it, in the order of the chain; the first is the one counted. */
  refusals: Refusal[];
}

export interface Explanation {
  vmId: string;
  nodeId: string | null;
  /** Position among the decisions of the plan, from 0; null if it was not planned at all. */
  position: number | null;
  /** Set where the VM was not to be planned: held, has a node, … */
  refused: PendingReason[] | null;
  /** The best first, then the refused by node name. */
  verdicts: Verdict[];
}

/** Every node's verdict at the moment the plan decided about the VM. */
export function explain(view: View, request: PlanRequest, seed: string, vmId: string, usage: Usage = usageOf(view)): Explanation {
  const solved = solve(view, request, seed, usage);
  const { arena, items, outcome, score } = solved;
  const refused = solved.refused.get(vmId) ?? null;
  const answer: Explanation = { vmId, nodeId: null, position: null, refused, verdicts: [] };
  playback(arena, items, outcome.attempt, request.kind, (position, item) => {
    if (item.vm.id !== vmId) return;
    const context: FilterContext = { ...solved.context, inFlight: promisedBy(solved.context, arena, item), where: arena.where };
    const winner = outcome.attempt.node[outcome.attempt.order[position]!]!;
    answer.position = position;
    answer.nodeId = winner === -1 ? null : arena.nodes[winner]!.id;
    answer.verdicts = arena.nodes.map((node, i) => {
      const refusals = allRefusals(context, item.vm, node);
      return {
        nodeId: node.id,
        nodeName: node.name,
        chosen: i === winner,
        score:
          refusals.length === 0
            ? scorerOfItem(items, outcome.attempt, outcome.attempt.order[position]!, score)(arena, i, item.memory, item.cpus)
            : null,
        tier: tierOf(context, item.vm, node),
        refusals,
      };
    });
  });
  answer.verdicts.sort(bestFirst);
  return answer;
}

/** A change that would remove one or more refusals of a node. */
export interface Change {
  /** `free`, `shrink`, `state`, `request`, `network`, `storage`, `policy`, `definition`. */
  kind: string;
  /** For people: `move db (2048 MiB) from n1 to n3`. */
  text: string;
}

export interface WhyNot {
  nodeId: string;
  nodeName: string;
  /** True if it fits as it is. */
  fits: boolean;
  /** False if no change of the cluster helps, as with another architecture. */
  possible: boolean;
  /** All are needed together; the fewest found. */
  changes: Change[];
}

/** For each node (or one) the smallest change that would make the VM fit there now; the easiest node first. */
export function whyNot(view: View, request: PlanRequest, vmId: string, nodeId: string | null, usage: Usage = usageOf(view)): WhyNot[] {
  const vm = view.vms.get(vmId);
  if (vm === undefined) return [];
  const solved = solve(view, { ...request, vms: [vmId], manual: true }, "", usage);
  const context = solved.context;
  const answers = solved.arena.nodes
    .filter((node) => nodeId === null || node.id === nodeId)
    .map((node): WhyNot => {
      const refusals = allRefusals(context, vm, node);
      const changes = changesFor(context, vm, node, refusals, usage);
      return {
        nodeId: node.id,
        nodeName: node.name,
        fits: refusals.length === 0,
        possible: changes !== null,
        changes: changes ?? [],
      };
    });
  return answers.sort(
    (a, b) =>
      Number(b.possible) - Number(a.possible) ||
      a.changes.length - b.changes.length ||
      weight(a) - weight(b) ||
      (a.nodeName < b.nodeName ? -1 : 1),
  );
}

/** Of equally many changes, moving a VM is easier than making this one smaller. */
function weight(answer: WhyNot): number {
  return answer.changes.filter((change) => change.kind === "shrink").length;
}

function bestFirst(a: Verdict, b: Verdict): number {
  if (a.chosen !== b.chosen) return a.chosen ? -1 : 1;
  if ((a.score === null) !== (b.score === null)) return a.score === null ? 1 : -1;
  return a.tier - b.tier || (a.score ?? 0) - (b.score ?? 0) || (a.nodeName < b.nodeName ? -1 : 1);
}

/** Every filter's word; those that need the node's facts are not asked where it has told none. */
function allRefusals(context: FilterContext, vm: Vm, node: Node): Refusal[] {
  const refusals: Refusal[] = [];
  for (const filter of FILTERS) {
    const found = filter.refuse(context, vm, node);
    if (found === null) continue;
    refusals.push(found);
    if (found.code === "node-unknown") break;
  }
  return refusals;
}

/** null if nothing helps. */
function changesFor(context: FilterContext, vm: Vm, node: Node, refusals: readonly Refusal[], usage: Usage): Change[] | null {
  const changes: Change[] = [];
  const short = { memoryMib: 0, cpus: 0 };
  for (const refusal of refusals) {
    const why = refusal.detail.slice(node.name.length + 2);
    switch (refusal.code) {
      case "node-not-ready":
        changes.push({ kind: "state", text: `make ${node.name} ready: it ${why}` });
        break;
      case "requested-node":
        changes.push({ kind: "request", text: `ask for ${node.name} or for no node` });
        break;
      case "bridge":
        changes.push({ kind: "network", text: `give ${node.name} the bridge: it ${why}` });
        break;
      case "pool":
        changes.push({ kind: "storage", text: `make the pool reachable from ${node.name}: ${why}` });
        break;
      case "home-node":
        changes.push({ kind: "storage", text: `move its volumes to a shared pool: ${why}` });
        break;
      case "requirements":
        changes.push({ kind: "definition", text: `change the VM's requirements or ${node.name}'s labels: ${why}` });
        break;
      case "policy":
      case "vm-policy":
        changes.push({ kind: "policy", text: `disable the policy or change it: ${why}` });
        break;
      case "memory":
        short.memoryMib = (refusal.numbers["askedMib"] ?? 0) - ((refusal.numbers["limitMib"] ?? 0) - (refusal.numbers["usedMib"] ?? 0));
        break;
      case "cpus":
        short.cpus = (refusal.numbers["askedCpus"] ?? 0) - ((refusal.numbers["limitCpus"] ?? 0) - (refusal.numbers["usedCpus"] ?? 0));
        break;
      default:
        return null;
    }
  }
  if (short.memoryMib > 0 || short.cpus > 0) changes.push(roomOn(context, vm, node, short, usage));
  return changes;
}

/** One VM that can go elsewhere, or two; else how much smaller the VM, or less used the node, would have to be. */
function roomOn(context: FilterContext, vm: Vm, node: Node, short: { memoryMib: number; cpus: number }, usage: Usage): Change {
  const { view } = context;
  const here = [...(view.claimsByNode.get(node.id) ?? [])]
    .map((id) => view.vms.get(id))
    .filter((other): other is Vm => other !== undefined && other.id !== vm.id)
    .sort((a, b) => a.definition.memoryMib - b.definition.memoryMib || a.number - b.number);
  for (const other of here) {
    if (other.definition.memoryMib < short.memoryMib || other.definition.cpus < short.cpus) continue;
    const target = [...view.nodes.values()]
      .filter((one) => one.id !== node.id && checkPlacement(view, other, one, { usage, inFlight: context.inFlight }) === null)
      .sort((a, b) => freeOf(context, b, usage) - freeOf(context, a, usage) || (a.name < b.name ? -1 : 1))[0];
    if (target === undefined) continue;
    return {
      kind: "free",
      text: `move ${other.definition.name} (${other.definition.memoryMib} MiB, ${other.definition.cpus} vCPUs) from ${node.name} to ${target.name}`,
    };
  }
  const needs = [...(short.memoryMib > 0 ? [`${short.memoryMib} MiB`] : []), ...(short.cpus > 0 ? [`${short.cpus} vCPUs`] : [])].join(
    " and ",
  );
  return { kind: "shrink", text: `free ${needs} on ${node.name}, or make the VM smaller by as much; no single VM there can go elsewhere` };
}

function freeOf(context: FilterContext, node: Node, usage: Usage): number {
  return limitsOf(node, context.settings).memoryMib - nodeUsage(usage, node.id).memoryMib;
}
