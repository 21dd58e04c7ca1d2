/** From Raft's committed entries to the state, in order. A change of membership waits until it is durable that it is committed. */
import type { RaftNode } from "../../raft/core/node.ts";
import type { Entry, Message } from "../../raft/core/types.ts";
import type { Applying } from "./applying.ts";
import type { CommittedEntry } from "./protocol.ts";

export interface HandingOutEffects {
  node: Pick<RaftNode, "applyConfEntry">;
  applying: Applying;
  /** Makes it durable that everything up to `index` is committed. */
  commitTo: (index: number) => Promise<void>;
  /** A change of membership took effect. */
  membershipAt: (index: number) => void;
  /** The state has what `message` brought. */
  applied: (message: Message) => void;
  failed: (thrown: unknown) => void;
  over: () => boolean;
}

export class HandingOut {
  readonly #effects: HandingOutEffects;
  #queue: Message[] = [];
  #running = false;

  constructor(effects: HandingOutEffects) {
    this.#effects = effects;
  }

  /** @param message `storage-apply`. */
  add(message: Message): void {
    this.#queue.push(message);
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    const { commitTo, failed, over } = this.#effects;
    this.#running = true;
    try {
      for (let message = this.#queue.shift(); message !== undefined && !over(); message = this.#queue.shift()) {
        const change = message.entries.findLast(isMembership);
        // Else a peer that loses its unsynced commit index could wake up in the old membership and elect itself by it.
        if (change !== undefined) await commitTo(change.index);
        // Meanwhile this node may have ceased to be a peer: what follows comes to the state another way.
        if (!over()) this.#handOut(message);
      }
    } catch (thrown) {
      failed(thrown);
    } finally {
      this.#running = false;
    }
  }

  #handOut(message: Message): void {
    const { applying, applied } = this.#effects;
    // What a checkpoint has overtaken is in it already.
    const entries = message.entries.filter((entry) => entry.index > applying.installedIndex).map((entry) => this.#committed(entry));
    applying.handOut(entries, () => applied(message));
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
