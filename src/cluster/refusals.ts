/** What a replica says when it cannot do what it is asked. */
import { RoostError } from "../base/errors.ts";
import type { CommandResult, Outcome } from "../state/outcome.ts";

/**
 * For who waits when a checkpoint is taken over that is so much newer that the answer may have been forgotten in it: asking again under
 * another id could do it twice.
 */
export const LOST_TRACK: Outcome = {
  ok: false,
  fault: { kind: "unavailable", reason: "this node fell far behind meanwhile, and whether the change took effect is not known here" },
  hint: "look at its object, then ask again if need be",
};

export function stopping(): RoostError {
  return new RoostError({ kind: "unavailable", reason: "this node's agent is stopping" }, "ask another node");
}

export function tooMany(limit: number, what: string): RoostError {
  return new RoostError(
    { kind: "exhausted", reason: `${limit} ${what} are waiting on this node` },
    "try again in a moment, or ask another node",
  );
}

export const REMOVED_TEXT = "this node was removed from the cluster: move its data folder away and join again with a fresh token";

/** The answer to a request that was applied before. */
export function answered(outcome: Outcome): Promise<CommandResult> {
  return outcome.ok ? Promise.resolve(outcome.result) : Promise.reject(new RoostError(outcome.fault, outcome.hint));
}
