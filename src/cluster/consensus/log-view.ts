/**
 * The durable log as the core reads it: with the state's own position and membership, the checkpoint that this node can give
 * to a peer who needs one, and a length that is kept in bounds.
 */
import { type Checkpoint, type ConfState, type Entry, type HardState, type LogFault, type LogReader, NONE } from "../../raft/core/types.ts";
import type { LevelLog } from "../../raft/storage/level.ts";
import type { Position } from "../../state/state.ts";
import type { CheckpointSource } from "./checkpoint-source.ts";
import type { FromConsensus } from "./protocol.ts";

/**
 * The log is cut when it holds this many applied entries or bytes, and keeps the last ones for peers that lag a little. While a
 * checkpoint is given away it reaches back to it, so that its taker can go on from there, but not beyond `holdBytes`: a peer
 * that is slower than that begins again with a fresh one. All of it is in memory too.
 */
export interface LogLimits {
  maxEntries: number;
  keepEntries: number;
  maxBytes: number;
  keepBytes: number;
  holdBytes: number;
}

const LOG_LIMITS: LogLimits = { maxEntries: 20_000, keepEntries: 5_000, maxBytes: 32 << 20, keepBytes: 8 << 20, holdBytes: 96 << 20 };

export class LogView implements LogReader {
  readonly #log: LevelLog;
  readonly #position: Position;
  readonly #source: CheckpointSource;
  readonly #post: (message: FromConsensus) => void;
  readonly #limits: LogLimits;
  /** Index of the last change of membership that took effect. */
  membershipIndex = 0;
  #durableAsked = false;

  /** @param position where the main thread's state was at the start. */
  constructor(
    log: LevelLog,
    position: Position,
    effects: { source: CheckpointSource; post: (message: FromConsensus) => void; limits?: Partial<LogLimits> },
  ) {
    this.#log = log;
    this.#position = position;
    this.#source = effects.source;
    this.#post = effects.post;
    this.#limits = { ...LOG_LIMITS, ...effects.limits };
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

  /** Its data is its id. null while the main thread makes one; the core asks again. */
  checkpoint(): Checkpoint | null {
    // Without the newest membership a newcomer would not find itself in it.
    const made = this.#source.newest(Math.max(this.membershipIndex, this.#log.firstIndex() - 1));
    if (made === null) return null;
    return { index: made.index, term: made.term, confState: made.membership, data: new TextEncoder().encode(made.id) };
  }

  /** Asks the main thread to make its state durable once the log has grown too long. */
  keepShort(appliedIndex: number): void {
    const applied = appliedIndex - this.#log.firstIndex();
    if (this.#durableAsked || (applied < this.#limits.maxEntries && this.#log.bytes < this.#limits.maxBytes)) return;
    // Held for a checkpoint's taker: nothing could go.
    const held = this.#source.heldIndex();
    if (held !== null && held <= this.#log.firstIndex() && this.#log.bytes < this.#limits.holdBytes) return;
    this.#durableAsked = true;
    this.#post({ kind: "need-durable" });
  }

  /** The state at this position survives a power cut: the log below may go. */
  async cut({ index, term, membership }: Position): Promise<void> {
    try {
      // A checkpoint that the state took over: the log is about to begin there. What it has there is of another branch, if anything.
      if (this.#log.term(index) !== term) return;
      await this.#log.saveCheckpoint(index, membership);
      const { keepEntries, keepBytes, holdBytes } = this.#limits;
      const held = this.#log.bytes < holdBytes ? this.#source.heldIndex() : null;
      const upTo = Math.min(index, held ?? index, Math.max(index - keepEntries, this.#log.indexBefore(keepBytes)));
      if (upTo >= this.#log.firstIndex()) await this.#log.compact(upTo);
    } finally {
      this.#durableAsked = false;
    }
  }
}
