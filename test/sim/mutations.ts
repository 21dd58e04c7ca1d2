/**
 * Rules broken one at a time, to see that the simulation finds each: by a disk that lies, by messages between the threads that are
 * changed on their way, or by another method in the place of the product's own. `seed` is one that catches it, as
 * `scripts/sim.ts --mutation NAME` found it; any change of the product may move it.
 */
import { Follower } from "../../src/cluster/consensus/follower.ts";
import { Rounds } from "../../src/cluster/consensus/rounds.ts";
import type { FromConsensus, ToConsensus } from "../../src/cluster/consensus/protocol.ts";
import { decodeConfChange } from "../../src/raft/core/confdata.ts";
import { TRANSFER_CONTEXT } from "../../src/raft/core/election.ts";
import { RaftLog } from "../../src/raft/core/log.ts";
import { applyConfChange } from "../../src/raft/core/membership.ts";
import { RaftNode } from "../../src/raft/core/node.ts";
import { Raft } from "../../src/raft/core/raft.ts";
import { Tracker } from "../../src/raft/core/tracker.ts";
import type { Entry } from "../../src/raft/core/types.ts";
import { Unstable } from "../../src/raft/core/unstable.ts";
import { LevelLog } from "../../src/raft/storage/level.ts";
import { firstMembership } from "../../src/model/membership.ts";
import { State } from "../../src/state/state.ts";
import { type SimFaults, simulateRaft } from "./raft.ts";
import { type Mutation, replace } from "./replace.ts";

export const MUTATIONS: readonly Mutation<SimFaults>[] = [
  // ---- Disk ----
  { name: "skip fsync", seed: 1, faults: { skipFsync: true } },
  { name: "skip the fsync of the tables before the log is cut", seed: 10, faults: { skipStateFsync: true } },
  { name: "leave half of a batch in a power cut", seed: 2, faults: { tornBatches: true } },
  { name: "take damaged records for whole ones", seed: 32, faults: { noChecksums: true } },
  { name: "write the applied index apart from the rows", seed: 1, faults: { splitBatches: true } },
  { name: "acknowledge before the fsync", seed: 1, break: replace(LevelLog.prototype, "append", (original) => doNotWait(original)) },
  { name: "forget the vote in a crash", seed: 230, break: initialHardState((hard) => ({ ...hard, vote: 0 })) },
  {
    name: "forget the term in a crash",
    seed: 64,
    break: initialHardState((hard) => ({ ...hard, term: Math.max(0, hard.term - 1), vote: 0 })),
  },
  {
    name: "send votes without writing them",
    seed: 125,
    break: replace(LevelLog.prototype, "append", (original) => withoutVotes(original)),
  },

  // ---- Log and commit ----
  { name: "commit an old term's entry by counting", seed: 28, break: replace(RaftLog.prototype, "maybeCommit", () => commitAnyTerm) },
  { name: "count one acknowledgement as a quorum", seed: 5, break: replace(Tracker.prototype, "committed", () => highestMatch) },
  { name: "take an append that does not fit", seed: 9, break: replace(RaftLog.prototype, "maybeAppend", () => appendAnyhow) },
  { name: "keep a conflicting tail", seed: 22, break: replace(Unstable.prototype, "truncateAndAppend", () => appendOnly) },
  { name: "promise before it is durable", seed: 2, break: replace(Raft.prototype, "send", (original) => sendAtOnce(original)) },
  { name: "believe every acknowledgement of a write", seed: 2, break: replace(Unstable.prototype, "stableTo", () => stableAll) },
  { name: "lose the last entry of an append", seed: 2, break: replace(RaftLog.prototype, "append", (original) => loseLast(original)) },
  { name: "apply a membership change when it is appended", seed: 2, ...applyEarly() },

  {
    name: "truncate at every append",
    seed: 2,
    break: replace(RaftLog.prototype as unknown as Conflicts, "findConflict", () => alwaysFirst),
  },
  { name: "skip an entry of a follower's stream", seed: 2, break: replace(Follower.prototype, "onFeed", (original) => skipFed(original)) },

  // ---- Elections ----
  { name: "vote for a shorter log", seed: 14, break: replace(RaftLog.prototype, "isUpToDate", () => () => true) },
  { name: "win an election with one vote", seed: 2, break: replace(Tracker.prototype, "recordVote", () => () => "won") },
  { name: "vote again in the same term", seed: 230, break: replace(Raft.prototype, "becomeFollower", (original) => forgetVote(original)) },
  { name: "drop the PreVote check", seed: 22, faults: { core: (raft) => settings(raft, { preVote: false }) } },
  { name: "lead without asking whether a quorum listens", seed: 55, faults: { core: (raft) => settings(raft, { checkQuorum: false }) } },
  {
    name: "hear every candidate while a leader lives",
    seed: 41,
    break: replace(RaftNode.prototype, "step", (original) => hearEverybody(original)),
  },
  { name: "never campaign", seed: 1, break: replace(Raft.prototype, "promotable", () => () => false) },

  // ---- Reads ----
  { name: "answer reads without a quorum", seed: 356, break: replace(Tracker.prototype, "isSingleton", () => () => true) },
  {
    name: "take an older round's answer for this one's",
    seed: 16,
    break: replace(Rounds.prototype, "join", (original) => joinLate(original)),
  },
  { name: "read before the tables are there", seed: 3, faults: { hears: (_, message) => [readsAtOnce(message)] } },
  { name: "call a stale read linearizable", seed: 2, faults: { read: (replica) => Promise.resolve(replica.view() as State) } },

  // ---- Tables ----
  { name: "drop the request dedupe", seed: 1, break: replace(State.prototype, "write", (original) => forgetRequests(original)) },
  {
    name: "hand a batch out twice",
    seed: 1,
    faults: { hears: (_, message) => (message.kind === "apply" ? [message, message] : [message]) },
  },
  { name: "skip an entry", seed: 1, faults: { hears: (_, message) => [skipEntry(message)] } },
  { name: "forget the membership in a checkpoint", seed: 2, faults: { says: (_, message) => [founderOnly(message)] } },
];

function settings(raft: Raft, change: Partial<Raft["settings"]>): void {
  (raft as { settings: Raft["settings"] }).settings = { ...raft.settings, ...change };
}

function doNotWait(original: LevelLog["append"]): LevelLog["append"] {
  return function (this: LevelLog, write, sync) {
    // A write that fails is told by the next one.
    original.call(this, write, sync).catch(() => {});
    return Promise.resolve();
  };
}

function initialHardState(change: (hard: { term: number; vote: number; commit: number }) => typeof hard): () => () => void {
  return replace(
    LevelLog.prototype,
    "initialState",
    (original) =>
      function (this: LevelLog) {
        const state = original.call(this);
        return { ...state, hardState: change(state.hardState) };
      },
  );
}

function withoutVotes(original: LevelLog["append"]): LevelLog["append"] {
  return function (this: LevelLog, write, sync) {
    return original.call(this, write.entries.length === 0 && write.checkpoint === null ? { ...write, hardState: null } : write, sync);
  };
}

function commitAnyTerm(this: RaftLog, index: number, term: number): boolean {
  if (term === 0 || index <= this.committed) return false;
  this.commitTo(index);
  return true;
}

interface Conflicts {
  findConflict(entries: readonly Entry[]): number;
}

function alwaysFirst(entries: readonly Entry[]): number {
  return entries[0]?.index ?? 0;
}

function skipFed(original: Follower["onFeed"]): Follower["onFeed"] {
  return function (this: Follower, from, feed) {
    const entries = feed.append.entries.filter(({ index }) => index % 10 !== 0);
    original.call(this, from, { ...feed, append: { ...feed.append, entries } });
  };
}

function highestMatch(this: Tracker): number {
  return Math.max(0, ...[...this.progress.values()].map(({ match }) => match));
}

function appendAnyhow(this: RaftLog, previous: { index: number }, entries: readonly Entry[], committed: number): number {
  const last = previous.index + entries.length;
  if (previous.index > this.lastIndex()) return this.lastIndex();
  if (entries.length > 0 && entries[0]!.index > this.committed) this.append(entries);
  this.commitTo(Math.min(committed, last, this.lastIndex()));
  return last;
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

function stableAll(this: Unstable): void {
  this.offset += this.entries.length;
  this.entries = [];
  this.acceptInProgress();
}

function loseLast(original: RaftLog["append"]): RaftLog["append"] {
  return function (this: RaftLog, entries) {
    const index = original.call(this, entries.length > 1 ? entries.slice(0, -1) : entries);
    return entries.length > 1 ? entries.at(-1)!.index : index;
  };
}

function applyEarly(): Pick<Mutation<SimFaults>, "faults" | "break"> {
  const owners = new WeakMap<RaftLog, Raft>();
  return {
    faults: { core: (raft) => owners.set(raft.log, raft) },
    break: replace(
      RaftLog.prototype,
      "append",
      (original) =>
        function (this: RaftLog, entries) {
          const index = original.call(this, entries);
          const raft = owners.get(this);
          for (const entry of entries) if (entry.kind === "conf" && raft !== undefined) applyConfChange(raft, decodeConfChange(entry));
          return index;
        },
    ),
  };
}

function forgetVote(original: Raft["becomeFollower"]): Raft["becomeFollower"] {
  return function (this: Raft, term, lead) {
    original.call(this, term, lead);
    this.vote = 0;
  };
}

function hearEverybody(original: RaftNode["step"]): RaftNode["step"] {
  return function (this: RaftNode, m) {
    // As if the leader itself had asked for the election.
    const isVote = m.type === "vote" || m.type === "pre-vote";
    return original.call(this, isVote ? { ...m, context: TRANSFER_CONTEXT } : m);
  };
}

function joinLate(original: Rounds["join"]): Rounds["join"] {
  let answered: { rounds: Rounds; index: number } | null = null;
  return function (this: Rounds, nowMs, end) {
    if (answered?.rounds === this) {
      const { index } = answered;
      answered = null;
      return end(index);
    }
    original.call(this, nowMs, (index) => {
      answered = { rounds: this, index };
      end(index);
    });
  };
}

function readsAtOnce(message: FromConsensus): FromConsensus {
  return message.kind === "read-ready" ? { ...message, index: 0 } : message;
}

function forgetRequests(original: State["write"]): State["write"] {
  return function (this: State, change) {
    if (change.table !== "requests" && change.table !== "callers") original.call(this, change);
  };
}

function skipEntry(message: FromConsensus): FromConsensus {
  if (message.kind !== "apply") return message;
  return { ...message, entries: message.entries.filter(({ index }) => index % 50 !== 0) };
}

function founderOnly(message: ToConsensus): ToConsensus {
  return message.kind === "checkpoint" ? { ...message, membership: firstMembership(1) } : message;
}

/** Runs a seed with the rule broken; what the checks said, or null if they saw nothing. */
export async function runBroken(mutation: Mutation<SimFaults>, seed: number): Promise<string | null> {
  const repair = mutation.break?.() ?? ((): void => undefined);
  try {
    await simulateRaft(seed, { quiet: true, ...(mutation.faults === undefined ? {} : { faults: mutation.faults }) });
    return null;
  } catch (error) {
    return error instanceof Error ? error.message.split("\n")[0]! : String(error);
  } finally {
    repair();
  }
}
