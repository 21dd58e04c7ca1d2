/**
 * The state's rows in LevelDB. Each applied batch is one atomic write with the position it leads to, so that rows and
 * applied index never part (RAFT-3). Not fsynced: the log is, and what a power cut takes from here is applied again from
 * there; only `sync` makes a position safe to cut the log at.
 */
import { crc32 } from "node:zlib";
import { Level } from "level";
import { asRoostError, RoostError } from "../base/errors.ts";
import { NO_MEMBERSHIP } from "../model/membership.ts";
import { type AppliedRequest, OWN_KEPT_REVISIONS } from "../state/requests.ts";
import { State, type Position, type RowChange, type TableName, TABLE_NAMES } from "../state/state.ts";

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
  callers: "81",
  events: "82",
  history: "20",
  bench: "90",
};
const POSITION_KEY = "01";

type Operation = { type: "put"; key: string; value: string } | { type: "del"; key: string };

/** What is needed of a database: LevelDB has it, and so has the simulator's disk. */
export interface StateDatabase {
  /** All or nothing; with `sync` it and everything before it survives a power cut once this resolves. */
  batch(operations: Operation[], options: { sync: boolean }): Promise<void>;
  /** Sorted by key. */
  iterator(): AsyncIterable<[string, string]>;
  keys(): AsyncIterable<string>;
  close(): Promise<void>;
}

export class StateDb {
  readonly #db: StateDatabase;
  readonly #path: string;
  #tail: Promise<void> = Promise.resolve();
  #pending: Operation[] = [];
  #failure: unknown = null;
  /** Answers to own proposals of revisions up to here are deleted. */
  #forgotten = 0;
  /** Newest position that was handed in; an older one must never be written over its rows. */
  #newest: Position | null = null;

  /** @param db open already; `path` is for messages only. */
  constructor(db: StateDatabase, path: string) {
    this.#db = db;
    this.#path = path;
  }

  static async open(path: string): Promise<StateDb> {
    const db = new Level<string, string>(path, { keyEncoding: "utf8", valueEncoding: "utf8" });
    try {
      await db.open();
    } catch (thrown) {
      const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown;
      const text = cause instanceof Error ? cause.message : String(cause);
      if (/lock/i.test(text)) {
        throw new RoostError(
          { kind: "precondition", reason: `${path} is in use by another process` },
          "is a roost agent running on this data folder already?",
        );
      }
      throw damaged(path, text);
    }
    return new StateDb(db, path);
  }

  /** Reads everything into a new state. */
  async load(): Promise<{ state: State; position: Position }> {
    const state = new State();
    let position: Position = { index: 0, term: 0, membership: NO_MEMBERSHIP };
    for await (const [key, value] of this.#db.iterator()) {
      if (key === POSITION_KEY) {
        position = JSON.parse(this.#open(key, value)) as Position;
        continue;
      }
      const table = TABLE_NAMES.find((name) => PREFIX[name] === key.slice(0, 2));
      if (table === undefined) throw damaged(this.#path, `key ${JSON.stringify(key)} belongs to no table`);
      const row: unknown = JSON.parse(this.#open(key, value));
      // The position is the first key.
      const id = table === "requests" ? (row as AppliedRequest).requestId : key.slice(3);
      state.write({ table, key: id, row } as RowChange);
    }
    state.moveTo(position);
    this.#forgotten = Math.max(0, position.index - OWN_KEPT_REVISIONS);
    return { state, position };
  }

  /** Queues one applied batch; writes are joined while an earlier one is under way. */
  write(changes: readonly RowChange[], position: Position): void {
    for (const change of changes) this.#pending.push(this.#operation(change));
    for (; this.#forgotten < position.index - OWN_KEPT_REVISIONS; this.#forgotten++)
      this.#pending.push({ type: "del", key: requestKey(this.#forgotten + 1) });
    this.#pending.push(this.#positionOperation(position));
    this.#tail = this.#tail.then(() => this.#flush(false));
  }

  /** Replaces everything, as a checkpoint does. Resolves when it survives a power cut. */
  async replace(state: State, position: Position): Promise<void> {
    this.#tail = this.#tail.then(() => this.#replace(state, position));
    await this.#tail;
    this.#check();
  }

  async #replace(state: State, position: Position): Promise<void> {
    try {
      const stale: Operation[] = [];
      for await (const key of this.#db.keys()) stale.push({ type: "del", key });
      this.#forgotten = Math.max(0, position.index - OWN_KEPT_REVISIONS);
      this.#newest = null;
      const rows = [...state.rows()].map((change) => this.#operation(change));
      this.#pending = [...stale, ...rows, this.#positionOperation(position)];
    } catch (thrown) {
      this.#failure = thrown;
    }
    await this.#flush(true);
  }

  /** Resolves when all that was written before survives a power cut. */
  async sync(position: Position): Promise<void> {
    this.#tail = this.#tail.then(() => {
      // Made when its turn comes: a checkpoint may have been taken over meanwhile.
      this.#pending.push(this.#positionOperation(position));
      return this.#flush(true);
    });
    await this.#tail;
    this.#check();
  }

  async close(): Promise<void> {
    await this.#tail;
    await this.#db.close();
  }

  /** The first write that failed, if any: the process must not go on. */
  get failure(): unknown {
    return this.#failure;
  }

  #positionOperation(position: Position): Operation {
    if (this.#newest === null || position.index >= this.#newest.index) this.#newest = position;
    return { type: "put", key: POSITION_KEY, value: seal(POSITION_KEY, JSON.stringify(this.#newest)) };
  }

  #operation(change: RowChange): Operation {
    const key = keyOf(change);
    return change.row === null ? { type: "del", key } : { type: "put", key, value: seal(key, JSON.stringify(change.row)) };
  }

  async #flush(sync: boolean): Promise<void> {
    const operations = this.#pending;
    if (operations.length === 0 || this.#failure !== null) return;
    this.#pending = [];
    try {
      await this.#db.batch(operations, { sync });
    } catch (thrown) {
      this.#failure = thrown;
    }
  }

  #check(): void {
    if (this.#failure !== null)
      throw new RoostError(
        { kind: "internal", reason: `cannot write ${this.#path}: ${asRoostError(this.#failure).message}` },
        "is the disk full?",
      );
  }

  #open(key: string, value: string): string {
    const text = value.slice(9);
    if (seal(key, text) !== value) throw damaged(this.#path, `the checksum of ${JSON.stringify(key)} is wrong`);
    return text;
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

/** CRC-32 (zlib's) of key and text in hex, a space, the text: a row under another's key is damage too. */
function seal(key: string, text: string): string {
  return `${crc32(text, crc32(key)).toString(16).padStart(8, "0")} ${text}`;
}

function damaged(path: string, detail: string): RoostError {
  return new RoostError(
    { kind: "damaged", what: `the state in ${path} (${detail})` },
    "this node must not go on with it: move the data folder away and join the cluster again with a fresh token",
  );
}
