/**
 * Makes room for VMs that a greedy way left out, by exchanging the others among their nodes. Free room that is scattered
 * over many nodes is of no use: exchanges that gather it are made until what was left out fits in.
 *
 * An exchange is taken if it raises a sum of squares of what is free (see `TILTS`), so room moves from fuller nodes to
 * emptier ones, and both resources to the same node. Deterministic; the budget counts comparisons.
 */
import { LIMIT_CPUS, LIMIT_MEMORY, column, freeRoom, shared } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { Item } from "./items.ts";

export const DEFAULT_REPACK_STEPS = 60_000_000;

/**
 * What exchanges are for, in turn, each taken up where the one before found no more: Σ alone × (m² + c²) + together × 2mc
 * over nodes with free parts m of memory and c of vCPUs. A negative `alone` dissolves nodes where only one of both is left.
 */
const TILTS: readonly (readonly [alone: number, together: number])[] = [
  [1, 1],
  [0, 1],
  [1, 4],
  [-0.3, 1],
  [4, 1],
];

/** Gains smaller than this are rounding. */
const LEAST_GAIN = 1e-12;

/** Nodes by item, after trying to place more than `start` does, in the room the arena has left; the arena is not changed. */
export function repack(arena: Arena, items: readonly Item[], start: Int32Array, budget: number): Int32Array {
  const work = new Repack(arena, items, start, budget);
  work.run();
  return work.node;
}

class Repack {
  readonly node: Int32Array;
  private readonly items: readonly Item[];
  private readonly memory: Float64Array;
  private readonly cpus: Float64Array;
  /** Size of an item and free room of a node in the measure of s. */
  private readonly size: Float64Array;
  private readonly freeMemory: Float64Array;
  private readonly freeCpus: Float64Array;
  private readonly room: Float64Array;
  private readonly on: number[][];
  /** By class: 1 where a node is eligible; null where all are. */
  private readonly allowed: (Uint8Array | null)[];
  private readonly memoryUnit: number;
  private readonly cpuUnit: number;
  private alone = 1;
  private together = 1;
  private left: number;
  /** VMs without a node, of higher rank and smaller first. */
  private out: number[] = [];

  constructor(arena: Arena, items: readonly Item[], start: Int32Array, budget: number) {
    const nodes = arena.nodes.length;
    this.items = items;
    this.left = budget;
    this.node = start.slice();
    const limitCpus = column(arena, LIMIT_CPUS);
    const limited = limitCpus.some((limit) => limit !== Number.POSITIVE_INFINITY);
    const free = freeRoom(arena);
    this.memory = Float64Array.from(items, (item) => item.memory);
    this.cpus = Float64Array.from(items, (item) =>
      limited ? item.cpus - (item.pinning === null ? 0 : Math.min(0, shared(arena, -item.cpus))) : 0,
    );
    this.freeMemory = free.memory;
    this.freeCpus = limited ? free.cpus : new Float64Array(nodes);
    this.memoryUnit = nodes / Math.max(1, sum(column(arena, LIMIT_MEMORY)));
    this.cpuUnit = limited ? nodes / Math.max(1, sum(limitCpus)) : 0;
    this.size = Float64Array.from(items, (_, k) => this.memory[k]! * this.memoryUnit + this.cpus[k]! * this.cpuUnit);
    this.room = new Float64Array(nodes);
    this.on = Array.from({ length: nodes }, () => []);
    this.allowed = [];
    for (const item of items) {
      if (this.allowed[item.class.id] !== undefined) continue;
      const flags = new Uint8Array(nodes);
      for (const i of item.class.eligible) flags[i] = 1;
      this.allowed[item.class.id] = item.class.eligible.length === nodes ? null : flags;
    }
    for (const [k, i] of this.node.entries()) {
      if (i === -1) this.out.push(k);
      else this.put(k, i);
    }
    for (let i = 0; i < nodes; i++) this.measure(i);
  }

  run(): void {
    this.fill();
    let best = this.node.slice();
    let bestOut = this.out.length;
    for (let turn = 0; turn < TILTS.length && this.out.length > 0 && this.left > 0; turn++) {
      [this.alone, this.together] = TILTS[turn]!;
      for (let better = true; better && this.out.length > 0 && this.left > 0;) {
        better = this.gather();
        better = this.fill() || better;
        better = this.replace() || better;
      }
      if (this.out.length >= bestOut) continue;
      best = this.node.slice();
      bestOut = this.out.length;
      turn = -1;
    }
    this.node.set(best);
  }

  /** Puts in what fits, where it fits tightest; true if something did. */
  private fill(): boolean {
    const { items } = this;
    this.out.sort((a, b) => items[a]!.rank - items[b]!.rank || this.size[a]! - this.size[b]! || a - b);
    const before = this.out.length;
    this.out = this.out.filter((k) => {
      const { class: own, overlay } = items[k]!;
      if (overlay !== null) return true;
      let best = -1;
      for (const i of own.eligible) {
        if (this.memory[k]! > this.freeMemory[i]! || this.cpus[k]! > this.freeCpus[i]!) continue;
        const tiers = best === -1 || own.tiers === null ? 0 : own.tiers[i]! - own.tiers[best]!;
        if (best === -1 || tiers < 0 || (tiers === 0 && this.room[i]! < this.room[best]!)) best = i;
      }
      if (best === -1) return true;
      this.put(k, best);
      this.measure(best);
      return false;
    });
    this.left -= before * this.room.length;
    return this.out.length < before;
  }

  /** One round over all pairs of nodes; true if an exchange was made. */
  private gather(): boolean {
    let better = false;
    const nodes = this.on.length;
    for (let i = 0; i < nodes && this.left > 0; i++) {
      for (let j = i + 1; j < nodes; j++) {
        if (this.on[i]!.length + this.on[j]!.length === 0) continue;
        if (this.exchange(i, j)) better = true;
      }
    }
    return better;
  }

  /** The best exchange of one VM (or none) of `i` with one (or none) of `j`. */
  private exchange(i: number, j: number): boolean {
    const { memory, cpus, memoryUnit, cpuUnit, alone, together } = this;
    if (this.room[i]! + this.room[j]! === 0) return false;
    const [onI, onJ] = [this.on[i]!, this.on[j]!];
    const [memoryI, memoryJ, cpusI, cpusJ] = [this.freeMemory[i]!, this.freeMemory[j]!, this.freeCpus[i]!, this.freeCpus[j]!];
    const apartMemory = (memoryI - memoryJ) * memoryUnit;
    const apartCpus = (cpusI - cpusJ) * cpuUnit;
    let best = LEAST_GAIN;
    let bestA = -1;
    let bestB = -1;
    this.left -= (onI.length + 1) * (onJ.length + 1);
    for (let x = -1; x < onI.length; x++) {
      const a = x === -1 ? -1 : onI[x]!;
      const memoryA = a === -1 ? 0 : memory[a]!;
      const cpusA = a === -1 ? 0 : cpus[a]!;
      for (let y = -1; y < onJ.length; y++) {
        const b = y === -1 ? -1 : onJ[y]!;
        // What `i` gains in room and `j` loses.
        const dm = memoryA - (b === -1 ? 0 : memory[b]!);
        const dc = cpusA - (b === -1 ? 0 : cpus[b]!);
        if (memoryI + dm < 0 || memoryJ < dm || cpusI + dc < 0 || cpusJ < dc) continue;
        const m = dm * memoryUnit;
        const c = dc * cpuUnit;
        const worth = alone * (m * (apartMemory + m) + c * (apartCpus + c)) + together * (c * apartMemory + m * apartCpus + 2 * m * c);
        if (worth <= best || !this.may(a, j) || !this.may(b, i)) continue;
        best = worth;
        bestA = a;
        bestB = b;
      }
    }
    if (bestA === -1 && bestB === -1) return false;
    if (bestA !== -1) this.take(bestA, i);
    if (bestB !== -1) this.take(bestB, j);
    if (bestA !== -1) this.put(bestA, j);
    if (bestB !== -1) this.put(bestB, i);
    this.measure(i);
    this.measure(j);
    return true;
  }

  /** Exchanges VMs without a node for smaller ones that have one, so that nodes fill up and what is out becomes easier to place. */
  private replace(): boolean {
    let better = false;
    for (const [at, k] of this.out.entries()) {
      if (this.items[k]!.overlay !== null) continue;
      let best = LEAST_GAIN;
      let bestA = -1;
      for (const i of this.items[k]!.class.eligible) {
        this.left -= this.on[i]!.length;
        for (const a of this.on[i]!) {
          const gain = this.size[k]! - this.size[a]!;
          if (gain <= best || this.items[a]!.rank !== this.items[k]!.rank || this.items[a]!.overlay !== null) continue;
          if (this.freeMemory[i]! + this.memory[a]! < this.memory[k]! || this.freeCpus[i]! + this.cpus[a]! < this.cpus[k]!) continue;
          best = gain;
          bestA = a;
        }
      }
      if (bestA === -1) continue;
      const i = this.node[bestA]!;
      this.take(bestA, i);
      this.put(k, i);
      this.measure(i);
      this.out[at] = bestA;
      better = true;
    }
    return better;
  }

  /** VMs with policies between them stay where they are, and none moves to a node it prefers less. */
  private may(k: number, i: number): boolean {
    if (k === -1) return true;
    const { class: own, overlay } = this.items[k]!;
    const flags = this.allowed[own.id]!;
    if (overlay !== null || (flags !== null && flags[i] === 0)) return false;
    return own.tiers === null || own.tiers[i]! <= own.tiers[this.node[k]!]!;
  }

  private put(k: number, i: number): void {
    this.node[k] = i;
    this.on[i]!.push(k);
    this.freeMemory[i]! -= this.memory[k]!;
    this.freeCpus[i]! -= this.cpus[k]!;
  }

  private take(k: number, i: number): void {
    this.node[k] = -1;
    this.on[i]!.splice(this.on[i]!.indexOf(k), 1);
    this.freeMemory[i]! += this.memory[k]!;
    this.freeCpus[i]! += this.cpus[k]!;
  }

  private measure(i: number): void {
    this.room[i] = this.freeMemory[i]! * this.memoryUnit + this.freeCpus[i]! * this.cpuUnit;
  }
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
