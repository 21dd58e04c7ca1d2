/**
 * A checkpoint's way out: the leader's core offers it to a peer, or a node asks for one by itself, and comes for its chunks.
 * Only so many at once and so fast that appends and heartbeats go on; the core is told how it ended, as etcd's is.
 */
import { asRoostError, RoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Clock } from "../../base/clock.ts";
import type { CheckpointRequest, WireChunk } from "../../raft/transport/links.ts";
import type { CheckpointSource } from "./checkpoint-source.ts";
import type { Lifetime } from "./effects.ts";

/** Transfers at once; whoever is refused comes again a little later. They share the bandwidth. */
const SERVING_MAX = 3;
/** A peer that does not come for what it was offered, or does not come back for the rest, within this is asked where it is. */
const ABSENT_MS = 10_000;
/** After the last chunk its own answer is on its way; if that is lost, the peer is asked. */
const ANSWER_MS = 3_000;
const LOOK_EVERY_MS = 500;

const NO_BYTES = new Uint8Array(0);

interface Transfer {
  serving: number;
  /** All of it was sent. */
  whole: boolean;
  lastMs: number;
}

export interface OfferingEffects {
  clock: Clock;
  lifetime: Lifetime;
  log: Logger;
  source: CheckpointSource;
  /** Tells the core of the end of what it offered. */
  report: (peerId: number, arrived: boolean) => void;
}

export class Offering {
  readonly #effects: OfferingEffects;
  readonly #transfers = new Map<number, Transfer>();
  #serving = 0;
  #freeMs = 0;
  /** Megabits per second, all transfers together. */
  mbps = 400;

  constructor(effects: OfferingEffects) {
    this.#effects = effects;
    effects.lifetime.every(LOOK_EVERY_MS, () => this.#look());
  }

  /** The core has offered a checkpoint to the peer; not sent: it will not hear of it. */
  offered(peerId: number, sent: boolean): void {
    const lastMs = sent ? this.#nowMs() : -Infinity;
    const before = this.#transfers.get(peerId);
    this.#transfers.set(peerId, { serving: before?.serving ?? 0, whole: false, lastMs });
  }

  /** Transfers under way, or offered. */
  get pending(): number {
    return this.#transfers.size;
  }

  /**
   * Chunks for a node, as fast as the limit lets them go; the end mark last.
   * @param peerId 0 for a node that is no Raft peer.
   * @throws RoostError `exhausted` if too many are served, `not-found` if the checkpoint is not held any more.
   */
  async *serve(peerId: number, request: CheckpointRequest): AsyncGenerator<WireChunk> {
    const { log, source } = this.#effects;
    const transfer = this.#transfers.get(peerId);
    if (transfer !== undefined) transfer.lastMs = this.#nowMs();
    if (this.#serving >= SERVING_MAX)
      throw new RoostError({ kind: "exhausted", reason: `${SERVING_MAX} checkpoints are being sent` }, "try again in a moment");
    this.#serving++;
    if (transfer !== undefined) transfer.serving++;
    try {
      const { id } = request;
      let crc = 0;
      for (let number = request.fromChunk; ; number++) {
        const chunk = await source.read(id, number);
        if (chunk === null) {
          // A peer that has all chunks already knows their checksum.
          yield { id, number, crc, bytes: NO_BYTES };
          break;
        }
        crc = chunk.crc;
        await this.#paced(chunk.bytes.length);
        yield { id, number, crc, bytes: chunk.bytes };
        if (transfer !== undefined) transfer.lastMs = this.#nowMs();
      }
      if (transfer !== undefined) transfer.whole = true;
      log.info("checkpoint sent", { peer: peerId, checkpoint: id });
      if (transfer !== undefined) transfer.lastMs = this.#nowMs();
    } catch (thrown) {
      // It cannot come back for the rest of that one.
      if (transfer !== undefined) transfer.lastMs = asRoostError(thrown).fault.kind === "not-found" ? -Infinity : this.#nowMs();
      throw thrown;
    } finally {
      this.#serving--;
      if (transfer !== undefined) transfer.serving--;
    }
  }

  /** Waits until the bytes may go. */
  async #paced(bytes: number): Promise<void> {
    const nowMs = this.#nowMs();
    const waitMs = this.#freeMs - nowMs;
    this.#freeMs = Math.max(nowMs, this.#freeMs) + (bytes * 8) / (this.mbps * 1_000);
    if (waitMs >= 1) await new Promise<void>((resolve) => void this.#effects.lifetime.after(waitMs, resolve));
  }

  #look(): void {
    const nowMs = this.#nowMs();
    for (const [peerId, transfer] of this.#transfers) {
      if (transfer.serving > 0 || nowMs - transfer.lastMs < (transfer.whole ? ANSWER_MS : ABSENT_MS)) continue;
      this.#transfers.delete(peerId);
      this.#effects.report(peerId, transfer.whole);
    }
  }

  #nowMs(): number {
    return this.#effects.clock.monotonicMs();
  }
}
