/** One message in: the rules about terms that hold in every role, votes, storage acknowledgements, then the role's own. */
import { assert } from "../../base/assert.ts";
import { maybeCampaign, replyTo, TRANSFER_CONTEXT } from "./election.ts";
import { message, NO_DATA } from "./message.ts";
import type { Raft } from "./raft.ts";
import { stepCandidate } from "./roles/candidate.ts";
import { stepFollower } from "./roles/follower.ts";
import { stepLeader } from "./roles/leader.ts";
import { entriesSize, payloadSize } from "./sizes.ts";
import type { Message, Refusal } from "./types.ts";
import { NONE } from "./types.ts";

/** Processes one message. A refusal changes nothing. */
export function step(raft: Raft, m: Message): Refusal | null {
  if (m.term > raft.term) {
    if (!meetHigherTerm(raft, m)) return null;
  } else if (m.term !== 0 && m.term < raft.term) {
    meetLowerTerm(raft, m);
    return null;
  }

  switch (m.type) {
    case "campaign":
      maybeCampaign(raft, raft.settings.preVote ? "pre-vote" : "vote");
      return null;
    case "storage-append-reply":
      if (m.index !== 0) raft.log.unstable.stableTo({ term: m.logTerm, index: m.index });
      if (m.checkpoint !== null) checkpointApplied(raft, m.checkpoint.index);
      return null;
    case "storage-apply-reply": {
      const last = m.entries.at(-1);
      if (last !== undefined) {
        appliedTo(raft, last.index, entriesSize(m.entries));
        raft.shrinkUncommitted(payloadSize(m.entries));
      }
      return null;
    }
    case "vote":
    case "pre-vote":
      answerVote(raft, m, m.type);
      return null;
    default:
  }
  switch (raft.role) {
    case "follower":
      return stepFollower(raft, m);
    case "candidate":
    case "pre-candidate":
      return stepCandidate(raft, m);
    case "leader":
      return stepLeader(raft, m);
  }
}

/** One unit of the driver's clock. */
export function tick(raft: Raft): void {
  raft.electionElapsed++;
  if (raft.role === "leader") tickLeader(raft);
  else if (raft.promotable() && raft.pastElectionTime()) {
    raft.electionElapsed = 0;
    step(raft, message("campaign", NONE, raft.id));
  }
}

function tickLeader(raft: Raft): void {
  raft.heartbeatElapsed++;
  if (raft.electionElapsed >= raft.settings.electionTicks) {
    raft.electionElapsed = 0;
    if (raft.settings.checkQuorum) step(raft, message("check-quorum", NONE, raft.id));
    // Thesis 3.10: a transfer that takes longer than an election is given up, so that clients are served again.
    if (raft.role === "leader") raft.transferee = NONE;
  }
  if (raft.role !== "leader" || raft.heartbeatElapsed < raft.settings.heartbeatTicks) return;
  raft.heartbeatElapsed = 0;
  step(raft, message("beat", NONE, raft.id));
}

/** Paper section 5.1: a higher term makes us follow. False if the message is to be ignored instead. */
function meetHigherTerm(raft: Raft, m: Message): boolean {
  if (m.type === "vote" || m.type === "pre-vote") {
    // Thesis 4.2.3: while we hear from a leader, candidates do not disturb us.
    const leaderIsLive = raft.settings.checkQuorum && raft.lead !== NONE && raft.electionElapsed < raft.settings.electionTicks;
    if (leaderIsLive && m.context !== TRANSFER_CONTEXT) return false;
  }
  // A pre-vote only asks about a term; granted, it comes back with the term that was asked for. Neither is anybody's term yet.
  if (m.type === "pre-vote" || (m.type === "pre-vote-reply" && !m.reject)) return true;
  const fromLeader = m.type === "append" || m.type === "heartbeat" || m.type === "checkpoint";
  raft.becomeFollower(m.term, fromLeader ? m.from : NONE);
  return true;
}

function meetLowerTerm(raft: Raft, m: Message): void {
  const { checkQuorum, preVote } = raft.settings;
  if ((checkQuorum || preVote) && (m.type === "heartbeat" || m.type === "append")) {
    // With stickiness or PreVote our higher term may never reach that leader by an election of ours: tell it, or it and we
    // block each other for good.
    raft.send(message("append-reply", m.from));
  } else if (m.type === "pre-vote") {
    const reply = message("pre-vote-reply", m.from);
    // A candidate with the longer log but the lower term must learn the term, else nobody wins.
    reply.term = raft.term;
    reply.reject = true;
    raft.send(reply);
  } else if (m.type === "storage-append-reply" && m.checkpoint !== null) {
    // The entries of an old term may have been replaced since (the ABA problem); a checkpoint cannot be.
    checkpointApplied(raft, m.checkpoint.index);
  }
}

function answerVote(raft: Raft, m: Message, type: "vote" | "pre-vote"): void {
  const mayVote = raft.vote === m.from || (raft.vote === NONE && raft.lead === NONE) || (type === "pre-vote" && m.term > raft.term);
  const reply = message(replyTo(type), m.from);
  // Learners answer too: they may be voters already without knowing (thesis 4.2.2).
  if (mayVote && raft.log.isUpToDate({ term: m.logTerm, index: m.index })) {
    // For a pre-vote the term asked for, not ours: the candidate is not in it yet and would ignore ours as old.
    reply.term = m.term;
    raft.send(reply);
    if (type === "vote") {
      raft.electionElapsed = 0;
      raft.vote = m.from;
    }
  } else {
    reply.term = raft.term;
    reply.reject = true;
    raft.send(reply);
  }
}

function appliedTo(raft: Raft, index: number, size: number): void {
  const applied = Math.max(index, raft.log.applied);
  raft.log.appliedTo(applied, size);
  if (raft.tracker.sets.autoLeave && applied >= raft.pendingConfIndex && raft.role === "leader") {
    // Everything up to the change that made the configuration joint is applied: leave it. Without data, so that no quota
    // refuses it. If it is dropped (a transfer is under way), the next applied entry tries again.
    const m = message("propose");
    m.entries = [{ term: 0, index: 0, kind: "conf", data: NO_DATA }];
    const refused = step(raft, m);
    raft.say("info", refused === null ? "leaves the joint configuration" : "cannot leave the joint configuration yet");
  }
}

function checkpointApplied(raft: Raft, index: number): void {
  assert(index <= raft.log.committed, `checkpoint ${index} is beyond the commit index`);
  raft.log.unstable.stableCheckpointTo(index);
  appliedTo(raft, index, 0);
}
