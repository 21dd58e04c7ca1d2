import { assert, AssertionError } from "../../base/assert.ts";
import { countWithin, entriesSize } from "./sizes.ts";
import { NO_ENTRIES } from "./message.ts";
import type { Checkpoint, Entry, EntryId, LogFault, LogReader } from "./types.ts";
import { Unstable } from "./unstable.ts";

/** The log as Raft sees it: the durable part in storage, the unstable tail over it, and how far it is committed and applied. */
export class RaftLog {
  readonly storage: LogReader;
  readonly unstable: Unstable;
  /** Known to be durable at a quorum. Invariant: applied <= applying <= committed. */
  committed: number;
  /** Handed out for applying. */
  applying: number;
  /** Acknowledged as applied. */
  applied: number;
  /** Limit of encoded bytes handed out for applying and not acknowledged. */
  readonly maxApplyingSize: number;
  private applyingSize = 0;
  private applyingPaused = false;

  constructor(storage: LogReader, maxApplyingSize: number) {
    this.storage = storage;
    this.maxApplyingSize = maxApplyingSize;
    this.unstable = new Unstable(storage.lastIndex() + 1);
    this.committed = this.applying = this.applied = storage.firstIndex() - 1;
  }

  firstIndex(): number {
    return this.unstable.firstIndex() ?? this.storage.firstIndex();
  }

  lastIndex(): number {
    return this.unstable.lastIndex() ?? this.storage.lastIndex();
  }

  /** Term of the entry at `index`, also of the last compacted one. */
  term(index: number): number | LogFault {
    const unstable = this.unstable.term(index);
    if (unstable !== null) return unstable;
    if (index + 1 < this.firstIndex()) return "compacted";
    if (index > this.lastIndex()) return "unavailable";
    return this.storage.term(index);
  }

  /** Like `term`, 0 where the log does not reach. */
  termOrZero(index: number): number {
    const term = this.term(index);
    return typeof term === "number" ? term : 0;
  }

  lastEntryId(): EntryId {
    const index = this.lastIndex();
    const term = this.term(index);
    if (typeof term !== "number") throw new AssertionError(`term of the last entry ${index} is ${term}`);
    return { term, index };
  }

  matches(index: number, term: number): boolean {
    return this.term(index) === term;
  }

  /** Paper section 5.4.1: the later last term wins, then the longer log. */
  isUpToDate(theirs: EntryId): boolean {
    const ours = this.lastEntryId();
    return theirs.term > ours.term || (theirs.term === ours.term && theirs.index >= ours.index);
  }

  /**
   * Takes a leader's entries that follow `previous`, and its commit index. The index of the last entry now known to match,
   * or null if `previous` does not.
   */
  maybeAppend(previous: EntryId, entries: readonly Entry[], committed: number): number | null {
    if (!this.matches(previous.index, previous.term)) return null;
    const last = previous.index + entries.length;
    const conflict = this.findConflict(entries);
    if (conflict !== 0) {
      assert(conflict > this.committed, `entry ${conflict} conflicts with a committed entry (committed ${this.committed})`);
      this.append(entries.slice(conflict - previous.index - 1));
    }
    this.commitTo(Math.min(committed, last));
    return last;
  }

  /** Appends, replacing what is there from the first index on. The new last index. */
  append(entries: readonly Entry[]): number {
    const first = entries[0];
    if (first === undefined) return this.lastIndex();
    if (first.index <= this.committed) {
      throw new AssertionError(`append at ${first.index} would replace committed entries (committed ${this.committed})`);
    }
    this.unstable.truncateAndAppend(entries);
    return this.lastIndex();
  }

  /**
   * From `index` down, the first place where our term is at most `term`: nothing above it can match a log that has `term`
   * at `index` (the fast back-off of paper section 5.3). Term 0: the log does not reach there, so it may match.
   */
  findConflictByTerm(index: number, term: number): EntryId {
    for (let at = index; at > 0; at--) {
      const ours = this.term(at);
      if (typeof ours !== "number") return { term: 0, index: at };
      if (ours <= term) return { term: ours, index: at };
    }
    return { term: 0, index: 0 };
  }

  commitTo(index: number): void {
    if (index <= this.committed) return;
    if (index > this.lastIndex()) {
      throw new AssertionError(`commit index ${index} is beyond the last entry ${this.lastIndex()}: was the log damaged, cut or lost?`);
    }
    this.committed = index;
  }

  /** Commits up to `index` if its entry is of `term`; older terms are never committed by counting (paper section 5.4.2). */
  maybeCommit(index: number, term: number): boolean {
    if (term === 0 || index <= this.committed || !this.matches(index, term)) return false;
    this.commitTo(index);
    return true;
  }

  /** `index` is applied, which frees `size` encoded bytes of what may be handed out. */
  appliedTo(index: number, size: number): void {
    if (index > this.committed || index < this.applied) {
      throw new AssertionError(`applied ${index} is outside of [${this.applied}, ${this.committed}]`);
    }
    this.applied = index;
    this.applying = Math.max(this.applying, index);
    this.applyingSize = Math.max(this.applyingSize - size, 0);
    this.applyingPaused = this.applyingSize >= this.maxApplyingSize;
  }

  /** Entries up to `index`, of `size` encoded bytes, were handed out for applying. */
  acceptApplying(index: number, size: number, allowUnstable: boolean): void {
    if (index > this.committed) throw new AssertionError(`applying ${index} beyond the commit index ${this.committed}`);
    this.applying = index;
    this.applyingSize += size;
    // Also paused if the limit cut the entries off although it is not reached: the next would have passed it.
    this.applyingPaused = this.applyingSize >= this.maxApplyingSize || index < this.maxAppliableIndex(allowUnstable);
  }

  hasNextCommitted(allowUnstable: boolean): boolean {
    // With a checkpoint waiting, the entries must wait too: what comes first would be anybody's guess.
    if (this.applyingPaused || this.hasCheckpoint()) return false;
    return this.applying < this.maxAppliableIndex(allowUnstable);
  }

  /** Committed entries to apply next. `allowUnstable`: also those not yet durable here (only if the same Ready writes them). */
  nextCommitted(allowUnstable: boolean): readonly Entry[] {
    if (!this.hasNextCommitted(allowUnstable)) return NO_ENTRIES;
    const room = this.maxApplyingSize - this.applyingSize;
    assert(room > 0, "no room for entries to apply");
    const entries = this.slice(this.applying + 1, this.maxAppliableIndex(allowUnstable) + 1, room);
    if (typeof entries === "string") throw new AssertionError(`entries to apply after ${this.applying} are ${entries}`);
    return entries;
  }

  /** True if a checkpoint is waiting or being written. */
  hasCheckpoint(): boolean {
    return this.unstable.checkpoint !== null;
  }

  checkpoint(): Checkpoint | null {
    return this.unstable.checkpoint ?? this.storage.checkpoint();
  }

  restore(checkpoint: Checkpoint): void {
    this.committed = checkpoint.index;
    this.unstable.restore(checkpoint);
  }

  /** Entries from `index` to the end, as many as fit. */
  entries(index: number, maxBytes: number): readonly Entry[] | LogFault {
    const last = this.lastIndex();
    return index > last ? NO_ENTRIES : this.slice(index, last + 1, maxBytes);
  }

  /** True if an entry in [from, to) satisfies `test`; read page by page to keep memory bounded. */
  some(from: number, to: number, pageBytes: number, test: (entry: Entry) => boolean): boolean {
    for (let at = from; at < to;) {
      const page = this.slice(at, to, pageBytes);
      assert(typeof page !== "string" && page.length > 0, `entries [${at}, ${to}) cannot be read`);
      if (page.some(test)) return true;
      at += page.length;
    }
    return false;
  }

  /** Entries [from, to), as many as fit but at least one. */
  slice(from: number, to: number, maxBytes: number): readonly Entry[] | LogFault {
    if (from > to) throw new AssertionError(`slice [${from}, ${to})`);
    if (from < this.firstIndex()) return "compacted";
    if (to > this.lastIndex() + 1) throw new AssertionError(`slice [${from}, ${to}) is beyond the last entry ${this.lastIndex()}`);
    if (from === to) return NO_ENTRIES;
    const { unstable } = this;
    if (from >= unstable.offset) {
      unstable.assertWithin(from, to);
      const begin = from - unstable.offset;
      return unstable.entries.slice(begin, begin + countWithin(unstable.entries, begin, to - unstable.offset, maxBytes));
    }
    const cut = Math.min(to, unstable.offset);
    const stable = this.storage.entries(from, cut, maxBytes);
    if (stable === "compacted") return stable;
    if (typeof stable === "string") throw new AssertionError(`entries [${from}, ${cut}) are missing from storage`);
    if (to <= unstable.offset || stable.length < cut - from) return stable;
    const size = maxBytes === Number.POSITIVE_INFINITY ? 0 : entriesSize(stable);
    if (size >= maxBytes) return stable;
    unstable.assertWithin(unstable.offset, to);
    const count = countWithin(unstable.entries, 0, to - unstable.offset, maxBytes - size);
    // countWithin gives at least one; here one more that does not fit is one too many.
    if (count === 1 && size + entriesSize(unstable.entries.slice(0, 1)) > maxBytes) return stable;
    return [...stable, ...unstable.entries.slice(0, count)];
  }

  private maxAppliableIndex(allowUnstable: boolean): number {
    return allowUnstable ? this.committed : Math.min(this.committed, this.unstable.offset - 1);
  }

  /** Index of the first entry that our log lacks or holds with another term; 0 if there is none. */
  private findConflict(entries: readonly Entry[]): number {
    for (const { index, term } of entries) if (!this.matches(index, term)) return index;
    return 0;
  }
}
