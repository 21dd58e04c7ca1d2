import type { Vm__Output } from "../gen/types/roost/v1/Vm.ts";

/** The VM's state for people, with why it is not further. */
export function stateLine(vm: Vm__Output): string {
  const where = vm.node === "" ? "" : ` on ${vm.node}`;
  const reasons = vm.pendingReasons.map(
    (reason) => `${reason.nodes} ${reason.nodes === 1 ? "node" : "nodes"}: ${reason.code} (${reason.detail})`,
  );
  const why = reasons.length > 0 ? reasons.join("; ") : vm.reason;
  return `${vm.state}${where}${why === "" ? "" : `: ${why}`}`;
}
