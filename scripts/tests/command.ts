/** Runs one command with a time limit, its children included. */
import { spawn } from "node:child_process";
import { performance } from "node:perf_hooks";

export interface Outcome {
  /** `exit 0`, `exit 1`, `killed by SIGSEGV`, `timed out after 120 s`, `cannot start: ...`. */
  ending: string;
  stdout: string;
  stderr: string;
  tookMs: number;
}

export interface CommandOptions {
  cwd: string;
  env: NodeJS.ProcessEnv;
  timeoutMs: number;
}

/** What is kept of each stream, in characters: its end, where the reason is. */
const KEPT = 2_000_000;

/** Process groups that run now: they go when this process is told to go. */
const running = new Set<number>();

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    for (const group of running) killGroup(group);
    process.exit(1);
  });
}

/** Never rejects: whatever happens to the command is its outcome. */
export function runCommand(command: readonly string[], options: CommandOptions): Promise<Outcome> {
  const startedMs = performance.now();
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  // A group of its own, so that a test's guests and daemons end with it at a timeout.
  const child = spawn(command[0] ?? "", command.slice(1), {
    cwd: options.cwd,
    env: options.env,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const text = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8");
    child[stream].on("data", (chunk: string) => {
      text[stream] = (text[stream] + chunk).slice(-KEPT);
    });
  }
  const group = child.pid;
  if (group !== undefined) running.add(group);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    if (group !== undefined) killGroup(group);
  }, options.timeoutMs);
  const end = (ending: string): void => {
    clearTimeout(timer);
    if (group !== undefined) running.delete(group);
    resolve({ ending, ...text, tookMs: performance.now() - startedMs });
  };
  child.on("error", (error) => end(`cannot start: ${error.message}`));
  // Not "exit": the last output comes after it. But a daemon left behind may hold the pipes for ever, so exit starts a short grace.
  child.on("exit", () => {
    setTimeout(() => {
      child.stdout.destroy();
      child.stderr.destroy();
    }, 2000).unref();
  });
  child.on("close", (code, signal) => {
    if (timedOut) end(`timed out after ${options.timeoutMs / 1000} s`);
    else end(signal === null ? `exit ${code ?? 1}` : `killed by ${signal}`);
  });
  return promise;
}

function killGroup(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch (error) {
    // Gone already.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}
