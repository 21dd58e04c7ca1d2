/**
 * A checkpoint's way in: the leader says that it has one, this node fetches it chunk by chunk into a file, from where it was
 * when the link breaks, and only then the core hears of it. One at a time; a newer offer takes the place of an older one.
 */
import { asRoostError, type RoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { CheckpointInbox, CheckpointRequest, WireChunk } from "../../raft/transport/links.ts";
import type { Lifetime } from "./effects.ts";

const RETRY_MS = 250;
/** A peer that sends nothing for this long is not waited for; it, too, gives up after 10 s (offering.ts). */
const SILENT_MS = 10_000;
/** What is left of a transfer that was given up, or of a checkpoint that was not needed in the end, is deleted after this. */
const KEEP_MS = 600_000;

export interface FetchingEffects {
  log: Logger;
  lifetime: Lifetime;
  inbox: CheckpointInbox;
  fetch: (peerId: number, request: CheckpointRequest, signal: AbortSignal) => AsyncIterable<WireChunk>;
}

export class Fetching {
  readonly #effects: FetchingEffects;
  #underWay: { id: string; abort: AbortController; ended: Promise<void> } | null = null;
  #cancelTidy: () => void = () => {};

  constructor(effects: FetchingEffects) {
    this.#effects = effects;
    this.#tidyLater();
  }

  /**
   * Fetches checkpoint `id` from the peer and calls back with where it lies. Being fetched already: nothing. Given up: nothing
   * either, the leader notices and offers again.
   */
  offer(peerId: number, id: string, arrived: (path: string) => void): void {
    if (this.#underWay?.id === id) return;
    const before = this.#underWay;
    before?.abort.abort();
    const abort = new AbortController();
    const ended = (before?.ended ?? Promise.resolve()).then(() => this.#run(peerId, id, abort, arrived));
    this.#underWay = { id, abort, ended };
  }

  async stop(): Promise<void> {
    this.#underWay?.abort.abort();
    await this.#underWay?.ended;
  }

  async #run(peerId: number, id: string, abort: AbortController, arrived: (path: string) => void): Promise<void> {
    const { inbox, log } = this.#effects;
    this.#cancelTidy();
    try {
      if (abort.signal.aborted) return;
      const partial = await inbox.open(id);
      const resumed = partial.chunks;
      const crc = await this.#receive(peerId, id, partial, abort);
      if (crc === null) return await partial.close();
      const path = await partial.finish(crc);
      log.info("checkpoint received", { from: peerId, checkpoint: id, bytes: partial.bytes, resumedAtChunk: resumed });
      if (!abort.signal.aborted) arrived(path);
    } catch (thrown) {
      log.warn("a checkpoint could not be received", { from: peerId, checkpoint: id, error: asRoostError(thrown).message });
    } finally {
      if (this.#underWay?.abort === abort) this.#underWay = null;
      this.#tidyLater();
    }
  }

  /** The checksum over all of it; null: given up. Broken links are mended, a refusal is final. */
  async #receive(
    peerId: number,
    id: string,
    partial: Awaited<ReturnType<CheckpointInbox["open"]>>,
    abort: AbortController,
  ): Promise<number | null> {
    const { lifetime, log, fetch } = this.#effects;
    let lastChunks = -1;
    let cancelSilence = (): void => {};
    const heard = (): void => {
      cancelSilence();
      cancelSilence = lifetime.after(SILENT_MS, () => abort.abort());
    };
    heard();
    try {
      while (!abort.signal.aborted && !lifetime.over) {
        try {
          for await (const chunk of fetch(peerId, { id, fromChunk: partial.chunks }, abort.signal)) {
            if (chunk.bytes.length === 0) return chunk.number === partial.chunks && chunk.crc !== 0 ? chunk.crc : partial.crc;
            if (chunk.number !== partial.chunks) break;
            await partial.append(chunk);
            heard();
          }
        } catch (thrown) {
          const error = asRoostError(thrown);
          if (isFinal(error)) throw error;
          log.info("a checkpoint's link broke", { from: peerId, checkpoint: id, chunks: partial.chunks, error: error.message });
        }
        // Something came in between: the peer lives.
        if (partial.chunks > lastChunks) heard();
        lastChunks = partial.chunks;
        await new Promise<void>((resolve) => {
          lifetime.after(RETRY_MS, resolve);
          abort.signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
      return null;
    } finally {
      cancelSilence();
    }
  }

  #tidyLater(): void {
    this.#cancelTidy();
    this.#cancelTidy = this.#effects.lifetime.after(KEEP_MS, () => {
      if (this.#underWay !== null) return;
      this.#effects.inbox.tidy().catch((thrown: unknown) => {
        this.#effects.log.warn("could not delete an old checkpoint", { error: asRoostError(thrown).message });
      });
    });
  }
}

/** The peer does not have it any more, the disk cannot take it, or it is not what its checksum says. */
function isFinal(error: RoostError): boolean {
  return error.fault.kind === "not-found" || error.fault.kind === "internal" || error.fault.kind === "damaged";
}
