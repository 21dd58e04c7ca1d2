/**
 * Runs the Raft core: feeds it ticks and messages, does the work it hands out, in asynchronous-storage mode so that
 * disk, network and the main thread's applying overlap. All effects come in from outside (daemon/consensus-thread.ts).
 */
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import { asRoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Membership } from "../../model/membership.ts";
import { RaftNode } from "../../raft/core/node.ts";
import { APPEND_THREAD, APPLY_THREAD, type Checkpoint, type Entry, type Message, NONE } from "../../raft/core/types.ts";
import type { LevelLog } from "../../raft/storage/level.ts";
import type { Lane, LinkEvents, Peer, PeerLinks } from "../../raft/transport/links.ts";
import { decodeEnvelope } from "../../state/codec.ts";
import { LEADERS_COMMANDS } from "../../state/commands.ts";
import { Acks } from "./acks.ts";
import type { Acknowledgement, Heartbeat } from "../../model/heartbeat.ts";
import { decodeFrame, encodeFrame } from "./frames.ts";
import type { CommittedEntry, ConsensusConfig, FromConsensus, MembershipChange, ToConsensus } from "./protocol.ts";
import { type LogLimits, LogView } from "./log-view.ts";
import { Rounds } from "./rounds.ts";

/** Part of the election time that counts as passed when a peer starts. */
const HEAD_START = 0.9;
/** A new leader acknowledges nothing before it has applied its term's first entry; that takes it about this long. */
const FIRST_BEAT_MS = 50;
/** Taking over a checkpoint takes at most about this long; a peer that is slower is asked where it is. */
const CHECKPOINT_ANSWER_MS = 3_000;

/** Beats and status go to the main thread this often while leading. */
const BEATS_EVERY_MS = 50;

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

/** Heartbeats' other end on this node; the keeper's client implements it. */
export interface KeeperLink {
  /** Mints the next heartbeat; rejects if the keeper does not answer in time. */
  beat(): Promise<Heartbeat>;
  ack(ack: Acknowledgement): Promise<void>;
}

export interface DriverEffects {
  log: Logger;
  clock: Clock;
  raftLog: LevelLog;
  /** For tests, which cannot wait for a long log. */
  logLimits?: LogLimits;
  openLinks(events: LinkEvents): Promise<PeerLinks>;
  keeper: KeeperLink | null;
  /** Uniform integer in [0, limit). */
  random(limit: number): number;
  post(message: FromConsensus): void;
  /** A broken promise of disk or code: the process must end. */
  fatal(error: unknown): void;
}

export class ConsensusDriver {
  readonly #config: ConsensusConfig;
  readonly #effects: DriverEffects;
  readonly #log: LogView;
  readonly #node: RaftNode;
  readonly #rounds: Rounds;
  readonly #acks: Acks;
  readonly #peersByNodeId = new Map<string, Peer>();
  readonly #applying = new Map<number, Message>();
  readonly #stops: (() => void)[] = [];
  #links: PeerLinks | null = null;
  #appends: { message: Message; sync: boolean }[] = [];
  #writing = false;
  #commits: Message[] = [];
  #handingOut = false;
  #installedIndex = 0;
  #batch = 0;
  #membership: Membership;
  #appliedIndex: number;
  #appliedTerm: number;
  #lastLead = NONE;
  #leadingTerm = 0;
  #leadingSinceMs = 0;
  #leaderHeardMs: number | null = null;
  #lastStatus = "";
  #installed: (() => void) | null = null;
  #heartbeatMs = 500;
  #stopped = false;

  constructor(config: ConsensusConfig, effects: DriverEffects) {
    this.#config = config;
    this.#effects = effects;
    this.#appliedIndex = config.position.index;
    this.#appliedTerm = config.position.term;
    this.#membership = config.position.membership;
    this.#log = new LogView(effects.raftLog, config.position, {
      clock: effects.clock,
      post: (message) => effects.post(message),
      ...(effects.logLimits === undefined ? {} : { limits: effects.logLimits }),
    });
    this.#node = new RaftNode({
      id: config.peerId,
      electionTicks: config.electionTicks,
      heartbeatTicks: config.heartbeatTicks,
      storage: this.#log,
      random: (limit) => effects.random(limit),
      applied: config.position.index,
      asyncStorageWrites: true,
      maxSizePerMessage: 1 << 20,
      maxCommittedSizePerReady: 4 << 20,
      maxUncommittedSize: 64 << 20,
      maxInflightMessages: 256,
      maxInflightBytes: 32 << 20,
      checkQuorum: true,
      preVote: true,
      stepDownOnRemoval: true,
      log: (level, text) => effects.log[level === "warn" ? "warn" : "debug"](text),
    });
    this.#rounds = new Rounds((context) => this.#node.readIndex(context), effects.random(2 ** 20));
    this.#acks = new Acks({
      nowMs: () => effects.clock.monotonicMs(),
      mayAcknowledge: () => this.#mayAcknowledge(),
      term: () => (this.#node.soft.role === "leader" ? this.#node.term : 0),
      afterQuorumRound: (end) => {
        try {
          this.#rounds.join(effects.clock.monotonicMs(), () => end());
        } catch (thrown) {
          // Its next heartbeat may find room; without one its claims run out, as they must.
          effects.log.warn("a heartbeat is not acknowledged", { error: asRoostError(thrown).message });
          return;
        }
        this.#pump();
      },
      send: (nodeId, ack) => this.#sendAck(nodeId, ack),
    });
  }

  async start(): Promise<void> {
    this.#links = await this.#effects.openLinks({
      frame: (from, payload) => this.#onFrame(from, payload),
      broken: (peer) => {
        if (this.#stopped) return;
        this.#node.reportUnreachable(peer.peerId);
        this.#pump();
      },
    });
    this.#setPeers(this.#config.peers);
    this.#every(this.#config.tickMs, () => {
      this.#node.tick();
      this.#rounds.tick(this.#effects.clock.monotonicMs());
      this.#pump();
      this.#log.keepShort(this.#appliedIndex);
    });
    this.#every(BEATS_EVERY_MS, () => this.#postBeats());
    if (this.#effects.keeper !== null) this.#scheduleBeat(this.#effects.keeper);
    this.#effects.post({ kind: "started" });
    // When all agents restart at once, claims run on while there is no leader, so the first election comes early: after 0.1 to 1.1
    // election times. A leader that lives loses nothing by it, its followers refuse the pre-vote.
    for (let ticks = Math.floor(this.#config.electionTicks * HEAD_START); ticks > 0; ticks--) this.#node.tickQuiesced();
    // Alone there is nobody to wait for.
    if (this.#membership.voters.length === 1 && this.#membership.voters[0] === this.#config.peerId) this.#node.campaign();
    this.#pump();
  }

  onMessage(message: ToConsensus): void {
    switch (message.kind) {
      case "propose":
        if (this.#node.propose(message.data) !== null) this.#effects.post({ kind: "refused", id: message.id });
        break;
      case "read":
        try {
          this.#rounds.join(this.#effects.clock.monotonicMs(), (index) =>
            this.#effects.post({ kind: "read-ready", id: message.id, index }),
          );
        } catch {
          this.#effects.post({ kind: "refused", id: message.id });
        }
        break;
      case "applied":
        this.#onApplied(message.batch);
        break;
      case "change-membership":
        this.#changeMembership(message.changes);
        break;
      case "peers":
        this.#setPeers(message.peers);
        break;
      case "claims":
        this.#acks.updateClaims(message.sets, message.settings);
        this.#heartbeatMs = message.settings.heartbeatMs;
        break;
      case "stop-acking":
        this.#effects.post({ kind: "acking-stopped", id: message.id, stopped: this.#acks.stop(message.nodeId, message.term) });
        break;
      case "resume-acking":
        this.#acks.resume(message.nodeId);
        break;
      case "checkpoint":
        this.#log.checkpointMade({ index: message.index, term: message.term, confState: message.membership, data: message.data });
        break;
      case "installed":
        this.#appliedIndex = message.index;
        this.#installed?.();
        break;
      case "durable":
        this.#log.cut(message.index, message.membership).catch((thrown: unknown) => this.#failed(thrown));
        break;
      case "transfer-leadership":
        this.#transferLeadership();
        break;
      case "stop":
        void this.stop();
        return;
    }
    this.#pump();
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const stop of this.#stops) stop();
    await this.#links?.close();
    await this.#effects.raftLog.close();
    this.#effects.post({ kind: "stopped" });
  }

  // ---- The core's work -------------------------------------------------------------------------------------------

  /** Takes work from the core until it has none. */
  #pump(): void {
    if (this.#stopped) return;
    try {
      while (this.#node.hasReady()) {
        const ready = this.#node.ready();
        if (ready.soft !== null) {
          this.#onRole(ready.soft.role === "leader");
          this.#onLeader(ready.soft.lead);
        }
        for (const message of ready.messages) this.#route(message, ready.mustSync);
        for (const read of ready.readStates) this.#rounds.confirmed(this.#effects.clock.monotonicMs(), read.context, read.index);
      }
      this.#postStatus();
    } catch (thrown) {
      this.#effects.fatal(thrown);
    }
  }

  #route(message: Message, sync: boolean): void {
    if (message.to === APPEND_THREAD) {
      this.#appends.push({ message, sync });
      if (!this.#writing) void this.#write();
    } else if (message.to === APPLY_THREAD) {
      this.#handOut(message);
    } else if (message.to === this.#config.peerId) {
      this.#node.step(message);
    } else {
      const lane: Lane = BEAT_LANE.has(message.type) ? "beat" : "log";
      const sent = this.#links?.send(message.to, lane, encodeFrame({ kind: "raft", message })) ?? false;
      if (message.type === "checkpoint") this.#followCheckpoint(message.to, sent);
      else if (!sent && message.type === "append") this.#node.reportUnreachable(message.to);
    }
  }

  /**
   * Hands queued writes to the log in order; it joins those that wait into one fsync. What they promise leaves only
   * after that (RAFT-3).
   */
  async #write(): Promise<void> {
    this.#writing = true;
    try {
      for (let next = this.#appends.shift(); next !== undefined && !this.#stopped; next = this.#appends.shift()) {
        const { message, sync } = next;
        if (message.checkpoint !== null) await this.#install(message.checkpoint);
        const { term, vote, commit, entries, checkpoint } = message;
        const hardState = term === 0 && vote === NONE && commit === 0 ? null : { term, vote, commit };
        this.#effects.raftLog.append({ entries, hardState, checkpoint }, sync || checkpoint !== null).then(
          () => {
            for (const response of message.responses) this.#route(response, false);
            this.#pump();
          },
          (thrown: unknown) => this.#failed(thrown),
        );
      }
    } catch (thrown) {
      this.#failed(thrown);
    } finally {
      this.#writing = false;
    }
  }

  #failed(thrown: unknown): void {
    // Writes under way when the log closes are refused: nobody waits for them any more.
    if (!this.#stopped) this.#effects.fatal(thrown);
  }

  /** The main thread takes the checkpoint's state over before the log says that it has it. */
  async #install(checkpoint: Checkpoint): Promise<void> {
    this.#effects.log.info("installing a checkpoint", { index: checkpoint.index, bytes: checkpoint.data.length });
    await new Promise<void>((resolve) => {
      this.#installed = resolve;
      this.#effects.post({
        kind: "install",
        index: checkpoint.index,
        term: checkpoint.term,
        membership: checkpoint.confState,
        data: checkpoint.data,
      });
    });
    this.#installed = null;
    this.#installedIndex = checkpoint.index;
    this.#membership = checkpoint.confState;
    this.#appliedIndex = checkpoint.index;
    this.#appliedTerm = checkpoint.term;
  }

  /** A checkpoint on its way holds the peer's log back; if its own answer does not come, the log is probed again. */
  #followCheckpoint(peerId: number, sent: boolean): void {
    const report = (): void => {
      if (this.#stopped) return;
      this.#node.reportCheckpoint(peerId, sent);
      this.#pump();
    };
    // Later in any case: the core must not be called from within its own work.
    this.#effects.clock.after(sent ? CHECKPOINT_ANSWER_MS : this.#config.tickMs, report);
  }

  #handOut(message: Message): void {
    this.#commits.push(message);
    if (!this.#handingOut) void this.#handOutAll();
  }

  /** In order; a change of membership takes effect only when it is durable that it is committed. */
  async #handOutAll(): Promise<void> {
    this.#handingOut = true;
    try {
      for (let message = this.#commits.shift(); message !== undefined && !this.#stopped; message = this.#commits.shift()) {
        const change = message.entries.findLast(isMembership);
        // Else a peer that loses its unsynced commit index could wake up in the old membership and elect itself by it.
        if (change !== undefined) await this.#effects.raftLog.commitTo(change.index);
        this.#handOutNow(message);
      }
    } catch (thrown) {
      this.#failed(thrown);
    } finally {
      this.#handingOut = false;
    }
  }

  #handOutNow(message: Message): void {
    const batch = ++this.#batch;
    this.#applying.set(batch, message);
    // What a checkpoint has overtaken is in it already.
    const entries = message.entries.filter((entry) => entry.index > this.#installedIndex).map((entry) => this.#committed(entry));
    this.#effects.post({ kind: "apply", batch, entries });
  }

  #committed(entry: Entry): CommittedEntry {
    const { index, term, kind } = entry;
    if (kind === "normal") return { index, term, data: entry.data, membership: null };
    const membership = isMembership(entry) ? this.#node.applyConfEntry(entry) : null;
    if (membership !== null) {
      this.#membership = membership;
      this.#log.membershipIndex = index;
    }
    return { index, term, data: null, membership };
  }

  #onApplied(batch: number): void {
    const message = this.#applying.get(batch);
    assert(message !== undefined, `batch ${batch} was applied twice`);
    this.#applying.delete(batch);
    const last = message.entries.at(-1);
    if (last !== undefined && last.index > this.#appliedIndex) {
      this.#appliedIndex = last.index;
      this.#appliedTerm = last.term;
    }
    for (const response of message.responses) this.#route(response, false);
  }

  // ---- Peers -----------------------------------------------------------------------------------------------------

  #setPeers(peers: readonly Peer[]): void {
    const others = peers.filter((peer) => peer.peerId !== this.#config.peerId);
    this.#peersByNodeId.clear();
    for (const peer of others) this.#peersByNodeId.set(peer.nodeId, peer);
    this.#links?.setPeers(others);
  }

  #onFrame(from: Peer, payload: Uint8Array): void {
    if (this.#stopped) return;
    try {
      const frame = decodeFrame(payload);
      switch (frame.kind) {
        case "raft":
          this.#onRaftMessage(from, frame.message);
          break;
        case "beat":
          this.#acks.beat(from.nodeId, frame.beat);
          break;
        case "ack":
          void this.#onAck(frame.ack);
          break;
      }
    } catch (thrown) {
      const error = asRoostError(thrown);
      // Rubbish from a peer is dropped; a broken invariant of our own is not survived.
      if (error.fault.kind !== "damaged") return this.#effects.fatal(thrown);
      this.#effects.log.warn("dropped a frame", { from: from.nodeId, error: error.message });
    }
    this.#pump();
  }

  #onRaftMessage(from: Peer, message: Message): void {
    // A peer speaks for itself only (SEC-3): it is who its certificate says, and proposes what it is the origin of.
    if (message.from !== from.peerId)
      return this.#effects.log.warn("dropped a message under another's name", { from: from.nodeId, claimed: message.from });
    if (message.type === "propose" && !message.entries.every((entry) => mayPropose(from, entry))) {
      return this.#effects.log.warn("dropped a proposal that is not the peer's to make", { from: from.nodeId });
    }
    if (message.type === "append" || message.type === "heartbeat" || message.type === "checkpoint")
      this.#leaderHeardMs = this.#effects.clock.monotonicMs();
    this.#node.step(message);
  }

  #changeMembership(changes: readonly MembershipChange[]): void {
    const refusal = this.#node.proposeConfChange({
      v1: false,
      transition: "auto",
      changes: changes.map((change) => ({ kind: change.kind, peer: change.peerId })),
      context: null,
    });
    if (refusal !== null) this.#effects.log.debug("membership change not taken", { refusal });
  }

  #transferLeadership(): void {
    const { progress } = this.#node.status();
    const target = progress
      .filter((peer) => peer.id !== this.#config.peerId && !peer.learner && peer.recentActive)
      .toSorted((a, b) => b.match - a.match)[0];
    if (target !== undefined) this.#node.transferLeader(target.id);
  }

  // ---- Heartbeats ------------------------------------------------------------------------------------------------

  #scheduleBeat(keeper: KeeperLink): void {
    const again = (): void => {
      if (this.#stopped) return;
      this.#stops[0] = this.#effects.clock.after(this.#heartbeatMs, again);
      void this.#beat(keeper);
    };
    this.#stops.unshift(() => {});
    again();
  }

  async #beat(keeper: KeeperLink): Promise<void> {
    if (this.#stopped) return;
    try {
      const beat = await keeper.beat();
      const { lead } = this.#node.soft;
      if (lead === this.#config.peerId) this.#acks.beat(this.#config.nodeId, beat);
      else if (lead !== NONE) this.#links?.send(lead, "beat", encodeFrame({ kind: "beat", beat }));
      this.#pump();
    } catch (thrown) {
      this.#effects.log.debug("no heartbeat", { error: asRoostError(thrown).message });
    }
  }

  #sendAck(nodeId: string, ack: Acknowledgement): void {
    if (nodeId === this.#config.nodeId) return void this.#onAck(ack);
    const peer = this.#peersByNodeId.get(nodeId);
    if (peer !== undefined) this.#links?.send(peer.peerId, "beat", encodeFrame({ kind: "ack", ack }));
  }

  async #onAck(ack: Acknowledgement): Promise<void> {
    try {
      await this.#effects.keeper?.ack(ack);
    } catch (thrown) {
      this.#effects.log.debug("acknowledgement not taken", { error: asRoostError(thrown).message });
    }
  }

  /** HA-2: a leader that has applied the first entry of its own term and has no transfer pending. */
  #mayAcknowledge(): boolean {
    return this.#node.soft.role === "leader" && this.#appliedTerm === this.#node.term && this.#node.status().transferee === NONE;
  }

  // ---- Status ----------------------- ---------------------------------------------------------------------------

  /** Claims have run on without a leader: the new one is told of this node's life at once, not with the next heartbeat. */
  #onLeader(lead: number): void {
    const isNew = lead !== NONE && lead !== this.#lastLead;
    this.#lastLead = lead;
    const { keeper, clock } = this.#effects;
    if (isNew && keeper !== null) clock.after(FIRST_BEAT_MS, () => void this.#beat(keeper));
  }

  #onRole(leading: boolean): void {
    if (leading && this.#leadingTerm === this.#node.term) return;
    this.#leadingTerm = leading ? this.#node.term : 0;
    this.#leadingSinceMs = leading ? this.#effects.clock.monotonicMs() : 0;
  }

  #postStatus(): void {
    const { lead, role } = this.#node.soft;
    const leading = role === "leader";
    const text = `${this.#node.term}/${role}/${lead}/${JSON.stringify(this.#membership)}`;
    if (text === this.#lastStatus) return;
    this.#lastStatus = text;
    this.#effects.post({
      kind: "status",
      status: {
        term: this.#node.term,
        leading,
        leadingSinceMs: this.#leadingSinceMs,
        leaderPeerId: lead,
        formerLeaderHeardMs: leading ? this.#leaderHeardMs : null,
        leaderHeardMs: leading ? this.#effects.clock.monotonicMs() : this.#leaderHeardMs,
        membership: this.#membership,
      },
    });
  }

  #postBeats(): void {
    if (this.#node.soft.role !== "leader") {
      this.#effects.post({ kind: "heard", leaderHeardMs: this.#leaderHeardMs, caughtUp: [] });
      return;
    }
    const { progress, lastIndex } = this.#node.status();
    const caughtUp = progress
      .filter((peer) => peer.learner && peer.state === "replicate" && peer.match + 1_000 >= lastIndex)
      .map((peer) => peer.id);
    this.#effects.post({ kind: "heard", leaderHeardMs: this.#effects.clock.monotonicMs(), caughtUp });
    this.#effects.post({ kind: "beats", term: this.#node.term, grantingMs: this.#acks.grantingMs, beats: this.#acks.beats() });
  }

  #every(periodMs: number, run: () => void): void {
    let cancel = (): void => {};
    const again = (): void => {
      if (this.#stopped) return;
      cancel = this.#effects.clock.after(periodMs, again);
      run();
    };
    cancel = this.#effects.clock.after(periodMs, again);
    this.#stops.push(() => cancel());
  }
}

function isMembership(entry: Entry): boolean {
  return entry.kind === "conf" || entry.kind === "conf-v1";
}

/** Its own commands, in its own name, and none that only the leader decides (SEC-3). */
function mayPropose(from: Peer, entry: Entry): boolean {
  if (entry.kind !== "normal") return false;
  const { origin, command } = decodeEnvelope(entry.data);
  return origin === from.nodeId && !LEADERS_COMMANDS.has(command.type);
}
