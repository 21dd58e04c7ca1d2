/** What followers and voters say to each other; how they travel: frames.ts. */
import { RoostError } from "../../base/errors.ts";
import type { Membership } from "../../model/membership.ts";
import { decodeMessage, encodeMessage } from "../../raft/codec.ts";
import type { EntryId, Message } from "../../raft/core/types.ts";
import type { Peer } from "../../raft/transport/links.ts";

/** "Send me what is committed after the cursor", and at the same time "I have applied up to it". Repeated often. */
export interface Follow {
  /** Chosen anew by the follower whenever it wants to begin again at its cursor; what is of an older one is dropped. */
  session: number;
  cursor: EntryId;
}

/** Who leads, as a voter knows it. */
export interface LeaderNews {
  leader: Peer | null;
  term: number;
  /** Since the sender last heard of the leader, ms; null: never. */
  heardAgoMs: number | null;
}

/** Entries that follow a place, all of them committed; none: only the news. */
export interface Feed extends LeaderNews {
  session: number;
  /** In the shape of an append: `index`, `logTerm` the place before `entries`. */
  append: Message;
}

/** What somebody knows who was asked, or who cannot serve: positions that are committed for certain, and who votes. */
export interface Hint extends LeaderNews {
  /** Why it does not serve; null if it was only asked. */
  refusal: "not-a-voter" | "full" | "other-history" | null;
  /** Something it has from the committed log: the last. */
  committed: EntryId;
  /** Where the membership last changed, if it did since the sender's start. */
  changedAt: EntryId | null;
  membership: Membership;
  voters: Peer[];
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeFeed({ append, ...head }: Feed): Uint8Array {
  const json = encoder.encode(JSON.stringify(head));
  const body = encodeMessage(append);
  const out = new Uint8Array(4 + json.length + body.length);
  new DataView(out.buffer).setUint32(0, json.length);
  out.set(json, 4);
  out.set(body, 4 + json.length);
  return out;
}

/** @throws RoostError `damaged` */
export function decodeFeed(bytes: Uint8Array): Feed {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length < 4 ? 0 : view.getUint32(0);
  if (length === 0 || length > bytes.length - 4) throw new RoostError({ kind: "damaged", what: "a feed's frame" });
  const head = parse(bytes.subarray(4, 4 + length)) as Omit<Feed, "append">;
  return { ...head, append: decodeMessage(bytes.subarray(4 + length)) };
}

export function encodeJson(value: Follow | Hint): Uint8Array {
  return encoder.encode(JSON.stringify(value));
}

/** @throws RoostError `damaged` */
export function decodeFollow(bytes: Uint8Array): Follow {
  const value = parse(bytes) as Partial<Follow>;
  if (typeof value.session !== "number" || !isEntryId(value.cursor)) throw new RoostError({ kind: "damaged", what: "a follower's frame" });
  return value as Follow;
}

/** @throws RoostError `damaged` */
export function decodeHint(bytes: Uint8Array): Hint {
  const value = parse(bytes) as Partial<Hint>;
  if (!isEntryId(value.committed) || !Array.isArray(value.membership?.voters) || !Array.isArray(value.voters))
    throw new RoostError({ kind: "damaged", what: "a hint's frame" });
  return value as Hint;
}

function isEntryId(value: unknown): value is EntryId {
  const { index, term } = (value ?? {}) as Partial<EntryId>;
  return Number.isSafeInteger(index) && Number.isSafeInteger(term);
}

function parse(bytes: Uint8Array): object {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes));
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Said below: what it was does not matter, that it was none does.
  }
  throw new RoostError({ kind: "damaged", what: "a frame from a peer" });
}
