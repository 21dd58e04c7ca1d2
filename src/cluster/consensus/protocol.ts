/**
 * What the main thread and the consensus thread say to each other. The consensus thread owns Raft, its log, the links
 * to peers and the acknowledgement of heartbeats, so that a pause of the main thread stops none of them; the main
 * thread owns the state, the API and the scheduler.
 */
import type { VmGeneration } from "../../model/heartbeat.ts";
import type { Membership } from "../../model/membership.ts";
import type { Position } from "../../state/state.ts";
import type { TlsIdentity } from "../../base/rpc.ts";
import type { LogLevel } from "../../base/log.ts";
import type { CheckpointChunk } from "../../raft/transport/checkpoint-file.ts";
import type { Peer } from "../../raft/transport/links.ts";
import type { HeldCheckpoint } from "./checkpoint-source.ts";

/** `workerData` of the thread. */
export interface ConsensusConfig {
  nodeId: string;
  peerId: number;
  /** Of the cluster: peers of another one are refused. */
  generation: number;
  /** Folder of the Raft log. */
  logPath: string;
  /** Folder in which checkpoints are received. */
  inboxPath: string;
  /** host:port to serve peers on, and host:port under which others reach it. */
  listen: string;
  address: string;
  identity: TlsIdentity;
  peers: Peer[];
  /** True only on the node that starts a cluster, the first time. */
  bootstrap: boolean;
  /** Where the main thread's state is. */
  position: Position;
  tickMs: number;
  electionTicks: number;
  heartbeatTicks: number;
  /** 32 bits of randomness for the spread of elections. */
  seed: number;
  /** Data folder whose keeper the heartbeats go through; null for a node that holds no claims. */
  keeperDataDir: string | null;
  logLevel: LogLevel;
}

/** A committed entry for the state: a command, a membership, or neither. */
export interface CommittedEntry {
  index: number;
  term: number;
  data: Uint8Array | null;
  membership: Membership | null;
}

export interface MembershipChange {
  kind: "voter" | "learner" | "remove";
  peerId: number;
}

/** A node's claims as the leader acknowledges them (HA-2). */
export interface ClaimSet {
  revision: number;
  items: VmGeneration[];
}

/** Settings that the thread needs. */
export interface BeatSettings {
  heartbeatMs: number;
  claimMs: number;
  /** Megabits per second for checkpoints, all together. */
  checkpointMbps: number;
}

/** What the leader knows of a node's heartbeats, on its own monotonic clock. */
export interface NodeBeat {
  nodeId: string;
  lastBeatMs: number;
  /** Last acknowledgement sent in this term; null if none. */
  lastAckMs: number | null;
  /** Longest duration granted in this term that may still be in force, ms. */
  grantedMs: number;
}

/** `lastAckMs` is read after the last acknowledgement that can leave; not ok: the term has passed. */
export type AckingStopped = { ok: false } | { ok: true; lastAckMs: number | null };

export type ToConsensus =
  /** What is not even passed on, as no leader is known, is proposed again later by who waits for it. `applied`: see there; 0: nothing. */
  | { kind: "propose"; data: Uint8Array[]; applied: number }
  | { kind: "read"; id: number }
  /** The state has this batch and all before it. */
  | { kind: "applied"; batch: number }
  | { kind: "change-membership"; changes: MembershipChange[] }
  /** @property removed ids of nodes that are no longer let in. */
  | { kind: "peers"; peers: Peer[]; removed: string[] }
  /** Changed claim sets only; a node without claims has an empty set. */
  | { kind: "claims"; sets: { nodeId: string; set: ClaimSet }[]; settings: BeatSettings }
  | { kind: "stop-acking"; id: number; nodeId: string; term: number }
  | { kind: "resume-acking"; nodeId: string }
  /** The state is frozen at this index, in place of what was before. */
  | ({ kind: "checkpoint" } & HeldCheckpoint)
  /** `chunk` null: there are no more. */
  | { kind: "checkpoint-chunk"; readId: number; chunk: CheckpointChunk | null; error: string | null }
  | { kind: "installed"; index: number }
  /** The state up to here survives a power cut: the log below may go. */
  | ({ kind: "durable" } & Position)
  /** To the one of `among` that has most of the log; null: to any voter. */
  | { kind: "transfer-leadership"; among: number[] | null }
  | { kind: "inspect"; id: number }
  | { kind: "stop" };

export type FromConsensus =
  /** `electionMs`: the shortest time without a leader after which a peer campaigns. */
  | { kind: "started"; electionMs: number }
  /** A node of the cluster says that this one was removed from it. */
  | { kind: "removed"; by: string }
  | { kind: "apply"; batch: number; entries: CommittedEntry[] }
  /** `path` is the file of the checkpoint. */
  | { kind: "install"; index: number; term: number; membership: Membership; path: string }
  | { kind: "read-ready"; id: number; index: number }
  | { kind: "status"; status: ConsensusStatus }
  /** Sent often: when a leader was last heard of, and what the leader knows of its peers; null: this node does not lead. */
  | { kind: "heard"; leaderHeardMs: number | null; peers: PeersHeard | null; reachable: number[] }
  | { kind: "beats"; term: number; grantingMs: number; beats: NodeBeat[] }
  | { kind: "acking-stopped"; id: number; stopped: AckingStopped }
  /** Writes of the log take longer than an election time, or no longer do. */
  | { kind: "disk"; stuck: boolean }
  | { kind: "inspected"; id: number; lastIndex: number; lastTerm: number }
  /** A peer of a later cluster generation was met: this node was left out. */
  | { kind: "left-out"; generation: number }
  | { kind: "need-checkpoint" }
  | { kind: "read-checkpoint"; readId: number; id: string; chunk: number }
  | { kind: "release-checkpoint"; id: string }
  | { kind: "need-durable" }
  /** It could not start. */
  | { kind: "failed"; message: string; hint: string }
  | { kind: "stopped" };

/** Monotonic ms of the leader's clock. */
export interface PeersHeard {
  /** Learners whose logs have caught up. */
  caughtUp: number[];
  /** When each other peer was last heard of in this term; since the term began if not yet. */
  lastHeardMs: [peerId: number, atMs: number][];
}

export interface ConsensusStatus {
  term: number;
  leading: boolean;
  /** When this term's leadership began, monotonic ms; 0 if not leading. */
  leadingSinceMs: number;
  leaderPeerId: number;
  /** When the leader before this node was last heard of, monotonic ms; only while leading, null if never. */
  formerLeaderHeardMs: number | null;
  /** Monotonic ms at which a leader was last heard of; null never. */
  leaderHeardMs: number | null;
  membership: Membership;
}

/** Of a node that has not heard of anybody yet. */
export const NOBODY_LEADS: Omit<ConsensusStatus, "membership"> = {
  term: 0,
  leading: false,
  leadingSinceMs: 0,
  leaderPeerId: 0,
  formerLeaderHeardMs: null,
  leaderHeardMs: null,
};
