/**
 * A peer that has lost its leader asks around. What others have applied is committed, so it may know more of its own log than it
 * did; and if it was taken out of the membership meanwhile, nobody would tell it unasked. It asks as well when a node that it does not
 * know as a peer speaks as one. docs/design/006-who-follows.md.
 */
import type { Clock } from "../../base/clock.ts";
import { isPeer } from "../../model/membership.ts";
import { type EntryId, NONE } from "../../raft/core/types.ts";
import type { Peer } from "../../raft/transport/links.ts";
import type { Applying } from "./applying.ts";
import type { Hint } from "./follow-frames.ts";

/** Election times without a leader after which a peer asks; and after which it believes those it has no membership in common with. */
const ASKS_AFTER = 2;
const BELIEVES_ALL_AFTER = 10;
/** Nodes asked at once besides the peers of the own membership. */
const OTHERS_MAX = 8;

export interface AskingEffects {
  peerId: number;
  electionMs: number;
  clock: Clock;
  applying: Pick<Applying, "membership" | "appliedIndex">;
  peers: () => Iterable<Peer>;
  ask: (peerId: number) => void;
  learnCommitted: (id: EntryId) => void;
  /** Somebody has a later membership, at `index` or before it, without this peer. */
  out: (index: number) => void;
}

export class Asking {
  readonly #effects: AskingEffects;
  #aloneSinceMs: number | null = null;
  #askedMs = -Infinity;
  #turn = 0;
  /** Peers of a later membership than this node has, by the word of peers that it knows. */
  #vouchedFor: ReadonlySet<number> = new Set();

  constructor(effects: AskingEffects) {
    this.#effects = effects;
  }

  /**
   * To be called with each tick.
   *
   * @param heardMs when the leader was last heard, monotonic ms. A learner never campaigns, so its core believes in its last leader
   * for ever; the next one may have taken it out, and then it says nothing to it.
   */
  look(lead: number, heardMs: number | null): void {
    const { clock, electionMs, peerId } = this.#effects;
    const nowMs = clock.monotonicMs();
    if (lead === peerId || (lead !== NONE && heardMs !== null && nowMs - heardMs <= electionMs)) {
      this.#aloneSinceMs = null;
      return;
    }
    this.#aloneSinceMs ??= nowMs;
    if (nowMs - this.#aloneSinceMs >= ASKS_AFTER * electionMs && nowMs - this.#askedMs >= electionMs) this.#ask(nowMs);
  }

  /**
   * Whether a node's word counts in Raft's own matters. Each node has a certificate; whoever is no peer could raise everybody's term
   * with one message. A peer that knows none of those who lead it now (they are of a later membership) learns of them by asking.
   */
  believes(nodeId: number): boolean {
    const { applying, clock, electionMs } = this.#effects;
    if (isPeer(applying.membership, nodeId) || this.#vouchedFor.has(nodeId)) return true;
    const nowMs = clock.monotonicMs();
    if (this.#believesAll(nowMs)) return true;
    if (nowMs - this.#askedMs >= electionMs) this.#ask(nowMs);
    return false;
  }

  #believesAll(nowMs: number): boolean {
    return this.#aloneSinceMs !== null && nowMs - this.#aloneSinceMs > BELIEVES_ALL_AFTER * this.#effects.electionMs;
  }

  #ask(nowMs: number): void {
    const { applying, peerId, peers, ask } = this.#effects;
    this.#askedMs = nowMs;
    const all = [...peers()].filter((peer) => peer.peerId !== peerId);
    const own = all.filter((peer) => isPeer(applying.membership, peer.peerId));
    const others = all.filter((peer) => !isPeer(applying.membership, peer.peerId));
    const begin = (this.#turn++ * OTHERS_MAX) % Math.max(1, others.length);
    for (const peer of [...own, ...others.slice(begin, begin + OTHERS_MAX)]) ask(peer.peerId);
  }

  onHint(from: Peer, hint: Hint): void {
    const { clock, applying, peerId, learnCommitted, out } = this.#effects;
    const isOne = isPeer(applying.membership, from.peerId);
    if (isOne && hint.committed.index > applying.appliedIndex) {
      const { voters, outgoing, learners } = hint.membership;
      this.#vouchedFor = new Set([...voters, ...outgoing, ...learners, ...(hint.leader === null ? [] : [hint.leader.peerId])]);
    }
    if (this.#aloneSinceMs === null) return;
    // Anybody else might lie about what Raft rests on (SEC-3).
    if (isOne) for (const id of [hint.changedAt, hint.committed]) if (id !== null) learnCommitted(id);
    const believed = isOne || this.#believesAll(clock.monotonicMs());
    if (believed && hint.committed.index > applying.appliedIndex && hint.membership.voters.length > 0 && !isPeer(hint.membership, peerId))
      out(hint.committed.index);
  }
}
