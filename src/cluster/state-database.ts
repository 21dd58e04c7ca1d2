/** What the state needs of a database: LevelDB has it, and so has the simulator's disk. */
import type { Level } from "level";

export type Operation = { type: "put"; key: string; value: string } | { type: "del"; key: string };

/** Keys from `gte` or after `gt`, up to before `lt`. */
export interface KeyRange {
  gt?: string;
  gte?: string;
  lt?: string;
}

export interface RowReader {
  /** Sorted by key, as it is at the moment of the call. */
  iterator(range: KeyRange): AsyncIterable<[string, string]>;
}

/** The database as it was at one moment. */
export interface DatabaseSnapshot extends RowReader {
  close(): Promise<void>;
}

export interface StateDatabase extends RowReader {
  /** All or nothing; with `sync` it and everything before it survives a power cut once this resolves. */
  batch(operations: Operation[], options: { sync: boolean }): Promise<void>;
  /** Deletes a range, not atomically. */
  clear(range: KeyRange): Promise<void>;
  snapshot(): DatabaseSnapshot;
  close(): Promise<void>;
}

/** Read ahead at most this much: a slice of the main thread's time, and memory. */
const READ_AHEAD_BYTES = 128 * 1024;

export function overLevel(db: Level<string, string>): StateDatabase {
  return {
    batch: (operations, options) => db.batch(operations, options),
    iterator: (range) => db.iterator({ ...range, highWaterMarkBytes: READ_AHEAD_BYTES } as object),
    clear: (range) => db.clear(range),
    snapshot() {
      const snapshot = db.snapshot();
      return {
        iterator: (range) => db.iterator({ ...range, snapshot, highWaterMarkBytes: READ_AHEAD_BYTES } as object),
        close: () => snapshot.close(),
      };
    },
    close: () => db.close(),
  };
}
