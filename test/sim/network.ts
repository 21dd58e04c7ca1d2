/** The links between simulated nodes: frames may be lost, late, doubled, out of order, or cut in one direction. */
import type { Random } from "../../src/base/random.ts";
import { RoostError } from "../../src/base/errors.ts";
import type { CheckpointRequest, Lane, LinkEvents, Peer, PeerLinks, WireChunk } from "../../src/raft/transport/links.ts";
import type { EventQueue } from "./queue.ts";
import type { SimThread } from "./thread.ts";

interface End {
  peer: Peer;
  thread: SimThread;
  events: LinkEvents;
  peers: Map<number, Peer>;
  /** Ids of nodes that are told that they were removed. */
  removed: ReadonlySet<string>;
}

export interface Quality {
  lossPercent: number;
  doublePercent: number;
  /** Longest delay of a frame, ms. */
  delayMs: number;
  /** Frames of a lane overtake each other. */
  reorder: boolean;
  /** Of each direction of each link, bytes/ms. */
  bandwidth: number;
}

/** A connection on which a ping waits for longer than this behind what was sent is given up, with all of it (transport/sender.ts). */
const PING_LIMIT_MS = 2_500;

export const PERFECT: Quality = { lossPercent: 0, doublePercent: 0, delayMs: 2, reorder: false, bandwidth: Infinity };

export class SimNetwork {
  quality: Quality = PERFECT;
  readonly #queue: EventQueue;
  readonly #random: Random;
  readonly #trace: (from: number, to: number, what: string, payload: Uint8Array) => void;
  readonly #ends = new Map<number, End>();
  readonly #heardMs = new Map<number, number>();
  /** from>to: frames that way are lost. */
  readonly #cut = new Set<string>();
  /** When the last frame of a direction and lane arrives, and when its line is free again. */
  readonly #lines = new Map<string, { lastMs: number; freeMs: number; connection: number }>();

  constructor(queue: EventQueue, random: Random, trace: (from: number, to: number, what: string, payload: Uint8Array) => void) {
    this.#queue = queue;
    this.#random = random;
    this.#trace = trace;
  }

  /** The links of one node as long as its process lives. */
  open(peer: Peer, thread: SimThread, events: LinkEvents): PeerLinks {
    const { peerId } = peer;
    const end: End = { peer, thread, events, peers: new Map(), removed: new Set() };
    this.#ends.set(peerId, end);
    return {
      send: (to, lane, payload) => end.peers.has(to) && this.#send(peerId, to, lane, payload),
      fetchCheckpoint: (from, request, signal) => this.#fetch(end, from, request, signal),
      setPeers: (peers, removed) => {
        end.peers = new Map(peers.map((peer) => [peer.peerId, peer]));
        end.removed = removed;
      },
      close: () => {
        if (this.#ends.get(peerId) === end) this.#ends.delete(peerId);
        return Promise.resolve();
      },
    };
  }

  /** Those who hear of it are told that their streams to the node broke. */
  died(peerId: number): void {
    this.#ends.delete(peerId);
    for (const other of this.#ends.keys()) this.#broken(other, peerId, 20);
  }

  cut(from: number, to: number): void {
    if (from === to) return;
    this.#cut.add(`${from}>${to}`);
    this.#broken(from, to, 5_000);
  }

  heal(): void {
    this.#cut.clear();
  }

  /** When the peer last took a frame from anybody. */
  heardMs(peerId: number): number {
    return this.#heardMs.get(peerId) ?? -Infinity;
  }

  linked(from: number, to: number): boolean {
    return !this.#cut.has(`${from}>${to}`);
  }

  #broken(at: number, peerId: number, withinMs: number): void {
    this.#queue.after(this.#random.unit() * withinMs, () => {
      const end = this.#ends.get(at);
      const peer = end?.peers.get(peerId);
      if (end !== undefined && peer !== undefined) end.thread.run(() => end.events.broken(peer));
    });
  }

  #send(from: number, to: number, lane: Lane, payload: Uint8Array): boolean {
    const { lossPercent, doublePercent, delayMs, reorder, bandwidth } = this.quality;
    const random = this.#random;
    const key = `${from}>${to}`;
    if (this.#cut.has(key) || (lossPercent > 0 && random.below(100) < lossPercent)) {
      this.#trace(from, to, "lost", payload);
      return true;
    }
    const copies = doublePercent > 0 && random.below(100) < doublePercent ? 2 : 1;
    const line = this.#lines.get(key + lane) ?? { lastMs: 0, freeMs: 0, connection: 0 };
    this.#lines.set(key + lane, line);
    const now = this.#queue.now;
    if (line.freeMs - now > PING_LIMIT_MS) {
      line.connection++;
      line.freeMs = line.lastMs = now;
      this.#trace(from, to, "lost", payload);
      this.#broken(from, to, 20);
      return false;
    }
    const { connection } = line;
    for (let i = 0; i < copies; i++) {
      line.freeMs = Math.max(line.freeMs, now) + payload.length / bandwidth;
      const earliest = line.freeMs + 0.1 + random.unit() * delayMs;
      const at = reorder || i > 0 ? earliest : Math.max(earliest, line.lastMs);
      line.lastMs = Math.max(line.lastMs, at);
      this.#queue.after(at - now, () => {
        if (line.connection === connection) this.#arrive(from, to, payload);
      });
    }
    return true;
  }

  /** The refusal comes back on the same connection. */
  #turnedAway(sender: End, by: number): void {
    this.#queue.after(this.quality.delayMs, () => {
      const peer = sender.peers.get(by);
      if (peer !== undefined && !this.#cut.has(`${by}>${sender.peer.peerId}`)) sender.thread.run(() => sender.events.removed(peer));
    });
  }

  /** A stream of its own for each checkpoint, which breaks as soon as anything of it is lost. */
  async *#fetch(to: End, from: number, request: CheckpointRequest, signal: AbortSignal): AsyncGenerator<WireChunk> {
    const source = this.#ends.get(from);
    const both = [to.peer.peerId, from] as const;
    if (source === undefined) throw broken();
    await this.#hop(...both, source, signal);
    const chunks = source.events.checkpoint(to.peer.nodeId, request)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await Promise.race([chunks.next(), given(signal)]);
        if (next.done === true) return;
        await this.#hop(from, to.peer.peerId, to, signal);
        yield { ...next.value, bytes: next.value.bytes.slice() };
      }
    } finally {
      void chunks.return?.();
    }
  }

  /** Resolves on the other side's thread. */
  #hop(from: number, to: number, end: End, signal: AbortSignal): Promise<void> {
    const { lossPercent, delayMs } = this.quality;
    const lost = this.#random.below(100) < lossPercent;
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(broken()), { once: true });
      this.#queue.after(0.1 + this.#random.unit() * delayMs, () => {
        if (lost || this.#cut.has(`${from}>${to}`) || this.#ends.get(end.peer.peerId) !== end) reject(broken());
        else end.thread.run(resolve);
      });
    });
  }

  #arrive(from: number, to: number, payload: Uint8Array): void {
    const end = this.#ends.get(to);
    if (this.#cut.has(`${from}>${to}`) || end === undefined) return;
    end.thread.run(() => {
      const sender = this.#ends.get(from);
      if (sender !== undefined && end.removed.has(sender.peer.nodeId)) return this.#turnedAway(sender, to);
      const peer = end.peers.get(from);
      if (peer === undefined) return;
      this.#heardMs.set(to, this.#queue.now);
      this.#trace(from, to, "takes", payload);
      end.events.frame(peer, payload);
    });
  }
}

function broken(): RoostError {
  return new RoostError({ kind: "unavailable", reason: "the link broke" });
}

function given(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(broken());
    signal.addEventListener("abort", () => reject(broken()), { once: true });
  });
}
