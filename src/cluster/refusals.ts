/** What a replica says when it cannot do what it is asked. */
import { RoostError } from "../base/errors.ts";
import type { Outcome } from "../state/outcome.ts";
import type { View } from "../model/view.ts";

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

interface Standing {
  state: View;
  voters: readonly number[];
  hasLeader: boolean;
  /** The cluster generation that left this node out; null if none did. */
  leftOut: number | null;
}

/** Time is over for something that needs the others. */
export function unavailable(what: string, { hasLeader, leftOut, state, voters }: Standing): RoostError {
  if (leftOut !== null) {
    return new RoostError(
      { kind: "unavailable", reason: `the cluster was recovered without this node (generation ${leftOut}): ${what}` },
      "ask another node; to bring this one back: roost cluster rejoin ADDRESS, or join anew with a token",
    );
  }
  const names = [...state.nodes.values()]
    .filter((node) => voters.includes(node.peerId))
    .map((node) => node.name)
    .toSorted();
  return new RoostError(
    { kind: "unavailable", reason: hasLeader ? what : `no leader: ${what}` },
    `a majority of the voters (${names.join(", ") || "none known"}) must be up and reach each other; --stale reads what this node has`,
  );
}
