/** The one table from a pool's kind to its driver. */
import type { Pool } from "../model/pool.ts";
import { DirPool } from "./dir.ts";
import type { StoragePool } from "./pool.ts";

export interface OpenOptions {
  /** Whose view this is; in marks, markers and names of unfinished files. */
  nodeId: string;
  /**
   * May make the folder (local pools) and write the marker where there is none. For a shared pool true on one node once, when it is
   * created: a node that marks whatever folder it finds would hide that its mount is missing.
   */
  mayInitialise: boolean;
  limits?: Partial<PoolLimits>;
}

export interface PoolLimits {
  /** One file operation, ms. */
  fileMs: number;
  /** `status`, ms. */
  statusMs: number;
  /** A short tool run such as making an empty image, ms. */
  toolMs: number;
  /** Copying and syncing a whole volume, ms; callers bound it further by their signal. */
  copyMs: number;
}

const DEFAULT_LIMITS: PoolLimits = { fileMs: 10_000, statusMs: 3_000, toolMs: 30_000, copyMs: 3_600_000 };

/** Never rejects for what is wrong with the folder: that is in `status()`, and every call on the pool says it. */
export async function openPool(pool: Pool, options: OpenOptions): Promise<StoragePool> {
  const settled = { ...options, limits: { ...DEFAULT_LIMITS, ...options.limits } };
  switch (pool.kind) {
    case "dir":
      return await DirPool.open(pool, settled);
  }
}
