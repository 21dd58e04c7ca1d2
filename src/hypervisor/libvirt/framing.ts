/**
 * Frames of libvirt's RPC (virnetprotocol): a 4-byte big-endian length that counts itself, six 4-byte header words,
 * the payload. See "libvirt RPC infrastructure" (libvirt.org/kbase/internals/rpc.html).
 */
import { constants } from "./protocol.gen.ts";

export interface Frame {
  program: number;
  version: number;
  procedure: number;
  /** VIR_NET_CALL, _REPLY, _MESSAGE, _STREAM ... */
  type: number;
  serial: number;
  /** VIR_NET_OK, _ERROR, _CONTINUE. */
  status: number;
  payload: Uint8Array;
}

const LENGTH_BYTES = constants.VIR_NET_MESSAGE_LEN_MAX;
const HEADER_BYTES = constants.VIR_NET_MESSAGE_HEADER_MAX;
const MIN_BYTES = LENGTH_BYTES + HEADER_BYTES;
const MAX_BYTES = constants.VIR_NET_MESSAGE_MAX + LENGTH_BYTES;

export class FrameError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "FrameError";
  }
}

export function encodeFrame(frame: Frame): Uint8Array {
  const length = MIN_BYTES + frame.payload.length;
  if (length > MAX_BYTES) throw new FrameError(`message of ${length} bytes is over the protocol's limit of ${MAX_BYTES}`);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  const words = [length, frame.program, frame.version, frame.procedure, frame.type, frame.serial, frame.status];
  for (const [index, word] of words.entries()) view.setUint32(index * 4, word);
  bytes.set(frame.payload, MIN_BYTES);
  return bytes;
}

/** Cuts a byte stream into frames. Holds at most one unfinished frame; a length outside the protocol's limits throws FrameError. */
export class FrameReader {
  private chunks: Uint8Array[] = [];
  private held = 0;
  /** Total length of the frame that is arriving, 0 while its length word is not here yet. */
  private wanted = 0;

  push(chunk: Uint8Array): Frame[] {
    this.chunks.push(chunk);
    this.held += chunk.length;
    const frames: Frame[] = [];
    for (;;) {
      if (this.wanted === 0) {
        if (this.held < LENGTH_BYTES) return frames;
        this.wanted = this.peekLength();
        if (this.wanted < MIN_BYTES || this.wanted > MAX_BYTES) {
          throw new FrameError(`frame length ${this.wanted} is outside ${MIN_BYTES}..${MAX_BYTES}`);
        }
      }
      if (this.held < this.wanted) return frames;
      const all = this.joined();
      frames.push(decodeFrame(all.subarray(0, this.wanted)));
      const rest = all.subarray(this.wanted);
      this.chunks = rest.length === 0 ? [] : [rest];
      this.held = rest.length;
      this.wanted = 0;
    }
  }

  private peekLength(): number {
    const all = this.joined();
    this.chunks = [all];
    return new DataView(all.buffer, all.byteOffset).getUint32(0);
  }

  private joined(): Uint8Array {
    const [first] = this.chunks;
    if (this.chunks.length === 1 && first !== undefined) return first;
    const all = new Uint8Array(this.held);
    let at = 0;
    for (const chunk of this.chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }
}

function decodeFrame(bytes: Uint8Array): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    program: view.getUint32(4),
    version: view.getUint32(8),
    procedure: view.getInt32(12),
    type: view.getUint32(16),
    serial: view.getUint32(20),
    status: view.getUint32(24),
    payload: bytes.subarray(MIN_BYTES),
  };
}
