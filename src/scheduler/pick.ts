/** The best node for one VM: lowest tier, then lowest score, then lowest tie, then lowest id. */
import { fits } from "../model/capacity.ts";
import type { Arena } from "./arena.ts";
import type { Item } from "./items.ts";
import type { Scorer } from "./scorers.ts";

/** True if the VM's size fits node `i` beside what the arena counts there. */
export function roomFor(arena: Arena, i: number, memory: number, cpus: number): boolean {
  return fits(arena.usedMemory[i]!, memory, arena.limitMemory[i]!) && fits(arena.usedCpus[i]!, cpus, arena.limitCpus[i]!);
}

/** Index of the node, or -1 if none is left. O(eligible nodes). */
export function pick(arena: Arena, item: Item, score: Scorer): number {
  const { memory, cpus, tie } = item;
  const { eligible } = item.class;
  const overlay = item.overlay?.(arena.where) ?? null;
  const tiers = overlay?.tiers ?? item.class.tiers;
  let best = -1;
  let bestScore = Number.POSITIVE_INFINITY;
  let bestTier = 0;
  for (let k = 0; k < eligible.length; k++) {
    const i = eligible[k]!;
    if (!roomFor(arena, i, memory, cpus) || overlay?.blocked[i] === 1) continue;
    const tier = tiers === null ? 0 : tiers[i]!;
    if (best !== -1 && tier > bestTier) continue;
    const mine = score(arena, i, memory, cpus);
    if (best === -1 || tier < bestTier || mine < bestScore || (mine === bestScore && tieBefore(arena, tie, i, best))) {
      best = i;
      bestScore = mine;
      bestTier = tier;
    }
  }
  return best;
}

/** True if node `a` comes before `b` where their scores are equal. Equal hashes keep the order of ids. */
export function tieBefore(arena: Arena, tie: number, a: number, b: number): boolean {
  const left = (arena.hash[a]! ^ tie) >>> 0;
  const right = (arena.hash[b]! ^ tie) >>> 0;
  return left < right || (left === right && a < b);
}
