/**
 * How rows lie in the state's database: keys, checksums, and a digest over all of them, so that a row that is lost, or back
 * although it was deleted, is noticed as well as one that was changed.
 */
import { crc32 } from "node:zlib";
import { type AppliedRequest, OWN_KEPT_REVISIONS, packed } from "../state/requests.ts";
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
  tasks: "19",
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
export function readKey(key: string): { table: TableName; id: string } {
  const table = TABLE_NAMES.find((name) => PREFIX[name] === key.slice(0, 2));
  if (table === undefined) throw new Error(`key ${JSON.stringify(key)} belongs to no table`);
  return { table, id: key.slice(3) };
}

/** Answers to own proposals that are one row at most: it must not be long. */
const ANSWERS_PER_ROW = 1_000;

/** The rows of one half, as far as writing more needs to know them. */
export class HalfRows {
  readonly half: Half;
  /** Checksum of each row, signed: V8 keeps those without a box. */
  readonly #sums = new Map<string, number>();
  #sum = 0;
  /** Last revisions of the rows of answers, oldest first: they are deleted in that order. */
  #answers: number[] = [];

  constructor(half: Half) {
    this.half = half;
  }

  get digest(): Digest {
    return { rows: this.#sums.size, sum: this.#sum };
  }

  /** A row that is stored already, in order of the keys; its value is checked. */
  found(key: string, value: string): void {
    this.#count(key, value);
    if (key.startsWith(ANSWERS)) this.#answers.push(Number(key.slice(ANSWERS.length)));
  }

  /** What stores the changes. Answers among them are in order of their revisions, and later than all before. */
  operations(changes: Iterable<RowChange>): Operation[] {
    const operations: Operation[] = [];
    let answers: AppliedRequest[] = [];
    for (const change of changes) {
      if (change.table !== "requests") operations.push(this.#operation(`${PREFIX[change.table]}!${change.key}`, change.row));
      else if (change.row !== null) {
        answers.push(change.row);
        if (answers.length < ANSWERS_PER_ROW) continue;
        operations.push(this.#store(answers));
        answers = [];
      }
    }
    if (answers.length > 0) operations.push(this.#store(answers));
    return operations;
  }

  /** Deletes what the state has forgotten by itself at an index. */
  forget(index: number): Operation[] {
    const upTo = index - OWN_KEPT_REVISIONS;
    let gone = 0;
    while (gone < this.#answers.length && (this.#answers[gone] as number) <= upTo) gone += 1;
    return this.#answers.splice(0, gone).map((revision) => this.#operation(answersKey(revision), null));
  }

  #store(answers: readonly AppliedRequest[]): Operation {
    const { revision } = answers.at(-1) as AppliedRequest;
    this.#answers.push(revision);
    return this.#operation(answersKey(revision), answers.map(packed));
  }

  #operation(key: string, row: unknown): Operation {
    const value = row === null ? null : seal(key, JSON.stringify(row));
    this.#count(key, value);
    const stored = `${this.half}!${key}`;
    return value === null ? { type: "del", key: stored } : { type: "put", key: stored, value };
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

const ANSWERS = `${PREFIX.requests}!`;

/** By the last revision in it, for that is the order in which they are forgotten. */
function answersKey(revision: number): string {
  return `${ANSWERS}${String(revision).padStart(16, "0")}`;
}
