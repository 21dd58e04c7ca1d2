/** A cluster in memory with one or more ready nodes, and the API's context over it. */
import { newId, newSecret } from "../../src/base/ids.ts";
import { createClient } from "../../src/base/rpc-client.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { Identity } from "../../src/api/auth.ts";
import type { CallContext, FencingHook, ServerContext } from "../../src/api/context.ts";
import { chainOf, createCa, createKeyAndRequest, issue } from "../../src/cluster/certificates.ts";
import type { Ca } from "../../src/cluster/certificates.ts";
import { freeze } from "../../src/cluster/digest.ts";
import { MemoryStore } from "./memory-store.ts";
import type { TlsIdentity } from "../../src/base/rpc.ts";
import type { Inspection } from "../../src/model/doctor.ts";
import type { NodeInfo } from "../../src/model/node.ts";

/** 2048 MiB, of which 256 are the node's own: 1792 MiB for VMs. */
export function nodeInfo(changes: Partial<NodeInfo> = {}): NodeInfo {
  return {
    bootId: "boot-1",
    version: "0.1.0",
    driver: "simulated",
    hypervisor: "simulated 1.0",
    arch: "x86_64",
    hardwareAccelerated: false,
    cpus: 4,
    cpuModel: "test",
    memoryMib: 2048,
    reserveMib: 256,
    guardian: "test",
    pools: [],
    bridges: ["br0"],
    ...changes,
  };
}

export interface TestCluster {
  store: MemoryStore;
  ca: Ca;
  clusterId: string;
  /** Ids of n1, n2, … */
  nodeIds: string[];
  stops: { parkMs: number; actor: string }[];
  /** What nodes answer when they are asked what is there; nothing by default. */
  inspections: Map<string, Inspection>;
  /** What power devices say: all on unless a test says otherwise. */
  fencing: FencingHook;
  server: ServerContext;
  /** A call's context for somebody; the local root by default. */
  as(identity?: Identity): CallContext;
  /** TLS files of a node or user, signed by this cluster's CA. */
  identity(subject: Parameters<typeof issue>[2]["subject"], ttlMs?: number): Promise<TlsIdentity>;
}

function nothing(nodeId: string): Inspection {
  return {
    nodeId,
    domains: [],
    hypervisorProblem: "",
    registrations: [],
    keeperProblem: "",
    volumes: [],
    missingPools: [],
    sessions: 0,
  };
}

/** `id` mints every id of the cluster; golden files pass one that counts. */
export async function testCluster(nodes = 1, id: () => string = newId): Promise<TestCluster> {
  const clusterId = id();
  const nodeIds = Array.from({ length: nodes }, id);
  const first = nodeIds[0] ?? "";
  const store = new MemoryStore(first);
  const ca = await createCa({ clusterId, nowMs: Date.now(), serial: newSecret(16) });
  const joining = (
    i: number,
  ): { id: string; name: string; zone: string; labels: Record<string, string>; apiAddress: string; peerAddress: string } => ({
    id: nodeIds[i] ?? "",
    name: `n${i + 1}`,
    zone: "",
    labels: {},
    apiAddress: `10.0.0.${i + 1}:7710`,
    peerAddress: `10.0.0.${i + 1}:7711`,
  });
  await store.propose(
    { type: "cluster.init", clusterId, name: "lab", caCertificate: ca.certificatePem, caKey: ca.keyPem, node: joining(0) },
    { actor: "user:root@n1" },
  );
  for (let i = 0; i < nodes; i++) {
    const nodeId = nodeIds[i] ?? "";
    if (i > 0) {
      await store.propose({ type: "token.create", id: `token-${i}`, secretHash: "x", ttlMs: 1000, uses: 1 }, { actor: "test" });
      await store.propose({ type: "node.join", tokenId: `token-${i}`, secretHash: "x", node: joining(i) }, { actor: "test" });
      await store.propose({ type: "node.join-confirm", nodeId }, { actor: `node:${nodeId}` });
    }
    store.origin = nodeId;
    await store.propose(
      {
        type: "node.hello",
        nodeId,
        info: nodeInfo(),
        parkRevision: 0,
        apiAddress: joining(i).apiAddress,
        peerAddress: joining(i).peerAddress,
      },
      { actor: `node:${nodeId}` },
    );
    store.origin = first;
  }
  const stops: TestCluster["stops"] = [];
  const inspections: TestCluster["inspections"] = new Map();
  const fencing: TestCluster["fencing"] = { faults: () => Promise.resolve([]), power: () => Promise.resolve("on") };
  const server: ServerContext = {
    store,
    nodeId: first,
    arch: "x86_64",
    nowMs: () => Date.now(),
    newId: id,
    newSecret,
    log: silentLogger,
    hooks: {
      lastEntry: async () => ({ lastIndex: store.state.index, lastTerm: store.state.term }),
      leftOut: () => null,
      fencing: { faults: (...asked) => fencing.faults(...asked), power: (...asked) => fencing.power(...asked) },
      runs: () => Promise.resolve({ runs: [], sinceMs: 0, lost: 0 }),
      nodeClient: () => createClient({ endpoints: ["/nowhere.sock"] }),
      freeze: () => freeze(store.state),
      inspect: async () => inspections.get(first) ?? nothing(first),
      inspectOther: async (apiAddress) => {
        const id = nodeIds[Number(apiAddress.split(":")[0]?.split(".")[3]) - 1] ?? "";
        const found = inspections.get(id) ?? nothing(id);
        return { ...found, missingPools: found.missingPools.map(({ poolId, ...pool }) => ({ name: poolId, ...pool })), revision: 0 };
      },
      immigrate: () => {},
      stopAgent: async (request) => void stops.push(request),
    },
  };
  return {
    store,
    ca,
    clusterId,
    nodeIds,
    stops,
    inspections,
    fencing,
    server,
    as: (identity = { kind: "user", name: "root@n1" }) => ({
      ...server,
      identity,
      deadlineMs: Infinity,
      signal: new AbortController().signal,
    }),
    async identity(subject, ttlMs = 3_600_000) {
      const { keyPem, requestPem } = await createKeyAndRequest();
      const cert = await issue(ca, requestPem, { subject, names: ["127.0.0.1"], nowMs: Date.now(), ttlMs, serial: newSecret(16) });
      return { ca: ca.certificatePem, cert: chainOf(cert, ca.certificatePem), key: keyPem };
    },
  };
}
