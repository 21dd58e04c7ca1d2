/** Proposals whose answers are waited for at this node: proposed again while nobody applies them, answered once, by their request ids. */
import type { Clock } from "../base/clock.ts";
import { RoostError } from "../base/errors.ts";
import { encodeEnvelope } from "../state/codec.ts";
import type { Envelope } from "../state/commands.ts";
import type { CommandResult, Outcome } from "../state/outcome.ts";
import { ownRequestId } from "../state/requests.ts";

/** A proposal that nobody applied is proposed again after this long: it may have been lost on its way to a leader. */
const AGAIN_MS = 1_000;
/** The same while no leader is known. */
const AGAIN_LEADERLESS_MS = 200;

interface Waiting {
  envelope: Envelope;
  data: Uint8Array;
  deadlineMs: number;
  proposedMs: number;
  resolve(result: CommandResult): void;
  reject(error: RoostError): void;
}

export interface ProposalEffects {
  clock: Clock;
  /** Tells this process's own proposals from those of all others. */
  session: string;
  /** Where the state is. */
  revision: () => number;
  /** On its way to the leader; it may be lost. */
  send: (data: Uint8Array) => void;
}

export class WaitingProposals {
  readonly #effects: ProposalEffects;
  readonly #waiting = new Map<number, Waiting>();
  /** A caller may ask again before its first call ends, so several may wait for one request. */
  readonly #byRequest = new Map<string, Set<number>>();
  #next = 0;

  constructor(effects: ProposalEffects) {
    this.#effects = effects;
  }

  get size(): number {
    return this.#waiting.size;
  }

  requestIds(): string[] {
    return [...this.#byRequest.keys()];
  }

  /** An id for a proposal that is made now. */
  ownRequestId(): string {
    const { revision, session } = this.#effects;
    return ownRequestId(revision(), `${session}.${++this.#next}`);
  }

  propose(envelope: Envelope, timeoutMs: number): Promise<CommandResult> {
    const id = ++this.#next;
    const nowMs = this.#effects.clock.monotonicMs();
    return new Promise((resolve, reject) => {
      const data = encodeEnvelope(envelope);
      this.#waiting.set(id, { envelope, data, deadlineMs: nowMs + timeoutMs, proposedMs: nowMs, resolve, reject });
      const same = this.#byRequest.get(envelope.requestId) ?? new Set();
      this.#byRequest.set(envelope.requestId, same.add(id));
      this.#effects.send(data);
    });
  }

  /** A request was applied. */
  answer(requestId: string, outcome: Outcome): void {
    if (!outcome.ok && outcome.fault.kind === "expired" && requestId.includes(this.#effects.session)) return this.#mintAgain(requestId);
    const ids = this.#byRequest.get(requestId);
    if (ids === undefined) return;
    this.#byRequest.delete(requestId);
    for (const id of ids) {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (outcome.ok) waiting?.resolve(outcome.result);
      else waiting?.reject(new RoostError(outcome.fault, outcome.hint));
    }
  }

  /** What the leader before did not commit is likely lost with it; if it is not, its request id says so. */
  proposeAgain(): void {
    for (const waiting of this.#waiting.values()) this.#again(waiting);
  }

  /** Proposes again what may be lost, and ends what has waited too long; all of it if `inVain`. */
  sweep(how: { inVain: boolean; leaderless: boolean }, tooLate: () => RoostError): void {
    const nowMs = this.#effects.clock.monotonicMs();
    for (const [id, waiting] of this.#waiting) {
      if (how.inVain || nowMs >= waiting.deadlineMs) {
        this.#waiting.delete(id);
        const same = this.#byRequest.get(waiting.envelope.requestId);
        same?.delete(id);
        if (same?.size === 0) this.#byRequest.delete(waiting.envelope.requestId);
        waiting.reject(tooLate());
      } else if (nowMs - waiting.proposedMs >= (how.leaderless ? AGAIN_LEADERLESS_MS : AGAIN_MS)) {
        this.#again(waiting);
      }
    }
  }

  fail(error: RoostError): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    this.#byRequest.clear();
  }

  #again(waiting: Waiting): void {
    waiting.proposedMs = this.#effects.clock.monotonicMs();
    this.#effects.send(waiting.data);
  }

  /**
   * This node's state was so far behind that its new request looked old. Had it been applied before, the answer would have come
   * first: so it was not, never will be, and may go out under an id of now.
   */
  #mintAgain(requestId: string): void {
    const ids = this.#byRequest.get(requestId) ?? new Set();
    this.#byRequest.delete(requestId);
    for (const id of ids) {
      const waiting = this.#waiting.get(id);
      if (waiting === undefined) continue;
      waiting.envelope = { ...waiting.envelope, requestId: this.ownRequestId() };
      waiting.data = encodeEnvelope(waiting.envelope);
      this.#byRequest.set(waiting.envelope.requestId, new Set([id]));
      this.#effects.send(waiting.data);
    }
  }
}
