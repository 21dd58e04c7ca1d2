/**
 * How peers reach each other: frames of bytes on lanes, best effort. A frame may be lost, doubled or late, never
 * changed; who sent it is known from its certificate, not from what it says (SEC-3).
 */

/**
 * `log` carries appends and checkpoints, `beat` what must not wait behind them: votes, Raft's heartbeats, claim
 * renewals.
 */
export type Lane = "log" | "beat";

export interface Peer {
  peerId: number;
  nodeId: string;
  /** host:port */
  address: string;
}

export interface PeerLinks {
  /** False if the frame was dropped at once: peer unknown, or its queue is full. */
  send(peerId: number, lane: Lane, payload: Uint8Array): boolean;
  /** Replaces the peers that frames are sent to and taken from. */
  setPeers(peers: readonly Peer[]): void;
  close(): Promise<void>;
}

export interface LinkEvents {
  frame(from: Peer, payload: Uint8Array): void;
  /** The stream to the peer broke; frames on their way may be lost. */
  broken(peer: Peer): void;
}
