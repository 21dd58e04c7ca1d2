import { campaign, countVote } from "../election.ts";
import type { Raft } from "../raft.ts";
import { broadcastAppend } from "../replicate.ts";
import type { Message, Refusal } from "../types.ts";
import { NONE } from "../types.ts";
import { takeAppend, takeCheckpoint, takeHeartbeat } from "./follower.ts";

/** Both kinds of candidate: they differ in the answers they wait for. */
export function stepCandidate(raft: Raft, m: Message): Refusal | null {
  switch (m.type) {
    case "propose":
      return "proposal-dropped";
    // A leader of our term exists: the election is over (paper section 5.2).
    case "append":
      raft.becomeFollower(m.term, m.from);
      takeAppend(raft, m);
      return null;
    case "heartbeat":
      raft.becomeFollower(m.term, m.from);
      takeHeartbeat(raft, m);
      return null;
    case "checkpoint":
      raft.becomeFollower(m.term, m.from);
      takeCheckpoint(raft, m);
      return null;
    case "vote-reply":
      if (raft.role === "candidate") takeVote(raft, m);
      return null;
    case "pre-vote-reply":
      if (raft.role === "pre-candidate") takeVote(raft, m);
      return null;
    default:
      return null;
  }
}

function takeVote(raft: Raft, m: Message): void {
  const result = countVote(raft, m);
  if (result === "lost") {
    // Of a lost pre-vote too the term is ours: m.term was that of the election it asked for.
    raft.becomeFollower(raft.term, NONE);
  } else if (result === "won") {
    if (raft.role === "pre-candidate") {
      campaign(raft, "vote");
    } else {
      raft.becomeLeader();
      broadcastAppend(raft);
    }
  }
}
