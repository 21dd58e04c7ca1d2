/**
 * The two ways a pool reaches the outside world, files and tools, each with a time limit. A dead NFS server makes file
 * calls hang for ever, and each hanging call keeps one of the few threads that all file calls of the process share.
 */
import { execFile } from "node:child_process";
import { RoostError } from "../base/errors.ts";

/** Hanging calls that one pool may have before it is refused at once. Threads: UV_THREADPOOL_SIZE, 4 unless set. */
const STUCK_LIMIT = 1;

/** Runs file work with a time limit; while a call hangs, further ones fail as `unavailable` without being tried. */
export class FileGuard {
  readonly #limitMs: number;
  readonly #where: string;
  #stuck = 0;

  constructor(options: { limitMs: number; where: string }) {
    this.#limitMs = options.limitMs;
    this.#where = options.where;
  }

  /** `work` must release what it opened itself: after a time-out nobody else takes its result. */
  async run<T>(what: string, work: () => Promise<T>, limitMs = this.#limitMs): Promise<T> {
    if (this.#stuck >= STUCK_LIMIT) {
      throw new RoostError(
        { kind: "unavailable", reason: `${this.#where} does not answer: an earlier file operation still hangs` },
        "check the storage server and the mount",
      );
    }
    const done = work();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.#stuck++;
        const release = (): void => void this.#stuck--;
        done.then(release, release);
        reject(
          new RoostError(
            { kind: "timeout", what: `${what} in ${this.#where}`, afterMs: limitMs },
            "check the storage server and the mount",
          ),
        );
      }, limitMs);
    });
    try {
      return await Promise.race([done, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A tool that ended badly; `explain` in src/storage/faults.ts turns it into words. */
export class ToolError extends Error {
  readonly tool: string;
  readonly stderr: string;

  constructor(tool: string, stderr: string, options?: ErrorOptions) {
    super(`${tool}: ${stderr.trim().split("\n").at(-1) ?? ""}`, options);
    this.name = "ToolError";
    this.tool = tool;
    this.stderr = stderr;
  }
}

// A process that hangs in the kernel does not die of SIGKILL; this long after it, nobody waits for it any more.
const KILL_GRACE_MS = 2_000;

/**
 * Runs a program without a shell and gives its standard output. Throws `timeout`, `unavailable` if it is not installed or was
 * stopped by the signal, else ToolError.
 */
export function runTool(
  tool: string,
  args: readonly string[],
  options: { what: string; timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<string> {
  const { what, timeoutMs, signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(cancelled(what));
    let expired = false;
    let grace: NodeJS.Timeout | undefined;
    const give = (error: Error): void => {
      clearTimeout(timer);
      clearTimeout(grace);
      signal?.removeEventListener("abort", abort);
      reject(error);
    };
    const end = (): void => {
      child.kill("SIGKILL");
      grace = setTimeout(
        () => give(new RoostError({ kind: "timeout", what: `${what} (its process does not end)`, afterMs: timeoutMs })),
        KILL_GRACE_MS,
      );
    };
    const abort = (): void => end();
    const child = execFile(
      tool,
      args,
      { encoding: "utf8", maxBuffer: 1024 * 1024, env: { PATH: process.env["PATH"], LC_ALL: "C" } },
      (error, stdout, stderr) => {
        if (error === null) {
          clearTimeout(timer);
          clearTimeout(grace);
          signal?.removeEventListener("abort", abort);
          return resolve(stdout);
        }
        if (signal?.aborted === true) return give(cancelled(what));
        if (expired) return give(new RoostError({ kind: "timeout", what, afterMs: timeoutMs }));
        if (error.code === ("ENOENT" as unknown)) {
          const hint = tool === "qemu-img" ? "install it: apt-get install qemu-utils" : undefined;
          return give(
            new RoostError({ kind: "unavailable", reason: `${what} needs ${tool}, which is not installed on this node` }, hint, {
              cause: error,
            }),
          );
        }
        give(new ToolError(tool, stderr === "" ? error.message : stderr, { cause: error }));
      },
    );
    const timer = setTimeout(() => {
      expired = true;
      end();
    }, timeoutMs);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

function cancelled(what: string): RoostError {
  return new RoostError({ kind: "unavailable", reason: `${what} was stopped` });
}
