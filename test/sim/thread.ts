/** A thread of a simulated node: does one thing at a time, can stand still, and ends with its process. */
import type { Clock } from "../../src/base/clock.ts";
import type { EventQueue } from "./queue.ts";

export class SimThread {
  dead = false;
  readonly #queue: EventQueue;
  /** Before anything runs here: whose turn it is. */
  readonly #enter: () => void;
  #paused = false;
  #waiting: (() => void)[] = [];

  constructor(queue: EventQueue, enter: () => void) {
    this.#queue = queue;
    this.#enter = enter;
  }

  /** Now, or when the thread goes on, after all that waits. */
  run(action: () => void): void {
    if (this.dead) return;
    if (this.#paused || this.#waiting.length > 0) this.#waiting.push(action);
    else {
      this.#enter();
      action();
    }
  }

  after(delayMs: number, action: () => void): () => void {
    let cancelled = false;
    this.#queue.after(Math.max(0, delayMs), () => {
      if (cancelled || this.dead) return;
      this.run(() => {
        if (!cancelled) action();
      });
    });
    return () => {
      cancelled = true;
    };
  }

  pause(forMs: number): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#queue.after(forMs, () => {
      this.#paused = false;
      this.#next();
    });
  }

  /** One at a time, so that the promises of each are done before the next. */
  #next(): void {
    const action = this.#waiting.shift();
    if (action === undefined || this.dead || this.#paused) {
      if (action !== undefined) this.#waiting.unshift(action);
      return;
    }
    this.#enter();
    action();
    this.#queue.after(0, () => this.#next());
  }
}

/** The node's own idea of time: another beginning, and a rate a little off. Timers fire on `thread`. */
export function nodeClock(queue: EventQueue, thread: SimThread, skew: { rate: number; beginMs: number }): Clock {
  const now = (): number => skew.beginMs + queue.now * skew.rate;
  return {
    monotonicMs: now,
    wallMs: () => Math.floor(1_800_000_000_000 + now()),
    after: (delayMs, run) => thread.after(delayMs / skew.rate, run),
  };
}

/** Messages to the other thread: in order, a little later. `deliver` runs there. */
export function channel<M>(queue: EventQueue, thread: SimThread, deliver: (message: M) => void): (message: M) => void {
  let last = 0;
  return (message) => {
    last = Math.max(last, queue.now + 0.02);
    queue.after(last - queue.now, () => thread.run(() => deliver(message)));
  };
}
