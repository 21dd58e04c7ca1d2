/**
 * The state at one index, cut into the chunks of a checkpoint while the state itself goes on. It is read from a snapshot of
 * the database, not from memory: the rows are text there already, so that a chunk costs the main thread about a millisecond.
 */
import { crc32 } from "node:zlib";
import { RoostError } from "../base/errors.ts";
import { encodeCheckpointHead, encodeCheckpointRow } from "../state/codec.ts";
import type { Position } from "../state/state.ts";
import type { CheckpointChunk } from "../raft/transport/checkpoint-file.ts";
import { type Digest, type Half, HALF_KEY, POSITION_KEY, rangeOf, readKey, unseal } from "./state-rows.ts";
import type { DatabaseSnapshot } from "./state-database.ts";

/** A chunk is closed once it has this much; a row is never cut. */
const CHUNK_BYTES = 256 * 1024;

const encoder = new TextEncoder();

/** Where a chunk ended: the last key in it, and the checksum of everything up to there. */
interface Mark {
  key: string;
  crc: number;
}

export class FrozenState {
  readonly position: Position;
  readonly #snapshot: DatabaseSnapshot;
  readonly #path: string;
  readonly #half: Half;
  /** One a chunk that was read. */
  readonly #marks: Mark[] = [];
  #closed = false;

  static async of(snapshot: DatabaseSnapshot, path: string): Promise<FrozenState> {
    const one = async (key: string): Promise<string> => {
      for await (const [found, value] of snapshot.iterator({ gte: key, lt: `${key}\0` })) return unseal(found.slice(-2), value);
      throw new RoostError({ kind: "unavailable", reason: `there is no state in ${path} yet` }, "ask another node");
    };
    try {
      const half = (await one(HALF_KEY)) as Half;
      const { rows: _rows, sum: _sum, ...position } = JSON.parse(await one(`${half}!${POSITION_KEY}`)) as Position & Digest;
      return new FrozenState(snapshot, path, half, position);
    } catch (thrown) {
      await snapshot.close();
      throw thrown;
    }
  }

  private constructor(snapshot: DatabaseSnapshot, path: string, half: Half, position: Position) {
    this.#snapshot = snapshot;
    this.#path = path;
    this.#half = half;
    this.position = position;
  }

  /**
   * Chunk `number`, always the same bytes; null after the last. Any chunk whose predecessor was read before.
   * @throws RoostError `damaged` for a row that is not what was written: it must not spread.
   */
  async chunk(number: number): Promise<CheckpointChunk | null> {
    if (this.#closed) throw new RoostError({ kind: "unavailable", reason: "the checkpoint is not held any more" }, "ask for a fresh one");
    if (number === 0) return this.#made(0, `${this.#half}!${POSITION_KEY}`, encodeCheckpointHead(this.position));
    const before = this.#marks[number - 1];
    if (before === undefined)
      throw new RoostError({ kind: "invalid", violations: [{ field: "chunk", message: `${number} before ${number - 1}` }] });
    const lines: string[] = [];
    let length = 0;
    let last = before.key;
    for await (const [key, value] of this.#snapshot.iterator({ gt: last, lt: rangeOf(this.#half).lt ?? "" })) {
      const line = this.#line(key.slice(2), value);
      lines.push(line);
      length += line.length + 1;
      last = key;
      if (length >= CHUNK_BYTES) break;
    }
    return lines.length === 0 ? null : this.#made(number, last, encoder.encode(lines.join("\n")));
  }

  /** Frees the disk space that only this moment needs. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#snapshot.close();
  }

  #line(key: string, value: string): string {
    try {
      const text = unseal(key, value);
      const { table, id } = readKey(key);
      return encodeCheckpointRow(table, id, text);
    } catch (thrown) {
      throw new RoostError(
        { kind: "damaged", what: `the state in ${this.#path} (${thrown instanceof Error ? thrown.message : String(thrown)})` },
        "this node must not go on with it: move the data folder away and join the cluster again with a fresh token",
        { cause: thrown },
      );
    }
  }

  #made(number: number, key: string, bytes: Uint8Array<ArrayBuffer>): CheckpointChunk {
    const crc = crc32(bytes, this.#marks[number - 1]?.crc ?? 0);
    this.#marks[number] = { key, crc };
    return { bytes, crc };
  }
}
