import { assert } from "../../base/assert.ts";
import { decodeConfChange, encodeConfChange } from "./confdata.ts";
import { applyConfChange, restoreConfState } from "./membership.ts";
import { isLocal, isReply, isThread, message, NO_DATA } from "./message.ts";
import { Raft } from "./raft.ts";
import { NO_HARD_STATE, sameHardState, storageAppend, storageAppendReply, storageApply, storageApplyReply } from "./ready.ts";
import { entriesSize } from "./sizes.ts";
import { step, tick } from "./step.ts";
import type {
  ConfChange,
  ConfState,
  Entry,
  EntryId,
  HardState,
  Message,
  PeerId,
  RaftConfig,
  RaftStatus,
  Ready,
  ReadState,
  Refusal,
  SoftState,
} from "./types.ts";
import { NONE } from "./types.ts";

const NO_READS: readonly ReadState[] = Object.freeze([]);

/**
 * One Raft peer, pure: messages and ticks in, `Ready` out. Not re-entrant; the caller does all I/O (see Ready for the order).
 * Behaves as etcd-io/raft's RawNode does, message for message.
 */
export class RaftNode {
  private readonly raft: Raft;
  private readonly async: boolean;
  private lastSoft: SoftState;
  private lastHard: HardState;
  /** Synchronous mode: what `advance` acknowledges. */
  private acknowledgements: Message[] = [];

  /** Starts from what `config.storage` holds; the first Ready contains only what is not stored yet. */
  constructor(config: RaftConfig) {
    const raft = new Raft(config);
    const { hardState, confState } = config.storage.initialState();
    restoreConfState(raft, confState);
    if (!sameHardState(hardState, NO_HARD_STATE)) raft.load(hardState);
    if (raft.settings.applied > 0) raft.log.appliedTo(raft.settings.applied, 0);
    raft.becomeFollower(raft.term, NONE);
    this.raft = raft;
    this.async = raft.settings.asyncStorageWrites;
    this.lastSoft = raft.softState();
    this.lastHard = raft.hardState();
  }

  get id(): PeerId {
    return this.raft.id;
  }

  /** Advances the logical clock by one tick. */
  tick(): void {
    tick(this.raft);
  }

  /** Lets the election clock go on without its consequences, for a group that sleeps. */
  tickQuiesced(): void {
    this.raft.electionElapsed++;
  }

  /** Starts an election now. */
  campaign(): Refusal | null {
    return step(this.raft, message("campaign"));
  }

  /** Proposes one entry; null means "taken or passed on", not "committed". */
  propose(data: Uint8Array): Refusal | null {
    return this.proposeAll([data]);
  }

  /** Proposes entries that are appended together or not at all. */
  proposeAll(data: readonly Uint8Array[]): Refusal | null {
    const m = message("propose", NONE, this.raft.id);
    m.entries = data.map((bytes): Entry => ({ term: 0, index: 0, kind: "normal", data: bytes }));
    return step(this.raft, m);
  }

  /** Proposes a membership change; null leaves a joint configuration. A refused one appears in the log as a `refused` entry. */
  proposeConfChange(change: ConfChange | null): Refusal | null {
    const m = message("propose");
    m.entries = [
      {
        term: 0,
        index: 0,
        kind: change?.v1 === true ? "conf-v1" : "conf",
        data: change === null ? NO_DATA : encodeConfChange(change),
      },
    ];
    return step(this.raft, m);
  }

  /** To be called when a committed `conf`/`conf-v1` entry is applied (see decodeConfChange); returns the membership from there on. */
  applyConfChange(change: ConfChange): ConfState {
    return applyConfChange(this.raft, change);
  }

  /**
   * Applies the membership change in a committed entry, unless a checkpoint that the core has accepted meanwhile contains it
   * already (asynchronous applying may lag behind it): then null, and the entry must have no effect anywhere.
   */
  applyConfEntry(entry: Entry): ConfState | null {
    const { log } = this.raft;
    if (entry.index <= Math.max(log.applied, log.unstable.checkpoint?.index ?? 0)) return null;
    return applyConfChange(this.raft, decodeConfChange(entry));
  }

  /** Processes a message from a peer, or in asynchronous mode from the storage threads. */
  step(m: Message): Refusal | null {
    const fromThread = isThread(m.from);
    if (isLocal(m.type) && !fromThread) return "local-message";
    if (isReply(m.type) && !fromThread && !this.raft.tracker.progress.has(m.from)) return "unknown-peer";
    return step(this.raft, m);
  }

  /**
   * Somebody has applied the entry `id`, so it is committed: it is here, too, if our log has that very entry. For a peer without a
   * leader that could tell it (raft-rs carries the same in vote messages; etcd has no such thing).
   */
  learnCommitted(id: EntryId): void {
    this.raft.log.maybeCommit(id.index, id.term);
  }

  hasReady(): boolean {
    const { raft } = this;
    const { log } = raft;
    if (raft.lead !== this.lastSoft.lead || raft.role !== this.lastSoft.role) return true;
    if (raft.messages.length > 0 || raft.messagesAfterAppend.length > 0 || raft.readStates.length > 0) return true;
    if (log.unstable.hasNextEntries() || log.unstable.nextCheckpoint() !== null || log.hasNextCommitted(!this.async)) return true;
    const hard = raft.hardState();
    return !sameHardState(hard, NO_HARD_STATE) && !sameHardState(hard, this.lastHard);
  }

  /**
   * Takes out all work that has piled up; the caller must do it. In synchronous mode `advance()` must follow before the next
   * call.
   */
  ready(): Ready {
    const { raft } = this;
    const { log } = raft;
    const soft = raft.softState();
    const hard = raft.hardState();
    const entries = log.unstable.nextEntries();
    const messages = raft.messages;
    const ready: Ready = {
      soft: soft.lead === this.lastSoft.lead && soft.role === this.lastSoft.role ? null : soft,
      hard: sameHardState(hard, this.lastHard) ? null : hard,
      entries,
      checkpoint: log.unstable.nextCheckpoint(),
      committed: log.nextCommitted(!this.async),
      messages,
      readStates: raft.readStates.length === 0 ? NO_READS : raft.readStates,
      mustSync: entries.length > 0 || hard.vote !== this.lastHard.vote || hard.term !== this.lastHard.term,
    };
    if (this.async) {
      for (const work of [storageAppend(raft, ready), storageApply(raft, ready)]) if (work !== null) messages.push(work);
    } else {
      for (const m of raft.messagesAfterAppend) if (m.to !== raft.id) messages.push(m);
    }
    this.accept(ready);
    return ready;
  }

  /** Synchronous mode: everything in the last Ready is durable, sent and applied. */
  advance(): void {
    assert(!this.async, "advance has no place in asynchronous mode");
    const done = this.acknowledgements;
    this.acknowledgements = [];
    for (const m of done) step(this.raft, m);
  }

  /** Asks for a read index (thesis 6.4); the answer comes in a later Ready as a ReadState with the same context, or never. */
  readIndex(context: Uint8Array): void {
    const m = message("read-index");
    m.entries = [{ term: 0, index: 0, kind: "normal", data: context }];
    step(this.raft, m);
  }

  /** Asks the leader (this or another peer) to hand over to `to`. */
  transferLeader(to: PeerId): void {
    step(this.raft, message("transfer-leader", NONE, to));
  }

  /** Follower: no longer holds back votes for the sake of its leader. */
  forgetLeader(): void {
    step(this.raft, message("forget-leader"));
  }

  /** Messages to `id` are being lost. */
  reportUnreachable(id: PeerId): void {
    step(this.raft, message("unreachable", NONE, id));
  }

  /** Must be called once the checkpoint message to `id` has arrived or failed; else nothing more is sent there. */
  reportCheckpoint(id: PeerId, arrived: boolean): void {
    const m = message("checkpoint-status", NONE, id);
    m.reject = !arrived;
    step(this.raft, m);
  }

  /** Until the next change of role: the ticks after which this peer campaigns. For tests and transcripts. */
  setRandomizedElectionTicks(ticks: number): void {
    this.raft.randomizedElectionTicks = ticks;
  }

  /** Cheap parts of the status, for every turn of the driver. */
  get soft(): SoftState {
    return this.raft.softState();
  }

  get term(): number {
    return this.raft.term;
  }

  get committed(): number {
    return this.raft.log.committed;
  }

  status(): RaftStatus {
    const { raft } = this;
    const leads = raft.role === "leader";
    return {
      id: raft.id,
      hard: raft.hardState(),
      soft: raft.softState(),
      applied: raft.log.applied,
      firstIndex: raft.log.firstIndex(),
      lastIndex: raft.log.lastIndex(),
      transferee: raft.transferee,
      confState: raft.tracker.confState(),
      progress: leads ? raft.tracker.peers().map((id) => raft.tracker.progress.get(id)!.status(id)) : [],
    };
  }

  private accept(ready: Ready): void {
    const { raft } = this;
    if (ready.soft !== null) this.lastSoft = ready.soft;
    if (ready.hard !== null) this.lastHard = ready.hard;
    if (ready.readStates.length > 0) raft.readStates = [];
    if (!this.async) {
      assert(this.acknowledgements.length === 0, "ready was called twice without advance");
      for (const m of raft.messagesAfterAppend) if (m.to === raft.id) this.acknowledgements.push(m);
      for (const m of [storageAppendReply(raft, ready), storageApplyReply(raft, ready)]) if (m !== null) this.acknowledgements.push(m);
    }
    raft.messages = [];
    raft.messagesAfterAppend = [];
    raft.log.unstable.acceptInProgress();
    const last = ready.committed.at(-1);
    if (last !== undefined) raft.log.acceptApplying(last.index, entriesSize(ready.committed), !this.async);
  }
}
