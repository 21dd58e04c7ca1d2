/**
 * What every upper floor sees of the replicated state: a view to read, commands to propose, changes to follow. The
 * real one is src/cluster/replica.ts; tests use test/support/memory-store.ts, which applies at once.
 */
import type { Command } from "../state/commands.ts";
import type { CommandResult, Event } from "../state/outcome.ts";
import type { View } from "../model/view.ts";

export interface Store {
  /** The local state, without any promise of freshness; never awaits. */
  view(): View;
  /**
   * Returns once the local state is at least as new as every write acknowledged before the call (RAFT-5).
   * Throws `unavailable` when no leader or quorum is found within the time limit.
   */
  read(limits: { timeoutMs: number }): Promise<View>;
  /**
   * Replicates and applies one command; resolves with its result after the local state has it. Throws the command's own
   * fault, or `unavailable`/`timeout`; then it may still be applied later, and proposing again with the same request
   * id is safe (STA-2).
   */
  propose(command: Command, options: ProposeOptions): Promise<CommandResult>;
  /** Calls back after each batch of applied commands, with the events they emitted; returns the way to stop. */
  subscribe(listener: (change: Change) => void): () => void;
  /**
   * Events from a revision on, exact and without a gap; throws `precondition` if that revision is compacted (STA-3). 0 asks for all
   * that are kept. Whole revisions, about `limit` events (default: all).
   */
  eventsSince(revision: number, limit?: number): Event[];
  leadership(): Leadership;
}

export interface ProposeOptions {
  actor: string;
  /** In a form of src/state/requests.ts; left out, one is minted. */
  requestId?: string;
  /** Gives up after this; default 10 s. */
  timeoutMs?: number;
  /** The term a leader's own decision is bound to. */
  term?: number;
}

export interface Change {
  view: View;
  events: readonly Event[];
  /** Ids of the rows that changed, for who follows single objects. */
  changedIds: ReadonlySet<string>;
}

/** As the local Raft peer sees it now. */
export interface Leadership {
  /** True when this node leads and its state has the first entry of its own term (HA-2). */
  leading: boolean;
  leaderNodeId: string | null;
  term: number;
  /** Monotonic ms since a leader was last heard of (0 on the leader); Infinity if never. */
  silentMs: number;
}
