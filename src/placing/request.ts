/** What the loop asks of the scheduler, as a function of the view alone: so that a replay asks the same (SCH-19). Pure. */
import { checkPlacement, settingsOf } from "../model/placement.ts";
import type { View } from "../model/view.ts";

/** HA-12: a VM that died alone is started again where it was, and elsewhere after too many failures. */
export function nodesToAvoid(view: View, vmIds: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const inPlace = settingsOf(view)["ha.restartsInPlace"];
  const avoid = new Map<string, readonly string[]>();
  for (const id of vmIds) {
    const vm = view.vms.get(id);
    if (vm === undefined || vm.failures === 0 || vm.homeNodeId === null) continue;
    const home = view.nodes.get(vm.homeNodeId);
    const stays = vm.failures <= inPlace && home !== undefined && checkPlacement(view, vm, home) === null;
    avoid.set(id, stays ? [...view.nodes.keys()].filter((nodeId) => nodeId !== vm.homeNodeId).toSorted() : [vm.homeNodeId]);
  }
  return avoid;
}
