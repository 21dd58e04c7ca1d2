/** What a VM is: the definition users write, and the row the cluster keeps of it. */
import type { VmDecision } from "./certificate.ts";
import type { Proof } from "./proof.ts";

/** Driver-neutral, fits a page, round-trips (VM-1). Everything optional in YAML has its default filled in here. */
export interface VmDefinition {
  name: string;
  /** Tenant and scope of settings; absent is `default`. */
  vdc?: string;
  cpus: number;
  memoryMib: number;
  /** CPU architecture as in `uname -m`. */
  arch: string;
  /** Direct boot; null boots from the first disk. */
  boot: BootDefinition | null;
  disks: DiskDefinition[];
  nics: NicDefinition[];
  labels: Record<string, string>;
  /** Only nodes of this partition; absent is the one without a name (CLU-8). */
  partition?: string;
  /** Condition over node values that must hold, and number that replaces the score, highest first (SCH-9). */
  requirements?: string | null;
  rank?: string | null;
  /** Logical CPUs of the node that are this VM's alone; absent or null: it shares them (SCH-4). */
  cpuPinning?: CpuPinning | null;
  /** What the guest sees as its CPU; absent or null: what the driver thinks best. */
  cpu?: CpuDefinition | null;
  restart: RestartPolicy;
  ha: HaDefinition;
}

export interface CpuPinning {
  /** `one`: all of the VM's CPUs, and its memory, of one NUMA node. `any`: wherever they are free. */
  numa: "any" | "one";
}

export interface CpuDefinition {
  /** A model as libvirt names it (`qemu64`, `Skylake-Server`); `host` is the node's own; null leaves it to the driver. */
  model: string | null;
  /** Features the node must have and the guest gets, by libvirt's names, sorted. */
  features: string[];
}

export const DEFAULT_VDC = "default";

/** Files are volume references, `POOL/FILE`, so that no path ever leaves a pool (SEC-4). */
export interface BootDefinition {
  kernel: string;
  initrd: string | null;
  cmdline: string;
}

export interface DiskDefinition {
  /** Where the disk's volume lies, or is made. */
  pool: string;
  /** `POOL/FILE` it is made from; null for an empty disk. */
  source: string | null;
  /** Bytes; null takes the source's size. */
  sizeBytes: number | null;
  /** True: the VM gets a copy of its own, deleted with it. False: the source itself is used. */
  clone: boolean;
  format: "raw" | "qcow2";
  /** `vda`, `sdb`, …, unique in the VM. */
  target: string;
  bus: "virtio" | "sata" | "scsi" | "ide";
  device: "disk" | "cdrom";
  readonly: boolean;
  /** Several VMs, or nodes, may write to the source at once: no image lock guards it. Absent: no. */
  shareable?: true;
  cache: "none" | "writeback" | "writethrough" | "default";
}

export interface NicDefinition {
  /** Bridge on the node (virtual networks come with their own page of the spec). */
  bridge: string;
  mac: string;
  model: "virtio" | "e1000";
}

export type RestartPolicy = "never" | "on-failure" | "always";

export interface HaDefinition {
  /** null: on where the VM can be recovered, that is if all its pools are shared. */
  enabled: boolean | null;
  /** Higher is recovered first. */
  priority: number;
  /** `stop`: without quorum the VM fences itself. `keep`: it has no deadline and moves only by release, fence or operator (HA-1). */
  onQuorumLoss: "stop" | "keep";
}

/** VM-6. The legal moves between them are data: src/model/lifecycle.ts. */
export type VmState =
  | "pending"
  | "prolog"
  | "boot"
  | "running"
  | "paused"
  | "suspended"
  | "shutdown"
  | "epilog"
  | "stopped"
  | "migrating"
  | "recovering"
  | "failed"
  | "unknown"
  | "deleted";

/** A node's right to run a VM (HA-1). Placing again always raises the generation. */
export interface Claim {
  nodeId: string;
  generation: number;
  /** True for VMs under HA: the right ends at the deadline that heartbeats renew. */
  deadline: boolean;
  /** Wall clock of the placement, ms. */
  sinceMs: number;
  /** Logical CPUs of the node that are this VM's alone while it holds the claim, one a vCPU, in their order; absent: not pinned. */
  cpus?: number[];
  /** The VM asked for pinning and got none, with why: HA had no node with enough exclusive CPUs (SCH-4). */
  unpinned?: string;
}

/**
 * A live migration under way (HA-8). The claim is the source's until it has released it; then the target has `claim`, and this is gone.
 * `aborting`: the source keeps what it has, and the target has not said yet that nothing of what had arrived is left. Until then the VM is
 * placed nowhere else: recovery needs proof for both nodes.
 */
export interface Migration {
  phase: "incoming" | "aborting";
  /** What the target will have, with the next generation. It may prepare, paused; it may not run anything of it. */
  claim: Claim;
  /** Why it is given up; null while it goes on. */
  why: string | null;
}

/** What the user wants; written by API commands only. */
export interface Desired {
  power: "on" | "off";
  /** How to get to `off`. */
  how: "graceful" | "force";
  deleted: boolean;
  /** Kept from the scheduler until deployed by hand (SCH-16). */
  hold: boolean;
  /** Only this node will do; from `--node`. */
  nodeId: string | null;
}

export interface HistoryEntry {
  state: VmState;
  atMs: number;
  nodeId: string | null;
  generation: number;
  /** Who or what moved it there, and why; for people. */
  why: string;
}

/** Why a node was refused for a VM: reason code and how many nodes gave it; for `pending` and `recovering`. */
export interface PendingReason {
  code: string;
  nodes: number;
  /** An example with numbers: `n2: needs 512 MiB, 200 MiB free of 2048`. */
  detail: string;
}

export interface Vm {
  id: string;
  /** Small, in order of creation; ties in HA order break by it. */
  number: number;
  definition: VmDefinition;
  createdAtMs: number;
  /** Raft index of the last change of this row: the etag of updates. */
  revision: number;
  desired: Desired;
  state: VmState;
  stateSinceMs: number;
  /** For people; why it is in this state when that is not plain. */
  reason: string | null;
  pendingReasons: PendingReason[];
  /** The scheduler's last few decisions about it, oldest first; absent before the first (SCH-17). */
  decisions?: VmDecision[];
  claim: Claim | null;
  /** Absent: none is under way. */
  migration?: Migration;
  /** Highest generation ever given; never goes down. */
  generation: number;
  /** Node its node-local volumes lie on; null if it never ran or has none. */
  homeNodeId: string | null;
  /** True if HA holds for it (definition and pools considered). */
  underHa: boolean;
  /** Warnings that last: `disks are local to n1: cannot be recovered elsewhere` (HA-13). */
  warnings: string[];
  /** Starts that failed since the last time it ran well; drives back-off and giving up (HA-12). */
  failures: number;
  /** How often in a row another node had its disk open; absent: not the last time. */
  heldTries?: number;
  /** Wall clock before which the scheduler leaves it alone, ms; 0 for at once. */
  retryAtMs: number;
  history: HistoryEntry[];
  /** The failover under way, or the last one (HA-17). */
  failover: Failover | null;
}

/** The time line of one VM's recovery. Wall-clock ms at the leader; `lastHeartbeat` from its monotonic clock's distance. */
export interface Failover {
  fromNodeId: string;
  toNodeId: string | null;
  proof: Proof;
  /** Of the node that the VM was migrating to, where it was; with `proof` it frees the VM. */
  incomingProof?: Proof;
  lastHeartbeatMs: number;
  /** The leader that proved it had never heard of the node: the one before died too, and an election is part of the time. */
  leaderChanged: boolean;
  suspectMs: number;
  proofMs: number;
  plannedMs: number | null;
  startedMs: number | null;
  runningMs: number | null;
}

/** Limits of SEC-4 for what a user can write; violations name them. */
export const VM_LIMITS = {
  nameLength: 63,
  cpus: 512,
  memoryMib: 16 * 1024 * 1024,
  disks: 32,
  nics: 16,
  labels: 64,
  cpuFeatures: 64,
  historyEntries: 64,
} as const;
