/** Real replicas in one test process: each with its consensus thread, LevelDB folders and mutual TLS on loopback. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import { systemClock } from "../../src/base/clock.ts";
import { newId, newSecret } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { TlsIdentity } from "../../src/base/rpc.ts";
import { startWorker } from "../../src/base/worker.ts";
import { type Ca, chainOf, createCa, createKeyAndRequest, issue, NODE_TTL_MS } from "../../src/cluster/certificates.ts";
import { consensusPort } from "../../src/cluster/consensus/port.ts";
import type { ConsensusConfig } from "../../src/cluster/consensus/protocol.ts";
import { joiningService } from "../../src/cluster/joining.ts";
import { runWhileLeading } from "../../src/cluster/leadership.ts";
import { Replica } from "../../src/cluster/replica.ts";
import { StateDb } from "../../src/cluster/state-db.ts";
import { firstMembership } from "../../src/model/membership.ts";
import type { NodeInfo } from "../../src/model/node.ts";
import { readCheckpointFile } from "../../src/raft/transport/checkpoint-file.ts";
import type { Peer } from "../../src/raft/transport/links.ts";

export interface TestNode {
  id: string;
  name: string;
  peerId: number;
  address: string;
  folder: string;
  identity: TlsIdentity;
  replica: Replica;
  worker: Worker;
  /** As kill -9 would: the thread ends at once, nothing is flushed. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

export class TestCluster {
  readonly nodes: TestNode[] = [];
  readonly #root: string;
  readonly #ca: Ca;
  readonly #clusterId = newId();

  /** Of n1: it sends heartbeats through the keeper there. */
  readonly #keeperDataDir: string | null;

  private constructor(root: string, ca: Ca, keeperDataDir: string | null) {
    this.#keeperDataDir = keeperDataDir;
    this.#root = root;
    this.#ca = ca;
  }

  static async create(count: number, options: { keeperDataDir?: string } = {}): Promise<TestCluster> {
    const root = await mkdtemp(join(tmpdir(), "roost-replicas-"));
    const ca = await createCa({ clusterId: "test", nowMs: Date.now(), serial: newSecret(16) });
    const cluster = new TestCluster(root, ca, options.keeperDataDir ?? null);
    await cluster.#bootstrap();
    for (let i = 2; i <= count; i++) await cluster.join();
    return cluster;
  }

  async #bootstrap(): Promise<void> {
    const node = await this.#start({
      name: "n1",
      id: newId(),
      peerId: 1,
      address: `127.0.0.1:${await freePort()}`,
      peers: [],
      bootstrap: true,
    });
    await node.replica.propose(
      {
        type: "cluster.init",
        clusterId: this.#clusterId,
        name: "test",
        caCertificate: this.#ca.certificatePem,
        caKey: this.#ca.keyPem,
        node: { id: node.id, name: "n1", zone: "", labels: {}, apiAddress: "127.0.0.1:1", peerAddress: node.address },
      },
      { actor: "test" },
    );
    await sayHello(node);
  }

  /** Lets one more node in; resolves when its state has its own row. */
  async join(): Promise<TestNode> {
    const name = `n${this.nodes.length + 1}`;
    const first = this.nodes[0]!.replica;
    const id = newId();
    const address = `127.0.0.1:${await freePort()}`;
    const token = newId();
    await first.propose({ type: "token.create", id: token, secretHash: "hash", ttlMs: 60_000, uses: 1 }, { actor: "test" });
    const { peerId } = await first.propose(
      {
        type: "node.join",
        tokenId: token,
        secretHash: "hash",
        node: { id, name, zone: "", labels: {}, apiAddress: `127.0.0.1:${peerlessPort(name)}`, peerAddress: address },
      },
      { actor: "test" },
    );
    const peers = [...first.view().nodes.values()].map((node) => ({ peerId: node.peerId, nodeId: node.id, address: node.peerAddress }));
    const node = await this.#start({ name, id, peerId: peerId ?? 0, address, peers, bootstrap: false });
    await first.propose({ type: "node.join-confirm", nodeId: id }, { actor: "test" });
    await until(node.replica, () => node.replica.view().nodes.has(id));
    await sayHello(node);
    return node;
  }

  /** Starts a stopped or killed node again on its folder. */
  async restart(old: TestNode): Promise<TestNode> {
    const at = this.nodes.indexOf(old);
    const node = await this.#start({ ...old, peers: [], bootstrap: false });
    this.nodes.splice(at, 1, node);
    this.nodes.pop();
    return node;
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
    await rm(this.#root, { recursive: true, force: true });
  }

  async #start(options: {
    name: string;
    id: string;
    peerId: number;
    address: string;
    peers: Peer[];
    bootstrap: boolean;
  }): Promise<TestNode> {
    const folder = join(this.#root, options.name);
    const db = await StateDb.open(`${folder}-state`);
    const loaded = await db.load();
    if (options.bootstrap) {
      loaded.position = { index: 1, term: 1, membership: firstMembership(1) };
      loaded.state.index = 1;
      db.write([], loaded.position);
      await db.sync(loaded.position);
    }
    const identity = await this.#identity(options.id);
    const known = [...loaded.state.nodes.values()].map((node) => ({ peerId: node.peerId, nodeId: node.id, address: node.peerAddress }));
    const config: ConsensusConfig = {
      nodeId: options.id,
      peerId: options.peerId,
      generation: loaded.state.cluster?.generation ?? 1,
      logPath: `${folder}-raft`,
      inboxPath: `${folder}-checkpoints`,
      listen: options.address,
      address: options.address,
      identity,
      peers: known.length > 0 ? known : options.peers,
      bootstrap: options.bootstrap,
      position: loaded.position,
      tickMs: 20,
      electionTicks: 10,
      heartbeatTicks: 1,
      seed: options.peerId,
      keeperDataDir: options.peerId === 1 ? this.#keeperDataDir : null,
      logLevel: process.env["ROOST_TEST_LOG"] === undefined ? "error" : "debug",
    };
    const worker = startWorker("consensus", config);
    const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
    let stopLeading = (): void => {};
    const replica = new Replica(options.id, loaded, {
      worker: consensusPort(worker),
      soon: setImmediate,
      db,
      readCheckpoint: readCheckpointFile,
      clock: systemClock,
      log: silentLogger,
      newId,
      fatal: (error) => {
        throw error;
      },
    });
    await replica.start();
    stopLeading = runWhileLeading(replica, [joiningService(replica, systemClock)], { clock: systemClock, log: silentLogger });
    let over = false;
    const node: TestNode = {
      ...options,
      folder,
      identity,
      replica,
      worker,
      async kill() {
        if (over) return;
        over = true;
        stopLeading();
        replica.halt();
        await worker.terminate();
        await ended;
        await db.close();
      },
      async stop() {
        over = true;
        stopLeading();
        await replica.stop();
        await worker.terminate();
      },
    };
    this.nodes.push(node);
    return node;
  }

  async #identity(nodeId: string): Promise<TlsIdentity> {
    const { keyPem, requestPem } = await createKeyAndRequest();
    const leaf = await issue(this.#ca, requestPem, {
      subject: { kind: "node", nodeId },
      names: ["127.0.0.1"],
      nowMs: Date.now(),
      ttlMs: NODE_TTL_MS,
      serial: newSecret(16),
    });
    return { ca: this.#ca.certificatePem, cert: chainOf(leaf, this.#ca.certificatePem), key: keyPem };
  }
}

/** What the agent would say once it is ready. */
async function sayHello(node: TestNode): Promise<void> {
  const info = nodeInfo();
  await node.replica.propose(
    { type: "node.hello", nodeId: node.id, info, parkRevision: 0, apiAddress: "127.0.0.1:1", peerAddress: node.address },
    { actor: "test" },
  );
}

/** Resolves when the condition holds, looking again at each change of the replica; rejects after the limit. */
export function until(replica: Replica, condition: () => boolean, limitMs = 15_000): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (error?: Error): void => {
      clearTimeout(limit);
      clearInterval(poll);
      unsubscribe();
      if (error === undefined) resolve();
      else reject(error);
    };
    const look = (): void => {
      if (condition()) end();
    };
    const limit = setTimeout(() => end(new Error(`not within ${limitMs} ms: ${condition.toString()}`)), limitMs);
    // Leadership and progress are no changes of the state: they are looked at as time goes by.
    const poll = setInterval(look, 20);
    const unsubscribe = replica.subscribe(look);
    look();
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

function nodeInfo(): NodeInfo {
  return {
    bootId: "boot",
    version: "test",
    driver: "simulated",
    hypervisor: "",
    arch: "x86_64",
    hardwareAccelerated: false,
    cpus: 4,
    cpuModel: "",
    memoryMib: 4_096,
    reserveMib: 0,
    guardian: "test",
    pools: [],
    bridges: [],
  };
}

/** Nobody listens there: these tests have no API. */
function peerlessPort(name: string): number {
  return 1 + Number(name.slice(1));
}
