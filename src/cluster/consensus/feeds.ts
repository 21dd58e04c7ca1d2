/**
 * A voter's side of the committed stream: what each follower was sent and has applied. Entries are read from the log when they are
 * sent and not kept for anybody, so a slow follower costs a cursor; one whose place was cut off the log gets a checkpoint.
 */
import type { Clock } from "../../base/clock.ts";
import { message } from "../../raft/core/message.ts";
import { type Checkpoint, type Entry, type EntryId, type LogReader, NONE } from "../../raft/core/types.ts";
import { entriesSize } from "../../raft/core/sizes.ts";
import type { Lane, Peer } from "../../raft/transport/links.ts";
import type { Applying } from "./applying.ts";
import type { Follow, Hint, LeaderNews } from "./follow-frames.ts";
import type { PeerFrame } from "./frames.ts";

/** Followers that one voter serves; more are sent to others. */
const SESSIONS_MAX = 512;
/** Sent and not yet applied, for one follower and for all of them together. */
const WINDOW_BYTES = 1 << 20;
const ALL_WINDOWS_BYTES = 64 << 20;
const FEED_BYTES = 256 << 10;
/** A checkpoint is offered again if the follower still asks from before it after this long. */
const CHECKPOINT_AGAIN_MS = 3_000;

interface Session {
  peer: Peer;
  number: number;
  /** Sent up to here. */
  sent: EntryId;
  /** On their way, oldest first: each feed's last index and size. */
  inFlight: { index: number; bytes: number }[];
  inFlightBytes: number;
  heardMs: number;
  newsMs: number;
  checkpointMs: number | null;
}

export interface FeedEffects {
  peerId: number;
  clock: Clock;
  log: Pick<LogReader, "term" | "entries" | "checkpoint">;
  applying: Pick<Applying, "handed">;
  /** A follower that says nothing for this long is forgotten; news go out four times in it. */
  silenceMs: number;
  news: () => LeaderNews;
  send: (to: number, lane: Lane, frame: PeerFrame) => boolean;
  sendCheckpoint: (to: number, checkpoint: Checkpoint) => void;
}

export class Feeds {
  readonly #effects: FeedEffects;
  readonly #sessions = new Map<number, Session>();
  #inFlightBytes = 0;
  #lastNews = "";

  constructor(effects: FeedEffects) {
    this.#effects = effects;
  }

  /** Somebody follows. */
  get any(): boolean {
    return this.#sessions.size > 0;
  }

  /** Takes a follower's word; null, or why it cannot be served. */
  follow(from: Peer, { session: number, cursor }: Follow): Hint["refusal"] {
    const { log, applying, clock } = this.#effects;
    const nowMs = clock.monotonicMs();
    const known = this.#sessions.get(from.peerId);
    if (known === undefined && this.#sessions.size >= SESSIONS_MAX) return "full";
    const term = cursor.index > applying.handed.index || !this.#logIsOfHanded() ? "unavailable" : log.term(cursor.index);
    if (typeof term === "number" && term !== cursor.term) return "other-history";
    if (known === undefined || known.number !== number) {
      this.#drop(from.peerId);
      const session = { peer: from, number, sent: cursor, inFlight: [], inFlightBytes: 0, heardMs: nowMs, newsMs: -Infinity };
      // While a checkpoint is on its way the follower may well begin again where it was.
      this.#sessions.set(from.peerId, { ...session, checkpointMs: known?.checkpointMs ?? null });
    } else {
      known.heardMs = nowMs;
      while (known.inFlight.length > 0 && known.inFlight[0]!.index <= cursor.index) {
        const { bytes } = known.inFlight.shift()!;
        known.inFlightBytes -= bytes;
        this.#inFlightBytes -= bytes;
      }
    }
    this.#feed(this.#sessions.get(from.peerId)!, nowMs);
    return null;
  }

  /** Something more was handed out, another leads, or time went by. */
  pump(): void {
    if (this.#sessions.size === 0) return;
    const { news, clock, silenceMs } = this.#effects;
    const nowMs = clock.monotonicMs();
    const { leader, term } = news();
    const text = `${leader?.peerId ?? NONE}/${term}`;
    const isNews = text !== this.#lastNews;
    this.#lastNews = text;
    for (const session of this.#sessions.values()) {
      if (nowMs - session.heardMs > silenceMs * 2) this.#drop(session.peer.peerId);
      else {
        if (isNews) session.newsMs = -Infinity;
        this.#feed(session, nowMs);
      }
    }
  }

  /**
   * Between taking over a checkpoint's state and its place in the log, the log is what it was: what it holds below the checkpoint may
   * never have been committed.
   */
  #logIsOfHanded(): boolean {
    const { log, applying } = this.#effects;
    return log.term(applying.handed.index) === applying.handed.term;
  }

  #feed(session: Session, nowMs: number): void {
    const { log, applying, silenceMs, sendCheckpoint } = this.#effects;
    const handed = this.#logIsOfHanded() ? applying.handed.index : 0;
    while (session.sent.index < handed && session.inFlightBytes < WINDOW_BYTES && this.#inFlightBytes < ALL_WINDOWS_BYTES) {
      const entries = log.entries(session.sent.index + 1, handed + 1, FEED_BYTES);
      if (typeof entries === "string") {
        if (entries === "compacted" && nowMs - (session.checkpointMs ?? -Infinity) > CHECKPOINT_AGAIN_MS) {
          // Made by the main thread; asked again with the next turn.
          const checkpoint = log.checkpoint();
          if (checkpoint === null) break;
          session.checkpointMs = nowMs;
          sendCheckpoint(session.peer.peerId, checkpoint);
        }
        break;
      }
      if (!this.#send(session, entries, nowMs)) break;
    }
    if (nowMs - session.newsMs >= silenceMs / 4) this.#send(session, [], nowMs);
  }

  #send(session: Session, entries: readonly Entry[], nowMs: number): boolean {
    const { send, news, peerId } = this.#effects;
    const { sent, peer, number } = session;
    const append = message("append", NONE, peerId);
    append.index = sent.index;
    append.logTerm = sent.term;
    append.entries = entries;
    if (!send(peer.peerId, "log", { kind: "feed", feed: { ...news(), session: number, append } })) return false;
    session.newsMs = nowMs;
    const last = entries.at(-1);
    if (last === undefined) return true;
    const bytes = entriesSize(entries);
    session.inFlight.push({ index: last.index, bytes });
    session.inFlightBytes += bytes;
    this.#inFlightBytes += bytes;
    session.sent = { index: last.index, term: last.term };
    return true;
  }

  #drop(peerId: number): void {
    const session = this.#sessions.get(peerId);
    if (session === undefined) return;
    this.#inFlightBytes -= session.inFlightBytes;
    this.#sessions.delete(peerId);
  }
}
