import type { Entry, Message, MessageType, PeerId } from "./types.ts";
import { APPEND_THREAD, APPLY_THREAD, NONE } from "./types.ts";

export const NO_DATA = new Uint8Array(0);
export const NO_ENTRIES: readonly Entry[] = Object.freeze([]);
const NO_MESSAGES: readonly Message[] = Object.freeze([]);

/** A message of the given type with every other field at its "unused" value. */
export function message(type: MessageType, to: PeerId = NONE, from: PeerId = NONE): Message {
  return {
    type,
    to,
    from,
    term: 0,
    logTerm: 0,
    index: 0,
    entries: NO_ENTRIES,
    commit: 0,
    vote: NONE,
    checkpoint: null,
    reject: false,
    rejectHint: 0,
    context: 0,
    responses: NO_MESSAGES,
  };
}

/** Types that never come over the network. `forget-leader` and `timeout-now` may: they do no harm there. */
const LOCAL: ReadonlySet<MessageType> = new Set<MessageType>([
  "campaign",
  "beat",
  "unreachable",
  "checkpoint-status",
  "check-quorum",
  "storage-append",
  "storage-append-reply",
  "storage-apply",
  "storage-apply-reply",
]);

/** Types that answer something, and so are taken only from peers that are tracked. */
const REPLIES: ReadonlySet<MessageType> = new Set<MessageType>([
  "append-reply",
  "vote-reply",
  "heartbeat-reply",
  "unreachable",
  "read-index-reply",
  "pre-vote-reply",
  "storage-append-reply",
  "storage-apply-reply",
]);

export function isLocal(type: MessageType): boolean {
  return LOCAL.has(type);
}

export function isReply(type: MessageType): boolean {
  return REPLIES.has(type);
}

/** True for the addresses of the local storage threads. */
export function isThread(id: PeerId): boolean {
  return id === APPEND_THREAD || id === APPLY_THREAD;
}
