/**
 * The guardian acts when agent and keeper are both gone (HA-3). It lives outside their process tree; here is only how
 * the keeper talks to it.
 *
 * - `file`: the keeper writes DIR/run/guardian; the node's init or a service manager polls the file and resets the host when an
 *   armed deadline is past. Nothing has to be done for it to act, which is the point.
 * - `watchdog`: a Linux watchdog device is petted, but never so late that it could bite after the deadline.
 * - `none`: the node says so, and the expiry of its claims is no proof.
 */
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { basename } from "node:path";
import type { Logger } from "../base/log.ts";
import type { Feed } from "./keeper/machine.ts";

export type GuardianKind = { kind: "file" } | { kind: "watchdog"; device: string } | { kind: "none" };

/** `file`, `watchdog`, `watchdog:/dev/watchdog1` or `none`; null for anything else. */
export function parseGuardian(text: string): GuardianKind | null {
  if (text === "file" || text === "none") return { kind: text };
  if (text === "watchdog") return { kind: "watchdog", device: "/dev/watchdog" };
  const device = /^watchdog:(\/dev\/[A-Za-z0-9_-]+)$/.exec(text)?.[1];
  return device === undefined ? null : { kind: "watchdog", device };
}

export interface Guardian {
  /** What NodeInfo.guardian says; null if nothing would act. */
  readonly name: string | null;
  /** Makes the new deadline known before it returns; throws if it cannot, or would not act by then. */
  feed(feed: Feed): void;
  /** Called every PET_MS with the current time. */
  pet(nowMs: number): void;
  close(): void;
}

export const PET_MS = 250;

/** `<bootId> <deadlineMs>` or `<bootId> disarmed`, blanks to a fixed width, so that one small write replaces it whole. */
const RECORD_BYTES = 128;

export function formatFeed(bootId: string, feed: Feed): string {
  return `${bootId} ${feed.armed ? Math.floor(feed.deadlineMs) : "disarmed"}`.padEnd(RECORD_BYTES - 1) + "\n";
}

/** What an earlier keeper wrote in this boot; null if nothing, or if the file is from another boot or damaged. */
export function parseFeed(text: string, bootId: string): Feed | null {
  const match = /^(\S+) (disarmed|\d{1,15}) *\n?$/.exec(text);
  if (match === null || match[1] !== bootId) return null;
  return match[2] === "disarmed" ? { armed: false } : { armed: true, deadlineMs: Number(match[2]) };
}

/** The feed file's content for a new keeper. A file that cannot be read counts as none only if it does not exist. */
export function readFeed(path: string, bootId: string): Feed | null {
  let text: string;
  try {
    text = readFileSync(path, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  return parseFeed(text, bootId);
}

export interface GuardianOptions {
  feedPath: string;
  bootId: string;
  /** A claim's time less the time for killing: a watchdog whose time-out does not fit in is none. */
  usableMs: number;
  log: Logger;
  /** Replaced in tests. */
  sysPath?: string;
  nowMs: () => number;
}

/** The file is written by every kind: a new keeper finds the deadline in it. Only kind `file` counts on somebody else reading it. */
export function openGuardian(kind: GuardianKind, options: GuardianOptions): Guardian {
  const { feedPath, bootId, usableMs, log } = options;
  const fd = openFeedFile(feedPath);
  const write = (feed: Feed): void => {
    const written = writeSync(fd, formatFeed(bootId, feed), 0, "latin1");
    if (written !== RECORD_BYTES) throw new Error(`${feedPath}: wrote ${written} of ${RECORD_BYTES} bytes`);
  };
  if (kind.kind === "watchdog") {
    const timeoutMs = readTimeoutMs(kind.device, options.sysPath ?? "/sys/class/watchdog");
    if (timeoutMs + PET_MS <= usableMs) return new WatchdogGuardian(kind.device, timeoutMs, options.nowMs, write, () => closeSync(fd));
    log.error("NO GUARDIAN: the watchdog's time-out is longer than a claim allows, so VMs of this node are not recovered by expiry", {
      device: kind.device,
      timeoutMs,
      atMostMs: usableMs - PET_MS,
      todo: "make it shorter (modprobe softdog soft_margin=3) and restart the keeper",
    });
  }
  return { name: kind.kind === "file" ? "file" : null, feed: write, pet: () => {}, close: () => closeSync(fd) };
}

function openFeedFile(path: string): number {
  try {
    return openSync(path, "r+", 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    const fd = openSync(path, "wx+", 0o600);
    fsyncSync(fd);
    return fd;
  }
}

/** Node has no ioctl, so the device's own time-out is taken as it is. Set it by the module's parameter. */
function readTimeoutMs(device: string, sysPath: string): number {
  const path = `${sysPath}/${basename(device) === "watchdog" ? "watchdog0" : basename(device)}/timeout`;
  const timeoutMs = Number(readFileSync(path, "latin1").trim()) * 1_000;
  if (!(timeoutMs > 0)) throw new Error(`${path} has no time-out`);
  return timeoutMs;
}

class WatchdogGuardian implements Guardian {
  readonly name: string;
  readonly #fd: number;
  readonly #timeoutMs: number;
  readonly #write: (feed: Feed) => void;
  readonly #closeFeed: () => void;
  #feed: Feed = { armed: false };
  readonly #nowMs: () => number;
  #lastPetMs: number;

  constructor(device: string, timeoutMs: number, nowMs: () => number, write: (feed: Feed) => void, closeFeed: () => void) {
    this.#timeoutMs = timeoutMs;
    this.#fd = openSync(device, "w");
    this.#nowMs = nowMs;
    // Opening starts it; the time is taken after that, so that it is never too early.
    this.#lastPetMs = nowMs();
    this.name = `watchdog:${device}`;
    this.#write = write;
    this.#closeFeed = closeFeed;
  }

  feed(feed: Feed): void {
    // An earlier pet may let the host live past this deadline, and nothing takes a pet back.
    const actsMs = this.#lastPetMs + this.#timeoutMs;
    const late = feed.armed && actsMs > feed.deadlineMs;
    // A deadline that came nearer is kept all the same: no more pets past it.
    if (late && !this.#feed.armed) throw new Error(`the watchdog would act at ${actsMs}, after ${feed.deadlineMs}`);
    this.#write(feed);
    this.#feed = feed;
    if (late) throw new Error(`the watchdog would act at ${actsMs}, after ${feed.deadlineMs}`);
  }

  pet(nowMs: number): void {
    // A pet at t lets the host live until t + time-out: the last one must be that much before the deadline.
    if (this.#feed.armed && nowMs + this.#timeoutMs > this.#feed.deadlineMs) return;
    writeSync(this.#fd, "\0");
    this.#lastPetMs = this.#nowMs();
  }

  close(): void {
    // The magic `V` stops the device; it is written only when nothing runs that needs it.
    if (!this.#feed.armed) writeSync(this.#fd, "V");
    closeSync(this.#fd);
    this.#closeFeed();
  }
}
