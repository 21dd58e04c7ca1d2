/** What a replica says when it cannot do what it is asked. */
import { RoostError } from "../base/errors.ts";
import type { Outcome } from "../state/outcome.ts";

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
