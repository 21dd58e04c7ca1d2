/**
 * Placement policies (SCH-2): what they are, and what they say about a VM on a node. A `must` only narrows what the hard
 * checks left; a `prefer` orders it.
 */
import { claimsOf } from "./claims.ts";
import type { Node } from "./node.ts";
import type { View } from "./view.ts";
import type { Vm } from "./vm.ts";

export interface Policy {
  id: string;
  name: string;
  enabled: boolean;
  /** VM ids. */
  members: string[];
  /** VMs with all these labels are members, too; absent or empty: none by label. */
  memberLabels?: Record<string, string>;
  /** `must-not` and `prefer-not` go with nodes only. */
  strength: "must" | "must-not" | "prefer" | "prefer-not";
  /** Of preferences: higher first, then by id. */
  weight: number;
  target: PolicyTarget;
  revision: number;
}

/** Nodes or zones, never both. A zone is named, or meant by its role in an active-active pair. */
export type PolicyTarget =
  | {
      kind: "nodes";
      nodeIds: string[];
      /** Nodes with all these labels, too; absent or empty: none by label. */ labels?: Record<string, string>;
    }
  | { kind: "zones"; zones: string[] }
  | { kind: "vms"; rule: "same-node" | "different-nodes" };

/** Role of a zone in an active-active pair (SCH-3). */
export type ZoneRole = "primary" | "secondary";

type PolicyView = Pick<View, "vms" | "nodes" | "policies" | "zoneRoles">;

/** Where VMs are beyond the view: node by VM id, null for one that left. */
export type Whereabouts = ReadonlyMap<string, string | null>;

/** Enabled policies the VM is a member of, preferences in order of weight. */
export function policiesOf(view: PolicyView, vmId: string): Policy[] {
  const vm = view.vms.get(vmId);
  if (view.policies.size === 0 || vm === undefined) return [];
  return [...view.policies.values()]
    .filter((policy) => policy.enabled && isMember(policy, vm))
    .sort((a, b) => b.weight - a.weight || (a.id < b.id ? -1 : 1));
}

/** Named, or chosen by its labels. */
export function isMember(policy: Policy, vm: Vm): boolean {
  return policy.members.includes(vm.id) || carries(vm.definition.labels, policy.memberLabels);
}

/** Ids of all members that there are, those named first; O(VMs) where members are chosen by labels. */
export function membersOf(view: Pick<View, "vms">, policy: Policy): string[] {
  const named = policy.members.filter((id) => view.vms.has(id));
  if (isEmpty(policy.memberLabels)) return named;
  const known = new Set(named);
  const chosen: string[] = [];
  for (const vm of view.vms.values()) if (!known.has(vm.id) && carries(vm.definition.labels, policy.memberLabels)) chosen.push(vm.id);
  // In no order that a restart could change.
  return [...named, ...chosen.sort()];
}

/** True if the target names the node, or it carries the target's labels. */
export function isTargetNode(target: PolicyTarget & { kind: "nodes" }, node: Node): boolean {
  return target.nodeIds.includes(node.id) || carries(node.labels, target.labels);
}

/** No wish at all is met by nobody. */
function carries(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>> | undefined): boolean {
  if (isEmpty(wanted)) return false;
  return Object.entries(wanted ?? {}).every(([key, value]) => labels[key] === value);
}

function isEmpty(labels: Readonly<Record<string, string>> | undefined): boolean {
  return labels === undefined || Object.keys(labels).length === 0;
}

export function isMust(policy: Policy): boolean {
  return policy.strength === "must" || policy.strength === "must-not";
}

/** True if the answer changes with where other VMs are. */
export function isBetweenVms(policy: Policy): boolean {
  return policy.target.kind === "vms";
}

/**
 * True if the policy wants the VM on the node, given the ready nodes that other members are on. Members on nodes that
 * are not ready count for nothing: they are about to move themselves, and waiting for them would keep both down.
 */
export function agrees(view: PolicyView, policy: Policy, node: Node, others: ReadonlySet<string>): boolean {
  const target = policy.target;
  switch (target.kind) {
    case "nodes":
      return isTargetNode(target, node) === (policy.strength === "must" || policy.strength === "prefer");
    case "zones":
      return target.zones.some((zone) => zone === node.zone || zone === view.zoneRoles.get(node.zone));
    case "vms":
      return target.rule === "same-node" ? others.size === 0 || others.has(node.id) : !others.has(node.id);
  }
}

/** Ready nodes that other members of a policy between VMs are on; empty for other policies. */
export function nodesOfOthers(view: PolicyView, policy: Policy, vm: Vm, where?: Whereabouts): ReadonlySet<string> {
  const nodes = new Set<string>();
  if (!isBetweenVms(policy)) return nodes;
  for (const id of membersOf(view, policy)) {
    if (id === vm.id) continue;
    const moved = where?.get(id);
    const other = view.vms.get(id);
    const held = moved === undefined ? (other === undefined ? [] : claimsOf(other).map((claim) => claim.nodeId)) : [moved];
    for (const nodeId of held) if (nodeId !== null && view.nodes.get(nodeId)?.state === "ready") nodes.add(nodeId);
  }
  return nodes;
}

const WISHES: Record<Policy["strength"], string> = { must: "must", "must-not": "must not", prefer: "should", "prefer-not": "should not" };

/** What the policy asks, for people: `policy apart: different nodes`. */
export function describePolicy(view: PolicyView, policy: Policy): string {
  const target = policy.target;
  const wish = WISHES[policy.strength];
  switch (target.kind) {
    case "nodes":
      return `policy ${policy.name}: ${wish} be on ${describeNodes(view, target)}`;
    case "zones":
      return `policy ${policy.name}: ${wish} be in zone ${target.zones.join(" or ")}`;
    case "vms":
      return `policy ${policy.name}: ${wish} be on ${target.rule === "same-node" ? "the same node" : "different nodes"}`;
  }
}

/** SCH-3: in an active-active cluster, and where no zone policy says otherwise, the secondary zone is for when the primary is full. */
export function isSecondary(view: PolicyView, node: Node): boolean {
  return view.zoneRoles.size > 0 && view.zoneRoles.get(node.zone) !== "primary";
}

/** `n1, n2 or nodes with disk=ssd`. */
export function describeNodes(view: Pick<View, "nodes">, target: PolicyTarget & { kind: "nodes" }): string {
  const named = target.nodeIds.map((id) => view.nodes.get(id)?.name ?? id).join(", ");
  const labelled = isEmpty(target.labels) ? "" : `nodes with ${labelText(target.labels ?? {})}`;
  return [named, labelled].filter((part) => part !== "").join(" or ") || "no node";
}

export function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}
