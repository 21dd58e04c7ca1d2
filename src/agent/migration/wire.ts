/**
 * Two agents on one HTTP/2 stream of the API's TLS port: words (JSON) and the hypervisors' bytes, in one order. The stream's end is the
 * other side's end: neither waits longer for somebody who is gone.
 */
import { Duplex } from "node:stream";
import { RoostError, asRoostError } from "../../base/errors.ts";
import type { Fault } from "../../base/errors.ts";
import { frame, MessageReader } from "../../base/grpc-call.ts";
import { within } from "../../base/time-limit.ts";

/** As a gRPC method that nobody but nodes may call. */
export const IMMIGRATE_METHOD = "/roost.agent.Migration/Immigrate";

/** A definition and a cookie, in base64; or one read of QEMU's. */
const MAX_MESSAGE_BYTES = 16 * 2 ** 20;
const CHUNK_BYTES = 256 * 1024;
const WORDS_WAITING_MAX = 16;

const KIND = { word: 0, bytes: 1, bytesEnd: 2 } as const;

/** What one side says, in this order. `over` and `failed` may come at any time. */
export type Word =
  | { say: "offer"; vmId: string; generation: number; offer: string }
  | { say: "ticket"; ticket: string }
  | { say: "receipt"; receipt: string }
  | { say: "complete" }
  | { say: "failed"; fault: Fault };

export class Wire {
  /** The bytes between the hypervisors. */
  readonly body: Duplex;
  /** Given when the other side is gone, or this one was closed. */
  readonly gone: AbortSignal;
  readonly #stream: Duplex;
  readonly #gone = new AbortController();
  readonly #words: Word[] = [];
  #heard: () => void = () => {};

  constructor(stream: Duplex) {
    this.#stream = stream;
    this.gone = this.#gone.signal;
    const reader = new MessageReader(MAX_MESSAGE_BYTES);
    this.body = new Duplex({
      allowHalfOpen: true,
      read: () => void stream.resume(),
      write: (chunk: Uint8Array, _encoding, done) => this.#send(KIND.bytes, chunk, done),
      final: (done) => this.#send(KIND.bytesEnd, new Uint8Array(0), done),
    });
    this.body.on("error", () => {}); // told to whoever reads or writes
    const lost = (why: string): void => {
      if (this.gone.aborted) return;
      this.#gone.abort(new RoostError({ kind: "unavailable", reason: why }));
      this.#heard();
      this.body.destroy(asRoostError(this.gone.reason));
    };
    stream.on("data", (chunk: Buffer) => {
      const messages = reader.push(chunk);
      if (!Array.isArray(messages)) return this.close(`the other node sends what is no migration: ${messages.details}`);
      for (const message of messages) {
        const fault = this.#take(message);
        if (fault !== null) return this.close(fault);
      }
    });
    stream.on("error", (error: Error) => lost(`the connection to the other node broke: ${error.message}`));
    stream.once("close", () => lost("the other node ended the connection"));
    // Half of a connection is none: each side speaks to the end.
    stream.once("end", () => lost("the other node ended the connection"));
  }

  say(word: Word): void {
    if (!this.gone.aborted) this.#send(KIND.word, Buffer.from(JSON.stringify(word)), () => {});
  }

  /** The next word, which must be `expected`. Throws what the other side says failed, `unavailable` if it is gone, `timeout`. */
  async hear<S extends Word["say"]>(expected: S, limitMs: number): Promise<Extract<Word, { say: S }>> {
    const word = await within(this.#next(), limitMs, `waiting for the other node's ${expected}`);
    if (word.say === "failed") throw new RoostError(word.fault);
    if (word.say !== expected) throw new RoostError({ kind: "internal", reason: `the other node says ${word.say}, not ${expected}` });
    return word as Extract<Word, { say: S }>;
  }

  close(why = "closed here"): void {
    if (!this.gone.aborted) this.#gone.abort(new RoostError({ kind: "unavailable", reason: why }));
    this.#heard();
    this.body.destroy();
    // What was said last must still get out; who does not take it is cut off.
    this.#stream.end();
    setTimeout(() => this.#stream.destroy(), 1_000).unref();
  }

  async #next(): Promise<Word> {
    for (;;) {
      const word = this.#words.shift();
      if (word !== undefined) return word;
      if (this.gone.aborted) throw asRoostError(this.gone.reason);
      await new Promise<void>((resolve) => (this.#heard = resolve));
    }
  }

  #take(message: Buffer): string | null {
    const rest = message.subarray(1);
    if (message[0] === KIND.bytes) {
      if (!this.body.push(rest)) this.#stream.pause();
      return null;
    }
    if (message[0] === KIND.bytesEnd) {
      this.body.push(null);
      return null;
    }
    if (this.#words.length >= WORDS_WAITING_MAX) return "the other node says too much";
    try {
      this.#words.push(JSON.parse(rest.toString()) as Word);
    } catch {
      return "the other node's words cannot be read";
    }
    this.#heard();
    return null;
  }

  #send(kind: number, payload: Uint8Array, done: (error?: Error | null) => void): void {
    if (this.gone.aborted) return done(asRoostError(this.gone.reason));
    const parts = Math.max(1, Math.ceil(payload.length / CHUNK_BYTES));
    for (let i = 0; i < parts; i++) {
      const part = kind === KIND.word ? payload : payload.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES);
      const message = Buffer.allocUnsafe(1 + part.length);
      message[0] = kind;
      message.set(part, 1);
      if (kind === KIND.word || i === parts - 1) {
        this.#stream.write(frame(message), (error) => done(error));
        return;
      }
      this.#stream.write(frame(message));
    }
  }
}
