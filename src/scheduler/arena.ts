/**
 * The nodes as columns of numbers, sorted by id: what a decision reads and a placement changes. Made once per plan from
 * the view (or kept and followed by whoever plans without a pause), so a decision touches no object.
 */
import { limitsOf, nodeUsage, placeOf, usageOf } from "../model/capacity.ts";
import type { Reservation, Usage } from "../model/capacity.ts";
import { hash32 } from "../model/hash.ts";
import type { Node } from "../model/node.ts";
import { settingsOf } from "../model/placement.ts";
import type { Settings } from "../model/settings.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";

export interface Arena {
  readonly nodes: readonly Node[];
  readonly indexOf: ReadonlyMap<string, number>;
  /** MiB and vCPUs by SCH-1; Infinity where there is no limit. */
  readonly limitMemory: Float64Array;
  readonly limitCpus: Float64Array;
  /** Claims, with what is in flight. */
  readonly usedMemory: Float64Array;
  readonly usedCpus: Float64Array;
  /** Claims and stopped VMs at home (SCH-7). */
  readonly placedMemory: Float64Array;
  readonly placedCpus: Float64Array;
  /** Physical memory and logical CPUs; the denominators. */
  readonly memory: Float64Array;
  readonly cpus: Float64Array;
  /** For ties. */
  readonly hash: Uint32Array;
  /** vCPUs of all VMs of the cluster. */
  totalCpus: number;
  /** Node by VM, of the VMs with policies between them that the plan has moved so far. */
  readonly where: Map<string, string | null>;
  readonly journal: Journal;
}

/** Which nodes changed, for indexes that follow. */
export interface Journal {
  /** Node indexes, the last `ring.length` changes; its length is a power of two. */
  readonly ring: Int32Array;
  /** Changes ever noted. */
  count: number;
  /** Raised when all may have changed. */
  epoch: number;
}

/** O(nodes), and O(VMs) when no `usage` is given. */
export function arenaOf(
  view: View,
  options: { usage?: Usage | undefined; inFlight?: ReadonlyMap<string, Reservation> | undefined } = {},
): Arena {
  const settings: Settings = settingsOf(view);
  const usage = options.usage ?? usageOf(view);
  const nodes = [...view.nodes.values()]
    .filter((node) => node.state !== "removed")
    .sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  const n = nodes.length;
  const arena: Arena = {
    nodes,
    indexOf: new Map(nodes.map((node, i) => [node.id, i])),
    limitMemory: new Float64Array(n),
    limitCpus: new Float64Array(n),
    usedMemory: new Float64Array(n),
    usedCpus: new Float64Array(n),
    placedMemory: new Float64Array(n),
    placedCpus: new Float64Array(n),
    memory: new Float64Array(n),
    cpus: new Float64Array(n),
    hash: new Uint32Array(n),
    totalCpus: usage.totalCpus,
    where: new Map(),
    journal: { ring: new Int32Array(2 ** Math.ceil(Math.log2(Math.max(n, 64)))), count: 0, epoch: 0 },
  };
  for (const [i, node] of nodes.entries()) {
    const limits = limitsOf(node, settings);
    const sums = nodeUsage(usage, node.id);
    const flying = options.inFlight?.get(node.id);
    arena.limitMemory[i] = limits.memoryMib;
    arena.limitCpus[i] = limits.cpus;
    arena.usedMemory[i] = sums.memoryMib + (flying?.memoryMib ?? 0);
    arena.usedCpus[i] = sums.cpus + (flying?.cpus ?? 0);
    arena.placedMemory[i] = sums.placedMemoryMib + (flying?.memoryMib ?? 0);
    arena.placedCpus[i] = sums.placedCpus + (flying?.cpus ?? 0);
    arena.memory[i] = node.info?.memoryMib ?? 0;
    arena.cpus[i] = node.info?.cpus ?? 0;
    arena.hash[i] = hash32(node.id);
  }
  return arena;
}

/** The columns that placements change. */
export interface ArenaMark {
  readonly usedMemory: Float64Array;
  readonly usedCpus: Float64Array;
  readonly placedMemory: Float64Array;
  readonly placedCpus: Float64Array;
  readonly where: ReadonlyMap<string, string | null>;
}

export function mark(arena: Arena): ArenaMark {
  return {
    usedMemory: arena.usedMemory.slice(),
    usedCpus: arena.usedCpus.slice(),
    placedMemory: arena.placedMemory.slice(),
    placedCpus: arena.placedCpus.slice(),
    where: new Map(arena.where),
  };
}

export function rewind(arena: Arena, to: ArenaMark): void {
  arena.usedMemory.set(to.usedMemory);
  arena.usedCpus.set(to.usedCpus);
  arena.placedMemory.set(to.placedMemory);
  arena.placedCpus.set(to.placedCpus);
  arena.journal.epoch++;
  if (arena.where.size === 0 && to.where.size === 0) return;
  arena.where.clear();
  for (const [vmId, nodeId] of to.where) arena.where.set(vmId, nodeId);
}

/** What of the VM is in the sums now: added with `sign` 1, taken out with -1. */
export function shiftOwn(arena: Arena, vm: Vm, sign: 1 | -1): void {
  const { memoryMib, cpus } = vm.definition;
  const claimed = vm.claim === null ? undefined : arena.indexOf.get(vm.claim.nodeId);
  if (claimed !== undefined) {
    arena.usedMemory[claimed]! += sign * memoryMib;
    arena.usedCpus[claimed]! += sign * cpus;
    note(arena, claimed);
  }
  const place = placeOf(vm);
  const placed = place === null ? undefined : arena.indexOf.get(place);
  if (placed !== undefined) {
    arena.placedMemory[placed]! += sign * memoryMib;
    arena.placedCpus[placed]! += sign * cpus;
    note(arena, placed);
  }
}

/** A VM of this size takes (1) or leaves (-1) node `i`. */
export function shift(arena: Arena, i: number, memoryMib: number, cpus: number, sign: 1 | -1): void {
  arena.usedMemory[i]! += sign * memoryMib;
  arena.usedCpus[i]! += sign * cpus;
  arena.placedMemory[i]! += sign * memoryMib;
  arena.placedCpus[i]! += sign * cpus;
  note(arena, i);
}

function note(arena: Arena, i: number): void {
  const { journal } = arena;
  journal.ring[journal.count & (journal.ring.length - 1)] = i;
  journal.count++;
}
