/**
 * The durable Raft log in LevelDB. One atomic, synced batch per write: all entries in one framed record, hard state, and what
 * they replace. Everything that is not compacted is also in memory, so the core never waits for the disk; LevelDB is read only
 * at open, where every record is checked. The checkpoint's data is not here (the replicated state has its own database): only
 * its index, term and membership.
 */
import { RoostError } from "../../base/errors.ts";
import { AssertionError } from "../../base/assert.ts";
import { Level } from "level";
import type { Checkpoint, ConfState, Entry, EntryId, HardState, LogFault, LogReader } from "../core/types.ts";
import { NO_DATA } from "../core/message.ts";
import { MemoryLog } from "./memory.ts";
import { Acknowledged } from "./acknowledged.ts";
import type { AcknowledgedMark, LogDatabase, LogOperation } from "./database.ts";
import type { CheckpointMeta, LogState } from "./records.ts";
import {
  CHECKPOINT_KEY,
  encodeCheckpointMeta,
  encodeFormat,
  encodeOwner,
  encodeRecord,
  encodeStart,
  encodeState,
  FORMAT_KEY,
  OWNER_KEY,
  recordKey,
  START_KEY,
  STATE_KEY,
} from "./records.ts";
import type { Recovered, RecordRange } from "./recovery.ts";
import { damagedLog, recover } from "./recovery.ts";

/** One write: what a Ready (or a `storage-append` message) asks to make durable. */
export interface LogWrite {
  readonly entries: readonly Entry[];
  readonly hardState: HardState | null;
  /** From the leader: replaces the whole log. Its data must be safe elsewhere before. */
  readonly checkpoint: Checkpoint | null;
}

export interface LevelLogOptions {
  /** Start of a new cluster: the membership at an index > 0, from which later peers start by checkpoint. Ignored if a log exists. */
  readonly bootstrap?: CheckpointMeta;
  /** Whose log it is, for a new one; an existing one of another's is refused. */
  readonly owner?: string;
  /** What to send to a peer that needs compacted entries; default: the recorded checkpoint without data. */
  readonly checkpointSource?: () => Checkpoint | null;
}

/** A change that waits its turn: it adds to the batch, and shows itself in memory once the batch is durable. */
interface Pending {
  sync: boolean;
  prepare(batch: LogOperation[]): void;
  commit(): void;
  resolve(): void;
  reject(error: unknown): void;
}

/** Writes that may wait for the one under way. The driver keeps few; more is a bug that would eat the memory. */
const MAX_PENDING = 4096;
/** The log is written once and deleted soon: a larger memory table saves most of it from ever being sorted to disk. */
const WRITE_BUFFER_BYTES = 8 * 1024 * 1024;

export class LevelLog implements LogReader {
  private readonly db: LogDatabase;
  private readonly path: string;
  private readonly tail: MemoryLog;
  private readonly acknowledged: AcknowledgedMark;
  private readonly checkpointSource: (() => Checkpoint | null) | undefined;
  private meta: CheckpointMeta;
  private state: LogState;
  /** Entries up to here are gone, or will be with the next batch. */
  private start: number;
  /** Records on disk, oldest first. */
  private records: RecordRange[];
  private queue: Pending[] = [];
  private flushing: Promise<void> | null = null;
  /** The first failed write: after it nothing is known of the disk any more, and nothing more is written. */
  private failure: Error | null = null;
  private closed = false;

  /**
   * Opens the log in the folder `path`, or begins one.
   * @throws RoostError `damaged` if what is there cannot be trusted, `unavailable` if it is in use or cannot be read.
   */
  static async open(path: string, options: LevelLogOptions = {}): Promise<LevelLog> {
    const db = new Level<Uint8Array, Uint8Array>(path, {
      keyEncoding: "view",
      valueEncoding: "view",
      compression: false,
      writeBufferSize: WRITE_BUFFER_BYTES,
    });
    try {
      await db.open();
    } catch (error) {
      throw openFault(path, error);
    }
    let acknowledged: Acknowledged;
    try {
      acknowledged = await Acknowledged.open(`${path}.acked`);
    } catch (error) {
      await db.close();
      throw openFault(path, error);
    }
    return await LevelLog.over(db, acknowledged, path, options);
  }

  /** The same over an open database; `path` is for messages only. Closes both if the log cannot be trusted. */
  static async over(db: LogDatabase, acknowledged: AcknowledgedMark, path: string, options: LevelLogOptions = {}): Promise<LevelLog> {
    try {
      const found = (await recover(db, path, acknowledged.atOpen)) ?? (await begin(db, options));
      if (options.owner !== undefined && found.owner !== undefined && found.owner !== options.owner)
        throw damagedLog(path, `it is of node ${found.owner}, this is ${options.owner}`);
      return new LevelLog(db, path, found, acknowledged, options.checkpointSource);
    } catch (error) {
      await acknowledged.close();
      await db.close();
      throw error instanceof RoostError ? error : openFault(path, error);
    }
  }

  private constructor(
    db: LogDatabase,
    path: string,
    found: Recovered,
    acknowledged: AcknowledgedMark,
    checkpointSource: (() => Checkpoint | null) | undefined,
  ) {
    this.db = db;
    this.path = path;
    this.tail = found.tail;
    this.meta = found.checkpoint;
    this.state = found.state;
    this.records = found.records;
    this.start = found.tail.firstIndex() - 1;
    this.acknowledged = acknowledged;
    this.checkpointSource = checkpointSource;
  }

  initialState(): { hardState: HardState; confState: ConfState } {
    const { term, vote, commit } = this.state;
    return { hardState: { term, vote, commit }, confState: this.meta.confState };
  }

  /** The recorded checkpoint: index 0 if there is none. Start the core with `applied` = its index. */
  get checkpointMeta(): CheckpointMeta {
    return this.meta;
  }

  firstIndex(): number {
    return this.tail.firstIndex();
  }

  lastIndex(): number {
    return this.tail.lastIndex();
  }

  term(index: number): number | LogFault {
    return this.tail.term(index);
  }

  /** Of the entries' data in memory. */
  get bytes(): number {
    return this.tail.bytes;
  }

  /** See MemoryLog. */
  indexBefore(bytes: number): number {
    return this.tail.indexBefore(bytes);
  }

  entries(from: number, to: number, maxBytes: number): readonly Entry[] | LogFault {
    return this.tail.entries(from, to, maxBytes);
  }

  checkpoint(): Checkpoint | null {
    if (this.checkpointSource !== undefined) return this.checkpointSource();
    return this.meta.index === 0 ? null : { ...this.meta, data: NO_DATA };
  }

  /**
   * Makes one write durable. Writes happen in the order of the calls; those that wait for a write under way become one batch
   * and one fsync. `sync` false is for writes whose loss breaks no promise (Ready.mustSync).
   * @throws RoostError when it failed: then nothing is known of the disk, and the peer must stop.
   */
  append(write: LogWrite, sync: boolean): Promise<void> {
    const { entries, hardState, checkpoint } = write;
    if (!sync && checkpoint === null && entries.length === 0) {
      // Nothing but a higher commit index, which others tell again if it is lost: it goes with the next write, not with one of its own.
      // It still waits for the writes before it: the core takes its end for theirs.
      return this.enqueue({
        sync: false,
        prepare: () => {
          this.state.commit = Math.max(hardState?.commit ?? 0, this.state.commit);
        },
        commit: () => {},
      });
    }
    return this.enqueue({
      sync,
      prepare: (batch) => {
        if (checkpoint !== null) this.startAfter(batch, checkpoint);
        if (entries.length > 0) {
          if (entries[0]!.index > this.state.lastIndex + 1) throw new AssertionError(`entries before ${entries[0]!.index} are missing`);
          const seq = ++this.state.lastSeq;
          const last = entries.at(-1)!;
          this.records.push({ seq, lastIndex: last.index });
          this.state.lastIndex = last.index;
          this.state.lastTerm = last.term;
          batch.push({ type: "put", key: recordKey(seq), value: encodeRecord(seq, entries) });
        }
        if (hardState !== null) {
          const { term, vote, commit } = hardState;
          // What was recorded as committed stays so: see commitTo and saveCheckpoint.
          Object.assign(this.state, { term, vote, commit: Math.max(commit, this.state.commit) });
        }
        batch.push({ type: "put", key: STATE_KEY, value: encodeState(this.state) });
      },
      commit: () => {
        if (checkpoint !== null) this.tail.applyCheckpoint({ ...checkpoint, data: NO_DATA });
        this.tail.append(entries);
      },
    });
  }

  /**
   * Records that the replicated state is safe up to `index` (its data elsewhere), with the membership there: from then on a
   * restart begins there and the log may be compacted up to there. Older than the recorded one: ignored.
   */
  saveCheckpoint(index: number, confState: ConfState): Promise<void> {
    const term = this.term(index);
    if (index <= this.meta.index) return Promise.resolve();
    if (typeof term !== "number") throw new AssertionError(`checkpoint at ${index} is outside of the log`);
    const meta: CheckpointMeta = { index, term, confState };
    return this.enqueue({
      // Lost in a crash, it only means a longer replay: compaction comes after it in the same journal.
      sync: false,
      prepare: (batch) => {
        // A checkpoint of the leader's may have come in between.
        if (meta.index <= this.meta.index) return;
        this.meta = meta;
        // The core may have told of this commit index in a write that is still under way, or was lost.
        if (index > this.state.commit) this.state.commit = index;
        batch.push({ type: "put", key: STATE_KEY, value: encodeState(this.state) });
        batch.push({ type: "put", key: CHECKPOINT_KEY, value: encodeCheckpointMeta(meta) });
      },
      commit: () => {},
    });
  }

  /**
   * Makes it durable that everything up to `index` is committed. Must be done before a membership change at `index` takes
   * effect: commit indexes are otherwise not synced, and a peer that wakes up in an old membership without knowing of the
   * change could elect itself by a quorum that no longer counts.
   */
  commitTo(index: number): Promise<void> {
    return this.enqueue({
      sync: true,
      prepare: (batch) => {
        if (index > this.state.lastIndex) throw new AssertionError(`commit index ${index} is beyond the log`);
        if (index > this.state.commit) this.state.commit = index;
        batch.push({ type: "put", key: STATE_KEY, value: encodeState(this.state) });
      },
      commit: () => {},
    });
  }

  /** Forgets entries up to `index`, at most up to the checkpoint. Records that also hold later entries stay on disk. */
  compact(index: number): Promise<void> {
    if (index > this.meta.index) throw new AssertionError(`compaction to ${index} beyond the checkpoint ${this.meta.index}`);
    const term = this.term(index);
    if (typeof term !== "number" || index < this.firstIndex()) return Promise.resolve();
    return this.enqueue({
      sync: false,
      prepare: (batch) => {
        if (index <= this.start) return;
        this.start = index;
        batch.push({ type: "put", key: START_KEY, value: encodeStart({ index, term }) });
        // Once more, and what it rests on: a power cut may take an unsynced batch and leave a later one.
        batch.push({ type: "put", key: CHECKPOINT_KEY, value: encodeCheckpointMeta(this.meta) });
        batch.push({ type: "put", key: STATE_KEY, value: encodeState(this.state) });
        // From the front only, so that what remains has no gap in its numbers. A later record may begin lower (it replaced a
        // tail); then the one before it ends below what is needed all the same.
        let drop = 0;
        while (drop < this.records.length - 1 && this.records[drop]!.lastIndex <= index) drop++;
        for (const { seq } of this.records.splice(0, drop)) batch.push({ type: "del", key: recordKey(seq) });
      },
      commit: () => {
        this.tail.compact(index);
      },
    });
  }

  /** Ends writing after what is under way; the log can be opened again. */
  async close(): Promise<void> {
    this.closed = true;
    await this.flushing?.catch(() => undefined); // whoever asked for that write was told
    await this.acknowledged.close();
    await this.db.close();
  }

  private startAfter(batch: LogOperation[], checkpoint: Checkpoint): void {
    const { index, term, confState } = checkpoint;
    for (const { seq } of this.records) batch.push({ type: "del", key: recordKey(seq) });
    this.records = [];
    this.state.lastIndex = index;
    this.state.lastTerm = term;
    this.meta = { index, term, confState };
    this.start = index;
    batch.push({ type: "put", key: CHECKPOINT_KEY, value: encodeCheckpointMeta(this.meta) });
    batch.push({ type: "put", key: START_KEY, value: encodeStart({ index, term }) });
  }

  private enqueue(change: Omit<Pending, "resolve" | "reject">): Promise<void> {
    if (this.closed) return Promise.reject(new RoostError({ kind: "unavailable", reason: "the Raft log is closed" }));
    if (this.failure !== null) return Promise.reject(this.failure);
    if (this.queue.length >= MAX_PENDING) {
      return Promise.reject(new RoostError({ kind: "exhausted", reason: `${MAX_PENDING} writes wait for the disk of the Raft log` }));
    }
    return new Promise((resolve, reject) => {
      this.queue.push({ ...change, resolve, reject });
      this.flushing ??= this.flush();
    });
  }

  private async flush(): Promise<void> {
    while (this.queue.length > 0) {
      const taken = this.queue;
      this.queue = [];
      const batch: LogOperation[] = [];
      try {
        for (const change of taken) change.prepare(batch);
        const sync = taken.some((change) => change.sync);
        // Awaited in any case: nobody must find this over before it has begun.
        await (batch.length === 0 ? null : this.db.batch(lastWins(batch), { sync }));
        if (sync) this.acknowledged.note(this.state.lastSeq);
        for (const change of taken) change.commit();
      } catch (error) {
        const failure = error instanceof AssertionError ? error : writeFault(this.path, error);
        this.failure = failure;
        for (const change of [...taken, ...this.queue]) change.reject(failure);
        this.queue = [];
        break;
      }
      for (const change of taken) change.resolve();
    }
    this.flushing = null;
  }
}

/** Joined writes put the state several times: only the last matters, and LevelDB would store them all. */
function lastWins(batch: LogOperation[]): LogOperation[] {
  let found = false;
  const kept: LogOperation[] = [];
  for (let i = batch.length - 1; i >= 0; i--) {
    const operation = batch[i]!;
    if (operation.key === STATE_KEY) {
      if (found) continue;
      found = true;
    }
    kept.push(operation);
  }
  return kept.reverse();
}

/** A new log; the bootstrap is its beginning. */
async function begin(db: LogDatabase, { bootstrap, owner }: LevelLogOptions): Promise<Recovered> {
  const checkpoint: CheckpointMeta = bootstrap ?? {
    index: 0,
    term: 0,
    confState: { voters: [], outgoing: [], learners: [], learnersNext: [], autoLeave: false },
  };
  const start: EntryId = { index: checkpoint.index, term: checkpoint.term };
  const state: LogState = { term: start.term, vote: 0, commit: start.index, lastSeq: 0, lastIndex: start.index, lastTerm: start.term };
  const tail = new MemoryLog();
  if (start.index > 0) tail.applyCheckpoint({ ...checkpoint, data: NO_DATA });
  await db.batch(
    [
      { type: "put", key: FORMAT_KEY, value: encodeFormat() },
      { type: "put", key: STATE_KEY, value: encodeState(state) },
      { type: "put", key: CHECKPOINT_KEY, value: encodeCheckpointMeta(checkpoint) },
      { type: "put", key: START_KEY, value: encodeStart(start) },
      ...(owner === undefined ? [] : [{ type: "put" as const, key: OWNER_KEY, value: encodeOwner(owner) }]),
    ],
    { sync: true },
  );
  return { tail, checkpoint, state, records: [] };
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const cause = error.cause instanceof Error ? codeOf(error.cause) : "";
  return cause !== "" ? cause : "code" in error && typeof error.code === "string" ? error.code : "";
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? reasonOf(error.cause) : error.message;
}

function openFault(path: string, error: unknown): RoostError {
  const code = codeOf(error);
  if (code === "LEVEL_LOCKED") {
    return new RoostError(
      { kind: "unavailable", reason: `the Raft log in ${path} is in use by another process` },
      "is another agent running with this data folder?",
      { cause: error },
    );
  }
  if (code === "LEVEL_CORRUPTION") return damagedLog(path, reasonOf(error), error);
  return new RoostError(
    { kind: "unavailable", reason: `cannot open the Raft log in ${path}: ${reasonOf(error)}` },
    "check that the folder exists, is writable, and that its disk is not full",
    { cause: error },
  );
}

function writeFault(path: string, error: unknown): RoostError {
  return new RoostError(
    { kind: "unavailable", reason: `cannot write the Raft log in ${path}: ${reasonOf(error)}` },
    "the agent stops, because it cannot know what reached the disk; free space or replace the disk, then start it again",
    { cause: error },
  );
}
