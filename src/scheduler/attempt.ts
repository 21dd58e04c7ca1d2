/** One way to place all VMs of a request, and how two ways compare. */
import { giveCpus, mark, rewind, shift, shiftOwn } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { Item } from "./items.ts";
import { Packing } from "./packing.ts";
import { scoreConsolidate } from "./scorers.ts";
import type { Scorer } from "./scorers.ts";
import { pickerFor } from "./tree.ts";
import type { PlanKind } from "./types.ts";

export interface Attempt {
  /** Items in the order they were decided. */
  readonly order: readonly number[];
  /** Node by item, -1 for none. */
  readonly node: Int32Array;
  /** By item, the score it was placed by where that is neither its own nor the plan's. */
  readonly scorers: readonly (Scorer | undefined)[];
  /** VMs placed, by rank: compared from the first on. */
  readonly value: readonly number[];
}

/** Places each item in turn on its best node; leaves the arena as it was. */
export function greedy(arena: Arena, items: readonly Item[], order: readonly number[], score: Scorer, kind: PlanKind): Attempt {
  const before = mark(arena);
  const node = new Int32Array(items.length).fill(-1);
  const scorers: (Scorer | undefined)[] = [];
  const picker = pickerFor(arena);
  const packed = items.filter((item) => (item.score ?? score) === scoreConsolidate);
  const packing = packed.length === 0 ? null : new Packing(arena, packed);
  for (const k of order) {
    const item = items[k]!;
    let own = item.score ?? score;
    lift(arena, item, kind);
    if (packing !== null && own === scoreConsolidate) scorers[k] = own = packing.scorer(item);
    node[k] = picker(item, own);
    settle(arena, item, node[k]!, kind);
  }
  rewind(arena, before);
  return { order, node, scorers, value: valueOf(items, node) };
}

/**
 * Room that an attempt changed since its greedy beginning may do for what the change left alone (VMs with policies between
 * VMs, with CPUs of their own): each of those without a node is asked once more, at the end. Leaves the arena as it was.
 */
export function topUp(arena: Arena, items: readonly Item[], attempt: Attempt, score: Scorer, kind: PlanKind): Attempt {
  const waiting = attempt.order.filter((k) => attempt.node[k] === -1);
  if (waiting.length === 0) return attempt;
  const before = mark(arena);
  const node = attempt.node.slice();
  const put = (k: number, choose: (item: Item) => number): number => {
    const item = items[k]!;
    lift(arena, item, kind);
    node[k] = choose(item);
    settle(arena, item, node[k]!, kind);
    return node[k]!;
  };
  for (const k of attempt.order) if (node[k] !== -1) put(k, () => node[k]!);
  const picker = pickerFor(arena);
  const late = new Set(waiting.filter((k) => put(k, (item) => picker(item, item.score ?? score)) !== -1));
  rewind(arena, before);
  if (late.size === 0) return attempt;
  return { ...attempt, order: [...attempt.order.filter((k) => !late.has(k)), ...late], node, value: valueOf(items, node) };
}

/** The score that item `k` was, or is to be, placed by. */
export function scorerOfItem(items: readonly Item[], attempt: Attempt, k: number, planScore: Scorer): Scorer {
  return attempt.scorers[k] ?? items[k]!.score ?? planScore;
}

/** After `lift`: writes where the item went, or back where it was for -1. */
export function settle(arena: Arena, item: Item, i: number, kind: PlanKind): void {
  if (i === -1) return putBack(arena, item, kind);
  const own = item.pinning?.(i) ?? null;
  shift(arena, i, item.memory, item.cpus, 1);
  if (own !== null) giveCpus(arena, item.vm.id, { ...own, node: i });
  if (item.overlay !== null) arena.where.set(item.vm.id, arena.nodes[i]!.id);
}

/** Takes the item's own part out of the sums, as the scores and the check ask. A migrating VM holds its source to the end. */
export function lift(arena: Arena, item: Item, kind: PlanKind): void {
  if (kind !== "migrate") shiftOwn(arena, item.vm, -1);
}

export function putBack(arena: Arena, item: Item, kind: PlanKind): void {
  if (kind !== "migrate") shiftOwn(arena, item.vm, 1);
}

/** VMs placed, by rank. */
export function valueOf(items: readonly Item[], node: Int32Array): number[] {
  const value: number[] = [];
  for (const [k, item] of items.entries()) {
    while (value.length <= item.rank) value.push(0);
    if (node[k] !== -1) value[item.rank]! += 1;
  }
  return value;
}

/** Positive if `a` is worth more: the first rank that differs decides (SCH-11: priority above number). */
export function compareValues(a: readonly number[], b: readonly number[]): number {
  for (let rank = 0; rank < Math.max(a.length, b.length); rank++) {
    const difference = (a[rank] ?? 0) - (b[rank] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** VMs placed in all. */
export function placedIn(attempt: Attempt): number {
  return attempt.value.reduce((sum, count) => sum + count, 0);
}
