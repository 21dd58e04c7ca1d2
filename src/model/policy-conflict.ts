/**
 * Must policies that no placement can satisfy, whatever the sizes (SCH-5): found without planning, so that they are
 * refused when they are written. Sound, not complete: what is called impossible is; what is not may still find no room.
 */
import { agrees, isMust, membersOf } from "./policy.ts";
import type { Policy } from "./policy.ts";
import type { View } from "./view.ts";

export type ConflictView = Pick<View, "vms" | "nodes" | "policies" | "zoneRoles">;

export interface Conflict {
  /** None can be left out: without any one of them the others can be satisfied, as far as this check sees. */
  policies: Policy[];
  /** For people: what does not go together. */
  why: string;
}

const NOWHERE: ReadonlySet<string> = new Set();

/**
 * The smallest set of conflicting must policies that `policy` is part of, in the order given; null if there is none. `others`
 * are the enabled policies beside it.
 */
export function conflictWith(view: ConflictView, policy: Policy, others: readonly Policy[]): Conflict | null {
  if (!isMust(policy)) return null;
  const related = relatedTo(view, policy, others.filter(isMust));
  if (work(view, [...related, policy]) > WORK_MAX) return null;
  // A conflict that was there before is not this policy's.
  if (contradiction(view, related) !== null) return null;
  const all = [...related, policy];
  if (contradiction(view, all) === null) return null;
  const least = minimal(all, (set) => contradiction(view, set) !== null);
  return { policies: least, why: contradiction(view, least) ?? "" };
}

/**
 * What is left after leaving out whatever can be: `holds` is true of the answer, and false of it without any one element.
 * `holds(all)` must be true. Passes are made until one leaves nothing out, so more elements may also make it false.
 */
export function minimal<T>(all: readonly T[], holds: (set: readonly T[]) => boolean): T[] {
  let least = [...all];
  for (let before = -1; before !== least.length;) {
    before = least.length;
    for (const one of least) {
      const without = least.filter((other) => other !== one);
      if (holds(without)) least = without;
    }
  }
  return least;
}

/** Checks of a member on a node beyond which nothing is said: commands must apply in milliseconds. */
const WORK_MAX = 2_000_000;

/** At most so many for one contradiction, times the tries of `minimal`. */
function work(view: ConflictView, policies: readonly Policy[]): number {
  const members = policies.reduce((sum, policy) => sum + membersOf(view, policy).length, 0);
  return members * view.nodes.size * policies.length;
}

/** Those that share a VM with the policy, or with one that does, and so on. */
function relatedTo(view: ConflictView, policy: Policy, others: readonly Policy[]): Policy[] {
  const byVm = new Map<string, Policy[]>();
  const members = new Map(others.map((other) => [other, membersOf(view, other)]));
  for (const [other, ids] of members) for (const id of ids) byVm.set(id, [...(byVm.get(id) ?? []), other]);
  const related = new Set<Policy>();
  const reached = new Set(membersOf(view, policy));
  // A set that grows while it is walked through.
  for (const id of reached) {
    for (const other of byVm.get(id) ?? []) {
      if (related.has(other)) continue;
      related.add(other);
      for (const member of members.get(other) ?? []) reached.add(member);
    }
  }
  return others.filter((other) => related.has(other));
}

/** Why no placement can satisfy all of these must policies, or null if nothing of the kind is seen. */
export function contradiction(view: ConflictView, policies: readonly Policy[]): string | null {
  const nodes = [...view.nodes.values()].filter((node) => node.state !== "removed");
  const members = new Map(policies.map((policy) => [policy, membersOf(view, policy)]));
  const groups = new Groups();
  for (const [policy, ids] of members) {
    if (policy.target.kind === "vms" && policy.target.rule === "same-node") for (const id of ids) groups.join(ids[0] ?? id, id);
  }
  const allowed = new Map<string, Set<string>>();
  const allowedOf = (vmId: string): Set<string> => {
    const group = groups.of(vmId);
    let found = allowed.get(group);
    if (found === undefined) allowed.set(group, (found = new Set(nodes.map((node) => node.id))));
    return found;
  };
  for (const [policy, ids] of members) {
    if (policy.target.kind === "vms") continue;
    for (const node of nodes) if (!agrees(view, policy, node, NOWHERE)) for (const id of ids) allowedOf(id).delete(node.id);
    const stuck = ids.find((id) => allowedOf(id).size === 0);
    if (stuck !== undefined) return `no node is left for ${nameOf(view, stuck)}`;
  }
  for (const [policy, ids] of members) {
    if (policy.target.kind !== "vms" || policy.target.rule !== "different-nodes") continue;
    const seen = new Map<string, string>();
    for (const id of ids) {
      const other = seen.get(groups.of(id));
      if (other !== undefined) return `${nameOf(view, other)} and ${nameOf(view, id)} are to be on one node and on different ones`;
      seen.set(groups.of(id), id);
    }
    const left = unmatched(ids, allowedOf);
    if (left !== null) return `there are not enough different nodes for ${ids.map((id) => nameOf(view, id)).join(", ")}`;
  }
  return null;
}

/** A VM that gets no node of its own when each takes one of those allowed to it; null if all do (augmenting paths). */
function unmatched(ids: readonly string[], allowedOf: (id: string) => ReadonlySet<string>): string | null {
  const takenBy = new Map<string, string>();
  const place = (id: string, tried: Set<string>): boolean => {
    for (const nodeId of allowedOf(id)) {
      if (tried.has(nodeId)) continue;
      tried.add(nodeId);
      const holder = takenBy.get(nodeId);
      if (holder !== undefined && !place(holder, tried)) continue;
      takenBy.set(nodeId, id);
      return true;
    }
    return false;
  };
  return ids.find((id) => !place(id, new Set())) ?? null;
}

function nameOf(view: ConflictView, vmId: string): string {
  return view.vms.get(vmId)?.definition.name ?? vmId;
}

/** VMs that must be together, directly or through others (union-find). */
class Groups {
  private readonly parent = new Map<string, string>();

  of(id: string): string {
    let at = id;
    for (let up = this.parent.get(at); up !== undefined; up = this.parent.get(at)) at = up;
    return at;
  }

  join(a: string, b: string): void {
    const [left, right] = [this.of(a), this.of(b)];
    if (left !== right) this.parent.set(right, left);
  }
}
