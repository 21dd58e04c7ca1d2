/**
 * The durable log as the core reads it: with the state's own position and membership, checkpoints that the main thread
 * makes when a peer needs one, and a length that is kept in bounds.
 */
import type { Clock } from "../../base/clock.ts";
import type { Membership } from "../../model/membership.ts";
import { type Checkpoint, type ConfState, type Entry, type HardState, type LogFault, type LogReader, NONE } from "../../raft/core/types.ts";
import type { LevelLog } from "../../raft/storage/level.ts";
import type { Position } from "../../state/state.ts";
import type { FromConsensus } from "./protocol.ts";

/** The log is cut when it holds this many applied entries, and keeps the last ones for peers that lag a little. */
export interface LogLimits {
  maxEntries: number;
  keepEntries: number;
}

const LOG_LIMITS: LogLimits = { maxEntries: 20_000, keepEntries: 5_000 };

/** A checkpoint made for a peer is good for this long; then a fresh one is made for the next. */
const CHECKPOINT_FRESH_MS = 30_000;

export class LogView implements LogReader {
  readonly #log: LevelLog;
  readonly #position: Position;
  readonly #clock: Clock;
  readonly #post: (message: FromConsensus) => void;
  readonly #limits: LogLimits;
  /** Index of the last change of membership that took effect. */
  membershipIndex = 0;
  #checkpoint: { value: Checkpoint; atMs: number } | null = null;
  #checkpointAsked = false;
  #durableAsked = false;

  /** @param position where the main thread's state was at the start. */
  constructor(log: LevelLog, position: Position, effects: { clock: Clock; post: (message: FromConsensus) => void; limits?: LogLimits }) {
    this.#log = log;
    this.#position = position;
    this.#clock = effects.clock;
    this.#post = effects.post;
    this.#limits = effects.limits ?? LOG_LIMITS;
  }

  /**
   * The log's commit index is written without fsync, so the state may be ahead of it; what is applied was committed. After
   * a checkpoint that the log never heard of, its term is at least the checkpoint's, with no vote given in it.
   */
  initialState(): { hardState: HardState; confState: ConfState } {
    const { hardState } = this.#log.initialState();
    const { index, term, membership } = this.#position;
    const known = hardState.term >= term ? hardState : { term, vote: NONE, commit: hardState.commit };
    return { hardState: { ...known, commit: Math.max(known.commit, index) }, confState: membership };
  }

  firstIndex(): number {
    return this.#log.firstIndex();
  }

  lastIndex(): number {
    return this.#log.lastIndex();
  }

  term(index: number): number | LogFault {
    return this.#log.term(index);
  }

  entries(from: number, to: number, maxBytes: number): readonly Entry[] | LogFault {
    return this.#log.entries(from, to, maxBytes);
  }

  /** null while the main thread makes one; the core asks again. */
  checkpoint(): Checkpoint | null {
    const made = this.#checkpoint;
    // Without the newest membership a newcomer would not find itself in it.
    const fresh =
      made !== null &&
      made.value.index >= this.membershipIndex &&
      this.#clock.monotonicMs() - made.atMs < CHECKPOINT_FRESH_MS &&
      made.value.index + 1 >= this.#log.firstIndex();
    if (fresh) return made.value;
    this.#checkpoint = null;
    if (!this.#checkpointAsked) {
      this.#checkpointAsked = true;
      this.#post({ kind: "need-checkpoint" });
    }
    return null;
  }

  /** The main thread's answer. */
  checkpointMade(value: Checkpoint): void {
    this.#checkpointAsked = false;
    this.#checkpoint = { value, atMs: this.#clock.monotonicMs() };
  }

  /** Asks the main thread to make its state durable once the log has grown too long. */
  keepShort(appliedIndex: number): void {
    if (this.#durableAsked || appliedIndex - this.#log.firstIndex() < this.#limits.maxEntries) return;
    this.#durableAsked = true;
    this.#post({ kind: "need-durable" });
  }

  /** The state up to `index` survives a power cut: the log below may go. */
  async cut(index: number, membership: Membership): Promise<void> {
    this.#durableAsked = false;
    await this.#log.saveCheckpoint(index, membership);
    const upTo = index - this.#limits.keepEntries;
    if (upTo > this.#log.firstIndex()) await this.#log.compact(upTo);
  }
}
