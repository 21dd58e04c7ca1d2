/**
 * Sizes as etcd's raft counts them, so that every limit cuts at the same entry: an entry weighs what its protobuf encoding
 * weighs (message Entry { Type = 1, Term = 2, Index = 3, Data = 4 }, proto2 presence: only fields that were set count).
 */
import type { Entry } from "./types.ts";

/** Bytes of a protobuf varint. */
function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}

/** Encoded bytes of one entry. */
export function entrySize(entry: Entry): number {
  const length = entry.data.length;
  let size = 2 + varintSize(entry.term) + varintSize(entry.index);
  // The type field is set for membership changes and for what replaces a refused one, not for plain proposals.
  if (entry.kind !== "normal" && entry.kind !== "empty") size += 2;
  // A proposal's data is always set, even when empty.
  if (length > 0 || entry.kind === "normal") size += 1 + varintSize(length) + length;
  return size;
}

/** Encoded bytes of all entries. */
export function entriesSize(entries: readonly Entry[]): number {
  let size = 0;
  for (const entry of entries) size += entrySize(entry);
  return size;
}

/** Payload bytes of all entries: what clients asked to store, so that empty entries never meet a quota. */
export function payloadSize(entries: readonly Entry[]): number {
  let size = 0;
  for (const entry of entries) size += entry.data.length;
  return size;
}

/** How many of the entries from `from` on fit in `maxBytes`: at least one if there is one. */
export function countWithin(entries: readonly Entry[], from: number, to: number, maxBytes: number): number {
  if (maxBytes === Number.POSITIVE_INFINITY || to - from <= 1) return Math.max(to - from, 0);
  let size = 0;
  for (let i = from; i < to; i++) {
    size += entrySize(entries[i]!);
    if (size > maxBytes && i > from) return i - from;
  }
  return to - from;
}
