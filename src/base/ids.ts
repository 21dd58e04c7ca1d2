/** Ids are UUIDs minted outside the replicated state and carried in commands. People may write a unique prefix of one. */
import { randomBytes, randomUUID } from "node:crypto";

/** A new random UUID (RFC 9562, version 4), lower case. */
export function newId(): string {
  return randomUUID();
}

/** A new id of a request: a UUID that says when it was made (RFC 9562, version 7), as proposals need it (STA-2). `nowMs`: wall clock. */
export function newRequestId(nowMs: number): string {
  const time = Math.floor(nowMs).toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`;
}

/** Fresh random bytes from the system, for secrets. */
export function newSecret(bytes: number): Uint8Array {
  return new Uint8Array(randomBytes(bytes));
}

/** Shortest id prefix that people may write; below it a typo would hit something. */
export const MIN_ID_PREFIX = 4;

export type Found<T> = { kind: "one"; row: T } | { kind: "none" } | { kind: "many"; ids: string[] };

/**
 * Finds a row by its exact name, its id, or a unique prefix of its id, in that order: a VM whose name looks like the
 * prefix of another's id is the one that is meant.
 */
export function findRow<T>(rows: ReadonlyMap<string, T>, idByName: ReadonlyMap<string, string>, text: string): Found<T> {
  const named = idByName.get(text);
  const exact = rows.get(named ?? text);
  if (exact !== undefined) return { kind: "one", row: exact };
  if (text.length < MIN_ID_PREFIX || !/^[0-9a-f-]+$/.test(text)) return { kind: "none" };
  const ids: string[] = [];
  for (const id of rows.keys()) if (id.startsWith(text)) ids.push(id);
  if (ids.length === 0) return { kind: "none" };
  if (ids.length > 1) return { kind: "many", ids };
  return { kind: "one", row: rows.get(ids[0] ?? "") as T };
}
