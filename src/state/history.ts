/**
 * What the scheduler's inputs were before each command: old values of what changed, newest last, so that walking back from
 * the present gives the state that any kept plan was made on (docs/design/011-explain-by-replay.md). Old values, not new
 * ones: making a VM costs its id here, and the present state is the checkpoint that every replica has anyway.
 */
import type { Certificate } from "../model/certificate.ts";
import { settingsOf } from "../model/placement.ts";
import { State, type RowChange, type Rows, type TableName } from "./state.ts";

export interface HistoryRow {
  index: number;
  /** Wall clock of the proposer, ms. */
  atMs: number;
  undo: Undo[];
  /** Of the plan that this command carried. */
  certificate: Certificate | null;
  /** About the length of this row as JSON: what retention counts. Counted from its parts, because every command pays for it. */
  bytes: number;
}

/** The row did not exist before (`fields` null), or had these values; those in `absent` it did not have at all. */
export interface Undo {
  table: TableName;
  key: string;
  fields: Record<string, unknown> | null;
  absent?: string[];
}

/** Tables and fields that no filter, score or reason reads. Whatever is not named here counts as read. */
const NO_INPUT_TABLES: ReadonlySet<string> = new Set<TableName>([
  "tasks",
  "fencing",
  "tokens",
  "requests",
  "callers",
  "events",
  "history",
  "bench",
]);
const NO_INPUT: { readonly [T in TableName]?: ReadonlySet<keyof Rows[T]> } = {
  nodes: new Set([
    "stateSinceMs",
    "silence",
    "run",
    "formerRuns",
    "role",
    "joinedAtMs",
    "tokenId",
    "apiAddress",
    "peerAddress",
    "parkedMs",
    "parkRevision",
    "claimRevision",
    "revision",
  ]),
  vms: new Set([
    "createdAtMs",
    "revision",
    "stateSinceMs",
    "reason",
    "pendingReasons",
    "decisions",
    "generation",
    "warnings",
    "retryAtMs",
    "heldTries",
    "history",
    "failover",
  ]),
};
const NO_INPUT_DEFAULTS: Partial<Record<TableName, Readonly<Record<string, unknown>>>> = {
  vms: {
    createdAtMs: 0,
    revision: 0,
    stateSinceMs: 0,
    reason: null,
    pendingReasons: [],
    generation: 0,
    warnings: [],
    retryAtMs: 0,
    history: [],
    failover: null,
  },
};
/** Of the cluster's own row only these are read. */
const CLUSTER_INPUTS: ReadonlySet<string> = new Set<keyof Rows["cluster"]>(["settings", "vdcSettings"]);
/** Fields whose own fields are kept one by one, because one of them changes alone and often. */
const DEEP: ReadonlySet<string> = new Set(["nodes.info"]);
/** The field of a row that is no object. */
const WHOLE = "";

const NO_FIELDS: ReadonlySet<never> = new Set();

/** Rows evicted by one command at most, so that no command pays for a setting made smaller. */
const EVICTIONS_MAX = 64;

/** The history's own changes that go with a command's; computed before the state has them. */
export function historyOf(
  state: State,
  changes: readonly RowChange[],
  about: { index: number; atMs: number; certificate: Certificate | null },
): RowChange[] {
  const limitBytes = settingsOf(state)["scheduler.historyMib"] * 1024 * 1024;
  if (limitBytes === 0 && state.history.size === 0) return [];
  const undo = changes.flatMap((change) => undoOf(state, change));
  if (undo.length === 0 && about.certificate === null) return [];
  const row = { index: about.index, atMs: about.atMs, undo, certificate: about.certificate };
  const bytes = sizeOf(row);
  const key = keyOf(about.index);
  const out: RowChange[] = [];
  let total = state.historyBytes + bytes;
  for (const [old, { bytes: freed }] of state.history) {
    if (total <= limitBytes || out.length >= EVICTIONS_MAX) break;
    out.push({ table: "history", key: old, row: null });
    total -= freed;
  }
  // One row that alone is past the limit breaks the chain: what came before cannot be reached any more.
  if (total > limitBytes && out.length === state.history.size) return out;
  out.push({ table: "history", key, row: { ...row, bytes } });
  return out;
}

function sizeOf({ undo, certificate }: Omit<HistoryRow, "bytes">): number {
  let bytes = 64;
  for (const { key, fields, absent } of undo) {
    bytes += 40 + key.length + (absent?.length ?? 0) * 16;
    for (const name in fields) bytes += 8 + name.length + valueSize(fields[name]);
  }
  if (certificate === null) return bytes;
  bytes += 256 + certificate.vms.length * 40 + certificate.nodes.length * 40 + certificate.inFlight.length * 56;
  for (const [, , , refused, top] of certificate.decisions) bytes += 24 + Object.keys(refused).length * 16 + top.length * 14;
  return bytes;
}

function valueSize(value: unknown): number {
  if (typeof value === "string") return value.length + 2;
  return typeof value === "object" && value !== null ? JSON.stringify(value).length : 8;
}

/** Oldest index whose view can be made again. */
export function historyBegins(state: State): number {
  for (const row of state.history.values()) return row.index - 1;
  return state.index;
}

/** Steps back through the history; the state it holds is a copy and is changed by each step. */
export class Past {
  readonly state: State;
  readonly #rows: HistoryRow[];

  constructor(present: State) {
    this.state = scratchOf(present);
    this.#rows = [...present.history.values()];
  }

  /** The state as it was at the index, or null if that is before the history. Indexes must not rise from call to call. */
  at(index: number): State | null {
    if (this.#rows.length === 0 ? index < this.state.index : index < this.#rows[0]!.index - 1) return null;
    for (let row = this.#rows.at(-1); row !== undefined && row.index > index; row = this.#rows.at(-1)) {
      this.#rows.pop();
      for (const undo of row.undo.toReversed()) this.state.write(undone(this.state, undo));
    }
    this.state.index = index;
    return this.state;
  }
}

/** A copy of what the scheduler reads, to be changed at will. */
export function scratchOf(present: State): State {
  const state = new State();
  for (const change of present.rows()) if (!NO_INPUT_TABLES.has(change.table)) state.write(change);
  state.index = present.index;
  state.term = present.term;
  return state;
}

/** Sorts as the number does. */
function keyOf(index: number): string {
  return String(index).padStart(16, "0");
}

function rowOf(state: State, table: TableName, key: string): unknown {
  if (table === "cluster") return state.cluster ?? undefined;
  return (state[table] as unknown as ReadonlyMap<string, unknown>).get(key);
}

function isInput(table: TableName, field: string): boolean {
  if (table === "cluster") return CLUSTER_INPUTS.has(field);
  return !((NO_INPUT[table] ?? NO_FIELDS) as ReadonlySet<string>).has(field);
}

function undoOf(state: State, change: RowChange): Undo[] {
  const { table, key } = change;
  if (NO_INPUT_TABLES.has(table)) return [];
  const before = rowOf(state, table, key);
  const after: unknown = change.row;
  if (before === undefined) return after === null ? [] : [{ table, key, fields: null }];
  const undo: Undo & { fields: Record<string, unknown>; absent: string[] } = { table, key, fields: {}, absent: [] };
  if (!isRecord(before)) {
    if (before !== after) undo.fields[WHOLE] = before;
  } else collect(undo, "", before, isRecord(after) ? after : {});
  const { fields, absent } = undo;
  if (absent.length > 0) return [undo];
  return Object.keys(fields).length === 0 ? [] : [{ table, key, fields }];
}

/** Notes old values of what differs, under names such as `info.memoryMib`. */
function collect(
  undo: Undo & { fields: Record<string, unknown>; absent: string[] },
  prefix: string,
  before: Record<string, unknown>,
  after: Record<string, unknown>,
): void {
  for (const field in after) {
    if (before[field] === undefined && after[field] !== undefined && (prefix !== "" || isInput(undo.table, field)))
      undo.absent.push(prefix + field);
  }
  for (const field in before) {
    const was = before[field];
    const is = after[field];
    if (was === is || was === undefined || (prefix === "" && !isInput(undo.table, field))) continue;
    if (DEEP.has(`${undo.table}.${prefix}${field}`) && isRecord(was) && isRecord(is)) collect(undo, `${field}.`, was, is);
    else if (!same(was, is, prefix + field)) undo.fields[prefix + field] = was;
  }
}

function undone(state: State, undo: Undo): RowChange {
  const { table, key, fields, absent } = undo;
  if (fields === null) return { table, key, row: null } as RowChange;
  if (WHOLE in fields) return { table, key, row: fields[WHOLE] } as unknown as RowChange;
  const present = rowOf(state, table, key);
  const row: Record<string, unknown> = { ...NO_INPUT_DEFAULTS[table], ...(isRecord(present) ? present : {}) };
  const at = (name: string): [Record<string, unknown>, string] => {
    const [outer, inner] = name.split(".");
    if (inner === undefined || !DEEP.has(`${table}.${outer}`)) return [row, name];
    const copy = { ...(row[outer!] as Record<string, unknown>) };
    row[outer!] = copy;
    return [copy, inner];
  };
  for (const [name, value] of Object.entries(fields)) {
    const [place, field] = at(name);
    place[field] = value;
  }
  for (const name of absent ?? []) {
    const [place, field] = at(name);
    delete place[field];
  }
  return { table, key, row } as unknown as RowChange;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** Rows share what did not change, so most comparisons end at once. Free space of a node's pools changes all the time and decides nothing. */
function same(a: unknown, b: unknown, field: string): boolean {
  if (!isRecord(a) || !isRecord(b)) return false;
  // A replacer is slow, and only this field needs it.
  const leftOut = field === "info.pools" ? withoutSpace : undefined;
  return JSON.stringify(a, leftOut) === JSON.stringify(b, leftOut);
}

function withoutSpace(key: string, value: unknown): unknown {
  return key === "freeBytes" || key === "totalBytes" ? undefined : value;
}
