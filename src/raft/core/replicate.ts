/** What a leader sends to bring others up to date: appends, checkpoints, heartbeats. */
import { assert, AssertionError } from "../../base/assert.ts";
import { message, NO_ENTRIES } from "./message.ts";
import type { Progress } from "./progress.ts";
import type { Raft } from "./raft.ts";
import { payloadSize } from "./sizes.ts";
import type { Entry, LogFault, PeerId } from "./types.ts";

/**
 * Sends the peer an append with what comes next, or a checkpoint if the log does not reach back that far; false if nothing
 * was sent. An empty append still carries the commit index and probes the peer's log: `evenIfEmpty` asks for it.
 */
export function sendAppend(raft: Raft, to: PeerId, evenIfEmpty: boolean): boolean {
  const progress = raft.tracker.progress.get(to);
  if (progress === undefined) throw new AssertionError(`append to ${to}, who is not tracked`);
  if (progress.paused) return false;

  const previous = progress.next - 1;
  const previousTerm = raft.log.term(previous);
  if (typeof previousTerm !== "number") return sendCheckpoint(raft, to, progress);

  let entries: readonly Entry[] | LogFault = NO_ENTRIES;
  // With a full window only empty appends go out: they carry the commit index and find out about lost messages.
  if (progress.state !== "replicate" || !progress.inflights.full) {
    entries = raft.log.entries(progress.next, raft.settings.maxSizePerMessage);
  }
  const missing = typeof entries === "string";
  if ((missing || entries.length === 0) && !evenIfEmpty) return false;
  if (typeof entries === "string") return sendCheckpoint(raft, to, progress);

  const m = message("append", to);
  m.index = previous;
  m.logTerm = previousTerm;
  m.entries = entries;
  m.commit = raft.log.committed;
  raft.send(m);
  progress.sentEntries(entries.length, payloadSize(entries));
  progress.sentCommit(raft.log.committed);
  return true;
}

/** Sends an append to everybody else, empty ones too. */
export function broadcastAppend(raft: Raft): void {
  for (const id of raft.tracker.peers()) if (id !== raft.id) sendAppend(raft, id, true);
}

/** Sends everybody else what is new for them, if anything is. */
export function broadcastNews(raft: Raft): void {
  for (const id of raft.tracker.peers()) if (id !== raft.id) sendAppend(raft, id, false);
}

/** Heartbeats to everybody else, with the read round to confirm if reads wait. */
export function broadcastHeartbeat(raft: Raft): void {
  const position = raft.reads.position();
  for (const id of raft.tracker.peers()) {
    if (id === raft.id) continue;
    const progress = raft.tracker.progress.get(id)!;
    const m = message("heartbeat", id);
    // Not beyond what the peer is known to have: its own tail may differ from ours.
    m.commit = Math.min(progress.match, raft.log.committed);
    m.context = position;
    raft.send(m);
    progress.sentCommit(m.commit);
  }
}

/** Tells a peer to campaign at once (thesis 3.10). */
export function sendTimeoutNow(raft: Raft, to: PeerId): void {
  raft.send(message("timeout-now", to));
}

function sendCheckpoint(raft: Raft, to: PeerId, progress: Progress): boolean {
  // A checkpoint is large: not to somebody who may be gone.
  if (!progress.recentActive) return false;
  const checkpoint = raft.log.checkpoint();
  if (checkpoint === null) return false;
  assert(checkpoint.index > 0, "a peer needs compacted entries, but there is no checkpoint");
  raft.say("info", `checkpoint at ${checkpoint.index} to ${to}, who is at ${progress.match}`);
  progress.becomeCheckpoint(checkpoint.index);
  const m = message("checkpoint", to);
  m.checkpoint = checkpoint;
  raft.send(m);
  return true;
}
