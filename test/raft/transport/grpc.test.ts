/** Links over real sockets, through a proxy that can let bytes vanish in one direction or both without closing anything. */
import { createServer, connect, type Socket } from "node:net";
import { crc32 } from "node:zlib";
import t, { type Test } from "tap";
import { newSecret } from "../../../src/base/ids.ts";
import { silentLogger } from "../../../src/base/log.ts";
import type { TlsIdentity } from "../../../src/base/rpc.ts";
import { type Ca, chainOf, createCa, createKeyAndRequest, issue, NODE_TTL_MS } from "../../../src/cluster/certificates.ts";
import { openGrpcLinks } from "../../../src/raft/transport/grpc.ts";
import type { CheckpointRequest, Peer, PeerLinks, WireChunk } from "../../../src/raft/transport/links.ts";
import { freePort } from "../../support/bench-agents.ts";

t.setTimeout(120_000);

const ca: Ca = await createCa({ clusterId: "test", nowMs: Date.now(), serial: newSecret(16) });

async function identityOf(nodeId: string): Promise<TlsIdentity> {
  const { keyPem, requestPem } = await createKeyAndRequest();
  const leaf = await issue(ca, requestPem, {
    subject: { kind: "node", nodeId },
    names: ["127.0.0.1"],
    nowMs: Date.now(),
    ttlMs: NODE_TTL_MS,
    serial: newSecret(16),
  });
  return { ca: ca.certificatePem, cert: chainOf(leaf, ca.certificatePem), key: keyPem };
}

/** Between a caller and a port. A direction that is cut swallows bytes, as a firewall would. */
class Proxy {
  readonly cut = { there: false, back: false };
  readonly #sockets = new Set<Socket>();
  #close: () => void = () => {};
  port = 0;

  static async to(port: number): Promise<Proxy> {
    const proxy = new Proxy();
    const server = createServer((caller) => {
      const target = connect(port, "127.0.0.1");
      for (const socket of [caller, target]) {
        proxy.#sockets.add(socket);
        socket.on("error", () => socket.destroy());
        socket.on("close", () => [caller, target].forEach((one) => one.destroy()));
      }
      caller.on("data", (data) => void (proxy.cut.there || target.write(data)));
      target.on("data", (data) => void (proxy.cut.back || caller.write(data)));
    });
    proxy.port = await freePort();
    await new Promise<void>((resolve) => server.listen(proxy.port, "127.0.0.1", resolve));
    proxy.#close = () => server.close();
    return proxy;
  }

  /** Connections break, as when a process ends. */
  reset(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  close(): void {
    this.reset();
    this.#close();
  }
}

interface End {
  peer: Peer;
  links: PeerLinks;
  frames: string[];
  broken: number;
  chunks: (request: CheckpointRequest) => AsyncIterable<WireChunk>;
}

async function two(t: Test, generations = [1, 1]): Promise<{ a: End; b: End; proxy: Proxy }> {
  const ends: End[] = [];
  for (const [i, nodeId] of ["a", "b"].entries()) {
    const peer = { peerId: i + 1, nodeId, address: `127.0.0.1:${await freePort()}` };
    const end: End = { peer, links: null as never, frames: [], broken: 0, chunks: () => [] as never };
    end.links = await openGrpcLinks({
      listen: peer.address,
      identity: await identityOf(nodeId),
      generation: generations[i] ?? 1,
      log: silentLogger,
      events: {
        frame: (_from, payload) => void end.frames.push(new TextDecoder().decode(payload)),
        broken: () => void end.broken++,
        removed: () => undefined,
        checkpoint: (_nodeId, request) => end.chunks(request),
      },
    });
    ends.push(end);
  }
  const [a, b] = ends as [End, End];
  const proxy = await Proxy.to(Number(b.peer.address.split(":")[1]));
  a.links.setPeers([{ ...b.peer, address: `127.0.0.1:${proxy.port}` }], new Set());
  b.links.setPeers([a.peer], new Set());
  t.teardown(async () => {
    proxy.close();
    await Promise.all([a.links.close(), b.links.close()]);
  });
  return { a, b, proxy };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (const endMs = Date.now() + 20_000; !condition();) {
    if (Date.now() > endMs) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/** Sends until one arrives: frames on their way when a link breaks are lost. */
async function getsThrough(from: End, to: End, text: string): Promise<void> {
  const again = setInterval(() => from.links.send(to.peer.peerId, "beat", bytes(text)), 20);
  try {
    await until(() => to.frames.includes(text), text);
  } finally {
    clearInterval(again);
  }
}

t.test("a link that is reset is opened again", async (t) => {
  const { a, b, proxy } = await two(t);
  await getsThrough(a, b, "one");
  proxy.reset();
  await until(() => a.broken > 0, "it is noticed");
  await getsThrough(a, b, "two");
});

for (const direction of ["there", "back"] as const) {
  t.test(`bytes that vanish on the way ${direction} are noticed, though nothing was closed; healed, frames pass again`, async (t) => {
    const { a, b, proxy } = await two(t);
    await getsThrough(a, b, "one");
    const before = a.broken;
    proxy.cut[direction] = true;
    // No frame is sent meanwhile: it is noticed all the same, by keepalive.
    await until(() => a.broken > before, "noticed");
    // The other way round is a link of its own and is not cut.
    await getsThrough(b, a, "other way");
    proxy.cut[direction] = false;
    await getsThrough(a, b, "healed");
  });
}

t.test("a queue that is full drops, and what waits in it is bounded", async (t) => {
  const { a, b, proxy } = await two(t);
  await getsThrough(a, b, "one");
  proxy.cut.there = true;
  const frame = new Uint8Array(4 * 2 ** 20);
  let taken = 0;
  while (taken < 1_000 && a.links.send(b.peer.peerId, "log", frame)) taken++;
  t.ok(taken <= 16, `64 MiB are 16 frames of 4 MiB; ${taken} were taken`);
  t.equal(a.links.send(99, "log", frame), false, "nobody is called so");
});

t.test("nobody of another cluster generation gets a chunk", async (t) => {
  const { a, b } = await two(t, [1, 2]);
  let asked = false;
  b.chunks = () => ((asked = true), [] as never);
  const fetched = a.links.fetchCheckpoint(b.peer.peerId, { id: "c", fromChunk: 0 }, new AbortController().signal);
  await t.rejects(fetched[Symbol.asyncIterator]().next(), /recovered or restored \(generation 2\), and this node is of generation 1/);
  t.notOk(asked);
});

t.test("a checkpoint's link breaks: what was received counts, the rest is asked for", async (t) => {
  const { a, b, proxy } = await two(t);
  const parts = Array.from({ length: 40 }, (_, i) => new Uint8Array(100_000).fill(i));
  let served = 0;
  b.chunks = async function* (request) {
    let crc = parts.slice(0, request.fromChunk).reduce((sum, part) => crc32(part, sum), 0);
    for (let number = request.fromChunk; number < parts.length; number++) {
      crc = crc32(parts[number]!, crc);
      served++;
      yield { id: request.id, number, crc, bytes: parts[number]! };
    }
    yield { id: request.id, number: parts.length, crc, bytes: new Uint8Array(0) };
  };
  const received: number[] = [];
  const signal = new AbortController().signal;
  let fault: unknown = null;
  try {
    for await (const chunk of a.links.fetchCheckpoint(b.peer.peerId, { id: "c", fromChunk: 0 }, signal)) {
      received.push(chunk.number);
      if (chunk.number === 10) proxy.reset();
    }
  } catch (thrown) {
    fault = thrown;
  }
  t.match(fault, { fault: { kind: "unavailable" } });
  const from = received.length;
  t.ok(from >= 11 && from < 41, `${from} chunks`);
  let last: WireChunk | null = null;
  for await (const chunk of a.links.fetchCheckpoint(b.peer.peerId, { id: "c", fromChunk: from }, signal)) {
    received.push(chunk.number);
    last = chunk;
  }
  t.same(
    received,
    Array.from({ length: 41 }, (_, i) => i),
  );
  t.equal(last?.bytes.length, 0);
  t.equal(
    last?.crc,
    parts.reduce((sum, part) => crc32(part, sum), 0),
  );

  // A taker that does not go on reading holds the giver back.
  served = 0;
  b.chunks = async function* (request) {
    for (let number = 0; ; number++) {
      served++;
      yield { id: request.id, number, crc: 1, bytes: parts[0]! };
    }
  };
  const slow = a.links.fetchCheckpoint(b.peer.peerId, { id: "d", fromChunk: 0 }, signal)[Symbol.asyncIterator]();
  await slow.next();
  let before = -1;
  await until(() => {
    const still = served === before;
    before = served;
    return still;
  }, "the giver stops");
  t.ok(served < 400, `${served} chunks of 100 kB are under way at most`);
  await slow.return?.(undefined);
});

t.test("an iteration that is refused says why", async (t) => {
  const { a, b } = await two(t);
  const { RoostError } = await import("../../../src/base/errors.ts");
  b.chunks = () => ({
    [Symbol.asyncIterator]: () => ({
      next: () => Promise.reject(new RoostError({ kind: "not-found", what: "checkpoint", name: "gone" })),
    }),
  });
  const signal = new AbortController().signal;
  const first = a.links.fetchCheckpoint(b.peer.peerId, { id: "gone", fromChunk: 0 }, signal)[Symbol.asyncIterator]().next();
  t.match(await first.catch((thrown: unknown) => thrown), { fault: { kind: "not-found" } });
});
