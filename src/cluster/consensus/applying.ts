/**
 * The way of what is committed into the state: batches go to the main thread in order and come back applied; a checkpoint takes
 * the place of all that came before it. Knows where the state is, and who votes there.
 */
import { assert } from "../../base/assert.ts";
import type { Membership } from "../../model/membership.ts";
import type { Checkpoint, EntryId } from "../../raft/core/types.ts";
import type { Position } from "../../state/state.ts";
import type { CommittedEntry, FromConsensus } from "./protocol.ts";

interface Batch {
  last: { index: number; term: number } | null;
  done: () => void;
}

export class Applying {
  readonly #post: (message: FromConsensus) => void;
  readonly #batches = new Map<number, Batch>();
  #batch = 0;
  #installed: (() => void) | null = null;
  #installing: Promise<void> = Promise.resolve();
  /** What the state has. */
  appliedIndex: number;
  appliedTerm: number;
  /** What was handed out last, which the state may not have yet; and who votes as of there. */
  handed: EntryId;
  membership: Membership;
  /** Where the membership last changed, if it did since the start. */
  changedAt: EntryId | null = null;
  /** Of the last checkpoint that was taken over; 0: none. What is older is in it. */
  installedIndex = 0;

  /** @param position where the main thread's state is at the start. */
  constructor(position: Position, post: (message: FromConsensus) => void) {
    this.#post = post;
    this.appliedIndex = position.index;
    this.appliedTerm = position.term;
    this.handed = { index: position.index, term: position.term };
    this.membership = position.membership;
  }

  /** `done` is called when the state has them all. */
  handOut(entries: CommittedEntry[], done: () => void): void {
    for (const { index, term, membership } of entries) {
      this.handed = { index, term };
      if (membership === null) continue;
      this.membership = membership;
      this.changedAt = this.handed;
    }
    const batch = ++this.#batch;
    this.#batches.set(batch, { last: entries.at(-1) ?? null, done });
    this.#post({ kind: "apply", batch, entries });
  }

  /** The main thread's answer: it has this batch and all before it. */
  applied(last: number): void {
    assert(last <= this.#batch, `batch ${last} was never handed out`);
    for (const [id, batch] of this.#batches) {
      if (id > last) break;
      this.#batches.delete(id);
      if (batch.last !== null && batch.last.index > this.appliedIndex) {
        this.appliedIndex = batch.last.index;
        this.appliedTerm = batch.last.term;
      }
      batch.done();
    }
  }

  /** Resolves when the state is the checkpoint's, durably. Its data is the path of its file. */
  install(checkpoint: Checkpoint): Promise<void> {
    this.#installing = this.#install(checkpoint);
    return this.#installing;
  }

  /** Resolves when no checkpoint is being taken over. */
  settled(): Promise<void> {
    return this.#installing;
  }

  get position(): Position {
    return { ...this.handed, membership: this.membership };
  }

  async #install(checkpoint: Checkpoint): Promise<void> {
    const { index, term, confState, data } = checkpoint;
    const path = new TextDecoder().decode(data);
    await new Promise<void>((resolve) => {
      this.#installed = resolve;
      this.#post({ kind: "install", index, term, membership: confState, path });
    });
    this.#installed = null;
    this.installedIndex = index;
    this.handed = { index, term };
    this.membership = confState;
    this.changedAt = null;
    this.appliedIndex = index;
    this.appliedTerm = term;
  }

  /** The main thread's answer. */
  installed(index: number): void {
    this.appliedIndex = index;
    this.#installed?.();
  }
}
