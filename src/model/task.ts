/**
 * Tasks: every change of the world on one object, as a tree of jobs held as data (TSK-1). The rows live in the replicated
 * state, which is the queue (TSK-3); the leader's orchestrator sends jobs, agents do them and answer. What each action and
 * job is stands in task-definitions.ts.
 */

/** What somebody asked for, or the cluster by itself. Each has one definition. */
export type TaskAction =
  | "deploy"
  /** Again elsewhere, after its claim ended with a proof. */
  | "recover"
  | "shutdown"
  | "force-shutdown"
  | "restart"
  | "force-restart"
  | "pause"
  | "unpause"
  | "delete"
  | "migrate"
  /** What a network device or a backup manager does for a VM; they wait in pools of their own (LIM-1). */
  | "update-devices"
  | "backup";

export type JobName =
  /** The scheduler chooses a node and the VM gets its claim there; undone by releasing it. Never sent to an agent. */
  | "place"
  /** Disks are prepared; undone by deleting what this generation made. */
  | "configure"
  /** Started paused, claim confirmed, resumed; undone by ending the domain. */
  | "power-on"
  /** The guest is asked to power off. */
  | "shutdown"
  | "wait-for-power-off"
  | "power-off"
  /** Clones and swap are deleted; there is no undo. */
  | "unconfigure"
  | "pause"
  | "unpause"
  /** The guest is asked to reboot. */
  | "reboot"
  | "reset"
  /** To another node while it runs. Never sent to an agent: the VM's row is what both nodes work by, and what becomes of it is noted here. */
  | "migrate"
  /** A VM's entries on a network device: firewall policies, load balancers, NAT. */
  | "configure-device"
  | "unconfigure-device"
  /** By a backup manager. */
  | "perform-backup";

/** A definition's shape: one job, or several one after the other, or all at once; nested as deep as needed. */
export type JobTree =
  | { kind: "job"; name: JobName }
  | { kind: "sequence"; of: readonly JobTree[] }
  | { kind: "concurrent"; of: readonly JobTree[] };

export type JobState =
  /** For its predecessors, a slot, or its node. */
  | "waiting"
  | "sent"
  | "done"
  | "failed"
  /** It cannot be repeated, and nobody knows whether it happened (TSK-4). */
  | "unknown"
  /** Never sent, because the task ended before. */
  | "skipped"
  | "undo-waiting"
  | "undo-sent"
  | "undone";

/** A moment in the course of a job; the same names whatever the driver (TSK-8). */
export interface Step {
  atMs: number;
  name: string;
  detail: string;
}

export interface JobProgress {
  what: string;
  done: number;
  /** null: not known. */
  total: number | null;
  unit: "bytes" | "percent";
}

export interface Job {
  /** Place in the tree: `0`, `1`, `1.0`; with task and attempt the key of what is sent (TSK-4). */
  path: string;
  name: JobName;
  /** Paths of the jobs that come right before it: the tree's order, so that the row needs no definition to be read. */
  after: string[];
  state: JobState;
  /** How often it was sent, its undo included. An answer to another attempt is refused. */
  attempt: number;
  /** Where it was sent last, and under which claim; null before. */
  nodeId: string | null;
  generation: number;
  /** Pool whose slot it holds while sent; null: none (LIM-4). */
  slot: string | null;
  /** A job that cannot be repeated: the run of the agent that began it, committed before it acts. */
  begunBy: string | null;
  sentAtMs: number | null;
  endedAtMs: number | null;
  /** What went wrong last, also of an undo that is tried again. */
  error: TaskError | null;
  /** Undo or retry not before this, wall clock ms. */
  retryAtMs: number;
  steps: Step[];
  progress: JobProgress | null;
}

export interface TaskError {
  /** `timeout`, `disk-held`, `cancelled`, `lost`, or the fault's kind. */
  code: string;
  message: string;
  /** What to do; empty: nothing in particular. */
  hint: string;
}

export type TaskState = "waiting" | "running" | "rolling-back" | "done" | "failed" | "cancelled" | "unknown";

export const FINISHED: ReadonlySet<TaskState> = new Set<TaskState>(["done", "failed", "cancelled", "unknown"]);

export interface Task {
  /** `t` and its number. */
  id: string;
  number: number;
  action: TaskAction;
  object: { kind: "vm" | "node"; id: string; name: string };
  /** Whose share of the slots it takes (LIM-3, LIM-8). */
  vdc: string;
  state: TaskState;
  /** `user:alice`, `scheduler`, `node:ID`. */
  actor: string;
  /** Why it was made: `asked`, `attempt 2 of 6 after: …`, `proof: expiry of n1`. */
  cause: string;
  createdAtMs: number;
  startedAtMs: number | null;
  endedAtMs: number | null;
  /** Revision in which it ended; the oldest ended go first when there are more than `tasks.kept`. */
  endedRevision: number | null;
  /** For `migrate`: where to. */
  targetNodeId: string | null;
  /** The device or backup manager that its jobs of such a kind go to; null: none. */
  connection: string | null;
  jobs: Job[];
  /** Somebody wants it to end; `by` names who or which task overtakes it. */
  cancel: { by: string; atMs: number } | null;
  /** The first failure, for people. */
  error: TaskError | null;
}

/** What a worker is to do: one job of one task, in one attempt. */
export interface JobKey {
  taskId: string;
  path: string;
  attempt: number;
}

export const TASK_LIMITS = { stepsPerJob: 32, jobsPerTask: 64, queuedPerObject: 16 } as const;

const TASK_ID = /^t[1-9][0-9]*$/;

export function taskId(number: number): string {
  return `t${number}`;
}

/** True for what `taskId` gives; ids of other objects are UUIDs. */
export function isTaskId(id: string): boolean {
  return TASK_ID.test(id);
}

/** The worker has it: to be done, or to be undone. */
export function isSent(job: Job): boolean {
  return job.state === "sent" || job.state === "undo-sent";
}
