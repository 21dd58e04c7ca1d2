/**
 * Quorum rounds shared by all who wait: whoever asks joins the next round, and one round at a time is under way. A
 * round that ends proves that this peer's leader still led after everyone in it had asked (ReadIndex, thesis 6.4).
 */
import { RoostError } from "../../base/errors.ts";

/** Rounds that many may wait for; past it asking fails at once. */
const WAITING_MAX = 100_000;

/** A round that did not end (lost message, changed leader) is begun again with everybody in it. */
const ROUND_TIMEOUT_MS = 400;

export type RoundEnd = (index: number) => void;

export class Rounds {
  readonly #begin: (context: Uint8Array) => void;
  #waiting: RoundEnd[] = [];
  #underWay: RoundEnd[] = [];
  #number: number;
  #beganMs = 0;

  /**
   * @param begin asks Raft to confirm `context`; its answer comes to `confirmed`, or never.
   * @param salt random, below 2^20: a leader's late answer to what this peer asked before it was restarted must not be
   *   taken for one to a round of now, whose reads began later.
   */
  constructor(begin: (context: Uint8Array) => void, salt: number) {
    this.#begin = begin;
    this.#number = salt * 2 ** 32;
  }

  /** `end` is called with the commit index that a read must see. */
  join(nowMs: number, end: RoundEnd): void {
    if (this.#waiting.length >= WAITING_MAX)
      throw new RoostError({ kind: "exhausted", reason: `${WAITING_MAX} reads are waiting for a quorum` });
    this.#waiting.push(end);
    if (this.#underWay.length === 0) this.#next(nowMs);
  }

  confirmed(nowMs: number, context: Uint8Array, index: number): void {
    // An older round's answer says nothing about those who joined since.
    if (context.length !== 8 || new DataView(context.buffer, context.byteOffset, 8).getFloat64(0) !== this.#number) return;
    const ended = this.#underWay;
    this.#underWay = [];
    for (const end of ended) end(index);
    if (this.#waiting.length > 0) this.#next(nowMs);
  }

  /** Gives up all who wait: somebody else asks for them. A later round proves more. */
  leave(): RoundEnd[] {
    const left = [...this.#underWay, ...this.#waiting];
    this.#underWay = [];
    this.#waiting = [];
    return left;
  }

  /** Begins a round again that takes too long. Those in it lose nothing: a later round proves more. */
  tick(nowMs: number): void {
    if (this.#underWay.length > 0 && nowMs - this.#beganMs > ROUND_TIMEOUT_MS) this.#next(nowMs);
  }

  #next(nowMs: number): void {
    this.#underWay = [...this.#underWay, ...this.#waiting];
    this.#waiting = [];
    this.#number += 1;
    this.#beganMs = nowMs;
    const context = new Uint8Array(8);
    new DataView(context.buffer).setFloat64(0, this.#number);
    this.#begin(context);
  }
}
