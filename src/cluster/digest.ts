/**
 * Hashing a replica's tables as they were at one index (STA-1), a slice at a time. Rows are never changed in place, so lists of
 * them are a frozen view; making the lists is all that happens at once.
 */
import { hash } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { TableDigest } from "../model/digest.ts";
import { eventKey } from "../state/events.ts";
import type { Store } from "./store.ts";
import { type State, TABLE_NAMES, type TableName } from "../state/state.ts";

/** Longest time that the main thread is held at once, ms. */
const SLICE_MS = 4;
/** Between two slices. */
const REST_MS = 2;
/** Rows between two looks at the clock. */
const LOOK_EVERY = 32;

export interface FrozenTable {
  table: TableName;
  keys: readonly string[];
  rows: readonly unknown[];
}

export function freeze(state: State): FrozenTable[] {
  return TABLE_NAMES.map((table) => {
    if (table === "cluster")
      return { table, keys: state.cluster === null ? [] : ["self"], rows: state.cluster === null ? [] : [state.cluster] };
    if (table === "events") {
      const rows = state.events.rows();
      return { table, keys: rows.map(({ revision }) => eventKey(revision)), rows };
    }
    return { table, keys: [...state[table].keys()], rows: [...state[table].values()] };
  });
}

/** Answers the questions of `digest.ask` for this replica; a newer one ends the work for an older. */
export class DigestReports {
  readonly #nodeId: string;
  readonly #effects: { store: Pick<Store, "propose">; clock: Clock; log: Logger };
  #work = new AbortController();

  constructor(nodeId: string, effects: { store: Pick<Store, "propose">; clock: Clock; log: Logger }) {
    this.#nodeId = nodeId;
    this.#effects = effects;
  }

  /** @param state exactly as it is at `index`. */
  report(state: State, index: number): void {
    this.stop();
    const { store, clock, log } = this.#effects;
    const { signal } = (this.#work = new AbortController());
    const frozen = freeze(state);
    const run = async (): Promise<void> => {
      const tables = await digestOf(frozen, clock, signal);
      if (tables === null) return;
      await store.propose({ type: "digest.report", nodeId: this.#nodeId, index, tables }, { actor: `node:${this.#nodeId}` });
    };
    run().catch((thrown: unknown) => log.warn("could not report the hash of the tables", { index, reason: asRoostError(thrown).message }));
  }

  stop(): void {
    this.#work.abort();
  }
}

/** Resolves with one digest a table; with null when the signal is given first. */
export async function digestOf(frozen: readonly FrozenTable[], clock: Clock, signal: AbortSignal): Promise<TableDigest[] | null> {
  const digests: TableDigest[] = [];
  let sliceMs = clock.monotonicMs();
  for (const { table, keys, rows } of frozen) {
    const sums = new Map<string, { rows: number; lanes: Uint32Array }>();
    for (const [i, key] of keys.entries()) {
      const first = key.slice(0, 1);
      let sum = sums.get(first);
      if (sum === undefined) sums.set(first, (sum = { rows: 0, lanes: new Uint32Array(4) }));
      sum.rows += 1;
      add(sum.lanes, hash("sha256", `${table}/${key}\n${canonical(rows[i])}`, "buffer"));
      if (i % LOOK_EVERY !== 0 || clock.monotonicMs() - sliceMs < SLICE_MS) continue;
      await new Promise<void>((resolve) => void clock.after(REST_MS, resolve));
      if (signal.aborted) return null;
      sliceMs = clock.monotonicMs();
    }
    const whole = new Uint32Array(4);
    for (const { lanes } of sums.values()) for (const lane of [0, 1, 2, 3]) whole[lane] = (whole[lane] ?? 0) + (lanes[lane] ?? 0);
    digests.push({
      table,
      rows: keys.length,
      hash: hex(whole),
      ranges: [...sums]
        .map(([first, sum]) => ({ first, rows: sum.rows, hash: hex(sum.lanes) }))
        .toSorted((a, b) => (a.first < b.first ? -1 : 1)),
    });
  }
  return digests;
}

function add(lanes: Uint32Array, bytes: Buffer): void {
  for (const lane of [0, 1, 2, 3]) lanes[lane] = (lanes[lane] ?? 0) + bytes.readUInt32BE(lane * 4);
}

function hex(lanes: Uint32Array): string {
  return [...lanes].map((lane) => lane.toString(16).padStart(8, "0")).join("");
}

/** Like JSON, with sorted names and without what is undefined: equal rows give equal texts, whatever way they were made. */
function canonical(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  if (Array.isArray(value)) return value.length === 0 ? "[]" : `[${value.map(canonical).join()}]`;
  let text = "{";
  for (const name of namesOf(value)) {
    const field = (value as Record<string, unknown>)[name];
    if (field !== undefined) text += `"${name}":${canonical(field)},`;
  }
  return `${text}}`;
}

/** Most rows of a table have the same names in the same order: those of the last few are remembered. */
const sorted = new Map<string, string[]>();
const SORTED_MAX = 256;

function namesOf(value: object): string[] {
  const names = Object.keys(value);
  const mark = names.join("\u0000");
  let known = sorted.get(mark);
  if (known === undefined) {
    if (sorted.size >= SORTED_MAX) sorted.clear();
    sorted.set(mark, (known = names.toSorted()));
  }
  return known;
}
