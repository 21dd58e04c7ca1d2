/**
 * The deterministic world of the HA simulation: virtual time, processes that pause and die, a lossy network. Randomness
 * comes from one seed.
 */
import { seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";

interface Timed {
  atMs: number;
  order: number;
  run: () => void;
}

/** Something that can be paused (SIGSTOP) and killed; what comes due for it meanwhile waits, or is dropped. */
export class Process {
  alive = true;
  /** Several may stop it at once; it goes on when the last of them lets it. */
  #stops = 0;
  incarnation = 0;
  readonly #held: (() => void)[] = [];

  /** Runs now, later, or never. */
  deliver(incarnation: number, run: () => void): void {
    if (!this.alive || incarnation !== this.incarnation) return;
    if (this.#stops > 0) this.#held.push(() => this.deliver(incarnation, run));
    else run();
  }

  kill(): void {
    this.alive = false;
    this.#stops = 0;
    this.incarnation++;
    this.#held.length = 0;
  }

  restart(): void {
    this.kill();
    this.alive = true;
  }

  pause(): void {
    this.#stops++;
  }

  unpause(): void {
    if (--this.#stops > 0) return;
    for (const run of this.#held.splice(0)) run();
  }

  get works(): boolean {
    return this.alive && this.#stops === 0;
  }
}

export class World {
  nowMs = 0;
  readonly random: Random;
  readonly #queue: Timed[] = [];
  #order = 0;
  readonly cut = new Set<string>();
  /** Links with long delays. */
  readonly slow = new Set<string>();
  lossRate = 0;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  between(low: number, high: number): number {
    return low + this.random.unit() * (high - low);
  }

  chance(probability: number): boolean {
    return this.random.unit() < probability;
  }

  after(delayMs: number, run: () => void): void {
    const item = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, run };
    const queue = this.#queue;
    let i = queue.push(item) - 1;
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (!before(item, queue[up] as Timed)) break;
      queue[i] = queue[up] as Timed;
      i = up;
    }
    queue[i] = item;
  }

  /** For a process: only if it still is the same then, and when it is not paused. */
  afterIn(process: Process, delayMs: number, run: () => void): void {
    const { incarnation } = process;
    this.after(delayMs, () => process.deliver(incarnation, run));
  }

  /** One message; lost, late, doubled. `receive` runs in the receiver's process as it is then. */
  send(from: number, to: number, process: Process, receive: () => void): void {
    if (from !== to && (this.cut.has(`${from}>${to}`) || this.chance(this.lossRate))) return;
    const copies = from !== to && this.chance(0.02) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const delayMs =
        from === to
          ? 0.1
          : this.slow.has(`${from}>${to}`)
            ? this.between(300, 3_000)
            : this.chance(0.02)
              ? this.between(20, 300)
              : this.between(0.3, 5);
      this.after(delayMs, () => {
        // A cut link also loses what is on it.
        if (this.cut.has(`${from}>${to}`)) return;
        process.deliver(process.incarnation, receive);
      });
    }
  }

  runUntil(endMs: number, stop: () => boolean): void {
    for (;;) {
      const next = this.#queue[0];
      if (next === undefined || next.atMs > endMs || stop()) break;
      this.#pop();
      this.nowMs = next.atMs;
      next.run();
    }
    this.nowMs = Math.max(this.nowMs, stop() ? this.nowMs : endMs);
  }

  #pop(): void {
    const queue = this.#queue;
    const last = queue.pop() as Timed;
    if (queue.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= queue.length) break;
      if (child + 1 < queue.length && before(queue[child + 1] as Timed, queue[child] as Timed)) child++;
      if (!before(queue[child] as Timed, last)) break;
      queue[i] = queue[child] as Timed;
      i = child;
    }
    queue[i] = last;
  }
}

function before(a: Timed, b: Timed): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
