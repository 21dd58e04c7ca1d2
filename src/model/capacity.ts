/**
 * Who takes how much of which node. One arithmetic for the scheduler's filters and for the state's check when a plan is
 * applied (SCH-20): both ask the functions here, so they cannot disagree.
 */
import { claimOn, claimsOf } from "./claims.ts";
import type { Node } from "./node.ts";
import type { Pinned } from "./pinning.ts";
import type { Settings } from "./settings.ts";
import type { View } from "./view.ts";
import type { Vm } from "./vm.ts";

/** What VMs take of one node. */
export interface NodeUsage {
  /** VMs with a claim on the node, in any state: a claim in `prolog` or `boot` is the reservation in flight. One that migrates counts on both. */
  vms: number;
  memoryMib: number;
  cpus: number;
  /** Logical CPUs that are single VMs' alone; their vCPUs are in `cpus`, too. */
  exclusiveCpus: number;
  /** The same, with the stopped VMs whose home the node is: the sums of SCH-7. They reserve nothing. */
  placedVms: number;
  placedMemoryMib: number;
  placedCpus: number;
}

/** Sums over the cluster; mutable, kept by `addVm`, `removeVm` and `replaceVm` so that nobody sums anew per decision. */
export interface Usage {
  readonly nodes: Map<string, NodeUsage>;
  /** vCPUs allocated to all VMs in the cluster, wherever they are: the denominator of SCH-6. */
  totalCpus: number;
}

/** Something that takes capacity and is in no view yet. */
export interface Reservation {
  memoryMib: number;
  cpus: number;
  /** CPUs of it that are single VMs' alone; absent: none. */
  pinned?: readonly Pinned[];
}

/** Hard limits of a node (SCH-1). */
export interface NodeLimits {
  /** (physical memory − reserve) × `scheduler.memoryRatio`, whole MiB. */
  memoryMib: number;
  /** logical CPUs × `scheduler.cpuRatio`, whole vCPUs; Infinity if no ratio is set. */
  cpus: number;
}

const NOTHING: Readonly<NodeUsage> = { vms: 0, memoryMib: 0, cpus: 0, exclusiveCpus: 0, placedVms: 0, placedMemoryMib: 0, placedCpus: 0 };

export function emptyUsage(): Usage {
  return { nodes: new Map(), totalCpus: 0 };
}

/** Sums of a whole view; O(VMs). */
export function usageOf(view: Pick<View, "vms">): Usage {
  const usage = emptyUsage();
  for (const vm of view.vms.values()) addVm(usage, vm);
  return usage;
}

export function addVm(usage: Usage, vm: Vm): void {
  change(usage, vm, 1);
}

/** Takes out exactly what `addVm` of the same row put in. */
export function removeVm(usage: Usage, vm: Vm): void {
  change(usage, vm, -1);
}

/** A row was written: `before` null for a new one, `after` null for a removed one. */
export function replaceVm(usage: Usage, before: Vm | null, after: Vm | null): void {
  if (before !== null) change(usage, before, -1);
  if (after !== null) change(usage, after, 1);
}

export function nodeUsage(usage: Usage, nodeId: string): Readonly<NodeUsage> {
  return usage.nodes.get(nodeId) ?? NOTHING;
}

/** Sums of one node from the view's index of claims, without its stopped VMs; O(VMs on the node). For callers without a kept `Usage`. */
export function claimedOn(view: Pick<View, "vms" | "claimsByNode">, nodeId: string): Reservation {
  const sum: Reservation = { memoryMib: 0, cpus: 0 };
  for (const id of view.claimsByNode.get(nodeId) ?? []) {
    const vm = view.vms.get(id);
    if (vm === undefined || claimOn(vm, nodeId) === null) continue;
    sum.memoryMib += vm.definition.memoryMib;
    sum.cpus += vm.definition.cpus;
  }
  return sum;
}

/** Where the VM counts in SCH-7's sums: its claim's node or, without a claim, its home; null if it is nowhere. */
export function placeOf(vm: Vm): string | null {
  if (vm.state === "deleted") return null;
  return vm.claim?.nodeId ?? vm.homeNodeId;
}

/**
 * All zero while the agent has not said what the node has. An exclusive CPU serves its own vCPU only, so of a ratio of r it
 * takes away r − 1: the others are left with (CPUs − exclusive) × ratio.
 */
export function limitsOf(node: Node, settings: Settings, exclusiveCpus = 0): NodeLimits {
  const info = node.info;
  if (info === null) return { memoryMib: 0, cpus: 0 };
  const ratio = settings["scheduler.cpuRatio"];
  return {
    memoryMib: wholeUnits(Math.max(0, info.memoryMib - info.reserveMib) * settings["scheduler.memoryRatio"]),
    cpus: ratio === 0 ? Number.POSITIVE_INFINITY : wholeUnits((info.cpus - exclusiveCpus) * ratio) + exclusiveCpus,
  };
}

/** The one comparison of SCH-1. */
export function fits(used: number, asked: number, limit: number): boolean {
  return used + asked <= limit;
}

/** Rounded down, but 100 × 1.15 = 114.99999999999999 is 115: a ratio must not lose a unit to binary fractions. */
function wholeUnits(value: number): number {
  return Math.floor(value + 1e-6);
}

function change(usage: Usage, vm: Vm, sign: 1 | -1): void {
  const { memoryMib, cpus } = vm.definition;
  for (const claim of claimsOf(vm)) {
    const row = rowOf(usage, claim.nodeId);
    row.vms += sign;
    row.memoryMib += sign * memoryMib;
    row.cpus += sign * cpus;
    row.exclusiveCpus += sign * (claim.cpus?.length ?? 0);
  }
  const place = placeOf(vm);
  if (place !== null) {
    const row = rowOf(usage, place);
    row.placedVms += sign;
    row.placedMemoryMib += sign * memoryMib;
    row.placedCpus += sign * cpus;
  }
  if (vm.state !== "deleted") usage.totalCpus += sign * cpus;
}

function rowOf(usage: Usage, nodeId: string): NodeUsage {
  let row = usage.nodes.get(nodeId);
  if (row === undefined) {
    row = { ...NOTHING };
    usage.nodes.set(nodeId, row);
  }
  return row;
}
