import { AssertionError } from "../../base/assert.ts";
import type { Checkpoint, Entry, EntryId } from "./types.ts";

/**
 * The tail of the log that is not known to be durable: entries (and perhaps a checkpoint before them) that wait to be handed
 * out for writing, or have been and wait for the acknowledgement. `offset` may be at or before the end of the durable log:
 * then the next write cuts that off.
 */
export class Unstable {
  checkpoint: Checkpoint | null = null;
  /** entries[i] is at index offset + i. */
  entries: Entry[] = [];
  offset: number;
  private checkpointInProgress = false;
  /** Entries before this index are being written. */
  private offsetInProgress: number;

  constructor(offset: number) {
    this.offset = offset;
    this.offsetInProgress = offset;
  }

  /** The log's first index, if a checkpoint decides it. */
  firstIndex(): number | null {
    return this.checkpoint === null ? null : this.checkpoint.index + 1;
  }

  lastIndex(): number | null {
    if (this.entries.length > 0) return this.offset + this.entries.length - 1;
    return this.checkpoint === null ? null : this.checkpoint.index;
  }

  /** Term of the entry at `index` if it is in here. */
  term(index: number): number | null {
    if (index < this.offset) return this.checkpoint !== null && this.checkpoint.index === index ? this.checkpoint.term : null;
    return this.entries[index - this.offset]?.term ?? null;
  }

  /** Entries that have not been handed out for writing. */
  nextEntries(): readonly Entry[] {
    const from = this.offsetInProgress - this.offset;
    return from === 0 ? this.entries.slice() : this.entries.slice(from);
  }

  hasNextEntries(): boolean {
    return this.entries.length > this.offsetInProgress - this.offset;
  }

  nextCheckpoint(): Checkpoint | null {
    return this.checkpointInProgress ? null : this.checkpoint;
  }

  /** Everything in here has been handed out for writing. */
  acceptInProgress(): void {
    if (this.entries.length > 0) this.offsetInProgress = this.offset + this.entries.length;
    if (this.checkpoint !== null) this.checkpointInProgress = true;
  }

  /**
   * Everything up to `id` is durable and no write under way can replace it. Ignored if the entry is not in here any more or
   * was replaced meanwhile: a later acknowledgement covers it.
   */
  stableTo(id: EntryId): void {
    if (id.index < this.offset || this.term(id.index) !== id.term) return;
    this.entries = this.entries.slice(id.index + 1 - this.offset);
    this.offset = id.index + 1;
    this.offsetInProgress = Math.max(this.offsetInProgress, this.offset);
  }

  stableCheckpointTo(index: number): void {
    if (this.checkpoint?.index !== index) return;
    this.checkpoint = null;
    this.checkpointInProgress = false;
  }

  /** Starts again from a checkpoint: all entries go. */
  restore(checkpoint: Checkpoint): void {
    this.offset = checkpoint.index + 1;
    this.offsetInProgress = this.offset;
    this.entries = [];
    this.checkpoint = checkpoint;
    this.checkpointInProgress = false;
  }

  /** Appends `entries`, which may replace what is there from their first index on. */
  truncateAndAppend(entries: readonly Entry[]): void {
    const from = entries[0]!.index;
    if (from === this.offset + this.entries.length) {
      for (const entry of entries) this.entries.push(entry);
    } else if (from <= this.offset) {
      this.entries = entries.slice();
      this.offset = from;
      this.offsetInProgress = from;
    } else {
      const keep = this.entries.slice(0, from - this.offset);
      for (const entry of entries) keep.push(entry);
      this.entries = keep;
      this.offsetInProgress = Math.min(this.offsetInProgress, from);
    }
  }

  /** Checks that [from, to) is in here. */
  assertWithin(from: number, to: number): void {
    const end = this.offset + this.entries.length;
    if (from > to || from < this.offset || to > end) {
      throw new AssertionError(`[${from}, ${to}) is outside of the unstable log [${this.offset}, ${end})`);
    }
  }
}
