/**
 * A whole Raft group in one process on a virtual clock: everything that happens follows from the seed. First faults of every
 * kind with the checks of checks.ts; then all faults stop and the group must make progress.
 */
import type { Random } from "../../src/base/random.ts";
import { seededRandom } from "../../src/base/random.ts";
import { decodeMessage, encodeMessage } from "../../src/raft/codec.ts";
import type { Checkpoint, ConfChange, ConfState, Entry, Message, PeerChange, PeerId, RaftConfig } from "../../src/raft/core/types.ts";
import { Checks, Violation } from "./checks.ts";
import type { DriverFaults, World } from "./core-peer.ts";
import { SimPeer } from "./core-peer.ts";
import { EventQueue } from "./queue.ts";

/** Virtual milliseconds. */
const TICK_MS = 10;
const FAULTY_MS = 8_000;
const CALM_MS = 10_000;

export interface SimResult {
  /** What was done, to see that a run was not empty. */
  readonly elections: number;
  readonly applied: number;
  readonly crashes: number;
  readonly changes: number;
  readonly reads: number;
  readonly checkpoints: number;
}

export function simulateCore(seed: number, faults: DriverFaults = {}): SimResult {
  return new CoreSimulation(seed, faults).run();
}

class CoreSimulation implements World {
  private readonly random: Random;
  private readonly queue = new EventQueue();
  private readonly checks = new Checks();
  private readonly peers: SimPeer[] = [];
  /** from * 100 + to: messages that way are lost. */
  private readonly cut = new Set<number>();
  /** Work that waits for the one under way, by peer, kind and life. */
  private readonly waiting = new Map<string, (() => void)[]>();
  private readonly pendingReads = new Map<string, number>();
  private readonly counts = { elections: 0, crashes: 0, changes: 0, reads: 0, checkpoints: 0 };
  private readonly lossPercent: number;
  private readonly maxDelay: number;
  private readonly slowDisk: number;
  /** A quarter of the runs never leave a leader in peace: what goes wrong between two leaders needs many of them. */
  private readonly churn: boolean;
  private readonly terms = new Set<number>();
  private calm = false;
  private proposed = 0;

  constructor(seed: number, faults: DriverFaults) {
    this.random = seededRandom(seed);
    const { random } = this;
    this.lossPercent = [0, 2, 10, 30][random.below(4)]!;
    this.maxDelay = [5, 30, 150][random.below(3)]!;
    this.slowDisk = [1, 10, 100][random.below(3)]!;
    this.churn = random.below(4) === 0;
    const voters = this.churn ? 3 + random.below(3) : 1 + random.below(5);
    const total = voters + random.below(3);
    const quorumRules = random.below(4);
    const config: Omit<RaftConfig, "storage" | "id"> = {
      electionTicks: 10,
      heartbeatTicks: 1 + random.below(3),
      random: (limit) => random.below(limit),
      asyncStorageWrites: random.below(4) > 0,
      maxSizePerMessage: this.churn ? 0 : [0, 50, 1000][random.below(3)]!,
      maxCommittedSizePerReady: [50, 1000][random.below(2)]!,
      maxInflightMessages: 1 + random.below(8),
      // Half of the runs have both, as a real node does.
      checkQuorum: quorumRules !== 1,
      preVote: quorumRules !== 0,
      // Else a leader that a change has removed goes on for ever and drops every proposal.
      stepDownOnRemoval: true,
    };
    const confState: ConfState = {
      voters: Array.from({ length: voters }, (_, i) => i + 1),
      outgoing: [],
      learners: [],
      learnersNext: [],
      autoLeave: false,
    };
    const first: Checkpoint = { index: 1, term: 1, confState, data: new Uint8Array(4) };
    for (let id = 1; id <= total; id++) this.peers.push(new SimPeer(id, this, config, faults, id <= voters ? first : null));
  }

  run(): SimResult {
    const { random, queue } = this;
    for (const peer of this.peers) {
      peer.start();
      // Clocks that run up to a fifth too fast or too slow.
      const period = TICK_MS * (0.8 + 0.4 * random.unit());
      const beat = (): void => {
        if (peer.node !== null && (!this.calm || this.isMember(peer.id))) {
          peer.node.tick();
          if (peer.node.soft.lead === 0) this.ask(peer);
          peer.pump();
        }
        queue.after(period, beat);
      };
      queue.after(period * random.unit(), beat);
    }
    this.every(15, () => this.propose());
    this.every(60, () => this.read());
    this.every(400, () => this.changeMembership());
    this.every(300, () => this.compact());
    this.every(700, () => this.transfer());
    this.every(this.churn ? 40 : 200, () => this.fault());
    this.every(200, () => this.checkLogs());
    queue.runUntil(FAULTY_MS);

    this.calm = true;
    this.cut.clear();
    for (const peer of this.peers) if (peer.node === null) peer.start();
    queue.runUntil(FAULTY_MS + CALM_MS / 2);
    const before = this.checks.highest;
    queue.runUntil(FAULTY_MS + CALM_MS);
    this.checkProgress(before);
    return { ...this.counts, elections: this.terms.size, applied: this.checks.highest };
  }

  send(m: Message): void {
    const { random, queue } = this;
    const report = (arrived: boolean): void => {
      if (m.type !== "checkpoint") return;
      this.counts.checkpoints++;
      queue.after(1 + random.below(50), () => {
        const sender = this.peer(m.from);
        sender.node?.reportCheckpoint(m.to, arrived);
        sender.pump();
      });
    };
    const bytes = encodeMessage(m);
    const lossy = !this.calm && random.below(100) < this.lossPercent;
    if (lossy || this.cut.has(m.from * 100 + m.to)) {
      report(false);
      return;
    }
    const copies = !this.calm && random.below(100) < this.lossPercent ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const delay = 1 + (this.calm ? random.below(3) : random.below(this.maxDelay));
      queue.after(delay, () => {
        const to = this.peer(m.to);
        if (this.cut.has(m.from * 100 + m.to) || to.node === null) return report(false);
        to.step(decodeMessage(bytes));
        report(true);
      });
    }
  }

  later(peer: SimPeer, kind: "disk" | "apply", action: () => void): void {
    // Work of one kind is done in order, and what comes during a write shares the next one (group commit).
    const slot = `${peer.id} ${kind} ${peer.life}`;
    const waiting = this.waiting.get(slot);
    if (waiting === undefined) {
      this.waiting.set(slot, []);
      this.work(peer, kind, slot, [action]);
    } else waiting.push(action);
  }

  private work(peer: SimPeer, kind: "disk" | "apply", slot: string, actions: (() => void)[]): void {
    const { life } = peer;
    this.queue.after(0.1 + this.random.below(this.calm || kind === "apply" ? 2 : this.slowDisk), () => {
      if (peer.life !== life) return;
      for (const action of actions) action();
      peer.pump();
      const next = this.waiting.get(slot) ?? [];
      if (next.length === 0) this.waiting.delete(slot);
      else {
        this.waiting.set(slot, []);
        this.work(peer, kind, slot, next);
      }
    });
  }

  leads(peer: SimPeer): void {
    const raft = peer.raft!;
    this.terms.add(raft.term);
    this.checks.leads(peer.id, raft.term, raft.log);
  }

  applies(peer: SimPeer, previous: number, entry: Entry): void {
    this.checks.applies(peer.id, previous, entry);
  }

  reads(peer: SimPeer, context: Uint8Array, index: number): void {
    const before = this.pendingReads.get(new TextDecoder().decode(context));
    if (before === undefined) return;
    this.counts.reads++;
    this.checks.reads(peer.id, before, index);
  }

  private every(mean: number, action: () => void): void {
    const again = (): void => {
      action();
      this.queue.after(1 + this.random.below(2 * mean), again);
    };
    this.queue.after(this.random.below(2 * mean), again);
  }

  private peer(id: PeerId): SimPeer {
    return this.peers[id - 1]!;
  }

  private someRunning(): SimPeer | null {
    const running = this.peers.filter((peer) => peer.node !== null);
    return running.length === 0 ? null : running[this.random.below(running.length)]!;
  }

  private leader(): SimPeer | null {
    const leading = this.peers.filter((peer) => peer.node?.soft.role === "leader");
    return leading.length === 0 ? null : leading[this.random.below(leading.length)]!;
  }

  /** Membership as the newest leader sees it; without one everybody counts. */
  private isMember(id: PeerId): boolean {
    const leaders = this.peers.filter((peer) => peer.node?.soft.role === "leader").toSorted((a, b) => b.node!.term - a.node!.term);
    const known = leaders[0]?.raft?.tracker.progress;
    return known === undefined || known.has(id);
  }

  /** Without a leader a peer takes from those of its own membership what is committed of its log (docs/design/006-who-follows.md). */
  private ask(peer: SimPeer): void {
    const { voters = [], outgoing = [] } = peer.confState ?? {};
    for (const id of [...voters, ...outgoing]) {
      const other = this.peer(id);
      if (other === peer || other.node === null || this.cut.has(id * 100 + peer.id) || this.cut.has(peer.id * 100 + id)) continue;
      for (const [index, term] of other.changesApplied) peer.node?.learnCommitted({ index, term });
    }
  }

  private propose(): void {
    const peer = this.someRunning();
    if (peer === null) return;
    const count = 1 + this.random.below(3);
    peer.node!.proposeAll(Array.from({ length: count }, () => new TextEncoder().encode(`${++this.proposed}`)));
    peer.pump();
  }

  private read(): void {
    const peer = this.someRunning();
    if (peer === null) return;
    const context = `read ${this.pendingReads.size}`;
    this.pendingReads.set(context, this.checks.highest);
    peer.node!.readIndex(new TextEncoder().encode(context));
    peer.pump();
  }

  private changeMembership(): void {
    const leader = this.leader();
    if (leader === null || this.calm) return;
    const { random } = this;
    const current = leader.raft!.tracker.confState();
    const transition = (["auto", "implicit", "explicit"] as const)[random.below(3)]!;
    let change: ConfChange = { v1: false, transition, changes: [], context: null };
    if (current.outgoing.length > 0) change = { ...change, transition: "auto" };
    else {
      const changes: PeerChange[] = [];
      for (const { id } of this.peers) {
        const kind = (["voter", "voter", "voter", "learner", "remove"] as const)[random.below(5)]!;
        if (random.below(3) === 0) changes.push({ kind, peer: id });
      }
      // A leader must not remove itself: it would stop to campaign with the longest log, while the others still count by the
      // membership in which they need its vote. A driver hands over first.
      if (changes.some(({ kind, peer }) => peer === leader.id && kind !== "voter")) return;
      const gone = new Set(changes.filter(({ kind }) => kind !== "voter").map(({ peer }) => peer));
      if (changes.length === 0 || current.voters.every((id) => gone.has(id))) return;
      change = { ...change, changes };
    }
    leader.node!.proposeConfChange(change);
    this.counts.changes++;
    leader.pump();
  }

  private compact(): void {
    this.someRunning()?.compact(this.random.below(20));
  }

  private transfer(): void {
    const peer = this.someRunning();
    if (peer === null || this.calm) return;
    peer.node!.transferLeader(this.peers[this.random.below(this.peers.length)]!.id);
    peer.pump();
  }

  private fault(): void {
    if (this.calm) return;
    const { random } = this;
    const anyone = this.peers[random.below(this.peers.length)]!;
    const peer = this.churn && random.below(3) > 0 ? (this.leader() ?? anyone) : anyone;
    const kind = this.churn ? random.below(5) : random.below(6);
    if (kind <= 1) {
      if (peer.node === null) return peer.start();
      peer.crash();
      this.counts.crashes++;
      // Half of them are back before anybody has noticed: what they forget then, they forget in the middle of an election.
      this.queue.after(random.below(random.below(2) === 0 ? 20 : 1500), () => {
        if (peer.node === null) peer.start();
      });
    } else if (kind === 2) {
      // Cut one off, in one direction or both.
      const way = random.below(3);
      for (const other of this.peers) {
        if (way !== 0) this.cut.add(peer.id * 100 + other.id);
        if (way !== 1) this.cut.add(other.id * 100 + peer.id);
      }
    } else if (kind === 3) {
      const side = new Set(this.peers.filter(() => random.below(2) === 0).map(({ id }) => id));
      for (const a of this.peers) for (const b of this.peers) if (side.has(a.id) !== side.has(b.id)) this.cut.add(a.id * 100 + b.id);
    } else this.cut.clear();
  }

  private checkLogs(): void {
    const logs = this.peers.flatMap((peer) => (peer.raft === null ? [] : [peer.raft.log]));
    for (const [i, a] of logs.entries()) for (const b of logs.slice(i + 1)) this.checks.match(a, b);
  }

  /** Liveness: without faults there is a leader, new entries are applied, and all members come to the same state. */
  private checkProgress(before: number): void {
    const leader = this.leader();
    if (leader === null) throw new Violation("liveness: nobody leads without faults");
    if (this.checks.highest <= before) throw new Violation(`liveness: nothing was applied after ${before} without faults`);
    const members = this.peers.filter(({ id }) => leader.raft!.tracker.progress.has(id));
    for (const peer of members) {
      if (peer.applied < before) throw new Violation(`liveness: ${peer.id} has applied ${peer.applied} of ${before} without faults`);
      for (const other of members) {
        if (peer.applied === other.applied && peer.digest !== other.digest) throw new Violation(`${peer.id} and ${other.id} differ`);
      }
    }
  }
}
