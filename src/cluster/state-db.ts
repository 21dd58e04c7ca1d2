/**
 * The state's rows in LevelDB. Each applied batch is one atomic write with the position it leads to, so that rows and
 * applied index never part (RAFT-3). Not fsynced: the log is, and what a power cut takes from here is applied again from
 * there; only `sync` makes a position safe to cut the log at.
 *
 * The database has two halves, of which one counts. A checkpoint is written into the other one in slices, and one synced
 * batch makes that the one that counts: a crash at any moment leaves the old state or the new one.
 */
import { Level } from "level";
import { asRoostError, RoostError } from "../base/errors.ts";
import { NO_MEMBERSHIP } from "../model/membership.ts";
import { readRows } from "../state/codec.ts";
import { State, type Position, type RowChange } from "../state/state.ts";
import { FrozenState } from "./frozen-state.ts";
import { type Digest, type Half, HALF_KEY, HalfRows, otherHalf, POSITION_KEY, rangeOf, readKey, seal, unseal } from "./state-rows.ts";
import { overLevel, type StateDatabase } from "./state-database.ts";

/** Written, but not yet taken by the disk; past it the replica applies no further batch until there is room. */
const BACKLOG_MAX_BYTES = 64 * 2 ** 20;

/** Slices of a checkpoint, 256 KiB each, that are written without waiting for the disk. */
const SLICES_PER_SYNC = 8;

export class StateDb {
  readonly #db: StateDatabase;
  readonly #path: string;
  readonly #gather: (() => Promise<void>) | null;
  #flushWaits = false;
  #tail: Promise<void> = Promise.resolve();
  /** The other half being emptied; what is left there is of no use. */
  #clearing: Promise<void> = Promise.resolve();
  /** The newest change of each row that is not written yet; rows become text only when they are. */
  #pending = new Map<string, RowChange>();
  /** Of nodes' own proposals, which are never changed. */
  #answers: RowChange[] = [];
  #pendingBytes = 0;
  #failure: unknown = null;
  #rows = new HalfRows("a");
  /** The database says which half counts. */
  #marked = false;
  /** Newest position that was handed in; an older one must never be written over its rows. */
  #newest: Position | null = null;

  /**
   * @param db open already; `path` is for messages only.
   * @param gather waited for before each write, so that what comes meanwhile goes with it; absent: written at once.
   */
  constructor(db: StateDatabase, path: string, gather: (() => Promise<void>) | null = null) {
    this.#db = db;
    this.#gather = gather;
    this.#path = path;
  }

  static async open(path: string, gather: (() => Promise<void>) | null = null): Promise<StateDb> {
    const db = new Level<string, string>(path, { keyEncoding: "utf8", valueEncoding: "utf8" });
    try {
      await db.open();
    } catch (thrown) {
      throw openFault(path, thrown);
    }
    return new StateDb(overLevel(db), path, gather);
  }

  /**
   * Reads everything into a new state.
   * @throws RoostError `damaged` if a row is not what was written, is gone, or is there although it was deleted.
   */
  async load(): Promise<{ state: State; position: Position }> {
    const state = new State();
    let position: Position = { index: 0, term: 0, membership: NO_MEMBERSHIP };
    try {
      const half = await this.#halfThatCounts();
      if (half === null) return { state, position };
      this.#marked = true;
      let digest: Digest | null = null;
      for await (const [key, value] of this.#db.iterator(rangeOf(half))) {
        const name = key.slice(2);
        const text = unseal(name, value);
        if (name === POSITION_KEY) {
          const { rows, sum, ...found } = JSON.parse(text) as Position & Digest;
          position = found;
          digest = { rows, sum };
          // The position is the first key.
          this.#rows = new HalfRows(half);
          continue;
        }
        this.#rows.found(name, value);
        const { table, id } = readKey(name);
        for (const row of readRows(table, id, JSON.parse(text))) state.write(row);
      }
      const { rows, sum } = this.#rows.digest;
      // LevelDB skips what it cannot read in its journal, and does not look at the checksums of what it has sorted away.
      if (digest === null) throw new Error("its position is gone");
      if (digest.rows !== rows || digest.sum !== sum) {
        throw new Error(`${rows} rows are there, should be ${digest.rows} at index ${position.index}, or one is not of that index`);
      }
      this.#clear(otherHalf(half));
    } catch (thrown) {
      if (thrown instanceof RoostError) throw thrown;
      throw damaged(this.#path, thrown instanceof Error ? thrown.message : String(thrown), thrown);
    }
    state.moveTo(position);
    return { state, position };
  }

  /**
   * Queues one applied batch; writes are joined while an earlier one is under way.
   * @param bytes about as much as the changes take.
   */
  write(changes: readonly RowChange[], position: Position, bytes = 0): void {
    for (const change of changes) {
      if (change.table === "requests") this.#answers.push(change);
      else this.#pending.set(`${change.table}/${change.key}`, change);
    }
    this.#pendingBytes += bytes;
    this.#moveTo(position);
    if (this.#flushWaits) return;
    this.#flushWaits = true;
    this.#tail = this.#tail.then(async () => {
      await this.#gather?.();
      this.#flushWaits = false;
      await this.#flush(false);
    });
  }

  /** Resolves when the disk has taken enough of what was written that more may come; null: at once. */
  room(): Promise<void> | null {
    return this.#pendingBytes > BACKLOG_MAX_BYTES ? this.#tail : null;
  }

  /**
   * Replaces everything by a checkpoint, slice by slice. The state of before stays as it is, and may be written to, until
   * `take` is called: at that moment the caller must make the new one its own. Resolves when the new one survives a power cut.
   */
  async replace(position: Position, slices: AsyncIterable<readonly RowChange[]>, take: () => void): Promise<void> {
    await this.#clearing;
    const before = this.#rows.half;
    const rows = new HalfRows(otherHalf(before));
    let unsynced = 0;
    for await (const slice of slices) {
      // To the disk in small pieces: what gathers in the kernel makes other fsyncs wait when it goes out.
      const sync = ++unsynced >= SLICES_PER_SYNC;
      if (sync) unsynced = 0;
      await this.#db.batch(rows.operations(slice), { sync });
    }
    take();
    this.#rows = rows;
    this.#marked = false;
    this.#newest = position;
    // They were of the state before.
    this.#pending.clear();
    this.#answers = [];
    this.#pendingBytes = 0;
    this.#tail = this.#tail.then(() => this.#flush(true));
    await this.#tail;
    this.#check();
    this.#clear(before);
  }

  /** The state as it is now, to be read in slices while it goes on; holds disk space until it is closed. */
  async freeze(): Promise<FrozenState> {
    await this.#tail;
    this.#check();
    return await FrozenState.of(this.#db.snapshot(), this.#path);
  }

  /** Resolves when all that was written before survives a power cut. */
  async sync(position: Position): Promise<void> {
    this.#tail = this.#tail.then(() => {
      // Not an older one: a checkpoint may have been taken over meanwhile.
      this.#moveTo(position);
      return this.#flush(true);
    });
    await this.#tail;
    this.#check();
  }

  async close(): Promise<void> {
    await this.#tail;
    await this.#clearing;
    await this.#db.close();
  }

  /** The first write that failed, if any: the process must not go on. */
  get failure(): unknown {
    return this.#failure;
  }

  async #halfThatCounts(): Promise<Half | null> {
    for await (const [key, value] of this.#db.iterator({})) {
      if (key !== HALF_KEY) break;
      const half = unseal(HALF_KEY, value);
      if (half !== "a" && half !== "b") throw new Error(`no half is called ${half}`);
      return half;
    }
    return await this.#forgetUnfinished();
  }

  /** Rows, and nothing that says where they are: slices of a new node's first checkpoint, which it did not live to take over. */
  async #forgetUnfinished(): Promise<null> {
    for (const half of ["a", "b"] as const) {
      const position = `${half}!${POSITION_KEY}`;
      for await (const [key] of this.#db.iterator({ gte: position, lt: `${position}\0` }))
        throw new Error(`${JSON.stringify(key)} is there, but not which half counts`);
      await this.#db.clear(rangeOf(half));
    }
    return null;
  }

  #clear(half: Half): void {
    this.#clearing = this.#db.clear(rangeOf(half)).catch((thrown: unknown) => {
      this.#failure ??= thrown;
    });
  }

  #moveTo(position: Position): void {
    if (this.#newest === null || position.index >= this.#newest.index) this.#newest = position;
  }

  async #flush(sync: boolean): Promise<void> {
    if (this.#newest === null || this.#failure !== null) return;
    const operations = this.#rows.operations([...this.#pending.values(), ...this.#answers]);
    this.#pending.clear();
    this.#answers = [];
    this.#pendingBytes = 0;
    operations.push(...this.#rows.forget(this.#newest.index));
    const { half, digest } = this.#rows;
    const text = JSON.stringify({ ...this.#newest, ...digest });
    operations.push({ type: "put", key: `${half}!${POSITION_KEY}`, value: seal(POSITION_KEY, text) });
    if (!this.#marked) operations.push({ type: "put", key: HALF_KEY, value: seal(HALF_KEY, half) });
    this.#marked = true;
    try {
      await this.#db.batch(operations, { sync });
    } catch (thrown) {
      this.#failure ??= thrown;
    }
  }

  #check(): void {
    if (this.#failure !== null) throw writeFault(this.#path, this.#failure);
  }
}

/** Of a write that did not reach the disk, or may not have. */
function writeFault(path: string, thrown: unknown): RoostError {
  return new RoostError(
    { kind: "unavailable", reason: `cannot write the state in ${path}: ${asRoostError(thrown).message}` },
    "the agent stops, nothing that was acknowledged is lost: free space on its disk (df) or replace the disk, then start the agent again",
    { cause: thrown },
  );
}

function openFault(path: string, thrown: unknown): RoostError {
  const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown;
  const text = cause instanceof Error ? cause.message : String(cause);
  if (/lock/i.test(text)) {
    return new RoostError(
      { kind: "precondition", reason: `${path} is in use by another process` },
      "a roost agent is running on this data folder: `roost down` stops it, `roost down --no-park` if there is no quorum",
    );
  }
  if (/corruption|missing files/i.test(text)) return damaged(path, text, thrown);
  return new RoostError(
    { kind: "unavailable", reason: `cannot open the state in ${path}: ${text}` },
    "check that the folder exists, is writable, and that its disk is not full",
    { cause: thrown },
  );
}

function damaged(path: string, detail: string, cause?: unknown): RoostError {
  return new RoostError(
    { kind: "damaged", what: `the state in ${path} (${detail})` },
    "this node must not go on with it: move the data folder away and join the cluster again with a fresh token",
    { cause },
  );
}
