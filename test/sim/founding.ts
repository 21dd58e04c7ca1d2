/** The disks of a cluster that was founded before the run begins: every voter has the same state, and a log that begins after it. */
import { StateDb } from "../../src/cluster/state-db.ts";
import type { NodeInfo } from "../../src/model/node.ts";
import { LevelLog } from "../../src/raft/storage/level.ts";
import type { Peer } from "../../src/raft/transport/links.ts";
import { apply } from "../../src/state/apply.ts";
import type { Command } from "../../src/state/commands.ts";
import { State } from "../../src/state/state.ts";
import { seededRandom } from "../../src/base/random.ts";
import { SimDisk } from "./disk.ts";
import { EventQueue } from "./queue.ts";
import { SimThread } from "./thread.ts";

export const TOKEN = { id: "token", secretHash: "hash" };

export function peerOf(number: number): Peer {
  return { peerId: number, nodeId: `node-${number}`, address: `10.0.0.${number}:7000` };
}

export function joiningNode(peer: Peer): {
  id: string;
  name: string;
  zone: string;
  labels: Record<string, string>;
  apiAddress: string;
  peerAddress: string;
} {
  return {
    id: peer.nodeId,
    name: `n${peer.peerId}`,
    zone: "",
    labels: {},
    apiAddress: `10.0.0.${peer.peerId}:7001`,
    peerAddress: peer.address,
  };
}

const NODE_INFO: NodeInfo = {
  bootId: "boot",
  version: "sim",
  driver: "simulated",
  hypervisor: "",
  arch: "x86_64",
  hardwareAccelerated: false,
  cpus: 4,
  cpuModel: "",
  memoryMib: 4_096,
  reserveMib: 0,
  guardian: "sim",
  pools: [],
  bridges: [],
};

export function helloOf(peer: Peer): Command {
  return {
    type: "node.hello",
    nodeId: peer.nodeId,
    info: NODE_INFO,
    parkRevision: 0,
    apiAddress: "10.0.0.1:7001",
    peerAddress: peer.address,
  };
}

/** By number of voters: the same for every seed. */
const made = new Map<number, Promise<SimDisk>>();

export function founded(voters: number): Promise<SimDisk> {
  const disk = made.get(voters) ?? found(voters);
  made.set(voters, disk);
  return disk;
}

async function found(voters: number): Promise<SimDisk> {
  const peers = Array.from({ length: voters }, (_, i) => peerOf(i + 1));
  const members = { voters: peers.map((peer) => peer.peerId), outgoing: [], learners: [], learnersNext: [], autoLeave: false };
  const state = new State();
  let index = 1;
  const run = (command: Command, origin = "node-1"): void => {
    const envelope = { requestId: `found ${index}@1800000000000`, origin, atMs: 1_800_000_000_000, actor: "sim", term: 0, command };
    const { outcome } = apply(state, envelope, { index: ++index, term: 1 });
    if (!outcome.ok) throw new Error(`founding failed: ${JSON.stringify(outcome.fault)}`);
  };
  const first = peers[0]!;
  run({ type: "cluster.init", clusterId: "cluster", name: "sim", caCertificate: "", caKey: "", node: joiningNode(first) });
  run({ type: "token.create", ...TOKEN, ttlMs: 1e9, uses: 100 });
  run({ type: "setting.update", key: "bench.enabled", value: "true" });
  for (const peer of peers.slice(1)) {
    run({ type: "node.join", tokenId: TOKEN.id, secretHash: TOKEN.secretHash, node: joiningNode(peer) });
    run({ type: "node.join-confirm", nodeId: peer.nodeId });
  }
  for (const peer of peers) run(helloOf(peer), peer.nodeId);
  for (const [key, row] of state.nodes) state.write({ table: "nodes", key, row: { ...row, role: "voter" } });

  const queue = new EventQueue();
  const disk = new SimDisk(queue, seededRandom(1), {});
  const thread = new SimThread(queue, () => {});
  const position = { index, term: 1, membership: members };
  const write = async (): Promise<void> => {
    const db = new StateDb(disk.openState(thread), "state");
    db.write([...state.rows()], position);
    await db.sync(position);
    await db.close();
    const bootstrap = { index, term: 1, confState: members };
    const log = await LevelLog.over(disk.openLog(thread), disk.openMark(thread), "raft", { bootstrap });
    await log.close();
  };
  let ended = false;
  const work = write().finally(() => (ended = true));
  await queue.drainUntil(60_000, () => ended);
  await work;
  return disk;
}
