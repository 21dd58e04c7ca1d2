/**
 * The probes folder (CLU-7): every executable in it prints KEY=VALUE lines, which requirements and rank can use. What a
 * program of the operator's does wrong is told, and never holds up the agent: each has limits of time and size.
 */
import { spawn } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";

export interface Probed {
  /** Sorted by key. */
  values: Record<string, string>;
  /** For people, each with the file's name: `gpu: line 3 is not KEY=VALUE`. */
  problems: string[];
}

export interface ProbeLimits {
  timeoutMs: number;
  bytes: number;
}

const LIMITS: ProbeLimits = { timeoutMs: 5_000, bytes: 64 * 1024 };
const FILES = 64;
const VALUES = 64;
const VALUE_LENGTH = 255;
const PROBLEMS = 20;
const AT_ONCE = 4;
const EVERY_MS = 30_000;

const LINE = /^([A-Za-z_][A-Za-z0-9_]{0,62})=(.*)$/;

/** Runs them now and every 30 s, and keeps what they said last. */
export class Probes {
  readonly #folder: string;
  readonly #deps: { clock: Clock; log: Logger; changed: () => void };
  #current: Probed = { values: {}, problems: [] };
  #cancel: (() => void) | null = null;
  #running = false;

  constructor(folder: string, deps: { clock: Clock; log: Logger; changed: () => void }) {
    this.#folder = folder;
    this.#deps = deps;
  }

  get current(): Probed {
    return this.#current;
  }

  start(): void {
    this.#running = true;
    void this.#round();
  }

  stop(): void {
    this.#running = false;
    this.#cancel?.();
  }

  async #round(): Promise<void> {
    const { clock, log, changed } = this.#deps;
    try {
      const found = await runProbes(this.#folder);
      const differs = JSON.stringify(found) !== JSON.stringify(this.#current);
      this.#current = found;
      if (differs && this.#running) changed();
    } catch (error) {
      log.warn("the probes could not be run", { folder: this.#folder, reason: asRoostError(error).message });
    }
    if (this.#running) this.#cancel = clock.after(EVERY_MS, () => void this.#round());
  }
}

/** Runs every executable of the folder once, a few at a time; no folder is no probes. */
export async function runProbes(folder: string, limits: ProbeLimits = LIMITS): Promise<Probed> {
  const problems: string[] = [];
  const files = await executables(folder, problems);
  const answers = new Map<string, Answer>();
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < files.length; i = next++) answers.set(files[i]!, await run(folder, files[i]!, limits));
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, files.length) }, worker));

  const values = new Map<string, { value: string; file: string }>();
  for (const file of files) {
    const answer = answers.get(file);
    if (answer === undefined) continue;
    if (!answer.ok) problems.push(`${file}: ${answer.problem}`);
    else take(file, answer.text, values, problems);
  }
  const sorted = [...values].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, { value }]) => [key, value]);
  const told = problems.length > PROBLEMS ? [...problems.slice(0, PROBLEMS), `and ${problems.length - PROBLEMS} more`] : problems;
  return { values: Object.fromEntries(sorted) as Record<string, string>, problems: told };
}

function take(file: string, text: string, values: Map<string, { value: string; file: string }>, problems: string[]): void {
  for (const [i, line] of text.split("\n").entries()) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    const [, key, value] = LINE.exec(trimmed) ?? [];
    if (key === undefined || value === undefined)
      problems.push(`${file}: line ${i + 1} is not KEY=VALUE: ${JSON.stringify(trimmed.slice(0, 60))}`);
    else if (value.length > VALUE_LENGTH)
      problems.push(`${file}: line ${i + 1}: the value of ${key} is longer than ${VALUE_LENGTH} characters`);
    else if (values.has(key)) problems.push(`${file}: line ${i + 1}: ${key} was printed by ${values.get(key)?.file ?? ""} already`);
    else if (values.size >= VALUES) problems.push(`${file}: line ${i + 1}: there are ${VALUES} values already, ${key} is left out`);
    else values.set(key, { value, file });
  }
}

/** Names, sorted. Hidden files and those without an x are none of ours; what others may write is not run as root. */
async function executables(folder: string, problems: string[]): Promise<string[]> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => !name.startsWith(".")).toSorted();
  const found: string[] = [];
  for (const name of names) {
    const row = await stat(join(folder, name)).catch(() => null);
    if (row === null || !row.isFile() || (row.mode & 0o111) === 0) continue;
    if ((row.mode & 0o022) !== 0) problems.push(`${name}: others than its owner may write it: not run (chmod go-w)`);
    else if (row.uid !== 0 && row.uid !== process.getuid?.()) problems.push(`${name}: belongs to user ${row.uid}: not run`);
    else if (found.length >= FILES) problems.push(`${name}: there are ${FILES} probes already: not run`);
    else found.push(name);
  }
  return found;
}

type Answer = { ok: true; text: string } | { ok: false; problem: string };

function run(folder: string, name: string, limits: ProbeLimits): Promise<Answer> {
  return new Promise((resolve) => {
    // A group of its own, so that whatever it starts can be ended with it.
    const child = spawn(join(folder, name), [], { cwd: folder, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    const end = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // All of it has ended by itself.
      }
    };
    let problem: string | null = null;
    const stop = (why: string): void => {
      problem ??= why;
      end();
    };
    const timer = setTimeout(() => stop(`took longer than ${limits.timeoutMs} ms and was killed`), limits.timeoutMs);
    const chunks: Buffer[] = [];
    let size = 0;
    child.stdout.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > limits.bytes) stop(`printed more than ${limits.bytes} bytes and was killed`);
      else chunks.push(chunk);
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString("utf8")).slice(0, 200);
    });
    child.once("error", (error) => {
      clearTimeout(timer);
      resolve({ ok: false, problem: `cannot be run: ${error.message}` });
    });
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      const because = said.trim() === "" ? "" : `: ${said.trim().split("\n")[0] ?? ""}`;
      if (problem !== null) resolve({ ok: false, problem });
      else if (code !== 0) resolve({ ok: false, problem: `ended with ${code === null ? String(signal) : `exit code ${code}`}${because}` });
      else resolve({ ok: true, text: Buffer.concat(chunks).toString("utf8") });
    });
  });
}
