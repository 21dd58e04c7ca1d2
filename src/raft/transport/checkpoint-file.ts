/**
 * A checkpoint as a file: chunks, each after its length and the CRC-32 of everything up to its end, then an end mark without
 * a chunk. What is there of a transfer that broke off is good up to the last whole chunk, and goes on from there.
 */
import { type FileHandle, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import { RoostError } from "../../base/errors.ts";
import type { CheckpointInbox } from "./links.ts";

export interface CheckpointChunk {
  bytes: Uint8Array<ArrayBuffer>;
  /** CRC-32 of all chunks' bytes up to the end of this one. */
  crc: number;
}

/** No chunk is longer: what a length says that came over a wire or from a disk is not believed beyond. */
export const CHUNK_MAX_BYTES = 16 * 2 ** 20;
/** What is written goes to the disk in pieces of this size, so that the log's fsyncs never wait behind more. */
const SYNC_BYTES = 2 ** 20;
const HEADER_BYTES = 8;

/** A checkpoint that is being received or written. One at a time for a path. */
export class PartialCheckpoint {
  /** Whole chunks that are there. */
  chunks: number;
  bytes: number;
  readonly #path: string;
  readonly #file: FileHandle;
  /** Of all that is there. */
  crc: number;
  #end: number;
  #unsynced = 0;

  /** Opens what is there at `path`, cut to its last whole chunk, or begins it. */
  static async open(path: string): Promise<PartialCheckpoint> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const created = await open(path, "a", 0o600);
    await created.close();
    const file = await open(path, "r+");
    const partial = new PartialCheckpoint(path, file);
    try {
      for (let chunk = await readChunk(file, 0, 0); chunk?.bytes.length; chunk = await readChunk(file, partial.#end, partial.crc)) {
        partial.#took(chunk);
      }
      await file.truncate(partial.#end);
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
    return partial;
  }

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
    this.chunks = 0;
    this.bytes = 0;
    this.crc = 0;
    this.#end = 0;
  }

  /** The next chunk. @throws RoostError `damaged` if it does not follow what is there. */
  async append(chunk: CheckpointChunk): Promise<void> {
    if (chunk.bytes.length === 0 || chunk.bytes.length > CHUNK_MAX_BYTES || crc32(chunk.bytes, this.crc) !== chunk.crc) {
      throw new RoostError({ kind: "damaged", what: `chunk ${this.chunks} of a checkpoint on its way` });
    }
    await writeAll(this.#file, [header(chunk.bytes.length, chunk.crc), chunk.bytes], this.#end);
    this.#took(chunk);
    this.#unsynced += chunk.bytes.length;
    if (this.#unsynced < SYNC_BYTES) return;
    this.#unsynced = 0;
    await this.#file.datasync();
  }

  /** All chunks are there: makes it durable under `path`, and closes it. */
  async finish(crc: number, path: string): Promise<void> {
    if (crc !== this.crc) throw new RoostError({ kind: "damaged", what: "a checkpoint on its way (the checksum over all of it is wrong)" });
    await writeAll(this.#file, [header(0, crc)], this.#end);
    await this.#file.sync();
    await this.#file.close();
    await rename(this.#path, path);
    const folder = await open(dirname(path), "r");
    await folder.sync();
    await folder.close();
  }

  /** Leaves what is there for another time. */
  async close(): Promise<void> {
    await this.#file.close();
  }

  #took(chunk: CheckpointChunk): void {
    this.chunks++;
    this.bytes += chunk.bytes.length;
    this.crc = chunk.crc;
    this.#end += HEADER_BYTES + chunk.bytes.length;
  }
}

/** The folder for what a node receives: a checkpoint's name is its id, and `.part` behind it until it is whole. */
export function checkpointInbox(folder: string): CheckpointInbox {
  const clean = async (keep: string): Promise<void> => {
    const names = await readdir(folder).catch(() => []);
    for (const name of names) if (name !== keep) await rm(join(folder, name), { force: true });
  };
  return {
    async open(id) {
      // An id that came from a peer must not lead out of the folder.
      if (!/^[A-Za-z0-9-]{1,64}$/.test(id)) throw new RoostError({ kind: "damaged", what: "the name of a checkpoint" });
      const part = `${id}.part`;
      await clean(part);
      const partial = await PartialCheckpoint.open(join(folder, part));
      return {
        get chunks() {
          return partial.chunks;
        },
        get bytes() {
          return partial.bytes;
        },
        get crc() {
          return partial.crc;
        },
        append: (chunk) => partial.append(chunk),
        async finish(crc) {
          const path = join(folder, id);
          await partial.finish(crc, path);
          return path;
        },
        close: () => partial.close(),
      };
    },
    tidy: () => clean(""),
  };
}

/** The chunks of a whole checkpoint, one at a time. @throws RoostError `damaged` as soon as something is wrong, or its end is missing. */
export async function* readCheckpointFile(path: string): AsyncGenerator<Uint8Array> {
  const file = await open(path, "r");
  try {
    let crc = 0;
    let at = 0;
    for (let number = 0; ; number++) {
      const chunk = await readChunk(file, at, crc);
      if (chunk === null) throw new RoostError({ kind: "damaged", what: `the checkpoint ${path} (chunk ${number} at byte ${at})` });
      if (chunk.bytes.length === 0) return;
      yield chunk.bytes;
      crc = chunk.crc;
      at += HEADER_BYTES + chunk.bytes.length;
    }
  } finally {
    await file.close();
  }
}

/** The chunk at an offset, without bytes for the end mark; null if there is no whole one. */
async function readChunk(file: FileHandle, at: number, crcBefore: number): Promise<CheckpointChunk | null> {
  const head = await readAll(file, HEADER_BYTES, at);
  if (head === null) return null;
  const view = new DataView(head.buffer);
  const length = view.getUint32(0);
  const crc = view.getUint32(4);
  if (length > CHUNK_MAX_BYTES) return null;
  const bytes = await readAll(file, length, at + HEADER_BYTES);
  if (bytes === null || crc32(bytes, crcBefore) !== crc) return null;
  return { bytes, crc };
}

async function readAll(file: FileHandle, length: number, at: number): Promise<Uint8Array<ArrayBuffer> | null> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(bytes, done, length - done, at + done);
    if (bytesRead === 0) return null;
    done += bytesRead;
  }
  return bytes;
}

async function writeAll(file: FileHandle, parts: Uint8Array[], at: number): Promise<void> {
  const total = parts.reduce((sum, part) => sum + part.length, 0);
  const { bytesWritten } = await file.writev(parts, at);
  // Only a full disk takes less than all.
  if (bytesWritten !== total) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
}

function header(length: number, crc: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length);
  view.setUint32(4, crc);
  return bytes;
}
