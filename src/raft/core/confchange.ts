/**
 * Membership arithmetic (thesis chapter 4): from the sets in force and a change to the next sets. Works on copies, so that a
 * refused change leaves nothing half done. Errors are values here: the text of what is wrong.
 */
import { assert, AssertionError } from "../../base/assert.ts";
import { Progress } from "./progress.ts";
import type { PeerSets, Tracker } from "./tracker.ts";
import { entersJoint, leavesJoint } from "./confdata.ts";
import type { ConfChange, ConfState, PeerChange, PeerId } from "./types.ts";
import { NONE } from "./types.ts";

export interface Membership {
  readonly sets: PeerSets;
  readonly progress: Map<PeerId, Progress>;
}

/** The membership after `change`, or what makes it impossible. `lastIndex`: of the log, where new peers are probed first. */
export function changeMembership(tracker: Tracker, lastIndex: number, change: ConfChange): Membership | string {
  const draft = new Draft(tracker, tracker, lastIndex);
  if (leavesJoint(change)) return draft.leaveJoint();
  const joint = entersJoint(change);
  return joint === null ? draft.simple(change.changes) : draft.enterJoint(joint.autoLeave, change.changes);
}

/** The membership that a ConfState describes, all progress new. A ConfState that cannot be built is damage or a bug. */
export function restoreMembership(tracker: Tracker, lastIndex: number, state: ConfState): Membership {
  const change = (kind: PeerChange["kind"]) => (peer: PeerId) => ({ kind, peer });
  // Build the outgoing half first as if it were the whole; entering joint then rotates it to its place.
  const incoming = [
    ...state.outgoing.map(change("remove")),
    ...state.voters.map(change("voter")),
    ...state.learners.map(change("learner")),
    ...state.learnersNext.map(change("learner")),
  ];
  const joint = state.outgoing.length > 0;
  const steps = joint ? state.outgoing.map(change("voter")) : incoming;
  let membership: Membership = { sets: tracker.sets, progress: tracker.progress };
  for (const step of steps) membership = mustBe(new Draft(tracker, membership, lastIndex).simple([step]), state);
  if (joint) membership = mustBe(new Draft(tracker, membership, lastIndex).enterJoint(state.autoLeave, incoming), state);
  return membership;
}

function mustBe(result: Membership | string, state: ConfState): Membership {
  if (typeof result === "string") throw new AssertionError(`membership ${JSON.stringify(state)} cannot be restored: ${result}`);
  return result;
}

class Draft {
  private readonly tracker: Tracker;
  private readonly before: Membership;
  private readonly lastIndex: number;
  private readonly sets: PeerSets;
  private readonly progress = new Map<PeerId, Progress>();

  constructor(tracker: Tracker, before: Membership, lastIndex: number) {
    this.tracker = tracker;
    this.before = before;
    this.lastIndex = lastIndex;
    const { incoming, outgoing, learners, learnersNext, autoLeave } = before.sets;
    this.sets = {
      incoming: new Set(incoming),
      outgoing: new Set(outgoing),
      learners: new Set(learners),
      learnersNext: new Set(learnersNext),
      autoLeave,
    };
    for (const [id, progress] of before.progress) this.progress.set(id, progress.copy());
  }

  simple(changes: readonly PeerChange[]): Membership | string {
    if (this.joint) return "a joint configuration takes no simple change";
    const fault = this.apply(changes);
    if (fault !== null) return fault;
    if (difference(this.before.sets.incoming, this.sets.incoming) > 1) return "more than one voter changed without a joint configuration";
    return this.finish();
  }

  enterJoint(autoLeave: boolean, changes: readonly PeerChange[]): Membership | string {
    if (this.joint) return "the configuration is joint already";
    if (this.sets.incoming.size === 0) return "a configuration without voters cannot become joint";
    for (const id of this.sets.incoming) this.sets.outgoing.add(id);
    const fault = this.apply(changes);
    if (fault !== null) return fault;
    this.sets.autoLeave = autoLeave;
    return this.finish();
  }

  leaveJoint(): Membership | string {
    if (!this.joint) return "the configuration is not joint";
    for (const id of this.sets.learnersNext) {
      this.sets.learners.add(id);
      this.progressOf(id).isLearner = true;
    }
    this.sets.learnersNext.clear();
    for (const id of this.sets.outgoing) {
      if (!this.sets.incoming.has(id) && !this.sets.learners.has(id)) this.progress.delete(id);
    }
    this.sets.outgoing.clear();
    this.sets.autoLeave = false;
    return this.finish();
  }

  private get joint(): boolean {
    return this.sets.outgoing.size > 0;
  }

  private apply(changes: readonly PeerChange[]): string | null {
    for (const { kind, peer } of changes) {
      // A change that its user has cancelled after it was logged names no peer.
      if (peer === NONE) continue;
      if (kind === "voter") this.makeVoter(peer);
      else if (kind === "learner") this.makeLearner(peer);
      else if (kind === "remove") this.remove(peer);
    }
    return this.sets.incoming.size === 0 ? "all voters would be removed" : null;
  }

  private makeVoter(id: PeerId): void {
    const progress = this.progress.get(id);
    if (progress === undefined) {
      this.sets.incoming.add(id);
      this.track(id, false);
      return;
    }
    progress.isLearner = false;
    this.sets.learners.delete(id);
    this.sets.learnersNext.delete(id);
    this.sets.incoming.add(id);
  }

  private makeLearner(id: PeerId): void {
    const progress = this.progress.get(id);
    if (progress === undefined) {
      this.sets.learners.add(id);
      this.track(id, true);
      return;
    }
    if (progress.isLearner) return;
    this.remove(id);
    this.progress.set(id, progress);
    // Nobody is voter and learner at once: a voter of the outgoing half becomes learner when that half goes.
    if (this.sets.outgoing.has(id)) {
      this.sets.learnersNext.add(id);
    } else {
      progress.isLearner = true;
      this.sets.learners.add(id);
    }
  }

  private remove(id: PeerId): void {
    if (!this.progress.has(id)) return;
    this.sets.incoming.delete(id);
    this.sets.learners.delete(id);
    this.sets.learnersNext.delete(id);
    if (!this.sets.outgoing.has(id)) this.progress.delete(id);
  }

  private track(id: PeerId, isLearner: boolean): void {
    const progress = new Progress(0, Math.max(this.lastIndex, 1), this.tracker.newInflights(), isLearner);
    // Else the next quorum check could depose the leader before the new peer had a chance to speak.
    progress.recentActive = true;
    this.progress.set(id, progress);
  }

  private progressOf(id: PeerId): Progress {
    const progress = this.progress.get(id);
    assert(progress !== undefined, `peer ${id} is not tracked`);
    return progress;
  }

  private finish(): Membership {
    const { incoming, outgoing, learners, learnersNext, autoLeave } = this.sets;
    for (const id of [...incoming, ...outgoing]) {
      this.progressOf(id);
      assert(!learners.has(id), `peer ${id} is voter and learner`);
    }
    for (const id of learners) assert(this.progressOf(id).isLearner, `learner ${id} is not marked so`);
    for (const id of learnersNext) {
      assert(outgoing.has(id) && !this.progressOf(id).isLearner, `peer ${id} cannot become a learner later`);
    }
    assert(this.joint || (learnersNext.size === 0 && !autoLeave), "a simple configuration has leftovers of a joint one");
    return { sets: this.sets, progress: this.progress };
  }
}

/** Number of members that only one of the sets has. */
function difference(a: ReadonlySet<PeerId>, b: ReadonlySet<PeerId>): number {
  let count = 0;
  for (const id of a) if (!b.has(id)) count++;
  for (const id of b) if (!a.has(id)) count++;
  return count;
}
