/** A Store of one process that applies at once: for tests of what stands on a Store. */
import { RoostError } from "../../src/base/errors.ts";
import type { View } from "../../src/model/view.ts";
import { apply } from "../../src/state/apply.ts";
import type { Command } from "../../src/state/commands.ts";
import type { CommandResult, Event } from "../../src/state/outcome.ts";
import { ownRequestId } from "../../src/state/requests.ts";
import { changedObjects, State } from "../../src/state/state.ts";
import type { Change, Leadership, ProposeOptions, Store } from "../../src/cluster/store.ts";

export class MemoryStore implements Store {
  readonly state: State;
  /** Node that proposals come from; tests change it to speak for another node. */
  origin: string;
  term = 1;
  /** Wall clock of proposals, ms. */
  nowMs = 1_000_000;
  leads: Leadership;
  readonly #listeners = new Set<(change: Change) => void>();
  #requests = 0;

  constructor(nodeId: string, state: State = new State()) {
    this.origin = nodeId;
    this.state = state;
    this.leads = { leading: true, leaderNodeId: nodeId, term: 1, silentMs: 0 };
  }

  view(): View {
    return this.state;
  }

  read(): Promise<View> {
    return Promise.resolve(this.state);
  }

  propose(command: Command, options: ProposeOptions): Promise<CommandResult> {
    const requestId = options.requestId ?? ownRequestId(this.state.index, `request-${++this.#requests}`);
    // Through the codec's form, so that nothing survives here that would not survive replication.
    const envelope = structuredClone({
      requestId,
      origin: this.origin,
      atMs: this.nowMs,
      actor: options.actor,
      term: options.term ?? 0,
      command,
    });
    const applied = apply(this.state, envelope, { index: this.state.index + 1, term: this.term });
    const changedIds = changedObjects(applied.changes);
    for (const listener of this.#listeners) listener({ view: this.state, events: applied.events, changedIds });
    const { outcome } = applied;
    return outcome.ok ? Promise.resolve(outcome.result) : Promise.reject(new RoostError(outcome.fault, outcome.hint));
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  eventsSince(revision: number, limit?: number): Event[] {
    return this.state.events.since(revision, limit ?? Infinity);
  }

  leadership(): Leadership {
    return this.leads;
  }
}
