/**
 * Who should vote (RAFT-1), as a pure rule: nodes, zones and Raft's membership in, one step out. Voters are an odd number, so that two
 * nodes never make a group that either's death stops; all others follow and are no peers. docs/design/006-who-follows.md.
 */
import type { Membership } from "../model/membership.ts";
import type { Node } from "../model/node.ts";
import type { MembershipChange } from "./consensus/protocol.ts";

export interface MembershipInput {
  nodes: readonly Pick<Node, "peerId" | "state" | "role" | "zone" | "witness" | "removing">[];
  membership: Membership;
  /** Who is asked: the leader. */
  self: number;
  /** Learners whose logs have caught up. */
  caughtUp: readonly number[];
  /** How long the leader has not heard of a peer, ms; who is not in it is heard of all the time. */
  silentMs: ReadonlyMap<number, number>;
  /** `raft.voters` and `raft.replaceVoterMs`. */
  votersMax: number;
  replaceAfterMs: number;
}

/** One at a time, and none while a joint configuration is under way. `hand-over`: the leader must not take itself out. */
export type MembershipStep = { kind: "none" } | { kind: "change"; changes: MembershipChange[] } | { kind: "hand-over"; to: number[] };

/** A voter that is silent for longer does not count as alive when a change needs its vote. */
const ALIVE_MS = 3_000;

const NOTHING: MembershipStep = { kind: "none" };

export function nextMembershipStep(input: MembershipInput): MembershipStep {
  const { membership, caughtUp, self } = input;
  if (membership.outgoing.length > 0) return NOTHING;
  const wanted = desiredVoters(input);
  const newcomers = wanted.filter((id) => !membership.voters.includes(id));
  const leaving = membership.voters.filter((id) => !wanted.includes(id));

  const stray = membership.learners.filter((id) => !newcomers.includes(id));
  if (stray.length > 0) return change(stray.map((peerId) => ({ kind: "remove", peerId })));
  const unknown = newcomers.filter((id) => !membership.learners.includes(id));
  if (unknown.length > 0) return change(unknown.map((peerId) => ({ kind: "learner", peerId })));

  let ready = newcomers.filter((id) => caughtUp.includes(id));
  if (ready.length < newcomers.length) {
    // One that lags does not hold the others up, as long as the number stays odd and nobody leaves for it.
    if (leaving.length > 0) return NOTHING;
    const { length } = membership.voters;
    ready = ready.slice(0, Math.max(0, largestOdd(length + ready.length) - length));
  }
  if (ready.length === 0 && leaving.length === 0) return NOTHING;
  if (!mostAlive(input, membership.voters) || !mostAlive(input, wanted)) return NOTHING;
  if (leaving.includes(self)) {
    const to = membership.voters.filter((id) => wanted.includes(id) && isAlive(input, id));
    // Nobody of the present voters stays: the newcomers must be voters before it goes.
    if (to.length > 0) return { kind: "hand-over", to };
    return ready.length === 0 ? NOTHING : change(ready.map((peerId) => ({ kind: "voter", peerId })));
  }
  return change([
    ...ready.map((peerId): MembershipChange => ({ kind: "voter", peerId })),
    ...leaving.map((peerId): MembershipChange => ({ kind: "remove", peerId })),
  ]);
}

function change(changes: MembershipChange[]): MembershipStep {
  return { kind: "change", changes };
}

type Candidate = MembershipInput["nodes"][number];

/** Who should vote when everything has come to rest. */
function desiredVoters(input: MembershipInput): number[] {
  const { nodes, membership, votersMax, replaceAfterMs, silentMs } = input;
  const votes = (node: Candidate): boolean => membership.voters.includes(node.peerId);
  const stays = nodes.filter((node) => node.role !== "none" && node.state !== "removed" && node.removing === undefined);
  const healthy = (node: Candidate): boolean =>
    (node.state === "ready" || node.state === "disabled") && (silentMs.get(node.peerId) ?? 0) <= ALIVE_MS;
  const dead = (node: Candidate): boolean => votes(node) && (silentMs.get(node.peerId) ?? 0) > replaceAfterMs;

  const present = stays.filter(votes);
  const others = stays.filter((node) => !votes(node) && healthy(node));
  // Never fewer because of a death: a voter that cannot be replaced stays one.
  const target = largestOdd(Math.min(votersMax, present.length + others.length));
  const alive = present.filter((node) => !dead(node));
  const missing = present.filter(dead).slice(0, Math.max(0, target - alive.length - others.length));
  const keep = [...alive, ...missing];
  const least = choose(keep, others, target, { votes, healthy });
  if (!keep.every(healthy)) return ids(least);
  const best = choose([], [...keep, ...others], target, { votes, healthy });
  return ids(unevenness(best) < unevenness(least) ? best : least);
}

/** `kept`, cut or filled up to `target`, one after the other into the zone that has fewest. */
function choose(
  kept: readonly Candidate[],
  others: readonly Candidate[],
  target: number,
  { votes, healthy }: Record<"votes" | "healthy", (node: Candidate) => boolean>,
): Candidate[] {
  const chosen: Candidate[] = [];
  const take = (from: readonly Candidate[]): void => {
    const left = new Set(from);
    while (chosen.length < target && left.size > 0) {
      const [next] = [...left].toSorted(
        (a, b) =>
          // Where there are too many voters, a silent one goes first: it could not agree to the change.
          Number(healthy(b)) - Number(healthy(a)) ||
          inZone(chosen, a) - inZone(chosen, b) ||
          Number(b.witness === true) - Number(a.witness === true) ||
          Number(votes(b)) - Number(votes(a)) ||
          a.peerId - b.peerId,
      );
      left.delete(next!);
      chosen.push(next!);
    }
  };
  take(kept);
  take(others);
  return chosen;
}

function inZone(nodes: readonly Candidate[], node: Candidate): number {
  return nodes.filter((other) => other.zone === node.zone).length;
}

/** Sum of squares of voters per zone: smaller is more even, over more zones. */
function unevenness(nodes: readonly Candidate[]): number {
  return nodes.reduce((sum, node) => sum + inZone(nodes, node), 0);
}

function ids(nodes: readonly Candidate[]): number[] {
  return nodes.map((node) => node.peerId).toSorted((a, b) => a - b);
}

function isAlive({ silentMs }: MembershipInput, peerId: number): boolean {
  return (silentMs.get(peerId) ?? 0) <= ALIVE_MS;
}

function mostAlive(input: MembershipInput, peers: readonly number[]): boolean {
  return peers.filter((id) => isAlive(input, id)).length * 2 > peers.length;
}

/** At least 1. */
function largestOdd(limit: number): number {
  return Math.max(1, limit % 2 === 1 ? limit : limit - 1);
}
