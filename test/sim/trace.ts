/** What happened in a run, line by line: its hash tells two runs apart, and its end is what a failure prints. */
import { crc32 } from "node:zlib";

const KEPT = 400;

export class Trace {
  hash = 0;
  lines = 0;
  readonly #nowMs: () => number;
  readonly #print: ((line: string) => void) | null;
  #kept: string[] = [];

  /** @param print sees each line as it comes; null keeps the last ones only. */
  constructor(nowMs: () => number, print: ((line: string) => void) | null) {
    this.#nowMs = nowMs;
    this.#print = print;
  }

  add(text: string): void {
    const line = `${this.#nowMs().toFixed(2).padStart(9)}  ${text}`;
    this.hash = crc32(line, this.hash);
    this.lines++;
    this.#print?.(line);
    this.#kept.push(line);
    if (this.#kept.length > 2 * KEPT) this.#kept = this.#kept.slice(-KEPT);
  }

  /** Counts for the hash and is printed only when everything is. */
  detail(hashed: number, text: () => string): void {
    this.hash = (Math.imul(this.hash, 31) + hashed) >>> 0;
    this.#print?.(`${this.#nowMs().toFixed(2).padStart(9)}  ${text()}`);
  }

  tail(lines: number): string[] {
    return this.#kept.slice(-lines);
  }
}
