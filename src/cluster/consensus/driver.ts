/**
 * The consensus thread's doors: what the main thread and the other nodes say comes in here and goes to the room that owns it.
 * All effects come in from outside (daemon/consensus-thread.ts).
 */
import { assert } from "../../base/assert.ts";
import { asRoostError } from "../../base/errors.ts";
import type { Acknowledgement, Heartbeat } from "../../model/heartbeat.ts";
import { NONE } from "../../raft/core/types.ts";
import type { Peer, PeerLinks } from "../../raft/transport/links.ts";
import { Acks } from "./acks.ts";
import { Applying } from "./applying.ts";
import { CheckpointSource } from "./checkpoint-source.ts";
import { type DriverEffects, Lifetime } from "./effects.ts";
import { Fetching } from "./fetching.ts";
import { decodeFrame, encodeFrame } from "./frames.ts";
import { Heartbeats } from "./heartbeats.ts";
import { RaftPeer } from "./peer.ts";
import type { ConsensusConfig, ToConsensus } from "./protocol.ts";
import { Status } from "./status.ts";

/** Beats and how fresh they are go to the main thread this often. */
const BEATS_EVERY_MS = 50;

export class ConsensusDriver {
  readonly #config: ConsensusConfig;
  readonly #effects: DriverEffects;
  readonly #lifetime: Lifetime;
  readonly #applying: Applying;
  readonly #status: Status;
  readonly #heartbeats: Heartbeats;
  readonly #acks: Acks;
  readonly #peer: RaftPeer;
  readonly #source: CheckpointSource;
  readonly #fetching: Fetching;
  readonly #peersByNodeId = new Map<string, Peer>();
  #links: PeerLinks | null = null;

  constructor(config: ConsensusConfig, effects: DriverEffects) {
    const { clock, keeper, log, raftLog } = effects;
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
    this.#peer = new RaftPeer(config, config.position, {
      log,
      clock,
      raftLog,
      ...(effects.logLimits === undefined ? {} : { logLimits: effects.logLimits }),
      applying: this.#applying,
      source: this.#source,
      fetching: this.#fetching,
      status: this.#status,
      random: (limit) => effects.random(limit),
      post,
      send: (to, lane, frame) => this.#links?.send(to, lane, encodeFrame(frame)) ?? false,
      leaderIs: (lead) => this.#heartbeats.leaderIs(lead),
      fatal: (error) => effects.fatal(error),
    });
    this.#acks = new Acks({
      nowMs: () => clock.monotonicMs(),
      mayAcknowledge: () => this.#peer.mayAcknowledge(),
      term: () => this.#peer.leadingTerm,
      afterQuorumRound: (end) => this.#afterQuorumRound(end),
      send: (nodeId, ack) => this.#sendAck(nodeId, ack),
    });
  }

  async start(): Promise<void> {
    this.#links = await this.#effects.openLinks({
      frame: (from, payload) => this.#onFrame(from, payload),
      broken: (peer) => {
        if (!this.#lifetime.over) this.#peer.unreachable(peer.peerId);
      },
      checkpoint: (nodeId, request) => this.#peer.serve(this.#peersByNodeId.get(nodeId)?.peerId ?? NONE, request),
    });
    this.#setPeers(this.#config.peers);
    this.#lifetime.every(BEATS_EVERY_MS, () => this.#postBeats());
    this.#heartbeats.start();
    this.#effects.post({ kind: "started" });
    this.#peer.start();
  }

  async stop(): Promise<void> {
    if (this.#lifetime.over) return;
    this.#lifetime.end();
    this.#peer.stop();
    await this.#fetching.stop();
    await this.#links?.close();
    await this.#effects.raftLog.close();
    this.#effects.post({ kind: "stopped" });
  }

  // ---- From the main thread --------------------------------------------------------------------------------------

  onMessage(message: ToConsensus): void {
    switch (message.kind) {
      case "propose":
        if (!this.#peer.propose(message.data)) this.#effects.post({ kind: "refused", id: message.id });
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
        this.#peer.changeMembership(message.changes);
        break;
      case "transfer-leadership":
        this.#peer.transferLeadership();
        break;
      case "peers":
        this.#setPeers(message.peers);
        break;
      case "claims":
        this.#acks.updateClaims(message.sets, message.settings);
        this.#heartbeats.periodMs = message.settings.heartbeatMs;
        this.#peer.checkpointMbps = message.settings.checkpointMbps;
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
        this.#peer.durable(message);
        break;
      case "stop":
        void this.stop();
        return;
    }
    this.#peer.pump();
  }

  #read(id: number): void {
    try {
      this.#peer.round((index) => this.#effects.post({ kind: "read-ready", id, index }));
    } catch {
      this.#effects.post({ kind: "refused", id });
    }
  }

  #linked(): PeerLinks {
    assert(this.#links !== null, "the links are open before anything comes over them");
    return this.#links;
  }

  // ---- From other nodes ------------------------------------------------------------------------------------------

  #onFrame(from: Peer, payload: Uint8Array): void {
    if (this.#lifetime.over) return;
    try {
      const frame = decodeFrame(payload);
      switch (frame.kind) {
        case "raft":
          this.#peer.step(from, frame.message);
          break;
        case "beat":
          this.#acks.beat(from.nodeId, frame.beat);
          break;
        case "ack":
          void this.#heartbeats.acknowledged(frame.ack);
          break;
      }
    } catch (thrown) {
      const error = asRoostError(thrown);
      // Rubbish from a peer is dropped; a broken invariant of our own is not survived.
      if (error.fault.kind !== "damaged") return this.#effects.fatal(thrown);
      this.#effects.log.warn("dropped a frame", { from: from.nodeId, error: error.message });
    }
    this.#peer.pump();
  }

  #setPeers(peers: readonly Peer[]): void {
    const others = peers.filter((peer) => peer.peerId !== this.#config.peerId);
    this.#peersByNodeId.clear();
    for (const peer of others) this.#peersByNodeId.set(peer.nodeId, peer);
    this.#links?.setPeers(others);
  }

  // ---- Heartbeats ------------------------------------------------------------------------------------------------

  #toLeader(beat: Heartbeat): void {
    const { lead } = this.#peer;
    if (lead === this.#config.peerId) this.#acks.beat(this.#config.nodeId, beat);
    else if (lead !== NONE) this.#links?.send(lead, "beat", encodeFrame({ kind: "beat", beat }));
    this.#peer.pump();
  }

  #afterQuorumRound(end: () => void): void {
    try {
      this.#peer.round(() => end());
    } catch (thrown) {
      // Its next heartbeat may find room; without one its claims run out, as they must.
      this.#effects.log.warn("a heartbeat is not acknowledged", { error: asRoostError(thrown).message });
      return;
    }
    this.#peer.pump();
  }

  #sendAck(nodeId: string, ack: Acknowledgement): void {
    if (nodeId === this.#config.nodeId) return void this.#heartbeats.acknowledged(ack);
    const peer = this.#peersByNodeId.get(nodeId);
    if (peer !== undefined) this.#links?.send(peer.peerId, "beat", encodeFrame({ kind: "ack", ack }));
  }

  #postBeats(): void {
    const caughtUp = this.#peer.caughtUp();
    this.#status.heard(caughtUp);
    if (caughtUp === null) return;
    this.#effects.post({
      kind: "beats",
      term: this.#peer.leadingTerm,
      grantingMs: this.#acks.grantingMs,
      beats: this.#acks.beats(),
    });
  }
}
