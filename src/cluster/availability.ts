/**
 * Whether writes and linearizable reads have a chance, as far as this node knows, and who is missed if they have none (RAFT-6). During
 * an election callers wait; without a leader for longer they are refused at once instead of at their own deadline.
 */
import type { Clock } from "../base/clock.ts";
import { RoostError } from "../base/errors.ts";
import type { Membership } from "../model/membership.ts";
import type { Node } from "../model/node.ts";

/** An election takes between one and two of them after the old leader was missed, and a second round as long again. */
const ELECTIONS = 4;

export class Availability {
  readonly #clock: Clock;
  readonly #nodeId: string;
  #electionMs = Infinity;
  #leaderlessSinceMs: number | null = null;
  #reachable: readonly number[] = [];
  /** Id of a node that says that this one was removed, until a leader is heard of again. */
  #removedBy: string | null = null;
  /** The cluster generation that left this node out; null if none did. */
  leftOut: number | null = null;

  constructor(nodeId: string, clock: Clock) {
    this.#nodeId = nodeId;
    this.#clock = clock;
  }

  started(electionMs: number): void {
    this.#electionMs = electionMs;
    this.#leaderlessSinceMs = this.#clock.monotonicMs();
  }

  leaderIs(known: boolean): void {
    if (known) {
      this.#leaderlessSinceMs = null;
      this.#removedBy = null;
    } else this.#leaderlessSinceMs ??= this.#clock.monotonicMs();
  }

  heard(reachable: readonly number[]): void {
    this.#reachable = reachable;
  }

  /** True if that was news. */
  removedBy(nodeId: string): boolean {
    const isNews = this.#removedBy === null;
    this.#removedBy = nodeId;
    return isNews;
  }

  /** Why asking is in vain now; null: wait and see. */
  refusal(nodes: ReadonlyMap<string, Node>, membership: Membership): RoostError | null {
    const own = nodes.get(this.#nodeId);
    if (this.#removedBy !== null || own?.state === "removed") {
      const why = own?.state === "removed" ? own.stateWhy : "another node says so";
      return new RoostError(
        { kind: "precondition", reason: `node ${own?.name ?? this.#nodeId} was removed from the cluster (${why})` },
        "stop its daemon, move its data folder away, and join again with a fresh token (`roost token create` on another node); --stale reads what it last knew",
      );
    }
    const silentMs = this.#leaderlessSinceMs === null ? 0 : this.#clock.monotonicMs() - this.#leaderlessSinceMs;
    if (silentMs <= ELECTIONS * this.#electionMs) return null;
    if (this.leftOut !== null) return this.unavailable("nothing was changed", nodes, membership);
    return new RoostError(
      { kind: "unavailable", reason: `no leader for ${Math.round(silentMs / 1_000)} s: nothing was changed` },
      this.#whoIsMissed(nodes, membership),
    );
  }

  /** Time is over for something that needs the others. */
  unavailable(what: string, nodes: ReadonlyMap<string, Node>, membership: Membership): RoostError {
    if (this.leftOut !== null) {
      return new RoostError(
        { kind: "unavailable", reason: `the cluster was recovered without this node (generation ${this.leftOut}): ${what}` },
        "ask another node; to bring this one back: roost cluster rejoin ADDRESS, or join anew with a token",
      );
    }
    const reason = this.#leaderlessSinceMs === null ? what : `no leader: ${what}`;
    return new RoostError({ kind: "unavailable", reason }, this.#whoIsMissed(nodes, membership));
  }

  #whoIsMissed(nodes: ReadonlyMap<string, Node>, { voters, outgoing }: Membership): string {
    const rows = [...nodes.values()].filter((node) => voters.includes(node.peerId) || outgoing.includes(node.peerId));
    const reached = (node: Node): boolean => node.id === this.#nodeId || this.#reachable.includes(node.peerId);
    const list = (some: Node[]): string =>
      some
        .map((node) => node.name)
        .toSorted()
        .join(", ") || "none";
    return `a majority of the voters must be up and reach each other; from here reachable: ${list(rows.filter(reached))}; not: ${list(rows.filter((node) => !reached(node)))}; --stale reads what this node has; roost help cluster recover if they are lost for good`;
  }
}
