/**
 * The consensus thread's doors: what the main thread and the other nodes say comes in here and goes to the room that owns it.
 * All effects come in from outside (daemon/consensus-thread.ts).
 */
import { assert } from "../../base/assert.ts";
import { asRoostError, RoostError } from "../../base/errors.ts";
import type { Acknowledgement, Heartbeat } from "../../model/heartbeat.ts";
import { isPeer } from "../../model/membership.ts";
import { NONE } from "../../raft/core/types.ts";
import type { CheckpointRequest, Lane, Peer, PeerLinks, WireChunk } from "../../raft/transport/links.ts";
import { Acks } from "./acks.ts";
import { Applying } from "./applying.ts";
import { CheckpointSource } from "./checkpoint-source.ts";
import { type DriverEffects, Lifetime } from "./effects.ts";
import { Fetching } from "./fetching.ts";
import { decodeFrame, encodeFrame, type PeerFrame } from "./frames.ts";
import { Heartbeats } from "./heartbeats.ts";
import type { Hint, LeaderNews } from "./follow-frames.ts";
import { Follower } from "./follower.ts";
import { alignLog } from "./open-log.ts";
import { RaftPeer } from "./peer.ts";
import type { ConsensusConfig, ToConsensus } from "./protocol.ts";
import { Status } from "./status.ts";

/** Beats and how fresh they are go to the main thread this often. */
const BEATS_EVERY_MS = 50;
/** Who said something within so many election times is reachable; without a leader all peers ask around that often. */
const REACHABLE_ELECTIONS = 3;
/** Nodes learned from others; a cluster's voters are few. */
const MET_MAX = 64;

export class ConsensusDriver {
  readonly #config: ConsensusConfig;
  readonly #effects: DriverEffects;
  readonly #lifetime: Lifetime;
  readonly #applying: Applying;
  readonly #status: Status;
  readonly #heartbeats: Heartbeats;
  readonly #acks: Acks;
  readonly #source: CheckpointSource;
  readonly #fetching: Fetching;
  /** What this node is to Raft, for now. */
  #seat: RaftPeer | Follower;
  /** It was chosen, and becomes a peer once its state is durable at least up to here; null: no such thing. */
  #chosenAt: number | null = null;
  readonly #peersByNodeId = new Map<string, Peer>();
  /** Nodes that others told of and the state does not know yet. */
  readonly #met = new Map<string, Peer>();
  #removed: ReadonlySet<string> = new Set();
  /** When each peer last said something, monotonic ms. */
  readonly #heardMs = new Map<number, number>();
  #zone = "";
  #checkpointMbps: number | null = null;
  #links: PeerLinks | null = null;

  constructor(config: ConsensusConfig, effects: DriverEffects) {
    const { clock, keeper, log } = effects;
    const post: DriverEffects["post"] = (message) => effects.post(message);
    this.#config = config;
    this.#effects = effects;
    this.#lifetime = new Lifetime(clock);
    this.#applying = new Applying(config.position, post);
    this.#status = new Status({ clock, post });
    this.#heartbeats = new Heartbeats(keeper, { log, lifetime: this.#lifetime, toLeader: (beat) => this.#toLeader(beat) });
    this.#source = new CheckpointSource({ clock, lifetime: this.#lifetime, post });
    this.#fetching = new Fetching({
      log,
      lifetime: this.#lifetime,
      inbox: effects.inbox,
      fetch: (peerId, request, signal) => this.#linked().fetchCheckpoint(peerId, request, signal),
    });
    this.#seat = isPeer(config.position.membership, config.peerId) ? this.#newPeer() : this.#newFollower(0);
    this.#acks = new Acks({
      nowMs: () => clock.monotonicMs(),
      mayAcknowledge: () => this.#peer?.mayAcknowledge() === true,
      term: () => this.#peer?.leadingTerm ?? 0,
      afterQuorumRound: (end) => this.#afterQuorumRound(end),
      send: (nodeId, ack) => this.#sendAck(nodeId, ack),
    });
  }

  async start(): Promise<void> {
    this.#links = await this.#effects.openLinks({
      frame: (from, payload) => this.#onFrame(from, payload),
      outdated: (generation) => this.#effects.post({ kind: "left-out", generation }),
      broken: (peer) => {
        if (!this.#lifetime.over) this.#seat.unreachable(peer.peerId);
      },
      removed: (peer) => this.#effects.post({ kind: "removed", by: peer.nodeId }),
      checkpoint: (nodeId, request) => this.#serve(nodeId, request),
    });
    this.#setPeers(this.#config.peers);
    this.#lifetime.every(BEATS_EVERY_MS, () => this.#postBeats());
    this.#heartbeats.start();
    this.#effects.post({ kind: "started", electionMs: this.#electionMs });
    this.#seat.start();
  }

  async stop(): Promise<void> {
    if (this.#lifetime.over) return;
    this.#lifetime.end();
    this.#seat.stop();
    await this.#fetching.stop();
    await this.#links?.close();
    await this.#effects.raftLog.close();
    this.#effects.post({ kind: "stopped" });
  }

  // ---- What this node is to Raft ----------------------------------------------------------------------------------

  get #electionMs(): number {
    return this.#config.electionTicks * this.#config.tickMs;
  }

  get #peer(): RaftPeer | null {
    return this.#seat instanceof RaftPeer ? this.#seat : null;
  }

  #newPeer(): RaftPeer {
    const { clock, log, raftLog, logLimits } = this.#effects;
    return new RaftPeer(this.#config, this.#applying.position, {
      log,
      clock,
      raftLog,
      ...(logLimits === undefined ? {} : { logLimits }),
      applying: this.#applying,
      source: this.#source,
      fetching: this.#fetching,
      status: this.#status,
      random: (limit) => this.#effects.random(limit),
      post: (message) => this.#effects.post(message),
      send: (to, lane, frame) => this.#send(to, lane, frame),
      leaderIs: (lead) => this.#heartbeats.leaderIs(lead),
      peers: () => this.#known(),
      news: () => this.#news(),
      out: (index) => void this.#leaveSeat(index),
      fatal: (error) => this.#effects.fatal(error),
    });
  }

  #newFollower(outAt: number): Follower {
    const { clock, log } = this.#effects;
    return new Follower(this.#config, outAt, {
      log,
      clock,
      applying: this.#applying,
      fetching: this.#fetching,
      status: this.#status,
      random: (limit) => this.#effects.random(limit),
      send: (to, lane, frame) => this.#send(to, lane, frame),
      peers: () => this.#known(),
      zone: () => this.#zone,
      meet: (peers) => this.#meet(peers),
      leaderIs: (lead) => this.#heartbeats.leaderIs(lead),
      chosen: () => {
        this.#chosenAt = this.#applying.handed.index;
        this.#effects.post({ kind: "need-durable" });
      },
      fatal: (error) => this.#effects.fatal(error),
    });
  }

  /** From peer to follower. Its log stays as it is, for the day it is a peer again. */
  async #leaveSeat(outAt: number): Promise<void> {
    this.#effects.log.info("no Raft peer any more: following", { from: outAt });
    this.#seat.stop();
    await this.#applying.settled();
    if (this.#lifetime.over) return;
    this.#sit(this.#newFollower(outAt));
  }

  /** Reads and heartbeats under way go on from the new seat. */
  #sit(seat: RaftPeer | Follower): void {
    const waiting = this.#seat.leaveRounds();
    this.#seat = seat;
    seat.start();
    for (const end of waiting) seat.round(end);
  }

  /** From follower to peer: as a restart on this state would be. */
  async #takeSeat(durableIndex: number): Promise<void> {
    const { log, raftLog } = this.#effects;
    if (durableIndex < this.#applying.handed.index) return this.#effects.post({ kind: "need-durable" });
    this.#chosenAt = null;
    await alignLog(raftLog, this.#applying.position);
    if (this.#lifetime.over) return;
    log.info("a Raft peer from here on", { index: this.#applying.handed.index });
    const peer = this.#newPeer();
    if (this.#checkpointMbps !== null) peer.checkpointMbps = this.#checkpointMbps;
    this.#sit(peer);
  }

  // ---- From the main thread --------------------------------------------------------------------------------------

  onMessage(message: ToConsensus): void {
    switch (message.kind) {
      case "propose":
        if (message.applied !== 0) this.#applying.applied(message.applied);
        this.#seat.propose(message.data);
        break;
      case "read":
        this.#read(message.id);
        break;
      case "applied":
        this.#applying.applied(message.batch);
        break;
      case "installed":
        this.#applying.installed(message.index);
        break;
      case "change-membership":
        this.#peer?.changeMembership(message.changes);
        break;
      case "inspect":
        this.#effects.post({ kind: "inspected", id: message.id, ...this.#lastEntry() });
        break;
      case "transfer-leadership":
        this.#peer?.transferLeadership(message.among);
        break;
      case "peers":
        this.#removed = new Set(message.removed);
        this.#setPeers(message.peers);
        break;
      case "claims":
        this.#acks.updateClaims(message.sets, message.settings);
        this.#heartbeats.periodMs = message.settings.heartbeatMs;
        this.#checkpointMbps = message.settings.checkpointMbps;
        if (this.#peer !== null) this.#peer.checkpointMbps = this.#checkpointMbps;
        break;
      case "stop-acking":
        this.#effects.post({ kind: "acking-stopped", id: message.id, stopped: this.#acks.stop(message.nodeId, message.term) });
        break;
      case "resume-acking":
        this.#acks.resume(message.nodeId);
        break;
      case "checkpoint":
        this.#source.made(message);
        break;
      case "checkpoint-chunk":
        this.#source.chunkRead(message);
        break;
      case "durable":
        if (this.#chosenAt === null) this.#peer?.durable(message);
        else void this.#takeSeat(message.index).catch((thrown: unknown) => this.#effects.fatal(thrown));
        break;
      case "stop":
        void this.stop();
        return;
    }
    this.#seat.pump();
  }

  /** A follower has no log: what it applied was committed. */
  #lastEntry(): { lastIndex: number; lastTerm: number } {
    return this.#peer?.lastEntry ?? { lastIndex: this.#applying.appliedIndex, lastTerm: this.#applying.appliedTerm };
  }

  #read(id: number): void {
    try {
      this.#seat.round((index) => this.#effects.post({ kind: "read-ready", id, index }));
    } catch (thrown) {
      // Its callers give up in their time.
      this.#effects.log.debug("a read is not taken", { error: asRoostError(thrown).message });
    }
  }

  /** @throws RoostError `not-found` on a node that has no checkpoint to give. */
  #serve(nodeId: string, request: CheckpointRequest): AsyncIterable<WireChunk> {
    const peer = this.#peer;
    // Whoever is not, or no longer, of the cluster does not get its state.
    if (!this.#known().some((known) => known.nodeId === nodeId) || this.#removed.has(nodeId))
      throw new RoostError({ kind: "denied", reason: `node ${nodeId} is not of this cluster` });
    if (peer === null) throw new RoostError({ kind: "not-found", what: "checkpoint", name: request.id }, "ask a voter");
    return peer.serve(this.#peersByNodeId.get(nodeId)?.peerId ?? NONE, request);
  }

  #linked(): PeerLinks {
    assert(this.#links !== null, "the links are open before anything comes over them");
    return this.#links;
  }

  // ---- From other nodes ------------------------------------------------------------------------------------------

  #onFrame(from: Peer, payload: Uint8Array): void {
    if (this.#lifetime.over || this.#removed.has(from.nodeId)) return;
    this.#heardMs.set(from.peerId, this.#effects.clock.monotonicMs());
    try {
      const frame = decodeFrame(payload);
      switch (frame.kind) {
        case "raft":
          this.#seat.step(from, frame.message);
          break;
        case "beat":
          this.#acks.beat(from.nodeId, frame.beat);
          break;
        case "ack":
          void this.#heartbeats.acknowledged(frame.ack);
          break;
        case "follow": {
          const refusal = this.#peer === null ? "not-a-voter" : this.#peer.follow(from, frame.follow);
          if (refusal !== null) this.#send(from.peerId, "beat", { kind: "hint", hint: this.#hint(refusal) });
          break;
        }
        case "feed":
          if (this.#seat instanceof Follower) this.#seat.onFeed(from, frame.feed);
          break;
        case "ask":
          this.#send(from.peerId, "beat", { kind: "hint", hint: this.#hint(null) });
          break;
        case "hint":
          this.#seat.onHint(from, frame.hint);
          break;
      }
    } catch (thrown) {
      const error = asRoostError(thrown);
      // Rubbish from a peer is dropped; a broken invariant of our own is not survived.
      if (error.fault.kind !== "damaged") return this.#effects.fatal(thrown);
      this.#effects.log.warn("dropped a frame", { from: from.nodeId, error: error.message });
    }
    this.#seat.pump();
  }

  #setPeers(peers: readonly Peer[]): void {
    this.#peersByNodeId.clear();
    for (const peer of peers) {
      this.#met.delete(peer.nodeId);
      if (peer.peerId === this.#config.peerId) this.#zone = peer.zone ?? "";
      else this.#peersByNodeId.set(peer.nodeId, peer);
    }
    this.#setLinks();
  }

  #meet(peers: readonly Peer[]): void {
    const strangers = peers.filter(
      ({ nodeId, peerId }) =>
        !this.#removed.has(nodeId) && !this.#peersByNodeId.has(nodeId) && !this.#met.has(nodeId) && peerId !== this.#config.peerId,
    );
    if (strangers.length === 0 || this.#met.size >= MET_MAX) return;
    for (const peer of strangers) this.#met.set(peer.nodeId, peer);
    this.#setLinks();
  }

  #setLinks(): void {
    this.#links?.setPeers(this.#known(), this.#removed);
  }

  #send(to: number, lane: Lane, frame: PeerFrame): boolean {
    return this.#links?.send(to, lane, encodeFrame(frame)) ?? false;
  }

  #news(): LeaderNews {
    const { lead, term } = this.#seat;
    const heardMs = this.#status.leaderHeardMs;
    if (lead === this.#config.peerId) {
      const { nodeId, peerId } = this.#config;
      return { leader: { nodeId, peerId, address: this.#config.address, zone: this.#zone }, term, heardAgoMs: 0 };
    }
    const leader = this.#known().find((peer) => peer.peerId === lead) ?? null;
    return { leader, term, heardAgoMs: heardMs === null ? null : this.#effects.clock.monotonicMs() - heardMs };
  }

  #hint(refusal: Hint["refusal"]): Hint {
    const { handed, changedAt, membership } = this.#applying;
    const voters = this.#known().filter((peer) => membership.voters.includes(peer.peerId));
    return { ...this.#news(), refusal, committed: handed, changedAt, membership, voters };
  }

  #known(): Peer[] {
    return [...this.#peersByNodeId.values(), ...this.#met.values()];
  }

  // ---- Heartbeats ------------------------------------------------------------------------------------------------

  #toLeader(beat: Heartbeat): void {
    const { lead } = this.#seat;
    if (lead === this.#config.peerId) this.#acks.beat(this.#config.nodeId, beat);
    else if (lead !== NONE) this.#send(lead, "beat", { kind: "beat", beat });
    this.#seat.pump();
  }

  #afterQuorumRound(end: () => void): void {
    try {
      this.#seat.round(() => end());
    } catch (thrown) {
      // Its next heartbeat may find room; without one its claims run out, as they must.
      this.#effects.log.warn("a heartbeat is not acknowledged", { error: asRoostError(thrown).message });
      return;
    }
    this.#seat.pump();
  }

  #sendAck(nodeId: string, ack: Acknowledgement): void {
    if (nodeId === this.#config.nodeId) return void this.#heartbeats.acknowledged(ack);
    const peer = this.#peersByNodeId.get(nodeId);
    if (peer !== undefined) this.#send(peer.peerId, "beat", { kind: "ack", ack });
  }

  #postBeats(): void {
    const peer = this.#peer;
    const heard = peer?.peersHeard() ?? null;
    const sinceMs = this.#effects.clock.monotonicMs() - REACHABLE_ELECTIONS * this.#electionMs;
    const reachable = [...this.#heardMs].filter(([, atMs]) => atMs > sinceMs).map(([peerId]) => peerId);
    this.#status.heard(heard, reachable);
    if (peer === null || heard === null) return;
    this.#effects.post({
      kind: "beats",
      term: peer.leadingTerm,
      grantingMs: this.#acks.grantingMs,
      beats: this.#acks.beats(),
    });
  }
}
