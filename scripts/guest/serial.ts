/** What a test guest's serial output proves: when it ran, by this machine's clock. */
import { readFile, stat } from "node:fs/promises";

export interface GuestMark {
  name: string;
  generation: string;
  /** Counter, which goes on from what the disk held. */
  n: number;
  /** Seconds since the guest's kernel started. */
  upS: number;
}

/** The marks of the last run in a serial log. A line that the guest's end cut short does not count. */
export function lastRunMarks(serial: string): GuestMark[] {
  const run = serial.slice(Math.max(serial.lastIndexOf("ROOST-GUEST ready "), 0));
  return [...run.matchAll(/^ROOST-GUEST mark name=(\S+) generation=(\S+) n=(\d+) up=([\d.]+) time=\S+\r?$/gm)].map((found) => ({
    name: found[1] ?? "",
    generation: found[2] ?? "",
    n: Number(found[3]),
    upS: Number(found[4]),
  }));
}

/**
 * When, by this machine's clock, the guest of a log's last run printed its first and its last mark: the last at the file's
 * modification time, the first earlier by as much as its uptime is less. Two nodes' intervals for one VM must not overlap.
 * Holds for guests that were not paused in between.
 */
export async function runInterval(serialPath: string): Promise<{ firstMs: number; lastMs: number } | null> {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const { mtimeMs } = await stat(serialPath);
    const marks = lastRunMarks(await readFile(serialPath, "latin1"));
    const first = marks[0];
    const last = marks.at(-1);
    if (first === undefined || last === undefined) return null;
    // A guest that prints between the two looks makes them disagree.
    if ((await stat(serialPath)).mtimeMs === mtimeMs) return { firstMs: mtimeMs - (last.upS - first.upS) * 1000, lastMs: mtimeMs };
  }
  throw new Error(`${serialPath} changes faster than it can be read`);
}
