/**
 * The filter chain (SCH-1, then what the scheduler adds). Filters that look at rows only are answered once per class of
 * equal requests and remembered as one code per node; capacity is compared on every decision.
 */
import { guestBlocker } from "../model/migration.ts";
import type { Node } from "../model/node.ts";
import { PLACEMENT_CHECKS, localPool, poolsOf } from "../model/placement.ts";
import type { PlacementContext, Refusal } from "../model/placement.ts";
import type { Vm } from "../model/vm.ts";
import { agrees, isBetweenVms, isMust, isSecondary, nodesOfOthers, policiesOf } from "../model/policy.ts";
import type { Policy } from "../model/policy.ts";
import type { PlanRequest } from "./types.ts";

export interface FilterContext extends PlacementContext {
  readonly request: PlanRequest;
}

export interface Filter {
  readonly code: string;
  readonly about: string;
  /** `fixed`: the same answer for the whole plan. `capacity` and `others` (where other VMs are) change with placements. */
  readonly kind: "fixed" | "capacity" | "others";
  /** What of the VM the answer depends on: VMs with equal keys in all fixed filters share their answers. Of fixed ones only. */
  key(context: FilterContext, vm: Vm): string;
  refuse(context: FilterContext, vm: Vm, node: Node): Refusal | null;
}

/** Keys of the model's fixed checks; a check missing here depends on the node alone. */
const CHECK_KEYS: Partial<Record<string, (context: FilterContext, vm: Vm) => string>> = {
  "requested-node": (_context, vm) => vm.desired.nodeId ?? "",
  architecture: (_context, vm) => vm.definition.arch,
  cpu: (_context, vm) => JSON.stringify(vm.definition.cpu ?? null),
  bridge: (_context, vm) => vm.definition.nics.map((nic) => nic.bridge).join(","),
  pool: (_context, vm) => poolsOf(vm.definition).join(","),
  partition: (_context, vm) => vm.definition.partition ?? "",
  requirements: (_context, vm) => vm.definition.requirements ?? "",
  policy: (context, vm) => policyKey(context, vm),
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

const running: Filter = {
  code: "live",
  about: "a guest that runs on finds there what it has here",
  kind: "fixed",
  key: (context, vm) => (context.request.live === true ? `${vm.claim?.nodeId ?? ""} ${vm.definition.cpu?.model ?? ""}` : ""),
  refuse(context, vm, node) {
    const blocker = context.request.live === true ? guestBlocker(context.view, vm, node) : null;
    return blocker === null ? null : { code: "live", detail: blocker.detail, numbers: {} };
  },
};

const haReserve: Filter = {
  code: "ha-reserve",
  about: "room that HA keeps for failures (ha.tolerate) stays free",
  kind: "fixed",
  key: (context, vm) =>
    JSON.stringify((context.request.reserve ?? []).filter(({ vms }) => vms.includes(vm.id)).map(({ nodes, why }) => [nodes, why])),
  refuse(context, vm, node) {
    const kept = context.request.reserve?.find(({ vms, nodes }) => nodes.includes(node.id) && vms.includes(vm.id));
    return kept === undefined ? null : { code: "ha-reserve", detail: `${node.name}: ${kept.why}`, numbers: {} };
  },
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
  running,
  haReserve,
];

const FIXED = FILTERS.filter((filter) => filter.kind === "fixed");

/** The VM's policies on nodes and zones; those with other VMs are asked on every decision. */
function policyKey(context: FilterContext, vm: Vm): string {
  return policiesOf(context.view, vm.id)
    .map((policy) => policy.id)
    .join(",");
}

/** Policies with other VMs: such a VM is asked per node on every decision. */
export function groupsOf(context: FilterContext, vm: Vm): Policy[] {
  return policiesOf(context.view, vm.id).filter(isBetweenVms);
}

/** More preferences than this on one VM are left out, the lightest first: a tier must stay a whole number. */
const MAX_PREFERENCES = 40;

/**
 * One number for all preferences, compared before the score; lower is better. Each is one binary digit, 1 where the node
 * is not what it prefers, so comparing tiers is what SCH-2 asks: keep the preferred nodes if any is left, else all, one
 * preference after the other. First where the VM just failed, then policies by weight, last the secondary zone (SCH-3).
 */
export function tierOf(
  context: FilterContext,
  vm: Vm,
  node: Node,
  others: OthersOf = (policy) => nodesOfOthers(context.view, policy, vm, context.where),
): number {
  const policies = policiesOf(context.view, vm.id);
  let tier = context.request.avoid?.get(vm.id)?.includes(node.id) === true ? 1 : 0;
  for (const policy of policies.filter((one) => !isMust(one)).slice(0, MAX_PREFERENCES)) {
    tier = tier * 2 + (agrees(context.view, policy, node, others(policy)) ? 0 : 1);
  }
  const zoned = policies.some((policy) => policy.target.kind === "zones");
  return tier * 2 + (!zoned && isSecondary(context.view, node) ? 1 : 0);
}

/** Ready nodes that other members of a policy are on. */
export type OthersOf = (policy: Policy) => ReadonlySet<string>;

/** VMs with the same class get the same fixed answers on every node. */
export function classKey(context: FilterContext, vm: Vm): string {
  let key = "";
  for (const filter of FIXED) key += `${filter.key(context, vm)}\n`;
  return `${key}${(context.request.avoid?.get(vm.id) ?? []).join(",")}`;
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
