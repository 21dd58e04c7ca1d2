/** Rules broken one at a time, to see that the simulation finds each: in the driver, or by replacing a method of the core. */
import { RaftLog } from "../../src/raft/core/log.ts";
import { Raft } from "../../src/raft/core/raft.ts";
import { Tracker } from "../../src/raft/core/tracker.ts";
import { Unstable } from "../../src/raft/core/unstable.ts";
import type { Entry } from "../../src/raft/core/types.ts";
import type { DriverFaults } from "./core-peer.ts";
import { replace } from "./replace.ts";

export interface Mutation {
  readonly name: string;
  readonly faults?: DriverFaults;
  /** Breaks a class; what it returns repairs it. */
  readonly break?: () => () => void;
}

/** Not among them: committing an old term's entry by counting (paper figure 8) is too rare here; the paper's test has it. */
export const MUTATIONS: readonly Mutation[] = [
  { name: "acknowledge before the fsync", faults: { skipFsync: true } },
  { name: "forget the vote in a crash", faults: { forgetVote: true } },
  { name: "forget the term in a crash", faults: { forgetHardState: true } },
  { name: "keep the old membership when a checkpoint comes", faults: { ignoreCheckpointMembership: true } },
  { name: "apply a membership change when it is appended", faults: { applyChangeEarly: true } },
  { name: "vote for a shorter log", break: replace(RaftLog.prototype, "isUpToDate", () => () => true) },
  { name: "take an append that does not fit", break: replace(RaftLog.prototype, "maybeAppend", () => appendAnyhow) },
  { name: "count one acknowledgement as a quorum", break: replace(Tracker.prototype, "committed", () => highestMatch) },
  { name: "win an election with one vote", break: replace(Tracker.prototype, "recordVote", () => () => "won") },
  { name: "answer reads without a quorum", break: replace(Tracker.prototype, "isSingleton", () => () => true) },
  { name: "answer reads before the first commit of the term", break: replace(Raft.prototype, "hasCommittedInTerm", () => () => true) },
  { name: "keep a conflicting tail", break: replace(Unstable.prototype, "truncateAndAppend", () => appendOnly) },
  { name: "promise before it is durable", break: replace(Raft.prototype, "send", (original) => sendAtOnce(original)) },
  { name: "forget that a checkpoint is waiting", break: replace(RaftLog.prototype, "hasCheckpoint", () => () => false) },
  { name: "vote again in the same term", break: replace(Raft.prototype, "becomeFollower", (original) => forgetVote(original)) },
  { name: "never commit", break: replace(Raft.prototype, "maybeCommit", () => () => false) },
  { name: "never campaign", break: replace(Raft.prototype, "promotable", () => () => false) },
  { name: "lose the last entry of every append", break: replace(RaftLog.prototype, "append", (original) => loseLast(original)) },
  { name: "believe every acknowledgement of a write", break: replace(Unstable.prototype, "stableTo", () => stableAll) },
];

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
