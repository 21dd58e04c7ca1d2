/**
 * A disk that does not answer (hashicorp/raft 503 and 612): heartbeats need no disk, so a leader whose writes hang would lead
 * on for ever and commit nothing of its own. Raft's core knows of no disk; this says what the peer around it must do.
 */

/** `wait`: as a follower, or with nobody to hand over to. `hand-over`: give the leadership away. `silence`: that took too long. */
export type DiskStep = "work" | "wait" | "hand-over" | "silence";

/** A hand-over needs two messages; if it has not helped after this part of an election time, the others must elect by themselves. */
const HAND_OVER_PART = 0.5;

export class DiskWatch {
  readonly #nowMs: () => number;
  readonly #limitMs: number;
  /** When each write under way was begun, the oldest first; they end in this order. */
  readonly #begun: number[] = [];

  /** @param limitMs an election time: that long a write may take. */
  constructor(nowMs: () => number, limitMs: number) {
    this.#nowMs = nowMs;
    this.#limitMs = limitMs;
  }

  begun(): void {
    this.#begun.push(this.#nowMs());
  }

  ended(): void {
    this.#begun.shift();
  }

  get underWay(): number {
    return this.#begun.length;
  }

  /** How long the oldest write has taken so far; 0: none is under way. */
  get waitedMs(): number {
    const oldest = this.#begun[0];
    return oldest === undefined ? 0 : this.#nowMs() - oldest;
  }

  get stuck(): boolean {
    return this.waitedMs > this.#limitMs;
  }

  /** @param leads this peer leads, and there are others that could. */
  step(leads: boolean): DiskStep {
    if (!this.stuck) return "work";
    if (!leads) return "wait";
    return this.waitedMs > this.#limitMs * (1 + HAND_OVER_PART) ? "silence" : "hand-over";
  }
}
