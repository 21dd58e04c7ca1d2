/** How a data folder gets its identity, and what is refused. The running daemon: test/e2e and test/lab. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { X509Certificate } from "node:crypto";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { startApi } from "../../src/api/server.ts";
import { resolveConfig, type ConfigKey, type NodeConfig } from "../../src/base/config.ts";
import { asRoostError, type RoostError } from "../../src/base/errors.ts";
import { createClient } from "../../src/base/rpc-client.ts";
import { fingerprint } from "../../src/cluster/certificates.ts";
import { formatToken, hashSecret } from "../../src/cluster/tokens.ts";
import { foundCluster, joinByToken } from "../../src/cluster/found.ts";
import { saveIdentity } from "../../src/cluster/identity.ts";
import { daemon, joinWith, up } from "../../src/daemon/up.ts";
import { testCluster } from "../support/api.ts";

const root = await mkdtemp(join(tmpdir(), "roost-up-"));
t.teardown(() => rm(root, { recursive: true, force: true }));
let folders = 0;
const folder = (): string => join(root, `${++folders}`);
const config = (flags: Partial<Record<ConfigKey, string>> = {}): NodeConfig => resolveConfig({ env: {}, flags }).values;
const start = (data: string) => ({ flags: { data, driver: "simulated", guardian: "none" }, configFile: null, foreground: true });
const refusal = (call: Promise<unknown>): Promise<RoostError | null> =>
  call.then(
    () => null,
    (thrown: unknown) => asRoostError(thrown),
  );

t.test("a founded cluster: its own CA, peer 1, addresses others can dial", async (t) => {
  const made = await foundCluster(
    config({ name: "n1", listen: "127.0.0.1:7000", zone: "z", labels: "rack=1,disk=nvme" }),
    "lab",
    Date.now(),
  );
  t.match(made, {
    name: "n1",
    zone: "z",
    clusterName: "lab",
    peerId: 1,
    labels: { rack: "1", disk: "nvme" },
    apiListen: "127.0.0.1:7000",
    peerListen: "127.0.0.1:7001",
    apiAddress: "127.0.0.1:7000",
    peerAddress: "127.0.0.1:7001",
    peers: [{ peerId: 1, nodeId: made.nodeId, address: "127.0.0.1:7001" }],
    founding: { caKey: /PRIVATE KEY/ },
  });
  const certificate = new X509Certificate(made.tls.cert);
  t.equal(certificate.subject, `CN=node:${made.nodeId}`);
  t.ok(certificate.checkIssued(new X509Certificate(made.tls.ca)));
  t.not(made.nodeId, (await foundCluster(config({ name: "n1" }), null, Date.now())).nodeId);

  const wild = await foundCluster(config({ name: "n1", listen: "0.0.0.0:7000", advertise: "node.example:8000" }), null, Date.now());
  t.match(wild, { apiListen: "0.0.0.0:7000", apiAddress: "node.example:8000", peerAddress: "node.example:8001", clusterName: "roost" });
  const six = await foundCluster(config({ name: "n1", listen: "[::1]:7000" }), null, Date.now());
  t.match(six, { apiListen: "[::1]:7000", peerAddress: "[::1]:7001" });
  const named = await refusal(foundCluster(config({ name: "" }), null, Date.now()));
  const label = (hostname().split(".")[0] ?? "").toLowerCase();
  if (named === null) t.match(label, /^[a-z0-9-]+$/, "the host's name is one");
  else t.match(named.fault, { kind: "invalid", violations: [{ field: "--name" }] });
});

t.test("half of a node is neither founded over nor joined with", async (t) => {
  for (const left of ["state", "raft"]) {
    const data = folder();
    await mkdir(join(data, left), { recursive: true });
    const expected = {
      fault: { kind: "precondition", reason: new RegExp(`${left} exists, but no identity.json`) },
      hint: /empty --data folder/,
    };
    t.match(await refusal(up({ ...start(data), clusterName: null })), expected, `up over ${left}`);
    t.match(await refusal(joinWith("roost1.x", start(data))), expected, `join over ${left}`);
    t.same(await readdir(data), [left], "as it was");
  }
});

t.test("a folder that is a node's joins nothing else, and one that is none starts nothing", async (t) => {
  const data = folder();
  await saveIdentity(data, await foundCluster(config({ name: "n7" }), null, Date.now()));
  const before = await readFile(join(data, "identity.json"), "utf8");
  t.match(await refusal(joinWith("roost1.x", start(data))), {
    fault: { kind: "precondition", reason: /data folder of node n7/ },
    hint: /roost up/,
  });
  t.equal(await readFile(join(data, "identity.json"), "utf8"), before);

  const empty = folder();
  t.match(await refusal(daemon(start(empty))), { fault: { kind: "precondition", reason: /holds no node/ }, hint: /roost join TOKEN/ });
});

t.test("a damaged identity stops up", async (t) => {
  const data = folder();
  await mkdir(data);
  await writeFile(join(data, "identity.json"), "null");
  t.match(await refusal(up({ ...start(data), clusterName: null })), { fault: { kind: "damaged" } });
});

t.test("joining", async (t) => {
  const cluster = await testCluster(1);
  // A joining node's request says when it was made, by the real clock.
  cluster.store.nowMs = Date.now();
  const identity = await cluster.identity({ kind: "node", nodeId: cluster.nodeIds[0]! });
  const socketPath = join(root, "api.sock");
  const api = await startApi(cluster.server, { socketPath, tls: { address: "127.0.0.1:0", identity } });
  t.teardown(() => api.close(0));
  const address = `127.0.0.1:${api.port}`;
  const secret = "secret";
  const token = (changes: { secret?: string; caFingerprint?: string; addresses?: string[] } = {}): string =>
    formatToken({ id: "t", secret, caFingerprint: fingerprint(cluster.ca.certificatePem), addresses: [address], ...changes });
  await cluster.store.propose({ type: "token.create", id: "t", secretHash: hashSecret(secret), ttlMs: 60_000, uses: 1 }, { actor: "test" });

  await t.test("a join that fails leaves both sides as they were (CLU-2)", async (t) => {
    for (const [what, text, kind] of [
      ["no token", "hello", "invalid"],
      ["a wrong secret", token({ secret: "other" }), "denied"],
      ["another cluster's address", token({ caFingerprint: "0".repeat(64) }), "denied"],
      ["nobody there", token({ addresses: ["127.0.0.1:1"] }), "unavailable"],
    ] as const) {
      const data = folder();
      t.equal((await refusal(joinWith(text, { ...start(data), flags: { ...start(data).flags, name: "n2" } })))?.fault.kind, kind, what);
      t.same(await readdir(data).catch(() => []), [], `${what}: nothing is written`);
    }
    t.equal(cluster.store.view().nodes.size, 1);
    t.equal(cluster.store.view().tokens.get("t")?.usesLeft, 1);
  });

  await t.test("a node that was let in has an identity of its own, and is none of the cluster before it confirms", async (t) => {
    const made = await joinByToken(config({ name: "n2", listen: "127.0.0.1:7100" }), token());
    t.match(made, {
      clusterId: cluster.clusterId,
      peerId: 2,
      founding: null,
      peers: [{ peerId: 1, nodeId: cluster.nodeIds[0] }],
      joining: { endpoints: [address] },
    });
    t.equal(new X509Certificate(made.tls.cert).subject, `CN=node:${made.nodeId}`);
    const row = (): unknown => cluster.store.view().nodes.get(made.nodeId);
    t.match(row(), { state: "joining", role: "none", apiAddress: "127.0.0.1:7100" });
    const client = createClient({ endpoints: [address], tls: made.tls });
    t.teardown(() => client.close());
    await client.call("ClusterService", "ConfirmJoin", { nodeId: made.nodeId }, { timeoutMs: 5_000 });
    t.match(row(), { role: "follower" });
    t.match(
      (await refusal(joinByToken(config({ name: "n3", listen: "127.0.0.1:7200" }), token())))?.fault,
      { kind: "denied" },
      "the token had one use",
    );
  });
});
