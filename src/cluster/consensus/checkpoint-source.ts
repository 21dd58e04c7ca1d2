/**
 * The checkpoint that this node can give to others: the main thread holds the state frozen at one index, and its chunks are
 * asked for one by one. A transfer that breaks off can go on as long as the same one is held.
 */
import type { Clock } from "../../base/clock.ts";
import { RoostError } from "../../base/errors.ts";
import type { Membership } from "../../model/membership.ts";
import type { CheckpointChunk } from "../../raft/transport/checkpoint-file.ts";
import type { Lifetime } from "./effects.ts";
import type { FromConsensus, ToConsensus } from "./protocol.ts";

/** A checkpoint that nobody has asked for a chunk of for this long is not begun with again: a fresh one saves the log behind it. */
const FRESH_MS = 30_000;
/** Held at once: a newcomer needs one with itself in it, and must not break off what is on its way to another. Each holds disk space. */
const HELD_MAX = 2;
/** The main thread may stand still for seconds; longer than this it does not live. */
const READ_LIMIT_MS = 30_000;

export interface HeldCheckpoint {
  id: string;
  index: number;
  term: number;
  membership: Membership;
}

interface Held extends HeldCheckpoint {
  usedMs: number;
}

interface Read {
  resolve: (chunk: CheckpointChunk | null) => void;
  reject: (error: RoostError) => void;
  cancel: () => void;
}

export interface SourceEffects {
  clock: Clock;
  lifetime: Lifetime;
  post: (message: FromConsensus) => void;
}

export class CheckpointSource {
  readonly #effects: SourceEffects;
  readonly #reads = new Map<number, Read>();
  /** The newest first. */
  #held: Held[] = [];
  #asked = false;
  #next = 0;

  constructor(effects: SourceEffects) {
    this.#effects = effects;
  }

  /** One that begins at `minIndex` or later; null while it is being made: ask again. */
  newest(minIndex: number): HeldCheckpoint | null {
    const held = this.#held.find((one) => one.index >= minIndex && this.#isFresh(one));
    if (held !== undefined) return held;
    this.#ask();
    return null;
  }

  /** Index that the log must reach back to so that whoever is being given this can go on from there; null: none. */
  heldIndex(): number | null {
    const fresh = this.#held.filter((one) => this.#isFresh(one));
    return fresh.length === 0 ? null : Math.min(...fresh.map((one) => one.index));
  }

  /** @throws RoostError `not-found` if it is not held any more, `unavailable` if the main thread does not answer. */
  read(id: string, chunk: number): Promise<CheckpointChunk | null> {
    const held = this.#held.find((one) => one.id === id);
    if (held === undefined)
      return Promise.reject(new RoostError({ kind: "not-found", what: "checkpoint", name: id }, "ask for a fresh one"));
    held.usedMs = this.#effects.clock.monotonicMs();
    const readId = ++this.#next;
    return new Promise((resolve, reject) => {
      const cancel = this.#effects.lifetime.after(READ_LIMIT_MS, () => {
        this.#reads.delete(readId);
        reject(new RoostError({ kind: "unavailable", reason: "the state could not be read in time" }));
      });
      this.#reads.set(readId, { resolve, reject, cancel });
      this.#effects.post({ kind: "read-checkpoint", readId, id, chunk });
    });
  }

  // ---- The main thread's answers ---------------------------------------------------------------------------------

  made(checkpoint: HeldCheckpoint): void {
    this.#asked = false;
    const { index, term, membership, id } = checkpoint;
    this.#held.unshift({ id, index, term, membership, usedMs: this.#effects.clock.monotonicMs() });
    for (const { id: oldest } of this.#held.splice(HELD_MAX)) this.#release(oldest);
  }

  chunkRead(message: ToConsensus & { kind: "checkpoint-chunk" }): void {
    const read = this.#reads.get(message.readId);
    if (read === undefined) return;
    this.#reads.delete(message.readId);
    read.cancel();
    if (message.error === null) read.resolve(message.chunk);
    else read.reject(new RoostError({ kind: "unavailable", reason: message.error }));
  }

  /** Lets the main thread's disk space go once nobody comes for it any more. */
  tick(): void {
    for (const held of this.#held.filter((one) => !this.#isFresh(one))) this.#release(held.id);
    this.#held = this.#held.filter((one) => this.#isFresh(one));
  }

  #isFresh(held: Held): boolean {
    return this.#effects.clock.monotonicMs() - held.usedMs < FRESH_MS;
  }

  #release(id: string): void {
    this.#effects.post({ kind: "release-checkpoint", id });
  }

  #ask(): void {
    if (this.#asked) return;
    this.#asked = true;
    this.#effects.post({ kind: "need-checkpoint" });
  }
}
