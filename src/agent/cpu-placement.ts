/** Where the CPUs of a VM may run on its node (SCH-4). */
import type { CpuPlacement } from "../hypervisor/driver.ts";
import { claimOn } from "../model/claims.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";

/** A pinned VM has its CPUs; the others share what is left, so that exclusive means it. Null where every CPU is anybody's. */
export function cpuPlacementOf(view: Pick<View, "vms" | "nodes" | "claimsByNode">, vm: Vm, nodeId: string): CpuPlacement | null {
  const numa = view.nodes.get(nodeId)?.info?.cpuTopology?.numa ?? [];
  const own = claimOn(vm, nodeId)?.cpus;
  if (own !== undefined) {
    const home = numa.find((node) => own.every((cpu) => node.cpus.includes(cpu)));
    return { kind: "pinned", cpus: own, numaNode: vm.definition.cpuPinning?.numa === "one" ? (home?.id ?? null) : null };
  }
  const taken = new Set<number>();
  for (const id of view.claimsByNode.get(nodeId) ?? []) {
    for (const cpu of claimOn(view.vms.get(id) ?? { claim: null }, nodeId)?.cpus ?? []) taken.add(cpu);
  }
  const left = numa.flatMap((node) => node.cpus).filter((cpu) => !taken.has(cpu));
  return taken.size === 0 || left.length === 0 ? null : { kind: "shared", cpus: left.toSorted((a, b) => a - b) };
}
