/** What the driver is handed: the Ready, and in asynchronous mode the work for its storage threads as messages. */
import { message } from "./message.ts";
import type { Raft } from "./raft.ts";
import type { HardState, Message, Ready } from "./types.ts";
import { APPEND_THREAD, APPLY_THREAD } from "./types.ts";

export const NO_HARD_STATE: HardState = { term: 0, vote: 0, commit: 0 };

export function sameHardState(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.vote === b.vote && a.commit === b.commit;
}

/** Work for the append thread; null if this Ready has none. */
export function storageAppend(raft: Raft, ready: Ready): Message | null {
  if (ready.entries.length === 0 && ready.hard === null && ready.checkpoint === null && raft.messagesAfterAppend.length === 0) return null;
  const m = message("storage-append", APPEND_THREAD, raft.id);
  m.entries = ready.entries;
  if (ready.hard !== null) {
    m.term = ready.hard.term;
    m.vote = ready.hard.vote;
    m.commit = ready.hard.commit;
  }
  m.checkpoint = ready.checkpoint;
  const reply = storageAppendReply(raft, ready);
  // Our own append-reply comes before the storage's: terms are then still found in the unstable log.
  m.responses = reply === null ? raft.messagesAfterAppend : [...raft.messagesAfterAppend, reply];
  return m;
}

/**
 * The acknowledgement of a write. It names the last entry of the log and carries our term, and is ignored if the term has
 * changed when it comes back: else entries that were replaced and then came back (A-B-A) could be taken for durable while the
 * write of the replacement is still under way. Since a new term always writes the hard state, and every write while entries
 * are unstable gets such an acknowledgement, one that counts comes in the end.
 */
export function storageAppendReply(raft: Raft, ready: Ready): Message | null {
  const unstable = raft.log.unstable.entries.length > 0;
  if (!unstable && ready.checkpoint === null) return null;
  const m = message("storage-append-reply", raft.id, APPEND_THREAD);
  m.term = raft.term;
  if (unstable) {
    const last = raft.log.lastEntryId();
    m.index = last.index;
    m.logTerm = last.term;
  }
  m.checkpoint = ready.checkpoint;
  return m;
}

/** Work for the apply thread; null if nothing was committed. */
export function storageApply(raft: Raft, ready: Ready): Message | null {
  const reply = storageApplyReply(raft, ready);
  if (reply === null) return null;
  const m = message("storage-apply", APPLY_THREAD, raft.id);
  m.entries = ready.committed;
  m.responses = [reply];
  return m;
}

/** The acknowledgement of applied entries. It belongs to no term: what is committed stays so. */
export function storageApplyReply(raft: Raft, ready: Ready): Message | null {
  if (ready.committed.length === 0) return null;
  const m = message("storage-apply-reply", raft.id, APPLY_THREAD);
  m.entries = ready.committed;
  return m;
}
