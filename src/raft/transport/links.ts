/**
 * How peers reach each other: frames of bytes on lanes, best effort. A frame may be lost, doubled or late, never
 * changed; who sent it is known from its certificate, not from what it says (SEC-3).
 */

import type { CheckpointChunk } from "./checkpoint-file.ts";

/**
 * `log` carries appends and offers of checkpoints (which have connections of their own), `beat` what must not wait behind them: votes, Raft's heartbeats, claim
 * renewals.
 */
export type Lane = "log" | "beat";

export interface Peer {
  peerId: number;
  nodeId: string;
  /** host:port */
  address: string;
  /** Where it stands; absent if not known. */
  zone?: string;
}

export interface CheckpointRequest {
  /** As it was offered. */
  id: string;
  /** Number of the first chunk that is wanted. */
  fromChunk: number;
}

/** A checkpoint's chunk on its way. Without bytes: the one before was the last. */
export interface WireChunk extends CheckpointChunk {
  id: string;
  number: number;
}

/** A checkpoint that is being received, whole chunks only. */
export interface ReceivedCheckpoint {
  readonly chunks: number;
  readonly bytes: number;
  /** CRC-32 of all that is there. */
  readonly crc: number;
  append(chunk: CheckpointChunk): Promise<void>;
  /** All is there: durable from now on. Answers where. @throws RoostError `damaged` if the checksum is another. */
  finish(crc: number): Promise<string>;
  close(): Promise<void>;
}

/** Where checkpoints are received: one at a time, which survives a restart as far as it has come. */
export interface CheckpointInbox {
  /** What is there of it; what there is of others is deleted. */
  open(id: string): Promise<ReceivedCheckpoint>;
  /** Deletes whatever is there. */
  tidy(): Promise<void>;
}

export interface PeerLinks {
  /** False if the frame was dropped at once: peer unknown, or its queue is full. */
  send(peerId: number, lane: Lane, payload: Uint8Array): boolean;
  /** A checkpoint's chunks, at the pace of whoever iterates. @throws RoostError: `not-found` if the peer does not hold it, else the link broke. */
  fetchCheckpoint(peerId: number, request: CheckpointRequest, signal: AbortSignal): AsyncIterable<WireChunk>;
  /** Replaces the peers that frames are sent to and taken from, and the ids of nodes that are told that they were removed. */
  setPeers(peers: readonly Peer[], removed: ReadonlySet<string>): void;
  close(): Promise<void>;
}

export interface LinkEvents {
  frame(from: Peer, payload: Uint8Array): void;
  /** A node asks for a checkpoint. Its iteration is ended early if the node goes away. @throws RoostError to refuse. */
  checkpoint(nodeId: string, request: CheckpointRequest): AsyncIterable<WireChunk>;
  /** A node of a later cluster generation answered or called: this one was left out of it (RAFT-6). */
  outdated?(generation: number): void;
  /** The stream to the peer broke; frames on their way may be lost. */
  broken(peer: Peer): void;
  /** The peer says that this node was removed from the cluster. */
  removed(peer: Peer): void;
}
