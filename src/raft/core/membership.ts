/** The membership in force: taken from a ConfState at start and with a checkpoint, changed when a change is applied. */
import { assert, AssertionError } from "../../base/assert.ts";
import type { Membership } from "./confchange.ts";
import { changeMembership, restoreMembership } from "./confchange.ts";
import type { Raft } from "./raft.ts";
import { broadcastAppend, broadcastNews } from "./replicate.ts";
import { Tracker } from "./tracker.ts";
import { decodeConfChange } from "./confdata.ts";
import type { ConfChange, ConfState, Entry } from "./types.ts";
import { NONE } from "./types.ts";

/** Replaces the membership by the one described. */
export function restoreConfState(raft: Raft, state: ConfState): void {
  raft.tracker = new Tracker(raft.settings.maxInflightMessages, raft.settings.maxInflightBytes);
  const restored = switchTo(raft, restoreMembership(raft.tracker, raft.log.lastIndex(), state));
  assert(sameConfState(restored, state), `membership ${JSON.stringify(state)} was restored as ${JSON.stringify(restored)}`);
}

/** Applies a committed change. One that the configuration in force does not allow must not have been logged: that stops the peer. */
export function applyConfChange(raft: Raft, change: ConfChange): ConfState {
  const membership = changeMembership(raft.tracker, raft.log.lastIndex(), change);
  if (typeof membership === "string") {
    throw new AssertionError(`cannot apply membership change ${JSON.stringify(change.changes)}: ${membership}`);
  }
  return switchTo(raft, membership);
}

/** The membership after a committed `conf`/`conf-v1` entry, for who follows the log without being a peer. */
export function confStateAfter(before: ConfState, entry: Entry): ConfState {
  const tracker = new Tracker(1, 1);
  const from = restoreMembership(tracker, 0, before);
  tracker.adopt(from.sets, from.progress);
  const after = changeMembership(tracker, 0, decodeConfChange(entry));
  if (typeof after === "string") throw new AssertionError(`cannot follow the membership change at ${entry.index}: ${after}`);
  tracker.adopt(after.sets, after.progress);
  return tracker.confState();
}

function switchTo(raft: Raft, membership: Membership): ConfState {
  raft.tracker.adopt(membership.sets, membership.progress);
  const state = raft.tracker.confState();
  const self = raft.tracker.progress.get(raft.id);
  raft.isLearner = self?.isLearner ?? false;

  if (raft.role !== "leader") return state;
  if (self === undefined || raft.isLearner) {
    // It may go on leading without a vote of its own until somebody else takes over (paper section 6), or step down at once.
    if (raft.settings.stepDownOnRemoval) raft.becomeFollower(raft.term, NONE);
    return state;
  }
  if (state.voters.length === 0) return state;
  // A smaller quorum may commit more at once; a new peer should be probed at once.
  if (raft.maybeCommit()) broadcastAppend(raft);
  else broadcastNews(raft);
  if (raft.transferee !== NONE && !raft.tracker.isVoter(raft.transferee)) raft.transferee = NONE;
  return state;
}

function sameConfState(a: ConfState, b: ConfState): boolean {
  const same = (x: readonly number[], y: readonly number[]): boolean => {
    const left = x.toSorted((p, q) => p - q);
    const right = y.toSorted((p, q) => p - q);
    return left.length === right.length && left.every((id, i) => id === right[i]);
  };
  return (
    same(a.voters, b.voters) &&
    same(a.outgoing, b.outgoing) &&
    same(a.learners, b.learners) &&
    same(a.learnersNext, b.learnersNext) &&
    a.autoLeave === b.autoLeave
  );
}
