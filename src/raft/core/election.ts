/** Campaigns (paper section 5.2, thesis 3.10 and 9.6). */
import { message } from "./message.ts";
import type { VoteResult } from "./quorum.ts";
import type { Raft } from "./raft.ts";
import type { Message } from "./types.ts";

/** `transfer`: on the leader's wish, which overrides the stickiness of the others. */
export type CampaignKind = "pre-vote" | "vote" | "transfer";

/** Value of `context` in the vote requests of a transfer. */
export const TRANSFER_CONTEXT = 1;

/** Starts a campaign unless this peer may not: leader already, no voter, or a membership change that is committed but not applied. */
export function maybeCampaign(raft: Raft, kind: CampaignKind): void {
  if (raft.role === "leader") return;
  if (!raft.promotable()) {
    raft.say("warn", "cannot be elected and does not campaign");
    return;
  }
  // Else two leaders could count by configurations that do not overlap (etcd 7625, 12359).
  if (hasUnappliedConfChange(raft)) {
    raft.say("warn", "does not campaign before a committed membership change is applied");
    return;
  }
  campaign(raft, kind);
}

export function campaign(raft: Raft, kind: CampaignKind): void {
  if (kind === "pre-vote") raft.becomePreCandidate();
  else raft.becomeCandidate();
  const type = kind === "pre-vote" ? "pre-vote" : "vote";
  const term = kind === "pre-vote" ? raft.term + 1 : raft.term;
  for (const id of raft.tracker.voters()) {
    if (id === raft.id) {
      // Our own vote counts once it is durable, like any other.
      const own = message(replyTo(type), id);
      own.term = term;
      raft.send(own);
      continue;
    }
    const last = raft.log.lastEntryId();
    const m = message(type, id);
    m.term = term;
    m.index = last.index;
    m.logTerm = last.term;
    m.context = kind === "transfer" ? TRANSFER_CONTEXT : 0;
    raft.send(m);
  }
}

/** Counts the vote in `m`. */
export function countVote(raft: Raft, m: Message): VoteResult {
  return raft.tracker.recordVote(m.from, !m.reject);
}

export function replyTo(type: "vote" | "pre-vote"): "vote-reply" | "pre-vote-reply" {
  return type === "vote" ? "vote-reply" : "pre-vote-reply";
}

function hasUnappliedConfChange(raft: Raft): boolean {
  const { applied, committed, maxApplyingSize } = raft.log;
  if (applied >= committed) return false;
  return raft.log.some(applied + 1, committed + 1, maxApplyingSize, ({ kind }) => kind === "conf" || kind === "conf-v1");
}
