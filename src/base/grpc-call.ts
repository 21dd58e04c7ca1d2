/** One gRPC call over one HTTP/2 stream, seen from the server: frames of messages in and out, deadline, status. */
import type { ServerHttp2Stream } from "node:http2";

/** What every handler has: who calls, until when, and whether the caller is gone. */
export interface CallInfo {
  /** `/roost.v1.VmService/ListVms` */
  path: string;
  /** Common name of the verified client certificate; null without one. */
  certificateName: string | null;
  /** Wall clock at which the caller gives up, ms; Infinity if it set no deadline. */
  deadlineMs: number;
  /** Given when the caller is gone or its time is over. */
  readonly signal: AbortSignal;
}

/** How a call ended. `trailers`: further ones, texts or base64 of what ends in -bin. */
export interface Status {
  code: number;
  details: string;
  trailers?: Record<string, string | string[]>;
}

/** https://grpc.io/docs/guides/status-codes/ */
export const CODE = { ok: 0, deadlineExceeded: 4, resourceExhausted: 8, unimplemented: 12, internal: 13, unauthenticated: 16 } as const;

const UNIT_MS: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };
const CONTENT_TYPE = "application/grpc";
/** A message's head: compressed or not, and its length. */
const HEAD_BYTES = 5;

/** The signal is made only for those who ask: most calls are over before anybody could cancel them. */
export class Call implements CallInfo {
  readonly path: string;
  readonly certificateName: string | null;
  readonly deadlineMs: number;
  #abort: AbortController | null = null;
  #over = false;

  constructor(path: string, certificateName: string | null, timeout: string | string[] | undefined) {
    this.path = path;
    this.certificateName = certificateName;
    this.deadlineMs = typeof timeout === "string" ? Date.now() + timeoutMs(timeout) : Infinity;
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#over) this.#abort.abort();
    return this.#abort.signal;
  }

  cancel(): void {
    this.#over = true;
    this.#abort?.abort();
  }
}

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: at most eight digits and a unit; anything else is no limit. */
function timeoutMs(text: string): number {
  const match = /^(\d{1,8})([HMSmun])$/.exec(text);
  return match === null ? Infinity : Number(match[1]) * (UNIT_MS[match[2] ?? ""] ?? Infinity);
}

/** Cuts what arrives into messages. What a large one comes in is joined once, when it is whole. */
export class MessageReader {
  readonly #maxBytes: number;
  #parts: Buffer[] = [];
  #bytes = 0;
  /** Nothing can be cut before so many bytes are there. */
  #wanted = HEAD_BYTES;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** True between messages. */
  get empty(): boolean {
    return this.#bytes === 0;
  }

  /** The messages that are complete with this chunk, or why the call cannot go on. They may be views of larger buffers. */
  push(chunk: Buffer): Buffer[] | Status {
    this.#parts.push(chunk);
    this.#bytes += chunk.length;
    const messages: Buffer[] = [];
    while (this.#bytes >= this.#wanted) {
      const bytes = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts, this.#bytes);
      this.#parts = [bytes];
      if (bytes[0] !== 0)
        return { code: CODE.unimplemented, details: "compressed messages are not taken", trailers: { "grpc-accept-encoding": "identity" } };
      const length = bytes.readUInt32BE(1);
      if (length > this.#maxBytes)
        return { code: CODE.resourceExhausted, details: `a message of ${length} bytes is too large: at most ${this.#maxBytes} are taken` };
      this.#wanted = HEAD_BYTES + length;
      if (this.#bytes < this.#wanted) break;
      messages.push(bytes.subarray(HEAD_BYTES, this.#wanted));
      this.#bytes -= this.#wanted;
      this.#parts = this.#bytes === 0 ? [] : [bytes.subarray(this.#wanted)];
      this.#wanted = HEAD_BYTES;
    }
    return messages;
  }
}

export function frame(message: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(HEAD_BYTES + message.length);
  out[0] = 0;
  out.writeUInt32BE(message.length, 1);
  out.set(message, HEAD_BYTES);
  return out;
}

const HEADERS = { ":status": 200, "content-type": CONTENT_TYPE };
const OK_TRAILERS = { "grpc-status": "0" };

/** Sends headers; the status follows the last message. */
export function begin(stream: ServerHttp2Stream, statusOf: () => Status | null): void {
  stream.once("wantTrailers", () => {
    const status = statusOf();
    stream.sendTrailers(status === null ? OK_TRAILERS : trailersOf(status));
  });
  stream.respond(HEADERS, { waitForTrailers: true });
}

/** Ends a call that sent nothing yet. What the caller still sends is not read. */
export function refuse(stream: ServerHttp2Stream, status: Status): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  stream.respond({ ...HEADERS, ...trailersOf(status) }, { endStream: true });
  if (!stream.readableEnded) stream.close();
}

function trailersOf({ code, details, trailers }: Status): Record<string, string | string[]> {
  return { ...trailers, "grpc-status": String(code), ...(details === "" ? {} : { "grpc-message": escaped(details) }) };
}

/** Bytes outside of printable ASCII, and the percent sign, as %XX of their UTF-8. */
function escaped(text: string): string {
  return text.toWellFormed().replaceAll(/[^\u0020-\u007e]+|%/gu, (part) => encodeURIComponent(part));
}

/** Only POST of gRPC's own kind is a call; anything else gets HTTP's own answer. */
export function isGrpc(method: unknown, contentType: unknown): boolean {
  return method === "POST" && typeof contentType === "string" && contentType.startsWith(CONTENT_TYPE);
}
