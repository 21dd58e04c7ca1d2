import { Inflights } from "./inflights.ts";
import type { Progress } from "./progress.ts";
import type { VoteResult } from "./quorum.ts";
import { jointCommittedIndex, jointVoteResult } from "./quorum.ts";
import type { ConfState, PeerId } from "./types.ts";

/** The active membership as sets. `outgoing` is empty unless joint; learners and voters of either half never overlap. */
export interface PeerSets {
  incoming: Set<PeerId>;
  outgoing: Set<PeerId>;
  learners: Set<PeerId>;
  learnersNext: Set<PeerId>;
  autoLeave: boolean;
}

export function emptyPeerSets(): PeerSets {
  return { incoming: new Set(), outgoing: new Set(), learners: new Set(), learnersNext: new Set(), autoLeave: false };
}

function sorted(ids: Iterable<PeerId>): PeerId[] {
  return [...ids].toSorted((a, b) => a - b);
}

/** Peers, their progress (meaningful at the leader) and the votes of the current election. */
export class Tracker {
  sets: PeerSets = emptyPeerSets();
  progress = new Map<PeerId, Progress>();
  readonly maxInflightMessages: number;
  readonly maxInflightBytes: number;
  private votes = new Map<PeerId, boolean>();
  /** Everybody tracked, ascending: messages go out in this order. */
  private ids: PeerId[] = [];
  private readonly matchOf = (id: PeerId): number | undefined => this.progress.get(id)?.match;

  constructor(maxInflightMessages: number, maxInflightBytes: number) {
    this.maxInflightMessages = maxInflightMessages;
    this.maxInflightBytes = maxInflightBytes;
  }

  newInflights(): Inflights {
    return new Inflights(this.maxInflightMessages, this.maxInflightBytes);
  }

  /** Takes over a membership that confchange.ts has built. */
  adopt(sets: PeerSets, progress: Map<PeerId, Progress>): void {
    this.sets = sets;
    this.progress = progress;
    this.ids = sorted(progress.keys());
  }

  confState(): ConfState {
    return {
      voters: sorted(this.sets.incoming),
      outgoing: sorted(this.sets.outgoing),
      learners: sorted(this.sets.learners),
      learnersNext: sorted(this.sets.learnersNext),
      autoLeave: this.sets.autoLeave,
    };
  }

  /** True if this is the only voter and no change is under way. */
  isSingleton(): boolean {
    return this.sets.incoming.size === 1 && this.sets.outgoing.size === 0;
  }

  isJoint(): boolean {
    return this.sets.outgoing.size > 0;
  }

  isVoter(id: PeerId): boolean {
    return this.sets.incoming.has(id) || this.sets.outgoing.has(id);
  }

  /** Voters of both halves, ascending. */
  voters(): PeerId[] {
    return sorted(new Set([...this.sets.incoming, ...this.sets.outgoing]));
  }

  /** Everybody tracked, ascending. */
  peers(): readonly PeerId[] {
    return this.ids;
  }

  /** Highest index that is durable at a quorum. */
  committed(): number {
    return jointCommittedIndex(this.sets.incoming, this.sets.outgoing, this.matchOf);
  }

  /** True if a quorum was heard from since the flags were last cleared. */
  quorumActive(): boolean {
    const active = new Map<PeerId, boolean>();
    for (const [id, progress] of this.progress) if (!progress.isLearner) active.set(id, progress.recentActive);
    return jointVoteResult(this.sets.incoming, this.sets.outgoing, active) === "won";
  }

  resetVotes(): void {
    this.votes = new Map();
  }

  /** The first answer of a voter counts; a repeated or changed one does not. */
  recordVote(id: PeerId, granted: boolean): VoteResult {
    if (!this.votes.has(id)) this.votes.set(id, granted);
    return jointVoteResult(this.sets.incoming, this.sets.outgoing, this.votes);
  }
}
