/**
 * Who should vote (RAFT-1): a pure rule, and the leader's small loop around it. A joining node becomes a learner first;
 * voters are an odd number, so that two nodes never make a group that either's death stops.
 */
import type { Membership } from "../model/membership.ts";
import type { Node } from "../model/node.ts";
import type { MembershipChange } from "./consensus/protocol.ts";

export const VOTERS_MAX = 5;

export interface MembershipInput {
  nodes: readonly Pick<Node, "peerId" | "state" | "role">[];
  membership: Membership;
  /** Learners whose logs have caught up. */
  caughtUp: readonly number[];
  votersMax: number;
}

/** The next change of Raft's membership, or none; one at a time, and none while a joint configuration is under way. */
export function nextMembershipChange(input: MembershipInput): MembershipChange[] {
  const { membership, caughtUp, votersMax } = input;
  if (membership.outgoing.length > 0) return [];
  const wanted = input.nodes.filter((node) => node.role !== "none" && node.state !== "removed");
  const known = new Set([...membership.voters, ...membership.learners]);
  const newcomers = wanted.filter((node) => !known.has(node.peerId)).map((node) => node.peerId);
  if (newcomers.length > 0) return newcomers.map((peerId) => ({ kind: "learner", peerId }));

  const healthy = wanted.filter((node) => node.state === "ready" || node.state === "disabled").map((node) => node.peerId);
  const ready = membership.learners.filter((peerId) => caughtUp.includes(peerId) && healthy.includes(peerId)).toSorted((a, b) => a - b);
  const target = largestOdd(Math.min(votersMax, membership.voters.length + ready.length));
  const missing = target - membership.voters.length;
  return missing <= 0 ? [] : ready.slice(0, missing).map((peerId) => ({ kind: "voter", peerId }));
}

function largestOdd(limit: number): number {
  return limit % 2 === 1 ? limit : limit - 1;
}
