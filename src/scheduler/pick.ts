/** The best node for one VM: lowest tier, then lowest score, then lowest tie, then lowest id. */
import { fits } from "../model/capacity.ts";
import { CPUS, LIMIT_CPUS, LIMIT_MEMORY, MEMORY, PLACED_MEMORY, USED_CPUS, USED_MEMORY, WIDTH } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { Item } from "./items.ts";
import { scoreRunning, scoreStopped } from "./scorers.ts";
import type { Scorer } from "./scorers.ts";

/** True if the VM's size fits node `i` beside what the arena counts there. */
export function roomFor(arena: Arena, i: number, memory: number, cpus: number): boolean {
  return (
    fits(arena.cells[i * WIDTH + USED_MEMORY]!, memory, arena.cells[i * WIDTH + LIMIT_MEMORY]!) &&
    fits(arena.cells[i * WIDTH + USED_CPUS]!, cpus, arena.cells[i * WIDTH + LIMIT_CPUS]!)
  );
}

/** Index of the node, or -1 if none is left. O(eligible nodes). */
export function pick(arena: Arena, item: Item, score: Scorer): number {
  if (item.overlay === null && item.class.tiers === null && (score === scoreStopped || score === scoreRunning)) {
    return pickByLoad(arena, item, score === scoreRunning);
  }
  return pickBy(arena, item, score);
}

/** `pickBy` for the formulas of SCH-6 and SCH-7, written out: the loop most decisions are made of. */
function pickByLoad(arena: Arena, item: Item, running: boolean): number {
  const { memory, cpus, tie } = item;
  const { eligible } = item.class;
  const { cells, totalCpus } = arena;
  const from = running ? USED_MEMORY : PLACED_MEMORY;
  let best = -1;
  let bestScore = Number.POSITIVE_INFINITY;
  for (let k = 0; k < eligible.length; k++) {
    const i = eligible[k]!;
    const at = i * WIDTH;
    if (cells[at + USED_MEMORY]! + memory > cells[at + LIMIT_MEMORY]! || cells[at + USED_CPUS]! + cpus > cells[at + LIMIT_CPUS]!) continue;
    const share = running ? totalCpus : cells[at + CPUS]!;
    const physical = cells[at + MEMORY]!;
    const mine = ((cells[at + from + 1]! + cpus) * physical + (cells[at + from]! + memory) * share) / (2 * share * physical);
    if (mine > bestScore || (mine === bestScore && best !== -1 && !tieBefore(arena, tie, i, best))) continue;
    best = i;
    bestScore = mine;
  }
  return best;
}

function pickBy(arena: Arena, item: Item, score: Scorer): number {
  const { memory, cpus, tie } = item;
  const { eligible } = item.class;
  const overlay = item.overlay?.(arena.where) ?? null;
  const tiers = overlay?.tiers ?? item.class.tiers;
  let best = -1;
  let bestScore = Number.POSITIVE_INFINITY;
  let bestTier = 0;
  for (let k = 0; k < eligible.length; k++) {
    const i = eligible[k]!;
    if (!roomFor(arena, i, memory, cpus) || (overlay !== null && overlay.blocked[i] !== 0)) continue;
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
