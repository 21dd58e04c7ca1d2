/**
 * Bytes of what is replicated and stored. JSON: commands are small, every language and eye reads them, and fields
 * can be added without breaking N-1 (docs/design/002-json-in-the-log.md). Integrity is the log's matter (checksums there).
 */
import { RoostError } from "../base/errors.ts";
import type { Envelope } from "./commands.ts";
import { type PackedAnswer, unpacked } from "./requests.ts";
import { TABLE_NAMES, type Position, type RowChange, type TableName } from "./state.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeEnvelope(envelope: Envelope): Uint8Array {
  return encoder.encode(JSON.stringify(envelope));
}

/** @throws RoostError `damaged` on anything that is no envelope: a peer may send what it likes, and what is in the log once stays there. */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch (thrown) {
    throw new RoostError({ kind: "damaged", what: "a command in the log" }, undefined, { cause: thrown });
  }
  if (!isEnvelope(value)) throw new RoostError({ kind: "damaged", what: "a command in the log" });
  return value;
}

/** What a command holds is its applier's matter; an unknown type too, which stops the replica (src/state/apply.ts). */
function isEnvelope(value: unknown): value is Envelope {
  if (typeof value !== "object" || value === null) return false;
  const { requestId, origin, atMs, actor, term, command } = value as Record<string, unknown>;
  if (typeof requestId !== "string" || typeof origin !== "string" || typeof actor !== "string") return false;
  if (typeof atMs !== "number" || typeof term !== "number" || typeof command !== "object" || command === null) return false;
  return typeof (command as { type?: unknown }).type === "string";
}

/** Raised when an older roost could not read a checkpoint any more. */
const CHECKPOINT_FORMAT = 1;

/** The first chunk of a checkpoint says what it is; the others hold rows, one a line. */
export function encodeCheckpointHead(position: Position): Uint8Array<ArrayBuffer> {
  return encoder.encode(JSON.stringify({ format: CHECKPOINT_FORMAT, ...position }));
}

/** @throws RoostError `damaged`, or `unsupported` for a checkpoint of a newer roost. */
export function decodeCheckpointHead(bytes: Uint8Array): Position {
  const head = parsed(bytes, (text) => JSON.parse(text) as Position & { format: number });
  if (typeof head.format !== "number" || typeof head.index !== "number" || typeof head.term !== "number")
    throw new RoostError({ kind: "damaged", what: "a checkpoint" });
  const { format, ...position } = head;
  if (format !== CHECKPOINT_FORMAT)
    throw new RoostError({ kind: "unsupported", what: `checkpoint format ${format}` }, "it was written by a newer roost: use that one");
  return position;
}

/** The rows that one stored row of a table is. Answers are stored many in one. */
export function readRows(table: TableName, key: string, stored: unknown): RowChange[] {
  if (table !== "requests") return [{ table, key, row: stored } as RowChange];
  return (stored as PackedAnswer[]).map((one) => {
    const row = unpacked(one);
    return { table, key: row.requestId, row };
  });
}

/** @param row as it is stored; JSON, which holds no line break. */
export function encodeCheckpointRow(table: TableName, key: string, row: string): string {
  return `{"table":"${table}","key":${JSON.stringify(key)},"row":${row}}`;
}

/** Rows of any chunk but the first. @throws RoostError `damaged` */
export function decodeCheckpointRows(bytes: Uint8Array): RowChange[] {
  return parsed(bytes, (text) =>
    text.split("\n").flatMap((line) => {
      const { table, key, row } = JSON.parse(line) as RowChange;
      if (!TABLE_NAMES.includes(table) || typeof key !== "string") throw new Error(`no row of a table: ${line.slice(0, 100)}`);
      return readRows(table, key, row);
    }),
  );
}

function parsed<T>(bytes: Uint8Array, parse: (text: string) => T): T {
  try {
    return parse(decoder.decode(bytes));
  } catch (thrown) {
    throw new RoostError({ kind: "damaged", what: "a checkpoint" }, undefined, { cause: thrown });
  }
}
