/** The keeper as a process: where its files lie, how it is found, started, and removed when it hangs. */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { RoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { startTicks } from "./boot-clock.ts";

export interface KeeperPaths {
  runDir: string;
  socket: string;
  /** `<pid> <start ticks>` of the keeper that has the socket. */
  pid: string;
  /** What the guardian reads (guardian.ts). */
  feed: string;
  log: string;
  /** What it saw end (agent/run-records.ts). */
  runs: string;
}

export function keeperPaths(dataDir: string): KeeperPaths {
  const runDir = join(dataDir, "run");
  return {
    runDir,
    socket: join(runDir, "keeper.sock"),
    pid: join(runDir, "keeper.pid"),
    feed: join(runDir, "guardian"),
    log: join(runDir, "keeper.log"),
    runs: join(dataDir, "runs", "keeper.log"),
  };
}

/** True if a keeper answers on the folder's socket within the limit. */
export async function pingKeeper(dataDir: string, limitMs: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = createConnection(keeperPaths(dataDir).socket);
    const finish = (answers: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answers);
    };
    const timer = setTimeout(() => finish(false), limitMs);
    socket.on("connect", () => socket.write(`${JSON.stringify({ id: 1, request: { op: "list" } })}\n`));
    socket.on("data", () => finish(true));
    socket.on("error", () => finish(false));
    socket.on("close", () => finish(false));
  });
}

/**
 * Ends a keeper that does not answer (stopped, stuck): two at once would write the same feed. By pid and start time, so
 * that a reused pid is never hit. Its domains stay under the guardian's deadline.
 */
export function killStaleKeeper(dataDir: string, log: Logger): void {
  let text: string;
  try {
    text = readFileSync(keeperPaths(dataDir).pid, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const match = /^(\d+) (\d+)\n?$/.exec(text);
  const pid = Number(match?.[1]);
  if (match === null || pid === process.pid || startTicks(pid) !== match[2]) return;
  log.warn("killing a keeper that does not answer", { pid });
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** One heap of the allocator's for all threads, and few threads: both are megabytes in a process that is to stay small. */
const SMALL = { MALLOC_ARENA_MAX: "1", UV_THREADPOOL_SIZE: "2" };

export interface SpawnOptions {
  dataDir: string;
  /** Program and arguments of `roost keeper …`. */
  command: readonly [string, ...string[]];
  limitMs: number;
  log: Logger;
}

/**
 * Makes sure that a keeper serves the data folder: one that answers is kept, one that hangs is killed, and a new
 * one is started detached, so that it survives its parent. Throws `timeout` if it does not answer in time.
 */
export async function ensureKeeper(options: SpawnOptions): Promise<"kept" | "started"> {
  const { dataDir, log } = options;
  if (await pingKeeper(dataDir, Math.min(1_000, options.limitMs))) return "kept";
  killStaleKeeper(dataDir, log);
  const paths = keeperPaths(dataDir);
  mkdirSync(paths.runDir, { recursive: true, mode: 0o700 });
  const logFd = openSync(paths.log, "a", 0o600);
  const [program, ...args] = options.command;
  let failure: string | null = null;
  const child = spawn(program, args, { detached: true, stdio: ["ignore", logFd, logFd], cwd: "/", env: { ...process.env, ...SMALL } });
  child.on("error", (error) => {
    failure = error.message;
  });
  child.on("exit", (code, signal) => {
    failure ??= `it ended with ${signal ?? `code ${code}`}; see ${paths.log}`;
  });
  child.unref();
  closeSync(logFd);
  const endMs = performance.now() + options.limitMs;
  while (performance.now() < endMs && failure === null) {
    if (await pingKeeper(dataDir, 500)) return "started";
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  if (failure !== null) throw new RoostError({ kind: "unavailable", reason: `the keeper could not be started: ${failure as string}` });
  throw new RoostError({ kind: "timeout", what: "starting the keeper", afterMs: options.limitMs });
}
