/** This node's own heartbeats: from the keeper to the leader, and acknowledgements back. How a node renews its claims. */
import { asRoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Acknowledgement, Heartbeat } from "../../model/heartbeat.ts";
import { NONE } from "../../raft/core/types.ts";
import type { KeeperLink, Lifetime } from "./effects.ts";

/** A new leader acknowledges nothing before it has applied its term's first entry; that takes it about this long. */
const FIRST_BEAT_MS = 50;

export interface HeartbeatEffects {
  log: Logger;
  lifetime: Lifetime;
  toLeader: (beat: Heartbeat) => void;
}

export class Heartbeats {
  readonly #keeper: KeeperLink | null;
  readonly #effects: HeartbeatEffects;
  #lead = NONE;
  periodMs = 500;

  /** @param keeper null on a node that holds no claims: then nothing happens here. */
  constructor(keeper: KeeperLink | null, effects: HeartbeatEffects) {
    this.#keeper = keeper;
    this.#effects = effects;
  }

  start(): void {
    if (this.#keeper === null) return;
    this.#effects.lifetime.every(
      () => this.periodMs,
      () => void this.#beat(),
    );
    void this.#beat();
  }

  /** Claims have run on without a leader: a new one is told of this node's life at once, not with the next heartbeat. */
  leaderIs(lead: number): void {
    const isNew = lead !== NONE && lead !== this.#lead;
    this.#lead = lead;
    if (isNew && this.#keeper !== null) this.#effects.lifetime.after(FIRST_BEAT_MS, () => void this.#beat());
  }

  async acknowledged(ack: Acknowledgement): Promise<void> {
    try {
      await this.#keeper?.ack(ack);
    } catch (thrown) {
      this.#effects.log.debug("acknowledgement not taken", { error: asRoostError(thrown).message });
    }
  }

  async #beat(): Promise<void> {
    const { lifetime, log, toLeader } = this.#effects;
    if (lifetime.over || this.#keeper === null) return;
    try {
      toLeader(await this.#keeper.beat());
    } catch (thrown) {
      log.debug("no heartbeat", { error: asRoostError(thrown).message });
    }
  }
}
