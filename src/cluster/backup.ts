/** A backup: the whole state at one index, as rows, in a checked file (RAFT-8; framing in src/base/framed.ts). */
import { open } from "node:fs/promises";
import { RoostError } from "../base/errors.ts";
import { BACKUP_MAGIC, FrameReader, FrameWriter } from "../base/framed.ts";
import { State, TABLE_NAMES, type RowChange } from "../state/state.ts";
import type { FrozenTable } from "./digest.ts";

const FRAME_BYTES = 256 * 1024;
const READ_BYTES = 1 << 20;

export interface BackupHead {
  clusterId: string;
  name: string;
  generation: number;
  /** Feature level of the state: a program below it does not know all that is in it. */
  level: number;
  index: number;
  term: number;
  createdAtMs: number;
  version: string;
}

/** The file's bytes, a piece at a time: whoever writes them sets the pace. */
export function* backupOf(head: BackupHead, tables: readonly FrozenTable[]): Generator<Uint8Array> {
  const writer = new FrameWriter();
  yield writer.begin(BACKUP_MAGIC);
  yield writer.frame(Buffer.from(JSON.stringify(head)));
  let lines: string[] = [];
  let bytes = 0;
  for (const { table, keys, rows } of tables) {
    for (const [i, key] of keys.entries()) {
      const line = JSON.stringify({ table, key, row: rows[i] });
      if (bytes > 0 && bytes + line.length > FRAME_BYTES) {
        yield writer.frame(Buffer.from(lines.join("\n")));
        lines = [];
        bytes = 0;
      }
      lines.push(line);
      bytes += line.length;
    }
  }
  if (lines.length > 0) yield writer.frame(Buffer.from(lines.join("\n")));
  yield writer.end();
}

/** Throws `damaged` with the place, `unsupported` for one of a newer roost. Nothing is answered before all of it was checked. */
export async function readBackup(path: string): Promise<{ head: BackupHead; state: State }> {
  const reader = new FrameReader(`backup ${path}`, BACKUP_MAGIC);
  const payloads: Uint8Array[] = [];
  const file = await open(path, "r").catch((thrown: Error) => {
    throw new RoostError({ kind: "precondition", reason: `cannot read ${path}: ${thrown.message}` });
  });
  try {
    const buffer = Buffer.alloc(READ_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES);
      if (bytesRead === 0) break;
      payloads.push(...reader.push(buffer.subarray(0, bytesRead)).map((payload) => Buffer.from(payload)));
    }
  } finally {
    await file.close();
  }
  reader.finish();
  const [first, ...rest] = payloads;
  const head = JSON.parse(Buffer.from(first ?? []).toString("utf8")) as BackupHead;
  const state = new State();
  for (const payload of rest) {
    for (const line of Buffer.from(payload).toString("utf8").split("\n")) {
      const row = JSON.parse(line) as RowChange;
      if (!TABLE_NAMES.includes(row.table))
        throw new RoostError(
          { kind: "unsupported", what: `backup ${path} with a table ${row.table}` },
          "it was made by a newer roost: use that one",
        );
      state.write(row);
    }
  }
  state.moveTo(head);
  return { head, state };
}
