import { assert, AssertionError } from "../../base/assert.ts";
import { RaftLog } from "./log.ts";
import { message, NO_DATA } from "./message.ts";
import { ReadQueue } from "./reads.ts";
import { payloadSize } from "./sizes.ts";
import { Tracker } from "./tracker.ts";
import type { Entry, HardState, Message, PeerId, RaftConfig, ReadState, Role, SoftState } from "./types.ts";
import { NO_LIMIT, NONE } from "./types.ts";

/** The configuration with every default filled in and checked. */
export type Settings = Required<Omit<RaftConfig, "log">> & Pick<RaftConfig, "log">;

function settingsOf(config: RaftConfig): Settings {
  const settings: Settings = {
    ...config,
    applied: config.applied ?? 0,
    asyncStorageWrites: config.asyncStorageWrites ?? false,
    maxCommittedSizePerReady: config.maxCommittedSizePerReady || config.maxSizePerMessage,
    maxUncommittedSize: config.maxUncommittedSize || NO_LIMIT,
    maxInflightBytes: config.maxInflightBytes || NO_LIMIT,
    checkQuorum: config.checkQuorum ?? false,
    preVote: config.preVote ?? false,
    reads: config.reads ?? "safe",
    hastySingleReads: config.hastySingleReads ?? false,
    disableProposalForwarding: config.disableProposalForwarding ?? false,
    disableConfChangeValidation: config.disableConfChangeValidation ?? false,
    stepDownOnRemoval: config.stepDownOnRemoval ?? false,
  };
  assert(Number.isSafeInteger(config.id) && config.id > 0, "a peer id is a positive integer");
  assert(config.heartbeatTicks > 0, "heartbeatTicks must be greater than 0");
  assert(config.electionTicks > config.heartbeatTicks, "electionTicks must be greater than heartbeatTicks");
  assert(config.maxInflightMessages > 0, "maxInflightMessages must be greater than 0");
  assert(settings.maxInflightBytes >= config.maxSizePerMessage, "maxInflightBytes must not be less than maxSizePerMessage");
  assert(settings.reads === "safe" || settings.checkQuorum, "lease reads need checkQuorum");
  return settings;
}

/**
 * The state of one Raft peer and its transitions between roles. What it does with messages is in step.ts and roles/; this
 * class only keeps the rules that hold for all of them. It does no I/O: outgoing messages pile up in `messages` and
 * `messagesAfterAppend` until ready.ts hands them out.
 */
export class Raft {
  readonly id: PeerId;
  readonly settings: Settings;
  readonly log: RaftLog;
  tracker: Tracker;

  term = 0;
  vote: PeerId = NONE;
  role: Role = "follower";
  lead: PeerId = NONE;
  isLearner = false;

  /** May be sent at once. */
  messages: Message[] = [];
  /** Promises about the durable state (acknowledged appends, votes): sent only when everything unstable is durable. */
  messagesAfterAppend: Message[] = [];
  readStates: ReadState[] = [];

  /** Peer that the leader is handing over to. */
  transferee: PeerId = NONE;
  /** Leader: no new membership change before this index is applied. */
  pendingConfIndex = 0;
  /** Leader: payload bytes of its uncommitted entries. */
  uncommittedSize = 0;
  reads = new ReadQueue();
  /** Leader: reads that came before the first commit of its term; it cannot know the commit index yet (thesis 6.4). */
  earlyReads: Message[] = [];

  /** Ticks since the last sign of the leader (follower), the last quorum check (leader), the last campaign (candidate). */
  electionElapsed = 0;
  heartbeatElapsed = 0;
  /** Grows the election time by chance, so that votes split rarely (paper section 5.2). */
  randomizedElectionTicks = 0;

  constructor(config: RaftConfig) {
    this.settings = settingsOf(config);
    this.id = config.id;
    this.log = new RaftLog(config.storage, this.settings.maxCommittedSizePerReady);
    this.tracker = new Tracker(this.settings.maxInflightMessages, this.settings.maxInflightBytes);
  }

  /** Takes the durable state over after a restart. */
  load(state: HardState): void {
    const last = this.log.lastIndex();
    assert(
      state.commit >= this.log.committed && state.commit <= last,
      `the stored commit index ${state.commit} is outside of the log [${this.log.committed}, ${last}]`,
    );
    this.log.committed = state.commit;
    this.term = state.term;
    this.vote = state.vote;
  }

  hardState(): HardState {
    return { term: this.term, vote: this.vote, commit: this.log.committed };
  }

  softState(): SoftState {
    return { lead: this.lead, role: this.role };
  }

  say(level: "debug" | "info" | "warn", text: string): void {
    this.settings.log?.(level, `raft ${this.id} (term ${this.term}): ${text}`);
  }

  /**
   * Queues a message. Elections carry a term of their own choice; proposals, reads and transfer requests travel without one
   * (they may pass through several peers); all else carries ours.
   */
  send(m: Message): void {
    if (m.from === NONE) m.from = this.id;
    switch (m.type) {
      case "vote-reply":
      case "pre-vote-reply":
      case "vote":
      case "pre-vote":
        if (m.term === 0) throw new AssertionError(`${m.type} needs a term`);
        break;
      case "propose":
      case "read-index":
        if (m.term !== 0) throw new AssertionError(`${m.type} belongs to no term`);
        break;
      default:
        if (m.term !== 0) throw new AssertionError(`${m.type} gets its term when sent`);
        m.term = this.term;
    }
    if (m.type === "append-reply" || m.type === "vote-reply" || m.type === "pre-vote-reply") {
      // Paper section 5.1: what these promise must be durable first. Ours to ourselves too: we count only what we have stored.
      this.messagesAfterAppend.push(m);
      return;
    }
    if (m.to === this.id) throw new AssertionError(`${m.type} to oneself`);
    this.messages.push(m);
  }

  /** True if this peer may become leader: a voter, and not about to be replaced by a checkpoint. */
  promotable(): boolean {
    const self = this.tracker.progress.get(this.id);
    return self !== undefined && !self.isLearner && !this.log.hasCheckpoint();
  }

  becomeFollower(term: number, lead: PeerId): void {
    this.reset(term);
    this.lead = lead;
    this.role = "follower";
    this.say("info", lead === NONE ? "follower, no leader known" : `follower of ${lead}`);
  }

  becomeCandidate(): void {
    assert(this.role !== "leader", "a leader does not campaign");
    this.reset(this.term + 1);
    this.vote = this.id;
    this.role = "candidate";
    this.say("info", "candidate");
  }

  /** Asks who would vote for us, without touching term and vote: the others are not disturbed (thesis 9.6). */
  becomePreCandidate(): void {
    assert(this.role !== "leader", "a leader does not campaign");
    this.tracker.resetVotes();
    this.lead = NONE;
    this.role = "pre-candidate";
    this.say("info", "pre-candidate");
  }

  becomeLeader(): void {
    assert(this.role !== "follower", "a follower must campaign first");
    this.reset(this.term);
    this.lead = this.id;
    this.role = "leader";
    const self = this.tracker.progress.get(this.id);
    assert(self !== undefined, "an untracked peer became leader");
    self.becomeReplicate();
    self.recentActive = true;
    // There may be a change anywhere in our tail; waiting for all of it is cheaper than looking (etcd 7625, thesis 4.1 erratum).
    this.pendingConfIndex = this.log.lastIndex();
    // Only an entry of our own term can be committed by counting (paper section 5.4.2), and reads wait for that.
    const accepted = this.appendEntries([{ term: 0, index: 0, kind: "empty", data: NO_DATA }]);
    assert(accepted, "the first entry of a term has no payload and cannot be over quota");
    this.say("info", "leader");
  }

  /** Leader: adds entries to its log with its term and the next indexes; false if that would break the quota of uncommitted bytes. */
  appendEntries(entries: readonly Entry[]): boolean {
    const last = this.log.lastIndex();
    const own: Entry[] = [];
    for (const { kind, data } of entries) own.push({ term: this.term, index: last + 1 + own.length, kind, data });
    if (!this.growUncommitted(payloadSize(own))) {
      this.say("warn", "too many uncommitted bytes: proposal dropped");
      return false;
    }
    const reply = message("append-reply", this.id);
    reply.index = this.log.append(own);
    this.send(reply);
    return true;
  }

  /** Leader: entries of this payload size were applied. */
  shrinkUncommitted(size: number): void {
    this.uncommittedSize = Math.max(this.uncommittedSize - size, 0);
  }

  /** Leader: commits what is durable at a quorum, if that is of our term. */
  maybeCommit(): boolean {
    return this.log.maybeCommit(this.tracker.committed(), this.term);
  }

  /** Leader: true once an entry of its own term is committed, which tells it the true commit index. */
  hasCommittedInTerm(): boolean {
    return this.log.termOrZero(this.log.committed) === this.term;
  }

  pastElectionTime(): boolean {
    return this.electionElapsed >= this.randomizedElectionTicks;
  }

  private growUncommitted(size: number): boolean {
    // The first proposal always fits, else one larger than the quota could never be made.
    if (this.uncommittedSize > 0 && size > 0 && this.uncommittedSize + size > this.settings.maxUncommittedSize) return false;
    this.uncommittedSize += size;
    return true;
  }

  private reset(term: number): void {
    if (this.term !== term) {
      this.term = term;
      this.vote = NONE;
    }
    this.lead = NONE;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.randomizedElectionTicks = this.settings.electionTicks + this.settings.random(this.settings.electionTicks);
    this.transferee = NONE;
    this.tracker.resetVotes();
    const last = this.log.lastIndex();
    for (const [id, progress] of this.tracker.progress) {
      progress.restart(id === this.id ? last : 0, last + 1, this.tracker.newInflights());
    }
    this.pendingConfIndex = 0;
    this.uncommittedSize = 0;
    this.reads = new ReadQueue();
  }
}
