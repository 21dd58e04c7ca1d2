/**
 * One node of the placing benchmark, a process of its own: the production replica, consensus thread, log and tables on disk,
 * scheduler's loop and API. What is left out is the agent: the rows of the simulated nodes are in the tables from the start,
 * the same on all three.
 */
import { Session } from "node:inspector/promises";
import type { Profiler } from "node:inspector";
import { systemClock } from "../../../src/base/clock.ts";
import { newId, newSecret } from "../../../src/base/ids.ts";
import { createClient } from "../../../src/base/rpc-client.ts";
import { silentLogger } from "../../../src/base/log.ts";
import type { TlsIdentity } from "../../../src/base/rpc.ts";
import { startWorker } from "../../../src/base/worker.ts";
import { startApi } from "../../../src/api/server.ts";
import { consensusPort } from "../../../src/cluster/consensus/port.ts";
import type { ConsensusConfig } from "../../../src/cluster/consensus/protocol.ts";
import { runWhileLeading } from "../../../src/cluster/leadership.ts";
import { Replica } from "../../../src/cluster/replica.ts";
import { StateDb } from "../../../src/cluster/state-db.ts";
import { defaultSettings } from "../../../src/model/settings.ts";
import { placingService } from "../../../src/placing/loop.ts";
import { readCheckpointFile } from "../../../src/raft/transport/checkpoint-file.ts";
import type { Peer } from "../../../src/raft/transport/links.ts";
import { testNode } from "../../support/world.ts";

export interface BenchNode {
  id: string;
  peerId: number;
  address: string;
  folder: string;
  socket: string;
  identity: TlsIdentity;
  peers: Peer[];
  simulated: { nodes: number; cpus: number; memoryMib: number };
}

/** What a node tells the benchmark. */
export type FromNode =
  | { kind: "ready" }
  | { kind: "leading"; leading: boolean }
  | { kind: "placed"; vms: number; index: number }
  | { kind: "measured"; cpuMs: number; proposals: { count: number; vms: number; ms: number }; profile: [string, number][] };
export type ToNode = { kind: "begin" } | { kind: "measure" } | { kind: "stop" };

const config = JSON.parse(process.argv[2] ?? "") as BenchNode;
const tell = (message: FromNode): void => void process.send?.(message);

const db = await StateDb.open(`${config.folder}-state`);
const loaded = await db.load();
const rows = loaded.state;
rows.write({
  table: "cluster",
  key: "self",
  row: {
    id: "bench",
    name: "bench",
    generation: 1,
    createdAtMs: 0,
    caCertificate: "",
    caKey: "",
    settings: defaultSettings(),
    longestClaimMs: 4_000,
    nextPeerId: 4 + config.simulated.nodes,
    nextVmNumber: 1,
    nextTaskNumber: 1,
  },
});
for (const peer of config.peers) {
  const row = { ...testNode(peer.nodeId, { state: "disabled" }), peerId: peer.peerId, peerAddress: peer.address };
  rows.write({ table: "nodes", key: peer.nodeId, row });
}
const { nodes, cpus, memoryMib } = config.simulated;
for (let i = 0; i < nodes; i++) {
  const id = `simulated-${String(i).padStart(5, "0")}`;
  rows.write({ table: "nodes", key: id, row: { ...testNode(id, { cpus, memoryMib, guardian: "bench" }), peerId: 4 + i, role: "none" } });
}
const membership = { voters: [1, 2, 3], outgoing: [], learners: [], learnersNext: [], autoLeave: false };
const position = { index: 1, term: 1, membership };
rows.index = 1;
db.write([...rows.rows()], position);
await db.sync(position);

const consensus: ConsensusConfig = {
  nodeId: config.id,
  peerId: config.peerId,
  logPath: `${config.folder}-raft`,
  inboxPath: `${config.folder}-checkpoints`,
  listen: config.address,
  address: config.address,
  identity: config.identity,
  peers: config.peers,
  bootstrap: true,
  generation: 1,
  position,
  tickMs: 50,
  electionTicks: 20,
  heartbeatTicks: 2,
  seed: config.peerId,
  keeperDataDir: null,
  logLevel: "error",
};
const worker = startWorker("consensus", consensus);
const replica = new Replica(
  config.id,
  { state: rows, position },
  {
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
  },
);
await replica.start();

/** Of the loop's own proposals: how long from proposing to applied. */
const proposals = { count: 0, vms: 0, ms: 0 };
const propose = replica.propose.bind(replica);
const measured = Object.assign(Object.create(replica) as Replica, {
  view: () => replica.view(),
  subscribe: replica.subscribe.bind(replica),
  leadership: () => replica.leadership(),
  propose: async (...[command, options]: Parameters<typeof propose>) => {
    const began = performance.now();
    const result = await propose(command, options);
    proposals.count++;
    proposals.ms += performance.now() - began;
    if (command.type === "vm.place") proposals.vms += command.placements.length;
    return result;
  },
});
runWhileLeading(replica, [placingService(measured, { clock: systemClock, newId })], { clock: systemClock, log: silentLogger });
await startApi(
  {
    store: replica,
    nodeId: config.id,
    arch: "x86_64",
    nowMs: () => Date.now(),
    newId,
    newSecret,
    log: silentLogger,
    hooks: {
      lastEntry: async () => ({ lastIndex: replica.view().index, lastTerm: replica.view().term }),
      leftOut: () => null,
      fencing: { faults: () => Promise.resolve([]), power: () => Promise.resolve("on" as const) },
      runs: () => Promise.resolve({ runs: [], sinceMs: 0, lost: 0 }),
      nodeClient: () => createClient({ endpoints: ["/nowhere.sock"] }),
      freeze: () => [],
      inspect: () => Promise.reject(new Error("not here")),
      inspectOther: () => Promise.reject(new Error("not here")),
      immigrate: () => {},
      stopAgent: async () => {},
    },
  },
  { socketPath: config.socket, tls: null },
);

let placed = 0;
let leading = false;
replica.subscribe(({ events }) => {
  const more = events.filter((event) => event.kind === "vm.placed").length;
  placed += more;
  if (more > 0) tell({ kind: "placed", vms: placed, index: replica.view().index });
  if (leading !== replica.leadership().leading) tell({ kind: "leading", leading: (leading = !leading) });
});

const session = new Session();
session.connect();
let before = process.cpuUsage();
process.on("message", (message: ToNode) => void act(message));

async function act(message: ToNode): Promise<void> {
  if (message.kind === "stop") process.exit(0);
  if (message.kind === "begin") {
    Object.assign(proposals, { count: 0, vms: 0, ms: 0 });
    before = process.cpuUsage();
    await session.post("Profiler.enable");
    await session.post("Profiler.setSamplingInterval", { interval: 1_000 });
    await session.post("Profiler.start");
    return;
  }
  const { user, system } = process.cpuUsage(before);
  const { profile } = await session.post("Profiler.stop");
  tell({ kind: "measured", cpuMs: (user + system) / 1_000, proposals, profile: byRoom(profile) });
}

/** Milliseconds of this process's main thread by room of the source, largest first. */
function byRoom(profile: Profiler.Profile): [string, number][] {
  const roomOf = new Map(profile.nodes.map(({ id, callFrame }) => [id, room(callFrame.url, callFrame.functionName)]));
  const sums = new Map<string, number>();
  for (const [i, id] of (profile.samples ?? []).entries()) {
    const name = roomOf.get(id) ?? "?";
    sums.set(name, (sums.get(name) ?? 0) + (profile.timeDeltas?.[i] ?? 0) / 1_000);
  }
  return [...sums].sort((a, b) => b[1] - a[1]);
}

function room(url: string, name: string): string {
  if (name === "(idle)" || name === "(garbage collector)" || name === "(program)") return name;
  const own = /\/src\/([^/]+\/[^/]+)/.exec(url);
  if (own !== null) return (own[1] ?? "").replace(/\.ts$/, "");
  const library = /\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url);
  // What V8 does for JSON has no place in a file.
  return library !== null
    ? `npm ${library[1]}`
    : url.startsWith("node:")
      ? "node"
      : name === "stringify" || name === "parse"
        ? "JSON"
        : "other";
}

tell({ kind: "ready" });
