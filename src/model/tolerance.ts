/**
 * N+k (HA-16): would every VM under HA find a place again if these nodes died? What is asked, and the evidence that answers it:
 * for the scheduler, which looks for it (src/scheduler/tolerance.ts), and for the small checker, which believes nothing
 * (tolerance-check.ts). docs/design/013-admission.md.
 */
import type { Node } from "./node.ts";
import { localPool } from "./placement.ts";
import type { Settings } from "./settings.ts";
import type { View } from "./view.ts";
import type { Vm } from "./vm.ts";

/** What shall be survived: any so many nodes, and any one zone. */
export interface ToleranceGoal {
  readonly nodes: number;
  readonly zones: boolean;
}

export function goalOf(settings: Settings): ToleranceGoal {
  return { nodes: settings["ha.tolerate"], zones: settings["ha.tolerateZones"] > 0 };
}

/** Any loss of all of `all` and of at most `more` of `among`. Node ids. */
export interface Losses {
  readonly all: readonly string[];
  readonly among: readonly string[];
  readonly more: number;
}

export type Evidence =
  /** Arithmetic: so much room is left that whatever is lost fits in any order, wherever it is put. */
  | { readonly kind: "room"; readonly losses: Losses }
  /** A place for every VM that is lost with these nodes. */
  | { readonly kind: "places"; readonly lost: readonly string[]; readonly moves: readonly (readonly [vmId: string, nodeId: string])[] };

/** Shows for a view that a goal is met: every loss is one of an evidence's. */
export interface ToleranceProof {
  readonly viewIndex: number;
  readonly goal: ToleranceGoal;
  readonly evidence: readonly Evidence[];
}

/** Why nothing can be done about one loss. */
export interface Impossible {
  readonly lost: readonly string[];
  /** Set where the loss is that of a zone. */
  readonly zone: string | null;
  /**
   * `node`: the VM may be on none of the nodes left. `vm`: none of them has room for it. `sum`: the VMs need more than is free on all
   * nodes they may be on. `slots`: more VMs of `size` and above than fit these nodes, one by one. `search`: everything was tried.
   */
  readonly kind: "node" | "vm" | "sum" | "slots" | "search";
  readonly vmIds: readonly string[];
  readonly resource: "memory" | "cpus" | null;
  /** MiB or vCPUs; of `slots` VMs. `available` is of the largest node for `vm`, of all for `sum`. */
  readonly needed: number;
  readonly available: number;
  /** For `slots`: MiB or vCPUs of the smallest of them. */
  readonly size: number;
}

/** Dead already, as far as this question goes: what they hold is to be placed anyway. */
export function isAway(node: Node): boolean {
  return node.state === "unreachable" || node.state === "fenced";
}

/** Nodes that may yet die and matter: VMs could be placed there, or VMs under HA run there. By id. */
export function mortalNodes(view: Pick<View, "nodes" | "vms" | "claimsByNode" | "pools" | "poolIdByName">): string[] {
  const found: string[] = [];
  for (const node of view.nodes.values()) {
    if (node.state === "removed" || node.state === "joining" || isAway(node)) continue;
    const holds = [...(view.claimsByNode.get(node.id) ?? [])].some((id) => isAtRisk(view, view.vms.get(id)));
    if (holds || (node.state === "ready" && node.witness !== true)) found.push(node.id);
  }
  return found.sort();
}

/** HA must find it a place when its node dies. One with disks that die with the node has none anyway (HA-13). */
export function isAtRisk(view: Pick<View, "pools" | "poolIdByName">, vm: Vm | undefined): vm is Vm {
  if (vm === undefined || !vm.underHa || vm.desired.power !== "on" || vm.desired.deleted || vm.state === "deleted") return false;
  return localPool(view, vm.definition) === null;
}

/** VMs under HA that have no living node now: they need a place whatever dies next. */
export function homelessVms(view: Pick<View, "nodes" | "vms" | "claimsByNode" | "pools" | "poolIdByName">): Vm[] {
  const found: Vm[] = [];
  for (const vm of view.vms.values()) if (vm.state === "recovering" && vm.claim === null && isAtRisk(view, vm)) found.push(vm);
  for (const node of view.nodes.values()) if (isAway(node)) found.push(...vmsAtRiskOn(view, node.id));
  return found;
}

export function vmsAtRiskOn(view: Pick<View, "vms" | "claimsByNode" | "pools" | "poolIdByName">, nodeId: string): Vm[] {
  return [...(view.claimsByNode.get(nodeId) ?? [])].flatMap((id) => {
    const vm = view.vms.get(id);
    return isAtRisk(view, vm) && vm.claim?.nodeId === nodeId ? [vm] : [];
  });
}

/** By name, the mortal nodes of each named zone that has more of them than may be lost anyway. */
export function mortalZones(view: Pick<View, "nodes">, mortal: readonly string[], { nodes }: ToleranceGoal): Map<string, string[]> {
  const zones = new Map<string, string[]>();
  for (const id of mortal) {
    const zone = view.nodes.get(id)?.zone ?? "";
    if (zone !== "") zones.set(zone, [...(zones.get(zone) ?? []), id]);
  }
  return new Map([...zones].filter(([, ids]) => ids.length > nodes));
}

/**
 * What survives a loss survives a smaller one too: fewer VMs, more room. Not where a must policy ties VMs to one node, because then a
 * living member leaves its fellows no choice.
 */
export function smallerLossesCount(view: Pick<View, "policies">): boolean {
  return [...view.policies.values()].some(
    ({ enabled, strength, target }) => enabled && strength === "must" && target.kind === "vms" && target.rule === "same-node",
  );
}
