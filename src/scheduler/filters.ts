/**
 * The filter chain (SCH-1, then what the scheduler adds). Filters that look at rows only are answered once per class of
 * equal requests and remembered as one code per node; capacity is compared on every decision.
 */
import type { Node } from "../model/node.ts";
import { PLACEMENT_CHECKS, localPool, poolsOf } from "../model/placement.ts";
import type { PlacementContext, Refusal } from "../model/placement.ts";
import type { Vm } from "../model/vm.ts";
import type { PlanRequest } from "./types.ts";

export interface FilterContext extends PlacementContext {
  readonly request: PlanRequest;
}

export interface Filter {
  readonly code: string;
  readonly about: string;
  /** `fixed`: the same answer for the whole plan. `capacity`: changes with every placement. */
  readonly kind: "fixed" | "capacity";
  /** What of the VM the answer depends on: VMs with equal keys in all fixed filters share their answers. Not used for capacity. */
  key(context: FilterContext, vm: Vm): string;
  refuse(context: FilterContext, vm: Vm, node: Node): Refusal | null;
}

/** Keys of the model's fixed checks; a check missing here depends on the node alone. */
const CHECK_KEYS: Partial<Record<string, (context: FilterContext, vm: Vm) => string>> = {
  "requested-node": (_context, vm) => vm.desired.nodeId ?? "",
  architecture: (_context, vm) => vm.definition.arch,
  bridge: (_context, vm) => vm.definition.nics.map((nic) => nic.bridge).join(","),
  pool: (_context, vm) => poolsOf(vm.definition).join(","),
  "home-node": (context, vm) => (vm.homeNodeId !== null && localPool(context.view, vm.definition) !== null ? vm.homeNodeId : ""),
};

const currentNode: Filter = {
  code: "current-node",
  about: "a migration leaves the node the VM is on",
  kind: "fixed",
  key: (context, vm) => (context.request.kind === "migrate" ? (vm.claim?.nodeId ?? "") : ""),
  refuse: (context, vm, node) =>
    context.request.kind === "migrate" && vm.claim?.nodeId === node.id
      ? { code: "current-node", detail: `${node.name}: the VM runs there already`, numbers: {} }
      : null,
};

/** In order; the first that refuses a node is its reason. */
export const FILTERS: readonly Filter[] = [
  ...PLACEMENT_CHECKS.map((link): Filter => ({
    code: link.code,
    about: link.about,
    kind: link.kind,
    key: CHECK_KEYS[link.code] ?? (() => ""),
    refuse: (context, vm, node) => link.check(context, vm, node),
  })),
  currentNode,
];

const FIXED = FILTERS.filter((filter) => filter.kind === "fixed");

/** Preference of nodes that stay: lower is better, compared before the score. */
export interface Preference {
  readonly about: string;
  key(context: FilterContext, vm: Vm): string;
  /** 0 keeps the node, 1 uses it only if no node with 0 is left. */
  tier(context: FilterContext, vm: Vm, node: Node): 0 | 1;
}

/** In order of weight: an earlier one is never given up for a later one. */
export const PREFERENCES: readonly Preference[] = [
  {
    about: "not where the VM just failed",
    key: (context, vm) => (context.request.avoid?.get(vm.id) ?? []).join(","),
    tier: (context, vm, node) => (context.request.avoid?.get(vm.id)?.includes(node.id) === true ? 1 : 0),
  },
];

/** VMs with the same class get the same fixed answers on every node. */
export function classKey(context: FilterContext, vm: Vm): string {
  let key = "";
  for (const filter of FIXED) key += `${filter.key(context, vm)}\n`;
  for (const preference of PREFERENCES) key += `${preference.key(context, vm)}\n`;
  return key;
}

/** The first fixed refusal, or null. */
export function refuseFixed(context: FilterContext, vm: Vm, node: Node): Refusal | null {
  for (const filter of FIXED) {
    const found = filter.refuse(context, vm, node);
    if (found !== null) return found;
  }
  return null;
}

/** The first refusal of the whole chain, or null. */
export function refuse(context: FilterContext, vm: Vm, node: Node): Refusal | null {
  for (const filter of FILTERS) {
    const found = filter.refuse(context, vm, node);
    if (found !== null) return found;
  }
  return null;
}

/** One number for all preferences; lower is better. */
export function tierOf(context: FilterContext, vm: Vm, node: Node): number {
  let tier = 0;
  for (const preference of PREFERENCES) tier = tier * 2 + preference.tier(context, vm, node);
  return tier;
}
