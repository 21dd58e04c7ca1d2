/** Goes through an attempt again and notes what each decision saw (SCH-17). */
import { fits } from "../model/capacity.ts";
import { LIMIT_CPUS, LIMIT_MEMORY, USED_CPUS, USED_MEMORY, WIDTH, mark, rewind } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { lift, scorerOfItem, settle } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import { FILTERS } from "./filters.ts";
import { BLOCKED_BY_PINNING, BLOCKED_BY_POLICY } from "./items.ts";
import type { Item } from "./items.ts";
import { first } from "./pick.ts";
import type { Scorer } from "./scorers.ts";
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
    decisions.push({
      vmId: item.vm.id,
      nodeId: winner === -1 ? null : arena.nodes[winner]!.id,
      score: winner === -1 ? null : score(arena, winner, item.memory, item.cpus),
      refused: refusedNow(arena, item),
      top: first(arena, item, score, TOP).map((one) => ({ nodeId: arena.nodes[one.node]!.id, score: one.score })),
    });
  });
  return decisions;
}

/** Nodes refused by code, capacity as the arena has it now. */
function refusedNow(arena: Arena, item: Item): Record<string, number> {
  let memory = 0;
  let cpus = 0;
  let [others, pinning] = [0, 0];
  const overlay = item.overlay?.(arena.where) ?? null;
  for (const i of item.class.eligible) {
    if (!fits(arena.cells[i * WIDTH + USED_MEMORY]!, item.memory, arena.cells[i * WIDTH + LIMIT_MEMORY]!)) memory++;
    else if (!fits(arena.cells[i * WIDTH + USED_CPUS]!, item.cpus, arena.cells[i * WIDTH + LIMIT_CPUS]!)) cpus++;
    else if (overlay?.blocked[i] === BLOCKED_BY_PINNING) pinning++;
    else if (overlay?.blocked[i] === BLOCKED_BY_POLICY) others++;
  }
  const counts = new Map([...item.class.refused, ["memory", memory], ["cpus", cpus], ["pinning", pinning], ["vm-policy", others]] as [
    string,
    number,
  ][]);
  const refused: Record<string, number> = {};
  for (const { code } of FILTERS) if ((counts.get(code) ?? 0) > 0) refused[code] = counts.get(code)!;
  return refused;
}
