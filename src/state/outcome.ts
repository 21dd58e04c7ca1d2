/** What applying a command answers, and the events it emits. */
import type { Fault } from "../base/errors.ts";

export type Outcome = { ok: true; result: CommandResult } | { ok: false; fault: Fault; hint?: string };

/** Small and flat, because it is kept for repeated requests (STA-2). */
export interface CommandResult {
  /** Ids of the rows made or touched, in the command's order. */
  ids?: string[];
  /** Tasks that the command made, or that do already what it asks for; in the command's order. */
  taskIds?: string[];
  peerId?: number;
  /** bench.put: index of the write. */
  index?: number;
  /** vm.place: placements refused at commit, with why. */
  refused?: { vmId: string; code: string; detail: string }[];
  /** task.dispatch: sends refused at commit, with why. */
  unsent?: { taskId: string; path: string; detail: string }[];
}

/** One thing that happened (IF-5). Ordered by revision, then position. */
export interface Event {
  revision: number;
  /** Among the events of its revision, from 0. */
  position: number;
  atMs: number;
  kind: EventKind;
  subjectId: string;
  subjectName: string;
  nodeId: string;
  message: string;
  actor: string;
  /** Of a task's event: the object that the task is on. */
  objectId?: string;
}

export type EventKind =
  | "cluster.created"
  | "cluster.setting"
  | "cluster.level"
  | "cluster.recovered"
  | "cluster.diverged"
  | "node.state"
  | "node.role"
  | "node.drain"
  | "token.created"
  | "token.revoked"
  | "pool.created"
  | "pool.deleted"
  | "policy.created"
  | "policy.changed"
  | "policy.deleted"
  | "zone.changed"
  | "node.edited"
  | "vm.created"
  | "vm.desired"
  | "vm.rehomed"
  | "vm.migration"
  | "vm.placed"
  | "vm.pending"
  | "vm.state"
  | "vm.deleted"
  | "task.created"
  | "task.started"
  | "task.rolling-back"
  | "task.done"
  | "task.failed"
  | "task.cancelled"
  | "task.unknown"
  | "job.sent"
  | "job.done"
  /** It failed, or its undo did; the message says what comes next. */
  | "job.failed"
  | "job.undo-sent"
  | "job.undone"
  | "job.unknown"
  /** Back to waiting: to be sent again, or because its claim ended. */
  | "job.waiting"
  | "job.skipped"
  | "fencing.changed"
  | "fence.began"
  | "fence.try"
  | "fence.off"
  | "fence.failed"
  | "fence.cancelled"
  | "failover.proof"
  | "failover.planned"
  | "failover.started"
  | "failover.running";
