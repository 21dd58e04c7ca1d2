/**
 * How rows lie in the state's database: keys, checksums, and a digest over all of them, so that a row that is lost, or back
 * although it was deleted, is noticed as well as one that was changed.
 */
import { crc32 } from "node:zlib";
import { type AppliedRequest, OWN_KEPT_REVISIONS } from "../state/requests.ts";
import { type RowChange, type TableName, TABLE_NAMES } from "../state/state.ts";
import type { KeyRange, Operation } from "./state-database.ts";

/** Key prefixes; a number once given is never used for anything else. */
const PREFIX: Record<TableName, string> = {
  cluster: "10",
  nodes: "11",
  vms: "12",
  pools: "13",
  tokens: "14",
  requests: "15",
  policies: "16",
  zoneRoles: "17",
  fencing: "18",
  callers: "81",
  events: "82",
  digests: "83",
  history: "20",
  bench: "90",
};
export const POSITION_KEY = "01";
/** Sorts before both halves. */
export const HALF_KEY = "00";

export type Half = "a" | "b";

/** Number of rows, and the sum of their checksums modulo 2^32. */
export interface Digest {
  rows: number;
  sum: number;
}

export function otherHalf(half: Half): Half {
  return half === "a" ? "b" : "a";
}

/** All keys of a half: `"` follows `!`. */
export function rangeOf(half: Half): KeyRange {
  return { gte: `${half}!`, lt: `${half}"` };
}

/** CRC-32 (zlib's) of key and text in hex, a space, the text: a row under another's key is damage too. */
export function seal(key: string, text: string): string {
  return `${crc32(text, crc32(key)).toString(16).padStart(8, "0")} ${text}`;
}

/** The text. Throws an Error that names the key if it is not what was sealed. */
export function unseal(key: string, value: string): string {
  const text = value.slice(9);
  if (seal(key, text) !== value) throw new Error(`the checksum of ${JSON.stringify(key)} is wrong`);
  return text;
}

/** Table and id of a stored row; its key without the half. Throws an Error for a key of no table. */
export function readKey(key: string, text: string): { table: TableName; id: string } {
  const table = TABLE_NAMES.find((name) => PREFIX[name] === key.slice(0, 2));
  if (table === undefined) throw new Error(`key ${JSON.stringify(key)} belongs to no table`);
  return { table, id: table === "requests" ? (JSON.parse(text) as AppliedRequest).requestId : key.slice(3) };
}

/** The rows of one half, as far as writing more needs to know them. */
export class HalfRows {
  readonly half: Half;
  /** Checksum of each row, signed: V8 keeps those without a box. */
  readonly #sums = new Map<string, number>();
  #sum = 0;
  /** Answers to own proposals of revisions up to here are deleted. */
  #forgotten: number;

  /** @param index of the state that these are the rows of. */
  constructor(half: Half, index: number) {
    this.half = half;
    this.#forgotten = Math.max(0, index - OWN_KEPT_REVISIONS);
  }

  get digest(): Digest {
    return { rows: this.#sums.size, sum: this.#sum };
  }

  /** A row that is stored already; its value is checked. */
  found(key: string, value: string): void {
    this.#count(key, value);
  }

  operation(change: RowChange): Operation {
    const key = keyOf(change);
    const value = change.row === null ? null : seal(key, JSON.stringify(change.row));
    this.#count(key, value);
    const stored = `${this.half}!${key}`;
    return value === null ? { type: "del", key: stored } : { type: "put", key: stored, value };
  }

  /** Deletes what the state forgets by itself at an index. */
  *forget(index: number): Generator<Operation> {
    const upTo = index - OWN_KEPT_REVISIONS;
    if (upTo <= this.#forgotten) return;
    for (const key of this.#requestsUpTo(upTo)) {
      this.#count(key, null);
      yield { type: "del", key: `${this.half}!${key}` };
    }
    this.#forgotten = upTo;
  }

  /** Keys of answers to own proposals that are stored. */
  #requestsUpTo(revision: number): string[] {
    const keys: string[] = [];
    // With a new cluster generation revisions jump by billions (rebuild.ts).
    if (revision - this.#forgotten > OWN_KEPT_REVISIONS) {
      const last = requestKey(revision);
      for (const key of this.#sums.keys()) if (key.startsWith(`${PREFIX.requests}!`) && key <= last) keys.push(key);
      return keys;
    }
    for (let at = this.#forgotten + 1; at <= revision; at++) {
      const key = requestKey(at);
      if (this.#sums.has(key)) keys.push(key);
    }
    return keys;
  }

  #count(key: string, value: string | null): void {
    this.#sum -= this.#sums.get(key) ?? 0;
    if (value === null) this.#sums.delete(key);
    else {
      const sum = Number.parseInt(value.slice(0, 8), 16) | 0;
      this.#sum += sum;
      this.#sums.set(key, sum);
    }
    this.#sum >>>= 0;
  }
}

function keyOf(change: RowChange): string {
  // By revision, for that is the order in which they are forgotten; an entry of the log is one request.
  if (change.table === "requests" && change.row !== null) return requestKey(change.row.revision);
  return `${PREFIX[change.table]}!${change.key}`;
}

function requestKey(revision: number): string {
  return `${PREFIX.requests}!${String(revision).padStart(16, "0")}`;
}
