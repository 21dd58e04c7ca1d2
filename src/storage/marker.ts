/**
 * The marker file that tells a pool's folder from any other: from an empty mount point, from another pool, and, for
 * shared pools, from a folder of the same name that is not the same folder.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Pool } from "../model/pool.ts";
import { errorCode } from "./faults.ts";
import { writeNew } from "./files.ts";

export const MARKER_NAME = ".roost-pool";

interface Marker {
  poolId: string;
  shared: boolean;
  /** Whose folder it is, if the pool is not shared. */
  nodeId?: string;
}

/** null if the folder is this pool's; else what is wrong, for people. */
export async function checkMarker(pool: Pool, nodeId: string): Promise<string | null> {
  let text: string;
  try {
    text = await readFile(join(pool.path, MARKER_NAME), "utf8");
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
    const question = pool.shared ? "is it the same folder on each node, and mounted here?" : "is its disk mounted?";
    return `${pool.path} holds no marker of pool ${JSON.stringify(pool.name)}: ${question}`;
  }
  const marker = parseMarker(text);
  if (marker === null)
    return `${join(pool.path, MARKER_NAME)} is damaged: write ${JSON.stringify(markerOf(pool, nodeId))} into it if the folder is the right one`;
  if (marker.poolId !== pool.id) {
    return `${pool.path} belongs to another pool (${marker.poolId}), not to ${JSON.stringify(pool.name)} (${pool.id}): give each pool a folder of its own`;
  }
  if (marker.shared !== pool.shared) {
    return `${pool.path} was made as a ${marker.shared ? "shared" : "local"} pool, but ${JSON.stringify(pool.name)} is ${pool.shared ? "shared" : "local"} now`;
  }
  if (!pool.shared && marker.nodeId !== nodeId) {
    return `${pool.path} is in use by node ${marker.nodeId ?? "?"}: if the nodes see the same folder, the pool must be created as shared`;
  }
  return null;
}

/** Marks the folder as this pool's if nobody has marked it; `checkMarker` then tells whose it is. */
export async function writeMarker(pool: Pool, nodeId: string): Promise<void> {
  await writeNew(pool.path, MARKER_NAME, `${JSON.stringify(markerOf(pool, nodeId))}\n`, nodeId);
}

function markerOf(pool: Pool, nodeId: string): Marker {
  return pool.shared ? { poolId: pool.id, shared: true } : { poolId: pool.id, shared: false, nodeId };
}

function parseMarker(text: string): Marker | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || !("poolId" in value) || !("shared" in value)) return null;
  if (typeof value.poolId !== "string" || typeof value.shared !== "boolean") return null;
  const nodeId = "nodeId" in value && typeof value.nodeId === "string" ? { nodeId: value.nodeId } : {};
  return { poolId: value.poolId, shared: value.shared, ...nodeId };
}
