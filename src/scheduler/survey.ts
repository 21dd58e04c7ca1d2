/** What one decision saw: the best nodes, and how many had no room. One pass over the nodes that the fixed filters left. */
import { CPUS, LIMIT_CPUS, LIMIT_MEMORY, MEMORY, PLACED_MEMORY, USED_CPUS, USED_MEMORY, WIDTH } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { BLOCKED_BY_PINNING } from "./items.ts";
import type { Item } from "./items.ts";
import { tieBefore } from "./pick.ts";
import { scoreRunning, scoreStopped } from "./scorers.ts";
import type { Scorer } from "./scorers.ts";

export interface Ranked {
  node: number;
  tier: number;
  score: number;
}

export interface Survey {
  /** In the order of `pick`. */
  top: Ranked[];
  /** Nodes refused for what other VMs take there, by reason code. */
  refused: { memory: number; cpus: number; pinning: number; "vm-policy": number };
}

/** @param count the best so many. */
export function survey(arena: Arena, item: Item, score: Scorer, count: number): Survey {
  const { memory, cpus, tie } = item;
  const { eligible } = item.class;
  const { cells, totalCpus } = arena;
  const overlay = item.overlay?.(arena.where) ?? null;
  const tiers = overlay?.tiers ?? item.class.tiers;
  const refused = { memory: 0, cpus: 0, pinning: 0, "vm-policy": 0 };
  const top: Ranked[] = [];
  // Written out for the formulas of SCH-6 and SCH-7, as in `pick`: each decision of a plan comes by here.
  const running = score === scoreRunning;
  const byLoad = running || score === scoreStopped;
  const from = running ? USED_MEMORY : PLACED_MEMORY;
  for (let k = 0; k < eligible.length; k++) {
    const i = eligible[k]!;
    const at = i * WIDTH;
    if (cells[at + USED_MEMORY]! + memory > cells[at + LIMIT_MEMORY]!) {
      refused.memory++;
      continue;
    }
    if (cells[at + USED_CPUS]! + cpus > cells[at + LIMIT_CPUS]!) {
      refused.cpus++;
      continue;
    }
    if (overlay !== null && overlay.blocked[i] !== 0) {
      refused[overlay.blocked[i] === BLOCKED_BY_PINNING ? "pinning" : "vm-policy"]++;
      continue;
    }
    const tier = tiers === null ? 0 : tiers[i]!;
    let mine: number;
    if (byLoad) {
      const share = running ? totalCpus : cells[at + CPUS]!;
      const physical = cells[at + MEMORY]!;
      mine = ((cells[at + from + 1]! + cpus) * physical + (cells[at + from]! + memory) * share) / (2 * share * physical);
    } else mine = score(arena, i, memory, cpus);
    let place = top.length;
    while (place > 0 && comesBefore(arena, tie, i, tier, mine, top[place - 1]!)) place--;
    if (place >= count) continue;
    top.splice(place, 0, { node: i, tier, score: mine });
    if (top.length > count) top.pop();
  }
  return { top, refused };
}

function comesBefore(arena: Arena, tie: number, node: number, tier: number, score: number, other: Ranked): boolean {
  if (tier !== other.tier) return tier < other.tier;
  if (score !== other.score) return score < other.score;
  return tieBefore(arena, tie, node, other.node);
}
