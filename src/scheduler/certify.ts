/** Goes through an attempt again and notes what each decision saw (SCH-17). */
import { mark, rewind } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { lift, scorerOfItem, settle } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import { FILTERS } from "./filters.ts";
import type { Item } from "./items.ts";
import type { Scorer } from "./scorers.ts";
import { survey } from "./survey.ts";
import type { Survey } from "./survey.ts";
import type { Decision, PlanKind } from "./types.ts";

const TOP = 5;

/** Called at the moment of a decision, with the item's own part taken out of the arena's sums. */
export type Watch = (position: number, item: Item) => void;

/** Plays the attempt's decisions on the arena, calling `watch` before each; leaves the arena as it was. */
export function playback(arena: Arena, items: readonly Item[], attempt: Attempt, kind: PlanKind, watch: Watch): void {
  const before = mark(arena);
  for (const [position, k] of attempt.order.entries()) {
    const item = items[k]!;
    lift(arena, item, kind);
    watch(position, item);
    settle(arena, item, attempt.node[k]!, kind);
  }
  rewind(arena, before);
}

export function certify(arena: Arena, items: readonly Item[], attempt: Attempt, planScore: Scorer, kind: PlanKind): Decision[] {
  const decisions: Decision[] = [];
  playback(arena, items, attempt, kind, (position, item) => {
    const score = scorerOfItem(items, attempt, attempt.order[position]!, planScore);
    const winner = attempt.node[attempt.order[position]!]!;
    const seen = survey(arena, item, score, TOP);
    decisions.push({
      vmId: item.vm.id,
      nodeId: winner === -1 ? null : arena.nodes[winner]!.id,
      score: winner === -1 ? null : score(arena, winner, item.memory, item.cpus),
      refused: allRefused(item, seen),
      top: seen.top.map((one) => ({ nodeId: arena.nodes[one.node]!.id, score: one.score })),
    });
  });
  return decisions;
}

/** By code in the order of the filter chain, those of the fixed filters as well. */
function allRefused(item: Item, seen: Survey): Record<string, number> {
  const refused: Record<string, number> = {};
  for (const { code } of FILTERS) {
    const nodes = code in seen.refused ? seen.refused[code as keyof Survey["refused"]] : (item.class.refused.get(code) ?? 0);
    if (nodes > 0) refused[code] = nodes;
  }
  return refused;
}
