/** The leader's loop around the plan: proposes what is decided. What is to be done to a device, the chosen node does (fence-executor.ts). */
import type { Clock } from "../base/clock.ts";
import { asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { LeaderService } from "../cluster/leadership.ts";
import type { Store } from "../cluster/store.ts";
import type { FenceAttempt } from "../model/fencing.ts";
import type { Command } from "../state/commands.ts";
import { type FenceDecision, planFencing } from "./fence-plan.ts";
import type { HeartbeatSource } from "./supervisor.ts";

const LOOK_MS = 250;
const PROPOSE_LIMIT_MS = 5_000;

export interface FencerDeps {
  nodeId: string;
  store: Store;
  source: Pick<HeartbeatSource, "beats" | "leadingSinceMs">;
  clock: Clock;
  log: Logger;
}

export function fencerService({ nodeId, store, source, clock, log }: FencerDeps): LeaderService {
  let seenTerm = 0;
  let silentBefore = new Set<string>();
  /** What each attempt had come to → when it was first seen. */
  let seen = new Map<string, number>();

  return {
    name: "fencer",
    everyMs: LOOK_MS,
    onChange: true,
    async run(term) {
      const view = store.view();
      if (view.cluster === null || view.fencing === undefined || view.fencing.size === 0) return;
      if (term !== seenTerm) {
        seenTerm = term;
        seen = new Map();
        silentBefore = new Set([...view.nodes.values()].filter((node) => node.state === "unreachable").map((node) => node.id));
      }
      const nowMs = clock.monotonicMs();
      const heard = new Map(source.beats().map((beat) => [beat.nodeId, beat.lastBeatMs]));
      for (const id of silentBefore) if (heard.has(id) || view.nodes.get(id)?.state !== "unreachable") silentBefore.delete(id);
      const present = new Map<string, number>();
      const sinceMs = (attempt: FenceAttempt): number => {
        const key = `${attempt.id} ${attempt.tries} ${attempt.current?.number ?? "-"}`;
        const since = seen.get(key) ?? nowMs;
        present.set(key, since);
        return since;
      };
      const decisions = planFencing({
        nowMs,
        term,
        leaderId: nodeId,
        view,
        settings: view.cluster.settings,
        silentMs: (id) => nowMs - Math.max(source.leadingSinceMs(), heard.get(id) ?? -Infinity),
        silentBefore,
        sinceMs,
      });
      seen = present;
      for (const decision of decisions) {
        try {
          await store.propose(commandOf(decision), { actor: "leader", term, timeoutMs: PROPOSE_LIMIT_MS });
        } catch (error) {
          // The next look decides afresh, from what is committed by then.
          log.warn(`fencing: ${decision.kind} was not committed`, { nodeId: decision.nodeId, reason: asRoostError(error).message });
        }
      }
    },
  };
}

function commandOf(decision: FenceDecision): Command {
  switch (decision.kind) {
    case "begin":
      return { type: "fence.begin", nodeId: decision.nodeId, why: decision.why, auto: true };
    case "try": {
      const { kind: _, ...rest } = decision;
      return { type: "fence.try", ...rest };
    }
    case "end": {
      const { kind: _, ...rest } = decision;
      return { type: "fence.end", ...rest };
    }
  }
}
