/** How busy the node is (CLU-7), in steps coarse enough that most reports are equal to the one before. */
import { readFile } from "node:fs/promises";
import { cpus } from "node:os";

export interface Load {
  /** Memory that could be given to something new (MemAvailable, proc(5)). */
  freeMemoryMib: number;
  /** Mean of all CPUs since the last sample, 0 to 100. */
  cpuUsedPercent: number;
}

const CPU_STEP = 10;
/** Steps of memory are this part of all of it. */
const MEMORY_STEPS = 16;

interface Times {
  busyMs: number;
  allMs: number;
}

/** Remembers what it said last: a value moves only when it is a whole step away. */
export class LoadMeter {
  #last: Times = cpuTimes();
  #said: Load | null = null;

  async sample(memoryMib: number, meminfo = "/proc/meminfo"): Promise<Load | null> {
    const text = await readFile(meminfo, "utf8").catch(() => "");
    const available = /^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1];
    if (available === undefined) return null;
    const now = cpuTimes();
    const allMs = now.allMs - this.#last.allMs;
    const percent = allMs <= 0 ? (this.#said?.cpuUsedPercent ?? 0) : (100 * (now.busyMs - this.#last.busyMs)) / allMs;
    this.#last = now;
    // Nodes that share a machine have only their part of it.
    const freeMib = Math.min(Number(available) / 1024, memoryMib);
    const memoryStep = Math.max(1, Math.floor(memoryMib / MEMORY_STEPS));
    this.#said = {
      freeMemoryMib: stepped(freeMib, memoryStep, this.#said?.freeMemoryMib),
      cpuUsedPercent: stepped(percent, CPU_STEP, this.#said?.cpuUsedPercent),
    };
    return this.#said;
  }
}

/** The step that the value is nearest to; the last one again while the value is less than a step away from it. */
export function stepped(value: number, step: number, last: number | undefined): number {
  if (last !== undefined && Math.abs(value - last) < step) return last;
  return Math.round(value / step) * step;
}

function cpuTimes(): Times {
  let busyMs = 0;
  let allMs = 0;
  for (const { times } of cpus()) {
    const all = times.user + times.nice + times.sys + times.idle + times.irq;
    allMs += all;
    busyMs += all - times.idle;
  }
  return { busyMs, allMs };
}
