/** What of a task may be sent next, as far as the task itself goes. Pure functions of the row. */
import { FINISHED, type Job, type JobName, type Task } from "./task.ts";

/** Jobs that no worker is sent and none answers: what is applied for the VM itself tells their course. */
export const TOLD: ReadonlySet<JobName> = new Set<JobName>(["place", "migrate"]);

export interface Turn {
  job: Job;
  undo: boolean;
}

/** Jobs that workers could be sent now; `retryAtMs`, slots and nodes are others' matter. */
export function sendable(task: Task): Turn[] {
  if (FINISHED.has(task.state)) return [];
  const turns: Turn[] = [];
  for (const job of task.jobs) {
    if (TOLD.has(job.name)) continue;
    if (task.state === "rolling-back") {
      if (mayUndo(task, job)) turns.push({ job, undo: true });
    } else if (mayStart(task, job)) turns.push({ job, undo: false });
  }
  return turns;
}

/** From it on a domain of the claim's generation may run. */
export function mayRun(job: Job, undo: boolean): boolean {
  return job.name === "power-on" && !undo;
}

/** It waits, and all before it is done. */
export function mayStart(task: Task, job: Job): boolean {
  if (job.state !== "waiting" || (task.state !== "waiting" && task.state !== "running")) return false;
  return job.after.every((path) => jobAt(task, path)?.state === "done");
}

/** Undone in reverse: nothing that came after it is left to undo or to hear of. */
export function mayUndo(task: Task, job: Job): boolean {
  if (job.state !== "undo-waiting" || task.state !== "rolling-back") return false;
  const later = new Set([job.path]);
  // Jobs stand in the order of the tree, so whatever follows one comes later in the list.
  for (const other of task.jobs) {
    if (!other.after.some((path) => later.has(path))) continue;
    later.add(other.path);
    if (other.state === "sent" || other.state === "undo-sent" || other.state === "undo-waiting") return false;
  }
  return true;
}

export function jobAt(task: Task, path: string): Job | undefined {
  return task.jobs.find((job) => job.path === path);
}

/** The job of a start that the scheduler does; undefined for tasks without one. */
export function placeOf(task: Task): Job | undefined {
  return task.jobs.find((job) => job.name === "place");
}

/** The job of a live migration; undefined for tasks without one. */
export function migrationOf(task: Task): Job | undefined {
  return task.jobs.find((job) => job.name === "migrate");
}

/** A task that ends with the VM running. */
export function isStart(task: Task): boolean {
  return task.action === "deploy" || task.action === "recover";
}

/** A task that ends with the VM off, or gone. */
export function isEnd(task: Task): boolean {
  return task.action === "shutdown" || task.action === "force-shutdown" || task.action === "delete";
}
