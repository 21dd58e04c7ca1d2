/** The queue: tasks are made here, and every change of a row passes here, so that none goes unreduced or untold. */
import { RoostError } from "../../base/errors.ts";
import { DEFINITIONS, JOBS, jobsOf } from "../../model/task-definitions.ts";
import { FINISHED, TASK_LIMITS, taskId, type Job, type JobState, type Task, type TaskAction } from "../../model/task.ts";
import { DEFAULT_VDC, type Vm } from "../../model/vm.ts";
import type { EventKind } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { reduce, type TaskEvent } from "./reduce.ts";

export interface NewTask {
  action: TaskAction;
  vm: Vm;
  /** Why, for people. */
  cause: string;
  /** Device or backup manager. */
  connection?: string;
  /** Of a migration: where to. */
  targetNodeId?: string;
}

/** @throws RoostError `exhausted` if too much waits for the VM already. */
export function enqueue(tx: Transaction, { action, vm, cause, connection, targetNodeId }: NewTask): Task {
  const { name, vdc } = vm.definition;
  const before = tx.tasksOf(vm.id).filter((task) => task.cancel === null).length;
  if (before >= TASK_LIMITS.queuedPerObject) {
    throw new RoostError(
      { kind: "exhausted", reason: `${before} tasks of vm ${name} are unfinished: no more are taken` },
      "`roost vm tasks` shows them, `roost task cancel` ends one",
    );
  }
  const cluster = tx.needCluster();
  const number = cluster.nextTaskNumber;
  tx.put("cluster", "self", { ...cluster, nextTaskNumber: number + 1 });
  const task: Task = {
    id: taskId(number),
    number,
    action,
    object: { kind: "vm", id: vm.id, name },
    vdc: vdc ?? DEFAULT_VDC,
    state: "waiting",
    actor: tx.envelope.actor,
    cause,
    createdAtMs: tx.atMs,
    startedAtMs: null,
    endedAtMs: null,
    endedRevision: null,
    targetNodeId: targetNodeId ?? null,
    connection: connection ?? null,
    jobs: jobsOf(DEFINITIONS[action]),
    cancel: null,
    error: null,
  };
  tx.put("tasks", task.id, task);
  tell(tx, "task.created", task, `${action} of ${name}: ${cause}`);
  return task;
}

/** @throws RoostError `precondition` with why it cannot follow. */
export function change(tx: Transaction, task: Task, event: TaskEvent): Task {
  const reduced = reduce(task, event, { atMs: tx.atMs, revision: tx.index });
  if (!reduced.ok) throw new RoostError({ kind: "precondition", reason: reduced.why });
  const after = reduced.task;
  if (after === task) return task;
  tx.put("tasks", task.id, after);
  tellChanges(tx, task, after);
  return after;
}

/** As `change`, where the event has no say if it comes too late. */
export function changeIfPossible(tx: Transaction, task: Task, event: TaskEvent): Task {
  const { ok } = reduce(task, event, { atMs: tx.atMs, revision: tx.index });
  return ok ? change(tx, task, event) : task;
}

export function needTask(tx: Transaction, id: string): Task {
  const task = tx.get("tasks", id);
  if (task === undefined) throw new RoostError({ kind: "not-found", what: "task", name: id });
  return task;
}

function tellChanges(tx: Transaction, before: Task, after: Task): void {
  if (before.state === "waiting" && after.state !== "waiting" && after.startedAtMs !== null)
    tell(tx, "task.started", after, `${after.action} of ${after.object.name}`);
  const earlier = new Map(before.jobs.map((job) => [job.path, job]));
  for (const job of after.jobs) {
    const was = earlier.get(job.path);
    if (was === undefined || was.state === job.state) continue;
    const [kind, message] = jobSaid(tx, job, was.state);
    tell(tx, kind, after, message, job.nodeId ?? "");
  }
  if (before.state === after.state) return;
  const why = after.error === null ? "" : `: ${after.error.message}`;
  const text = `${after.action} of ${after.object.name}${why}`;
  if (after.state === "rolling-back") tell(tx, "task.rolling-back", after, text);
  else if (FINISHED.has(after.state)) tell(tx, `task.${after.state}` as EventKind, after, text);
}

function jobSaid(tx: Transaction, job: Job, before: JobState): [EventKind, string] {
  const node = tx.get("nodes", job.nodeId ?? "")?.name ?? job.nodeId;
  const on = node === null ? "" : ` on ${node}`;
  const why = job.error === null ? "" : `: ${job.error.message}`;
  const undo = JOBS[job.name].undo ?? "";
  switch (job.state) {
    case "waiting":
      return ["job.waiting", `${job.name} waits again${why}`];
    case "sent":
      return ["job.sent", `${job.name}${on}, attempt ${job.attempt}`];
    case "done":
      return ["job.done", `${job.name}${on}`];
    case "failed":
      return ["job.failed", `${job.name}${on}${why}`];
    case "unknown":
      return ["job.unknown", `${job.name}${on}: nobody knows whether it happened${why}`];
    case "skipped":
      return ["job.skipped", `${job.name} is not needed`];
    case "undo-waiting":
      return [before === "done" ? "job.waiting" : "job.failed", `${job.name}${on} is to be undone (${undo})${why}`];
    case "undo-sent":
      return ["job.undo-sent", `${job.name}${on}: ${undo}, attempt ${job.attempt}`];
    case "undone":
      return ["job.undone", `${job.name}${on}: ${undo}`];
  }
}

function tell(tx: Transaction, kind: EventKind, task: Task, message: string, nodeId = ""): void {
  tx.emit(kind, task.id, task.object.name, message, nodeId, task.object.id);
}
