import { message } from "../message.ts";
import { maybeCampaign } from "../election.ts";
import { restoreConfState } from "../membership.ts";
import type { Raft } from "../raft.ts";
import type { Checkpoint, Message, Refusal } from "../types.ts";
import { NONE } from "../types.ts";

export function stepFollower(raft: Raft, m: Message): Refusal | null {
  switch (m.type) {
    case "propose":
      if (raft.lead === NONE || raft.settings.disableProposalForwarding) return "proposal-dropped";
      forward(raft, m);
      return null;
    case "append":
      hearLeader(raft, m);
      takeAppend(raft, m);
      return null;
    case "heartbeat":
      hearLeader(raft, m);
      takeHeartbeat(raft, m);
      return null;
    case "checkpoint":
      hearLeader(raft, m);
      takeCheckpoint(raft, m);
      return null;
    case "transfer-leader":
    case "read-index":
      // Dropped without a leader: the caller asks again, as for any lost message.
      if (raft.lead !== NONE) forward(raft, m);
      return null;
    case "forget-leader":
      // A lease rests on followers that do not forget.
      if (raft.settings.reads === "lease") raft.say("warn", "cannot forget the leader while reads trust its lease");
      else raft.lead = NONE;
      return null;
    case "timeout-now":
      // No pre-vote: the leader itself has chosen us.
      maybeCampaign(raft, "transfer");
      return null;
    case "read-index-reply": {
      const [request] = m.entries;
      if (request !== undefined && m.entries.length === 1) raft.readStates.push({ index: m.index, context: request.data });
      return null;
    }
    default:
      return null;
  }
}

/** Paper section 5.3, receiver of AppendEntries. */
export function takeAppend(raft: Raft, m: Message): void {
  const reply = message("append-reply", m.from);
  if (m.index < raft.log.committed) {
    // Old news. What is committed here matches the leader's log for sure.
    reply.index = raft.log.committed;
    raft.send(reply);
    return;
  }
  const last = raft.log.maybeAppend({ term: m.logTerm, index: m.index }, m.entries, m.commit);
  if (last !== null) {
    reply.index = last;
    raft.send(reply);
    return;
  }
  // Help the leader to step back over whole terms: the highest index of ours whose term is not above its own there.
  const hint = raft.log.findConflictByTerm(Math.min(m.index, raft.log.lastIndex()), m.logTerm);
  reply.index = m.index;
  reply.reject = true;
  reply.rejectHint = hint.index;
  reply.logTerm = hint.term;
  raft.send(reply);
}

export function takeHeartbeat(raft: Raft, m: Message): void {
  raft.log.commitTo(m.commit);
  const reply = message("heartbeat-reply", m.from);
  reply.context = m.context;
  raft.send(reply);
}

/** Paper section 7, receiver of InstallSnapshot. */
export function takeCheckpoint(raft: Raft, m: Message): void {
  const restored = m.checkpoint !== null && restore(raft, m.checkpoint);
  const reply = message("append-reply", m.from);
  reply.index = restored ? raft.log.lastIndex() : raft.log.committed;
  raft.send(reply);
}

function hearLeader(raft: Raft, m: Message): void {
  raft.electionElapsed = 0;
  raft.lead = m.from;
}

function forward(raft: Raft, m: Message): void {
  raft.send({ ...m, to: raft.lead });
}

/** Replaces log and membership by the checkpoint; false if it brings nothing new. */
function restore(raft: Raft, checkpoint: Checkpoint): boolean {
  if (checkpoint.index <= raft.log.committed) return false;
  if (raft.role !== "follower") {
    raft.say("warn", "was sent a checkpoint in a role that takes none; steps down");
    raft.becomeFollower(raft.term + 1, NONE);
    return false;
  }
  const { voters, outgoing, learners } = checkpoint.confState;
  if (!voters.includes(raft.id) && !outgoing.includes(raft.id) && !learners.includes(raft.id)) {
    raft.say("warn", "was sent a checkpoint of a group that it is not in; ignored");
    return false;
  }
  if (raft.log.matches(checkpoint.index, checkpoint.term)) {
    // We have the entry: only the commit index is news, and our entries after it stay (paper figure 13, step 6).
    raft.log.commitTo(checkpoint.index);
    return false;
  }
  raft.log.restore(checkpoint);
  restoreConfState(raft, checkpoint.confState);
  raft.say("info", `starts again from the checkpoint at ${checkpoint.index}`);
  return true;
}
