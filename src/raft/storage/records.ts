/** What the durable log puts into LevelDB: keys and values, each value with a checksum over all of it. */
import { crc32 } from "node:zlib";
import { RoostError } from "../../base/errors.ts";
import { ByteReader, ByteWriter } from "../bytes.ts";
import { confStateBound, entriesBound, readConfState, readEntries, writeConfState, writeEntries } from "../codec.ts";
import type { ConfState, Entry, EntryId } from "../core/types.ts";

/** First byte of every key. Never reuse a number. */
export const Prefix = { format: 1, state: 2, checkpoint: 3, record: 4, start: 5, owner: 6 } as const;

export const FORMAT_KEY = Uint8Array.of(Prefix.format);
export const STATE_KEY = Uint8Array.of(Prefix.state);
export const CHECKPOINT_KEY = Uint8Array.of(Prefix.checkpoint);
export const START_KEY = Uint8Array.of(Prefix.start);
export const OWNER_KEY = Uint8Array.of(Prefix.owner);

/** Raised when an older roost could not read the log any more. */
const FORMAT = 1;

export interface CheckpointMeta {
  readonly index: number;
  readonly term: number;
  readonly confState: ConfState;
}

/** Hard state, and what the log must look like with it. */
export interface LogState {
  term: number;
  vote: number;
  commit: number;
  /** Number of the last record; records are counted from 1 and leave no gap. */
  lastSeq: number;
  lastIndex: number;
  lastTerm: number;
}

const CRC_BYTES = 4;
const VARINT = 8;

/** Records sort by number: it is written with the high byte first. */
export function recordKey(seq: number): Uint8Array {
  const key = new Uint8Array(9);
  key[0] = Prefix.record;
  new DataView(key.buffer).setBigUint64(1, BigInt(seq));
  return key;
}

export function recordSeq(key: Uint8Array): number {
  return Number(new DataView(key.buffer, key.byteOffset, key.byteLength).getBigUint64(1));
}

/** Puts the checksum of the rest into the first four bytes. */
function seal(out: ByteWriter): Uint8Array {
  const bytes = out.finish();
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, crc32(bytes.subarray(CRC_BYTES)));
  return bytes;
}

function unseal(value: Uint8Array, what: string): ByteReader {
  if (value.length < CRC_BYTES) throw new RoostError({ kind: "damaged", what: `${what} (it is cut off)` });
  const body = value.subarray(CRC_BYTES);
  if (new DataView(value.buffer, value.byteOffset).getUint32(0) !== crc32(body)) {
    throw new RoostError({ kind: "damaged", what: `${what} (its checksum is wrong)` });
  }
  return new ByteReader(body, what);
}

export function encodeFormat(): Uint8Array {
  const out = new ByteWriter(VARINT, CRC_BYTES);
  out.varint(FORMAT);
  return seal(out);
}

/** @throws RoostError `unsupported` for a log of a newer roost. */
export function checkFormat(value: Uint8Array): void {
  const input = unseal(value, "the format mark");
  const format = input.varint();
  input.end();
  if (format !== FORMAT)
    throw new RoostError({ kind: "unsupported", what: `Raft log format ${format}` }, "it was written by a newer roost: start that one");
}

/** Whose log it is: votes of one peer in the hands of another would count twice. */
export function encodeOwner(owner: string): Uint8Array {
  const text = new TextEncoder().encode(owner);
  const out = new ByteWriter(VARINT + text.length, CRC_BYTES);
  out.varint(text.length);
  for (const byte of text) out.byte(byte);
  return seal(out);
}

export function decodeOwner(value: Uint8Array): string {
  const input = unseal(value, "the owner mark");
  const text = new Uint8Array(input.varint());
  for (let i = 0; i < text.length; i++) text[i] = input.byte();
  input.end();
  return new TextDecoder().decode(text);
}

export function encodeState(state: LogState): Uint8Array {
  const out = new ByteWriter(6 * VARINT, CRC_BYTES);
  for (const value of [state.term, state.vote, state.commit, state.lastSeq, state.lastIndex, state.lastTerm]) out.varint(value);
  return seal(out);
}

export function decodeState(value: Uint8Array): LogState {
  const input = unseal(value, "the hard state");
  const state: LogState = {
    term: input.varint(),
    vote: input.varint(),
    commit: input.varint(),
    lastSeq: input.varint(),
    lastIndex: input.varint(),
    lastTerm: input.varint(),
  };
  input.end();
  return state;
}

export function encodeStart({ index, term }: EntryId): Uint8Array {
  const out = new ByteWriter(2 * VARINT, CRC_BYTES);
  out.varint(index);
  out.varint(term);
  return seal(out);
}

export function decodeStart(value: Uint8Array): EntryId {
  const input = unseal(value, "the start of the log");
  const start = { index: input.varint(), term: input.varint() };
  input.end();
  return start;
}

export function encodeCheckpointMeta({ index, term, confState }: CheckpointMeta): Uint8Array {
  const out = new ByteWriter(2 * VARINT + confStateBound(confState), CRC_BYTES);
  out.varint(index);
  out.varint(term);
  writeConfState(out, confState);
  return seal(out);
}

export function decodeCheckpointMeta(value: Uint8Array): CheckpointMeta {
  const input = unseal(value, "the checkpoint mark");
  const meta = { index: input.varint(), term: input.varint(), confState: readConfState(input) };
  input.end();
  return meta;
}

/** All entries of one write in one record: LevelDB then journals one value instead of one per entry. */
export function encodeRecord(seq: number, entries: readonly Entry[]): Uint8Array {
  const out = new ByteWriter(VARINT + entriesBound(entries), CRC_BYTES);
  // The number again: a value that ended up under another key is damage too.
  out.varint(seq);
  writeEntries(out, entries, 0, 0);
  return seal(out);
}

export function decodeRecord(seq: number, value: Uint8Array): Entry[] {
  const input = unseal(value, `record ${seq}`);
  if (input.varint() !== seq) throw input.damaged("it belongs elsewhere");
  const entries = readEntries(input, 0, 0);
  input.end();
  return entries;
}
