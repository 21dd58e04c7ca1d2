/**
 * Consensus as tasks see it: one committed log, every node its own replica of it, terms, and leaders that may be deposed
 * without knowing. That Raft keeps these promises is shown elsewhere (test/sim/raft.ts).
 */
import { RoostError } from "../../src/base/errors.ts";
import type { Change, Leadership, ProposeOptions, Store } from "../../src/cluster/store.ts";
import type { View } from "../../src/model/view.ts";
import { apply, applyNothing } from "../../src/state/apply.ts";
import type { Command, Envelope } from "../../src/state/commands.ts";
import type { CommandResult, Event, Outcome } from "../../src/state/outcome.ts";
import { ownRequestId } from "../../src/state/requests.ts";
import { changedObjects, State } from "../../src/state/state.ts";
import { freeze } from "../../src/cluster/digest.ts";
import type { RowChange } from "../../src/state/state.ts";
import type { World } from "./world.ts";

interface Entry {
  term: number;
  /** In which it was really decided; 0: by nobody who has to lead. */
  decided?: number;
  envelope: Envelope | null;
}

const ELECTION_MS = 1_500;
const RETRY_MS = 100;

export class Consensus {
  readonly world: World;
  readonly log: Entry[] = [];
  readonly replicas: Replica[] = [];
  /** Who may append; null while nobody leads. */
  leader: Replica | null = null;
  term = 1;
  /** Asked before each command of others than tests is appended, and told after; may kill who proposes or who leads. */
  onCommand: (command: Command, phase: "before" | "after", from: string) => void = () => {};
  #requests = 0;

  constructor(world: World) {
    this.world = world;
  }

  get clock(): World["clock"] {
    return this.world.clock;
  }

  /** The leader is gone, or cut off: another one after an election, of those that run. */
  async depose(): Promise<void> {
    const before = this.leader;
    this.leader = null;
    await this.clock.sleep(ELECTION_MS);
    while (this.leader === null) {
      const running = this.replicas.filter((replica) => replica.running);
      const others = running.filter((replica) => replica !== before);
      const next = others[this.world.random.below(Math.max(1, others.length))] ?? running[0];
      // Fewer than two are no majority.
      if (next !== undefined && running.length > 1) this.lead(next);
      else await this.clock.sleep(RETRY_MS);
    }
  }

  lead(replica: Replica): void {
    this.term += 1;
    this.leader = replica;
    this.append({ term: this.term, envelope: null });
  }

  append(entry: Entry): void {
    this.log.push(entry);
    for (const replica of this.replicas) {
      if (replica.running) this.clock.after(replica === this.leader ? 0 : this.world.moment(), () => replica.catchUp());
    }
  }

  nextRequest(index: number): string {
    return ownRequestId(index, `f${++this.#requests}`);
  }
}

/** One node's replica and what stands on it. The rows outlive a killed process; what waited for an answer does not. */
export class Replica implements Store {
  readonly nodeId: string;
  readonly #consensus: Consensus;
  state = new State();
  running = false;
  #applied = 0;
  readonly #waiting = new Map<string, (outcome: Outcome) => void>();
  readonly #listeners = new Set<(change: Change) => void>();

  constructor(nodeId: string, consensus: Consensus) {
    this.nodeId = nodeId;
    this.#consensus = consensus;
  }

  start(): void {
    this.running = true;
    // As from disk: the tables alone, everything else anew.
    const rows = freeze(this.state);
    const { index, term } = this.state;
    this.state = new State();
    for (const { table, keys, rows: values } of rows)
      keys.forEach((key, i) => this.state.write({ table, key, row: structuredClone(values[i]) } as RowChange));
    this.state.moveTo({ index, term });
    this.catchUp();
  }

  kill(): void {
    this.running = false;
    this.#waiting.clear();
    this.#listeners.clear();
  }

  catchUp(): void {
    const { log } = this.#consensus;
    while (this.running && this.#applied < log.length) {
      const entry = log[this.#applied++] as Entry;
      const position = { index: this.#applied, term: entry.term };
      if (entry.envelope === null) {
        applyNothing(this.state, position);
        for (const listener of this.#listeners) listener({ view: this.state, events: [], changedIds: new Set() });
        continue;
      }
      const applied = apply(this.state, entry.envelope, position);
      const { type } = entry.envelope.command;
      const sent = type === "task.dispatch" && applied.outcome.ok && applied.changes.some(({ table }) => table === "tasks");
      if (sent && entry.decided !== entry.term)
        this.#consensus.world.violation ??= `what the leader of term ${entry.decided} sent counts in term ${entry.term}`;
      const changedIds = changedObjects(applied.changes);
      for (const listener of this.#listeners) listener({ view: this.state, events: applied.events, changedIds });
      this.#waiting.get(entry.envelope.requestId)?.(applied.outcome);
      this.#waiting.delete(entry.envelope.requestId);
    }
  }

  view(): View {
    return this.state;
  }

  async read(): Promise<View> {
    while (this.#consensus.leader === null) await this.#consensus.clock.sleep(RETRY_MS);
    await this.#consensus.clock.sleep(2 * this.#consensus.world.moment());
    this.catchUp();
    return this.state;
  }

  propose(command: Command, options: ProposeOptions): Promise<CommandResult> {
    const consensus = this.#consensus;
    const { clock } = consensus;
    const requestId = options.requestId ?? consensus.nextRequest(this.state.index);
    const envelope = structuredClone({
      requestId,
      origin: this.nodeId,
      atMs: clock.wallMs(),
      actor: options.actor,
      term: options.term ?? 0,
      command,
    });
    return new Promise((resolve, reject) => {
      const giveUp = clock.after(options.timeoutMs ?? 10_000, () => {
        this.#waiting.delete(requestId);
        reject(new RoostError({ kind: "unavailable", reason: "no leader" }));
      });
      this.#waiting.set(requestId, (outcome) => {
        giveUp();
        if (outcome.ok) resolve(outcome.result);
        else reject(new RoostError(outcome.fault, outcome.hint));
      });
      const attempt = (): void => {
        if (!this.running || !this.#waiting.has(requestId)) return;
        if (consensus.leader === null) return void clock.after(RETRY_MS, attempt);
        consensus.onCommand(command, "before", this.nodeId);
        // Who proposes, or who leads, may be gone by now: what was sent is lost with it, or asked again.
        if (!this.running) return;
        if (consensus.leader === null) return void clock.after(RETRY_MS, attempt);
        const { mutation } = consensus.world;
        const decided = envelope.term;
        if (mutation === "take a deposed leader's dispatch" && command.type === "task.dispatch") envelope.term = consensus.term;
        if (mutation === "take a failed undo for done" && envelope.command.type === "task.answer" && consensus.world.isUndoing())
          envelope.command.outcome = { ok: true };
        if (mutation === "repeat what cannot be repeated" && command.type === "task.begin") {
          this.#waiting.get(requestId)?.({ ok: true, result: {} });
          this.#waiting.delete(requestId);
          return;
        }
        consensus.append({ term: consensus.term, decided, envelope });
        consensus.onCommand(command, "after", this.nodeId);
      };
      clock.after(consensus.world.moment(), attempt);
    });
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  eventsSince(revision: number, limit?: number): Event[] {
    return this.state.events.since(revision, limit ?? Infinity);
  }

  /** The term a deposed leader believes in; null: it is not deposed, or knows. */
  believes: number | null = null;

  leadership(): Leadership {
    const { leader, term } = this.#consensus;
    if (this.believes !== null) return { leading: true, leaderNodeId: this.nodeId, term: this.believes, silentMs: 0 };
    const leading = this.running && leader === this && this.state.term === term;
    return { leading, leaderNodeId: leader?.nodeId ?? null, term, silentMs: 0 };
  }
}
