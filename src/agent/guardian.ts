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
  /** Makes the new deadline known before it returns; throws if it cannot. */
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

/** The file is written by every kind: a new keeper finds the deadline in it. Only kind `file` counts on somebody else reading it. */
export function openGuardian(kind: GuardianKind, feedPath: string, bootId: string): Guardian {
  const fd = openFeedFile(feedPath);
  const write = (feed: Feed): void => {
    const written = writeSync(fd, formatFeed(bootId, feed), 0, "latin1");
    if (written !== RECORD_BYTES) throw new Error(`${feedPath}: wrote ${written} of ${RECORD_BYTES} bytes`);
  };
  if (kind.kind === "watchdog") return new WatchdogGuardian(kind.device, write, () => closeSync(fd));
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

class WatchdogGuardian implements Guardian {
  readonly name: string;
  readonly #fd: number;
  readonly #timeoutMs: number;
  readonly #write: (feed: Feed) => void;
  readonly #closeFeed: () => void;
  #feed: Feed = { armed: false };

  constructor(device: string, write: (feed: Feed) => void, closeFeed: () => void) {
    // Node has no ioctl, so the device's own time-out is taken as it is. Set it by the module's parameter.
    const timeoutPath = `/sys/class/watchdog/${basename(device) === "watchdog" ? "watchdog0" : basename(device)}/timeout`;
    this.#timeoutMs = Number(readFileSync(timeoutPath, "latin1").trim()) * 1_000;
    if (!(this.#timeoutMs > 0)) throw new Error(`${timeoutPath} has no time-out`);
    this.#fd = openSync(device, "w");
    this.name = `watchdog:${device}`;
    this.#write = write;
    this.#closeFeed = closeFeed;
  }

  feed(feed: Feed): void {
    this.#write(feed);
    this.#feed = feed;
  }

  pet(nowMs: number): void {
    // A pet at t lets the host live until t + time-out: the last one must be that much before the deadline.
    if (this.#feed.armed && nowMs + this.#timeoutMs > this.#feed.deadlineMs) return;
    writeSync(this.#fd, "\0");
  }

  close(): void {
    // The magic `V` stops the device; it is written only when nothing runs that needs it.
    if (!this.#feed.armed) writeSync(this.#fd, "V");
    closeSync(this.#fd);
    this.#closeFeed();
  }
}
