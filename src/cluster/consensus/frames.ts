/** What travels between nodes in a frame: Raft's messages, heartbeats and their acknowledgement, the committed stream. First byte: which. */
import { RoostError } from "../../base/errors.ts";
import type { Acknowledgement, Heartbeat } from "../../model/heartbeat.ts";
import { decodeMessage, encodeMessage } from "../../raft/codec.ts";
import { NO_DATA } from "../../raft/core/message.ts";
import type { Message } from "../../raft/core/types.ts";
import { decodeFeed, decodeFollow, decodeHint, encodeFeed, encodeJson, type Feed, type Follow, type Hint } from "./follow-frames.ts";

export type PeerFrame =
  | { kind: "raft"; message: Message }
  | { kind: "beat"; beat: Heartbeat }
  | { kind: "ack"; ack: Acknowledgement }
  | { kind: "follow"; follow: Follow }
  | { kind: "feed"; feed: Feed }
  | { kind: "ask" }
  | { kind: "hint"; hint: Hint };

const RAFT = 1;
const BEAT = 2;
const ACK = 3;
const FOLLOW = 4;
const FEED = 5;
const ASK = 6;
const HINT = 7;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeFrame(frame: PeerFrame): Uint8Array {
  switch (frame.kind) {
    case "raft":
      return encodedRaft(frame.message);
    case "beat":
      return tagged(BEAT, encoder.encode(JSON.stringify(frame.beat)));
    case "ack":
      return tagged(ACK, encoder.encode(JSON.stringify(frame.ack)));
    case "follow":
      return tagged(FOLLOW, encodeJson(frame.follow));
    case "feed":
      return tagged(FEED, encodeFeed(frame.feed));
    case "ask":
      return tagged(ASK, NO_DATA);
    case "hint":
      return tagged(HINT, encodeJson(frame.hint));
  }
}

/** @throws RoostError `damaged` on anything that is no frame. */
export function decodeFrame(bytes: Uint8Array): PeerFrame {
  const body = bytes.subarray(1);
  switch (bytes[0]) {
    case RAFT:
      return { kind: "raft", message: decodeMessage(body) };
    case BEAT:
      return { kind: "beat", beat: json(body) as Heartbeat };
    case ACK:
      return { kind: "ack", ack: json(body) as Acknowledgement };
    case FOLLOW:
      return { kind: "follow", follow: decodeFollow(body) };
    case FEED:
      return { kind: "feed", feed: decodeFeed(body) };
    case ASK:
      return { kind: "ask" };
    case HINT:
      return { kind: "hint", hint: decodeHint(body) };
    default:
      throw new RoostError({ kind: "damaged", what: "a frame from a peer" });
  }
}

/** The largest of frames, and most of them: made in place. */
function encodedRaft(message: Message): Uint8Array {
  const out = encodeMessage(message, 1);
  out[0] = RAFT;
  return out;
}

function tagged(tag: number, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(body.length + 1);
  out[0] = tag;
  out.set(body, 1);
  return out;
}

function json(body: Uint8Array): unknown {
  try {
    const value: unknown = JSON.parse(decoder.decode(body));
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Said below: what it was does not matter, that it was none does.
  }
  throw new RoostError({ kind: "damaged", what: "a heartbeat frame from a peer" });
}
