import { assert, AssertionError } from "../../base/assert.ts";
import { NO_DATA } from "../core/message.ts";
import { countWithin } from "../core/sizes.ts";
import type { Checkpoint, ConfState, Entry, EntryId, HardState, LogFault, LogReader } from "../core/types.ts";

const NO_PEERS: ConfState = { voters: [], outgoing: [], learners: [], learnersNext: [], autoLeave: false };

/**
 * The log in memory: what tests and the simulator use, and the tail of the durable log (see level.ts). Nothing here survives
 * the process. Behaves as etcd's MemoryStorage does.
 */
export class MemoryLog implements LogReader {
  private hardState: HardState = { term: 0, vote: 0, commit: 0 };
  private saved: Checkpoint = { index: 0, term: 0, confState: NO_PEERS, data: NO_DATA };
  /** The entry before the first: compacted, but its term is still needed to match appends. */
  private before: EntryId = { term: 0, index: 0 };
  /** list[i] is at index before.index + 1 + i. */
  private list: Entry[] = [];
  /** Of the entries' data. */
  bytes = 0;

  initialState(): { hardState: HardState; confState: ConfState } {
    return { hardState: this.hardState, confState: this.saved.confState };
  }

  firstIndex(): number {
    return this.before.index + 1;
  }

  lastIndex(): number {
    return this.before.index + this.list.length;
  }

  term(index: number): number | LogFault {
    if (index < this.before.index) return "compacted";
    if (index === this.before.index) return this.before.term;
    return this.list[index - this.before.index - 1]?.term ?? "unavailable";
  }

  entries(from: number, to: number, maxBytes: number): readonly Entry[] | LogFault {
    if (from <= this.before.index) return "compacted";
    if (to > this.lastIndex() + 1) throw new AssertionError(`entries up to ${to} asked for, the last is ${this.lastIndex()}`);
    if (this.list.length === 0) return "unavailable";
    const begin = from - this.before.index - 1;
    return this.list.slice(begin, begin + countWithin(this.list, begin, to - this.before.index - 1, maxBytes));
  }

  checkpoint(): Checkpoint | null {
    return this.saved;
  }

  /** The last index whose successors together have at least so many bytes of data; the one before the first if all have less. */
  indexBefore(bytes: number): number {
    let at = this.list.length;
    for (let left = bytes; at > 0 && left > 0; at--) left -= this.list[at - 1]!.data.length;
    return this.before.index + at;
  }

  setHardState(state: HardState): void {
    this.hardState = state;
  }

  /** Appends entries; what is there from their first index on is replaced, what is compacted is left out. */
  append(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined || entries.at(-1)!.index < this.firstIndex()) return;
    if (first.index > this.lastIndex() + 1) {
      throw new AssertionError(`entries from ${this.lastIndex() + 1} on are missing before ${first.index}`);
    }
    const skip = Math.max(this.firstIndex() - first.index, 0);
    const at = first.index + skip - this.firstIndex();
    // In place: every reader got a copy of its range.
    for (let i = at; i < this.list.length; i++) this.bytes -= this.list[i]!.data.length;
    if (at < this.list.length) this.list.length = at;
    for (let i = skip; i < entries.length; i++) {
      this.list.push(entries[i]!);
      this.bytes += entries[i]!.data.length;
    }
  }

  /** Replaces everything by a checkpoint from the leader; false if ours is as new (then nothing changes). */
  applyCheckpoint(checkpoint: Checkpoint): boolean {
    // At index 0 there may be a membership only, before the log begins.
    if (this.saved.index !== 0 && this.saved.index >= checkpoint.index) return false;
    this.saved = checkpoint;
    this.before = { term: checkpoint.term, index: checkpoint.index };
    this.list = [];
    this.bytes = 0;
    return true;
  }

  /** Records a checkpoint of our own at `index`, which must be in the log; false if ours is as new. The log is not cut. */
  createCheckpoint(index: number, confState: ConfState | null, data: Uint8Array): boolean {
    if (index <= this.saved.index) return false;
    const term = this.term(index);
    assert(typeof term === "number", "a checkpoint must be within the log");
    this.saved = { index, term, confState: confState ?? this.saved.confState, data };
    return true;
  }

  /** Forgets all entries up to `index`, which must be applied; false if they are forgotten already. */
  compact(index: number): boolean {
    if (index <= this.before.index) return false;
    const term = this.term(index);
    assert(typeof term === "number", "cannot compact beyond the last entry");
    for (let i = 0; i < index - this.before.index; i++) this.bytes -= this.list[i]!.data.length;
    this.list = this.list.slice(index - this.before.index);
    this.before = { term, index };
    return true;
  }
}
