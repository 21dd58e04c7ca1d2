/** Linearizable reads on their way: those of one turn of the event loop share one question to the quorum. */
import type { RoostError } from "../base/errors.ts";
import type { View } from "../model/view.ts";

interface Waiting {
  deadlineMs: number;
  resolve(view: View): void;
  reject(error: RoostError): void;
}

interface Round {
  /** Index that the state must reach; null until a quorum has said. */
  index: number | null;
  waiting: Waiting[];
}

export class WaitingReads {
  readonly #ask: (round: number) => void;
  readonly #rounds = new Map<number, Round>();
  /** The round that is not asked yet: whoever comes now joins it. */
  #open: Round | null = null;
  #last = 0;
  size = 0;

  /** @param ask wants the index for a round from the consensus thread. */
  constructor(ask: (round: number) => void) {
    this.#ask = ask;
  }

  join(deadlineMs: number): Promise<View> {
    this.#open ??= { index: null, waiting: [] };
    const { waiting } = this.#open;
    this.size += 1;
    return new Promise((resolve, reject) => waiting.push({ deadlineMs, resolve, reject }));
  }

  /** Closes the open round. */
  ask(): void {
    if (this.#open === null) return;
    const id = ++this.#last;
    this.#rounds.set(id, this.#open);
    this.#open = null;
    this.#ask(id);
  }

  /** A quorum has said what the round must see. */
  ready(id: number, index: number): void {
    const round = this.#rounds.get(id);
    if (round !== undefined) round.index = index;
  }

  /** Answers the rounds that the state has reached. */
  wake(view: View): void {
    for (const [id, round] of this.#rounds) {
      if (round.index === null || round.index > view.index) continue;
      this.#rounds.delete(id);
      this.size -= round.waiting.length;
      for (const waiting of round.waiting) waiting.resolve(view);
    }
  }

  /** Ends those that have waited too long. */
  sweep(nowMs: number, tooLate: () => RoostError): void {
    for (const round of [...this.#rounds.values(), ...(this.#open === null ? [] : [this.#open])]) {
      if (round.waiting.every(({ deadlineMs }) => nowMs < deadlineMs)) continue;
      const late = round.waiting.filter(({ deadlineMs }) => nowMs >= deadlineMs);
      round.waiting = round.waiting.filter(({ deadlineMs }) => nowMs < deadlineMs);
      this.size -= late.length;
      for (const waiting of late) waiting.reject(tooLate());
    }
    for (const [id, round] of this.#rounds) if (round.waiting.length === 0) this.#rounds.delete(id);
  }

  fail(error: RoostError): void {
    this.sweep(Infinity, () => error);
  }
}
