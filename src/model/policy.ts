/**
 * Placement policies (SCH-2): what they are, and what they say about a VM on a node. A `must` only narrows what the hard
 * checks left; a `prefer` orders it.
 */
import type { Node } from "./node.ts";
import type { View } from "./view.ts";
import type { Vm } from "./vm.ts";

export interface Policy {
  id: string;
  name: string;
  enabled: boolean;
  /** VM ids. */
  members: string[];
  /** `must-not` and `prefer-not` go with nodes only. */
  strength: "must" | "must-not" | "prefer" | "prefer-not";
  /** Of preferences: higher first, then by id. */
  weight: number;
  target: PolicyTarget;
  revision: number;
}

/** Nodes or zones, never both. A zone is named, or meant by its role in an active-active pair. */
export type PolicyTarget =
  | { kind: "nodes"; nodeIds: string[] }
  | { kind: "zones"; zones: string[] }
  | { kind: "vms"; rule: "same-node" | "different-nodes" };

/** Role of a zone in an active-active pair (SCH-3). */
export type ZoneRole = "primary" | "secondary";

type PolicyView = Pick<View, "vms" | "nodes"> & {
  readonly policies?: ReadonlyMap<string, Policy>;
  readonly zoneRoles?: ReadonlyMap<string, ZoneRole>;
};

/** Where VMs are beyond the view: node by VM id, null for one that left. */
export type Whereabouts = ReadonlyMap<string, string | null>;

/** Enabled policies the VM is a member of, preferences in order of weight. */
export function policiesOf(view: PolicyView, vmId: string): Policy[] {
  if (view.policies === undefined || view.policies.size === 0) return [];
  return [...view.policies.values()]
    .filter((policy) => policy.enabled && policy.members.includes(vmId))
    .sort((a, b) => b.weight - a.weight || (a.id < b.id ? -1 : 1));
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
      return target.nodeIds.includes(node.id) === (policy.strength === "must" || policy.strength === "prefer");
    case "zones":
      return target.zones.some((zone) => zone === node.zone || zone === view.zoneRoles?.get(node.zone));
    case "vms":
      return target.rule === "same-node" ? others.size === 0 || others.has(node.id) : !others.has(node.id);
  }
}

/** Ready nodes that other members of a policy between VMs are on; empty for other policies. */
export function nodesOfOthers(view: PolicyView, policy: Policy, vm: Vm, where?: Whereabouts): ReadonlySet<string> {
  const nodes = new Set<string>();
  if (!isBetweenVms(policy)) return nodes;
  for (const id of policy.members) {
    if (id === vm.id) continue;
    const moved = where?.get(id);
    const nodeId = moved === undefined ? view.vms.get(id)?.claim?.nodeId : moved;
    if (nodeId !== undefined && nodeId !== null && view.nodes.get(nodeId)?.state === "ready") nodes.add(nodeId);
  }
  return nodes;
}

/** What the policy asks, for people: `policy apart: different nodes`. */
export function describePolicy(view: PolicyView, policy: Policy): string {
  const target = policy.target;
  const wish = policy.strength.replace("-", " ");
  switch (target.kind) {
    case "nodes":
      return `policy ${policy.name}: ${wish} be on ${target.nodeIds.map((id) => view.nodes.get(id)?.name ?? id).join(", ")}`;
    case "zones":
      return `policy ${policy.name}: ${wish} be in zone ${target.zones.join(" or ")}`;
    case "vms":
      return `policy ${policy.name}: ${wish} be on ${target.rule === "same-node" ? "the same node" : "different nodes"}`;
  }
}

/** SCH-3: in an active-active cluster, and where no zone policy says otherwise, the secondary zone is for when the primary is full. */
export function isSecondary(view: PolicyView, node: Node): boolean {
  return view.zoneRoles !== undefined && view.zoneRoles.size > 0 && view.zoneRoles.get(node.zone) !== "primary";
}
