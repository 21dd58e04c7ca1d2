/** Who holds what of a VM: its claim and, while it migrates, what is arriving elsewhere. */
import type { Claim, Vm } from "./vm.ts";

/** Each takes room on its node, is in the node's claim set, and needs a proof to end. */
export function claimsOf(vm: Pick<Vm, "claim" | "migration">): Claim[] {
  const incoming = vm.migration?.claim;
  return [...(vm.claim === null ? [] : [vm.claim]), ...(incoming === undefined ? [] : [incoming])];
}

/** What the node holds of the VM, whether it may run it or only receive it; null if nothing. A VM never migrates to its own node. */
export function claimOn(vm: Pick<Vm, "claim" | "migration">, nodeId: string): Claim | null {
  if (vm.claim?.nodeId === nodeId) return vm.claim;
  return vm.migration?.claim.nodeId === nodeId ? vm.migration.claim : null;
}
