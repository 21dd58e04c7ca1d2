/**
 * The smallest change that would let a VM be on a node (SCH-18). Changes are made for real on a copy of the state and the
 * production planner is asked again, so what is answered is true by trial. Smallest: fewest changes of the kinds below,
 * then the gentlest, then the least memory moved. Pure.
 */
import { limitsOf, nodeUsage } from "../model/capacity.ts";
import type { Node, NodeInfo } from "../model/node.ts";
import { checkPlacement, localPool, poolsOf, settingsOf } from "../model/placement.ts";
import type { Refusal } from "../model/placement.ts";
import { agrees, describePolicy, isMust, membersOf, nodesOfOthers, policiesOf } from "../model/policy.ts";
import type { Vm, VmDefinition } from "../model/vm.ts";
import { refusalsOf } from "../scheduler/explain.ts";
import { plan } from "../scheduler/plan.ts";
import type { PlanRequest } from "../scheduler/types.ts";
import { scratchOf } from "../state/history.ts";
import type { RowChange, State } from "../state/state.ts";

/** From gentle to harsh: the order in which equally many changes are preferred. */
const KINDS = ["state", "label", "request", "move", "policy", "network", "storage", "stop", "shrink", "definition", "setting"] as const;
export type ChangeKind = (typeof KINDS)[number];

export interface Change {
  kind: ChangeKind;
  /** For people: `move db (2048 MiB, 2 vCPUs) from n1 to n3`. */
  text: string;
  /** The row as it would be, made from the row as it is then: changes of one set may meet in a row. */
  edit: (state: State) => RowChange;
  /** Memory that has to move, or that the VM loses, MiB; 0 where that is no matter. */
  memoryMib: number;
}

export interface WhyNot {
  nodeId: string;
  nodeName: string;
  /** True if it fits as it is, or is there. */
  fits: boolean;
  /** False if none of the changes known helps, as with another architecture. */
  possible: boolean;
  /** All are needed together. */
  changes: Change[];
  /** Other sets of as few changes, at most `ALTERNATIVES_MAX`. */
  alternatives: Change[][];
  /** False if the search ended before it had tried every set of as few changes. */
  exact: boolean;
}

const CHANGES_MAX = 4;
const ALTERNATIVES_MAX = 3;
/** Sets of changes tried for one node. */
const TRIES_MAX = 3_000;
/** VMs of a node that are looked at to be moved away, the smallest that make enough room first. */
const MOVABLE_MAX = 24;

/** For each node (or one) the smallest change that would make the VM fit there; the easiest node first. */
export function whyNot(present: State, vmId: string, nodeId: string | null): WhyNot[] {
  const scratch = scratchOf(present);
  if (!scratch.vms.has(vmId)) return [];
  const nodes = [...scratch.nodes.values()].filter((node) => node.state !== "removed" && (nodeId === null || node.id === nodeId));
  return nodes
    .map((node) => new Search(scratch, vmId, node.id).answer())
    .sort(
      (a, b) =>
        Number(b.possible) - Number(a.possible) ||
        a.changes.length - b.changes.length ||
        cost(a.changes) - cost(b.changes) ||
        (a.nodeName < b.nodeName ? -1 : 1),
    );
}

/** What the scheduler is asked for this VM alone: one that runs would have to be migrated. */
function requestFor(vm: Vm): PlanRequest {
  return { vms: [vm.id], mode: "one-by-one", kind: vm.claim === null ? "start" : "migrate", scoring: null, manual: true };
}

/** Every filter's word about the VM on the node, as the state is. */
function refusalsOn(state: State, vm: Vm, node: Node): Refusal[] {
  return refusalsOf({ view: state, settings: settingsOf(state), usage: state.usage, request: requestFor(vm) }, vm, node);
}

/** One VM and one node; the state is the search's to change, and is put back. */
class Search {
  readonly #state: State;
  readonly #vmId: string;
  readonly #nodeId: string;
  #found: Change[][] = [];
  #tries = 0;

  constructor(state: State, vmId: string, nodeId: string) {
    this.#state = state;
    this.#vmId = vmId;
    this.#nodeId = nodeId;
  }

  get #vm(): Vm {
    return this.#state.vms.get(this.#vmId)!;
  }

  get #node(): Node {
    return this.#state.nodes.get(this.#nodeId)!;
  }

  answer(): WhyNot {
    const { id: nodeId, name: nodeName } = this.#node;
    const about = { nodeId, nodeName, changes: [], alternatives: [], exact: true };
    if (this.#vm.claim?.nodeId === nodeId || refusalsOn(this.#state, this.#vm, this.#node).length === 0)
      return { ...about, fits: true, possible: true };
    // One more change at a time, so what is found first is smallest.
    for (let changes = 1; changes <= CHANGES_MAX && this.#found.length === 0; changes++) this.#deepen(changes, []);
    const needed = this.#found.map((set) => this.#withoutIdle(set));
    const [changes, ...alternatives] = needed.sort((a, b) => a.length - b.length || cost(a) - cost(b) || (textOf(a) < textOf(b) ? -1 : 1));
    const exact = this.#tries < TRIES_MAX;
    if (changes === undefined) return { ...about, fits: false, possible: false, exact };
    return { ...about, fits: false, possible: true, changes, alternatives: distinct(changes, alternatives), exact };
  }

  /** A change made for one refusal may have done for another what an earlier one was made for. */
  #withoutIdle(set: Change[]): Change[] {
    for (const change of set) {
      const rest = set.filter((other) => other !== change);
      if (this.#helps(rest)) return this.#withoutIdle(rest);
    }
    return set;
  }

  #helps([first, ...rest]: Change[]): boolean {
    if (first === undefined) return refusalsOn(this.#state, this.#vm, this.#node).length === 0 && this.#proven();
    return this.#with(first.edit(this.#state), () => this.#helps(rest));
  }

  /** Whatever set helps has to hold a change against the first refusal, so only such ones are tried. */
  #deepen(left: number, chosen: Change[]): void {
    const refusals = refusalsOn(this.#state, this.#vm, this.#node);
    const [first] = refusals;
    if (first === undefined) {
      if (this.#proven()) this.#found.push(chosen);
      return;
    }
    if (causesOf(refusals) > left) return;
    for (const change of candidates(this.#state, this.#vm, this.#node, first, left > 1)) {
      if (++this.#tries >= TRIES_MAX) return;
      this.#with(change.edit(this.#state), () => this.#deepen(left - 1, [...chosen, change]));
    }
  }

  /** The production planner, asked for this node. */
  #proven(): boolean {
    const vm = this.#vm;
    const asked: RowChange = { table: "vms", key: vm.id, row: { ...vm, desired: { ...vm.desired, nodeId: this.#nodeId } } };
    return this.#with(asked, () => plan(this.#state, requestFor(vm), "why-not", this.#state.usage).placements[0]?.nodeId === this.#nodeId);
  }

  #with<T>(edit: RowChange, run: () => T): T {
    const before = { ...edit, row: rowBefore(this.#state, edit) } as RowChange;
    this.#state.write(edit);
    const result = run();
    this.#state.write(before);
    return result;
  }
}

function rowBefore(state: State, { table, key }: RowChange): unknown {
  return table === "cluster" ? state.cluster : ((state[table] as unknown as ReadonlyMap<string, unknown>).get(key) ?? null);
}

/** How many changes it takes at least: room for memory and for vCPUs can be made by one. */
function causesOf(refusals: readonly Refusal[]): number {
  const room = refusals.filter(({ code }) => code === "memory" || code === "cpus").length;
  return refusals.length - Math.max(0, room - 1);
}

function cost(changes: readonly Change[]): number {
  return changes.reduce((sum, { kind, memoryMib }) => sum + (KINDS.indexOf(kind) + 1) * 2 ** 30 + memoryMib, 0);
}

function textOf(changes: readonly Change[]): string {
  return changes.map(({ text }) => text).join("; ");
}

/** One set of each combination of kinds: ten VMs that could be moved are one idea. */
function distinct(best: readonly Change[], others: readonly Change[][]): Change[][] {
  const ideaOf = (changes: readonly Change[]): string =>
    changes
      .map(({ kind }) => kind)
      .toSorted()
      .join();
  const seen = new Set([ideaOf(best)]);
  return others.filter((one) => one.length === best.length && !seen.has(ideaOf(one)) && seen.add(ideaOf(one))).slice(0, ALTERNATIVES_MAX);
}

/** Changes that speak to a refusal. `partial`: also such as make only some of the room that is needed. */
function candidates(state: State, vm: Vm, node: Node, refusal: Refusal, partial: boolean): Change[] {
  const why = refusal.detail.slice(node.name.length + 2);
  const vmAs = (text: string, kind: ChangeKind, make: (row: Vm) => Vm): Change => ({ kind, text, edit: vmEdit(vm.id, make), memoryMib: 0 });
  const nodeAs = (text: string, kind: ChangeKind, make: (row: Node) => Node): Change => ({
    kind,
    text,
    edit: nodeEdit(node.id, make),
    memoryMib: 0,
  });
  const defined = (text: string, make: Partial<VmDefinition>): Change =>
    vmAs(text, "definition", (row) => ({ ...row, definition: { ...row.definition, ...make } }));
  switch (refusal.code) {
    case "node-not-ready":
      return [nodeAs(readyText(node), "state", (row) => ({ ...row, state: "ready" }))];
    case "requested-node":
      return [vmAs(`ask for ${node.name} or for no node`, "request", (row) => ({ ...row, desired: { ...row.desired, nodeId: null } }))];
    case "partition": {
      const partition = node.partition ?? "";
      return [defined(partition === "" ? "take the VM out of its partition" : `put the VM into partition ${partition}`, { partition })];
    }
    case "bridge": {
      const known = node.info?.bridges ?? [];
      const bridges = [...new Set(vm.definition.nics.map((nic) => nic.bridge))].filter((bridge) => !known.includes(bridge));
      const text = `give ${node.name} the ${bridges.length === 1 ? "bridge" : "bridges"} ${bridges.join(", ")}`;
      return [nodeAs(text, "network", (row) => withInfo(row, (info) => ({ ...info, bridges: [...info.bridges, ...bridges] })))];
    }
    case "pool": {
      const ids = poolsOf(vm.definition).map((name) => state.poolIdByName.get(name));
      if (ids.includes(undefined)) return [];
      const reached = ids.map((poolId) => ({ poolId: poolId ?? "", available: true, problem: "", totalBytes: 0, freeBytes: 0 }));
      const others = (info: NodeInfo): NodeInfo["pools"] => info.pools.filter(({ poolId }) => !ids.includes(poolId));
      const text = `make its pools reachable from ${node.name}: ${why}`;
      return [nodeAs(text, "storage", (row) => withInfo(row, (info) => ({ ...info, pools: [...others(info), ...reached] })))];
    }
    case "home-node": {
      const text = `move its volumes in the local pool ${localPool(state, vm.definition) ?? ""} to ${node.name}`;
      return [vmAs(text, "storage", (row) => ({ ...row, homeNodeId: node.id }))];
    }
    case "requirements":
      return [
        ...labelsWanted(vm, node).map(([name, value]) =>
          nodeAs(`label ${node.name} ${name}=${value}`, "label", (row) => ({ ...row, labels: { ...row.labels, [name]: value } })),
        ),
        defined(`change the VM's requirements: ${why}`, { requirements: null }),
      ];
    case "cpu":
      return [defined(`ask for another CPU: ${why}`, { cpu: null })];
    case "pinning":
      return [
        defined(`do without pinned CPUs: ${why}`, { cpuPinning: null }),
        ...moves(state, vm, node, { memoryMib: 0, cpus: 1 }, partial),
      ];
    case "policy":
    case "vm-policy":
      return policyChanges(state, vm, node);
    case "memory":
    case "cpus":
      return roomChanges(state, vm, node, refusal, partial);
    default:
      return [];
  }
}

function readyText(node: Node): string {
  switch (node.state) {
    case "disabled":
      return `enable ${node.name} (roost node enable ${node.name})`;
    case "maintenance":
    case "draining":
      return `end the ${node.state === "draining" ? "drain" : "maintenance"} of ${node.name}`;
    default:
      return `bring ${node.name} back: it is ${node.state}${node.stateWhy === "" ? "" : ` (${node.stateWhy})`}`;
  }
}

function vmEdit(id: string, make: (row: Vm) => Vm): Change["edit"] {
  return (state) => ({ table: "vms", key: id, row: make(state.vms.get(id)!) });
}

function nodeEdit(id: string, make: (row: Node) => Node): Change["edit"] {
  return (state) => ({ table: "nodes", key: id, row: make(state.nodes.get(id)!) });
}

function withInfo(node: Node, make: (info: NodeInfo) => NodeInfo): Node {
  return { ...node, info: node.info === null ? null : make(node.info) };
}

/** Labels that the requirements compare for equality; whether one helps is found out by trying. */
function labelsWanted(vm: Vm, node: Node): [string, string][] {
  const found: [string, string][] = [];
  for (const [, name, value] of (vm.definition.requirements ?? "").matchAll(/label\.([\w.-]+)\s*==?\s*["']([^"']*)["']/g)) {
    if (name !== undefined && value !== undefined && node.labels[name] !== value) found.push([name, value]);
  }
  return found;
}

function policyChanges(state: State, vm: Vm, node: Node): Change[] {
  const found: Change[] = [];
  for (const policy of policiesOf(state, vm.id)) {
    if (!isMust(policy) || agrees(state, policy, node, nodesOfOthers(state, policy, vm))) continue;
    found.push({
      kind: "policy",
      text: `disable ${describePolicy(state, policy)}`,
      edit: () => ({ table: "policies", key: policy.id, row: { ...policy, enabled: false } }),
      memoryMib: 0,
    });
    if (policy.target.kind !== "vms" || policy.target.rule !== "different-nodes") continue;
    for (const id of membersOf(state, policy)) {
      const other = state.vms.get(id);
      const away = other === undefined || other.id === vm.id || other.claim?.nodeId !== node.id ? null : moveAway(state, other, node);
      if (away !== null) found.push(away);
    }
  }
  return found;
}

function roomChanges(state: State, vm: Vm, node: Node, refusal: Refusal, partial: boolean): Change[] {
  const limits = limitsOf(node, settingsOf(state));
  const used = nodeUsage(state.usage, node.id);
  const [freeMib, freeCpus] = [limits.memoryMib - used.memoryMib, limits.cpus - used.cpus];
  const { definition } = vm;
  const short = { memoryMib: Math.max(0, definition.memoryMib - freeMib), cpus: Math.max(0, definition.cpus - freeCpus) };
  const found = moves(state, vm, node, short, partial);
  if (refusal.code === "memory" && freeMib >= 1)
    found.push({
      kind: "shrink",
      text: `give the VM at most ${freeMib} MiB, ${short.memoryMib} MiB less`,
      edit: vmEdit(vm.id, (row) => ({ ...row, definition: { ...row.definition, memoryMib: freeMib } })),
      memoryMib: short.memoryMib,
    });
  if (refusal.code === "cpus" && freeCpus >= 1)
    found.push({
      kind: "shrink",
      text: `give the VM at most ${freeCpus} vCPUs, ${short.cpus} fewer`,
      edit: vmEdit(vm.id, (row) => ({ ...row, definition: { ...row.definition, cpus: freeCpus } })),
      memoryMib: 0,
    });
  const cluster = state.cluster;
  if (refusal.code === "cpus" && cluster !== null && node.info !== null) {
    const ratio = Math.ceil(((used.cpus + definition.cpus) / node.info.cpus) * 1_000) / 1_000;
    found.push({
      kind: "setting",
      text: `raise scheduler.cpuRatio from ${cluster.settings["scheduler.cpuRatio"]} to ${ratio}`,
      edit: () => ({ table: "cluster", key: "self", row: { ...cluster, settings: { ...cluster.settings, "scheduler.cpuRatio": ratio } } }),
      memoryMib: 0,
    });
  }
  return found;
}

/** VMs that could leave the node: elsewhere if some node takes them, else off. */
function moves(state: State, vm: Vm, node: Node, short: { memoryMib: number; cpus: number }, partial: boolean): Change[] {
  const here = [...(state.claimsByNode.get(node.id) ?? [])]
    .map((id) => state.vms.get(id))
    .filter((other): other is Vm => other !== undefined && other.id !== vm.id);
  const enough = ({ definition }: Vm): boolean => definition.memoryMib >= short.memoryMib && definition.cpus >= short.cpus;
  const bySize = (a: Vm, b: Vm): number => a.definition.memoryMib - b.definition.memoryMib || a.number - b.number;
  const sufficing = here.filter(enough).sort(bySize);
  // Of those that are not enough alone, the large ones leave the least to the next.
  const others = partial ? here.filter((other) => !enough(other)).sort((a, b) => bySize(b, a)) : [];
  const found: Change[] = [];
  for (const other of [...sufficing, ...others].slice(0, MOVABLE_MAX)) {
    const away = moveAway(state, other, node);
    if (away !== null) found.push(away);
    const { name, memoryMib, cpus } = other.definition;
    found.push({
      kind: "stop",
      text: `stop ${name} (${memoryMib} MiB, ${cpus} vCPUs) on ${node.name}`,
      edit: vmEdit(other.id, (row) => ({ ...row, claim: null, state: "stopped", desired: { ...row.desired, power: "off" } })),
      memoryMib,
    });
  }
  return found;
}

/** To the node with the most room that takes it; null if none does. */
function moveAway(state: State, other: Vm, from: Node): Change | null {
  const settings = settingsOf(state);
  const roomOf = (node: Node): number => limitsOf(node, settings).memoryMib - nodeUsage(state.usage, node.id).memoryMib;
  const { name, memoryMib, cpus } = other.definition;
  let best: Node | null = null;
  for (const node of state.nodes.values()) {
    if (node.id === from.id || node.state !== "ready" || roomOf(node) < memoryMib) continue;
    if (best !== null && (roomOf(node) < roomOf(best) || (roomOf(node) === roomOf(best) && node.name > best.name))) continue;
    if (checkPlacement(state, other, node, { usage: state.usage }) === null) best = node;
  }
  const { claim } = other;
  if (best === null || claim === null) return null;
  const nodeId = best.id;
  return {
    kind: "move",
    text: `move ${name} (${memoryMib} MiB, ${cpus} vCPUs) from ${from.name} to ${best.name}`,
    edit: vmEdit(other.id, (row) => ({ ...row, claim: { ...claim, nodeId }, homeNodeId: nodeId })),
    memoryMib,
  };
}
