/** What the main thread is told of leadership, and only when it changed; how fresh it is goes out every few ms. */
import type { Clock } from "../../base/clock.ts";
import type { Membership } from "../../model/membership.ts";
import type { FromConsensus, PeersHeard } from "./protocol.ts";

export interface Standing {
  term: number;
  leading: boolean;
  /** For the comparison only: another role is news even if its leader is not. */
  role: string;
  lead: number;
  membership: Membership;
}

export class Status {
  readonly #clock: Clock;
  readonly #post: (message: FromConsensus) => void;
  #last: Standing | null = null;
  #leadingTerm = 0;
  #leadingSinceMs = 0;
  /** Of another leader than this node, monotonic ms. */
  leaderHeardMs: number | null = null;

  constructor(effects: { clock: Clock; post: (message: FromConsensus) => void }) {
    this.#clock = effects.clock;
    this.#post = effects.post;
  }

  leaderHeard(): void {
    this.leaderHeardMs = this.#clock.monotonicMs();
  }

  update({ term, leading, role, lead, membership }: Standing): void {
    const last = this.#last;
    if (last?.term === term && last.role === role && last.lead === lead && last.membership === membership) return;
    this.#last = { term, leading, role, lead, membership };
    const nowMs = this.#clock.monotonicMs();
    if (!leading || this.#leadingTerm !== term) {
      this.#leadingTerm = leading ? term : 0;
      this.#leadingSinceMs = leading ? nowMs : 0;
    }
    const status = {
      term,
      leading,
      leadingSinceMs: this.#leadingSinceMs,
      leaderPeerId: lead,
      formerLeaderHeardMs: leading ? this.leaderHeardMs : null,
      leaderHeardMs: leading ? nowMs : this.leaderHeardMs,
      membership,
    };
    this.#post({ kind: "status", status });
  }

  /**
   * @param peers null if this node does not lead.
   * @param reachable peer ids of nodes that said something lately.
   */
  heard(peers: PeersHeard | null, reachable: number[]): void {
    const leaderHeardMs = peers === null ? this.leaderHeardMs : this.#clock.monotonicMs();
    this.#post({ kind: "heard", leaderHeardMs, peers, reachable });
  }
}
