/** The API's gRPC server against what callers may send: whole calls, half ones, too large ones, other protocols, and leaving early. */
import { mkdtemp, rm } from "node:fs/promises";
import http2 from "node:http2";
import type { ClientHttp2Session, IncomingHttpHeaders } from "node:http2";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import t from "tap";
import { RoostError } from "../../src/base/errors.ts";
import type { CallInfo } from "../../src/base/grpc-call.ts";
import { GrpcServer } from "../../src/base/grpc-server.ts";
import { MAX_REQUEST_BYTES } from "../../src/base/rpc.ts";

type Test = Pick<typeof t, "teardown">;

const raw = { decode: (bytes: Buffer): unknown => bytes, encode: (value: unknown): Uint8Array => value as Uint8Array };
const identity = (bytes: Buffer): Buffer => bytes;

async function serving(test: Test): Promise<{ server: GrpcServer; socket: string; calls: CallInfo[]; taken: Buffer[] }> {
  const folder = await mkdtemp(join(tmpdir(), "roost-grpc-"));
  const socket = join(folder, "s");
  const calls: CallInfo[] = [];
  const taken: Buffer[] = [];
  const server = new GrpcServer({
    admit: ({ path }, headers) =>
      path === "/x/Closed" || headers["who"] === "stranger" ? { code: 16, details: "not you", trailers: { ours: "5" } } : null,
    statusOf: (error) => ({ code: 9, details: error.message, trailers: { "why-bin": Buffer.from("because").toString("base64") } }),
  });
  server.add("/x/Echo", { kind: "unary", ...raw, call: async (request, info) => (calls.push(info), request) });
  server.add("/x/Closed", { kind: "unary", ...raw, call: async (request) => request });
  server.add("/x/Fail", {
    kind: "unary",
    ...raw,
    call: () => Promise.reject(new RoostError({ kind: "precondition", reason: "100 % of “it”" })),
  });
  server.add("/x/Count", {
    kind: "stream",
    ...raw,
    async *call(request, info) {
      calls.push(info);
      for (let i = 0; i < (request as Buffer)[0]!; i++) yield Buffer.alloc(100_000, i);
    },
  });
  server.add("/x/Wait", {
    kind: "stream",
    ...raw,
    async *call(_request, info) {
      calls.push(info);
      yield Buffer.from("begun");
      await new Promise<void>((resolve) => info.signal.addEventListener("abort", () => resolve()));
    },
  });
  server.add("/x/Flood", {
    kind: "stream",
    ...raw,
    takeLimitMs: 50,
    async *call(_request, info) {
      calls.push(info);
      for (;;) yield Buffer.alloc(1_000_000);
    },
  });
  server.add("/x/Intake", {
    kind: "intake",
    maxBytes: 3_000_000,
    open(info) {
      calls.push(info);
      return (message) => {
        taken.push(message);
        return message.toString("latin1", 0, 4) === "stop" ? { code: 9, details: "enough" } : null;
      };
    },
  });
  await server.listenUnix(socket);
  test.teardown(async () => {
    await server.close(0);
    await rm(folder, { recursive: true, force: true });
  });
  return { server, socket, calls, taken };
}

function clientOf(test: Test, socket: string): grpc.Client {
  const client = new grpc.Client(`unix:${socket}`, grpc.credentials.createInsecure(), { "grpc.max_send_message_length": -1 });
  test.teardown(() => client.close());
  return client;
}

function unary(client: grpc.Client, path: string, bytes: Buffer): Promise<Buffer | grpc.ServiceError> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, identity, identity, bytes, (error, answer) => resolve(error ?? answer ?? Buffer.alloc(0)));
  });
}

/** Sends bytes as they are; the status that comes back, from headers or trailers. */
function send(session: ClientHttp2Session, headers: IncomingHttpHeaders, body: Buffer | null): Promise<IncomingHttpHeaders> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", "content-type": "application/grpc", te: "trailers", ...headers });
    let all: IncomingHttpHeaders = {};
    stream.on("response", (got) => (all = { ...all, ...got }));
    stream.on("trailers", (got) => (all = { ...all, ...got }));
    stream.on("close", () => resolve(all));
    stream.on("error", reject);
    stream.resume();
    if (body === null) stream.end();
    else stream.end(body);
  });
}

t.test("unary calls come back, empty ones too, and large ones in pieces", async (t) => {
  const { socket } = await serving(t);
  const client = clientOf(t, socket);
  for (const bytes of [Buffer.alloc(0), Buffer.from("a"), Buffer.alloc(MAX_REQUEST_BYTES, 7)]) {
    const answer = await unary(client, "/x/Echo", bytes);
    t.ok(Buffer.isBuffer(answer) && answer.equals(bytes), `${bytes.length} bytes`);
  }
  const many = await Promise.all(Array.from({ length: 500 }, (_, i) => unary(client, "/x/Echo", Buffer.from(String(i)))));
  t.same(
    many.map(String),
    Array.from({ length: 500 }, (_, i) => String(i)),
  );
});

t.test("refusals carry their status, words and trailers", async (t) => {
  const { socket } = await serving(t);
  const client = clientOf(t, socket);
  const failed = (await unary(client, "/x/Fail", Buffer.alloc(0))) as grpc.ServiceError;
  t.equal(failed.code, 9);
  t.equal(failed.details, "100 % of “it”");
  t.same(failed.metadata.get("why-bin"), [Buffer.from("because")]);
  t.match(await unary(client, "/x/Closed", Buffer.alloc(100)), { code: 16, details: "not you" });
  t.match(await unary(client, "/x/None", Buffer.alloc(0)), { code: grpc.status.UNIMPLEMENTED });
  t.match(await unary(client, "/x/Echo", Buffer.alloc(MAX_REQUEST_BYTES + 1)), {
    code: grpc.status.RESOURCE_EXHAUSTED,
    details: /is too large: at most/,
  });
});

t.test("what is no whole call of gRPC is answered as such, and the connection goes on", async (t) => {
  const { socket } = await serving(t);
  const session = http2.connect("http://x", { createConnection: () => connect(socket) });
  t.teardown(() => session.destroy());
  const path = { ":path": "/x/Echo" };
  t.match(await send(session, { ...path, "content-type": "application/json" }, Buffer.from("{}")), { ":status": 415 });
  t.match(await send(session, { ":path": "/x/Echo", ":method": "GET" }, null), { ":status": 415 });
  t.match(await send(session, path, null), { "grpc-status": "13" }, "no message");
  t.match(await send(session, path, Buffer.from([0, 0, 0, 0, 9, 1])), { "grpc-status": "13" }, "half a message");
  t.match(await send(session, path, Buffer.from([1, 0, 0, 0, 0])), { "grpc-status": "12" }, "a compressed message");
  t.match(await send(session, path, Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), { "grpc-status": "12" }, "two messages");
  t.match(await send(session, path, Buffer.from([0, 0, 0, 0, 1, 65])), { ":status": 200, "grpc-status": "0" });
});

t.test("streams come whole at the caller's pace, and end with its patience", async (t) => {
  const { socket, calls } = await serving(t);
  const client = clientOf(t, socket);
  const got: Buffer[] = [];
  for await (const chunk of client.makeServerStreamRequest("/x/Count", identity, identity, Buffer.from([50]))) got.push(chunk as Buffer);
  t.same(
    got.map((chunk) => [chunk.length, chunk[0]]),
    Array.from({ length: 50 }, (_, i) => [100_000, i]),
  );

  const late = client.makeServerStreamRequest("/x/Wait", identity, identity, Buffer.alloc(0), { deadline: Date.now() + 200 });
  const code = await new Promise((resolve) => {
    late.on("data", () => {});
    late.on("error", (error: grpc.ServiceError) => resolve(error.code));
  });
  t.equal(code, grpc.status.DEADLINE_EXCEEDED);

  const left = client.makeServerStreamRequest("/x/Wait", identity, identity, Buffer.alloc(0));
  left.on("error", () => {});
  await new Promise((resolve) => left.once("data", resolve));
  const info = calls.at(-1)!;
  const gone = new Promise<void>((resolve) => info.signal.addEventListener("abort", () => resolve()));
  left.cancel();
  await gone;
  t.equal(info.signal.aborted, true, "who leaves is noticed");
});

t.test("who reads nothing of a stream with a limit is cut off", async (t) => {
  const { socket, calls } = await serving(t);
  const session = http2.connect("http://x", { createConnection: () => connect(socket) });
  t.teardown(() => session.destroy());
  // Nothing is read of a stream before somebody listens for data: the server has no more than its window to send.
  const flood = session.request({ ":path": "/x/Flood", ":method": "POST", "content-type": "application/grpc" });
  flood.on("error", () => {});
  flood.end(Buffer.alloc(5));
  while (calls.length === 0) await new Promise((resolve) => setImmediate(resolve));
  const info = calls[0]!;
  if (!info.signal.aborted) await new Promise((resolve) => info.signal.addEventListener("abort", resolve));
  t.ok(info.signal.aborted);
});

t.test("a stream of requests: whole messages in order whatever they come in, until one side ends it", async (t) => {
  const { socket, taken } = await serving(t);
  const client = clientOf(t, socket);
  const open = (metadata = new grpc.Metadata()): { call: grpc.ClientWritableStream<Buffer>; ended: Promise<grpc.StatusObject> } => {
    const call = client.makeClientStreamRequest("/x/Intake", identity, identity, metadata, () => {});
    call.on("error", () => {});
    return { call, ended: new Promise((resolve) => call.once("status", resolve)) };
  };
  const sizes = [0, 1, 70_000, 5, 3_000_000, 2, 0, 16_384, 9];
  const first = open();
  for (const [i, size] of sizes.entries()) first.call.write(Buffer.alloc(size, i));
  first.call.end();
  t.equal((await first.ended).code, grpc.status.OK);
  t.same(
    taken.map((message) => message.length),
    sizes,
  );
  t.ok(taken.every((message, i) => message.every((byte) => byte === i)));

  taken.length = 0;
  const second = open();
  second.call.write(Buffer.from("go"));
  second.call.write(Buffer.from("stop"));
  second.call.write(Buffer.from("lost"));
  t.match(await second.ended, { code: 9, details: "enough" });
  t.same(taken.map(String), ["go", "stop"], "nothing after the end");

  const third = open();
  third.call.write(Buffer.alloc(3_000_001));
  t.match(await third.ended, { code: grpc.status.RESOURCE_EXHAUSTED });

  const stranger = new grpc.Metadata();
  stranger.set("who", "stranger");
  const refused = await open(stranger).ended;
  t.match(refused, { code: 16, details: "not you" });
  t.same(refused.metadata.get("ours"), ["5"]);
  t.equal(taken.length, 2);
});
