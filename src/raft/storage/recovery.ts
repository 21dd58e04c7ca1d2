/** Reading a log back at start: every value is checked, and so is that they fit together. In doubt it is refused. */
import { RoostError } from "../../base/errors.ts";
import { NO_DATA } from "../core/message.ts";
import type { Entry, EntryId } from "../core/types.ts";
import type { LogDatabase } from "./database.ts";
import { MemoryLog } from "./memory.ts";
import type { CheckpointMeta, LogState } from "./records.ts";
import { checkFormat, decodeCheckpointMeta, decodeOwner, decodeRecord, decodeStart, decodeState, Prefix, recordSeq } from "./records.ts";

/** A record on disk and the index of the last entry in it. */
export interface RecordRange {
  readonly seq: number;
  readonly lastIndex: number;
}

export interface Recovered {
  readonly tail: MemoryLog;
  readonly checkpoint: CheckpointMeta;
  readonly state: LogState;
  readonly records: RecordRange[];
  /** Absent: it was begun without one. */
  readonly owner?: string;
}

/** The fault for a log that must not be trusted. */
export function damagedLog(path: string, detail: string, cause?: unknown): RoostError {
  return new RoostError(
    { kind: "damaged", what: `the Raft log in ${path} (${detail})` },
    "this node's copy cannot be trusted: remove the node from the cluster and join it again with an empty data folder, or restore a backup (roost cluster restore)",
    { cause },
  );
}

/**
 * What the database holds; null if it is new. `acknowledgedSeq`: the last record known to have been promised to others.
 * @throws RoostError `damaged` or `unsupported`.
 */
export async function recover(db: LogDatabase, path: string, acknowledgedSeq: number): Promise<Recovered | null> {
  const found = await readAll(db, path);
  if (found === null) {
    if (acknowledgedSeq > 0) throw damagedLog(path, "it is empty, but was not before");
    return null;
  }
  const { start, state, checkpoint, records, owner } = found;
  if (start.index > checkpoint.index)
    throw damagedLog(path, `entries up to ${start.index} are gone, the checkpoint is at ${checkpoint.index}`);
  const { entries, ranges } = join(path, start, records);
  const tail = new MemoryLog();
  if (start.index > 0) tail.applyCheckpoint({ ...start, confState: checkpoint.confState, data: NO_DATA });
  tail.append(entries);
  const lastSeq = ranges.at(-1)?.seq;
  if (lastSeq !== undefined && lastSeq !== state.lastSeq)
    throw damagedLog(path, `the last record is ${lastSeq}, should be ${state.lastSeq}`);
  if (tail.lastIndex() !== state.lastIndex || tail.term(state.lastIndex) !== state.lastTerm) {
    throw damagedLog(path, `the last entry is ${tail.lastIndex()}, should be ${state.lastIndex}`);
  }
  if (state.lastSeq < acknowledgedSeq) {
    throw damagedLog(path, `records after ${state.lastSeq} are gone that were acknowledged, up to ${acknowledgedSeq}`);
  }
  if (state.commit > state.lastIndex || state.commit < checkpoint.index || typeof tail.term(checkpoint.index) !== "number") {
    throw damagedLog(
      path,
      `commit index ${state.commit}, checkpoint ${checkpoint.index} and log end ${state.lastIndex} contradict each other`,
    );
  }
  return { tail, checkpoint, state, records: ranges, ...(owner === undefined ? {} : { owner }) };
}

/**
 * The records one after the other, each replacing what is there from its first entry on; this must be done from the first
 * record on, also where entries are compacted already, because a compacted record may be what cut off an earlier one.
 */
function join(path: string, start: EntryId, records: Found["records"]): { entries: Entry[]; ranges: RecordRange[] } {
  const joined: Entry[] = [];
  const ranges: RecordRange[] = [];
  for (const { seq, entries } of records) {
    const previous = ranges.at(-1);
    if (previous !== undefined && seq !== previous.seq + 1) throw damagedLog(path, `records ${previous.seq + 1} to ${seq - 1} are missing`);
    const first = entries[0];
    if (first === undefined) throw damagedLog(path, `record ${seq} is empty`);
    const end = (joined.at(-1)?.index ?? start.index) + 1;
    if (first.index > end) throw damagedLog(path, `entries ${end} to ${first.index - 1} are missing`);
    if (joined[0] !== undefined) joined.length = Math.max(first.index - joined[0].index, 0);
    for (const [i, entry] of entries.entries()) {
      if (entry.index !== first.index + i) throw damagedLog(path, `record ${seq} has a gap`);
      joined.push(entry);
    }
    ranges.push({ seq, lastIndex: entries.at(-1)!.index });
  }
  // Of what is before the start only the cuts mattered.
  return { entries: joined.filter(({ index }) => index > start.index), ranges };
}

interface Found {
  start: EntryId;
  state: LogState;
  checkpoint: CheckpointMeta;
  records: { seq: number; entries: Entry[] }[];
  owner: string | undefined;
}

async function readAll(db: LogDatabase, path: string): Promise<Found | null> {
  let start: EntryId | undefined;
  let state: LogState | undefined;
  let checkpoint: CheckpointMeta | undefined;
  let owner: string | undefined;
  let format = false;
  const records: Found["records"] = [];
  try {
    for await (const [key, value] of db.iterator()) {
      if (key[0] === Prefix.record && key.length === 9) {
        const seq = recordSeq(key);
        records.push({ seq, entries: decodeRecord(seq, value) });
        continue;
      }
      if (key.length !== 1) throw damagedLog(path, "it has a key of unknown form");
      if (key[0] === Prefix.format) {
        checkFormat(value);
        format = true;
      } else if (key[0] === Prefix.state) state = decodeState(value);
      else if (key[0] === Prefix.checkpoint) checkpoint = decodeCheckpointMeta(value);
      else if (key[0] === Prefix.start) start = decodeStart(value);
      else if (key[0] === Prefix.owner) owner = decodeOwner(value);
      else throw damagedLog(path, `it has a key of unknown kind ${key[0]}`);
    }
  } catch (error) {
    if (error instanceof RoostError && error.fault.kind === "unsupported") throw error;
    if (error instanceof RoostError && error.fault.kind === "damaged" && error.hint !== undefined) throw error;
    throw damagedLog(path, error instanceof RoostError && error.fault.kind === "damaged" ? error.fault.what : String(error), error);
  }
  if (!format && start === undefined && state === undefined && checkpoint === undefined && records.length === 0) return null;
  if (!format || start === undefined || state === undefined || checkpoint === undefined) {
    throw damagedLog(path, "its hard state or one of its marks is missing");
  }
  return { start, state, checkpoint, records, owner };
}
