/**
 * Bytes in checked pieces, for files that must be whole or refused: a magic line, frames of `length u32 · crc u32 · payload`, then an
 * empty frame and the SHA-256 of everything before it. Each CRC-32 (zlib's) covers its payload and goes on from the one before, so
 * a frame that is missing, doubled or moved is found where it happens.
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { RoostError } from "./errors.ts";

const HEAD_BYTES = 8;
const HASH_BYTES = 32;
/** A frame that claims more is damage: it must not eat the memory. */
const FRAME_MAX_BYTES = 16 * 2 ** 20;

export class FrameWriter {
  readonly #hash = createHash("sha256");
  #crc = 0;

  begin(magic: string): Uint8Array {
    return this.#counted(Buffer.from(`${magic}\n`));
  }

  frame(payload: Uint8Array): Uint8Array {
    this.#crc = crc32(payload, this.#crc);
    const out = Buffer.alloc(HEAD_BYTES + payload.length);
    out.writeUInt32BE(payload.length, 0);
    out.writeUInt32BE(this.#crc, 4);
    out.set(payload, HEAD_BYTES);
    return this.#counted(out);
  }

  end(): Uint8Array {
    const last = this.frame(new Uint8Array());
    return Buffer.concat([last, this.#hash.digest()]);
  }

  #counted(bytes: Buffer): Buffer {
    this.#hash.update(bytes);
    return bytes;
  }
}

/** Takes the bytes in pieces of any size. `what` names them in errors. */
export class FrameReader {
  readonly #what: string;
  readonly #magic: Buffer;
  readonly #hash = createHash("sha256");
  #rest: Buffer = Buffer.alloc(0);
  #offset = 0;
  #crc = 0;
  #begun = false;
  #ending = false;
  #ended = false;

  constructor(what: string, magic: string) {
    this.#what = what;
    this.#magic = Buffer.from(`${magic}\n`);
  }

  /** Payloads that are complete with these bytes. Throws `damaged` with the place. */
  push(bytes: Uint8Array): Uint8Array[] {
    this.#rest = this.#rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#rest, bytes]);
    const payloads: Uint8Array[] = [];
    if (!this.#begun) {
      if (this.#rest.length < this.#magic.length) return payloads;
      const head = this.#take(this.#magic.length, true);
      if (!head.equals(this.#magic)) throw this.#damaged(0, "it does not begin as one");
      this.#begun = true;
    }
    while (!this.#ending && this.#rest.length >= HEAD_BYTES) {
      const length = this.#rest.readUInt32BE(0);
      if (length > FRAME_MAX_BYTES) throw this.#damaged(this.#offset, `a piece of ${length} bytes is too long to be true`);
      if (this.#rest.length < HEAD_BYTES + length) break;
      const at = this.#offset;
      const frame = this.#take(HEAD_BYTES + length, true);
      const payload = frame.subarray(HEAD_BYTES);
      this.#crc = crc32(payload, this.#crc);
      if (frame.readUInt32BE(4) !== this.#crc) throw this.#damaged(at, `the checksum of the ${length} bytes there is wrong`);
      if (length === 0) this.#ending = true;
      else payloads.push(payload);
    }
    if (this.#ending && !this.#ended && this.#rest.length >= HASH_BYTES) {
      const at = this.#offset;
      if (!this.#take(HASH_BYTES, false).equals(this.#hash.digest())) throw this.#damaged(at, "the hash of the whole is wrong");
      this.#ended = true;
    }
    if (this.#ended && this.#rest.length > 0) throw this.#damaged(this.#offset, "something follows its end");
    return payloads;
  }

  /** Throws `damaged` unless all of it was there. */
  finish(): void {
    if (!this.#ended) throw this.#damaged(this.#offset + this.#rest.length, "it is cut off");
  }

  #take(length: number, counted: boolean): Buffer {
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    this.#offset += length;
    if (counted) this.#hash.update(taken);
    return taken;
  }

  #damaged(offset: number, why: string): RoostError {
    return new RoostError({ kind: "damaged", what: `${this.#what}, at byte ${offset}: ${why}; it` }, "use another copy of it");
  }
}

/** First line of a backup (`roost cluster backup`). */
export const BACKUP_MAGIC = "roost backup 1";
