/**
 * This node as a follower, no Raft peer: takes what is committed from one voter and sends what others must decide to the leader
 * itself. The same doors as a peer (peer.ts), so nobody above sees a difference. docs/design/006-who-follows.md.
 */
import type { Clock } from "../../base/clock.ts";
import { RoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { isPeer } from "../../model/membership.ts";
import { confStateAfter } from "../../raft/core/membership.ts";
import { message } from "../../raft/core/message.ts";
import { type Checkpoint, type Entry, type EntryId, type Message, NONE } from "../../raft/core/types.ts";
import type { Lane, Peer } from "../../raft/transport/links.ts";
import type { Applying } from "./applying.ts";
import { Lifetime } from "./effects.ts";
import type { Fetching } from "./fetching.ts";
import type { Feed, Hint } from "./follow-frames.ts";
import type { PeerFrame } from "./frames.ts";
import type { CommittedEntry, ConsensusConfig } from "./protocol.ts";
import { type RoundEnd, Rounds } from "./rounds.ts";
import { refusalOf } from "./speaking.ts";
import type { Status } from "./status.ts";

/** A checkpoint that is not here after this long is not a reason any more to stay with a voter. */
const FETCH_LIMIT_MS = 60_000;

/** Election times after which one who follows the leader looks for another voter: the leader has enough to do. */
const SPARE_LEADER_AFTER = 10;

export interface FollowerEffects {
  log: Logger;
  clock: Clock;
  applying: Applying;
  fetching: Fetching;
  status: Status;
  random: (limit: number) => number;
  send: (to: number, lane: Lane, frame: PeerFrame) => boolean;
  /** All nodes that are known, this one left out. */
  peers: () => Iterable<Peer>;
  /** Of this node. */
  zone: () => string;
  /** Others told of these: frames may be sent to them and taken from them. */
  meet: (peers: readonly Peer[]) => void;
  leaderIs: (lead: number) => void;
  /** The committed membership has this node in it: it must become a peer. Nothing is handed out from here on. */
  chosen: () => void;
  fatal: (error: unknown) => void;
}

export class Follower {
  readonly #config: Pick<ConsensusConfig, "peerId" | "tickMs" | "electionTicks">;
  readonly #effects: FollowerEffects;
  readonly #lifetime: Lifetime;
  readonly #rounds: Rounds;
  readonly #electionMs: number;
  /** A membership without this node is known at this index: an older one with it does not make it a peer. */
  readonly #outAt: number;
  /** Peers that did not serve, until when they are tried last, monotonic ms. */
  readonly #avoided = new Map<number, number>();
  #source: Peer | null = null;
  #session: number;
  #sourceHeardMs = 0;
  #movedMs = 0;
  #chosenMs = 0;
  #lead = NONE;
  #term = 0;
  /** The highest commit index that the leader has confirmed to this node. */
  #confirmedIndex = 0;
  #installing = false;
  /** The checkpoint that is being fetched, or was. */
  #offer: { id: string; sinceMs: number } | null = null;
  #over = false;

  constructor(config: Pick<ConsensusConfig, "peerId" | "tickMs" | "electionTicks">, outAt: number, effects: FollowerEffects) {
    this.#config = config;
    this.#outAt = outAt;
    this.#effects = effects;
    this.#lifetime = new Lifetime(effects.clock);
    this.#electionMs = config.electionTicks * config.tickMs;
    this.#session = effects.random(2 ** 20) * 2 ** 20;
    this.#rounds = new Rounds((context) => this.#askLeader(context), effects.random(2 ** 20));
  }

  start(): void {
    const { clock } = this.#effects;
    this.#lifetime.every(this.#config.tickMs, () => this.#rounds.tick(clock.monotonicMs()));
    this.#lifetime.every(this.#electionMs / 4, () => this.#look());
    this.#standing();
    this.#look();
  }

  stop(): void {
    this.#over = true;
    this.#lifetime.end();
  }

  /** Who waits for a quorum round, when another room is to ask for them. */
  leaveRounds(): RoundEnd[] {
    return this.#rounds.leave();
  }

  /** Nothing piles up here. */
  pump(): void {}

  // ---- In, as at a peer ------------------------------------------------------------------------------------------

  propose(data: readonly Uint8Array[]): void {
    const m = message("propose", this.#lead, this.#config.peerId);
    m.entries = data.map((bytes): Entry => ({ term: 0, index: 0, kind: "normal", data: bytes }));
    this.#toLeader("log", m);
  }

  round(end: RoundEnd): void {
    this.#rounds.join(this.#effects.clock.monotonicMs(), end);
  }

  /** @throws RoostError `damaged` on rubbish. */
  step(from: Peer, m: Message): void {
    const { applying, clock } = this.#effects;
    if (refusalOf(from, m) !== null || this.#over) return;
    const [request] = m.entries;
    if (m.type === "read-index-reply" && request !== undefined && this.#mayServe(from)) {
      this.#confirmedIndex = Math.max(this.#confirmedIndex, m.index);
      this.#rounds.confirmed(clock.monotonicMs(), request.data, m.index);
    } else if (m.type === "checkpoint" && m.checkpoint !== null && from.peerId === this.#source?.peerId) {
      this.#sourceHeardMs = clock.monotonicMs();
      if (m.checkpoint.index > applying.handed.index) this.#fetch(from, m.checkpoint);
    }
  }

  unreachable(peerId: number): void {
    if (peerId === this.#source?.peerId) this.#leave("its link broke");
  }

  onFeed(from: Peer, feed: Feed): void {
    const { applying, clock } = this.#effects;
    if (this.#over || from.peerId !== this.#source?.peerId || feed.session !== this.#session) return;
    this.#sourceHeardMs = clock.monotonicMs();
    this.#hear(feed);
    const { index, logTerm, entries } = feed.append;
    const { handed } = applying;
    if (this.#installing || entries.length === 0 || index + entries.length <= handed.index) return;
    // Something between was lost on the way.
    if (index > handed.index) return this.#begin();
    // A new session may begin below what was handed out already.
    const own = handed.index - index;
    const term = own === 0 ? logTerm : entries[own - 1]!.term;
    if (term !== handed.term) return this.#effects.fatal(otherHistory(handed, from));
    this.#handOut(entries.slice(own));
  }

  onHint(from: Peer, hint: Hint): void {
    if (this.#over) return;
    this.#effects.meet(hint.voters);
    if (from.peerId !== this.#source?.peerId || hint.refusal === null) return;
    if (hint.refusal === "other-history" && this.#mayServe(from))
      return this.#effects.fatal(otherHistory(this.#effects.applying.handed, from));
    if (hint.refusal === "not-a-voter") this.#avoided.set(from.peerId, this.#effects.clock.monotonicMs() + 10 * this.#electionMs);
    this.#leave(hint.refusal, hint.voters);
  }

  // ---- What others ask of it --------------------------------------------------------------------------------------

  get lead(): number {
    return this.#lead;
  }

  get term(): number {
    return this.#term;
  }

  // ---- The stream ------------------------------------------------------------------------------------------------

  /** Looks after the source, and says where this node is: a cursor may have been lost. */
  #look(): void {
    const { clock, applying } = this.#effects;
    const nowMs = clock.monotonicMs();
    // Nobody tells it that the voters are gone; who waits for a leader has to hear it.
    if (this.#lead !== NONE && !this.#heardLately()) this.#leaderIs(NONE);
    if (this.#source !== null) {
      const fetches = this.#offer !== null && nowMs - this.#offer.sinceMs < FETCH_LIMIT_MS;
      if (applying.appliedIndex >= this.#confirmedIndex || fetches) this.#movedMs = nowMs;
      const leaderSilentMs = nowMs - (this.#effects.status.leaderHeardMs ?? -Infinity);
      if (nowMs - this.#sourceHeardMs > this.#electionMs && !this.#installing) this.#leave("it is silent");
      else if (nowMs - this.#movedMs > 2 * this.#electionMs && !this.#installing) this.#leave("it is behind what the leader has confirmed");
      else if (this.#lead === NONE && leaderSilentMs > 2 * this.#electionMs) this.#leave("it hears no leader");
      else if (this.#source.peerId === this.#lead && nowMs - this.#chosenMs > SPARE_LEADER_AFTER * this.#electionMs) this.#choose(true);
      else this.#say();
    }
    if (this.#source === null) this.#choose(true);
  }

  /** @param orAvoided takes one that did not serve lately if there is no other; its refusal may be here at once, so only now and then. */
  #choose(orAvoided: boolean, preferred: readonly Peer[] = []): void {
    const { applying, clock, peers, zone, log } = this.#effects;
    const nowMs = clock.monotonicMs();
    const { voters } = applying.membership;
    const told = new Set(preferred.map((peer) => peer.peerId));
    // What is 0 comes first: not lately in vain, a voter, not the leader, and each follower in an order of its own.
    const cost = (peer: Peer): number[] => [
      (this.#avoided.get(peer.peerId) ?? 0) > nowMs ? 1 : 0,
      voters.includes(peer.peerId) || told.has(peer.peerId) ? 0 : 1,
      peer.peerId === this.#lead ? 1 : 0,
      (peer.zone ?? "") === zone() ? 0 : 1,
      Math.imul(peer.peerId ^ Math.imul(this.#config.peerId, 0x9e3779b1), 0x85ebca6b) >>> 0,
    ];
    const [best] = [...peers()].map((peer) => ({ peer, cost: cost(peer) })).toSorted((a, b) => byCost(a.cost, b.cost));
    if (best === undefined || (best.cost[0] === 1 && !orAvoided)) return;
    log.debug("following", { node: best.peer.nodeId });
    this.#source = best.peer;
    this.#sourceHeardMs = this.#movedMs = this.#chosenMs = nowMs;
    this.#begin();
  }

  #leave(why: string, preferred: readonly Peer[] = []): void {
    const { log, clock } = this.#effects;
    const { peerId, nodeId } = this.#source!;
    log.debug("leaving the voter that was followed", { node: nodeId, why });
    const until = clock.monotonicMs() + 4 * this.#electionMs;
    this.#avoided.set(peerId, Math.max(until, this.#avoided.get(peerId) ?? 0));
    this.#source = null;
    this.#choose(false, preferred);
  }

  /** From the cursor on, anew. */
  #begin(): void {
    this.#session += 1;
    this.#say(this.#effects.applying.handed);
  }

  #say(cursor?: EntryId): void {
    if (this.#source === null || this.#over) return;
    const { send, applying } = this.#effects;
    cursor ??= { index: applying.appliedIndex, term: applying.appliedTerm };
    send(this.#source.peerId, "beat", { kind: "follow", follow: { session: this.#session, cursor } });
  }

  #handOut(entries: readonly Entry[]): void {
    const { applying, fatal } = this.#effects;
    const committed: CommittedEntry[] = [];
    let { membership } = applying;
    try {
      for (const entry of entries) {
        const { index, term, kind, data } = entry;
        const changes = kind === "conf" || kind === "conf-v1";
        if (changes) membership = confStateAfter(membership, entry);
        committed.push({ index, term, data: kind === "normal" ? data : null, membership: changes ? membership : null });
        // What comes after it arrives as a peer.
        if (changes && this.#isChosen(membership, index)) break;
      }
    } catch (thrown) {
      return fatal(thrown);
    }
    applying.handOut(committed, () => this.#say());
    this.#lookAtMembership();
  }

  /** What it offers is fetched first, which may take long; offers are repeated meanwhile. */
  #fetch(from: Peer, checkpoint: Checkpoint): void {
    const id = new TextDecoder().decode(checkpoint.data);
    const nowMs = this.#effects.clock.monotonicMs();
    if (this.#offer?.id !== id) this.#offer = { id, sinceMs: nowMs };
    this.#effects.fetching.offer(from.peerId, id, (path) => {
      if (this.#over || this.#installing || checkpoint.index <= this.#effects.applying.handed.index) return;
      void this.#install({ ...checkpoint, data: new TextEncoder().encode(path) });
    });
  }

  async #install(checkpoint: Checkpoint): Promise<void> {
    const { applying, log, fatal } = this.#effects;
    this.#installing = true;
    log.info("installing a checkpoint", { index: checkpoint.index });
    try {
      await applying.install(checkpoint);
    } catch (thrown) {
      return fatal(thrown);
    } finally {
      this.#installing = false;
    }
    if (this.#over) return;
    this.#sourceHeardMs = this.#effects.clock.monotonicMs();
    this.#lookAtMembership();
    this.#offer = null;
    this.#begin();
  }

  #lookAtMembership(): void {
    const { applying, chosen } = this.#effects;
    this.#standing();
    if (!this.#isChosen(applying.membership, applying.handed.index)) return;
    this.stop();
    chosen();
  }

  #isChosen(membership: Applying["membership"], index: number): boolean {
    return index >= this.#outAt && isPeer(membership, this.#config.peerId);
  }

  // ---- The leader ------------------------------------------------------------------------------------------------

  #hear({ leader, term, heardAgoMs }: Feed): void {
    const { clock, status, meet } = this.#effects;
    if (term < this.#term) return;
    if (leader !== null) meet([leader]);
    if (heardAgoMs !== null) status.leaderHeardMs = Math.max(status.leaderHeardMs ?? -Infinity, clock.monotonicMs() - heardAgoMs);
    const lead = leader !== null && this.#heardLately() ? leader.peerId : NONE;
    if (term === this.#term && lead === this.#lead) return;
    this.#term = term;
    this.#leaderIs(lead);
  }

  #heardLately(): boolean {
    const { clock, status } = this.#effects;
    return clock.monotonicMs() - (status.leaderHeardMs ?? -Infinity) <= 2 * this.#electionMs;
  }

  #leaderIs(lead: number): void {
    this.#lead = lead;
    this.#effects.leaderIs(lead);
    this.#standing();
  }

  #standing(): void {
    const { status, applying } = this.#effects;
    status.update({ term: this.#term, leading: false, role: "none", lead: this.#lead, membership: applying.membership });
  }

  #askLeader(context: Uint8Array): void {
    const m = message("read-index", this.#lead, this.#config.peerId);
    m.entries = [{ term: 0, index: 0, kind: "normal", data: context }];
    this.#toLeader("beat", m);
  }

  /** False without a leader, or if the frame was dropped at once. */
  #toLeader(lane: Lane, m: Message): boolean {
    return this.#lead !== NONE && this.#effects.send(this.#lead, lane, { kind: "raft", message: m });
  }

  /** Whose word counts: voters, as far as this node knows any; and the leader of whom they told it. */
  #mayServe(from: Peer): boolean {
    const { voters, outgoing } = this.#effects.applying.membership;
    return voters.length === 0 || voters.includes(from.peerId) || outgoing.includes(from.peerId) || from.peerId === this.#lead;
  }
}

function byCost(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : a[at]! - b[at]!;
}

function otherHistory(cursor: EntryId, from: Peer): RoostError {
  return new RoostError(
    {
      kind: "damaged",
      what: `this node's state at index ${cursor.index} (term ${cursor.term}) is not of the history that node ${from.nodeId} has`,
    },
    "the cluster was recovered or restored without this node: move its data folder away and join again with a fresh token",
  );
}
