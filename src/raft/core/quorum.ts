/** Majorities (paper section 5) and pairs of them (joint consensus, section 6). */
import type { PeerId } from "./types.ts";

export type VoteResult = "pending" | "lost" | "won";

const sorted: number[] = [];

/**
 * The highest index that a majority has acknowledged. A voter that is not known counts as 0. An empty set says Infinity, so
 * that the empty half of a joint pair leaves the decision to the other.
 */
export function committedIndex(voters: ReadonlySet<PeerId>, acked: (id: PeerId) => number | undefined): number {
  const count = voters.size;
  if (count === 0) return Number.POSITIVE_INFINITY;
  // Insertion sort into a list that is kept, ascending: voters are few and this runs for every acknowledgement.
  let filled = 0;
  for (const id of voters) {
    const index = acked(id) ?? 0;
    let at = filled++;
    for (; at > 0 && sorted[at - 1]! > index; at--) sorted[at] = sorted[at - 1]!;
    sorted[at] = index;
  }
  return sorted[count - (Math.floor(count / 2) + 1)]!;
}

/** The smaller of both halves' committed index: a joint decision needs both majorities. */
export function jointCommittedIndex(
  incoming: ReadonlySet<PeerId>,
  outgoing: ReadonlySet<PeerId>,
  acked: (id: PeerId) => number | undefined,
): number {
  const first = committedIndex(incoming, acked);
  return outgoing.size === 0 ? first : Math.min(first, committedIndex(outgoing, acked));
}

/** Where a vote stands; an empty set has won by convention (see committedIndex). */
export function voteResult(voters: ReadonlySet<PeerId>, votes: ReadonlyMap<PeerId, boolean>): VoteResult {
  if (voters.size === 0) return "won";
  let yes = 0;
  let missing = 0;
  for (const id of voters) {
    const vote = votes.get(id);
    if (vote === undefined) missing++;
    else if (vote) yes++;
  }
  const quorum = Math.floor(voters.size / 2) + 1;
  if (yes >= quorum) return "won";
  return yes + missing >= quorum ? "pending" : "lost";
}

/** Won only if both halves have won; lost as soon as one is. */
export function jointVoteResult(
  incoming: ReadonlySet<PeerId>,
  outgoing: ReadonlySet<PeerId>,
  votes: ReadonlyMap<PeerId, boolean>,
): VoteResult {
  const first = voteResult(incoming, votes);
  const second = voteResult(outgoing, votes);
  if (first === second) return first;
  return first === "lost" || second === "lost" ? "lost" : "pending";
}
