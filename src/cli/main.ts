/** The command line on the real process: the one place of the CLI that touches it. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname } from "node:path";
import { newRequestId } from "../base/ids.ts";
import type { Handlers } from "./handlers.ts";
import type { Io } from "./io.ts";
import { createFile } from "./new-file.ts";
import { runProgram } from "./program.ts";

/** Runs `roost ARGV` and answers the exit code. Interrupts end client commands with 130; daemons have their own way. */
export async function runCli(argv: readonly string[], handlers: Handlers): Promise<number> {
  const abort = new AbortController();
  // A reader that goes away (`| head`) is no error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  const interrupt = (): void => {
    if (abort.signal.aborted) process.exit(130);
    abort.abort();
  };
  const isDaemon = ["up", "join", "daemon", "keeper"].includes(argv[0] ?? "");
  if (!isDaemon) process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  const io: Io = {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    env: process.env,
    isTerminal: process.stdout.isTTY,
    isErrTerminal: process.stderr.isTTY,
    nowMs: () => Date.now(),
    newId: () => newRequestId(Date.now()),
    readFile: (path) => readFile(path, "utf8"),
    writeFile: async (path, text) => {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await writeFile(path, text, { mode: 0o600 });
    },
    createFile,
    readStdin,
    homeDir: homedir(),
    signal: abort.signal,
  };
  const listDir = async (path: string): Promise<string[]> => {
    try {
      return await readdir(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  };
  try {
    const code = await runProgram(argv, { io, handlers, listDir });
    if (!isDaemon) await leave(code);
    return code;
  } finally {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
  }
}

/**
 * Ends the process when all it said is written. grpc-js does not give up a connection attempt when its channel is closed, so a
 * node that swallows packets would hold a finished command for as long as the kernel goes on trying, two minutes.
 */
async function leave(code: number): Promise<never> {
  for (const stream of [process.stdout, process.stderr]) await new Promise<void>((resolve) => stream.write("", () => resolve()));
  process.exit(code);
}

async function readStdin(): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of process.stdin) parts.push(part as Buffer);
  return Buffer.concat(parts).toString("utf8");
}
