/**
 * One outgoing stream of frames to one peer, opened again with back-off whenever it breaks. It speaks gRPC (Peer.Send) over node:http2
 * itself: grpc-js's client takes several times the CPU for a message of a stream (docs/design/008-speed.md).
 */
import http2 from "node:http2";
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";
import type { Logger } from "../../base/log.ts";
import type { TlsIdentity } from "../../base/rpc.ts";
import type { Lane, LinkEvents, Peer } from "./links.ts";
import { frameOf } from "./wire.ts";

/** What may wait for one peer on one lane; past it frames are dropped, which Raft repairs by itself. */
const QUEUE_MAX_BYTES = 64 * 2 ** 20;

/** The longest wait is for a peer that restarts while its claims run on: it has about 3 s in all to be heard and acknowledged. */
const RECONNECT_MS = { first: 50, last: 250 } as const;

/** A cut link must be noticed soon, else TCP's own back-off delays the first frames after it heals. */
const PING_EVERY_MS = 1_000;
/** For an answer to a ping, and for a connection to be there. */
const ANSWER_MS = 1_500;

/** What one connection may take within nghttp2; above what may wait. */
const SESSION_MIB = 256;

const REQUEST = { ":method": "POST", ":path": "/roost.internal.v1.Peer/Send", "content-type": "application/grpc", te: "trailers" };

/** Metadata of each stream: the sender's cluster generation; in a refusal the receiver's. */
export const GENERATION_KEY = "roost-generation";
/** A peer of another generation changes its mind only by being started anew. */
const REFUSED_MS = 5_000;
const FAILED_PRECONDITION = "9";
/** To a node that was removed from the cluster. */
const PERMISSION_DENIED = "7";

export interface SenderOptions {
  identity: TlsIdentity;
  /** Of the cluster, as this node knows it. */
  generation: number;
  log: Logger;
  events: Pick<LinkEvents, "broken" | "outdated" | "removed">;
}

export class Sender {
  readonly peer: Peer;
  readonly #lane: Lane;
  readonly #options: SenderOptions;
  #session: ClientHttp2Session | null = null;
  #stream: ClientHttp2Stream | null = null;
  #queuedBytes = 0;
  #waitMs: number = RECONNECT_MS.first;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #closed = false;
  #said = true;

  constructor(peer: Peer, lane: Lane, options: SenderOptions) {
    this.peer = peer;
    this.#lane = lane;
    this.#options = options;
    this.#open();
  }

  /** Since the last time it was asked. */
  saidAnything(): boolean {
    const said = this.#said;
    this.#said = false;
    return said;
  }

  send(payload: Uint8Array): boolean {
    this.#said = true;
    const stream = this.#stream;
    if (stream === null || this.#queuedBytes + payload.length > QUEUE_MAX_BYTES) {
      // A frame larger than the queue must be able to pass when nothing else waits.
      if (stream === null || this.#queuedBytes > 0) return false;
    }
    this.#queuedBytes += payload.length;
    stream.write(frameOf(payload), () => {
      // Called when the frame was handed on; of a stream that broke meanwhile nothing is counted any more.
      if (this.#stream === stream) this.#queuedBytes -= payload.length;
    });
    return true;
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#stream = null;
    this.#session?.destroy();
    this.#session = null;
  }

  #open(): void {
    this.#queuedBytes = 0;
    const { events, generation, identity, log } = this.#options;
    const { ca, cert, key } = identity;
    // The certificate must be of this very node, whoever answers at its address.
    const session = http2.connect(`https://${this.peer.address}`, {
      ca,
      cert,
      key,
      servername: this.peer.nodeId,
      maxSessionMemory: SESSION_MIB,
    });
    let late: NodeJS.Timeout | undefined = setTimeout(() => end("no connection in time"), ANSWER_MS);
    const pings = setInterval(() => {
      if (late !== undefined || session.destroyed) return;
      late = setTimeout(() => end("no answer to a ping"), ANSWER_MS);
      session.ping(() => {
        clearTimeout(late);
        late = undefined;
      });
    }, PING_EVERY_MS);
    let over = false;
    const end = (why: string): void => {
      if (over) return;
      over = true;
      clearTimeout(late);
      clearInterval(pings);
      session.destroy();
      if (this.#closed || this.#session !== session) return;
      this.#stream = null;
      this.#session = null;
      log.debug("peer link broken", { node: this.peer.nodeId, lane: this.#lane, why });
      events.broken(this.peer);
      this.#timer = setTimeout(() => this.#open(), this.#waitMs);
      this.#waitMs = this.#waitMs >= REFUSED_MS ? RECONNECT_MS.last : Math.min(RECONNECT_MS.last, this.#waitMs * 2);
    };
    session.once("connect", () => {
      clearTimeout(late);
      late = undefined;
      this.#waitMs = RECONNECT_MS.first;
    });
    session.on("error", (error: Error) => end(error.message));
    session.once("close", () => end("closed"));
    session.once("goaway", () => end("the peer goes away"));
    const stream = session.request({ ...REQUEST, [GENERATION_KEY]: String(generation) }, { endStream: false });
    stream.on("error", (error: Error) => end(error.message));
    // The other side says nothing until the end: its status comes alone, or in the trailers.
    const refused = (headers: IncomingHttpHeaders): void => {
      const status = headers["grpc-status"];
      if (status === undefined) return;
      if (status === FAILED_PRECONDITION) {
        const theirs = Number(headers[GENERATION_KEY] ?? 1);
        if (theirs > generation) events.outdated?.(theirs);
        this.#waitMs = REFUSED_MS;
      }
      if (status === PERMISSION_DENIED) {
        events.removed(this.peer);
        this.#waitMs = REFUSED_MS;
      }
      end(`refused: ${String(status)} ${String(headers["grpc-message"])}`);
    };
    stream.once("response", refused);
    stream.once("trailers", refused);
    stream.once("close", () => end("closed by the peer"));
    stream.resume();
    this.#session = session;
    this.#stream = stream;
  }
}
