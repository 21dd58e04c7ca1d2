/**
 * Consensus as HA sees it: one committed log, terms, leaders that may be stale without knowing, quorum rounds. An entry is
 * committed at the instant a majority has taken it in its term; a new leader has every committed entry. The Raft that keeps
 * these promises has its own simulation.
 */
import { NO_MEMBERSHIP } from "../../src/model/membership.ts";
import type { Membership } from "../../src/model/membership.ts";
import { apply, applyMembership, applyNothing } from "../../src/state/apply.ts";
import type { Command, Envelope } from "../../src/state/commands.ts";
import type { Outcome } from "../../src/state/outcome.ts";
import { ownRequestId } from "../../src/state/requests.ts";
import { State } from "../../src/state/state.ts";
import { Process } from "./ha-world.ts";
import type { World } from "./ha-world.ts";

export interface LogEntry {
  term: number;
  envelope: Envelope | null;
  membership?: Membership;
}

interface Offered {
  term: number;
  envelope: Envelope | null;
  taken: Set<Peer>;
}

export class Peer {
  readonly id: number;
  readonly nodeId: string;
  /** The agent's process: consensus lives in it. */
  readonly process = new Process();
  readonly state = new State();
  applied = 0;
  term = 0;
  leading = false;
  /** Has applied the first entry of its own term. */
  effective = false;
  leadingSinceMs = 0;
  /** False once it was removed: nobody listens to it, and its vote counts no more. */
  member = true;
  readonly waiting = new Map<string, (outcome: Outcome) => void>();
  onApplied: () => void = () => {};

  constructor(id: number) {
    this.id = id;
    this.nodeId = `n${id}`;
  }
}

export class Consensus {
  readonly world: World;
  readonly peers: Peer[] = [];
  readonly log: LogEntry[] = [];
  /** How the mutation `reuse-generation` changes entries as they are applied. */
  tamper: (state: State, envelope: Envelope) => void = () => {};
  /** The mutation `expire-in-any-term`. */
  looseTerms = false;
  /** Not committed yet, in the order they were offered. */
  readonly #offered = new Set<Offered>();
  #requests = 0;
  #troubleSinceMs: number | null = null;
  #patienceMs = 1_500;

  constructor(world: World) {
    this.world = world;
  }

  get majority(): number {
    return Math.floor(this.members.length / 2) + 1;
  }

  get members(): Peer[] {
    return this.peers.filter((peer) => peer.member);
  }

  /** Raft lets a peer go: a configuration entry that counts once it is committed. */
  letGo(gone: Peer): void {
    gone.member = false;
    gone.leading = false;
    const membership = { ...NO_MEMBERSHIP, voters: this.members.map(({ id }) => id) };
    this.log.push({ term: Math.max(...this.peers.map(({ term }) => term)), envelope: null, membership });
    for (const peer of this.members) this.#tell(peer, this.log.length);
  }

  linked(a: Peer, b: Peer): boolean {
    return a === b || (a.member && b.member && !this.world.cut.has(`${a.id}>${b.id}`) && !this.world.cut.has(`${b.id}>${a.id}`));
  }

  /** Elects a new leader when the newest one cannot work; old ones learn of it only by messages. */
  watchLeaders(): void {
    const newest = Math.max(0, ...this.peers.map((peer) => peer.term));
    const leader = this.peers.find((peer) => peer.leading && peer.term === newest);
    const reaches = (peer: Peer): Peer[] => this.members.filter((other) => other.process.works && this.linked(peer, other));
    if (leader?.process.works === true && reaches(leader).length >= this.majority) this.#troubleSinceMs = null;
    else {
      this.#troubleSinceMs ??= this.world.nowMs;
      if (this.world.nowMs - this.#troubleSinceMs > this.#patienceMs) {
        const candidates = this.members.filter((peer) => peer.process.works && reaches(peer).length >= this.majority);
        const winner = candidates[this.world.random.below(Math.max(1, candidates.length))];
        if (winner !== undefined) this.#elect(winner, reaches(winner), newest + 1);
      }
    }
    this.world.after(50, () => this.watchLeaders());
  }

  #elect(winner: Peer, voters: Peer[], term: number): void {
    this.#troubleSinceMs = null;
    this.#patienceMs = this.world.between(1_000, 2_000);
    for (const voter of voters) this.#enter(voter, term);
    // A leader has the log of the voter that had most of the newest term; what is not in it can never be committed.
    const offered = [...this.#offered].filter((entry) => entry.term === term - 1);
    const last = offered.findLastIndex(({ taken }) => voters.some((voter) => taken.has(voter)));
    for (const entry of offered.slice(0, last + 1)) this.#commit(entry);
    this.#offered.clear();
    winner.leading = true;
    winner.effective = false;
    winner.leadingSinceMs = this.world.nowMs;
    const first = (): void => {
      if (!winner.leading || winner.term !== term || winner.effective) return;
      this.#replicate(winner, null);
      this.world.afterIn(winner.process, 500, first);
    };
    first();
  }

  #enter(peer: Peer, term: number): void {
    if (term <= peer.term) return;
    peer.term = term;
    peer.leading = false;
    peer.effective = false;
  }

  /** Calls back when a majority, asked after this call, still knows this leader. */
  quorumRound(leader: Peer, done: () => void): void {
    this.#ask(leader, done);
  }

  #ask(leader: Peer, majorityReached: () => void): void {
    const { term } = leader;
    const yes = new Set<Peer>();
    let reached = false;
    for (const peer of this.members) {
      this.world.send(leader.id, peer.id, peer.process, () => {
        this.#enter(peer, term);
        const ok = peer.term === term;
        const theirTerm = peer.term;
        this.world.send(peer.id, leader.id, leader.process, () => {
          this.#enter(leader, theirTerm);
          if (!ok || leader.term !== term || reached) return;
          yes.add(peer);
          if (!this.#isMajority(yes)) return;
          reached = true;
          majorityReached();
        });
      });
    }
  }

  #replicate(leader: Peer, envelope: Envelope | null): void {
    const { term } = leader;
    const entry: Offered = { term, envelope, taken: new Set() };
    if (this.peers.every((peer) => peer.term <= term)) this.#offered.add(entry);
    for (const peer of this.members) {
      this.world.send(leader.id, peer.id, peer.process, () => {
        this.#enter(peer, term);
        if (peer.term !== term) return;
        entry.taken.add(peer);
        if (this.#isMajority(entry.taken)) this.#commit(entry);
      });
    }
  }

  /** Who was removed meanwhile counts no more. */
  #isMajority(peers: ReadonlySet<Peer>): boolean {
    return [...peers].filter(({ member }) => member).length >= this.majority;
  }

  #commit(entry: Offered): void {
    if (!this.#offered.delete(entry)) return;
    this.log.push({ term: entry.term, envelope: entry.envelope });
    for (const other of this.members) this.#tell(other, this.log.length);
  }

  /** Peers learn of commits late, if at all; the leader's rounds tell them again. */
  #tell(peer: Peer, index: number): void {
    const delayMs = this.world.chance(0.05) ? this.world.between(50, 400) : this.world.between(0.3, 4);
    this.world.after(delayMs, () => {
      const source = this.peers.find((other) => other.leading && other.process.works && this.linked(other, peer));
      if (source === undefined) return this.world.after(100, () => this.#tell(peer, index));
      peer.process.deliver(peer.process.incarnation, () => this.applyTo(peer, index));
    });
  }

  applyTo(peer: Peer, index: number): void {
    if (peer.applied >= index) return;
    while (peer.applied < index) {
      const entry = this.log[peer.applied++] as LogEntry;
      const position = { index: peer.applied, term: entry.term };
      if (entry.membership !== undefined) applyMembership(peer.state, entry.membership, position);
      else if (entry.envelope === null) applyNothing(peer.state, position);
      else {
        const envelope = structuredClone(entry.envelope);
        if (this.looseTerms && envelope.command.type === "node.expire") envelope.term = envelope.command.proof.term = entry.term;
        const { outcome } = apply(peer.state, envelope, position);
        this.tamper(peer.state, entry.envelope);
        peer.waiting.get(entry.envelope.requestId)?.(outcome);
        peer.waiting.delete(entry.envelope.requestId);
      }
      if (peer.leading && entry.term === peer.term) peer.effective = true;
    }
    peer.onApplied();
  }

  /** Asks whoever leads; no answer is an answer too. */
  propose(peer: Peer, command: Command, options: { term?: number; requestId?: string }, done: (outcome: Outcome) => void): string {
    const requestId = options.requestId ?? ownRequestId(peer.state.index, `r${++this.#requests}`);
    const envelope: Envelope = {
      requestId,
      origin: peer.nodeId,
      atMs: Math.floor(this.world.nowMs),
      actor: `node:${peer.nodeId}`,
      term: options.term ?? 0,
      command,
    };
    peer.waiting.set(requestId, done);
    for (const leader of this.members) {
      if (!leader.leading || !peer.member) continue;
      this.world.send(peer.id, leader.id, leader.process, () => {
        if (leader.leading) this.#replicate(leader, envelope);
      });
    }
    return requestId;
  }

  /** A linearizable read: calls back when the peer's own state is as new as anything committed before the call. */
  read(peer: Peer, done: () => void): void {
    for (const leader of this.members) {
      if (!leader.leading || !peer.member) continue;
      this.world.send(peer.id, leader.id, leader.process, () => {
        if (!leader.leading || !leader.effective) return;
        const index = this.log.length;
        this.quorumRound(leader, () =>
          this.world.send(leader.id, peer.id, peer.process, () => {
            this.applyTo(peer, index);
            done();
          }),
        );
      });
    }
  }
}
