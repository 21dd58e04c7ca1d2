/**
 * Why a VM went where it went (SCH-17). The plan is made again from the same view, request and seed, so nothing but those
 * three has to be kept.
 */
import { usageOf } from "../model/capacity.ts";
import type { Usage } from "../model/capacity.ts";
import type { Refusal } from "../model/placement.ts";
import type { Node } from "../model/node.ts";
import type { View } from "../model/view.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import { scorerOfItem } from "./attempt.ts";
import { playback } from "./certify.ts";
import { FILTERS, tierOf } from "./filters.ts";
import type { FilterContext } from "./filters.ts";
import { solve } from "./plan.ts";
import { promisedBy } from "./reasons.ts";
import { partsOf, scoreRunning, scoreStopped } from "./scorers.ts";
import type { PlanRequest } from "./types.ts";

/** What one node said to the VM. */
export interface Verdict {
  nodeId: string;
  nodeName: string;
  /** True for the node that was chosen. */
  chosen: boolean;
  /** Lowest wins; null if refused. */
  score: number | null;
  /** The two halves of SCH-6 or SCH-7, whose mean the balanced score is; null if refused, without facts, or scored by another rule. */
  parts: { cpu: number; memory: number } | null;
  /** 0 is preferred; a higher tier is used only if no lower one is left. */
  tier: number;
  /** All reasons against it, in the order of the chain; the first is the one counted. */
  refusals: Refusal[];
}

export interface Explanation {
  vmId: string;
  nodeId: string | null;
  /** Position among the decisions of the plan, from 0; null if it was not planned at all. */
  position: number | null;
  /** Set where the VM was not to be planned: held, has a node, … */
  refused: PendingReason[] | null;
  /** The best first, then the refused by node name. */
  verdicts: Verdict[];
}

/** Every node's verdict at the moment the plan decided about the VM. */
export function explain(view: View, request: PlanRequest, seed: string, vmId: string, usage: Usage = usageOf(view)): Explanation {
  const solved = solve(view, request, seed, usage);
  const { arena, items, outcome, score } = solved;
  const refused = solved.refused.get(vmId) ?? null;
  const answer: Explanation = { vmId, nodeId: null, position: null, refused, verdicts: [] };
  playback(arena, items, outcome.attempt, request.kind, (position, item) => {
    if (item.vm.id !== vmId) return;
    const context: FilterContext = { ...solved.context, inFlight: promisedBy(solved.context, arena, item), where: arena.where };
    const winner = outcome.attempt.node[outcome.attempt.order[position]!]!;
    answer.position = position;
    answer.nodeId = winner === -1 ? null : arena.nodes[winner]!.id;
    const scorer = scorerOfItem(items, outcome.attempt, outcome.attempt.order[position]!, score);
    answer.verdicts = arena.nodes.map((node, i) => {
      const refusals = refusalsOf(context, item.vm, node);
      return {
        nodeId: node.id,
        nodeName: node.name,
        chosen: i === winner,
        score: refusals.length === 0 ? scorer(arena, i, item.memory, item.cpus) : null,
        parts:
          refusals.length === 0 && (scorer === scoreRunning || scorer === scoreStopped)
            ? partsOf(arena, i, item.memory, item.cpus, scorer === scoreStopped)
            : null,
        tier: tierOf(context, item.vm, node),
        refusals,
      };
    });
  });
  answer.verdicts.sort(bestFirst);
  return answer;
}

function bestFirst(a: Verdict, b: Verdict): number {
  if (a.chosen !== b.chosen) return a.chosen ? -1 : 1;
  if ((a.score === null) !== (b.score === null)) return a.score === null ? 1 : -1;
  return a.tier - b.tier || (a.score ?? 0) - (b.score ?? 0) || (a.nodeName < b.nodeName ? -1 : 1);
}

/** Every filter's word; those that need the node's facts are not asked where it has told none. */
export function refusalsOf(context: FilterContext, vm: Vm, node: Node): Refusal[] {
  const refusals: Refusal[] = [];
  for (const filter of FILTERS) {
    const found = filter.refuse(context, vm, node);
    if (found === null) continue;
    refusals.push(found);
    if (found.code === "node-unknown") break;
  }
  return refusals;
}
