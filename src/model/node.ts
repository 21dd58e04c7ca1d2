/** A machine in the cluster. */
export type NodeState = "joining" | "ready" | "disabled" | "draining" | "maintenance" | "unreachable" | "fenced" | "removed";

/** `voter`: votes in Raft. `learner`: on the way to voter. `follower`: no Raft peer, follows a voter. `none`: not confirmed, or removed. */
export type PeerRole = "voter" | "learner" | "follower" | "none";

/** Longest planned restart (HA-9): while a node is parked its death frees nothing. */
export const PARK_MAX_MS = 3_600_000;

export interface Node {
  id: string;
  /** Raft peer id: a positive integer, minted in order, never reused. */
  peerId: number;
  name: string;
  state: NodeState;
  stateSinceMs: number;
  /** Who, why: CLU-5. */
  stateWhy: string;
  /** An operator said that nothing new lands here; outlasts silence, expiry and restarts, until enabled again. */
  disabled?: boolean;
  /** Its VMs are to leave, or have left; absent: not. */
  drain?: Drain;
  /** VMs that a drain shut down and that are still to be started again; absent: none. */
  restarting?: string[];
  role: PeerRole;
  /** It votes and runs no VMs: no hypervisor is asked for. */
  witness?: boolean;
  /** Somebody has said that it goes for good; Raft lets it go first, then the row becomes `removed`. */
  removing?: { atMs: number; actor: string };
  /**
   * Cluster generation that left it out: it may run what this state does not know, and may have been acknowledged by those who are
   * no more. Until its hello or a fence accounts for it nothing is placed, and time proves nothing about it.
   */
  leftOut?: number;
  /** While it does not answer: what its leader said of it, wall clock ms. A leader after that one says it again, for its wait begins anew. */
  silence?: Silence;
  zone: string;
  labels: Record<string, string>;
  /** A VM of one partition never lands in another (CLU-8); absent is the partition without a name. */
  partition?: string;
  /** host:port of the public API and of the peer port. */
  apiAddress: string;
  peerAddress: string;
  joinedAtMs: number;
  /** Join token it came with, to give its use back if the join is not confirmed; null for the first node. */
  tokenId: string | null;
  /** What the agent said when it last became ready; null before. */
  info: NodeInfo | null;
  /** Run of its agent that spoke last, and the few before it: what those said and comes late is not taken any more. Absent: none was told. */
  run?: string;
  formerRuns?: string[];
  /** Parked until: a planned restart is under way (HA-9); expiry proofs wait for it. Duration from the command, ms; 0 if not parked. */
  parkedMs: number;
  /** Raft index of the park, so that only a hello that knows it ends it; 0 if never parked. */
  parkRevision: number;
  /** Raft index of the last change of this node's claim set. */
  claimRevision: number;
  /** Raft index of the last change of this row. */
  revision: number;
}

/** What stands between a node and an empty one, and what to do about it (HA-15). On its row, so that every leader goes on with it. */
export interface Drain {
  actor: string;
  /** Wall clock, ms. */
  beganMs: number;
  /** After so long it is given up and the node is as it was; 0: never. */
  limitMs: number;
  /** A VM that cannot move while it runs is shut down and started elsewhere, if its disks are there. */
  allowRestart: boolean;
  /** VMs that leave at once. */
  parallel: number;
  /** Nothing runs there any more. */
  done: boolean;
  /** VMs that cannot leave now, with why, by name; the leader looks again and again. */
  blocked: DrainBlock[];
  /** VMs that the drain has asked to shut down, to be started elsewhere. */
  restarting: string[];
}

export interface DrainBlock {
  vmId: string;
  name: string;
  reasons: string[];
}

/** States of a node that is heard of and may be asked. */
export function isAnswering(node: Pick<Node, "state">): boolean {
  return node.state === "ready" || node.state === "disabled" || node.state === "draining" || node.state === "maintenance";
}

export interface Silence {
  term: number;
  /** Last heard of. */
  sinceMs: number;
  /** When the claims of its VMs under HA are certainly over, unless it is heard of again; null: no time ends them. */
  claimsEndMs: number | null;
}

/** Nodes of which nobody knows what they run: nothing may be placed. */
export function leftOutNodes(view: { readonly nodes: ReadonlyMap<string, Node> }): Node[] {
  return [...view.nodes.values()].filter((node) => node.leftOut !== undefined && node.state !== "removed");
}

/** Discovered by the agent (CLU-6), replaced whole at each report. */
export interface NodeInfo {
  bootId: string;
  /** What its program can apply (RAFT-7); absent: 1. */
  level?: number;
  version: string;
  driver: string;
  hypervisor: string;
  /** Sessions that the driver allows for at the same time; absent or null: as many as there are CPUs (LIM-1). */
  maxSessions?: number | null;
  /** The driver knows vdcs (LIM-3); it is a cloud's that does network devices as well (LIM-6). Absent: no. */
  vdcs?: boolean;
  devices?: boolean;
  /** Network devices and backup managers that this node has drivers for. */
  connections?: NodeConnection[];
  arch: string;
  hardwareAccelerated: boolean;
  cpus: number;
  cpuModel: string;
  /** Which CPUs are together; absent: not found out, so nothing can be pinned here. */
  cpuTopology?: CpuTopology;
  /** CPU models that a guest can be given here, sorted; absent: not found out, any is let through. */
  cpuModels?: string[];
  /** CPU features that a guest can be given here, sorted, by libvirt's names; absent: not found out. */
  cpuFeatures?: string[];
  /** Measured, in coarse steps so that reports stay few: memory that nothing uses, and how busy all CPUs were of late. */
  freeMemoryMib?: number;
  cpuUsedPercent?: number;
  /** What the executables of the probes folder printed, by key, sorted (CLU-7). */
  values?: Record<string, string>;
  /** What its driver can do beyond starting and ending, sorted; absent: not said. */
  actions?: string[];
  /** What is wrong with the node itself, in a few words each: `disk stuck`. */
  problems?: string[];
  /** What went wrong with them, for people: `gpu.sh: line 3 is not KEY=VALUE`. */
  probeProblems?: string[];
  memoryMib: number;
  /** Kept for the node itself, MiB. */
  reserveMib: number;
  /** Something outside agent and keeper acts when both are gone (HA-3); without one, expiry is no proof. */
  guardian: string | null;
  pools: PoolStatus[];
  bridges: string[];
}

export interface NodeConnection {
  pool: "device" | "backup";
  /** The same on every node that reaches it. */
  name: string;
  driver: string;
  maxSessions: number | null;
  vdcs: boolean;
}

/** Logical CPUs by where they are. Every CPU that a VM may be given is in exactly one NUMA node. */
export interface CpuTopology {
  sockets: number;
  coresPerSocket: number;
  threadsPerCore: number;
  /** By id. A machine without NUMA is one of them. */
  numa: NumaNode[];
}

export interface NumaNode {
  id: number;
  /** Ids of logical CPUs, core by core: threads of one core are beside each other, so the first n are the fewest cores. */
  cpus: number[];
  memoryMib: number;
}

/** A pool as one node sees it. */
export interface PoolStatus {
  poolId: string;
  available: boolean;
  /** Why not, for people; empty if available. */
  problem: string;
  totalBytes: number;
  freeBytes: number;
}
