/**
 * How many VMs any plan can place at most, by arguments that need no search. Where a plan reaches the bound it is
 * proven optimal (SCH-12).
 */
import { roomFor } from "./pick.ts";
import { LIMIT_CPUS, LIMIT_MEMORY, USED_CPUS, USED_MEMORY, WIDTH } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { Item } from "./items.ts";

/**
 * At most so many of `items` fit the arena, whose sums must not hold the items themselves. The least of, for memory and
 * for vCPUs: the smallest that fit the capacity of all nodes together; and for each size s, the smaller ones plus, of
 * those of s and more, Σ ⌊free / s⌋ over the nodes.
 */
export function upperBound(arena: Arena, items: readonly Item[]): number {
  const placeable = items.filter((item) => item.class.eligible.some((i) => roomFor(arena, i, item.memory, item.cpus)));
  const reachable = new Uint8Array(arena.nodes.length);
  for (const one of new Set(placeable.map((item) => item.class))) for (const i of one.eligible) reachable[i] = 1;
  const freeMemory: number[] = [];
  const freeCpus: number[] = [];
  for (let i = 0; i < reachable.length; i++) {
    if (reachable[i] === 0) continue;
    freeMemory.push(arena.cells[i * WIDTH + LIMIT_MEMORY]! - arena.cells[i * WIDTH + USED_MEMORY]!);
    freeCpus.push(arena.cells[i * WIDTH + LIMIT_CPUS]! - arena.cells[i * WIDTH + USED_CPUS]!);
  }
  return Math.min(
    boundOf(
      placeable.map((item) => item.memory),
      freeMemory,
    ),
    boundOf(
      placeable.map((item) => item.cpus),
      freeCpus,
    ),
  );
}

/** The bound for one resource. Exact for equal sizes. */
export function boundOf(sizes: readonly number[], free: readonly number[]): number {
  const sorted = [...sizes].sort((a, b) => a - b);
  const smallest = sorted[0] ?? 0;
  let left = 0;
  for (const amount of free) if (amount >= smallest) left += amount;
  let bound = 0;
  while (bound < sorted.length && sorted[bound]! <= left) left -= sorted[bound++]!;
  for (let k = 0; k < sorted.length; k++) {
    const size = sorted[k]!;
    if (size <= 0 || (k > 0 && sorted[k - 1] === size)) continue;
    let slots = 0;
    for (const amount of free) if (amount >= size) slots += Math.floor(amount / size);
    bound = Math.min(bound, k + Math.min(sorted.length - k, slots));
  }
  return bound;
}

/** True if no plan is worth more than `value`: at each rank, all up to it together reach their bound. */
export function reachesBound(arena: Arena, items: readonly Item[], value: readonly number[]): boolean {
  let placed = 0;
  for (let rank = 0; rank < value.length; rank++) {
    placed += value[rank]!;
    if (
      upperBound(
        arena,
        items.filter((item) => item.rank <= rank),
      ) > placed
    )
      return false;
  }
  return true;
}
