/** Who votes at one index; the shape of Raft's configuration state, stored with the tables it belongs to. */
export interface Membership {
  readonly voters: readonly number[];
  /** Non-empty only while the membership is in a joint configuration. */
  readonly outgoing: readonly number[];
  readonly learners: readonly number[];
  readonly learnersNext: readonly number[];
  readonly autoLeave: boolean;
}

/** Of the very first node, which bootstraps alone. */
export function firstMembership(peerId: number): Membership {
  return { voters: [peerId], outgoing: [], learners: [], learnersNext: [], autoLeave: false };
}

export const NO_MEMBERSHIP: Membership = { voters: [], outgoing: [], learners: [], learnersNext: [], autoLeave: false };

/** True for voters of either half of a joint membership, and for learners. */
export function isPeer(membership: Membership, peerId: number): boolean {
  const { voters, outgoing, learners, learnersNext } = membership;
  return [voters, outgoing, learners, learnersNext].some((peers) => peers.includes(peerId));
}
