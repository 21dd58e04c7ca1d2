/**
 * The whole replica, several times, in one process on a virtual clock: the product's consensus driver, durable log, tables and
 * leader's services over simulated threads, disks and network. Everything follows from the seed. First faults of every kind under
 * the clients' load, then all or most faults end and every node must serve again.
 */
import { asRoostError, type RoostError } from "../../src/base/errors.ts";
import { type Random, seededRandom } from "../../src/base/random.ts";
import { decodeFrame } from "../../src/cluster/consensus/frames.ts";
import type { FromConsensus, ToConsensus } from "../../src/cluster/consensus/protocol.ts";
import { RaftNode } from "../../src/raft/core/node.ts";
import type { Raft } from "../../src/raft/core/raft.ts";
import type { State } from "../../src/state/state.ts";
import { checkLinearizable, REGISTER } from "../support/linearizable.ts";
import { Violation } from "./checks.ts";
import { type ClientWorld, Clients, type Reader } from "./clients.ts";
import { type DiskFaults, SimDisk } from "./disk.ts";
import { founded, peerOf } from "./founding.ts";
import { Invariants } from "./invariants.ts";
import { PERFECT, SimNetwork } from "./network.ts";
import { type NodeWorld, SimNode } from "./node.ts";
import { Operator, type OperatorWorld } from "./operator.ts";
import { EventQueue } from "./queue.ts";
import { replace } from "./replace.ts";
import { Trace } from "./trace.ts";

/** Virtual time of faults in a short and a long run. */
const FAULTY_MS = 16_000;
const LONG_FAULTY_MS = 60_000;
/** Within this after the faults each node must serve: a few elections, and the 3 s that a lost checkpoint waits. */
const RECOVER_MS = 30_000;

/** Rules that mutations break; see mutations.ts. */
export interface SimFaults extends DiskFaults {
  hears?(node: SimNode, message: FromConsensus): FromConsensus[];
  says?(node: SimNode, message: ToConsensus): ToConsensus[];
  read?: Reader;
  /** Once a life, when its core is there. */
  core?(raft: Raft, node: SimNode): void;
  /** The fastest clock runs this many times as fast as the slowest. */
  clockSpread?: number;
}

export interface SimOptions {
  long?: boolean;
  faults?: SimFaults;
  /** Without: nobody is removed, and the settings stay (operator.ts). */
  quiet?: boolean;
  /** Sees every line of the trace. */
  print?: (line: string) => void;
}

export interface RaftResult {
  /** What was done, to see that a run was not empty. */
  readonly terms: number;
  readonly applied: number;
  readonly operations: number;
  readonly unknown: number;
  readonly crashes: number;
  readonly checkpoints: number;
  readonly refusals: number;
  readonly joined: number;
  readonly removed: number;
  /** Nodes that were no Raft peers in the end. */
  readonly followers: number;
  readonly virtualMs: number;
  readonly traceLines: number;
  /** Of everything that happened, in order: equal for equal seeds. */
  readonly traceHash: number;
}

/** @throws SimFailure with the end of the trace. */
export async function simulateRaft(seed: number, options: SimOptions = {}): Promise<RaftResult> {
  const world = new RaftSimulation(seed, options);
  return await world.run();
}

export class SimFailure extends Error {
  readonly tail: readonly string[];
  constructor(message: string, tail: readonly string[], cause: unknown) {
    super(message, { cause });
    this.tail = tail;
  }
}

class RaftSimulation implements NodeWorld, ClientWorld, OperatorWorld {
  readonly queue = new EventQueue();
  readonly random: Random;
  readonly trace: Trace;
  readonly invariants = new Invariants();
  readonly network: SimNetwork;
  readonly #seed: number;
  readonly #faults: SimFaults;
  readonly #faultyMs: number;
  readonly nodes: SimNode[] = [];
  readonly #clients: Clients;
  readonly #counts = { crashes: 0, checkpoints: 0, refusals: 0, followers: 0 };
  readonly #slowMs: number;
  readonly #clockSpread: number;
  /** A quarter of the runs never leave a leader in peace: what goes wrong between two leaders needs many of them. */
  readonly #churn: boolean;
  #active: SimNode | null = null;
  #calm = false;
  #rotten: SimNode | null = null;
  readonly #operator: Operator;
  #failure: unknown = null;

  constructor(seed: number, options: SimOptions) {
    this.#seed = seed;
    this.#faults = options.faults ?? {};
    this.#faultyMs = options.long === true ? LONG_FAULTY_MS : FAULTY_MS;
    const random = (this.random = seededRandom(seed));
    this.trace = new Trace(() => this.queue.now, options.print ?? null);
    this.network = new SimNetwork(this.queue, random, (from, to, what, payload) =>
      this.trace.detail(from * 1_000_003 + to * 101 + payload.length, () => `${from} → ${to} ${what} ${frameText(payload)}`),
    );
    this.#churn = random.below(4) === 0;
    this.#slowMs = [0.2, 2, 30][random.below(3)]!;
    this.#clockSpread = this.#faults.clockSpread ?? [1, 1.02, 1.3][random.below(3)]!;
    this.#clients = new Clients(this, {
      thinkMs: 60,
      read: this.#faults.read ?? ((replica, timeoutMs) => replica.read({ timeoutMs }) as Promise<State>),
    });
    this.#operator = new Operator(this, this.#clients, { random: seededRandom(seed * 41), quiet: options.quiet === true });
  }

  async run(): Promise<RaftResult> {
    const { random, queue } = this;
    const watch = this.#watchCores();
    try {
      const voters = [1, 3, 3, 3, 5][random.below(5)]!;
      const image = await founded(voters);
      this.network.quality = this.#someQuality();
      for (let number = 1; number <= voters; number++) {
        const node = this.add(number);
        node.disk.log.copyFrom(image.log);
        node.disk.state.copyFrom(image.state);
        this.#operator.settled.add(node);
        queue.after(random.below(500), () => node.start());
      }
      this.#clients.start(5);
      this.#every(this.#churn ? 500 : 1_500, () => this.#fault());
      this.#every(500, () => this.invariants.compare(this.nodes));
      this.#operator.start(voters, this.#faultyMs);
      await this.#until(this.#faultyMs);
      await this.#recover();
      this.#check();
      return {
        ...this.#counts,
        joined: this.#operator.joined,
        removed: this.#operator.removed,
        terms: this.invariants.terms.size,
        applied: this.invariants.highest,
        operations: this.#clients.done,
        unknown: this.#clients.unknown,
        virtualMs: Math.round(queue.now),
        traceLines: this.trace.lines,
        traceHash: this.trace.hash,
      };
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      throw new SimFailure(`seed ${this.#seed} at ${queue.now.toFixed(0)} ms: ${error.message}`, this.trace.tail(60), error);
    } finally {
      watch();
    }
  }

  fail(violation: unknown): void {
    this.#failure ??= violation;
  }

  async #until(end: number, done: () => boolean = () => false): Promise<void> {
    await this.queue.drainUntil(end, () => this.#failure !== null || done());
    if (this.#failure !== null) throw this.#failure;
  }

  // ---- What nodes tell ---------------------------------------------------------------------------------------------

  enter(node: SimNode): void {
    this.#active = node;
  }

  hears(node: SimNode, message: FromConsensus): FromConsensus[] {
    const heard = this.#faults.hears?.(node, message) ?? [message];
    const who = node.peer.peerId;
    switch (message.kind) {
      case "apply":
        for (const entry of message.entries) this.invariants.commits(node, entry);
        this.trace.detail(
          message.batch,
          () => `${who} applies ${message.entries.map((entry) => `${entry.term}/${entry.index}`).join(" ")}`,
        );
        break;
      case "status": {
        const { term, leading, leaderPeerId, membership } = message.status;
        const members = `voters ${membership.voters.join()}${membership.outgoing.length > 0 ? ` from ${membership.outgoing.join()}` : ""}`;
        this.trace.add(
          `${who} ${leading ? "leads" : leaderPeerId === 0 ? "knows no leader" : `follows ${leaderPeerId}`} in term ${term}, ${members}`,
        );
        break;
      }
      case "install":
        this.#counts.checkpoints++;
        this.trace.add(`${who} takes over a checkpoint at ${message.index}`);
        break;
      default:
        break;
    }
    return heard;
  }

  says(node: SimNode, message: ToConsensus): ToConsensus[] {
    if (message.kind === "installed") {
      // The tables are the checkpoint's from here on.
      this.invariants.holds(node);
    } else if (message.kind === "change-membership") {
      const changes = message.changes.map(({ kind, peerId }) => `${kind} ${peerId}`).join(", ");
      this.trace.add(`${node.peer.peerId} wants ${changes}`);
    }
    return this.#faults.says?.(node, message) ?? [message];
  }

  applied(node: SimNode): void {
    if (node.replica !== null) this.invariants.holds(node);
  }

  serves(node: SimNode): void {
    this.trace.add(`${node.peer.peerId} serves`);
    if (node === this.#rotten) this.fail(new Violation(`node ${node.peer.peerId} serves what a damaged disk told it`));
  }

  fatal(node: SimNode, error: unknown): void {
    const { message } = asRoostError(error);
    this.trace.add(`${node.peer.peerId} stops itself: ${message}`);
    if (!node.disk.failed) this.fail(new Violation(`node ${node.peer.peerId} stopped itself: ${message}`, { cause: error }));
    this.#crash(node, false);
  }

  refuses(node: SimNode, error: RoostError): void {
    this.trace.add(`${node.peer.peerId} refuses to start: ${error.message}`);
    this.#counts.refusals++;
    if (node === this.#rotten) this.#rotten = null;
    else this.fail(new Violation(`node ${node.peer.peerId} takes its disk for damaged: ${error.message}`));
  }

  /** The cores of all nodes, as they are: asked for work after everything that happens to them. Returns the end of it. */
  #watchCores(): () => void {
    const look = (core: Raft): void => this.#look(core);
    return replace(
      RaftNode.prototype,
      "hasReady",
      (original) =>
        function (this: RaftNode) {
          look((this as unknown as { raft: Raft }).raft);
          return original.call(this);
        },
    )();
  }

  #look(core: Raft): void {
    const node = this.#active;
    if (node === null || node.peer.peerId !== core.id) return;
    if (node.raft !== core) {
      node.raft = core;
      this.#faults.core?.(core, node);
    }
    try {
      if (core.role === "leader") this.invariants.leads(node, core);
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  // ---- What happens to them ----------------------------------------------------------------------------------------

  someNode(): SimNode | null {
    const serving = this.nodes.filter((node) => node.serving);
    return serving.length === 0 ? null : serving[this.random.below(serving.length)]!;
  }

  heardMs(node: SimNode): number {
    return this.network.heardMs(node.peer.peerId);
  }

  #leader(): SimNode | null {
    const leading = this.nodes.filter((node) => node.raft?.role === "leader");
    return leading.toSorted((a, b) => b.raft!.term - a.raft!.term)[0] ?? null;
  }

  add(number: number): SimNode {
    const { random } = this;
    const disk = new SimDisk(this.queue, seededRandom(this.#seed * 31 + number), this.#faults);
    disk.slowMs = this.#slowMs;
    const rate = this.#clockSpread ** (random.unit() - 0.5);
    const limits = { maxEntries: [40, 150, 1_000][random.below(3)]!, keepEntries: [0, 10, 30][random.below(3)]! };
    const node = new SimNode(peerOf(number), this, { disk, random: seededRandom(this.#seed * 37 + number), rate, limits });
    this.nodes.push(node);
    return node;
  }

  #every(meanMs: number, action: () => void): void {
    const again = (): void => {
      if (!this.#calm) action();
      this.queue.after(1 + this.random.below(2 * meanMs), again);
    };
    this.queue.after(this.random.below(2 * meanMs), again);
  }

  #someQuality(): typeof PERFECT {
    const { random } = this;
    return {
      lossPercent: [0, 0, 2, 15][random.below(4)]!,
      doublePercent: [0, 5, 20][random.below(3)]!,
      delayMs: [1, 20, 120][random.below(3)]!,
      reorder: random.below(2) === 0,
      bandwidth: [Infinity, Infinity, 50][random.below(3)]!,
    };
  }

  #crash(node: SimNode, power: boolean): void {
    if (!node.up) return;
    this.trace.add(`${node.peer.peerId} ${power ? "loses power" : "dies"}`);
    this.#counts.crashes++;
    node.end(power);
    this.#comeBack(node);
  }

  #comeBack(node: SimNode): void {
    const { random } = this;
    // Half of them are back before anybody has noticed: what they forget then, they forget in the middle of an election.
    this.queue.after(5 + random.below([50, 3_000][random.below(2)]!), () => {
      node.disk.full = false;
      if (!node.up && !node.refused) this.trace.add(`${node.peer.peerId} starts`);
      node.start();
    });
  }

  #fault(): void {
    const { random, network, queue, trace } = this;
    const anyone = this.nodes[random.below(this.nodes.length)]!;
    const node = random.below(this.#churn ? 2 : 4) > 0 ? anyone : (this.#leader() ?? anyone);
    const { peerId } = node.peer;
    const kind = random.below(18);
    // Most cuts are mended before long; then elections are over, and clients find a leader.
    if (kind >= 6 && kind <= 9 && random.below(3) > 0) queue.after(300 + random.below(4_000), () => network.heal());
    if (kind <= 2) this.#crash(node, false);
    else if (kind <= 4) this.#crash(node, true);
    else if (kind === 5) for (const one of this.nodes) this.#crash(one, true);
    else if (kind <= 7) {
      // Cut one off, in one direction or both.
      const way = random.below(3);
      trace.add(`cut ${way === 0 ? "from" : way === 1 ? "to" : "off"} ${peerId}`);
      for (const other of this.nodes) {
        if (way !== 1) network.cut(peerId, other.peer.peerId);
        if (way !== 0) network.cut(other.peer.peerId, peerId);
      }
    } else if (kind === 8) {
      const side = new Set(this.nodes.filter(() => random.below(2) === 0).map((one) => one.peer.peerId));
      trace.add(`cut between ${[...side].join()} and the others`);
      for (const a of this.nodes)
        for (const b of this.nodes) if (side.has(a.peer.peerId) !== side.has(b.peer.peerId)) network.cut(a.peer.peerId, b.peer.peerId);
    } else if (kind === 9) {
      const other = this.nodes[random.below(this.nodes.length)]!.peer.peerId;
      trace.add(`cut ${peerId} → ${other}`);
      network.cut(peerId, other);
    } else if (kind <= 11) {
      trace.add("links healed");
      network.heal();
    } else if (kind === 12) {
      network.quality = this.#someQuality();
      trace.add(`links are ${JSON.stringify(network.quality)}`);
    } else if (kind === 13) {
      const slowMs = [50, 500, 3_000][random.below(3)]!;
      trace.add(`disk of ${peerId} takes up to ${slowMs} ms`);
      node.disk.slowMs = slowMs;
      queue.after(random.below(4_000), () => (node.disk.slowMs = this.#slowMs));
    } else if (kind === 14) {
      const forMs = 500 + random.below(6_000);
      trace.add(`disk of ${peerId} is stuck for ${forMs} ms`);
      node.disk.stuckUntilMs = queue.now + forMs;
    } else if (kind === 15) {
      trace.add(`disk of ${peerId} is full`);
      node.disk.full = true;
      // Found out with its next write; if there is none, room is made again.
      queue.after(2_000, () => (node.disk.full = false));
    } else if (kind === 16) {
      const forMs = 100 + random.below(4_000);
      const which = random.below(3);
      trace.add(
        `${peerId} stands still for ${forMs} ms${which === 0 ? ", all of it" : which === 1 ? ", main thread" : ", consensus thread"}`,
      );
      if (which !== 2) node.main?.pause(forMs);
      if (which !== 1) node.consensus?.pause(forMs);
    } else if (random.below(4) > 0) {
      const leader = this.#leader();
      trace.add(`${leader?.peer.peerId ?? "nobody"} hands leadership over`);
      leader?.main?.run(() => leader.replica?.transferLeadership());
    } else this.#rot(node);
  }

  /** One node a run at most, of at least three voters: what is damaged is lost for good, and no majority may be. */
  #rot(node: SimNode): void {
    const { voters = [], outgoing = [] } = node.raft?.tracker.confState() ?? {};
    if (this.#operator.removes || this.#counts.refusals > 0 || this.#rotten !== null) return;
    // Half of a joint configuration may be that one node.
    if (voters.length < 3 || outgoing.length > 0 || !node.up) return;
    this.trace.add(`${node.peer.peerId} loses power, and a bit of its disk turns`);
    node.end(true);
    this.#rotten = node;
    node.disk.rot(this.random);
    this.#comeBack(node);
  }

  // ---- The end -----------------------------------------------------------------------------------------------------

  /** Liveness: when faults end, or freeze while a majority is whole, every node that can must serve within bounded time. */
  async #recover(): Promise<void> {
    const { network, queue, random } = this;
    this.#calm = true;
    this.#clients.stop();
    network.heal();
    network.quality = PERFECT;
    for (const node of this.nodes) {
      node.disk.slowMs = 1;
      node.disk.stuckUntilMs = 0;
      node.disk.full = false;
    }
    // A removal waits for whoever it needs.
    const left = this.#spare(random.below(3) === 0 && !this.#operator.removes);
    // Deaf, mute or both: a deaf leader must step down, a deaf follower must not disturb.
    const way = random.below(3);
    for (const node of left) {
      for (const other of this.nodes) {
        if (way !== 1) network.cut(node.peer.peerId, other.peer.peerId);
        if (way !== 0) network.cut(other.peer.peerId, node.peer.peerId);
      }
    }
    const how = ["mute", "deaf", "cut off"][way]!;
    this.trace.add(`faults end${left.length > 0 ? `, but ${left.map((node) => node.peer.peerId).join()} stays ${how}` : ""}`);
    for (const node of this.nodes) node.start();
    const end = queue.now + RECOVER_MS;
    const missing = new Set<SimNode>();
    await this.#until(queue.now + 100);
    for (const node of this.nodes) {
      if (node.refused || left.includes(node)) continue;
      missing.add(node);
      void (node === this.#operator.leaving?.node ? this.#operator.gone(node) : this.#serveAgain(node)).then(
        () => missing.delete(node),
        (thrown: unknown) => this.fail(thrown),
      );
    }
    await this.#until(end, () => missing.size === 0);
    if (missing.size > 0)
      throw new Violation(`liveness: ${[...missing].map((node) => node.peer.peerId).join()} did not serve within ${RECOVER_MS} ms`);
    // A last common index, to compare.
    await this.#until(queue.now + 300);
    const last = this.#leader()?.raft?.tracker.confState();
    const peers = last === undefined ? [] : [...last.voters, ...last.outgoing, ...last.learners];
    this.#counts.followers = this.nodes.filter((node) => node.serving && !peers.includes(node.peer.peerId)).length;
    if (left.length === 0 && random.below(3) === 0) await this.#comeBackQuietly();
  }

  /** Stability: a follower that was cut off, deaf or mute for a while does not depose a leader that all others hear (thesis 9.6, 4.2.3). */
  async #comeBackQuietly(): Promise<void> {
    const { network, queue, random } = this;
    const leader = this.#leader();
    const others = this.nodes.filter((node) => node.serving && node !== leader);
    if (leader === null || others.length < 2 || this.nodes.some((node) => !node.serving)) return;
    const members = leader.raft!.tracker;
    if (members.isJoint() || members.peers().length !== this.nodes.length || members.confState().learners.length > 0) return;
    const node = others[random.below(others.length)]!;
    const way = random.below(4);
    const term = leader.raft!.term;
    this.trace.add(`${node.peer.peerId} is ${["mute", "deaf", "cut off", "deaf to its leader"][way]!} for a while`);
    if (way === 3) network.cut(leader.peer.peerId, node.peer.peerId);
    else
      for (const other of this.nodes) {
        if (way !== 1) network.cut(node.peer.peerId, other.peer.peerId);
        if (way !== 0) network.cut(other.peer.peerId, node.peer.peerId);
      }
    await this.#until(queue.now + 5_000);
    network.heal();
    await this.#until(queue.now + 3_000);
    if (leader.raft?.role !== "leader" || leader.raft.term !== term)
      throw new Violation(`stability: ${node.peer.peerId} came back and deposed ${leader.peer.peerId}, which led in term ${term}`);
  }

  /** Nodes whose links may stay cut: a minority that the others need not. */
  #spare(some: boolean): SimNode[] {
    if (!some) return [];
    const known = this.nodes.flatMap((node) =>
      node.raft === null ? [] : [node.raft.tracker.confState().voters.toSorted((a, b) => a - b)],
    );
    // Where some know of other voters than others, nobody can say who is needed.
    if (new Set(known.map(String)).size > 1) return [];
    const voters = new Set(known.flat());
    const gone = this.nodes.filter((node) => node.refused || node === this.#rotten).length;
    const spare = Math.floor((this.nodes.filter((node) => voters.has(node.peer.peerId)).length - 1) / 2) - gone;
    const changing =
      this.nodes.length > voters.size || this.nodes.some((node) => (node.raft?.tracker.confState().outgoing.length ?? 0) > 0);
    // The leader first: it has the most to give up.
    const leader = this.#leader();
    return spare <= 0 || changing
      ? []
      : this.nodes
          .filter((node) => !node.refused)
          .toSorted((a, b) => Number(b === leader) - Number(a === leader))
          .slice(0, spare);
  }

  async #serveAgain(node: SimNode): Promise<void> {
    const { peerId } = node.peer;
    for (let i = 1; ; i++) {
      const written = await this.#clients.call(node, (replica) =>
        replica.propose(
          { type: "bench.put", key: `end ${peerId}`, value: "x" },
          { actor: "sim", requestId: this.#clients.requestId(`end ${peerId} ${i}`), timeoutMs: 3_000 },
        ),
      );
      const read = await this.#clients.call(node, (replica) => replica.read({ timeoutMs: 3_000 }));
      if (written !== null && "value" in written && read !== null && "value" in read) return;
      await this.#clients.sleep(100);
    }
  }

  #check(): void {
    const { invariants } = this;
    invariants.compare(this.nodes);
    for (const node of this.nodes) {
      if (!node.serving) continue;
      invariants.holds(node);
      invariants.sameTables(node);
      invariants.nothingLost(node);
    }
    const { bad } = checkLinearizable(REGISTER, this.#clients.history);
    if (bad === null) return;
    const lines = bad.operations.map(
      ({ client, input, calledMs, ended }) =>
        `${calledMs.toFixed(1)}–${ended?.atMs.toFixed(1) ?? "?"} client ${client} ${JSON.stringify(input)} → ${ended === null ? "unknown" : String(ended.output)}`,
    );
    throw new Violation(
      `linearizability: ${bad.key}: at most ${bad.explained} of ${lines.length} operations fit together:\n  ${lines.join("\n  ")}`,
    );
  }
}

function frameText(payload: Uint8Array): string {
  const frame = decodeFrame(payload);
  if (frame.kind !== "raft") return frame.kind;
  const { type, term, index, logTerm, commit, entries, reject } = frame.message;
  return `${type} term ${term} at ${logTerm}/${index} commit ${commit}${entries.length > 0 ? ` +${entries.length}` : ""}${reject ? " no" : ""}`;
}
