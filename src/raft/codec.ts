/**
 * Raft's messages and entries as bytes, for the wire between peers and for the records of the durable log. Small, because
 * most messages are heartbeats and acknowledgements of a few numbers: fields that are 0 are left out, and entries are written
 * as differences to the one before. Not self-describing: peers of neighbouring versions must agree, so numbers here are
 * never given a new meaning.
 */
import { AssertionError } from "../base/assert.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { isThread, message } from "./core/message.ts";
import type { Checkpoint, ConfState, Entry, EntryKind, Message, MessageType } from "./core/types.ts";

/** Index = number on the wire. Append only; the gaps are types that never leave a peer. */
const TYPES: readonly (MessageType | null)[] = [
  null,
  "append",
  "append-reply",
  "heartbeat",
  "heartbeat-reply",
  "vote",
  "vote-reply",
  "pre-vote",
  "pre-vote-reply",
  "checkpoint",
  "timeout-now",
  "propose",
  "read-index",
  "read-index-reply",
  "transfer-leader",
];
const TYPE_NUMBERS = new Map(TYPES.map((type, number) => [type, number]));

const KINDS: readonly EntryKind[] = ["normal", "empty", "refused", "conf-v1", "conf"];
const KIND_NUMBERS = new Map(KINDS.map((kind, number) => [kind, number]));

/** Bits of the field mask after the type: which fields follow, in this order. */
const TERM = 1;
const LOG_TERM = 2;
const INDEX = 4;
const COMMIT = 8;
const REJECT = 16;
const REJECT_HINT = 32;
const CONTEXT = 64;
const ENTRIES = 128;
const CHECKPOINT = 256;
const ALL_FIELDS = 511;

/** Bits of an entry's first byte above its kind: it has the term of the one before; its index is the next. */
const SAME_TERM = 8;
const NEXT_INDEX = 16;

/** Bytes of the largest varint. */
const MAX_VARINT = 8;

/**
 * Bytes of a message, with `reserve` free bytes in front for an envelope. Only for messages between peers: work for storage
 * threads has no form on the wire.
 */
export function encodeMessage(m: Message, reserve = 0): Uint8Array {
  const type = TYPE_NUMBERS.get(m.type);
  if (type === undefined || m.responses.length > 0 || isThread(m.to) || isThread(m.from)) {
    throw new AssertionError(`${m.type} stays within its peer`);
  }
  let fields = 0;
  if (m.term !== 0) fields |= TERM;
  if (m.logTerm !== 0) fields |= LOG_TERM;
  if (m.index !== 0) fields |= INDEX;
  if (m.commit !== 0) fields |= COMMIT;
  if (m.reject) fields |= REJECT;
  if (m.rejectHint !== 0) fields |= REJECT_HINT;
  if (m.context !== 0) fields |= CONTEXT;
  if (m.entries.length > 0) fields |= ENTRIES;
  if (m.checkpoint !== null) fields |= CHECKPOINT;

  const out = new ByteWriter(1 + 9 * MAX_VARINT + entriesBound(m.entries) + checkpointBound(m.checkpoint), reserve);
  out.byte(type);
  out.varint(fields);
  out.varint(m.to);
  out.varint(m.from);
  if (m.term !== 0) out.varint(m.term);
  if (m.logTerm !== 0) out.varint(m.logTerm);
  if (m.index !== 0) out.varint(m.index);
  if (m.commit !== 0) out.varint(m.commit);
  if (m.rejectHint !== 0) out.varint(m.rejectHint);
  if (m.context !== 0) out.varint(m.context);
  if (m.entries.length > 0) writeEntries(out, m.entries, m.logTerm, m.index);
  if (m.checkpoint !== null) writeCheckpoint(out, m.checkpoint);
  return out.finish();
}

/**
 * The message in `bytes`. Entry data are views of them, so they must not be changed afterwards.
 * @throws RoostError `damaged` for anything that encodeMessage does not write.
 */
export function decodeMessage(bytes: Uint8Array): Message {
  const input = new ByteReader(bytes, "a Raft message");
  const type = TYPES[input.byte()] ?? null;
  if (type === null) throw input.damaged("its type is unknown");
  const fields = input.varint();
  if (fields > ALL_FIELDS) throw input.damaged("it has unknown fields");
  const m = message(type, input.varint(), input.varint());
  if ((fields & TERM) !== 0) m.term = nonZero(input);
  if ((fields & LOG_TERM) !== 0) m.logTerm = nonZero(input);
  if ((fields & INDEX) !== 0) m.index = nonZero(input);
  if ((fields & COMMIT) !== 0) m.commit = nonZero(input);
  m.reject = (fields & REJECT) !== 0;
  if ((fields & REJECT_HINT) !== 0) m.rejectHint = nonZero(input);
  if ((fields & CONTEXT) !== 0) m.context = nonZero(input);
  if ((fields & ENTRIES) !== 0) {
    m.entries = readEntries(input, m.logTerm, m.index);
    if (m.entries.length === 0) throw input.damaged("it says it has entries");
  }
  if ((fields & CHECKPOINT) !== 0) m.checkpoint = readCheckpoint(input);
  input.end();
  return m;
}

function nonZero(input: ByteReader): number {
  const value = input.varint();
  if (value === 0) throw input.damaged("a field that is there is 0");
  return value;
}

/** Upper bound of what writeEntries takes. */
export function entriesBound(entries: readonly Entry[]): number {
  let size = MAX_VARINT;
  for (const entry of entries) size += 1 + 3 * MAX_VARINT + entry.data.length;
  return size;
}

/** Writes entries; `term` and `index` are of the entry before the first, if that is known (0 if not). */
export function writeEntries(out: ByteWriter, entries: readonly Entry[], term: number, index: number): void {
  out.varint(entries.length);
  let lastTerm = term;
  let lastIndex = index;
  for (const entry of entries) {
    const sameTerm = entry.term === lastTerm;
    const nextIndex = entry.index === lastIndex + 1;
    out.byte(KIND_NUMBERS.get(entry.kind)! | (sameTerm ? SAME_TERM : 0) | (nextIndex ? NEXT_INDEX : 0));
    if (!sameTerm) out.varint(entry.term);
    if (!nextIndex) out.varint(entry.index);
    out.bytes(entry.data);
    lastTerm = entry.term;
    lastIndex = entry.index;
  }
}

/** Reads what writeEntries wrote with the same `term` and `index`. */
export function readEntries(input: ByteReader, term: number, index: number): Entry[] {
  const count = input.count();
  const entries: Entry[] = [];
  let lastTerm = term;
  let lastIndex = index;
  for (let i = 0; i < count; i++) {
    const head = input.byte();
    const kind = KINDS[head & 7];
    if (kind === undefined || head >= 32) throw input.damaged("an entry is of unknown kind");
    if ((head & SAME_TERM) === 0) lastTerm = input.varint();
    lastIndex = (head & NEXT_INDEX) === 0 ? input.varint() : lastIndex + 1;
    if (lastIndex > Number.MAX_SAFE_INTEGER) throw input.damaged("an index is too large");
    entries.push({ term: lastTerm, index: lastIndex, kind, data: input.bytes() });
  }
  return entries;
}

/** Upper bound of what writeConfState takes. */
export function confStateBound({ voters, outgoing, learners, learnersNext }: ConfState): number {
  return 1 + MAX_VARINT * (4 + voters.length + outgoing.length + learners.length + learnersNext.length);
}

export function writeConfState(out: ByteWriter, state: ConfState): void {
  for (const ids of [state.voters, state.outgoing, state.learners, state.learnersNext]) {
    out.varint(ids.length);
    for (const id of ids) out.varint(id);
  }
  out.byte(state.autoLeave ? 1 : 0);
}

export function readConfState(input: ByteReader): ConfState {
  const ids = (): number[] => Array.from({ length: input.count() }, () => nonZero(input));
  const voters = ids();
  const outgoing = ids();
  const learners = ids();
  const learnersNext = ids();
  const autoLeave = input.byte();
  if (autoLeave > 1) throw input.damaged("a membership is malformed");
  return { voters, outgoing, learners, learnersNext, autoLeave: autoLeave === 1 };
}

function checkpointBound(checkpoint: Checkpoint | null): number {
  return checkpoint === null ? 0 : 3 * MAX_VARINT + confStateBound(checkpoint.confState) + checkpoint.data.length;
}

function writeCheckpoint(out: ByteWriter, { index, term, confState, data }: Checkpoint): void {
  out.varint(index);
  out.varint(term);
  writeConfState(out, confState);
  out.bytes(data);
}

function readCheckpoint(input: ByteReader): Checkpoint {
  const index = input.varint();
  const term = input.varint();
  const confState = readConfState(input);
  return { index, term, confState, data: input.bytes() };
}
