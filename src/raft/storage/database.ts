/** What the durable log needs of a database: LevelDB has it, and so has the simulator's disk. */

export type LogOperation = { type: "put"; key: Uint8Array; value: Uint8Array } | { type: "del"; key: Uint8Array };

export interface LogDatabase {
  /** All or nothing; with `sync` it and everything before it survives a power cut once this resolves. */
  batch(operations: LogOperation[], options: { sync: boolean }): Promise<void>;
  /** Sorted by key. */
  iterator(): AsyncIterable<[Uint8Array, Uint8Array]>;
  close(): Promise<void>;
}

/** Remembers beside the database which record was last acknowledged; see acknowledged.ts. */
export interface AcknowledgedMark {
  readonly atOpen: number;
  note(seq: number): void;
  close(): Promise<void>;
}
