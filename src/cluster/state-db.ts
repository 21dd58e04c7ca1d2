/**
 * The state's rows in LevelDB. Each applied batch is one atomic write with the position it leads to, so that rows and
 * applied index never part (RAFT-3). Not fsynced: the log is, and what a power cut takes from here is applied again from
 * there; only `sync` makes a position safe to cut the log at.
 */
import { crc32 } from "node:zlib";
import { Level } from "level";
import { asRoostError, RoostError } from "../base/errors.ts";
import { NO_MEMBERSHIP } from "../model/membership.ts";
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
  bench: "90",
};
const POSITION_KEY = "01";
const REQUEST_ORDER_KEY_WIDTH = 16;

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
  /** Requests are kept in order of application: their keys begin with the index that wrote them. */
  readonly #requestKeys = new Map<string, string>();
  /** What the newest such key begins with. It only grows: the order decides whose answer is forgotten next, so it must survive (STA-2). */
  #lastOrder = 0;
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
      const id = table === "requests" ? key.slice(3 + REQUEST_ORDER_KEY_WIDTH + 1) : key.slice(3);
      if (table === "requests") {
        this.#requestKeys.set(id, key);
        this.#lastOrder = Number.parseInt(key.slice(3, 3 + REQUEST_ORDER_KEY_WIDTH), 16);
      }
      state.write({ table, key: id, row } as RowChange);
    }
    state.index = position.index;
    state.term = position.term;
    return { state, position };
  }

  /** Queues one applied batch; writes are joined while an earlier one is under way. */
  write(changes: readonly RowChange[], position: Position): void {
    for (const change of changes) this.#pending.push(this.#operation(change, position.index));
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
      this.#requestKeys.clear();
      this.#newest = null;
      const rows = [...state.rows()].map((change) => this.#operation(change, position.index));
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

  #operation(change: RowChange, index: number): Operation {
    const key = this.#key(change, index);
    return change.row === null ? { type: "del", key } : { type: "put", key, value: seal(key, JSON.stringify(change.row)) };
  }

  #key(change: RowChange, index: number): string {
    const prefix = PREFIX[change.table];
    if (change.table !== "requests") return `${prefix}!${change.key}`;
    const known = this.#requestKeys.get(change.key);
    if (change.row === null) this.#requestKeys.delete(change.key);
    if (known !== undefined) return known;
    this.#lastOrder = Math.max(this.#lastOrder + 1, index * 2 ** 15);
    const key = `${prefix}!${this.#lastOrder.toString(16).padStart(REQUEST_ORDER_KEY_WIDTH, "0")}!${change.key}`;
    this.#requestKeys.set(change.key, key);
    return key;
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
