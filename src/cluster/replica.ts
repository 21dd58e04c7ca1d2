/**
 * The main thread's half of replication: applies what the consensus thread hands out, answers proposals and reads, and
 * tells who listens what changed. Implements the Store that all upper floors use.
 */
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { asRoostError, RoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { View } from "../model/view.ts";
import { apply, applyMembership, applyNothing } from "../state/apply.ts";
import { decodeCheckpointHead, decodeCheckpointRows, decodeEnvelope } from "../state/codec.ts";
import type { Command, Envelope } from "../state/commands.ts";
import type { CommandResult, Event } from "../state/outcome.ts";
import { whyNotYet } from "../state/levels.ts";
import { firstAnswer, whyExpired } from "../state/requests.ts";
import { changedObjects, State, type Position, type RowChange } from "../state/state.ts";
import {
  type AckingStopped,
  type CommittedEntry,
  type ConsensusStatus,
  type FromConsensus,
  type MembershipChange,
  type NodeBeat,
  type PeersHeard,
  type ToConsensus,
  NOBODY_LEADS,
} from "./consensus/protocol.ts";
import type { ConsensusPort } from "./consensus/port.ts";
import { ClaimFeed } from "./claim-feed.ts";
import { WaitingProposals } from "./waiting-proposals.ts";
import { WaitingReads } from "./waiting-reads.ts";
import type { CheckpointChunk } from "../raft/transport/checkpoint-file.ts";
import type { FrozenState } from "./frozen-state.ts";
import { Availability } from "./availability.ts";
import { DigestReports, freeze, type FrozenTable } from "./digest.ts";
import { Questions } from "./questions.ts";
import { answered, LOST_TRACK, REMOVED_TEXT, stopping, tooMany } from "./refusals.ts";
import { portions } from "./portions.ts";
import type { StateDb } from "./state-db.ts";
import type { Change, Leadership, ProposeOptions, Store } from "./store.ts";

/** Proposals and reads that may wait at once; past it callers are refused. */
const WAITING_MAX = 20_000;

const RETRY_MS = 50;
/** That a batch is applied goes to the consensus thread with the next proposals, or by itself after this: each message wakes it. */
const APPLIED_MS = 2;
const DEFAULT_TIMEOUT_MS = 10_000;

export interface ReplicaEffects {
  worker: ConsensusPort;
  db: StateDb;
  /** The chunks of a received checkpoint's file, each checked. */
  readCheckpoint(path: string): AsyncIterable<Uint8Array>;
  clock: Clock;
  log: Logger;
  newId(): string;
  /** At the end of this turn of the event loop; absent: at once. */
  soon?: (run: () => void) => void;
  fatal(error: unknown): void;
}

export class Replica implements Store {
  readonly nodeId: string;
  readonly #effects: ReplicaEffects;
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #proposals: WaitingProposals;
  readonly #reads = new WaitingReads((id) => this.#post({ kind: "read", id }));
  /** Proposals of this turn of the event loop: they go to the consensus thread together. */
  #outbox: Uint8Array[] = [];
  #flushing = false;
  /** The newest applied batch that the consensus thread was not told of; 0: it knows. */
  #untold = 0;
  #telling = false;
  readonly #stopsAcking = new Questions<AckingStopped>();
  readonly #inspections = new Questions<{ lastIndex: number; lastTerm: number }>();
  readonly #digests: DigestReports;
  readonly #claimFeed = new ClaimFeed();
  readonly #availability: Availability;
  /** What other nodes are given, chunk by chunk. */
  readonly #frozen = new Map<string, FrozenState>();
  /** Of the last checkpoint that was taken over; 0: none. */
  #installedIndex = 0;
  #diskStuck = false;
  #state: State;
  #position: Position;
  #status: ConsensusStatus;
  #beats: NodeBeat[] = [];
  #grantingMs = 0;
  #leaderHeardMs: number | null = null;
  #peers: PeersHeard | null = null;
  #started: () => void = () => {};
  #startFailed: (error: RoostError) => void = () => {};
  /** The thread may be ready long before `start` is called. */
  readonly #serving = new Promise<void>((resolve, reject) => {
    this.#started = resolve;
    this.#startFailed = reject;
  });
  #stopped: () => void = () => {};
  #cancelSweep: () => void = () => {};
  #halted = false;

  constructor(nodeId: string, loaded: { state: State; position: Position }, effects: ReplicaEffects) {
    this.nodeId = nodeId;
    this.#effects = effects;
    this.#availability = new Availability(nodeId, effects.clock);
    this.#state = loaded.state;
    this.#position = loaded.position;
    this.#proposals = new WaitingProposals({
      clock: effects.clock,
      session: effects.newId(),
      revision: () => this.#state.index,
      send: (data) => this.#send(data),
    });
    this.#digests = new DigestReports(nodeId, { store: this, clock: effects.clock, log: effects.log });
    this.#status = { ...NOBODY_LEADS, membership: loaded.position.membership };
    // Whoever starts later sees the failure; until then it is nobody's unhandled one.
    this.#serving.catch(() => {});
    effects.worker.on("message", (message: FromConsensus) => this.#onMessage(message));
  }

  /** Resolves when the consensus thread serves. */
  async start(): Promise<void> {
    this.#postClaims();
    await this.#serving;
    this.#sweepAgain();
  }

  async stop(): Promise<void> {
    const stopped = new Promise<void>((resolve) => (this.#stopped = resolve));
    this.#post({ kind: "stop" });
    await stopped;
    this.halt();
    for (const id of this.#frozen.keys()) await this.#thaw(id);
    await this.#effects.db.sync(this.#position);
    await this.#effects.db.close();
  }

  /** Ends what waits, as the consensus thread is gone. */
  halt(): void {
    this.#halted = true;
    this.#digests.stop();
    this.#cancelSweep();
    const gone = stopping();
    this.#proposals.fail(gone);
    this.#reads.fail(gone);
  }

  // ---- Store -----------------------------------------------------------------------------------------------------

  view(): View {
    return this.#state;
  }

  read(limits: { timeoutMs: number }): Promise<View> {
    if (this.#halted) return Promise.reject(stopping());
    if (this.#reads.size >= WAITING_MAX) return Promise.reject(tooMany(WAITING_MAX, "reads"));
    const refusal = this.#refusal();
    if (refusal !== null) return Promise.reject(refusal);
    const read = this.#reads.join(this.#effects.clock.monotonicMs() + limits.timeoutMs);
    this.#flushSoon();
    return read;
  }

  propose(command: Command, options: ProposeOptions): Promise<CommandResult> {
    if (this.#halted) return Promise.reject(stopping());
    if (this.#proposals.size >= WAITING_MAX) return Promise.reject(tooMany(WAITING_MAX, "proposals"));
    const { clock } = this.#effects;
    const envelope: Envelope = {
      requestId: options.requestId ?? this.#proposals.ownRequestId(),
      origin: this.nodeId,
      atMs: clock.wallMs(),
      actor: options.actor,
      term: options.term ?? 0,
      command,
    };
    const notYet = whyNotYet(this.#state, command.type);
    if (notYet !== null) return Promise.reject(notYet);
    const known = options.requestId === undefined ? undefined : firstAnswer(this.#state, options.requestId);
    if (known !== undefined) return answered(known);
    const refusal = this.#refusal();
    if (refusal !== null) return Promise.reject(refusal);
    return this.#proposals.propose(envelope, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  eventsSince(revision: number, limit?: number): Event[] {
    return this.#state.events.since(revision, limit ?? Infinity);
  }

  leadership(): Leadership {
    const { leading, term, leaderPeerId } = this.#status;
    const leader = [...this.#state.nodes.values()].find((node) => node.peerId === leaderPeerId);
    const silentMs = leading ? 0 : this.#leaderHeardMs === null ? Infinity : this.#effects.clock.monotonicMs() - this.#leaderHeardMs;
    return { leading: leading && this.#position.term === term, leaderNodeId: leader?.id ?? null, term, silentMs };
  }

  // ---- For the leader's own services -----------------------------------------------------------------------------

  /** Monotonic ms at which this leadership began; 0 if this node does not lead. */
  leadingSinceMs(): number {
    return this.#status.leadingSinceMs;
  }

  formerLeaderHeardMs(): number | null {
    return this.#status.formerLeaderHeardMs;
  }

  beats(): readonly NodeBeat[] {
    return this.#beats;
  }

  grantingMs(): number {
    return this.#grantingMs;
  }

  /** Writes of the Raft log do not end: this node neither leads nor votes until they do. */
  get diskStuck(): boolean {
    return this.#diskStuck;
  }

  membership(): ConsensusStatus["membership"] {
    return this.#status.membership;
  }

  /** What the leader knows of its peers; null elsewhere. */
  peersHeard(): PeersHeard | null {
    return this.#peers;
  }

  /** The cluster generation that left this node out, as soon as a peer of it was met. */
  leftOut(): number | null {
    return this.#availability.leftOut;
  }

  lastEntry(): Promise<{ lastIndex: number; lastTerm: number }> {
    return this.#inspections.ask((id) => this.#post({ kind: "inspect", id }));
  }

  freeze(): FrozenTable[] {
    return freeze(this.#state);
  }

  changeMembership(changes: MembershipChange[]): void {
    this.#post({ kind: "change-membership", changes });
  }

  /** @param among only to one of these peers; null: to any voter. */
  transferLeadership(among: number[] | null = null): void {
    this.#post({ kind: "transfer-leadership", among });
  }

  /** Resolves when no acknowledgement to the node can leave any more in this term (HA-4). */
  stopAcking(nodeId: string, term: number): Promise<AckingStopped> {
    return this.#stopsAcking.ask((id) => this.#post({ kind: "stop-acking", id, nodeId, term }));
  }

  resumeAcking(nodeId: string): void {
    this.#post({ kind: "resume-acking", nodeId });
  }

  // ---- From the consensus thread ---------------------------------------------------------------------------------

  #onMessage(message: FromConsensus): void {
    try {
      this.#handle(message);
    } catch (thrown) {
      this.#effects.fatal(thrown);
    }
  }

  #handle(message: FromConsensus): void {
    switch (message.kind) {
      case "started":
        this.#availability.started(message.electionMs);
        return this.#started();
      case "removed":
        if (this.#availability.removedBy(message.by)) this.#effects.log.error(REMOVED_TEXT, { by: message.by });
        return;
      case "apply":
        return this.#apply(message.batch, message.entries);
      case "install":
        void this.#install(message.path, message.index).catch((thrown: unknown) => this.#effects.fatal(thrown));
        return;
      case "read-ready":
        this.#reads.ready(message.id, message.index);
        return this.#reads.wake(this.#state);
      case "status":
        return this.#setStatus(message.status);
      case "heard":
        this.#leaderHeardMs = message.leaderHeardMs;
        this.#peers = message.peers;
        this.#availability.heard(message.reachable);
        return;
      case "beats":
        if (message.term !== this.#status.term) return;
        this.#beats = message.beats;
        this.#grantingMs = message.grantingMs;
        return;
      case "inspected":
        return this.#inspections.answer(message.id, message);
      case "left-out":
        if (this.#availability.leftOut === null)
          this.#effects.log.error("this node was left out of a recovered cluster", { generation: message.generation });
        this.#availability.leftOut = message.generation;
        return;
      case "acking-stopped":
        return this.#stopsAcking.answer(message.id, message.stopped);
      case "disk":
        this.#diskStuck = message.stuck;
        return this.#notify([], new Set());
      case "need-checkpoint":
        void this.#makeCheckpoint().catch((thrown: unknown) => this.#effects.fatal(thrown));
        return;
      case "read-checkpoint":
        void this.#readCheckpoint(message.readId, message.id, message.chunk);
        return;
      case "release-checkpoint":
        void this.#thaw(message.id).catch((thrown: unknown) => this.#effects.fatal(thrown));
        return;
      case "need-durable":
        void this.#sendDurable().catch((thrown: unknown) => this.#effects.fatal(thrown));
        return;
      case "failed":
        return this.#startFailed(
          new RoostError({ kind: "precondition", reason: message.message }, message.hint === "" ? undefined : message.hint),
        );
      case "stopped":
        return this.#stopped();
    }
  }

  #setStatus(status: ConsensusStatus): void {
    const { leaderPeerId, term } = this.#status;
    // Heartbeats belong to a term and its leader.
    if (!status.leading || status.term !== term) {
      this.#beats = [];
      this.#grantingMs = 0;
    }
    this.#status = status;
    this.#availability.leaderIs(status.leaderPeerId !== 0);
    if (status.leaderPeerId !== 0 && (status.leaderPeerId !== leaderPeerId || status.term !== term)) this.#proposals.proposeAgain();
    this.#notify([], new Set());
  }

  #apply(batch: number, entries: readonly CommittedEntry[]): void {
    const changes: RowChange[] = [];
    const events: Event[] = [];
    const answers: (() => void)[] = [];
    let bytes = 0;
    for (const entry of entries) {
      // Handed out before a checkpoint was taken over, which holds it.
      if (entry.index <= this.#installedIndex) continue;
      assert(entry.index === this.#position.index + 1, `entry ${entry.index} after ${this.#position.index}`);
      this.#position = { index: entry.index, term: entry.term, membership: entry.membership ?? this.#position.membership };
      if (entry.data !== null) {
        bytes += entry.data.length;
        const envelope = decodeEnvelope(entry.data);
        const applied = apply(this.#state, envelope, entry);
        changes.push(...applied.changes);
        events.push(...applied.events);
        if (envelope.command.type === "digest.ask" && applied.outcome.ok && !applied.repeated)
          this.#digests.report(this.#state, entry.index);
        answers.push(() => this.#proposals.answer(envelope.requestId, applied.outcome));
      } else if (entry.membership !== null) {
        const applied = applyMembership(this.#state, entry.membership, entry);
        changes.push(...applied.changes);
        events.push(...applied.events);
      } else {
        applyNothing(this.#state, entry);
      }
    }
    this.#effects.db.write(changes, this.#position, bytes);
    if (this.#effects.db.failure !== null) throw this.#effects.db.failure;
    // The claims go before the acknowledgement of the batch, so that a leader never acknowledges with older ones than its own term's first entry (HA-2).
    if (changes.some(({ table }) => table === "nodes" || table === "vms" || table === "cluster")) this.#postClaims();
    // A disk that does not keep up holds Raft back: it hands out only so much that is not acknowledged.
    const room = this.#effects.db.room();
    // A leader's first entry, or a membership: it goes on from there only then.
    const atOnce = entries.some(({ data }) => data === null);
    if (room === null) this.#applied(batch, atOnce);
    else void room.then(() => this.#applied(batch, true));
    for (const answer of answers) answer();
    this.#reads.wake(this.#state);
    const changed = changedObjects(changes);
    // Who follows objects has no use for rows that are none. Without any row it was a leader's first entry, which matters.
    if (changed.size > 0 || events.length > 0 || changes.length === 0) this.#notify(events, changed);
  }

  #applied(batch: number, atOnce: boolean): void {
    this.#untold = Math.max(this.#untold, batch);
    if (atOnce) return this.#tellApplied();
    if (this.#telling) return;
    this.#telling = true;
    this.#effects.clock.after(APPLIED_MS, () => {
      this.#telling = false;
      this.#tellApplied();
    });
  }

  #tellApplied(): void {
    if (this.#untold === 0 || this.#halted) return;
    this.#post({ kind: "applied", batch: this.#untold });
    this.#untold = 0;
  }

  /** Takes a checkpoint's state over, slice by slice; until the last of it is here the state of before is served. */
  async #install(path: string, index: number): Promise<void> {
    const chunks = this.#effects.readCheckpoint(path)[Symbol.asyncIterator]();
    const head = await chunks.next();
    if (head.done === true) throw new RoostError({ kind: "damaged", what: `the checkpoint ${path}` });
    const position = decodeCheckpointHead(head.value);
    assert(position.index === index, `a checkpoint at ${position.index} was offered as one at ${index}`);
    const state = new State();
    const slices = async function* (): AsyncGenerator<RowChange[]> {
      for (let chunk = await chunks.next(); chunk.done !== true; chunk = await chunks.next()) {
        const rows = decodeCheckpointRows(chunk.value);
        for (const row of rows) state.write(row);
        yield rows;
      }
    };
    await this.#effects.db.replace(position, slices(), () => {
      state.moveTo(position);
      this.#state = state;
      this.#position = position;
      this.#installedIndex = position.index;
    });
    for (const requestId of this.#proposals.requestIds()) {
      const known = firstAnswer(state, requestId) ?? (whyExpired(state, requestId, Infinity) === null ? undefined : LOST_TRACK);
      if (known !== undefined) this.#proposals.answer(requestId, known);
    }
    this.#postClaims();
    this.#post({ kind: "installed", index: position.index });
    this.#reads.wake(this.#state);
    this.#notify([], new Set([...state.nodes.keys(), ...state.vms.keys()]));
  }

  /** Freezes the state as it is now; the consensus thread says when it is not needed any more. */
  async #makeCheckpoint(): Promise<void> {
    const state = await this.#effects.db.freeze();
    const { index, term, membership } = state.position;
    const id = this.#effects.newId();
    this.#frozen.set(id, state);
    this.#post({ kind: "checkpoint", id, index, term, membership });
  }

  async #readCheckpoint(readId: number, id: string, number: number): Promise<void> {
    let chunk: CheckpointChunk | null = null;
    let error: string | null = null;
    try {
      const state = this.#frozen.get(id);
      if (state === undefined) error = "the checkpoint is not held any more";
      else chunk = await state.chunk(number);
    } catch (thrown) {
      const fault = asRoostError(thrown);
      error = fault.message;
      // Rows that are not what was written: this node must not go on with them.
      if (fault.fault.kind === "damaged") this.#effects.fatal(thrown);
    }
    this.#effects.worker.postMessage(
      { kind: "checkpoint-chunk", readId, chunk, error } satisfies ToConsensus,
      chunk === null ? [] : [chunk.bytes.buffer],
    );
  }

  async #thaw(id: string): Promise<void> {
    const state = this.#frozen.get(id);
    this.#frozen.delete(id);
    await state?.close();
  }

  async #sendDurable(): Promise<void> {
    const position = this.#position;
    await this.#effects.db.sync(position);
    this.#post({ kind: "durable", ...position });
  }

  // ---- Waiting callers -------------------------------------------------------------------------------------------

  /** Proposes again what may be lost, and ends what has waited too long. */
  #sweep(): void {
    const inVain = this.#refusal() !== null;
    this.#proposals.sweep({ inVain, leaderless: this.#status.leaderPeerId === 0 }, () =>
      this.#unavailable("the change was not confirmed in time; it may still take effect"),
    );
    const nowMs = inVain ? Infinity : this.#effects.clock.monotonicMs();
    this.#reads.sweep(nowMs, () => this.#unavailable("no quorum confirmed that this node's state is current"));
  }

  #unavailable(what: string): RoostError {
    return this.#availability.unavailable(what, this.#state.nodes, this.#position.membership);
  }

  /** Why a call is in vain now, as far as this node knows; null: it may wait. */
  #refusal(): RoostError | null {
    return this.#availability.refusal(this.#state.nodes, this.#position.membership);
  }

  // ---- Telling others --------------------------------------------------------------------------------------------

  #notify(events: readonly Event[], changedIds: ReadonlySet<string>): void {
    const change: Change = { view: this.#state, events, changedIds };
    for (const listener of this.#listeners) listener(change);
  }

  /** Claim sets that changed since the last time, and the peers' addresses. */
  #postClaims(): void {
    const { sets, settings, peers, removed } = this.#claimFeed.changes(this.#state);
    if (sets.length > 0 || settings !== null) this.#post({ kind: "claims", sets, settings: settings ?? this.#claimFeed.settings });
    if (peers !== null) this.#post({ kind: "peers", peers, removed });
  }

  #send(proposal: Uint8Array): void {
    this.#outbox.push(proposal);
    this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    const flush = (): void => {
      this.#flushing = false;
      const data = this.#outbox;
      this.#outbox = [];
      if (this.#halted) return;
      for (const some of portions(data)) {
        this.#post({ kind: "propose", data: some, applied: this.#untold });
        this.#untold = 0;
      }
      this.#reads.ask();
    };
    if (this.#effects.soon === undefined) flush();
    else this.#effects.soon(flush);
  }

  #post(message: ToConsensus): void {
    this.#effects.worker.postMessage(message);
  }

  #sweepAgain(): void {
    this.#cancelSweep = this.#effects.clock.after(RETRY_MS, () => {
      this.#sweep();
      this.#sweepAgain();
    });
  }
}
