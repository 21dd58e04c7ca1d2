/** Rows of tasks as messages. */
import { settingsOf } from "../model/placement.ts";
import type { Job, Task, TaskError } from "../model/task.ts";
import { JOBS } from "../model/task-definitions.ts";
import type { View } from "../model/view.ts";
import type { Job as JobMessage } from "../gen/types/roost/v1/Job.ts";
import type { Task as TaskMessage } from "../gen/types/roost/v1/Task.ts";
import { nodeName } from "./convert.ts";
import { actorName, tell } from "./task-view.ts";

export function toTask(view: View, task: Task, nowMs: number): TaskMessage {
  const { waits, summary, advice, followedBy } = tell(view, task, nowMs);
  return {
    id: task.id,
    number: task.number,
    action: task.action,
    objectKind: task.object.kind,
    objectId: task.object.id,
    objectName: task.object.name,
    vdc: task.vdc,
    state: task.state,
    actor: actorName(view, task.actor),
    cause: task.cause,
    createdAtMs: task.createdAtMs,
    startedAtMs: task.startedAtMs ?? 0,
    endedAtMs: task.endedAtMs ?? 0,
    targetNode: nodeName(view, task.targetNodeId),
    jobs: task.jobs.map((job) => toJob(view, job)),
    cancelledBy: task.cancel === null ? "" : actorName(view, task.cancel.by),
    cancelledAtMs: task.cancel?.atMs ?? 0,
    error: toError(task.error),
    waits: waits.map((wait) => ({ ...wait })),
    summary,
    advice,
    followedBy,
  };
}

function toJob(view: View, job: Job): JobMessage {
  const rule = JOBS[job.name];
  return {
    path: job.path,
    name: job.name,
    state: job.state,
    attempt: job.attempt,
    node: nodeName(view, job.nodeId),
    nodeId: job.nodeId ?? "",
    generation: job.generation,
    slot: job.slot ?? "",
    sentAtMs: job.sentAtMs ?? 0,
    endedAtMs: job.endedAtMs ?? 0,
    error: toError(job.error),
    retryAtMs: job.retryAtMs,
    steps: job.steps.map((step) => ({ ...step })),
    progress: job.progress === null ? null : { ...job.progress, total: job.progress.total ?? 0 },
    undo: rule.undo ?? "",
    limitSetting: rule.limit ?? "",
    limitMs: rule.limit === null ? 0 : Number(settingsOf(view)[rule.limit]),
  };
}

function toError(error: TaskError | null): TaskError | null {
  return error === null ? null : { ...error };
}
