/**
 * Linearizable reads without log entries (thesis 6.4). Each read gets the next position; the leader confirms its leadership
 * by a heartbeat round that carries the highest position waiting, so one round confirms any number of reads.
 */
import { jointCommittedIndex } from "./quorum.ts";
import type { PeerSets } from "./tracker.ts";
import type { Message, PeerId } from "./types.ts";

interface WaitingRead {
  readonly request: Message;
  /** Commit index when the read came: it may be answered from there on. */
  readonly index: number;
}

export class ReadQueue {
  private acks = new Map<PeerId, number>();
  private waiting: WaitingRead[] = [];
  /** Position of the last confirmed read. */
  private confirmed = 0;

  add(request: Message, commit: number): void {
    this.waiting.push({ request, index: commit });
  }

  /** Position that the next heartbeats should carry; 0: no read waits. */
  position(): number {
    return this.waiting.length === 0 ? 0 : this.confirmed + this.waiting.length;
  }

  /** `from` confirmed the leadership at `position`. */
  acknowledge(from: PeerId, position: number): void {
    if (position > 0) this.acks.set(from, Math.max(this.acks.get(from) ?? 0, position));
  }

  /** Takes out the reads that a quorum has confirmed, oldest first. */
  takeConfirmed(sets: PeerSets): readonly WaitingRead[] {
    const confirmed = jointCommittedIndex(sets.incoming, sets.outgoing, (id) => this.acks.get(id));
    if (confirmed <= this.confirmed) return [];
    const taken = this.waiting.splice(0, confirmed - this.confirmed);
    this.confirmed = confirmed;
    return taken;
  }
}
