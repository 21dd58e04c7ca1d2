/**
 * CLOCK_BOOTTIME without native code: it runs through suspend and nobody sets it, so deadlines are counted on it
 * and never on wall clocks (HA-2).
 */
import { readFileSync } from "node:fs";

export interface BootClock {
  /** ms since boot, suspend included; 10 ms resolution, rounded down. */
  nowMs(): number;
  /** Names this run of the machine; a deadline of another boot id means nothing. */
  bootId: string;
}

/**
 * Reads /proc/uptime, whose first number is CLOCK_BOOTTIME (fs/proc/uptime.c). Rounding down makes mint times early
 * (safe) and "now" up to 10 ms late (part of ha.killLeadMs).
 * The boot id has the start time of pid 1 added, so that containers which share a kernel count as the machines they stand for.
 */
export function openBootClock(procPath = "/proc"): BootClock {
  const kernelBootId = readFileSync(`${procPath}/sys/kernel/random/boot_id`, "utf8").trim();
  return {
    bootId: `${kernelBootId}:${startTicks(1, procPath) ?? "0"}`,
    nowMs: () => {
      const text = readFileSync(`${procPath}/uptime`, "latin1");
      const nowMs = Math.round(Number(text.slice(0, text.indexOf(" "))) * 1_000);
      if (!Number.isFinite(nowMs) || nowMs <= 0) throw new Error(`${procPath}/uptime says ${JSON.stringify(text)}`);
      return nowMs;
    },
  };
}

/** Field 22 of /proc/PID/stat: with the pid, a process's identity. null if there is no such process. */
export function startTicks(pid: number, procPath = "/proc"): string | null {
  try {
    const stat = readFileSync(`${procPath}/${pid}/stat`, "latin1");
    // The second field is the command in parentheses and may itself hold blanks and parentheses.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
