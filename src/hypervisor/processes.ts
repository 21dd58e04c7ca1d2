/**
 * The emulator processes of this host, from /proc, for ending domains without libvirt (kill.ts). One scan serves
 * everybody who asks for it, and what it reads of an emulator's command line is remembered: a process that is stuck or
 * dying no longer shows it, and must be known all the same.
 */
import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { RoostError } from "../base/errors.ts";
import type { KillRecipe } from "./driver.ts";

export interface Process {
  pid: number;
  /** Clock ticks since boot at which it started (field 22 of /proc/PID/stat): with the pid, its identity. */
  startTicks: string;
}

interface Emulator extends Process {
  argv: readonly string[];
}

/** The emulators of one moment. */
export interface ProcessScan {
  of(recipe: KillRecipe & { kind: "libvirt" }): Process[];
  /** Emulators that could not be told apart: stuck, or dying and never seen before. While there are any, nothing counts as gone. */
  unclear: readonly Process[];
}

interface Stat {
  comm: string;
  state: string;
  flags: number;
  startTicks: string;
}

/** Reading a command line takes the process's memory lock: of one that is stuck it may take for ever. */
const ARGV_LIMIT_MS = 100;
const ARGV_AT_ONCE = 32;
/** /proc/PID/stat takes no such lock and is read in line, some at a time so that timers and sockets are not held up. */
const STATS_AT_ONCE = 128;
/** Kernel, include/linux/sched.h. */
const PF_EXITING = 0x4;
const PF_KTHREAD = 0x20_0000;

export class ProcessTable {
  readonly #procPath: string;
  /** By pid; pruned by each scan to what it has seen. */
  #known = new Map<number, Emulator>();
  /** Reads of command lines that did not come back in time: not asked a second time, each holds a thread. */
  readonly #reading = new Map<string, Promise<string[] | null>>();
  #present: Promise<ProcessScan> | null = null;
  #next: Promise<ProcessScan> | null = null;

  constructor(procPath = "/proc") {
    this.#procPath = procPath;
  }

  /** A look that begins after this call; all who ask before it begins share it. Throws if it could not see everything. */
  scan(): Promise<ProcessScan> {
    if (this.#next !== null) return this.#next;
    const before = this.#present ?? Promise.resolve();
    const next = before.then(
      () => this.#begin(),
      () => this.#begin(),
    );
    this.#next = next;
    return next;
  }

  /** What earlier scans found of the recipe and still is there: no scan is needed to signal it. */
  known(recipe: KillRecipe & { kind: "libvirt" }): Process[] {
    return [...this.#known.values()].filter((emulator) => isOf(emulator.argv, recipe) && !this.isOver(emulator));
  }

  isSame(process: Process): boolean {
    return this.#stat(process.pid)?.startTicks === process.startTicks;
  }

  /** Gone, or a zombie whose last thread has ended: while a thread still exits, it may still write to a disk. */
  isOver(process: Process): boolean {
    const stat = this.#stat(process.pid);
    if (stat === null || stat.startTicks !== process.startTicks) return true;
    if (stat.state !== "Z" && stat.state !== "X") return false;
    return (unlessGone(() => readdirSync(`${this.#procPath}/${process.pid}/task`).length) ?? 0) <= 1;
  }

  #begin(): Promise<ProcessScan> {
    this.#present = this.#next;
    this.#next = null;
    return this.#look();
  }

  async #look(): Promise<ProcessScan> {
    const pids = readdirSync(this.#procPath).filter((name) => /^\d+$/.test(name));
    const candidates: (Process & { flags: number })[] = [];
    for (let i = 0; i < pids.length; i++) {
      if (i > 0 && i % STATS_AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve));
      const pid = Number(pids[i]);
      const stat = this.#stat(pid);
      if (stat === null || (stat.flags & PF_KTHREAD) !== 0 || !/qemu|kvm/.test(stat.comm)) continue;
      const candidate = { pid, startTicks: stat.startTicks, flags: stat.flags };
      if (!this.isOver(candidate)) candidates.push(candidate);
    }
    const seen = new Map<number, Emulator>();
    const unclear: Process[] = [];
    let at = 0;
    const readOn = async (): Promise<void> => {
      for (let mine = candidates[at++]; mine !== undefined; mine = candidates[at++]) {
        const { pid, startTicks, flags } = mine;
        const known = this.#known.get(pid);
        if (known?.startTicks === startTicks) {
          seen.set(pid, known);
          continue;
        }
        const argv = await this.#argv(mine);
        if (argv === null || (argv.length === 0 && (flags & PF_EXITING) !== 0)) {
          if (!this.isOver(mine)) unclear.push({ pid, startTicks });
        } else if (argv.includes("-uuid")) seen.set(pid, { pid, startTicks, argv });
      }
    };
    await Promise.all(Array.from({ length: Math.min(ARGV_AT_ONCE, candidates.length) }, readOn));
    this.#known = seen;
    const all = [...seen.values()];
    return { of: (recipe) => all.filter((emulator) => isOf(emulator.argv, recipe)), unclear };
  }

  /** Empty for a process that has none any more; null if it could not be read in time. */
  async #argv({ pid, startTicks }: Process): Promise<string[] | null> {
    const key = `${pid} ${startTicks}`;
    let reading = this.#reading.get(key);
    if (reading === undefined) {
      reading = readFile(`${this.#procPath}/${pid}/cmdline`, "utf8")
        .catch((error: unknown) => (isGoneError(error) ? "" : Promise.reject(error)))
        .then((text) => text.split("\0").slice(0, -1))
        .finally(() => this.#reading.delete(key));
      this.#reading.set(key, reading);
    }
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), ARGV_LIMIT_MS);
    });
    try {
      return await Promise.race([reading, limit]);
    } finally {
      clearTimeout(timer);
      reading.catch(() => {}); // came too late to be of interest; the race told of it otherwise
    }
  }

  #stat(pid: number): Stat | null {
    const path = `${this.#procPath}/${pid}/stat`;
    const text = unlessGone(() => readFileSync(path, "latin1"));
    if (text === null) return null;
    // `PID (comm) S …`: comm may hold blanks and brackets, so the fields are counted from the last bracket; state is field 3.
    const close = text.lastIndexOf(")");
    const fields = text.slice(close + 2).split(" ");
    const [state, flags, startTicks] = [fields[0], fields[6], fields[19]];
    if (close < 0 || state === undefined || flags === undefined || startTicks === undefined)
      throw new RoostError({ kind: "damaged", what: path });
    return { comm: text.slice(text.indexOf("(") + 1, close), state, flags: Number(flags), startTicks };
  }
}

function isOf(argv: readonly string[], recipe: KillRecipe & { kind: "libvirt" }): boolean {
  return argv[argv.indexOf("-uuid") + 1] === recipe.uuid && argv.some((argument) => argument.includes(recipe.processMark));
}

/** null if the process has ended. Anything else that fails (no free descriptors, say) tells nothing about it. */
function unlessGone<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (isGoneError(error)) return null;
    throw error;
  }
}

function isGoneError(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH");
}
