/** Placement by hand (SCH-16): it passes the same filters as any other, and only the soft ones can be forced. */
import { agrees, describePolicy, isMust, isSecondary, nodesOfOthers, policiesOf } from "../model/policy.ts";
import { settingsOf } from "../model/placement.ts";
import type { Node } from "../model/node.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import { refuse } from "./filters.ts";
import type { FilterContext } from "./filters.ts";

/**
 * Why the scheduler would not take this node of itself although nothing forbids it: a preference keeps others while any is
 * left. In the order in which they are asked; empty if it would, or if a hard filter refuses the node, which is not for force to pass.
 */
export function passedOver(view: View, vm: Vm, nodeId: string): string[] {
  const free: Vm = { ...vm, desired: { ...vm.desired, nodeId: null, hold: false } };
  const context: FilterContext = {
    view,
    settings: settingsOf(view),
    request: { vms: [vm.id], mode: "one-by-one", kind: "start", scoring: null, manual: true },
  };
  let left = [...view.nodes.values()].filter((node) => node.state !== "removed" && refuse(context, free, node) === null);
  const reasons: string[] = [];
  const keep = (why: string, preferred: (node: Node) => boolean): void => {
    const some = left.filter(preferred);
    if (some.length === 0) return;
    if (some.some((node) => node.id === nodeId)) left = some;
    else reasons.push(`${why} ${names(some)}`);
  };
  if (!left.some((node) => node.id === nodeId)) return [];
  const policies = policiesOf(view, vm.id);
  for (const policy of policies) {
    if (isMust(policy)) continue;
    const others = nodesOfOthers(view, policy, free);
    keep(`${describePolicy(view, policy)}, and there is room on`, (node) => agrees(view, policy, node, others));
  }
  if (!policies.some((policy) => policy.target.kind === "zones")) keep("the primary zone has room on", (node) => !isSecondary(view, node));
  return reasons;
}

function names(nodes: readonly Node[]): string {
  const shown = nodes.slice(0, 5).map((node) => node.name);
  return nodes.length > shown.length ? `${shown.join(", ")}, …` : shown.join(", ");
}
