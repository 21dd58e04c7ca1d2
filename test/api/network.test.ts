import { statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import grpc from "@grpc/grpc-js";
import t from "tap";
import { startApi } from "../../src/api/server.ts";
import type { ApiServer } from "../../src/api/server.ts";
import { RoostError } from "../../src/base/errors.ts";
import type { Fault } from "../../src/base/errors.ts";
import { createClient } from "../../src/base/rpc-client.ts";
import { packageDefinition, services } from "../../src/base/rpc.ts";
import { confirmJoin, joinCluster } from "../../src/cluster/join.ts";
import { formatToken, parseToken } from "../../src/cluster/tokens.ts";
import { testCluster } from "../support/api.ts";
import type { TestCluster } from "../support/api.ts";

const LIMITS = { timeoutMs: 5_000 };

async function started(
  test: Pick<typeof t, "teardown">,
): Promise<{ cluster: TestCluster; api: ApiServer; address: string; socket: string }> {
  const cluster = await testCluster(1);
  const folder = await mkdtemp(join(tmpdir(), "roost-api-"));
  const socket = join(folder, "roost.sock");
  const identity = await cluster.identity({ kind: "node", nodeId: cluster.nodeIds[0] ?? "" });
  const api = await startApi(cluster.server, { socketPath: socket, tls: { address: "127.0.0.1:0", identity } });
  test.teardown(async () => {
    await api.close(0);
    await rm(folder, { recursive: true, force: true });
  });
  return { cluster, api, address: `127.0.0.1:${api.port}`, socket };
}

async function faultOf(call: Promise<unknown>): Promise<Fault> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RoostError) return error.fault;
    throw error;
  }
  throw new Error("the call succeeded, but must not");
}

t.test("the socket is private and its caller is the local admin", async (t) => {
  const { socket, cluster } = await started(t);
  t.equal(statSync(socket).mode & 0o777, 0o600, "only the owner may connect");
  const client = createClient({ endpoints: [socket] });
  t.teardown(() => client.close());
  const answer = await client.call("ClusterService", "GetCluster", {}, LIMITS);
  t.equal(answer.id, cluster.clusterId);
  t.equal(answer.read?.linearizable, true);
  await client.call("ClusterService", "CreateToken", {}, LIMITS);
  const { tokens } = await client.call("ClusterService", "ListTokens", {}, LIMITS);
  t.equal(tokens[0]?.createdBy, "user:root@n1");
});

t.test("a second daemon on the same socket is refused; a socket left behind is replaced", async (t) => {
  const { socket, cluster, api } = await started(t);
  const fault = await faultOf(startApi(cluster.server, { socketPath: socket, tls: null }));
  t.match(fault, { kind: "precondition", reason: /another roost daemon/ });
  await api.close(0);
  const again = await startApi(cluster.server, { socketPath: socket, tls: null });
  await again.close(0);
});

t.test("without a certificate every method but Join is refused", async (t) => {
  const { cluster, address } = await started(t);
  const bare = grpc.credentials.createSsl(Buffer.from(cluster.ca.certificatePem));
  const client = new grpc.Client(address, bare, { "grpc.ssl_target_name_override": "roost" });
  t.teardown(() => client.close());
  const all = Object.entries(packageDefinition).filter(([name]) => /^roost\.v1\.(?:\w+Service|Bench)$/.test(name));
  const paths = all.flatMap(([, service]) => Object.values(service).map((method: { path: string }) => method.path));
  paths.push("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
  t.ok(paths.length > 25, "all services are looked at");
  for (const path of paths) {
    const code = await new Promise<number>((resolve) => {
      const raw = (bytes: Buffer): Buffer => bytes;
      client.makeUnaryRequest(path, raw, raw, Buffer.alloc(0), new grpc.Metadata(), { deadline: Date.now() + 5_000 }, (error) =>
        resolve(error?.code ?? 0),
      );
    });
    const expected = path.endsWith("/Join") ? grpc.status.INVALID_ARGUMENT : grpc.status.UNAUTHENTICATED;
    t.equal(code, expected, path);
  }
});

t.test("a certificate of another CA is no certificate, however its owner insists", async (t) => {
  const { address, cluster } = await started(t);
  const other = await testCluster(1);
  for (const subject of [{ kind: "user", name: "root@n1" } as const, { kind: "node", nodeId: cluster.nodeIds[0] ?? "" } as const]) {
    const foreign = await other.identity(subject);
    const client = createClient({ endpoints: [address], tls: { ca: cluster.ca.certificatePem, cert: foreign.cert, key: foreign.key } });
    t.match(
      await faultOf(client.call("VmService", "ListVms", {}, LIMITS)),
      { kind: "denied", reason: /needs a certificate/ },
      subject.kind,
    );
    client.close();
  }
});

t.test("an expired certificate is refused", async (t) => {
  const { address, cluster } = await started(t);
  // Certificates are dated back ten minutes; this one ended five minutes ago.
  const expired = await cluster.identity({ kind: "user", name: "old" }, -5 * 60_000);
  const client = createClient({ endpoints: [address], tls: expired });
  t.teardown(() => client.close());
  t.match(await faultOf(client.call("VmService", "ListVms", {}, LIMITS)), { kind: "denied" });
});

t.test("a resumed session without a certificate stays without one", async (t) => {
  const { api, cluster } = await started(t);
  const options = { host: "127.0.0.1", port: api.port, servername: "roost", ca: cluster.ca.certificatePem, ALPNProtocols: ["h2"] };
  const session = await new Promise<Buffer | null>((resolve) => {
    const socket = connectTls(options);
    socket.once("session", (bytes) => {
      socket.destroy();
      resolve(bytes);
    });
    // A server that gives no tickets cannot be resumed, which is safe as well.
    socket.setTimeout(1_500, () => (socket.destroy(), resolve(null)));
    socket.once("error", () => resolve(null));
    // An HTTP/2 preface makes the server speak, and tickets come with the first bytes.
    socket.once("secureConnect", () => socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"));
  });
  if (session === null) return t.pass("no session to resume");
  const { connect } = await import("node:http2");
  const client = connect(`https://127.0.0.1:${api.port}`, { createConnection: () => connectTls({ ...options, session }) });
  const status = await new Promise<string>((resolve, reject) => {
    client.once("error", reject);
    const stream = client.request({
      ":method": "POST",
      ":path": "/roost.v1.VmService/ListVms",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("response", (headers) => headers["grpc-status"] !== undefined && resolve(String(headers["grpc-status"])));
    stream.on("trailers", (headers) => resolve(String(headers["grpc-status"])));
    stream.end(Buffer.alloc(5));
    stream.resume();
  });
  client.destroy();
  t.equal(Number(status), grpc.status.UNAUTHENTICATED);
});

t.test("a node speaks as that node only", async (t) => {
  const { address, cluster } = await started(t);
  const nodeId = cluster.nodeIds[0] ?? "";
  const client = createClient({ endpoints: [address], tls: await cluster.identity({ kind: "node", nodeId }) });
  t.teardown(() => client.close());
  await client.call("NodeService", "ListNodes", {}, LIMITS);
  t.match(await faultOf(client.call("ClusterService", "CreateToken", {}, LIMITS)), {
    kind: "denied",
    reason: /node's certificate may not call/,
  });
  t.match(await faultOf(client.call("VmService", "CreateVm", {}, LIMITS)), { kind: "denied" });
  t.match(await faultOf(client.call("NodeService", "StopAgent", {}, LIMITS)), { kind: "denied" });
  t.match(await faultOf(client.call("ClusterService", "ConfirmJoin", { nodeId: "another" }, LIMITS)), {
    kind: "denied",
    reason: /only node another itself/,
  });
});

t.test("a user's certificate cannot serve as a node", async (t) => {
  const cluster = await testCluster(1);
  const api = await startApi(cluster.server, {
    socketPath: null,
    tls: { address: "127.0.0.1:0", identity: await cluster.identity({ kind: "user", name: "mallory" }) },
  });
  t.teardown(() => api.close(0));
  const client = createClient({ endpoints: [`127.0.0.1:${api.port}`], tls: await cluster.identity({ kind: "user", name: "alice" }) });
  t.teardown(() => client.close());
  t.match(await faultOf(client.call("VmService", "ListVms", {}, LIMITS)), { kind: "unavailable" });
});

t.test("a user calls over TLS; faults arrive whole", async (t) => {
  const { address, cluster } = await started(t);
  const client = createClient({ endpoints: ["127.0.0.1:1", address], tls: await cluster.identity({ kind: "user", name: "alice" }) });
  t.teardown(() => client.close());
  const { vms } = await client.call("VmService", "CreateVm", { definitions: [{ name: "web", cpus: 1, memoryMib: 128 }] }, LIMITS);
  t.equal(vms[0]?.name, "web", "the dead endpoint is passed over");
  const fault = await faultOf(client.call("VmService", "CreateVm", { definitions: [{ name: "Web", cpus: 0, memoryMib: 128 }] }, LIMITS));
  t.match(fault, { kind: "invalid", violations: [{ field: "name" }, { field: "cpus" }] });
  t.match(await faultOf(client.call("VmService", "GetVm", { vm: "wob" }, LIMITS)), { kind: "not-found", what: "vm", name: "wob" });
});

t.test("join: token to identity, confirmed by the node itself, one use", async (t) => {
  const { cluster, socket, address } = await started(t);
  const local = createClient({ endpoints: [socket] });
  t.teardown(() => local.close());
  const { token, info } = await local.call("ClusterService", "CreateToken", {}, LIMITS);
  t.match(cluster.store.view().tokens.get(info?.id ?? "")?.secretHash, /^[0-9a-f]{64}$/, "only a hash is kept");
  const dialled = formatToken({ ...parseToken(token), addresses: [address] });
  const options = {
    name: "n2",
    apiAddress: "10.0.0.2:7710",
    peerAddress: "10.0.0.2:7711",
    zone: "",
    labels: { rack: "a" },
    requestId: "join-1@000001000000",
    timeoutMs: 5_000,
  };
  const me = await joinCluster(dialled, options);
  t.equal(cluster.store.view().nodes.get(me.nodeId)?.state, "joining");
  t.equal(me.peerId, 2);
  t.equal(me.clusterId, cluster.clusterId);
  t.same(
    me.peers.map((peer) => peer.nodeId),
    cluster.nodeIds,
  );
  const again = await joinCluster(dialled, options);
  t.equal(again.nodeId, me.nodeId, "the same request is the same join");
  t.match(
    await faultOf(joinCluster(dialled, { ...options, name: "n3", requestId: "join-2@000001000000" })),
    { kind: /denied|precondition|not-found/ },
    "one use",
  );
  await confirmJoin(me, LIMITS);
  t.not(cluster.store.view().nodes.get(me.nodeId)?.state, "removed");
  const asNode = createClient({ endpoints: [address], tls: me.tls });
  t.teardown(() => asNode.close());
  const { nodes } = await asNode.call("NodeService", "ListNodes", {}, LIMITS);
  t.same(
    nodes.map((node) => node.name),
    ["n1", "n2"],
  );
});

t.test("join: a wrong fingerprint, a wrong secret, nobody there", async (t) => {
  const { cluster, socket, address } = await started(t);
  const local = createClient({ endpoints: [socket] });
  t.teardown(() => local.close());
  const { token } = await local.call("ClusterService", "CreateToken", {}, LIMITS);
  const parts = { ...parseToken(token), addresses: [address] };
  const options = {
    name: "n2",
    apiAddress: "10.0.0.2:7710",
    peerAddress: "10.0.0.2:7711",
    zone: "",
    labels: {},
    requestId: "j@000001000000",
    timeoutMs: 5_000,
  };
  t.match(await faultOf(joinCluster(formatToken({ ...parts, caFingerprint: "0".repeat(64) }), options)), {
    kind: "denied",
    reason: /another fingerprint/,
  });
  t.match(await faultOf(joinCluster(formatToken({ ...parts, secret: "guess" }), options)), { kind: "denied" });
  t.match(await faultOf(joinCluster(formatToken({ ...parts, addresses: ["127.0.0.1:1"] }), options)), {
    kind: "unavailable",
    reason: /127\.0\.0\.1:1/,
  });
  t.match(await faultOf(joinCluster("roost1.xxxx", options)), { kind: "invalid" });
  t.equal(cluster.store.view().nodes.size, 1, "nothing is left behind");
});

t.test("reflection lists the public services and not the internal one; health answers", async (t) => {
  const { socket } = await started(t);
  const { ReflectionService } = await import("@grpc/reflection");
  t.ok(ReflectionService);
  const client = new grpc.Client(`unix:${socket}`, grpc.credentials.createInsecure());
  t.teardown(() => client.close());
  const { healthDefinition } = await import("../../src/api/standard.ts");
  const check = healthDefinition["Check"] as unknown as {
    path: string;
    requestSerialize: (value: object) => Buffer;
    responseDeserialize: (bytes: Buffer) => object;
  };
  const status = await new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      check.path,
      check.requestSerialize,
      check.responseDeserialize,
      { service: "roost.v1.VmService" },
      (error, answer) => (error === null ? resolve(answer) : reject(error)),
    );
  });
  t.match(status, { status: "SERVING" });
  // list_services = 7, a text: tag 0x3a, length 1, "*".
  const raw = (bytes: Buffer): Buffer => bytes;
  for (const version of ["v1", "v1alpha"]) {
    const stream = client.makeBidiStreamRequest(`/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`, raw, raw);
    stream.write(Buffer.from([0x3a, 1, 0x2a]));
    const [answer] = (await new Promise((resolve, reject) => {
      const parts: Buffer[] = [];
      stream.on("data", (bytes: Buffer) => (parts.push(bytes), stream.end()));
      stream.on("end", () => resolve(parts));
      stream.on("error", reject);
    })) as Buffer[];
    const text = answer?.toString("latin1") ?? "";
    for (const name of Object.keys(services.v1).filter((key) => key.endsWith("Service") || key === "Bench"))
      t.match(text, `roost.v1.${name}`, version);
    t.notMatch(text, /roost\.internal/);
  }
});
