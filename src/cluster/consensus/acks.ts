/**
 * The leader's side of claims (HA-2): who sent heartbeats, and whose are acknowledged. An acknowledgement leaves only
 * after a quorum round that began when the heartbeat was here already, from a leader that has applied an entry of its
 * own term; and never to a node whose expiry is being proposed (HA-4).
 */
import type { Acknowledgement, Heartbeat } from "../../model/heartbeat.ts";
import type { AckingStopped, BeatSettings, ClaimSet, NodeBeat } from "./protocol.ts";

export interface AckEffects {
  nowMs(): number;
  /** Leads, has applied an entry of its own term, and no transfer of leadership is pending. */
  mayAcknowledge(): boolean;
  term(): number;
  /** Calls back when a quorum round that began after this call has ended. */
  afterQuorumRound(end: () => void): void;
  send(nodeId: string, ack: Acknowledgement): void;
}

interface Seen {
  lastBeatMs: number;
  lastAckMs: number | null;
  /** The longest that may still be in force, and when it was last granted. */
  grantedMs: number;
  longestAckMs: number;
}

/** A longer duration than is granted now is forgotten after so many times itself: whatever the margin for clock rates is, it is over. */
const FORGOTTEN_AFTER = 2;

const NO_CLAIMS: ClaimSet = { revision: 0, items: [] };

export class Acks {
  readonly #effects: AckEffects;
  readonly #stopped = new Set<string>();
  readonly #seen = new Map<string, Seen>();
  readonly #claims = new Map<string, ClaimSet>();
  #settings: BeatSettings = { heartbeatMs: 500, claimMs: 4_000, checkpointMbps: 400 };
  #term = 0;

  constructor(effects: AckEffects) {
    this.#effects = effects;
  }

  updateClaims(sets: readonly { nodeId: string; set: ClaimSet }[], settings: BeatSettings): void {
    this.#settings = settings;
    for (const { nodeId, set } of sets) this.#claims.set(nodeId, set);
  }

  /** Duration granted with each acknowledgement from now on, ms. */
  get grantingMs(): number {
    return this.#settings.claimMs;
  }

  claimRevision(nodeId: string): number {
    return (this.#claims.get(nodeId) ?? NO_CLAIMS).revision;
  }

  beat(nodeId: string, beat: Heartbeat): void {
    const effects = this.#effects;
    this.#enterTerm();
    const seen = this.#seen.get(nodeId) ?? { lastBeatMs: 0, lastAckMs: null, grantedMs: 0, longestAckMs: 0 };
    seen.lastBeatMs = effects.nowMs();
    this.#seen.set(nodeId, seen);
    if (!effects.mayAcknowledge() || this.#stopped.has(nodeId)) return;
    const term = this.#term;
    effects.afterQuorumRound(() => {
      // All of it again: a round takes time, and an expiry may have been decided meanwhile.
      if (effects.term() !== term || !effects.mayAcknowledge() || this.#stopped.has(nodeId)) return;
      const grantedMs = this.#settings.claimMs;
      const nowMs = effects.nowMs();
      seen.lastAckMs = nowMs;
      if (grantedMs >= seen.grantedMs || nowMs - seen.longestAckMs >= FORGOTTEN_AFTER * seen.grantedMs) {
        seen.grantedMs = grantedMs;
        seen.longestAckMs = nowMs;
      }
      const claims = this.#claims.get(nodeId) ?? NO_CLAIMS;
      effects.send(nodeId, {
        bootId: beat.bootId,
        nonce: beat.nonce,
        seq: beat.seq,
        grantedMs,
        claimRevision: claims.revision,
        claims: beat.claimRevision >= claims.revision ? null : claims.items,
      });
    });
  }

  /** From here on no acknowledgement to the node leaves in this term. */
  stop(nodeId: string, term: number): AckingStopped {
    this.#enterTerm();
    if (term !== this.#term) return { ok: false };
    this.#stopped.add(nodeId);
    return { ok: true, lastAckMs: this.#seen.get(nodeId)?.lastAckMs ?? null };
  }

  resume(nodeId: string): void {
    this.#stopped.delete(nodeId);
  }

  beats(): NodeBeat[] {
    this.#enterTerm();
    return [...this.#seen].map(([nodeId, { lastBeatMs, lastAckMs, grantedMs }]) => ({ nodeId, lastBeatMs, lastAckMs, grantedMs }));
  }

  /** What an older term saw and decided holds no longer: a new leader knows no history (HA-5). */
  #enterTerm(): void {
    const term = this.#effects.term();
    if (term === this.#term) return;
    this.#term = term;
    this.#seen.clear();
    this.#stopped.clear();
  }
}
