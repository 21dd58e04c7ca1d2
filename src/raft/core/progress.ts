import { assert } from "../../base/assert.ts";
import type { Inflights } from "./inflights.ts";
import type { PeerId, ProgressState, ProgressStatus } from "./types.ts";

/**
 * What the leader knows of one peer's log, and how fast it may feed it (thesis 10.2.1):
 * `probe` one message per heartbeat until the peer's last common index is known; `replicate` optimistically, limited by the
 * in-flight window; `checkpoint` nothing until the checkpoint under way is reported or acknowledged.
 * Invariant: match < next.
 */
export class Progress {
  /** Highest index known to be durable at the peer. */
  match: number;
  /** Next index to send; everything in (match, next) is in flight. */
  next: number;
  state: ProgressState = "probe";
  /** Index of the checkpoint that is being sent; 0: none. */
  pendingCheckpoint = 0;
  /** Heard from since the last quorum check. */
  recentActive = false;
  /** No appends until the next heartbeat-reply: a probe is out, or the window is full. */
  flowPaused = false;
  isLearner: boolean;
  inflights: Inflights;
  /** Highest commit index sent and not known to be lost. */
  private sentCommitIndex = 0;

  constructor(match: number, next: number, inflights: Inflights, isLearner: boolean) {
    this.match = match;
    this.next = next;
    this.inflights = inflights;
    this.isLearner = isLearner;
  }

  /** A copy that shares the in-flight window: membership changes work on copies and keep or drop them whole. */
  copy(): Progress {
    const copy = new Progress(this.match, this.next, this.inflights, this.isLearner);
    copy.state = this.state;
    copy.pendingCheckpoint = this.pendingCheckpoint;
    copy.recentActive = this.recentActive;
    copy.flowPaused = this.flowPaused;
    copy.sentCommitIndex = this.sentCommitIndex;
    return copy;
  }

  /** Forgets everything but the peer's kind, for a new term. */
  restart(match: number, next: number, inflights: Inflights): void {
    this.match = match;
    this.next = next;
    this.state = "probe";
    this.pendingCheckpoint = 0;
    this.recentActive = false;
    this.flowPaused = false;
    this.inflights = inflights;
    this.sentCommitIndex = 0;
  }

  get paused(): boolean {
    return this.state === "checkpoint" || this.flowPaused;
  }

  becomeProbe(): void {
    if (this.state === "checkpoint") {
      // The checkpoint may have arrived: go on after it; if it failed, its index was cleared before.
      const pending = this.pendingCheckpoint;
      this.enter("probe");
      this.next = Math.max(this.match, pending) + 1;
    } else {
      this.enter("probe");
      this.next = this.match + 1;
    }
    this.capSentCommit();
  }

  becomeReplicate(): void {
    this.enter("replicate");
    this.next = this.match + 1;
  }

  becomeCheckpoint(index: number): void {
    this.enter("checkpoint");
    this.pendingCheckpoint = index;
    this.next = index + 1;
    this.sentCommitIndex = index;
  }

  /** An append with `count` entries of `bytes` payload was sent. */
  sentEntries(count: number, bytes: number): void {
    assert(this.state !== "checkpoint", "append sent while a checkpoint is pending");
    if (this.state === "replicate") {
      if (count > 0) {
        this.next += count;
        this.inflights.add(this.next - 1, bytes);
      }
      // What overflows the window is a probe: the next goes out after a heartbeat-reply.
      this.flowPaused = this.inflights.full;
    } else if (count > 0) {
      this.flowPaused = true;
    }
  }

  sentCommit(commit: number): void {
    this.sentCommitIndex = commit;
  }

  /** True if telling the peer `commit` now can move its commit index, and no such message is already out. */
  canBumpCommit(commit: number): boolean {
    return commit > this.sentCommitIndex && this.sentCommitIndex < this.next - 1;
  }

  /** The peer has everything up to `index`; false if that is no news. */
  maybeUpdate(index: number): boolean {
    if (index <= this.match) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1);
    this.flowPaused = false;
    return true;
  }

  /** The peer refused an append after `rejected`; `hint` is where the logs may agree. False if the refusal is out of date. */
  maybeDecreaseTo(rejected: number, hint: number): boolean {
    if (this.state === "replicate") {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
      this.capSentCommit();
      return true;
    }
    // Probes go out one at a time, so an answer to anything but the last one is old.
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, hint + 1), this.match + 1);
    this.capSentCommit();
    this.flowPaused = false;
    return true;
  }

  status(id: PeerId): ProgressStatus {
    return {
      id,
      state: this.state,
      match: this.match,
      next: this.next,
      learner: this.isLearner,
      paused: this.paused,
      pendingCheckpoint: this.pendingCheckpoint,
      recentActive: this.recentActive,
      inflight: this.inflights.count,
      inflightFull: this.inflights.full,
    };
  }

  private enter(state: ProgressState): void {
    this.flowPaused = false;
    this.pendingCheckpoint = 0;
    this.state = state;
    this.inflights.reset();
  }

  /** After stepping back, commit indexes sent beyond `next` have probably not been taken. */
  private capSentCommit(): void {
    this.sentCommitIndex = Math.min(this.sentCommitIndex, this.next - 1);
  }
}
