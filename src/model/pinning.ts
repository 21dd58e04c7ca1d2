/**
 * Logical CPUs that are one VM's alone (SCH-4): which are free on a node, which a VM gets, and whether those it was given
 * are still right when a plan is applied. A CPU that is given away counts for nobody else: the vCPU ratio is a ratio of the
 * CPUs that are left, and one is always left for the host and for VMs without pinning.
 */
import { claimOn } from "./claims.ts";
import type { Reservation } from "./capacity.ts";
import type { Node, NumaNode } from "./node.ts";
import type { View } from "./view.ts";
import type { Vm } from "./vm.ts";

/** CPUs of a node that one VM holds. */
export interface Pinned {
  readonly cpus: readonly number[];
  /** MiB, where they are of one NUMA node by the VM's wish; else 0. */
  readonly memoryMib: number;
}

export function isPinned(vm: Vm): boolean {
  return (vm.definition.cpuPinning ?? null) !== null;
}

/** Memory that a VM takes of the NUMA node its CPUs are of. */
export function numaMemoryOf(vm: Vm): number {
  return vm.definition.cpuPinning?.numa === "one" ? vm.definition.memoryMib : 0;
}

/** What VMs other than `vm` hold on the node, in flight included. O(VMs on the node). */
export function pinnedOn(
  view: Pick<View, "vms" | "claimsByNode">,
  vm: Vm,
  nodeId: string,
  inFlight: ReadonlyMap<string, Reservation> | undefined,
): Pinned[] {
  const held: Pinned[] = [...(inFlight?.get(nodeId)?.pinned ?? [])];
  for (const id of view.claimsByNode.get(nodeId) ?? []) {
    const other = view.vms.get(id);
    const cpus = other === undefined || id === vm.id ? undefined : claimOn(other, nodeId)?.cpus;
    if (other !== undefined && cpus !== undefined) held.push({ cpus, memoryMib: numaMemoryOf(other) });
  }
  return held;
}

/**
 * The CPUs the VM gets, in order, or null if there are not enough. Of one NUMA node if one has enough, and of those the one
 * with the fewest left over, so that the others stay whole; else, where the VM allows it, of the emptiest first.
 */
export function chooseCpus(node: Node, vm: Vm, held: readonly Pinned[]): number[] | null {
  const numa = node.info?.cpuTopology?.numa ?? [];
  const asked = vm.definition.cpus;
  const taken = new Set(held.flatMap(({ cpus }) => cpus));
  const free = numa.map((one) => ({ one, cpus: one.cpus.filter((cpu) => !taken.has(cpu)) }));
  const left = free.reduce((sum, { cpus }) => sum + cpus.length, 0);
  if (left - asked < 1) return null;
  const whole = free
    .filter(({ one, cpus }) => cpus.length >= asked && numaRoom(one, held) >= numaMemoryOf(vm))
    .toSorted((a, b) => a.cpus.length - b.cpus.length || a.one.id - b.one.id);
  if (whole[0] !== undefined) return whole[0].cpus.slice(0, asked);
  if (vm.definition.cpuPinning?.numa === "one") return null;
  return free
    .toSorted((a, b) => b.cpus.length - a.cpus.length || a.one.id - b.one.id)
    .flatMap(({ cpus }) => cpus)
    .slice(0, asked);
}

/** Why these CPUs cannot be the VM's alone on the node; null if they can. */
export function problemWithCpus(node: Node, vm: Vm, cpus: readonly number[], held: readonly Pinned[]): string | null {
  const numa = node.info?.cpuTopology?.numa ?? [];
  const of = new Map(numa.flatMap((one) => one.cpus.map((cpu) => [cpu, one] as const)));
  if (cpus.length !== vm.definition.cpus || new Set(cpus).size !== cpus.length)
    return `${cpus.length} CPUs for ${vm.definition.cpus} vCPUs, one each`;
  const foreign = cpus.find((cpu) => !of.has(cpu));
  if (foreign !== undefined) return `it has no CPU ${foreign}`;
  const taken = new Set(held.flatMap((other) => other.cpus));
  const twice = cpus.find((cpu) => taken.has(cpu));
  if (twice !== undefined) return `CPU ${twice} is another VM's alone`;
  if (of.size - taken.size - cpus.length < 1) return "no CPU would be left for the host";
  if (vm.definition.cpuPinning?.numa !== "one") return null;
  const homes = new Set(cpus.map((cpu) => of.get(cpu)!));
  if (homes.size > 1) return "the CPUs are of more than one NUMA node";
  const [home] = homes;
  return home === undefined || numaRoom(home, held) >= numaMemoryOf(vm) ? null : `NUMA node ${home.id} has not enough memory`;
}

/** Free CPUs for a VM, for messages. */
export function freeCpus(node: Node, held: readonly Pinned[]): { free: number; most: number; all: number } {
  const taken = new Set(held.flatMap(({ cpus }) => cpus));
  const counts = (node.info?.cpuTopology?.numa ?? []).map((one) => one.cpus.filter((cpu) => !taken.has(cpu)).length);
  const all = node.info?.cpuTopology?.numa.reduce((sum, one) => sum + one.cpus.length, 0) ?? 0;
  return { free: counts.reduce((sum, count) => sum + count, 0), most: Math.max(0, ...counts), all };
}

function numaRoom(one: NumaNode, held: readonly Pinned[]): number {
  const mine = new Set(one.cpus);
  return one.memoryMib - held.reduce((sum, { cpus, memoryMib }) => sum + (cpus.some((cpu) => mine.has(cpu)) ? memoryMib : 0), 0);
}
