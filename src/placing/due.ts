/** Which VMs are to be planned now, and in which order. Pure. */
import type { Vm } from "../model/vm.ts";

/** Waits for a place, is wanted, and its back-off is over. `nowMs` is wall clock, as `retryAtMs` is. */
function isDue(vm: Vm, state: "pending" | "recovering", nowMs: number): boolean {
  const { desired } = vm;
  return vm.state === state && vm.claim === null && desired.power === "on" && !desired.deleted && !desired.hold && vm.retryAtMs <= nowMs;
}

/** In order of creation. */
export function pendingBatch(vms: Iterable<Vm>, nowMs: number): Vm[] {
  return [...vms].filter((vm) => isDue(vm, "pending", nowMs)).toSorted((a, b) => a.number - b.number);
}

/** One batch for all dead nodes: by HA priority, then by number (HA-11). */
export function recoveryBatch(vms: Iterable<Vm>, nowMs: number): Vm[] {
  const due = [...vms].filter((vm) => isDue(vm, "recovering", nowMs));
  return due.toSorted((a, b) => b.definition.ha.priority - a.definition.ha.priority || a.number - b.number);
}
