/** Runs commands for the scripts: always with a time limit, and with the command's own words in the error. */
import { spawn } from "node:child_process";

export interface RunResult {
  stdout: string;
  stderr: string;
  /** Exit code; 128 + signal number's stand-in 255 if a signal ended it. */
  code: number;
}

export interface RunOptions {
  /** Default 15 s; the process is killed (SIGKILL) after it. */
  timeoutMs?: number;
  cwd?: string;
  /** Added to this process's environment. */
  env?: Record<string, string>;
  input?: string;
  /** Each finished line of standard output and error as it comes, for progress. */
  onLine?: (line: string) => void;
}

/** Output kept of each stream: a command that prints without end must not eat the memory. */
const OUTPUT_MAX_BYTES = 16 * 1024 * 1024;

export class CommandError extends Error {
  readonly result: RunResult;
  constructor(argv: readonly string[], result: RunResult, why: string) {
    const said = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-12).join("\n");
    super(`${argv.join(" ")}: ${why}${said === "" ? "" : `\n${said}`}`);
    this.name = "CommandError";
    this.result = result;
  }
}

/** Runs it and gives what it printed, whatever its exit code; throws only if it cannot start or takes too long. */
export function tryRun(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? 15_000;
  const [command, ...args] = argv;
  if (command === undefined) throw new Error("an empty command");
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
    const result: RunResult = { stdout: "", stderr: "", code: 255 };
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
      // A grandchild may hold the pipes open: their end is not waited for.
      child.stdout?.destroy();
      child.stderr?.destroy();
    }, timeoutMs);
    for (const name of ["stdout", "stderr"] as const) {
      let rest = "";
      child[name]?.setEncoding("utf8").on("data", (text: string) => {
        if (result[name].length < OUTPUT_MAX_BYTES) result[name] += text;
        if (options.onLine === undefined) return;
        const lines = (rest + text).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) options.onLine(line);
      });
    }
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(new CommandError(argv, result, error.message));
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      result.code = code ?? 255;
      if (late) reject(new CommandError(argv, result, `not done after ${timeoutMs} ms`));
      else resolve(result);
    });
    if (options.input !== undefined) {
      // A command that ends without reading its input is judged by its exit code.
      child.stdin?.on("error", () => {});
      child.stdin?.end(options.input);
    }
  });
}

/** Runs it; throws a CommandError with its last words unless it exits with 0. Gives standard output. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await tryRun(argv, options);
  if (result.code !== 0) throw new CommandError(argv, result, `exit code ${result.code}`);
  return result.stdout;
}
