/** The jobs that wait for this node's answer, as reconcile wants them. */
import { JOBS } from "../model/task-definitions.ts";
import { TOLD } from "../model/task-flow.ts";
import { isSent, type Job, type Task } from "../model/task.ts";
import type { View } from "../model/view.ts";
import type { SentJob } from "./reconcile.ts";

/** By VM. One object's tasks are serial, and of the jobs of one task at most one at a time is the hypervisor's. */
export function sentJobs(view: View, nodeId: string): Map<string, SentJob> {
  const jobs = new Map<string, SentJob>();
  for (const taskId of view.tasksByNode.get(nodeId) ?? []) {
    const task = view.tasks.get(taskId);
    const job = task?.jobs.find((one) => isSent(one) && one.nodeId === nodeId && JOBS[one.name].pool === "compute" && !TOLD.has(one.name));
    if (task !== undefined && job !== undefined) jobs.set(task.object.id, sentJob(view, task, job));
  }
  return jobs;
}

function sentJob(view: View, task: Task, job: Job): SentJob {
  const setting = JOBS[job.name].limit ?? "vm.operationTimeoutMs";
  const limit = view.cluster?.settings[setting];
  return {
    key: { taskId: task.id, path: job.path, attempt: job.attempt },
    name: job.name,
    undo: job.state === "undo-sent",
    generation: job.generation,
    begunBy: job.begunBy,
    cancel: task.cancel !== null,
    limitMs: typeof limit === "number" ? limit : 15_000,
    setting,
  };
}
