/**
 * This node as a Raft peer: the pump. Ticks and messages go into the core, and what comes out goes to the rooms around it, in
 * asynchronous-storage mode so that disk, network and the main thread's applying overlap.
 */
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { RaftNode } from "../../raft/core/node.ts";
import { isPeer } from "../../model/membership.ts";
import { message as raftMessage } from "../../raft/core/message.ts";
import { APPEND_THREAD, APPLY_THREAD, type Checkpoint, type Message, NONE } from "../../raft/core/types.ts";
import type { LevelLog } from "../../raft/storage/level.ts";
import type { CheckpointRequest, Lane, Peer, WireChunk } from "../../raft/transport/links.ts";
import type { Position } from "../../state/state.ts";
import type { Applying } from "./applying.ts";
import { Asking } from "./asking.ts";
import type { CheckpointSource } from "./checkpoint-source.ts";
import { CommitNews } from "./commit-news.ts";
import { DiskWatch } from "./disk-watch.ts";
import { Lifetime } from "./effects.ts";
import { Feeds } from "./feeds.ts";
import type { Fetching } from "./fetching.ts";
import type { Follow, Hint, LeaderNews } from "./follow-frames.ts";
import type { PeerFrame } from "./frames.ts";
import { HandingOut } from "./handing-out.ts";
import { type LogLimits, LogView } from "./log-view.ts";
import { Offering } from "./offering.ts";
import type { ConsensusConfig, FromConsensus, MembershipChange, PeersHeard } from "./protocol.ts";
import { type RoundEnd, Rounds } from "./rounds.ts";
import { refusalOf } from "./speaking.ts";
import type { Status } from "./status.ts";
import { Writing } from "./writing.ts";

/** Part of the election time that counts as passed when a peer starts. */
const HEAD_START = 0.9;
/** A learner this close to the leader's last entry may vote. */
const CAUGHT_UP_ENTRIES = 1_000;

/** Proposals that may wait for the leader's disk; as much as the core takes that is not committed. */
const HELD_MAX_BYTES = 64 << 20;

/** Messages that must not queue behind appends. */
const BEAT_LANE: ReadonlySet<Message["type"]> = new Set([
  "heartbeat",
  "heartbeat-reply",
  "vote",
  "vote-reply",
  "pre-vote",
  "pre-vote-reply",
  "timeout-now",
  "read-index",
  "read-index-reply",
]);

export interface PeerEffects {
  log: Logger;
  clock: Clock;
  raftLog: LevelLog;
  logLimits?: Partial<LogLimits>;
  applying: Applying;
  source: CheckpointSource;
  fetching: Fetching;
  status: Status;
  random: (limit: number) => number;
  post: (message: FromConsensus) => void;
  send: (to: number, lane: Lane, frame: PeerFrame) => boolean;
  leaderIs: (lead: number) => void;
  /** All nodes that are known. */
  peers: () => Iterable<Peer>;
  news: () => LeaderNews;
  /** No peer any more, as of `index`. */
  out: (index: number) => void;
  fatal: (error: unknown) => void;
}

export class RaftPeer {
  readonly #config: ConsensusConfig;
  readonly #effects: PeerEffects;
  readonly #log: LogView;
  readonly #node: RaftNode;
  readonly #rounds: Rounds;
  readonly #writing: Writing;
  readonly #commitNews: CommitNews;
  readonly #handingOut: HandingOut;
  readonly #feeds: Feeds;
  readonly #asking: Asking;
  readonly #lifetime: Lifetime;
  /** Proposals that wait for the disk. */
  readonly #held: (readonly Uint8Array[])[] = [];
  #heldBytes = 0;
  readonly #offering: Offering;
  /** While it leads: when each peer last said something, monotonic ms; of one term. */
  readonly #heardMs = new Map<number, number>();
  #heardTerm = 0;
  readonly #disk: DiskWatch;
  #diskStuck = false;
  /** Neither hears nor says anything. */
  #silent = false;

  /** @param position where the state is; the log holds what comes after, or begins there. */
  constructor(config: ConsensusConfig, position: Position, effects: PeerEffects) {
    const { applying, clock, log, random, raftLog } = effects;
    this.#config = config;
    this.#effects = effects;
    this.#lifetime = new Lifetime(clock);
    this.#offering = new Offering({
      clock,
      log,
      lifetime: this.#lifetime,
      source: effects.source,
      report: (peerId, arrived) => {
        this.#node.reportCheckpoint(peerId, arrived);
        this.pump();
      },
    });
    this.#log = new LogView(raftLog, position, {
      source: effects.source,
      post: effects.post,
      ...(effects.logLimits === undefined ? {} : { limits: effects.logLimits }),
    });
    this.#node = new RaftNode({
      id: config.peerId,
      electionTicks: config.electionTicks,
      heartbeatTicks: config.heartbeatTicks,
      storage: this.#log,
      random,
      applied: position.index,
      asyncStorageWrites: true,
      maxSizePerMessage: 1 << 20,
      maxCommittedSizePerReady: 4 << 20,
      maxUncommittedSize: 64 << 20,
      maxInflightMessages: 256,
      maxInflightBytes: 32 << 20,
      checkQuorum: true,
      preVote: true,
      stepDownOnRemoval: true,
      log: (level, text) => log[level === "warn" ? "warn" : "debug"](text),
    });
    this.#rounds = new Rounds((context) => this.#node.readIndex(context), random(2 ** 20));
    const over = (): boolean => this.#lifetime.over;
    const failed = (thrown: unknown): void => {
      // Writes under way when the log closes are refused: nobody waits for them any more.
      if (!over()) effects.fatal(thrown);
    };
    this.#commitNews = new CommitNews({
      lifetime: this.#lifetime,
      nowMs: () => clock.monotonicMs(),
      send: (message) => this.#sendOut(message),
    });
    this.#disk = new DiskWatch(() => clock.monotonicMs(), config.electionTicks * config.tickMs);
    this.#writing = new Writing({
      raftLog,
      disk: this.#disk,
      install: async (checkpoint) => {
        log.info("installing a checkpoint", { index: checkpoint.index });
        await applying.install(checkpoint);
      },
      written: (responses) => this.#written(responses),
      failed,
      over,
    });
    this.#handingOut = new HandingOut({
      node: this.#node,
      applying,
      lifetime: this.#lifetime,
      nowMs: () => clock.monotonicMs(),
      inHurry: () => this.leadingTerm !== 0 || this.#feeds.any,
      commitTo: (index) => raftLog.commitTo(index),
      membershipAt: (index) => (this.#log.membershipIndex = index),
      applied: (messages) => {
        if (over()) return;
        if (!isPeer(applying.membership, config.peerId)) return effects.out(applying.appliedIndex);
        for (const { responses } of messages) this.#routeAll(responses);
      },
      failed,
    });
    const electionMs = config.electionTicks * config.tickMs;
    this.#feeds = new Feeds({
      peerId: config.peerId,
      clock,
      log: this.#log,
      applying,
      silenceMs: electionMs,
      news: effects.news,
      send: effects.send,
      sendCheckpoint: (to, checkpoint) => this.#sendCheckpoint(to, checkpoint),
    });
    this.#asking = new Asking({
      peerId: config.peerId,
      electionMs,
      clock,
      applying,
      peers: effects.peers,
      ask: (peerId) => effects.send(peerId, "beat", { kind: "ask" }),
      learnCommitted: (id) => this.#node.learnCommitted(id),
      out: effects.out,
    });
  }

  start(): void {
    this.#lifetime.every(this.#config.tickMs, () => {
      this.#tick();
      this.#rounds.tick(this.#effects.clock.monotonicMs());
      this.#asking.look(this.lead, this.#effects.status.leaderHeardMs);
      this.pump();
      this.#effects.source.tick();
      this.#log.keepShort(this.#effects.applying.appliedIndex);
    });
    // When all agents restart at once, claims run on while there is no leader, so the first election comes early: after 0.1 to 1.1
    // election times. A leader that lives loses nothing by it, its followers refuse the pre-vote.
    for (let ticks = Math.floor(this.#config.electionTicks * HEAD_START); ticks > 0; ticks--) this.#node.tickQuiesced();
    // Alone there is nobody to wait for.
    const { voters } = this.#effects.applying.membership;
    if (voters.length === 1 && voters[0] === this.#config.peerId) this.#node.campaign();
    this.pump();
  }

  stop(): void {
    this.#lifetime.end();
  }

  /** Who waits for a quorum round, when another room is to ask for them. */
  leaveRounds(): RoundEnd[] {
    return this.#rounds.leave();
  }

  /** Of the log, committed or not. */
  get lastEntry(): { lastIndex: number; lastTerm: number } {
    const lastIndex = this.#effects.raftLog.lastIndex();
    const lastTerm = this.#effects.raftLog.term(lastIndex);
    return { lastIndex, lastTerm: typeof lastTerm === "number" ? lastTerm : 0 };
  }

  #tick(): void {
    const { applying, log, post } = this.#effects;
    const disk = this.#disk;
    if (disk.stuck !== this.#diskStuck) {
      this.#diskStuck = disk.stuck;
      const text = disk.stuck ? "the disk of the Raft log does not answer" : "the disk of the Raft log answers again";
      log.warn(text, { path: this.#config.logPath, waitedMs: Math.round(disk.waitedMs) });
      post({ kind: "disk", stuck: disk.stuck });
    }
    const alone = applying.membership.voters.length === 1;
    const step = disk.step(this.leadingTerm !== 0 && !alone);
    if (step === "hand-over" && this.#node.status().transferee === NONE) this.transferLeadership(null);
    // Deaf and dumb, it is to the others as if it were dead, and finds out by CheckQuorum that it leads nobody.
    this.#silent = step === "silence";
    // As a follower it must not campaign: it could win without its own vote, and lead without a disk.
    if (step !== "wait" || alone) this.#node.tick();
    // They waited for a disk that somebody else's takes the place of.
    if (this.leadingTerm === 0) this.#proposeHeld();
  }

  /** Takes work from the core until it has none. */
  pump(): void {
    if (this.#lifetime.over) return;
    const { applying, clock, fatal, leaderIs, status } = this.#effects;
    try {
      while (this.#node.hasReady()) {
        const ready = this.#node.ready();
        if (ready.soft !== null) leaderIs(ready.soft.lead);
        for (const message of ready.messages) this.#route(message, ready.mustSync);
        for (const read of ready.readStates) this.#rounds.confirmed(clock.monotonicMs(), read.context, read.index);
      }
      this.#feeds.pump();
      const { lead, role } = this.#node.soft;
      status.update({ term: this.#node.term, leading: role === "leader", role, lead, membership: applying.membership });
    } catch (thrown) {
      fatal(thrown);
    }
  }

  // ---- In --------------------------------------------------------------------------------------------------------

  /** What cannot be taken or passed on now is dropped. */
  propose(data: readonly Uint8Array[]): void {
    if (this.#lifetime.over) return;
    this.#handingOut.asked();
    // While the leader's disk writes, what comes gathers and goes out as one: it could not be committed earlier, and costs once.
    if (this.leadingTerm === 0 || !this.#writing.busy) return void this.#node.proposeAll(data);
    // Of a disk that hangs with nobody to hand over to, they would pile up: each is proposed again and again.
    const bytes = data.reduce((sum, { length }) => sum + length, 0);
    if (this.#heldBytes + bytes > HELD_MAX_BYTES) return;
    this.#held.push(data);
    this.#heldBytes += bytes;
  }

  #proposeHeld(): void {
    this.#heldBytes = 0;
    for (const data of this.#held.splice(0)) this.#node.proposeAll(data);
  }

  /** `end` is called after a quorum round that begins now or later. @throws RoostError `exhausted` if too many wait. */
  round(end: RoundEnd): void {
    this.#handingOut.asked();
    this.#rounds.join(this.#effects.clock.monotonicMs(), end);
  }

  changeMembership(changes: readonly MembershipChange[]): void {
    const refusal = this.#node.proposeConfChange({
      v1: false,
      transition: "auto",
      changes: changes.map((change) => ({ kind: change.kind, peer: change.peerId })),
      context: null,
    });
    if (refusal !== null) this.#effects.log.debug("membership change not taken", { refusal });
  }

  transferLeadership(among: readonly number[] | null): void {
    const { progress } = this.#node.status();
    const target = progress
      .filter((peer) => peer.id !== this.#config.peerId && !peer.learner && peer.recentActive)
      .filter((peer) => among === null || among.includes(peer.id))
      .toSorted((a, b) => b.match - a.match)[0];
    if (target === undefined) return;
    // It campaigns at once, by what it knows then.
    this.#commitNews.asked();
    this.#node.transferLeader(target.id);
  }

  durable(position: Position): void {
    this.#log.cut(position).catch((thrown: unknown) => {
      if (!this.#lifetime.over) this.#effects.fatal(thrown);
    });
  }

  /** @throws RoostError `damaged` on rubbish. */
  step(from: Peer, message: Message): void {
    if (this.#lifetime.over) return;
    if (this.#silent || (message.type === "append" && this.#writing.full)) return;
    // Who cannot write a vote cannot take the leadership over.
    if (message.type === "timeout-now" && this.#disk.stuck) return;
    const refusal = refusalOf(from, message);
    if (refusal !== null) return this.#effects.log.warn(refusal, { from: from.nodeId, claimed: message.from });
    const isAsking = message.type === "propose" || message.type === "read-index";
    if (!isAsking && !this.#asking.believes(from.peerId)) return;
    if (message.type === "append" || message.type === "heartbeat" || message.type === "checkpoint") this.#effects.status.leaderHeard();
    if (this.leadingTerm !== 0) this.#heardMs.set(from.peerId, this.#effects.clock.monotonicMs());
    if (isAsking) this.#commitNews.asked();
    if (message.type === "checkpoint" && message.checkpoint !== null && this.#needs(message.checkpoint))
      this.#fetch(from, message, message.checkpoint);
    else this.#node.step(message);
  }

  /** Chunks of a checkpoint for a node; see Offering. */
  serve(peerId: number, request: CheckpointRequest): AsyncIterable<WireChunk> {
    return this.#offering.serve(peerId, request);
  }

  set checkpointMbps(mbps: number) {
    this.#offering.mbps = mbps;
  }

  /** Somebody follows, or wants to; null, or why not here. */
  follow(from: Peer, follow: Follow): Hint["refusal"] {
    const { applying } = this.#effects;
    if (this.#lifetime.over || !applying.membership.voters.includes(this.#config.peerId)) return "not-a-voter";
    return this.#feeds.follow(from, follow);
  }

  onHint(from: Peer, hint: Hint): void {
    if (!this.#lifetime.over) this.#asking.onHint(from, hint);
  }

  unreachable(peerId: number): void {
    this.#node.reportUnreachable(peerId);
    this.pump();
  }

  // ---- What others ask of it --------------------------------------------------------------------------------------

  /** NONE: unknown. */
  get lead(): number {
    return this.#node.soft.lead;
  }

  get term(): number {
    return this.#node.term;
  }

  /** 0 unless this peer leads. */
  get leadingTerm(): number {
    return this.#node.soft.role === "leader" ? this.#node.term : 0;
  }

  /** HA-2: a leader that has applied the first entry of its own term and has no transfer pending. */
  mayAcknowledge(): boolean {
    if (this.#disk.stuck) return false;
    return this.leadingTerm !== 0 && this.#effects.applying.appliedTerm === this.leadingTerm && this.#node.status().transferee === NONE;
  }

  /** What it knows of its peers; null unless it leads. */
  peersHeard(): PeersHeard | null {
    if (this.leadingTerm === 0) return null;
    const { progress, lastIndex } = this.#node.status();
    const nowMs = this.#effects.clock.monotonicMs();
    if (this.#heardTerm !== this.leadingTerm) this.#heardMs.clear();
    this.#heardTerm = this.leadingTerm;
    const others = progress.filter((peer) => peer.id !== this.#config.peerId);
    for (const { id } of others) if (!this.#heardMs.has(id)) this.#heardMs.set(id, nowMs);
    return {
      caughtUp: others
        .filter((peer) => peer.learner && peer.state === "replicate" && peer.match + CAUGHT_UP_ENTRIES >= lastIndex)
        .map((peer) => peer.id),
      lastHeardMs: others.map(({ id }) => [id, this.#heardMs.get(id) ?? nowMs]),
    };
  }

  // ---- Out -------------------------------------------------------------------------------------------------------

  #written(responses: readonly Message[]): void {
    if (this.#lifetime.over) return;
    for (const response of responses) this.#route(response, false);
    this.#proposeHeld();
    this.pump();
  }

  #routeAll(messages: readonly Message[]): void {
    if (this.#lifetime.over) return;
    for (const message of messages) this.#route(message, false);
    this.pump();
  }

  #route(message: Message, sync: boolean): void {
    if (message.to === APPEND_THREAD) {
      this.#writing.add(message, sync);
    } else if (message.to === APPLY_THREAD) {
      this.#handingOut.add(message);
    } else if (message.to === this.#config.peerId) {
      this.#node.step(message);
    } else if (message.type !== "append" || !this.#commitNews.holds(message)) {
      this.#sendOut(message);
    }
  }

  #sendOut(message: Message): void {
    if (this.#silent) return;
    const lane: Lane = BEAT_LANE.has(message.type) ? "beat" : "log";
    const sent = this.#effects.send(message.to, lane, { kind: "raft", message });
    if (message.type === "checkpoint") this.#offering.offered(message.to, sent);
    else if (!sent && message.type === "append") this.#node.reportUnreachable(message.to);
  }

  /** To a follower: offered as the leader offers it to a peer. */
  #sendCheckpoint(to: number, checkpoint: Checkpoint): void {
    const message = { ...raftMessage("checkpoint", to, this.#config.peerId), term: this.#node.term, checkpoint };
    this.#effects.send(to, "log", { kind: "raft", message });
  }

  /** Else the core has it already, or can go on to there by its own log. */
  #needs({ index, term }: Checkpoint): boolean {
    return index > this.#node.committed && this.#log.term(index) !== term;
  }

  /** The message only offers it; the core hears of it when all of it is here. */
  #fetch(from: Peer, message: Message, checkpoint: Checkpoint): void {
    this.#effects.fetching.offer(from.peerId, new TextDecoder().decode(checkpoint.data), (path) => {
      if (this.#lifetime.over) return;
      this.#node.step({ ...message, checkpoint: { ...checkpoint, data: new TextEncoder().encode(path) } });
      this.pump();
    });
  }
}
