/** An inbox for checkpoints without a disk: what was received is in `files`, by the path that `finish` gave. */
import { crc32 } from "node:zlib";
import { RoostError } from "../../src/base/errors.ts";
import type { CheckpointInbox } from "../../src/raft/transport/links.ts";

export class MemoryInbox implements CheckpointInbox {
  readonly files = new Map<string, Uint8Array[]>();
  readonly #parts = new Map<string, { chunks: Uint8Array[]; crc: number }>();

  async open(id: string): ReturnType<CheckpointInbox["open"]> {
    for (const other of this.#parts.keys()) if (other !== id) this.#parts.delete(other);
    const part = this.#parts.get(id) ?? { chunks: [], crc: 0 };
    this.#parts.set(id, part);
    return {
      get chunks() {
        return part.chunks.length;
      },
      get bytes() {
        return part.chunks.reduce((sum, chunk) => sum + chunk.length, 0);
      },
      get crc() {
        return part.crc;
      },
      append: async ({ bytes, crc }) => {
        if (crc32(bytes, part.crc) !== crc) throw new RoostError({ kind: "damaged", what: "a chunk" });
        part.chunks.push(bytes);
        part.crc = crc;
      },
      finish: async (crc) => {
        if (crc !== part.crc) throw new RoostError({ kind: "damaged", what: "a checkpoint" });
        this.#parts.delete(id);
        this.files.set(id, part.chunks);
        return id;
      },
      close: async () => {},
    };
  }

  async tidy(): Promise<void> {
    this.#parts.clear();
    this.files.clear();
  }
}
