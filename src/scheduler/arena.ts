/**
 * The nodes as columns of numbers, sorted by id: what a decision reads and a placement changes. Made once per plan from
 * the view (or kept and followed by whoever plans without a pause), so a decision touches no object.
 */
import { claimsOf } from "../model/claims.ts";
import { limitsOf, nodeUsage, placeOf, usageOf } from "../model/capacity.ts";
import type { Reservation, Usage } from "../model/capacity.ts";
import type { Pinned } from "../model/pinning.ts";
import { sizeKey } from "./waste.ts";
import type { SizeCount } from "./waste.ts";
import { hash32 } from "../model/hash.ts";
import type { Node } from "../model/node.ts";
import { settingsOf } from "../model/placement.ts";
import type { Settings } from "../model/settings.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";

/** Columns of `cells`. Hard limits by SCH-1, MiB and vCPUs; Infinity where there is none. */
export const LIMIT_MEMORY = 0;
export const LIMIT_CPUS = 1;
/** Claims, with what is in flight. */
export const USED_MEMORY = 2;
export const USED_CPUS = 3;
/** Claims and stopped VMs at home (SCH-7). */
export const PLACED_MEMORY = 4;
export const PLACED_CPUS = 5;
/** Physical memory and logical CPUs: the denominators. */
export const MEMORY = 6;
export const CPUS = 7;
export const WIDTH = 8;

export interface Arena {
  readonly nodes: Node[];
  readonly indexOf: ReadonlyMap<string, number>;
  /** `WIDTH` numbers a node, one cache line: see the columns below. */
  readonly cells: Float64Array;
  /** For ties. */
  readonly hash: Uint32Array;
  /** vCPUs of all VMs of the cluster. */
  totalCpus: number;
  /** Node by VM, of the VMs with policies between them that the plan has moved so far. */
  readonly where: Map<string, string | null>;
  /** CPUs that the plan has given to VMs of their own so far. */
  readonly pinned: Map<string, PinnedHere>;
  /** vCPUs that may share one logical CPU; 0 for no limit. */
  cpuRatio: number;
  readonly journal: Journal;
  readonly undo: Undo;
  /** Sizes of the VMs that have a node, by `sizeKey`. */
  sizes: () => ReadonlyMap<string, SizeCount>;
}

export interface PinnedHere extends Pinned {
  /** Index of the node. */
  readonly node: number;
}

/** What was changed since the first mark that is still open, to be taken back in reverse order. Sums are whole numbers, so that is exact. */
interface Undo {
  /** Six numbers a change: node, and what was added to its vCPU limit and to its four sums. */
  values: Float64Array;
  count: number;
  marks: number;
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
    cells: new Float64Array(n * WIDTH),
    hash: new Uint32Array(n),
    totalCpus: usage.totalCpus,
    where: new Map(),
    pinned: new Map(),
    cpuRatio: settings["scheduler.cpuRatio"],
    sizes: () => sizesOf(view),
    undo: { values: new Float64Array(6 * 64), count: 0, marks: 0 },
    journal: { ring: new Int32Array(2 ** Math.ceil(Math.log2(Math.max(n, 64)))), count: 0, epoch: 0 },
  };
  for (const [i, node] of nodes.entries()) {
    measure(arena.cells, i * WIDTH, node, settings, usage, options.inFlight);
    arena.hash[i] = hash32(node.id);
  }
  return arena;
}

/** One node's columns. */
function measure(
  cells: Float64Array,
  at: number,
  node: Node,
  settings: Settings,
  usage: Usage,
  inFlight: ReadonlyMap<string, Reservation> | undefined,
): void {
  const sums = nodeUsage(usage, node.id);
  const flying = inFlight?.get(node.id);
  const flyingCpus = flying?.pinned?.reduce((sum, { cpus }) => sum + cpus.length, 0) ?? 0;
  const limits = limitsOf(node, settings, sums.exclusiveCpus + flyingCpus);
  cells[at + LIMIT_MEMORY] = limits.memoryMib;
  cells[at + LIMIT_CPUS] = limits.cpus;
  cells[at + USED_MEMORY] = sums.memoryMib + (flying?.memoryMib ?? 0);
  cells[at + USED_CPUS] = sums.cpus + (flying?.cpus ?? 0);
  cells[at + PLACED_MEMORY] = sums.placedMemoryMib + (flying?.memoryMib ?? 0);
  cells[at + PLACED_CPUS] = sums.placedCpus + (flying?.cpus ?? 0);
  cells[at + MEMORY] = node.info?.memoryMib ?? 0;
  cells[at + CPUS] = node.info?.cpus ?? 0;
}

/**
 * Brings an arena up to a later view: columns that are as they were stay, and with them the trees over them. False if other
 * nodes are there now, so that it cannot be. O(nodes), a fraction of making it.
 */
export function follow(arena: Arena, view: View, usage: Usage, inFlight: ReadonlyMap<string, Reservation> | undefined): boolean {
  const settings = settingsOf(view);
  let left = view.nodes.size;
  const now = new Float64Array(WIDTH);
  for (let i = 0; i < arena.nodes.length; i++) {
    const node = view.nodes.get(arena.nodes[i]!.id);
    if (node === undefined || node.state === "removed") return false;
    left--;
    arena.nodes[i] = node;
    measure(now, 0, node, settings, usage, inFlight);
    const at = i * WIDTH;
    let same = true;
    for (let k = 0; k < WIDTH; k++) same &&= arena.cells[at + k] === now[k];
    if (same) continue;
    if (arena.cells[at + MEMORY] !== now[MEMORY] || arena.cells[at + CPUS] !== now[CPUS]) arena.journal.epoch++;
    arena.cells.set(now, at);
    note(arena, i);
  }
  if (left > 0 && [...view.nodes.values()].filter((node) => node.state !== "removed").length !== arena.nodes.length) return false;
  arena.totalCpus = usage.totalCpus;
  arena.cpuRatio = settings["scheduler.cpuRatio"];
  arena.sizes = () => sizesOf(view);
  return true;
}

/** O(VMs). */
function sizesOf(view: View): ReadonlyMap<string, SizeCount> {
  const sizes = new Map<string, SizeCount>();
  for (const vm of view.vms.values()) {
    if (vm.claim === null) continue;
    const { memoryMib: memory, cpus } = vm.definition;
    const key = sizeKey(memory, cpus);
    sizes.set(key, { memory, cpus, count: (sizes.get(key)?.count ?? 0) + 1 });
  }
  return sizes;
}

/** A moment to come back to; each is rewound once, the last one first. */
export interface ArenaMark {
  readonly count: number;
  readonly where: ReadonlyMap<string, string | null> | null;
  readonly pinned: ReadonlyMap<string, PinnedHere> | null;
}

export function mark(arena: Arena): ArenaMark {
  arena.undo.marks++;
  const { where, pinned } = arena;
  return {
    count: arena.undo.count,
    where: where.size === 0 ? null : new Map(where),
    pinned: pinned.size === 0 ? null : new Map(pinned),
  };
}

/** O(changes since the mark). */
export function rewind(arena: Arena, to: ArenaMark): void {
  const { undo } = arena;
  while (undo.count > to.count) {
    const at = --undo.count * 6;
    const i = undo.values[at]!;
    for (let k = 0; k < 5; k++) arena.cells[i * WIDTH + LIMIT_CPUS + k]! -= undo.values[at + 1 + k]!;
    note(arena, i);
  }
  undo.marks--;
  arena.where.clear();
  for (const [vmId, nodeId] of to.where ?? []) arena.where.set(vmId, nodeId);
  arena.pinned.clear();
  for (const [vmId, here] of to.pinned ?? []) arena.pinned.set(vmId, here);
}

/** One column, copied out. */
export function column(arena: Arena, which: number): Float64Array {
  return Float64Array.from(arena.nodes, (_, i) => arena.cells[i * WIDTH + which]!);
}

/** Room by SCH-1: MiB and vCPUs that no claim holds. */
export function freeRoom(arena: Arena): { memory: Float64Array; cpus: Float64Array } {
  return {
    memory: Float64Array.from(arena.nodes, (_, i) => arena.cells[i * WIDTH + LIMIT_MEMORY]! - arena.cells[i * WIDTH + USED_MEMORY]!),
    cpus: Float64Array.from(arena.nodes, (_, i) => arena.cells[i * WIDTH + LIMIT_CPUS]! - arena.cells[i * WIDTH + USED_CPUS]!),
  };
}

/** What of the VM is in the sums now: added with `sign` 1, taken out with -1. */
export function shiftOwn(arena: Arena, vm: Vm, sign: 1 | -1): void {
  const memory = sign * vm.definition.memoryMib;
  const cpus = sign * vm.definition.cpus;
  for (const claim of claimsOf(vm)) {
    const claimed = arena.indexOf.get(claim.nodeId);
    if (claimed !== undefined) change(arena, claimed, shared(arena, -sign * (claim.cpus?.length ?? 0)), memory, cpus, 0, 0);
  }
  const place = placeOf(vm);
  const placed = place === null ? undefined : arena.indexOf.get(place);
  if (placed !== undefined) change(arena, placed, 0, 0, 0, memory, cpus);
}

/** A VM of this size takes (1) or leaves (-1) node `i`. */
export function shift(arena: Arena, i: number, memoryMib: number, cpus: number, sign: 1 | -1): void {
  change(arena, i, 0, sign * memoryMib, sign * cpus, sign * memoryMib, sign * cpus);
}

/** Notes CPUs as one VM's alone: the others have less to share. */
export function giveCpus(arena: Arena, vmId: string, here: PinnedHere): void {
  arena.pinned.set(vmId, here);
  change(arena, here.node, shared(arena, -here.cpus.length), 0, 0, 0, 0);
}

/** What so many CPUs more to share add to a node's vCPU limit, which holds the exclusive ones as well. */
export function shared(arena: Arena, cpus: number): number {
  return arena.cpuRatio === 0 || cpus === 0 ? 0 : cpus * (arena.cpuRatio - 1);
}

function change(
  arena: Arena,
  i: number,
  limitCpus: number,
  usedMemory: number,
  usedCpus: number,
  placedMemory: number,
  placedCpus: number,
): void {
  const { cells, undo } = arena;
  cells[i * WIDTH + LIMIT_CPUS]! += limitCpus;
  cells[i * WIDTH + USED_MEMORY]! += usedMemory;
  cells[i * WIDTH + USED_CPUS]! += usedCpus;
  cells[i * WIDTH + PLACED_MEMORY]! += placedMemory;
  cells[i * WIDTH + PLACED_CPUS]! += placedCpus;
  note(arena, i);
  if (undo.marks === 0) return;
  const at = undo.count++ * 6;
  if (at === undo.values.length) {
    const wider = new Float64Array(at * 2);
    wider.set(undo.values);
    undo.values = wider;
  }
  undo.values[at] = i;
  undo.values[at + 1] = limitCpus;
  undo.values[at + 2] = usedMemory;
  undo.values[at + 3] = usedCpus;
  undo.values[at + 4] = placedMemory;
  undo.values[at + 5] = placedCpus;
}

function note(arena: Arena, i: number): void {
  const { journal } = arena;
  journal.ring[journal.count & (journal.ring.length - 1)] = i;
  journal.count++;
}
