/**
 * Raft's writes on their way to the disk, in order; the log joins those that wait into one fsync. What a write promises to
 * others leaves only after it (RAFT-3), and a checkpoint is recorded only once the state has it.
 */
import { type Checkpoint, type Message, NONE } from "../../raft/core/types.ts";
import type { LevelLog } from "../../raft/storage/level.ts";
import type { DiskWatch } from "./disk-watch.ts";

/**
 * Writes that may be under way or wait; past it a peer takes no more appends from its leader, which sends them again. Without it
 * a follower whose disk hangs would keep whatever its leader tries: one append a heartbeat.
 */
const WRITES_MAX = 1_000;

export interface WritingEffects {
  raftLog: Pick<LevelLog, "append">;
  disk: DiskWatch;
  /** Resolves when the state is the checkpoint's. */
  install: (checkpoint: Checkpoint) => Promise<void>;
  /** The write is durable: what it promises may leave. */
  written: (responses: readonly Message[]) => void;
  failed: (thrown: unknown) => void;
  over: () => boolean;
}

export class Writing {
  readonly #effects: WritingEffects;
  #queue: { message: Message; sync: boolean }[] = [];
  #running = false;
  #underWay = 0;

  constructor(effects: WritingEffects) {
    this.#effects = effects;
  }

  /** An fsync is not over yet. */
  get busy(): boolean {
    return this.#underWay > 0 || this.#queue.length > 0;
  }

  /** @param message `storage-append`. */
  add(message: Message, sync: boolean): void {
    this.#queue.push({ message, sync });
    if (!this.#running) void this.#run();
  }

  get full(): boolean {
    return this.#queue.length + this.#effects.disk.underWay >= WRITES_MAX;
  }

  async #run(): Promise<void> {
    const { raftLog, disk, install, written, failed, over } = this.#effects;
    this.#running = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined && !over(); next = this.#queue.shift()) {
        const { message, sync } = next;
        if (message.checkpoint !== null) await install(message.checkpoint);
        const { term, vote, commit, entries, checkpoint } = message;
        const hardState = term === 0 && vote === NONE && commit === 0 ? null : { term, vote, commit };
        const mustSync = sync || checkpoint !== null;
        if (mustSync) this.#underWay += 1;
        disk.begun();
        raftLog.append({ entries, hardState, checkpoint }, mustSync).then(() => {
          disk.ended();
          if (mustSync) this.#underWay -= 1;
          written(message.responses);
        }, failed);
      }
    } catch (thrown) {
      failed(thrown);
    } finally {
      this.#running = false;
    }
  }
}
