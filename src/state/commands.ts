/**
 * Everything that can be replicated, as one union. Commands carry every id, time and random number they need, so that
 * applying is pure (STA-1). A new command is added here and in src/state/apply.ts; the compiler finds the rest.
 */
import type { Certificate } from "../model/certificate.ts";
import type { FenceDevice } from "../model/fencing.ts";
import type { DrainBlock, NodeInfo } from "../model/node.ts";
import type { TableDigest } from "../model/digest.ts";
import type { VmAction } from "../model/lifecycle.ts";
import type { Policy, ZoneRole } from "../model/policy.ts";
import type { Pool } from "../model/pool.ts";
import type { Proof } from "../model/proof.ts";
import type { JobKey, JobProgress, Step, TaskError } from "../model/task.ts";
import type { Settings } from "../model/settings.ts";
import type { PendingReason, VmDefinition } from "../model/vm.ts";

export type Command =
  | ClusterInit
  | NodeJoin
  | NodeJoinConfirm
  | NodeJoinAbort
  | NodeHello
  | NodeInfoReport
  | NodeSuspect
  | NodeAlive
  | NodeExpire
  | NodePark
  | NodeEnable
  | NodeDrain
  | NodeUndrain
  | DrainReport
  | NodeFence
  | FencingSet
  | FencingUnset
  | FenceBegin
  | FenceTry
  | FenceReport
  | FenceEnd
  | NodeRemove
  | NodeRemoved
  | TokenCreate
  | TokenRevoke
  | PoolCreate
  | PoolDelete
  | SettingUpdate
  | SettingReset
  | SettingsProfile
  | ClaimsShorten
  | ClusterRecover
  | LevelRaise
  | DigestAsk
  | DigestReport
  | PolicyCreate
  | PolicyUpdate
  | PolicyEnable
  | PolicyDelete
  | ZoneSet
  | NodeEdit
  | VmCreate
  | VmDesire
  | VmRehome
  | VmMigrate
  | VmMigrateAbort
  | VmPlace
  | VmReport
  | VmRetry
  | TaskCancel
  | TaskDispatch
  | TaskBegin
  | TaskProgress
  | TaskAnswer
  | BenchPut;

export interface ClusterInit {
  type: "cluster.init";
  clusterId: string;
  name: string;
  caCertificate: string;
  caKey: string;
  node: JoiningNode;
}

/** The cluster goes on from this state with one node; made offline (src/offline), never proposed. */
export interface ClusterRecover {
  type: "cluster.recover";
  generation: number;
  /** The one node that goes on. */
  keepNodeId: string;
  /** It, where it has new addresses or is new (a restore); null where it goes on as it was. */
  node: JoiningNode | null;
  /** Nodes that an operator has seen off: their claims end. */
  off: string[];
  /** `recover of n1`, `restore of a backup`. */
  why: string;
}

/** Every node can apply what the level brings (RAFT-7). */
export interface LevelRaise {
  type: "level.raise";
  level: number;
}

/** Each replica hashes its tables as they are at this command's index (STA-1). */
export interface DigestAsk {
  type: "digest.ask";
  /** Why: `verify`, `periodic`. */
  why: string;
}

/** What a node's replica had at an asked index. */
export interface DigestReport {
  type: "digest.report";
  nodeId: string;
  index: number;
  tables: TableDigest[];
}

export interface JoiningNode {
  id: string;
  name: string;
  zone: string;
  labels: Record<string, string>;
  apiAddress: string;
  peerAddress: string;
  /** What its program can apply (RAFT-7); absent: 1. */
  level?: number;
  /** It votes and runs no VMs. */
  witness?: boolean;
}

/** Takes one use of the token and makes the node `joining`; answers with its peer id. */
export interface NodeJoin {
  type: "node.join";
  tokenId: string;
  secretHash: string;
  node: JoiningNode;
}

/** The node serves under its certificate: from here on it may become a Raft peer. */
export interface NodeJoinConfirm {
  type: "node.join-confirm";
  nodeId: string;
}

/** Undoes a join that was not confirmed in time: the row goes, the token gets its use back. */
export interface NodeJoinAbort {
  type: "node.join-abort";
  nodeId: string;
}

/** The agent has cleaned up leftovers of older generations and may run VMs (HA-7). */
export interface NodeHello {
  type: "node.hello";
  nodeId: string;
  /** This run of the agent: an id of its own for each start of the process. */
  run?: string;
  info: NodeInfo;
  /** `parkRevision` of the row that the agent saw when it gave its park up. */
  parkRevision: number;
  /** Of a node that was left out: how long those of before have granted its keeper from here on, at the most; ms. */
  heldMs?: number;
  apiAddress: string;
  peerAddress: string;
}

export interface NodeInfoReport {
  type: "node.info";
  nodeId: string;
  info: NodeInfo;
}

/** The leader misses heartbeats: shown as unreachable, no right is taken away. */
export interface NodeSuspect {
  type: "node.suspect";
  nodeId: string;
  silentMs: number;
  /** From now until its claims are certainly over, if it stays silent; absent: no time ends them. Only to be shown. */
  claimsEndInMs?: number;
}

export interface NodeAlive {
  type: "node.alive";
  nodeId: string;
}

/** Ends a node's claims with a deadline; refused unless proposed in the term that applies it (HA-4). */
export interface NodeExpire {
  type: "node.expire";
  nodeId: string;
  proof: Proof & { kind: "expiry" };
  lastHeartbeatMs: number;
  /** This leader never heard of the node: `lastHeartbeatMs` is when the leader before was last heard of. */
  leaderChanged: boolean;
  suspectMs: number;
}

/** A planned restart of the agent is coming: no expiry for this long (HA-9). */
export interface NodePark {
  type: "node.park";
  nodeId: string;
  durationMs: number;
}

/** Its VMs are to leave; asked again it takes the new wishes. */
export interface NodeDrain {
  type: "node.drain";
  nodeId: string;
  limitMs: number;
  allowRestart: boolean;
  parallel: number;
}

/** The node is as it was before; what was on its way goes no further. */
export interface NodeUndrain {
  type: "node.undrain";
  nodeId: string;
  why: string;
}

/** How far the leader has come with a drain. */
export interface DrainReport {
  type: "node.drain-report";
  nodeId: string;
  done: boolean;
  blocked: DrainBlock[];
  restarting: string[];
}

export interface NodeEnable {
  type: "node.enable";
  nodeId: string;
  enabled: boolean;
}

/** An operator made sure that the node is off. What a device proves comes by `fence.report`. */
export interface NodeFence {
  type: "node.fence";
  nodeId: string;
  proof: Proof & { kind: "operator" };
}

/** A power device of a node, new or in the place of the one of its name. */
export interface FencingSet {
  type: "fencing.set";
  nodeId: string;
  device: FenceDevice;
}

/** One device, or with null all of them. */
export interface FencingUnset {
  type: "fencing.unset";
  nodeId: string;
  device: string | null;
}

/** The intent to switch a node off, before anything is done. Answers with the attempt's id; one that is open already is that one. */
export interface FenceBegin {
  type: "fence.begin";
  nodeId: string;
  why: string;
  /** Of the leader's own accord, bound to its term; else an order of the actor's. */
  auto: boolean;
}

/** The leader chooses who does it. The one before, if any, counts no more. */
export interface FenceTry {
  type: "fence.try";
  nodeId: string;
  attempt: number;
  executorId: string;
  /** Begins a new round: all that could have tried. */
  newRound: boolean;
  /** Why the try before is over, if its executor did not say. */
  gaveUp: string | null;
}

/** What became of a try, by who made it: the node was seen off, which is the proof, or not. */
export interface FenceReport {
  type: "fence.report";
  nodeId: string;
  attempt: number;
  try: number;
  executorId: string;
  outcome: { off: true; device: string } | { off: false; reason: string };
}

/** The leader's word that an attempt comes to nothing. */
export interface FenceEnd {
  type: "fence.end";
  nodeId: string;
  attempt: number;
  state: "failed" | "cancelled";
  why: string;
}

/** The node shall go for good (CLU-9): refused while anything of it is needed. */
export interface NodeRemove {
  type: "node.remove";
  nodeId: string;
  /** It does not answer and never will. */
  dead: boolean;
  /** Only with `dead`: the operator's word that the machine is off, which ends its claims. */
  proof: (Proof & { kind: "operator" }) | null;
}

/** Raft has let it go. */
export interface NodeRemoved {
  type: "node.removed";
  nodeId: string;
}

export interface TokenCreate {
  type: "token.create";
  id: string;
  secretHash: string;
  ttlMs: number;
  uses: number;
}

export interface TokenRevoke {
  type: "token.revoke";
  id: string;
}

export interface PoolCreate {
  type: "pool.create";
  pool: Omit<Pool, "createdAtMs" | "revision">;
}

export interface PoolDelete {
  type: "pool.delete";
  name: string;
}

export interface SettingUpdate {
  type: "setting.update";
  /** One of the settings, or a concurrency limit of one kind of driver (src/model/limit-settings.ts). */
  key: string;
  value: string | number;
  /** Only for this vdc; absent is the cluster. */
  vdc?: string;
}

/** Several of the cluster's settings as one change: checked together, all or none. */
export interface SettingsProfile {
  type: "settings.profile";
  profile: string;
  values: Partial<Settings>;
}

/** A vdc has the cluster's value again, or a kind of driver the platform's. */
export interface SettingReset {
  type: "setting.reset";
  key: string;
  /** Empty for a concurrency limit of one kind. */
  vdc: string;
}

export interface PolicyCreate {
  type: "policy.create";
  policy: Omit<Policy, "revision">;
}

/** Everything of it but whether it is on. */
export interface PolicyUpdate {
  type: "policy.update";
  policy: Omit<Policy, "revision" | "enabled">;
}

export interface PolicyEnable {
  type: "policy.enable";
  policyId: string;
  enabled: boolean;
}

export interface PolicyDelete {
  type: "policy.delete";
  policyId: string;
}

/** The role of a zone in an active-active cluster; null takes it away. */
export interface ZoneSet {
  type: "zone.set";
  zone: string;
  role: ZoneRole | null;
}

/** What an operator may change of a node while it works. */
export interface NodeEdit {
  type: "node.edit";
  nodeId: string;
  /** null takes a label away. */
  labels: Record<string, string | null>;
  /** null leaves it as it is. */
  zone: string | null;
  partition: string | null;
}

/** After `ha.claimMs` was made smaller: nothing that the longer one granted is in force any more. Bound to its term. */
export interface ClaimsShorten {
  type: "claims.shorten";
  claimMs: number;
}

/** All or none: one name that exists already refuses the batch. */
export interface VmCreate {
  type: "vm.create";
  vms: { id: string; definition: VmDefinition; hold: boolean; nodeId: string | null; power: "on" | "off" }[];
}

export interface VmDesire {
  type: "vm.desire";
  vmId: string;
  action: VmAction;
  /** Only for start and deploy: only this node will do. */
  nodeId: string | null;
}

/** Cold migration: a stopped VM is at home elsewhere. */
export interface VmRehome {
  type: "vm.rehome";
  vmId: string;
  nodeId: string;
}

/** Live migration begins: the target may receive the VM, the source keeps its claim until it hands over (HA-8). */
export interface VmMigrate {
  type: "vm.migrate";
  vmId: string;
  nodeId: string;
  /** Of the claim when it was decided; a VM placed since is refused. */
  generation: number;
  /** As in the claim: CPUs of the target that are the VM's alone. */
  cpus?: number[];
  /** For people: `drain of n1`; empty for a user's own wish. */
  why: string;
}

/** The migration under way is not wanted any more. Once handed over there is none. */
export interface VmMigrateAbort {
  type: "vm.migrate-abort";
  vmId: string;
  why: string;
}

/** A scheduler's plan. Each placement is checked again here; what does not fit is answered, not placed (SCH-20). */
export interface VmPlace {
  type: "vm.place";
  /** `claim`: generation of the VM when the plan was made; a VM placed since is skipped. */
  placements: {
    vmId: string;
    nodeId: string;
    generation: number;
    /** As in the claim: CPUs that are the VM's alone, or why it gets none though it asked. */
    cpus?: number[];
    unpinned?: string;
  }[];
  rejections: { vmId: string; generation: number; reasons: PendingReason[] }[];
  /** How the plan was made, to explain it later; a scheduler outside the cluster has none. */
  certificate?: Certificate;
}

/** What an agent observed of a VM it holds the claim for. Others' reports and older generations are refused. */
export interface VmReport {
  type: "vm.report";
  vmId: string;
  nodeId: string;
  generation: number;
  /** Of the agent; a report of a run before the present one is refused, since that one may have begun anew what it saw end. */
  run?: string;
  observed: VmObservation;
}

/** What happens to a VM without a job: jobs' answers tell the rest. */
export type VmObservation =
  /** It was out of sight, or somebody let its CPUs go on. */
  | { kind: "running" }
  | { kind: "paused" }
  /** Nothing of this generation runs here any more: a release. */
  | { kind: "gone"; cause: "shutdown" | "destroyed" | "crashed" | "failed" | "fenced" | "never-started"; detail: string }
  /** By the source of a live migration: all has arrived, its own domain is paused and stays so. A release, to the target's generation. */
  | { kind: "handed-over"; generation: number }
  /** By either side of a live migration: it is given up. */
  | { kind: "not-migrated"; detail: string }
  /** By the target: nothing of what had arrived is left, nor will it run. */
  | { kind: "incoming-gone"; detail: string };

/** The back-off of a VM is over, or an operator asks: try again now. */
export interface VmRetry {
  type: "vm.retry";
  vmId: string;
}

export interface TaskCancel {
  type: "task.cancel";
  taskId: string;
}

/** The orchestrator's sends; each is checked again here, and one that does not hold any more is answered as refused. Bound to its term. */
export interface TaskDispatch {
  type: "task.dispatch";
  sends: (JobKey & {
    undo: boolean;
    nodeId: string;
    /** Of the VM's claim; of the VM where it has none (unconfigure). */
    generation: number;
    /** Pool of the slot it takes; null: none. */
    slot: string | null;
  })[];
}

/** A job that cannot be repeated is about to act, in this run of the agent. */
export interface TaskBegin extends JobKey {
  type: "task.begin";
  nodeId: string;
  run: string;
}

export interface TaskProgress extends JobKey {
  type: "task.progress";
  nodeId: string;
  steps: Step[];
  progress: JobProgress | null;
}

/** What became of a job, from the node that it was sent to. Others' answers and other attempts' are refused. */
export interface TaskAnswer extends JobKey {
  type: "task.answer";
  nodeId: string;
  generation: number;
  outcome: { ok: true } | { ok: false; error: TaskError };
  steps: Step[];
}

/** roost.v1.Bench: refused unless `bench.enabled`. */
export interface BenchPut {
  type: "bench.put";
  key: string;
  /** Base64. */
  value: string;
}

export type CommandType = Command["type"];

/** The leader's own decisions: never taken from another peer (SEC-3). */
export const LEADERS_COMMANDS: ReadonlySet<CommandType> = new Set<CommandType>([
  "node.join-abort",
  "node.suspect",
  "node.alive",
  "node.expire",
  "node.removed",
  "claims.shorten",
  "node.drain-report",
  "fence.try",
  "fence.end",
  "cluster.recover",
  "level.raise",
  "vm.place",
  "task.dispatch",
]);

/** What is proposed: the command with everything that applying it may need from outside. */
export interface Envelope {
  /** Repeating it returns the first answer (STA-2). */
  requestId: string;
  /** Node that proposed it; checked against the peer's certificate. */
  origin: string;
  /** Wall clock of the proposer, ms. */
  atMs: number;
  /** `user:alice`, `node:ID`, `leader:ID`; for history, events and audit. */
  actor: string;
  /** Term in which the leader's own decisions are made; applying in another term refuses those that depend on it. 0 for others. */
  term: number;
  command: Command;
}
