/** Time that passes only when everybody waits for it: hours of a cluster in milliseconds, and the same each time. */
import type { Clock } from "../../src/base/clock.ts";

interface Timer {
  atMs: number;
  order: number;
  run: () => void;
}

/** Rounds of the event loop in which whatever can go on without time has gone on: a proposal's way through a leader's services takes two. */
const ROUNDS = 3;
const START_WALL_MS = 1_700_000_000_000;

export class VirtualClock implements Clock {
  nowMs = 0;
  #order = 0;
  /** A heap, the next first. */
  readonly #timers: Timer[] = [];

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return START_WALL_MS + Math.floor(this.nowMs);
  }

  after(delayMs: number, run: () => void): () => void {
    const timer: Timer = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, run };
    this.#push(timer);
    return () => (timer.run = nothing);
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.after(delayMs, resolve));
  }

  /** Lets time pass until it holds; false when it did not within the limit. It is looked at after each moment in which something happened. */
  async until(holds: () => boolean, limitMs: number): Promise<boolean> {
    const endMs = this.nowMs + limitMs;
    for (;;) {
      await settle();
      if (holds()) return true;
      const next = this.#timers[0];
      if (next === undefined || next.atMs > endMs) {
        this.nowMs = endMs;
        return false;
      }
      this.nowMs = next.atMs;
      while (this.#timers[0] !== undefined && this.#timers[0].atMs <= this.nowMs) this.#pop().run();
    }
  }

  #push(timer: Timer): void {
    const heap = this.#timers;
    let i = heap.push(timer) - 1;
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (!isBefore(timer, heap[up] as Timer)) break;
      heap[i] = heap[up] as Timer;
      i = up;
    }
    heap[i] = timer;
  }

  #pop(): Timer {
    const heap = this.#timers;
    const first = heap[0] as Timer;
    const last = heap.pop() as Timer;
    if (heap.length === 0) return first;
    let i = 0;
    for (let child = 1; child < heap.length; child = 2 * i + 1) {
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Timer, heap[child] as Timer)) child++;
      if (!isBefore(heap[child] as Timer, last)) break;
      heap[i] = heap[child] as Timer;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

function nothing(): void {}

function isBefore(a: Timer, b: Timer): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

async function settle(): Promise<void> {
  for (let i = 0; i < ROUNDS; i++) await new Promise<void>((resolve) => void setImmediate(resolve));
}
