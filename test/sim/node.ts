/**
 * One simulated node: the product's own Replica, ConsensusDriver, LevelLog and StateDb, its leader's services, on simulated
 * threads, disk and network. What it tells the world about itself goes to `NodeWorld`.
 */
import { asRoostError, type RoostError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { Random } from "../../src/base/random.ts";
import { ConsensusDriver } from "../../src/cluster/consensus/driver.ts";
import { openLogFor } from "../../src/cluster/consensus/open-log.ts";
import type { ConsensusConfig, FromConsensus, ToConsensus } from "../../src/cluster/consensus/protocol.ts";
import { joiningService } from "../../src/cluster/joining.ts";
import { runWhileLeading } from "../../src/cluster/leadership.ts";
import { Replica } from "../../src/cluster/replica.ts";
import { StateDb } from "../../src/cluster/state-db.ts";
import { Supervisor } from "../../src/ha/supervisor.ts";
import type { Raft } from "../../src/raft/core/raft.ts";
import { LevelLog } from "../../src/raft/storage/level.ts";
import type { Peer } from "../../src/raft/transport/links.ts";
import type { SimDisk } from "./disk.ts";
import type { SimNetwork } from "./network.ts";
import type { EventQueue } from "./queue.ts";
import { channel, nodeClock, SimThread } from "./thread.ts";

const TICK_MS = 100;
const ELECTION_TICKS = 10;

/** What the world hears of its nodes. */
export interface NodeWorld {
  readonly queue: EventQueue;
  readonly network: SimNetwork;
  /** Whose code runs now. */
  enter(node: SimNode): void;
  /** On its way from the consensus thread to the main thread; what is returned arrives. */
  hears(node: SimNode, message: FromConsensus): FromConsensus[];
  /** The other way. */
  says(node: SimNode, message: ToConsensus): ToConsensus[];
  /** After the main thread has taken an `apply` or `install`. */
  applied(node: SimNode): void;
  serves(node: SimNode): void;
  /** The process ends by itself: a failed disk, or a bug. */
  fatal(node: SimNode, error: unknown): void;
  /** It does not start on what it finds. */
  refuses(node: SimNode, error: RoostError): void;
}

/** How long its log may get, so that short runs cut logs and send checkpoints. */
export interface LogLimits {
  maxEntries: number;
  keepEntries: number;
}

export class SimNode {
  readonly peer: Peer;
  readonly disk: SimDisk;
  readonly skew: { rate: number; beginMs: number };
  readonly limits: LogLimits;
  /** Grows with each start and each end of the process. */
  life = 0;
  main: SimThread | null = null;
  consensus: SimThread | null = null;
  replica: Replica | null = null;
  /** The core of this life, once it has run. */
  raft: Raft | null = null;
  /** Serves its callers. */
  serving = false;
  /** Its disk was found damaged: it never comes back. */
  refused = false;
  /** Whom to ask for the state; only until there is one of its own. */
  peers: Peer[] = [];
  readonly #world: NodeWorld;
  readonly #random: Random;
  #beats = 0;

  constructor(peer: Peer, world: NodeWorld, options: { disk: SimDisk; random: Random; rate: number; limits: LogLimits }) {
    this.peer = peer;
    this.#world = world;
    this.disk = options.disk;
    this.#random = options.random;
    this.skew = { rate: options.rate, beginMs: options.random.below(1_000_000) };
    this.limits = options.limits;
  }

  get up(): boolean {
    return this.main !== null;
  }

  start(): void {
    if (this.up || this.refused) return;
    const life = ++this.life;
    const world = this.#world;
    const enter = (): void => world.enter(this);
    const main = (this.main = new SimThread(world.queue, enter));
    const consensus = (this.consensus = new SimThread(world.queue, enter));
    enter();
    this.#run(main, consensus).catch((thrown: unknown) => {
      if (this.life !== life) return;
      const error = asRoostError(thrown);
      if (error.fault.kind === "damaged") {
        this.end(false);
        this.refused = true;
        world.refuses(this, error);
      } else world.fatal(this, thrown);
    });
  }

  /** The process ends at once; with `power` the whole machine. */
  end(power: boolean): void {
    if (this.main === null || this.consensus === null) return;
    this.life++;
    this.main.dead = true;
    this.consensus.dead = true;
    this.main = null;
    this.consensus = null;
    this.replica = null;
    this.raft = null;
    this.serving = false;
    this.disk.crash(power);
    if (!power) this.#world.network.died(this.peer.peerId);
  }

  /** As the daemon puts it together. */
  async #run(main: SimThread, consensus: SimThread): Promise<void> {
    const world = this.#world;
    const { queue } = world;
    const { nodeId, peerId } = this.peer;
    const clock = nodeClock(queue, main, this.skew);
    const fatal = (error: unknown): void => {
      if (!main.dead) world.fatal(this, error);
    };
    const db = new StateDb(this.disk.openState(main), "state");
    const loaded = await db.load();
    const known = [...loaded.state.nodes.values()].map((node) => ({ peerId: node.peerId, nodeId: node.id, address: node.peerAddress }));
    const config: ConsensusConfig = {
      nodeId,
      peerId,
      logPath: "raft",
      generation: 1,
      inboxPath: "checkpoints",
      listen: this.peer.address,
      address: this.peer.address,
      identity: { ca: "", cert: "", key: "" },
      peers: known.length > 0 ? known : this.peers,
      bootstrap: false,
      position: loaded.position,
      tickMs: TICK_MS,
      electionTicks: ELECTION_TICKS,
      heartbeatTicks: 1,
      seed: 0,
      keeperDataDir: null,
      logLevel: "error",
    };
    let take: (message: FromConsensus) => void = () => {};
    let driver: ConsensusDriver | null = null;
    const waiting: ToConsensus[] = [];
    const toMain = channel<FromConsensus>(queue, main, (message) => {
      for (const heard of world.hears(this, message)) {
        take(heard);
        if (heard.kind === "apply") world.applied(this);
      }
    });
    const toConsensus = channel<ToConsensus>(queue, consensus, (message) => {
      for (const said of world.says(this, message)) {
        if (driver === null) waiting.push(said);
        else driver.onMessage(said);
      }
    });
    const replica = new Replica(nodeId, loaded, {
      worker: {
        postMessage: toConsensus,
        on(event: string, listener: (message: FromConsensus) => void) {
          if (event === "message") take = listener;
          return this as never;
        },
      } as never,
      db,
      clock,
      log: silentLogger,
      newId: () => this.#random.hex(16),
      readCheckpoint: (path) => read(this.disk.inbox.files.get(path) ?? []),
      fatal,
    });
    this.replica = replica;
    consensus.run(() => {
      this.#runConsensus(config, consensus, toMain, fatal).then(
        (started) => {
          driver = started;
          for (const message of waiting.splice(0)) started.onMessage(message);
        },
        (thrown: unknown) => {
          const error = asRoostError(thrown);
          if (consensus.dead) return;
          if (error.fault.kind === "damaged") {
            this.end(false);
            this.refused = true;
            world.refuses(this, error);
          } else world.fatal(this, thrown);
        },
      );
    });
    await replica.start();
    this.serving = true;
    const supervisor = new Supervisor({ store: replica, source: replica, clock, log: silentLogger });
    supervisor.start();
    runWhileLeading(replica, [joiningService(replica, clock)], { clock, log: silentLogger });
    world.serves(this);
  }

  async #runConsensus(
    config: ConsensusConfig,
    thread: SimThread,
    post: (message: FromConsensus) => void,
    fatal: (error: unknown) => void,
  ): Promise<ConsensusDriver> {
    const { network, queue } = this.#world;
    const open = this.disk.openLog(thread);
    const raftLog = await openLogFor(config, (options) => LevelLog.over(open, this.disk.openMark(thread), "raft", options));
    const driver = new ConsensusDriver(config, {
      log: silentLogger,
      clock: nodeClock(queue, thread, this.skew),
      raftLog,
      logLimits: this.limits,
      openLinks: (events) => Promise.resolve(network.open(this.peer, thread, events)),
      inbox: this.disk.inbox,
      keeper: {
        beat: () => Promise.resolve({ bootId: `${config.peerId}`, nonce: `${this.life}`, seq: ++this.#beats, claimRevision: 0 }),
        ack: () => Promise.resolve(),
      },
      random: (limit) => this.#random.below(limit),
      post,
      fatal,
    });
    await driver.start();
    return driver;
  }
}

async function* read(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield chunk;
}
