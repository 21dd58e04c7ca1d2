/**
 * The bounded search of SCH-12: branch and bound over the VMs, largest first within a rank. Deterministic; its budget is
 * counted in looks at a node, never in time. Ends with a proof if it looked at everything.
 */
import { freeRoom } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { compareValues } from "./attempt.ts";
import type { Item } from "./items.ts";

export const DEFAULT_SEARCH_STEPS = 2_000_000;
/** Deeper trees are left to the greedy ways and their improvement: a search would only scratch at their last leaves. */
const MAX_ITEMS = 512;

export interface SearchResult {
  /** Node by item, -1 for none; null if nothing better than the given value was found. */
  node: Int32Array | null;
  steps: number;
  /** True if the whole tree was looked at or cut off by bounds: what was found, or else the given value, is optimal. */
  complete: boolean;
}

/** Looks for a placement worth more than `floor` in the room the arena has left; the arena is not changed. */
export function search(arena: Arena, items: readonly Item[], floor: readonly number[], budget: number): SearchResult {
  if (items.length > MAX_ITEMS) return { node: null, steps: 0, complete: false };
  return new Search(arena, items, floor, budget).run();
}

class Search {
  private readonly items: readonly Item[];
  private readonly order: number[];
  private readonly freeMemory: Float64Array;
  private readonly freeCpus: Float64Array;
  /** Nodes with equal profiles are open to the same classes; with equal room they are the same to any VM. */
  private readonly profile: Int32Array;
  private readonly node: Int32Array;
  private readonly value: number[];
  /** By position in the order: sizes of the rest of its rank, ascending, as prefix sums. */
  private readonly ranks: number;
  private readonly budget: number;
  private best: readonly number[];
  private found: Int32Array | null = null;
  private steps = 0;
  private out = false;

  constructor(arena: Arena, items: readonly Item[], floor: readonly number[], budget: number) {
    this.items = items;
    this.budget = budget;
    this.best = floor;
    this.ranks = items.reduce((most, item) => Math.max(most, item.rank + 1), 1);
    this.value = Array.from({ length: this.ranks }, () => 0);
    this.node = new Int32Array(items.length).fill(-1);
    const free = freeRoom(arena);
    this.freeMemory = free.memory;
    this.freeCpus = free.cpus;
    this.profile = profiles(arena.nodes.length, items);
    this.order = items.map((_, k) => k).sort((a, b) => largestFirst(items[a]!, items[b]!) || a - b);
  }

  run(): SearchResult {
    this.visit(0);
    if (this.found !== null && this.out) this.fill(this.found);
    return { node: this.found, steps: this.steps, complete: !this.out };
  }

  private visit(depth: number): void {
    if (this.out) return;
    if (depth === this.order.length) {
      if (compareValues(this.value, this.best) > 0) {
        this.best = [...this.value];
        this.found = this.node.slice();
      }
      return;
    }
    if (compareValues(this.ceiling(depth), this.best) <= 0) return;
    const k = this.order[depth]!;
    const item = this.items[k]!;
    const previous = depth > 0 ? this.order[depth - 1]! : -1;
    const twin = previous !== -1 && sameKind(this.items[previous]!, item);
    // Twins go to nodes in ascending order and are left out from the last: any other way is one of these with names exchanged.
    const from = twin ? this.node[previous]! : 0;
    if (from !== -1) {
      for (const i of this.candidates(item, from)) {
        this.take(item, i);
        this.node[k] = i;
        this.value[item.rank]! += 1;
        this.visit(depth + 1);
        this.value[item.rank]! -= 1;
        this.node[k] = -1;
        this.freeMemory[i]! += item.memory;
        this.freeCpus[i]! += item.cpus;
        if (this.out) return;
      }
    }
    this.visit(depth + 1);
  }

  /** Cut short, the search may leave room that its order of twins kept from one of them. */
  private fill(node: Int32Array): void {
    for (const [k, i] of node.entries()) if (i !== -1) this.take(this.items[k]!, i);
    for (const k of this.order) {
      if (node[k] !== -1) continue;
      const item = this.items[k]!;
      const i = item.class.eligible.find((one) => this.freeMemory[one]! >= item.memory && this.freeCpus[one]! >= item.cpus);
      if (i === undefined) continue;
      node[k] = i;
      this.take(item, i);
    }
  }

  private take(item: Item, i: number): void {
    this.freeMemory[i]! -= item.memory;
    this.freeCpus[i]! -= item.cpus;
  }

  /** Nodes with room, one of each kind that looks the same, tightest first. */
  private candidates(item: Item, from: number): number[] {
    const seen = new Set<string>();
    const found: number[] = [];
    this.steps += item.class.eligible.length;
    if (this.steps > this.budget) this.out = true;
    for (const i of item.class.eligible) {
      if (i < from || this.freeMemory[i]! < item.memory || this.freeCpus[i]! < item.cpus) continue;
      const kind = `${this.profile[i]} ${this.freeMemory[i]} ${this.freeCpus[i]}`;
      if (seen.has(kind)) continue;
      seen.add(kind);
      found.push(i);
    }
    return found.sort((a, b) => this.freeMemory[a]! - this.freeMemory[b]! || this.freeCpus[a]! - this.freeCpus[b]! || a - b);
  }

  /** What could still be reached: by rank, as many of the smallest as the room of all nodes together holds. */
  private ceiling(depth: number): number[] {
    const ceiling = [...this.value];
    let roomMemory = 0;
    let roomCpus = 0;
    let least = Number.POSITIVE_INFINITY;
    for (let d = depth; d < this.order.length; d++) least = Math.min(least, this.items[this.order[d]!]!.memory);
    for (let i = 0; i < this.freeMemory.length; i++) {
      if (this.freeMemory[i]! < least) continue;
      roomMemory += this.freeMemory[i]!;
      roomCpus += this.freeCpus[i]!;
    }
    this.steps += this.freeMemory.length;
    for (let d = depth; d < this.order.length;) {
      const rank = this.items[this.order[d]!]!.rank;
      const memory: number[] = [];
      const cpus: number[] = [];
      for (; d < this.order.length && this.items[this.order[d]!]!.rank === rank; d++) {
        memory.push(this.items[this.order[d]!]!.memory);
        cpus.push(this.items[this.order[d]!]!.cpus);
      }
      ceiling[rank]! += Math.min(countWithin(memory, roomMemory), countWithin(cpus, roomCpus));
    }
    return ceiling;
  }
}

function countWithin(sizes: number[], room: number): number {
  sizes.sort((a, b) => a - b);
  let left = room;
  let count = 0;
  while (count < sizes.length && sizes[count]! <= left) left -= sizes[count++]!;
  return count;
}

function largestFirst(a: Item, b: Item): number {
  return a.rank - b.rank || b.memory - a.memory || b.cpus - a.cpus || a.class.id - b.class.id;
}

function sameKind(a: Item, b: Item): boolean {
  return a.class === b.class && a.memory === b.memory && a.cpus === b.cpus && a.rank === b.rank;
}

function profiles(nodes: number, items: readonly Item[]): Int32Array {
  const keys: string[] = Array.from({ length: nodes }, () => "");
  for (const one of new Set(items.map((item) => item.class))) for (const i of one.eligible) keys[i] += `${one.id},`;
  const numbers = new Map<string, number>();
  return Int32Array.from(keys, (key) => {
    if (!numbers.has(key)) numbers.set(key, numbers.size);
    return numbers.get(key)!;
  });
}
