/** What the consensus thread's rooms are given from outside: clock, links, log, chance, and the way to the main thread. */
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Acknowledgement, Heartbeat } from "../../model/heartbeat.ts";
import type { LevelLog } from "../../raft/storage/level.ts";
import type { CheckpointInbox, LinkEvents, PeerLinks } from "../../raft/transport/links.ts";
import type { LogLimits } from "./log-view.ts";
import type { FromConsensus } from "./protocol.ts";

/** Heartbeats' other end on this node; the keeper's client implements it. */
export interface KeeperLink {
  /** Mints the next heartbeat; rejects if the keeper does not answer in time. */
  beat(): Promise<Heartbeat>;
  ack(ack: Acknowledgement): Promise<void>;
}

export interface DriverEffects {
  log: Logger;
  clock: Clock;
  raftLog: LevelLog;
  /** For tests, which cannot wait for a long log. */
  logLimits?: Partial<LogLimits>;
  openLinks(events: LinkEvents): Promise<PeerLinks>;
  inbox: CheckpointInbox;
  keeper: KeeperLink | null;
  /** Uniform integer in [0, limit). */
  random(limit: number): number;
  post(message: FromConsensus): void;
  /** A broken promise of disk or code: the process must end. */
  fatal(error: unknown): void;
}

/** The timers of one room or of all of them: none runs any more once it is over. */
export class Lifetime {
  readonly #clock: Clock;
  readonly #cancels = new Set<() => void>();
  over = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The returned function cancels it. */
  after(delayMs: number, run: () => void): () => void {
    if (this.over) return () => {};
    const cancel = this.#clock.after(delayMs, () => {
      this.#cancels.delete(cancel);
      if (!this.over) run();
    });
    this.#cancels.add(cancel);
    return () => {
      this.#cancels.delete(cancel);
      cancel();
    };
  }

  /** `periodMs` is asked again each time; the first run is a period from now. */
  every(periodMs: number | (() => number), run: () => void): void {
    const again = (): void => {
      this.after(typeof periodMs === "number" ? periodMs : periodMs(), again);
      run();
    };
    this.after(typeof periodMs === "number" ? periodMs : periodMs(), again);
  }

  end(): void {
    this.over = true;
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
  }
}
