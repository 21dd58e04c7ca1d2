/** From Raft's committed entries to the state, in order. A change of membership waits until it is durable that it is committed. */
import type { RaftNode } from "../../raft/core/node.ts";
import type { Entry, Message } from "../../raft/core/types.ts";
import type { Applying } from "./applying.ts";
import type { Lifetime } from "./effects.ts";
import type { CommittedEntry } from "./protocol.ts";

/** Where nobody waits for it, what is committed gathers for this long: handing out costs each time, on both threads. */
const GATHER_MS = 5;
/** Who asked for something waits for what is committed, about this long. */
const ASKED_MS = 50;

export interface HandingOutEffects {
  node: Pick<RaftNode, "applyConfEntry">;
  applying: Applying;
  lifetime: Lifetime;
  nowMs: () => number;
  /** Somebody is likely to wait. */
  inHurry: () => boolean;
  /** Makes it durable that everything up to `index` is committed. */
  commitTo: (index: number) => Promise<void>;
  /** A change of membership took effect. */
  membershipAt: (index: number) => void;
  /** The state has what `messages` brought. */
  applied: (messages: readonly Message[]) => void;
  failed: (thrown: unknown) => void;
}

export class HandingOut {
  readonly #effects: HandingOutEffects;
  #queue: Message[] = [];
  #running = false;
  #askedMs = -Infinity;
  #endPause: () => void = () => {};

  constructor(effects: HandingOutEffects) {
    this.#effects = effects;
  }

  /** @param message `storage-apply`. */
  add(message: Message): void {
    this.#queue.push(message);
    if (!this.#running) void this.#run();
  }

  /** Somebody at this node waits for what will be committed. */
  asked(): void {
    this.#askedMs = this.#effects.nowMs();
    this.#endPause();
  }

  async #run(): Promise<void> {
    const { commitTo, failed, lifetime } = this.#effects;
    this.#running = true;
    try {
      while (this.#queue.length > 0 && !lifetime.over) {
        if (!this.#inHurry() && !this.#queue.some(({ entries }) => entries.some(isMembership))) await this.#pause();
        const messages = this.#queue.splice(0);
        const change = messages.flatMap(({ entries }) => entries).findLast(isMembership);
        // Else a peer that loses its unsynced commit index could wake up in the old membership and elect itself by it.
        if (change !== undefined) await commitTo(change.index);
        // Meanwhile this node may have ceased to be a peer: what follows comes to the state another way.
        if (!lifetime.over) this.#handOut(messages);
      }
    } catch (thrown) {
      failed(thrown);
    } finally {
      this.#running = false;
    }
  }

  #inHurry(): boolean {
    return this.#effects.inHurry() || this.#effects.nowMs() - this.#askedMs < ASKED_MS;
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#endPause = resolve;
      this.#effects.lifetime.after(GATHER_MS, resolve);
    });
  }

  #handOut(messages: readonly Message[]): void {
    const { applying, applied } = this.#effects;
    const entries: CommittedEntry[] = [];
    for (const message of messages) {
      // What a checkpoint has overtaken is in it already.
      for (const entry of message.entries) if (entry.index > applying.installedIndex) entries.push(this.#committed(entry));
    }
    applying.handOut(entries, () => applied(messages));
  }

  #committed(entry: Entry): CommittedEntry {
    const { index, term, kind } = entry;
    if (kind === "normal") return { index, term, data: entry.data, membership: null };
    const membership = isMembership(entry) ? this.#effects.node.applyConfEntry(entry) : null;
    if (membership !== null) this.#effects.membershipAt(index);
    return { index, term, data: null, membership };
  }
}

function isMembership(entry: Entry): boolean {
  return entry.kind === "conf" || entry.kind === "conf-v1";
}
