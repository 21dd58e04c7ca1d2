/** Is a policy well formed, and does all that it names exist? Asked by the API, for all faults at once, and again when it is applied. */
import type { Violation } from "../base/errors.ts";
import { didYouMean } from "../base/suggest.ts";
import { isName, labelFaults, NAME_RULE } from "./definition.ts";
import type { Policy } from "./policy.ts";
import type { View } from "./view.ts";

export const POLICY_LIMITS = { policies: 1_000, members: 1_000, targets: 1_000, weight: 1_000 } as const;

/** Words that mean zones by their role: no zone can be called so where a policy names it. */
const ROLES: readonly string[] = ["primary", "secondary"];

/** Every fault, with the field as in the API's Policy. Existence of the policy's own name is the caller's matter. */
export function policyFaults(policy: Policy, view: Pick<View, "vms" | "nodes" | "zoneRoles">): Violation[] {
  const faults: Violation[] = [];
  const add = (field: string, message: string): void => void faults.push({ field, message });
  if (!isName(policy.name)) add("name", `expected ${NAME_RULE}`);
  if (!Number.isSafeInteger(policy.weight) || policy.weight < 0 || policy.weight > POLICY_LIMITS.weight)
    add("weight", `expected a whole number from 0 to ${POLICY_LIMITS.weight}, not ${policy.weight}`);
  if (policy.members.length > POLICY_LIMITS.members)
    add("members", `expected at most ${POLICY_LIMITS.members} VMs, not ${policy.members.length}; choose them by a label`);
  for (const [i, id] of policy.members.entries()) if (!view.vms.has(id)) add(`members[${i}]`, `there is no VM ${id}`);
  faults.push(...labelFaults(policy.memberLabels ?? {}, "member_labels"));
  targetFaults(policy, view, add);
  return faults;
}

function targetFaults(
  { target, strength }: Policy,
  view: Pick<View, "nodes" | "zoneRoles">,
  add: (field: string, message: string) => void,
): void {
  if (target.kind !== "nodes" && (strength === "must-not" || strength === "prefer-not"))
    add("rule", `${strength} goes with nodes only: zones and other VMs take must or prefer`);
  switch (target.kind) {
    case "nodes": {
      if (target.nodeIds.length > POLICY_LIMITS.targets) add("nodes", `expected at most ${POLICY_LIMITS.targets} nodes`);
      for (const [i, id] of target.nodeIds.entries()) {
        const node = view.nodes.get(id);
        if (node === undefined || node.state === "removed") add(`nodes[${i}]`, `there is no node ${id}`);
      }
      for (const { field, message } of labelFaults(target.labels ?? {}, "node_labels")) add(field, message);
      if (target.nodeIds.length === 0 && Object.keys(target.labels ?? {}).length === 0) add("nodes", "expected at least one node or label");
      return;
    }
    case "zones": {
      const known = zonesOf(view);
      if (target.zones.length === 0) add("zones", "expected at least one zone");
      for (const [i, zone] of target.zones.entries()) {
        if (known.has(zone) || ROLES.includes(zone)) continue;
        const names = [...known].toSorted();
        add(
          `zones[${i}]`,
          `there is no zone ${JSON.stringify(zone)}${didYouMean(zone, names)}; there are ${[...names, ...ROLES].join(", ")}`,
        );
      }
      return;
    }
    case "vms":
      return;
  }
}

/** Names of the zones that nodes are in, and of those that have a role. */
export function zonesOf(view: Pick<View, "nodes" | "zoneRoles">): Set<string> {
  const zones = new Set(view.zoneRoles.keys());
  for (const node of view.nodes.values()) if (node.zone !== "" && node.state !== "removed") zones.add(node.zone);
  return zones;
}
