/**
 * The only way a task's row changes: what it was and what happened give what it is, or why that cannot have happened. Pure, and
 * total over histories: whatever order events come in, the row stays one that the table in docs/design/015-tasks.md allows.
 */
import { FINISHED, isSent, TASK_LIMITS, type Job, type JobProgress, type JobState, type Step, type Task } from "../../model/task.ts";
import type { TaskError } from "../../model/task.ts";
import { JOBS } from "../../model/task-definitions.ts";
import { isEnd, isStart, jobAt, mayStart, mayUndo, migrationOf, placeOf } from "../../model/task-flow.ts";

export type TaskEvent =
  /** The scheduler's part of a start is done. */
  | { kind: "placed"; nodeId: string; generation: number }
  /** The claim was released: the undo of `placed`. */
  | { kind: "released" }
  | { kind: "sent"; path: string; attempt: number; undo: boolean; nodeId: string; generation: number; slot: string | null }
  | { kind: "begun"; path: string; attempt: number; run: string }
  | { kind: "progress"; path: string; attempt: number; steps: readonly Step[]; progress: JobProgress | null }
  | { kind: "answered"; path: string; attempt: number; outcome: { ok: true } | { ok: false; error: TaskError }; steps: readonly Step[] }
  | { kind: "cancel"; by: string }
  /** Another node is to do it: that one may never answer. */
  | { kind: "recalled"; path: string }
  /** The claim of a VM that migrates is the target's from now on. */
  | { kind: "handed-over"; nodeId: string; generation: number; step: Step }
  /** The object's claim ended, without this task's doing. `again`: the VM is to run, so that a start goes on elsewhere. */
  | { kind: "claim-ended"; again: boolean; error: TaskError }
  /** There is nothing to turn off any more. */
  | { kind: "already-off"; cleaned: boolean };

export interface At {
  atMs: number;
  revision: number;
}

/** The changed row, or why this cannot follow, for people. */
export type Reduced = { ok: true; task: Task } | { ok: false; why: string };

const RETRY_FIRST_MS = 1_000;
const RETRY_LAST_MS = 60_000;
/** A start that takes longer than this to say that its guest runs may have had it running, and writing, for most of that time. */
const RAN_UNTOLD_MS = 30_000;

export function reduce(task: Task, event: TaskEvent, at: At): Reduced {
  if (FINISHED.has(task.state)) return refused(`task ${task.id} is ${task.state} already`);
  switch (event.kind) {
    case "placed":
      return placed(task, event, at);
    case "released":
      return released(task, at);
    case "sent":
      return sent(task, event, at);
    case "begun":
      return begun(task, event);
    case "progress":
      return progressed(task, event);
    case "answered":
      return answered(task, event, at);
    case "cancel":
      return cancelled(task, event.by, at);
    case "recalled":
      return recalled(task, event.path, at);
    case "handed-over":
      return handedOver(task, event);
    case "claim-ended":
      return claimEnded(task, event, at);
    case "already-off":
      return alreadyOff(task, event.cleaned, at);
  }
}

function placed(task: Task, { nodeId, generation }: TaskEvent & { kind: "placed" }, at: At): Reduced {
  const place = placeOf(task);
  if (place === undefined || !mayStart(task, place)) return refused(`task ${task.id} does not wait for a place`);
  const done: Job = { ...place, state: "done", attempt: place.attempt + 1, nodeId, generation, sentAtMs: at.atMs, endedAtMs: at.atMs };
  return settled(started(put(task, done), at), at);
}

function released(task: Task, at: At): Reduced {
  const place = placeOf(task);
  if (place === undefined || !mayUndo(task, place)) return refused(`task ${task.id} has no claim to release now`);
  return settled(put(task, { ...place, state: "undone", endedAtMs: at.atMs }), at);
}

function sent(task: Task, event: TaskEvent & { kind: "sent" }, at: At): Reduced {
  const { path, attempt, undo, nodeId, generation, slot } = event;
  const job = jobAt(task, path);
  if (job === undefined || job.name === "place") return refused(`task ${task.id} has no job ${path} that can be sent`);
  if (!(undo ? mayUndo(task, job) : mayStart(task, job)))
    return refused(`${name(task, job)} is ${job.state}: not to be ${undo ? "undone" : "sent"} now`);
  if (attempt !== job.attempt + 1) return refused(`attempt ${attempt} of ${name(task, job)}: ${job.attempt + 1} is next`);
  if (job.retryAtMs > at.atMs) return refused(`${name(task, job)} is tried again in ${job.retryAtMs - at.atMs} ms`);
  const row: Job = {
    ...job,
    state: undo ? "undo-sent" : "sent",
    attempt,
    nodeId,
    generation,
    slot,
    begunBy: null,
    sentAtMs: at.atMs,
    endedAtMs: null,
    retryAtMs: 0,
    progress: null,
    steps: undo ? job.steps : [],
    error: undo ? job.error : null,
  };
  return { ok: true, task: started(put(task, row), at) };
}

function begun(task: Task, { path, attempt, run }: TaskEvent & { kind: "begun" }): Reduced {
  const job = sentJob(task, path, attempt);
  if (typeof job === "string") return refused(job);
  if (job.state !== "sent") return refused(`${name(task, job)} is being undone`);
  if (task.cancel !== null) return refused(`${name(task, job)} was cancelled by ${task.cancel.by}`);
  if (job.begunBy === run) return { ok: true, task };
  if (job.begunBy !== null) return refused(`${name(task, job)} was begun already, by run ${job.begunBy}`);
  return { ok: true, task: put(task, { ...job, begunBy: run }) };
}

function progressed(task: Task, { path, attempt, steps, progress }: TaskEvent & { kind: "progress" }): Reduced {
  const job = sentJob(task, path, attempt);
  if (typeof job === "string") return refused(job);
  return { ok: true, task: put(task, { ...job, steps: withSteps(job, steps), progress }) };
}

function answered(task: Task, { path, attempt, outcome, steps }: TaskEvent & { kind: "answered" }, at: At): Reduced {
  const job = sentJob(task, path, attempt);
  if (typeof job === "string") return refused(job);
  const rule = JOBS[job.name];
  const ended: Job = { ...job, steps: withSteps(job, steps), progress: null, slot: null, endedAtMs: at.atMs };
  const retryAtMs = at.atMs + Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** Math.min(job.attempt - 1, 10));
  if (job.state === "undo-sent") {
    const row: Job = outcome.ok ? { ...ended, state: "undone" } : { ...ended, state: "undo-waiting", error: outcome.error, retryAtMs };
    return settled(put(task, row), at);
  }
  if (task.state === "rolling-back") {
    const error = outcome.ok ? job.error : outcome.error;
    const state: JobState = rule.undo !== null ? "undo-waiting" : outcome.ok ? "done" : "failed";
    const after = put(task, { ...ended, state, error });
    const ranUntold = isStart(task) && job.name === "power-on" && outcome.ok && at.atMs - (job.sentAtMs ?? at.atMs) > RAN_UNTOLD_MS;
    return settled(ranUntold ? withDisksKept(after) : after, at);
  }
  if (outcome.ok) return settled(put(task, { ...ended, state: "done", error: null }), at);
  const { error } = outcome;
  const failed: Task = { ...task, error: task.error ?? error };
  if (error.code === "unknown" && !rule.repeatable) return settled(backwards(put(failed, { ...ended, state: "unknown", error }), at), at);
  if (rule.onFailure === "retry") return settled(put(failed, { ...ended, state: "waiting", error, retryAtMs }), at);
  // What failed may have done half of it: its own undo comes first.
  const row: Job = { ...ended, state: rule.undo === null ? "failed" : "undo-waiting", error };
  return settled(backwards(put(failed, row), at), at);
}

/** The guest has run, for as long as nobody could say so: what it wrote stays, as of any VM that is shut down. */
function withDisksKept(task: Task): Task {
  const jobs = task.jobs.map((job): Job => (job.name === "configure" && job.state === "undo-waiting" ? { ...job, state: "done" } : job));
  return { ...task, jobs };
}

function cancelled(task: Task, by: string, at: At): Reduced {
  if (task.cancel !== null) return { ok: true, task };
  const committed = task.jobs.find((job) => JOBS[job.name].onFailure === "retry" && (job.attempt > 0 || job.state === "done"));
  if (committed !== undefined) return refused(`task ${task.id} has no way back: ${committed.name} is under way or done`);
  const error: TaskError = { code: "cancelled", message: `cancelled by ${by}`, hint: "" };
  const jobs = task.jobs.map((job): Job => {
    if (job.state !== "sent") return job;
    const rule = JOBS[job.name];
    // One that has begun what cannot be repeated or undone is not recalled: its answer is the truth.
    const recallable = rule.undo === null && (rule.repeatable || job.begunBy === null);
    return recallable ? { ...job, state: "failed", slot: null, progress: null, endedAtMs: at.atMs, error } : job;
  });
  return settled(backwards({ ...task, jobs, cancel: { by, atMs: at.atMs }, error: task.error ?? error }, at), at);
}

function recalled(task: Task, path: string, at: At): Reduced {
  const job = jobAt(task, path);
  if (job === undefined || !isSent(job) || !JOBS[job.name].repeatable)
    return refused(`task ${task.id} has no job ${path} that could be sent elsewhere`);
  // Of a task that goes back, what was sent may have been done, and is undone there.
  const back: JobState = JOBS[job.name].undo === null ? "failed" : "undo-waiting";
  return settled(put(task, { ...job, state: task.state === "rolling-back" ? back : "waiting", slot: null, progress: null }), at);
}

function handedOver(task: Task, { nodeId, generation, step }: TaskEvent & { kind: "handed-over" }): Reduced {
  const job = migrationOf(task);
  if (job?.state !== "sent") return refused(`task ${task.id} has nothing that migrates`);
  return { ok: true, task: put(task, { ...job, nodeId, generation, steps: withSteps(job, [step]) }) };
}

function claimEnded(task: Task, { again, error }: TaskEvent & { kind: "claim-ended" }, at: At): Reduced {
  if (isStart(task)) {
    if (placeOf(task)?.state === "waiting") return again ? { ok: true, task } : refused(`task ${task.id} has no claim that could end`);
    if (again && task.state !== "rolling-back") {
      // Nothing is left of what was done under that claim that anybody else could not deal with.
      const jobs = task.jobs.map((job): Job => ({
        ...job,
        state: "waiting",
        slot: null,
        progress: null,
        error: job.error ?? (isSent(job) ? error : null),
        retryAtMs: 0,
      }));
      return settled({ ...task, jobs }, at);
    }
    const jobs = task.jobs.map((job): Job => ({
      ...job,
      state: job.state === "waiting" || job.state === "skipped" ? "skipped" : "undone",
      slot: null,
      progress: null,
      endedAtMs: at.atMs,
    }));
    return settled({ ...task, jobs, state: "rolling-back", error: task.error ?? error }, at);
  }
  if (isEnd(task)) return alreadyOff(task, false, at);
  const jobs = task.jobs.map((job): Job => {
    const ended: Job = { ...job, slot: null, progress: null, endedAtMs: at.atMs, error: job.error ?? error };
    if (job.state === "sent" && job.begunBy !== null && !JOBS[job.name].repeatable) return { ...ended, state: "unknown" };
    if (job.state === "sent") return { ...ended, state: "failed" };
    if (job.state === "undo-sent" || job.state === "undo-waiting") return { ...ended, state: "undone" };
    return job.state === "waiting" ? { ...job, state: "skipped" } : job;
  });
  return settled({ ...task, jobs, state: "rolling-back", error: task.error ?? error }, at);
}

function alreadyOff(task: Task, cleaned: boolean, at: At): Reduced {
  if (!isEnd(task)) return refused(`task ${task.id} does not turn anything off`);
  const jobs = task.jobs.map((job): Job => {
    if ((job.name === "unconfigure" && !cleaned) || (job.state !== "waiting" && job.state !== "sent")) return job;
    return {
      ...job,
      state: job.state === "sent" ? "done" : "skipped",
      slot: null,
      progress: null,
      endedAtMs: at.atMs,
      error: null,
      retryAtMs: 0,
    };
  });
  const cleaning = jobs.find((job) => job.name === "unconfigure");
  // What follows waits for jobs that are done.
  if (cleaning?.state === "waiting")
    return settled(started({ ...task, jobs: jobs.map((job) => (job.state === "skipped" ? { ...job, state: "done" } : job)) }, at), at);
  return settled(started({ ...task, jobs }, at), at);
}

/** Nothing new is begun, and what has an undo is to be undone. */
function backwards(task: Task, at: At): Task {
  const jobs = task.jobs.map((job): Job => {
    if (job.state === "waiting") return { ...job, state: "skipped", endedAtMs: at.atMs };
    return job.state === "done" && JOBS[job.name].undo !== null ? { ...job, state: "undo-waiting" } : job;
  });
  return { ...task, jobs, state: "rolling-back" };
}

/** The task with its end, if no job of it has anything left to do. */
function settled(task: Task, at: At): Reduced {
  const open = task.jobs.some((job) => job.state === "waiting" || job.state === "undo-waiting" || isSent(job));
  if (open) return { ok: true, task };
  const has = (state: JobState): boolean => task.jobs.some((job) => job.state === state);
  const whole = task.jobs.every((job) => job.state === "done");
  const state = has("unknown")
    ? "unknown"
    : whole || task.state !== "rolling-back"
      ? "done"
      : task.cancel === null
        ? "failed"
        : "cancelled";
  const error = state === "done" ? null : task.error;
  return { ok: true, task: { ...task, state, error, endedAtMs: at.atMs, endedRevision: at.revision } };
}

function started(task: Task, at: At): Task {
  if (task.state !== "waiting") return task;
  return { ...task, state: "running", startedAtMs: at.atMs };
}

function sentJob(task: Task, path: string, attempt: number): Job | string {
  const job = jobAt(task, path);
  if (job === undefined) return `task ${task.id} has no job ${path}`;
  if (!isSent(job)) return `${name(task, job)} is ${job.state}: nobody is asked for it`;
  return job.attempt === attempt ? job : `attempt ${attempt} of ${name(task, job)} is over: it is at ${job.attempt}`;
}

function withSteps(job: Job, steps: readonly Step[]): Step[] {
  return steps.length === 0 ? job.steps : [...job.steps, ...steps].slice(-TASK_LIMITS.stepsPerJob);
}

function put(task: Task, job: Job): Task {
  return { ...task, jobs: task.jobs.map((other) => (other.path === job.path ? job : other)) };
}

function name(task: Task, job: Job): string {
  return `job ${job.path} (${job.name}) of task ${task.id}`;
}

function refused(why: string): Reduced {
  return { ok: false, why };
}
