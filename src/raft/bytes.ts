/** Reading and writing of compact binary data: varints (7 bits a byte, low ones first) up to 2^53 - 1, and byte strings. */
import { AssertionError } from "../base/assert.ts";
import { RoostError } from "../base/errors.ts";

/** Writes into a buffer of a size known to be enough. */
export class ByteWriter {
  private readonly buffer: Uint8Array;
  private at: number;

  /** `reserve` bytes are left free at the front for the caller. */
  constructor(capacity: number, reserve = 0) {
    // From Node's pool where it is small, and not zeroed: an array with memory of its own is dear to make and to collect.
    this.buffer = Buffer.allocUnsafe(capacity + reserve);
    this.at = reserve;
  }

  byte(value: number): void {
    this.buffer[this.at++] = value;
  }

  varint(value: number): void {
    let rest = value;
    // Bit operators only see 31 bits.
    while (rest >= 0x80000000) {
      this.buffer[this.at++] = (rest % 128) + 128;
      rest = Math.floor(rest / 128);
    }
    while (rest >= 128) {
      this.buffer[this.at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.buffer[this.at++] = rest;
  }

  bytes(data: Uint8Array): void {
    this.varint(data.length);
    this.buffer.set(data, this.at);
    this.at += data.length;
  }

  /** What was written (and reserved). */
  finish(): Uint8Array {
    if (this.at > this.buffer.length) throw new AssertionError("a buffer was sized too small");
    return new Uint8Array(this.buffer.buffer, this.buffer.byteOffset, this.at);
  }
}

/** Reads what ByteWriter wrote; everything else throws `damaged`, naming `what`. */
export class ByteReader {
  private readonly buffer: Uint8Array;
  private readonly what: string;
  private at = 0;

  constructor(buffer: Uint8Array, what: string) {
    this.buffer = buffer;
    this.what = what;
  }

  get left(): number {
    return this.buffer.length - this.at;
  }

  byte(): number {
    const byte = this.buffer[this.at];
    if (byte === undefined) throw this.damaged("it ends too early");
    this.at++;
    return byte;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        // One way to write each number, so that equal data has equal bytes.
        if (byte === 0 && i > 0) break;
        return value;
      }
      scale *= 128;
    }
    throw this.damaged("a number is malformed");
  }

  /** A count of things that take at least one byte each. */
  count(): number {
    const count = this.varint();
    if (count > this.left) throw this.damaged("a count is larger than the data");
    return count;
  }

  /** A view of the bytes, not a copy. */
  bytes(): Uint8Array {
    const length = this.count();
    const start = this.at;
    this.at += length;
    return this.buffer.subarray(start, this.at);
  }

  end(): void {
    if (this.left !== 0) throw this.damaged("it has bytes left over");
  }

  damaged(detail: string): RoostError {
    return new RoostError({ kind: "damaged", what: `${this.what} (${detail})` });
  }
}
