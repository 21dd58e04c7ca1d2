/** Rules broken one at a time, to see that the simulation finds each: in the driver, or by replacing a method of the core. */
import { RaftLog } from "../../src/raft/core/log.ts";
import { committedIndex } from "../../src/raft/core/quorum.ts";
import { Raft } from "../../src/raft/core/raft.ts";
import { Tracker } from "../../src/raft/core/tracker.ts";
import { Unstable } from "../../src/raft/core/unstable.ts";
import type { Entry } from "../../src/raft/core/types.ts";
import type { DriverFaults } from "./core-peer.ts";
import { type Mutation, replace } from "./replace.ts";

/** Not among them: committing an old term's entry by counting (paper figure 8) is too rare here; the paper's test has it. */
export const MUTATIONS: readonly Mutation<DriverFaults>[] = [
  { name: "acknowledge before the fsync", seed: 1, faults: { skipFsync: true } },
  { name: "forget the vote in a crash", seed: 77, faults: { forgetVote: true } },
  { name: "forget the term in a crash", seed: 5, faults: { forgetHardState: true } },
  { name: "keep the old membership when a checkpoint comes", seed: 9, faults: { ignoreCheckpointMembership: true } },
  { name: "apply a membership change when it is appended", seed: 4, faults: { applyChangeEarly: true } },
  { name: "vote for a shorter log", seed: 6, break: replace(RaftLog.prototype, "isUpToDate", () => () => true) },
  { name: "take an append that does not fit", seed: 1, break: replace(RaftLog.prototype, "maybeAppend", () => appendAnyhow) },
  { name: "count one acknowledgement as a quorum", seed: 6, break: replace(Tracker.prototype, "committed", () => highestMatch) },
  { name: "win an election with one vote", seed: 1, break: replace(Tracker.prototype, "recordVote", () => () => "won") },
  { name: "answer reads without a quorum", seed: 165, break: replace(Tracker.prototype, "isSingleton", () => () => true) },
  {
    name: "answer reads before the first commit of the term",
    seed: 21,
    break: replace(Raft.prototype, "hasCommittedInTerm", () => () => true),
  },
  { name: "keep a conflicting tail", seed: 5, break: replace(Unstable.prototype, "truncateAndAppend", () => appendOnly) },
  { name: "promise before it is durable", seed: 8, break: replace(Raft.prototype, "send", (original) => sendAtOnce(original)) },
  { name: "forget that a checkpoint is waiting", seed: 3, break: replace(RaftLog.prototype, "hasCheckpoint", () => () => false) },
  { name: "vote again in the same term", seed: 77, break: replace(Raft.prototype, "becomeFollower", (original) => forgetVote(original)) },
  { name: "ask only the new half of a joint membership", seed: 129, break: replace(Tracker.prototype, "committed", () => incomingOnly) },
  { name: "never commit", seed: 1, break: replace(Raft.prototype, "maybeCommit", () => () => false) },
  { name: "never campaign", seed: 1, break: replace(Raft.prototype, "promotable", () => () => false) },
  { name: "lose the last entry of every append", seed: 4, break: replace(RaftLog.prototype, "append", (original) => loseLast(original)) },
  { name: "believe every acknowledgement of a write", seed: 1, break: replace(Unstable.prototype, "stableTo", () => stableAll) },
];

function incomingOnly(this: Tracker): number {
  return committedIndex(this.sets.incoming, (id) => this.progress.get(id)?.match);
}

function appendAnyhow(this: RaftLog, previous: { index: number }, entries: readonly Entry[], committed: number): number {
  const last = previous.index + entries.length;
  if (previous.index > this.lastIndex()) return this.lastIndex();
  if (entries.length > 0 && entries[0]!.index > this.committed) this.append(entries);
  this.commitTo(Math.min(committed, last, this.lastIndex()));
  return last;
}

function highestMatch(this: Tracker): number {
  return Math.max(0, ...[...this.progress.values()].map(({ match }) => match));
}

function appendOnly(this: Unstable, entries: readonly Entry[]): void {
  const next = this.offset + this.entries.length;
  for (const entry of entries) if (entry.index >= next) this.entries.push(entry);
}

function sendAtOnce(original: Raft["send"]): Raft["send"] {
  return function (this: Raft, m) {
    original.call(this, m);
    const waiting = this.messagesAfterAppend;
    this.messagesAfterAppend = waiting.filter(({ to }) => to === this.id);
    this.messages.push(...waiting.filter(({ to }) => to !== this.id));
  };
}

function forgetVote(original: Raft["becomeFollower"]): Raft["becomeFollower"] {
  return function (this: Raft, term, lead) {
    original.call(this, term, lead);
    this.vote = 0;
  };
}

function loseLast(original: RaftLog["append"]): RaftLog["append"] {
  return function (this: RaftLog, entries) {
    const index = original.call(this, entries.length > 1 ? entries.slice(0, -1) : entries);
    return entries.length > 1 ? entries.at(-1)!.index : index;
  };
}

function stableAll(this: Unstable): void {
  this.offset += this.entries.length;
  this.entries = [];
  this.acceptInProgress();
}
