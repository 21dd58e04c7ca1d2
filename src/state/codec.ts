/**
 * Bytes of what is replicated and stored. JSON: commands are small, every language and eye reads them, and fields
 * can be added without breaking N-1 (docs/design/002-json-in-the-log.md). Integrity is the log's matter (checksums there).
 */
import { RoostError } from "../base/errors.ts";
import type { Envelope } from "./commands.ts";
import { TABLE_NAMES, type Position, type RowChange, type State } from "./state.ts";

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

/** First line the position, then one row a line. */
export function encodeCheckpoint(state: State, position: Position): Uint8Array {
  const lines = [JSON.stringify(position)];
  for (const row of state.rows()) lines.push(JSON.stringify(row));
  return encoder.encode(lines.join("\n"));
}

export function decodeCheckpoint(bytes: Uint8Array): { position: Position; rows: RowChange[] } {
  try {
    const [first, ...rest] = decoder.decode(bytes).split("\n");
    const position = JSON.parse(first ?? "") as Position;
    const rows = rest.map((line) => JSON.parse(line) as RowChange);
    for (const row of rows) if (!TABLE_NAMES.includes(row.table)) throw new Error(`unknown table ${row.table}`);
    return { position, rows };
  } catch (thrown) {
    throw new RoostError({ kind: "damaged", what: "a checkpoint" }, undefined, { cause: thrown });
  }
}
