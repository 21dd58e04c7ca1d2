/**
 * Appends without entries only tell a peer how far the log is committed. Where nobody waits for that, they go along with the next
 * entries: of a put's frames between peers, half were these. Any message may be late or lost, so nothing rests on it.
 */
import type { Message } from "../../raft/core/types.ts";
import type { Lifetime } from "./effects.ts";

/** The longest that one is held. */
const HOLD_MS = 5;
/** Whoever asked for something (proposed, or wants to read) waits for what was committed, about this long. */
const ASKED_MS = 50;

export interface CommitNewsEffects {
  lifetime: Lifetime;
  nowMs: () => number;
  send: (message: Message) => void;
}

export class CommitNews {
  readonly #effects: CommitNewsEffects;
  readonly #held = new Map<number, Message>();
  #timed = false;
  #askedMs = -Infinity;

  constructor(effects: CommitNewsEffects) {
    this.#effects = effects;
  }

  /** Another node waits for what is committed: it may be fed by any peer. */
  asked(): void {
    this.#askedMs = this.#effects.nowMs();
    this.#flush();
  }

  /** Takes an append on its way to a peer; false: it has to go now. */
  holds(message: Message): boolean {
    // The newer one says all that the older would have said.
    this.#held.delete(message.to);
    const { lifetime, nowMs } = this.#effects;
    if (message.entries.length > 0 || nowMs() - this.#askedMs < ASKED_MS) return false;
    this.#held.set(message.to, message);
    if (!this.#timed) lifetime.after(HOLD_MS, () => this.#flush());
    this.#timed = true;
    return true;
  }

  #flush(): void {
    this.#timed = false;
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const message of held) this.#effects.send(message);
  }
}
