import { assert } from "../../../base/assert.ts";
import { decodeConfChange } from "../confdata.ts";
import { message, NO_DATA } from "../message.ts";
import type { Progress } from "../progress.ts";
import type { Raft } from "../raft.ts";
import { broadcastAppend, broadcastHeartbeat, sendAppend, sendTimeoutNow } from "../replicate.ts";
import type { Entry, Message, Refusal } from "../types.ts";
import { NONE } from "../types.ts";

export function stepLeader(raft: Raft, m: Message): Refusal | null {
  switch (m.type) {
    case "beat":
      broadcastHeartbeat(raft);
      return null;
    case "check-quorum":
      checkQuorum(raft);
      return null;
    case "propose":
      return propose(raft, m);
    case "read-index":
      takeRead(raft, m);
      return null;
    default:
  }
  const progress = raft.tracker.progress.get(m.from);
  if (progress === undefined) return null;
  switch (m.type) {
    case "append-reply":
      progress.recentActive = true;
      if (m.reject) takeRefusedAppend(raft, m, progress);
      else takeAcceptedAppend(raft, m, progress);
      return null;
    case "heartbeat-reply":
      takeHeartbeatReply(raft, m, progress);
      return null;
    case "checkpoint-status":
      if (progress.state !== "checkpoint") return null;
      // Failed: go back to where the peer was, not to where the checkpoint would have taken it.
      if (m.reject) progress.pendingCheckpoint = 0;
      progress.becomeProbe();
      // Arrived: its append-reply is on the way; failed: not at once again. Either way wait for a sign.
      progress.flowPaused = true;
      return null;
    case "unreachable":
      // What is in flight optimistically is probably lost.
      if (progress.state === "replicate") progress.becomeProbe();
      return null;
    case "transfer-leader":
      startTransfer(raft, m, progress);
      return null;
    default:
      return null;
  }
}

/** Thesis 6.2: a leader that does not hear from a quorum steps down, so that its clients look for another. */
function checkQuorum(raft: Raft): void {
  if (!raft.tracker.quorumActive()) {
    raft.say("warn", "has not heard from a quorum for an election time; steps down");
    raft.becomeFollower(raft.term, NONE);
  }
  for (const [id, progress] of raft.tracker.progress) if (id !== raft.id) progress.recentActive = false;
}

function propose(raft: Raft, m: Message): Refusal | null {
  assert(m.entries.length > 0, "a proposal without entries");
  // Removed from the membership while leading: nobody would count our own copy.
  if (!raft.tracker.progress.has(raft.id)) return "proposal-dropped";
  // Else the new leader would have to catch up with a moving target.
  if (raft.transferee !== NONE) return "proposal-dropped";
  const entries = m.entries.map((entry, i) => checkMembershipChange(raft, entry, raft.log.lastIndex() + i + 1));
  if (!raft.appendEntries(entries)) return "proposal-dropped";
  broadcastAppend(raft);
  return null;
}

/** The entry itself, or a `refused` one in its place if it is a membership change that must not be made now (thesis 4.1). */
function checkMembershipChange(raft: Raft, entry: Entry, index: number): Entry {
  if (entry.kind !== "conf" && entry.kind !== "conf-v1") return entry;
  // Without changes it can only mean to leave, whatever transition it names.
  const leaves = decodeConfChange(entry).changes.length === 0;
  const joint = raft.tracker.isJoint();
  let fault: string | null = null;
  if (raft.pendingConfIndex > raft.log.applied)
    fault = `the change at ${raft.pendingConfIndex} may not be applied yet (applied ${raft.log.applied})`;
  else if (joint && !leaves) fault = "the joint configuration must be left first";
  else if (!joint && leaves) fault = "there is no joint configuration to leave";
  if (fault !== null && !raft.settings.disableConfChangeValidation) {
    raft.say("info", `membership change refused: ${fault}`);
    return { term: 0, index: 0, kind: "refused", data: NO_DATA };
  }
  raft.pendingConfIndex = index;
  return entry;
}

/** Paper section 5.3: step back to where the logs may agree and try again from there. */
function takeRefusedAppend(raft: Raft, m: Message, progress: Progress): void {
  let hint = m.rejectHint;
  // The peer has told its term there: our own entries above that term cannot match either.
  if (m.logTerm > 0) hint = raft.log.findConflictByTerm(m.rejectHint, m.logTerm).index;
  if (!progress.maybeDecreaseTo(m.index, hint)) return;
  if (progress.state === "replicate") progress.becomeProbe();
  sendAppend(raft, m.from, true);
}

function takeAcceptedAppend(raft: Raft, m: Message, progress: Progress): void {
  // A probe that finds what we knew already still ends the probing.
  if (!progress.maybeUpdate(m.index) && !(progress.match === m.index && progress.state === "probe")) return;
  if (progress.state === "probe") {
    progress.becomeReplicate();
  } else if (progress.state === "checkpoint") {
    // By whatever way it got there: its log meets ours again. Through probe first: that carries `next` over.
    if (progress.match + 1 >= raft.log.firstIndex()) {
      progress.becomeProbe();
      progress.becomeReplicate();
    }
  } else {
    progress.inflights.freeUpTo(m.index);
  }

  const toOther = m.from !== raft.id;
  if (raft.maybeCommit()) {
    releaseEarlyReads(raft);
    broadcastAppend(raft);
  } else if (toOther && progress.canBumpCommit(raft.log.committed)) {
    sendAppend(raft, m.from, true);
  }
  // The freed window may have room for several messages.
  if (toOther) while (sendAppend(raft, m.from, false));
  if (m.from === raft.transferee && progress.match === raft.log.lastIndex()) sendTimeoutNow(raft, m.from);
}

function takeHeartbeatReply(raft: Raft, m: Message, progress: Progress): void {
  progress.recentActive = true;
  progress.flowPaused = false;
  // Whatever was in flight may be lost; one append now finds out. In probe state also when nothing seems to be missing.
  if (progress.match < raft.log.lastIndex() || progress.state === "probe") sendAppend(raft, m.from, true);
  if (raft.settings.reads !== "safe" || m.context === 0) return;
  raft.reads.acknowledge(m.from, m.context);
  for (const { request, index } of raft.reads.takeConfirmed(raft.tracker.sets)) answerRead(raft, request, index);
}

function startTransfer(raft: Raft, m: Message, progress: Progress): void {
  if (progress.isLearner) return;
  const to = m.from;
  if (raft.transferee === to) return;
  // A new wish replaces the old one, even if it is to stay leader.
  raft.transferee = NONE;
  if (to === raft.id) return;
  raft.say("info", `hands the leadership over to ${to}`);
  // The transfer gets a whole election time.
  raft.electionElapsed = 0;
  raft.transferee = to;
  if (progress.match === raft.log.lastIndex()) sendTimeoutNow(raft, to);
  else sendAppend(raft, to, true);
}

function takeRead(raft: Raft, m: Message): void {
  if (raft.tracker.isSingleton() && raft.settings.hastySingleReads) answerRead(raft, m, raft.log.committed);
  // Until something of our own term is committed, our commit index may lag behind what an earlier leader answered (thesis 6.4).
  else if (!raft.hasCommittedInTerm()) raft.earlyReads.push(m);
  else startRead(raft, m);
}

function startRead(raft: Raft, m: Message): void {
  // The only voter is a quorum by itself.
  const alone = raft.tracker.isSingleton() && raft.tracker.isVoter(raft.id);
  if (alone || raft.settings.reads === "lease") {
    answerRead(raft, m, raft.log.committed);
    return;
  }
  raft.reads.add(m, raft.log.committed);
  raft.reads.acknowledge(raft.id, raft.reads.position());
  broadcastHeartbeat(raft);
}

function releaseEarlyReads(raft: Raft): void {
  if (raft.earlyReads.length === 0 || !raft.hasCommittedInTerm()) return;
  const reads = raft.earlyReads;
  raft.earlyReads = [];
  for (const m of reads) startRead(raft, m);
}

function answerRead(raft: Raft, request: Message, index: number): void {
  if (request.from === NONE || request.from === raft.id) {
    raft.readStates.push({ index, context: request.entries[0]?.data ?? NO_DATA });
    return;
  }
  const reply = message("read-index-reply", request.from);
  reply.index = index;
  reply.entries = request.entries;
  raft.send(reply);
}
