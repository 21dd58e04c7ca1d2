/**
 * The node's daemon: the one place where effects are made, in floor order. Reads from top to bottom as the node comes
 * up: state, consensus, hypervisor and pools, agent, the leader's services, API.
 */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ConnectionWorker } from "../agent/connections.ts";
import { Agent } from "../agent/agent.ts";
import { parseGuardian } from "../agent/guardian.ts";
import { KeeperClient } from "../agent/keeper/client.ts";
import { ensureKeeper, keeperPaths } from "../agent/keeper/process.ts";
import { openBootClock } from "../agent/keeper/boot-clock.ts";
import { LoadMeter } from "../agent/load.ts";
import { Probes } from "../agent/probes.ts";
import { inspectNode } from "../agent/inspect.ts";
import { RunRecorder } from "../agent/run-recorder.ts";
import { clean, prepare, takeBack } from "../agent/volumes.ts";
import { startApi } from "../api/server.ts";
import { systemClock } from "../base/clock.ts";
import { type NodeConfig, socketPath } from "../base/config.ts";
import { asRoostError, RoostError } from "../base/errors.ts";
import { newId, newSecret } from "../base/ids.ts";
import type { Logger } from "../base/log.ts";
import { createClient } from "../base/rpc-client.ts";
import { startWorker } from "../base/worker.ts";
import { consensusPort } from "../cluster/consensus/port.ts";
import type { ConsensusConfig } from "../cluster/consensus/protocol.ts";
import { joiningService } from "../cluster/joining.ts";
import { runWhileLeading } from "../cluster/leadership.ts";
import { upkeepService } from "../cluster/upkeep.ts";
import { openFence, optionFaults } from "../fencing/open.ts";
import { Replica } from "../cluster/replica.ts";
import { StateDb } from "../cluster/state-db.ts";
import { FenceExecutor } from "../ha/fence-executor.ts";
import { fencerService } from "../ha/fencer.ts";
import { Supervisor } from "../ha/supervisor.ts";
import { firstMembership } from "../model/membership.ts";
import { readCheckpointFile } from "../raft/transport/checkpoint-file.ts";
import { drainService } from "../placing/drain.ts";
import { tasksService } from "../tasks/loop.ts";
import { placingService } from "../placing/loop.ts";
import { chooseDriver } from "./drivers.ts";
import { type Identity, saveIdentity } from "../cluster/identity.ts";
import { nodeInfo } from "./node-info.ts";
import { OpenPools } from "./pools.ts";
import { ownProgram } from "./program.ts";

/** Raft's clock: elections after 10 to 20 ticks without a leader's heartbeat. */
const ELECTION_TICKS = 10;
const HEARTBEAT_TICKS = 1;

/** The tables are not what is promised, the log is: they are written this often, whatever comes. */
const STATE_GATHER_MS = 50;

/** Consensus needs little; a small heap keeps its garbage collections short. */
const CONSENSUS_HEAP_MIB = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 12 };
const KEEPER_START_MS = 10_000;
const PLANS_AT_ONCE = 16;
const POOL_LOOK_MS = 500;
/** To another node, on somebody's behalf. */
const NODE_CONNECT_MS = 2_000;
/**
 * Between the committed park and the stop: the answer must get out, and where all agents go down together the others still need this
 * one to commit theirs; without a quorum the last would be refused and its VMs fence themselves.
 */
const LINGER_MS = 1_000;

export interface DaemonEffects {
  log: Logger;
  /** The process must end now: a promise was broken that nothing here can mend. */
  fatal(error: unknown): void;
}

export interface Daemon {
  /** Resolves when the agent has said hello: the node may run VMs. */
  ready: Promise<void>;
  /** Resolves when the daemon was stopped by a call. */
  stopped: Promise<void>;
  stop(): Promise<void>;
}

export async function startDaemon(config: NodeConfig, identity: Identity, effects: DaemonEffects): Promise<Daemon> {
  const { log } = effects;
  const fatal = (error: unknown): void => effects.fatal(error);
  const { nodeId } = identity;
  const clock = systemClock;
  await mkdir(config.data, { recursive: true, mode: 0o700 });

  // State and consensus.
  const db = await StateDb.open(join(config.data, "state"), () => sleep(STATE_GATHER_MS));
  const loaded = await db.load();
  const clusterId = loaded.state.cluster?.id ?? identity.clusterId;
  if (clusterId !== identity.clusterId) {
    throw new RoostError(
      {
        kind: "damaged",
        what: `the data folder ${config.data} (state of cluster ${clusterId}, identity of cluster ${identity.clusterId})`,
      },
      "folders of two clusters were mixed up: put the right ones together, or move the data folder away and join again with a fresh token",
    );
  }
  const bootstrap = identity.founding !== null && loaded.position.index === 0;
  if (bootstrap) {
    loaded.position = { index: 1, term: 1, membership: firstMembership(identity.peerId) };
    loaded.state.index = loaded.position.index;
    await db.sync(loaded.position);
  }
  const known = [...loaded.state.nodes.values()].map((node) => ({ peerId: node.peerId, nodeId: node.id, address: node.peerAddress }));
  const consensus: ConsensusConfig = {
    nodeId,
    peerId: identity.peerId,
    generation: loaded.state.cluster?.generation ?? identity.generation ?? 1,
    logPath: join(config.data, "raft"),
    inboxPath: join(config.data, "checkpoints"),
    listen: identity.peerListen,
    address: identity.peerAddress,
    identity: identity.tls,
    peers: known.length > 0 ? known : identity.peers,
    bootstrap,
    position: loaded.position,
    tickMs: Number(config.raftTickMs),
    electionTicks: ELECTION_TICKS,
    heartbeatTicks: HEARTBEAT_TICKS,
    seed: new DataView(newSecret(4).buffer).getUint32(0),
    keeperDataDir: config.data,
    logLevel: config.logLevel === "debug" ? "debug" : "info",
  };
  const worker = startWorker("consensus", consensus, CONSENSUS_HEAP_MIB);
  worker.on("error", fatal);
  const replica = new Replica(nodeId, loaded, {
    worker: consensusPort(worker),
    soon: setImmediate,
    db,
    readCheckpoint: readCheckpointFile,
    clock,
    log: log.child("replica"),
    newId,
    fatal,
  });

  // The keeper first: it holds the deadlines that the heartbeats renew.
  const guardian = chooseGuardian(config);
  const keeper = new KeeperClient({ dataDir: config.data });
  const keeperCommand: [string, ...string[]] = [
    ...ownProgram(),
    "keeper",
    "--data",
    config.data,
    "--guardian",
    guardian,
    // Of the state as it was left; a new one's default is the keeper's, too.
    ...(loaded.state.cluster === null ? [] : ["--claim", String(loaded.state.cluster.settings["ha.claimMs"])]),
  ];
  const startKeeper = async (): Promise<void> => {
    await ensureKeeper({ dataDir: config.data, command: keeperCommand, limitMs: KEEPER_START_MS, log });
  };
  await startKeeper();
  await replica.start();
  if (identity.founding !== null) await found(config, identity, identity.founding.caKey, replica);

  // Hypervisor, pools, agent.
  const bareDriver = await chooseDriver(identity.witness === true ? { ...config, driver: "simulated" } : config, identity.clusterId, {
    clock,
    log,
  });
  const bootClock = openBootClock();
  const recorder = await RunRecorder.open({
    clusterId: identity.clusterId,
    path: join(config.data, "runs", "agent.log"),
    keeperPath: keeperPaths(config.data).runs,
    clock: bootClock,
    wallMs: () => clock.wallMs(),
    log: log.child("runs"),
  });
  const driver = recorder.over(bareDriver);
  const pools = new OpenPools(nodeId, replica, { clock, log });
  const { bootId } = bootClock;
  const serialFolder = join(config.data, "serial");
  await mkdir(serialFolder, { recursive: true, mode: 0o755 });
  const load = new LoadMeter();
  const probes = new Probes(join(config.data, "probes"), {
    clock,
    log,
    changed: () =>
      void agent
        .reportInfo()
        .catch((thrown: unknown) => log.warn("could not report what the probes say", { reason: asRoostError(thrown).message })),
  });
  // No driver of a network device or backup manager is part of roost yet.
  const connections = new ConnectionWorker(nodeId, replica, [], { clock, log: log.child("connections") });
  const agent = new Agent(
    { nodeId, apiAddress: identity.apiAddress, peerAddress: identity.peerAddress, run: newId(), parallel: PLANS_AT_ONCE },
    {
      store: replica,
      driver,
      keeper,
      ensureKeeper: startKeeper,
      volumes: {
        prepare: async (vm, call) => {
          await pools.refresh();
          return await prepare(vm, pools.byName, call);
        },
        arriving: async (vm, signal) => {
          await pools.refresh();
          return await prepare(vm, pools.byName, { signal, arriving: true });
        },
        takeBack: async (vm, call) => {
          await pools.refresh();
          await takeBack(vm, pools.byName, call);
        },
        clean: async (vm, call) => {
          await pools.refresh();
          await clean(vm, pools.byName, call);
        },
      },
      nodeInfo: async () => ({
        ...(await nodeInfo({
          config,
          driver,
          pools,
          probes,
          load,
          bootId,
          connections: connections.connections(),
          guardian: async () => (await keeper.list()).guardian,
        })),
        ...(identity.witness === true ? { driver: "none", hypervisor: "" } : {}),
        ...(replica.diskStuck ? { problems: ["disk stuck"] } : {}),
      }),
      serialLogPath: (vm) => join(serialFolder, `${vm.definition.name}.log`),
      identity: () => identity.tls,
      clock,
      log,
    },
  );
  // A new pool must be known on each node before VMs can be placed on it; one that is not there yet is looked for again soon.
  const reportPools = async (): Promise<void> => {
    // Asked before the report: a pool that comes up between the two is in it, and one that comes up later is looked for again.
    const expectsMore = await pools.expectsMore();
    await agent.reportInfo();
    if (expectsMore) clock.after(POOL_LOOK_MS, () => void reportPools().catch(notReported));
  };
  const notReported = (thrown: unknown): void => log.warn("could not report the node's pools", { reason: asRoostError(thrown).message });
  const unwatchPools = replica.subscribe(({ events }) => {
    if (events.some((event) => event.kind === "pool.created" || event.kind === "pool.deleted")) void reportPools().catch(notReported);
  });

  // Others can write that down while this node's own disk cannot.
  let diskStuck = false;
  const unwatchDisk = replica.subscribe(() => {
    if (diskStuck === replica.diskStuck) return;
    diskStuck = replica.diskStuck;
    agent.reportInfo().catch((thrown: unknown) => log.warn("could not report the node's disk", { reason: asRoostError(thrown).message }));
  });

  // Other nodes' power, at the leader's word; a program of the data folder goes before the host's own.
  const agentFolders = [join(config.data, "fence-agents"), "/usr/local/sbin", "/usr/sbin"];
  const fenceExecutor = new FenceExecutor({ nodeId, store: replica, open: (device) => openFence(device, agentFolders), clock, log });
  fenceExecutor.start();

  // What only the leader does.
  const supervisor = new Supervisor({ store: replica, source: replica, clock, log });
  supervisor.start();
  const stopLeading = runWhileLeading(
    replica,
    [
      joiningService(replica, clock),
      upkeepService(replica, clock),
      placingService(replica, { clock, newId }),
      drainService(replica, { clock, nodeId }),
      tasksService(replica, { clock }),
      fencerService({ nodeId, store: replica, source: replica, clock, log }),
    ],
    { clock, log },
  );

  // The API, at last: whoever gets an answer gets it from a node that works.
  let resolveStopped: () => void = () => {};
  const stopped = new Promise<void>((resolve) => (resolveStopped = resolve));
  const api = await startApi(
    {
      store: replica,
      nodeId,
      arch: process.arch === "arm64" ? "aarch64" : "x86_64",
      nowMs: () => clock.wallMs(),
      newId,
      newSecret,
      log: log.child("api"),
      hooks: {
        lastEntry: () => replica.lastEntry(),
        leftOut: () => replica.leftOut(),
        freeze: () => replica.freeze(),
        inspect: () => inspectNode({ nodeId, driver: identity.witness === true ? null : driver, keeper, pools: () => pools.opened() }),
        inspectOther: async (apiAddress, limits) => {
          const client = createClient({ endpoints: [apiAddress], tls: identity.tls });
          try {
            return await client.call("NodeService", "InspectNode", {}, limits);
          } finally {
            client.close();
          }
        },
        fencing: {
          faults: (device, signal) => optionFaults(device, agentFolders, signal),
          power: async (device, signal) => await (await openFence(device, agentFolders)).status(signal),
        },
        runs: () => recorder.runs(),
        nodeClient: (serverName, address) =>
          createClient({ endpoints: [address], tls: identity.tls, serverName, connectMs: NODE_CONNECT_MS }),
        immigrate: (from, stream) => agent.immigrate(from, stream),
        stopAgent: async ({ parkMs }) => {
          if (parkMs > 0) await agent.park(parkMs);
          clock.after(LINGER_MS, () => void stop().catch(fatal));
        },
      },
    },
    { socketPath: socketPath(config.data), tls: { address: identity.apiListen, identity: identity.tls } },
  );
  agent.start();
  connections.start();
  probes.start();

  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      log.info("stopping; VMs keep running");
      unwatchPools();
      probes.stop();
      unwatchDisk();
      stopLeading();
      supervisor.stop();
      fenceExecutor.stop();
      connections.stop();
      await agent.stop();
      await api.close();
      await driver.close();
      await recorder.close();
      keeper.close();
      await replica.stop();
      await worker.terminate();
      resolveStopped();
    })();
    return stopping;
  };
  return { ready: agent.ready, stopped, stop };
}

/** The cluster's first command; from then on the state has the CA's key and the identity file no longer. */
async function found(config: NodeConfig, identity: Identity, caKey: string, replica: Replica): Promise<void> {
  const { clusterId, clusterName, nodeId, name, zone, labels, apiAddress, peerAddress, tls } = identity;
  const node = { id: nodeId, name, zone, labels, apiAddress, peerAddress };
  if (replica.view().cluster === null) {
    await replica.propose(
      { type: "cluster.init", clusterId, name: clusterName, caCertificate: tls.ca, caKey, node },
      { actor: `node:${nodeId}` },
    );
  }
  await saveIdentity(config.data, { ...identity, founding: null });
}

function chooseGuardian(config: NodeConfig): string {
  const word = config.guardian === "auto" ? (existsSync("/dev/watchdog") ? "watchdog" : "none") : config.guardian;
  if (parseGuardian(word) === null)
    throw new RoostError({ kind: "invalid", violations: [{ field: "--guardian", message: `unknown guardian ${word}` }] });
  return word;
}
