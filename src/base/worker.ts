import { getAsset } from "node:sea";
import { type ResourceLimits, Worker } from "node:worker_threads";

// Replaced by text at build time (scripts/bundle.ts); absent when the sources run as they are.
declare const __ROOST_VERSION__: string | undefined;

/**
 * Entry file of every worker thread, from here. The build makes one bundle of each and embeds it in the binary under `workerAsset(name)`,
 * so a thread that is not in this table does not exist in the binary.
 */
export const WORKERS = {
  consensus: "../daemon/consensus-thread.ts",
} as const satisfies Record<string, string>;

export type WorkerName = keyof typeof WORKERS;

/** Name of a worker's bundle among the binary's assets. */
export function workerAsset(name: string): string {
  return `worker-${name}.cjs`;
}

/**
 * Starts a worker thread: from its embedded bundle in the binary, from its source file elsewhere.
 * `workerData` must be structured-cloneable; `limits` are in MiB (`maxOldGenerationSizeMb`, ...). A thread over its heap limit ends with
 * an "error" event of code ERR_WORKER_OUT_OF_MEMORY; the caller listens for "error" and "exit".
 */
export function startWorker(name: WorkerName, workerData: unknown, limits: ResourceLimits = {}): Worker {
  const options = { name, workerData, resourceLimits: limits };
  if (typeof __ROOST_VERSION__ !== "undefined") return new Worker(getAsset(workerAsset(name), "utf8"), { ...options, eval: true });
  return new Worker(new URL(WORKERS[name], import.meta.url), options);
}
