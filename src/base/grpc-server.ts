/**
 * gRPC's serving side over node:http2, for the API and for peers: a third of the CPU that a unary call costs with grpc-js's server
 * (docs/design/008-speed.md), because nothing is done for a call that can be done for its connection or once. Unary calls, streams of
 * answers, streams of requests, and conversations (one answer to each message, for reflection). Messages are not compressed.
 */
import http2 from "node:http2";
import type { IncomingHttpHeaders, Http2SecureServer, Http2Server, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { TLSSocket } from "node:tls";
import { splitListen } from "./config.ts";
import { asRoostError, RoostError } from "./errors.ts";
import { begin, Call, type CallInfo, CODE, frame, isGrpc, MessageReader, refuse, type Status } from "./grpc-call.ts";
import { listenUnix } from "./rpc-listen.ts";
import { MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, type TlsIdentity } from "./rpc.ts";

export type Method =
  | {
      kind: "unary";
      decode(bytes: Buffer): unknown;
      encode(value: unknown): Uint8Array;
      call(request: unknown, info: CallInfo): Promise<unknown>;
    }
  | {
      kind: "stream";
      decode(bytes: Buffer): unknown;
      encode(value: unknown): Uint8Array;
      call(request: unknown, info: CallInfo): AsyncIterable<unknown>;
      /** A caller that reads nothing for this long is cut off; absent: it may take its time. */
      takeLimitMs?: number;
    }
  | {
      kind: "intake";
      maxBytes: number;
      /** Called as the stream begins: who takes its messages. A status as an answer to one ends the stream. */
      open(info: CallInfo): (message: Buffer) => Status | null;
    }
  /** The stream itself, for whoever frames its messages: both sides speak when they like. */
  | { kind: "tunnel"; open(stream: ServerHttp2Stream, info: CallInfo): void }
  | { kind: "conversation"; decode(bytes: Buffer): unknown; encode(value: unknown): Uint8Array; answer(request: unknown): unknown };

export interface GrpcServerOptions {
  /** Refuses a call before anything of it is read; null lets it in. */
  admit: (info: CallInfo, headers: IncomingHttpHeaders) => Status | null;
  statusOf: (error: RoostError, info: CallInfo) => Status;
  /** What a caller may send ahead on one stream; default 1 MiB. */
  streamWindowBytes?: number;
}

const MAX_STREAMS = 256;
/** A connection on which nothing comes back within the second after the first is dead. */
const PING_EVERY_MS = 10_000;
const PING_ANSWER_MS = 5_000;
/** Requests of many callers at once must not wait for each other's windows. */
const STREAM_WINDOW_BYTES = 2 ** 20;
const SESSION_WINDOW_BYTES = 8 * 2 ** 20;

export class GrpcServer {
  readonly #options: GrpcServerOptions;
  readonly #methods = new Map<string, Method>();
  readonly #servers: (Http2Server | Http2SecureServer)[] = [];
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #unlisten: (() => Promise<void>)[] = [];
  #secure: Http2SecureServer | null = null;
  #pings: NodeJS.Timeout | null = null;

  constructor(options: GrpcServerOptions) {
    this.#options = options;
  }

  add(path: string, method: Method): void {
    this.#methods.set(path, method);
  }

  /**
   * Answers the port, which matters for port 0.
   * @param address `host:port`
   * @param clients `asked` for a certificate, but a connection may live without one: `Join` is called before there is any. `known`:
   *   without one of the identity's CA there is no connection.
   */
  async listenTls(address: string, identity: TlsIdentity, clients: "asked" | "known"): Promise<number> {
    const { host, port } = splitListen(address);
    const server = http2.createSecureServer({
      ...identity,
      requestCert: true,
      rejectUnauthorized: clients === "known",
      minVersion: "TLSv1.2",
      settings: this.#settings,
      maxSessionMemory: MAX_SESSION_MIB,
    });
    this.#take(server, certificateOf);
    this.#secure = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) =>
        reject(
          new RoostError(
            { kind: "precondition", reason: `cannot listen on ${address}: ${error.message}` },
            "choose another address with --listen",
          ),
        ),
      );
      server.listen(port, host, resolve);
    });
    const bound = server.address();
    return typeof bound === "object" && bound !== null ? bound.port : 0;
  }

  /** Without TLS: whoever can open the socket is let in. */
  async listenUnix(path: string): Promise<void> {
    const server = http2.createServer({ settings: this.#settings, maxSessionMemory: MAX_SESSION_MIB });
    this.#take(server, () => null);
    this.#unlisten.push(await listenUnix(server, path));
  }

  /** New connections get the new certificate; open ones go on. */
  updateIdentity(identity: TlsIdentity): void {
    this.#secure?.setSecureContext({ ...identity, minVersion: "TLSv1.2" });
  }

  get #settings(): http2.Settings {
    return { maxConcurrentStreams: MAX_STREAMS, initialWindowSize: this.#options.streamWindowBytes ?? STREAM_WINDOW_BYTES };
  }

  /** Lets calls under way finish for a while, then ends them. */
  async close(drainMs: number): Promise<void> {
    if (this.#pings !== null) clearInterval(this.#pings);
    const gone = Promise.all(this.#unlisten.map((unlisten) => unlisten()));
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => void server.close(() => resolve())));
    for (const session of this.#sessions) session.close();
    const force = setTimeout(() => {
      for (const session of this.#sessions) session.destroy();
    }, drainMs);
    await Promise.all(closed);
    clearTimeout(force);
    await gone;
  }

  #take(server: Http2Server | Http2SecureServer, nameOf: (session: ServerHttp2Session) => string | null): void {
    this.#servers.push(server);
    server.on("session", (session: ServerHttp2Session) => {
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
      session.setLocalWindowSize(SESSION_WINDOW_BYTES);
      const certificateName = nameOf(session);
      session.on("stream", (stream, headers) => this.#onStream(stream, headers, certificateName));
    });
    // Of a broken connection nobody here has to know: its calls are told by their streams.
    server.on("sessionError", () => {});
    this.#pings ??= setInterval(() => this.#ping(), PING_EVERY_MS).unref();
  }

  #ping(): void {
    for (const session of this.#sessions) {
      if (session.destroyed || session.closed) continue;
      const late = setTimeout(() => session.destroy(), PING_ANSWER_MS).unref();
      session.ping(() => clearTimeout(late));
    }
  }

  #onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, certificateName: string | null): void {
    // What breaks a stream also closes it.
    stream.on("error", () => {});
    if (!isGrpc(headers[":method"], headers["content-type"])) return stream.respond({ ":status": 415 }, { endStream: true });
    const path = headers[":path"] ?? "";
    const call = new Call(path, certificateName, headers["grpc-timeout"]);
    const refused = this.#options.admit(call, headers);
    if (refused !== null) return refuse(stream, refused);
    const method = this.#methods.get(path);
    if (method === undefined) return refuse(stream, { code: CODE.unimplemented, details: `there is no method ${path}` });
    if (method.kind === "tunnel") return this.#tunnel(stream, method, call);
    if (method.kind === "conversation") return this.#converse(stream, method, call);
    if (method.kind === "intake") return this.#receive(stream, method, call);
    stream.once("close", () => call.cancel());
    let request: Buffer | null = null;
    const reader = new MessageReader(MAX_REQUEST_BYTES);
    stream.on("data", (chunk: Buffer) => {
      const messages = reader.push(chunk);
      if (!Array.isArray(messages)) return refuse(stream, messages);
      for (const message of messages) {
        if (request !== null) return refuse(stream, { code: CODE.unimplemented, details: `${path} takes one request` });
        request = message;
      }
    });
    stream.once("end", () => {
      if (stream.destroyed || stream.headersSent) return;
      if (request === null || !reader.empty) return refuse(stream, { code: CODE.internal, details: "the request is not whole" });
      if (method.kind === "unary") this.#unary(stream, method, request, call);
      else void this.#stream(stream, method, request, call);
    });
  }

  #unary(stream: ServerHttp2Stream, method: Method & { kind: "unary" }, bytes: Buffer, call: Call): void {
    const fail = (thrown: unknown): void => refuse(stream, this.#options.statusOf(asRoostError(thrown), call));
    let answer: Promise<unknown>;
    try {
      answer = method.call(method.decode(bytes), call);
    } catch (thrown) {
      return fail(thrown);
    }
    answer
      .then((value) => {
        if (stream.destroyed || stream.closed) return;
        const message = method.encode(value);
        if (message.length > MAX_RESPONSE_BYTES) return refuse(stream, tooLarge(message.length));
        begin(stream, () => null);
        stream.end(frame(message));
      })
      .catch(fail);
  }

  async #stream(stream: ServerHttp2Stream, method: Method & { kind: "stream" }, bytes: Buffer, call: Call): Promise<void> {
    let status: Status | null = null;
    const late = limited(call, () => {
      status = { code: CODE.deadlineExceeded, details: "the call's deadline has passed" };
      call.cancel();
    });
    begin(stream, () => status);
    try {
      for await (const value of method.call(method.decode(bytes), call)) {
        if (call.signal.aborted) break;
        const message = method.encode(value);
        if (message.length > MAX_RESPONSE_BYTES) {
          status = tooLarge(message.length);
          break;
        }
        if (stream.write(frame(message)) || (await drained(stream, call.signal, method.takeLimitMs))) continue;
        // At once: a stream that is written to may take its time to close.
        call.cancel();
        stream.destroy();
        break;
      }
    } catch (thrown) {
      status ??= this.#options.statusOf(asRoostError(thrown), call);
    } finally {
      clearTimeout(late);
      if (!stream.destroyed) stream.end();
    }
  }

  #receive(stream: ServerHttp2Stream, method: Method & { kind: "intake" }, call: Call): void {
    const take = method.open(call);
    const reader = new MessageReader(method.maxBytes);
    stream.on("data", (chunk: Buffer) => {
      if (stream.closed) return;
      const messages = reader.push(chunk);
      if (!Array.isArray(messages)) return refuse(stream, messages);
      for (const message of messages) {
        const end = take(message);
        if (end !== null) return refuse(stream, end);
      }
    });
    stream.once("end", () => refuse(stream, { code: CODE.ok, details: "" }));
    stream.once("close", () => call.cancel());
  }

  #tunnel(stream: ServerHttp2Stream, method: Method & { kind: "tunnel" }, call: Call): void {
    stream.once("close", () => call.cancel());
    try {
      method.open(stream, call);
      begin(stream, () => null);
    } catch (thrown) {
      refuse(stream, this.#options.statusOf(asRoostError(thrown), call));
    }
  }

  #converse(stream: ServerHttp2Stream, method: Method & { kind: "conversation" }, call: Call): void {
    let status: Status | null = null;
    const late = limited(call, () => end({ code: CODE.deadlineExceeded, details: "the call's deadline has passed" }));
    const end = (with_: Status | null): void => {
      status ??= with_;
      clearTimeout(late);
      if (!stream.destroyed) stream.end();
    };
    begin(stream, () => status);
    const reader = new MessageReader(MAX_REQUEST_BYTES);
    stream.on("data", (chunk: Buffer) => {
      const messages = reader.push(chunk);
      if (!Array.isArray(messages)) return end(messages);
      try {
        for (const message of messages) {
          // Whoever asks faster than it reads waits.
          if (!stream.write(frame(method.encode(method.answer(method.decode(message)))))) {
            stream.pause();
            stream.once("drain", () => stream.resume());
          }
        }
      } catch (thrown) {
        end(this.#options.statusOf(asRoostError(thrown), call));
      }
    });
    stream.once("end", () => end(null));
    stream.once("close", () => clearTimeout(late));
  }
}

/** MiB that one connection may take within nghttp2: its windows, and answers that the other side does not read. */
const MAX_SESSION_MIB = 256;

function tooLarge(bytes: number): Status {
  return { code: CODE.resourceExhausted, details: `the answer of ${bytes} bytes is too large: ask for less, by pages for example` };
}

/** Timers cannot wait for more than 2^31 - 1 ms. */
function limited(call: CallInfo, end: () => void): NodeJS.Timeout | undefined {
  const leftMs = call.deadlineMs - Date.now();
  return leftMs < 2 ** 31 ? setTimeout(end, leftMs) : undefined;
}

/** Waits until the caller has read, or is gone; false if it did neither within the limit. */
function drained(stream: ServerHttp2Stream, signal: AbortSignal, limitMs: number | undefined): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (inTime: boolean): void => {
      clearTimeout(late);
      stream.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve(inTime);
    };
    const done = (): void => end(true);
    const late = limitMs === undefined ? undefined : setTimeout(end, limitMs, false);
    stream.once("drain", done);
    signal.addEventListener("abort", done, { once: true });
    if (signal.aborted) done();
  });
}

/**
 * Common name of the connection's certificate, or null without one that OpenSSL verified against the cluster's CA. `authorized` alone is
 * not enough, because a resumed TLS 1.3 session counts as authorized even if it never showed a certificate, so one must be there as well.
 */
function certificateOf(session: ServerHttp2Session): string | null {
  const socket = session.socket as TLSSocket;
  if (!socket.authorized) return null;
  const certificate = socket.getPeerCertificate();
  // Without a certificate Node answers an empty object, or nothing at all.
  if ((certificate as Partial<typeof certificate> | undefined)?.raw === undefined) return null;
  const name: unknown = certificate.subject.CN;
  return typeof name === "string" && name !== "" ? name : null;
}
