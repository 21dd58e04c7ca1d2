/** Tasks: listed, told in words, followed, cancelled. */
import { invalid, RoostError } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { FINISHED, isTaskId } from "../../model/task.ts";
import type { Task, TaskState } from "../../model/task.ts";
import type { View } from "../../model/view.ts";
import type { Task as TaskMessage } from "../../gen/types/roost/v1/Task.ts";
import { propose, readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { toTask } from "../convert-task.ts";
import { findNode, findVm, page } from "../lookup.ts";
import { changesOf } from "../watch.ts";

const STATES: readonly TaskState[] = ["waiting", "running", "rolling-back", "done", "failed", "cancelled", "unknown"];

export function findTask(view: View, text: string): Task {
  const id = /^\d+$/.test(text) ? `t${text}` : text;
  const task = view.tasks.get(id);
  if (task !== undefined) return task;
  if (!isTaskId(id)) throw invalid("task", `expected a task's id such as t12, not ${JSON.stringify(text)}`, "roost task list shows them");
  throw new RoostError({ kind: "not-found", what: "task", name: text }, "roost task list shows those that are kept (setting tasks.kept)");
}

function statesOf(texts: readonly string[]): ReadonlySet<TaskState> | null {
  if (texts.length === 0) return null;
  const wanted = new Set<TaskState>();
  texts.forEach((text, i) => {
    const state = STATES.find((one) => one === text);
    if (text === "open") for (const one of STATES) if (!FINISHED.has(one)) wanted.add(one);
    if (state !== undefined) wanted.add(state);
    else if (text !== "open") throw invalid(`states[${i}]`, `expected one of ${STATES.join(", ")}, or open, not ${JSON.stringify(text)}`);
  });
  return wanted;
}

/** Id of the VM meant; one that is gone is known by its id only. */
function vmIdOf(view: View, text: string): string {
  if (!view.vms.has(text) && [...view.tasks.values()].some((task) => task.object.id === text)) return text;
  return findVm(view, text).id;
}

export const taskService: ServiceMethods<"TaskService", CallContext> = {
  async ListTasks(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const states = statesOf(request.states);
    const vmId = request.vm === "" ? null : vmIdOf(view, request.vm);
    const nodeId = request.node === "" ? null : findNode(view, request.node).id;
    const rows = [...view.tasks.values()].filter(
      (task) =>
        (states === null || states.has(task.state)) &&
        (vmId === null || task.object.id === vmId) &&
        (nodeId === null || task.jobs.some((job) => job.nodeId === nodeId)),
    );
    // The newest first: pages count down, so that what is made meanwhile moves none of them.
    const part = page(rows, (task) => -task.number, request);
    const nowMs = context.nowMs();
    return { tasks: part.rows.map((task) => toTask(view, task, nowMs)), nextPageToken: part.nextPageToken, read: info };
  },

  async GetTask(request, context) {
    const { view, info } = await readState(context, request.consistency);
    return { task: toTask(view, findTask(view, request.task), context.nowMs()), read: info };
  },

  async CancelTask(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const task = findTask(view, request.task);
    await propose(context, { type: "task.cancel", taskId: task.id }, request.requestId);
    return { task: latest(context, task) };
  },

  async *WatchTask(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const { id, object } = findTask(view, request.task);
    let last: Task | null = null;
    let lastRevision = 0;
    // Why the scheduler has no node stands in the VM's row.
    for await (const now of changesOf(context.store, [id, object.id], context.signal)) {
      const task = now.tasks.get(id);
      if (task === undefined) return;
      const revision = now.vms.get(object.id)?.revision ?? 0;
      if (task === last && revision === lastRevision) continue;
      last = task;
      lastRevision = revision;
      yield { task: toTask(now, task, context.nowMs()) };
      if (FINISHED.has(task.state)) return;
    }
  },
};

function latest(context: CallContext, task: Task): TaskMessage {
  const view = context.store.view();
  return toTask(view, view.tasks.get(task.id) ?? task, context.nowMs());
}
