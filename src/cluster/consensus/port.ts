/**
 * The way between the two threads. Cloning an array of bytes also clones all of the buffer that it is a view of, and every array costs
 * anew; so what comes in numbers (proposals one way, committed entries the other) travels as one block of bytes that changes hands.
 */
import type { MessagePort, Worker } from "node:worker_threads";
import type { Membership } from "../../model/membership.ts";
import type { CommittedEntry, FromConsensus, ToConsensus } from "./protocol.ts";

/** Parts one after another; `ends[i]` is where part i ends, -1 where there is none. */
interface Block {
  bytes: Uint8Array<ArrayBuffer>;
  ends: Float64Array<ArrayBuffer>;
}

interface PackedApply {
  kind: "packed-apply";
  batch: number;
  /** Of the first entry; the others follow without a gap. */
  firstIndex: number;
  terms: Float64Array<ArrayBuffer>;
  data: Block;
  memberships: { at: number; membership: Membership }[];
}

interface PackedProposals {
  kind: "packed-propose";
  data: Block;
  applied: number;
}

type Port = Pick<MessagePort, "postMessage" | "on"> | Pick<Worker, "postMessage" | "on">;

/** The main thread's end. */
export interface ConsensusPort {
  postMessage(message: ToConsensus, transfer?: ArrayBuffer[]): void;
  on(event: "message", listener: (message: FromConsensus) => void): unknown;
}

export function consensusPort(worker: Port): ConsensusPort {
  return {
    postMessage(message, transfer) {
      if (message.kind !== "propose") return worker.postMessage(message, transfer);
      const data = pack(message.data);
      worker.postMessage({ kind: "packed-propose", data, applied: message.applied } satisfies PackedProposals, buffersOf(data));
    },
    on: (event, listener) =>
      worker.on(event, (message: FromConsensus | PackedApply) =>
        listener(message.kind === "packed-apply" ? unpackApply(message) : message),
      ),
  };
}

/** The consensus thread's end. */
export function mainPort(port: Port): { post(message: FromConsensus): void; onMessage(listener: (message: ToConsensus) => void): void } {
  return {
    post(message) {
      if (message.kind !== "apply") return port.postMessage(message);
      const packed = packApply(message.batch, message.entries);
      port.postMessage(packed, [packed.terms.buffer, ...buffersOf(packed.data)]);
    },
    onMessage: (listener) =>
      void port.on("message", (message: ToConsensus | PackedProposals) =>
        listener(
          message.kind === "packed-propose"
            ? { kind: "propose", data: unpack(message.data).filter((part) => part !== null), applied: message.applied }
            : message,
        ),
      ),
  };
}

function packApply(batch: number, entries: readonly CommittedEntry[]): PackedApply {
  return {
    kind: "packed-apply",
    batch,
    firstIndex: entries[0]?.index ?? 0,
    terms: Float64Array.from(entries, ({ term }) => term),
    data: pack(entries.map(({ data }) => data)),
    memberships: entries.flatMap(({ membership }, at) => (membership === null ? [] : [{ at, membership }])),
  };
}

function unpackApply({ batch, firstIndex, terms, data, memberships }: PackedApply): FromConsensus & { kind: "apply" } {
  const parts = unpack(data);
  const entries: CommittedEntry[] = parts.map((part, i) => ({ index: firstIndex + i, term: terms[i] ?? 0, data: part, membership: null }));
  for (const { at, membership } of memberships) entries[at]!.membership = membership;
  return { kind: "apply", batch, entries };
}

function pack(parts: readonly (Uint8Array | null)[]): Block {
  let size = 0;
  for (const part of parts) size += part?.length ?? 0;
  const bytes = new Uint8Array(size);
  const ends = new Float64Array(parts.length);
  let at = 0;
  for (const [i, part] of parts.entries()) {
    if (part !== null) bytes.set(part, at);
    at += part?.length ?? 0;
    ends[i] = part === null ? -1 : at;
  }
  return { bytes, ends };
}

/** Views into the block. */
function unpack({ bytes, ends }: Block): (Uint8Array | null)[] {
  let at = 0;
  return Array.from(ends, (end) => {
    if (end === -1) return null;
    const part = bytes.subarray(at, end);
    at = end;
    return part;
  });
}

function buffersOf({ bytes, ends }: Block): ArrayBuffer[] {
  return [bytes.buffer, ends.buffer];
}
