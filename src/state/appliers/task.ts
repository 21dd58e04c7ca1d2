/** Tasks: what the orchestrator sends, what workers answer, what users cancel. */
import { RoostError } from "../../base/errors.ts";
import { leftOutNodes } from "../../model/node.ts";
import { isEnd, isStart, jobAt, mayRun, TOLD } from "../../model/task-flow.ts";
import { admit, targetOf } from "../../model/task-target.ts";
import { FINISHED, TASK_LIMITS, type JobKey, type Step, type Task } from "../../model/task.ts";
import type { TaskAnswer, TaskBegin, TaskCancel, TaskDispatch, TaskProgress } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import { jobAnswered, jobSent, releaseIfDue, stillOn } from "../tasks/effects.ts";
import { change, needTask } from "../tasks/queue.ts";
import { reduce } from "../tasks/reduce.ts";
import type { Transaction } from "../transaction.ts";
import { ownNode, withRun } from "./node.ts";
import { callOff } from "./vm-migration.ts";

/** Longest text of a step or an error that is kept. */
const TEXT_MAX = 512;

export function dispatch(tx: Transaction, command: TaskDispatch): CommandResult {
  if (tx.envelope.term !== tx.term) {
    throw new RoostError({ kind: "conflict", reason: `decided in term ${tx.envelope.term}, not in ${tx.term}` });
  }
  const unsent: NonNullable<CommandResult["unsent"]> = [];
  const taken = new Map<string, number>();
  const used = (key: string): number => (tx.state.slots.get(key) ?? 0) + (taken.get(key) ?? 0);
  for (const send of command.sends) {
    const detail: string | null = whyNot(tx, send, used);
    if (detail !== null) {
      unsent.push({ taskId: send.taskId, path: send.path, detail });
      continue;
    }
    if (send.slot !== null) taken.set(send.slot, (taken.get(send.slot) ?? 0) + 1);
    const task = change(tx, needTask(tx, send.taskId), { kind: "sent", ...send });
    const job = jobAt(task, send.path);
    if (job !== undefined) jobSent(tx, task, job, send.undo);
  }
  return unsent.length === 0 ? {} : { unsent };
}

/** Each send is looked at as if nobody had: the view that it was decided on may be older. */
function whyNot(tx: Transaction, send: TaskDispatch["sends"][number], used: (key: string) => number): string | null {
  const task = tx.get("tasks", send.taskId);
  if (task === undefined) return "the task is gone";
  const job = jobAt(task, send.path);
  const vm = tx.get("vms", task.object.id);
  const node = tx.get("nodes", send.nodeId);
  if (job === undefined || vm === undefined || node === undefined) return "the job, its VM or the node is gone";
  const [head] = tx.tasksOf(task.object.id);
  if (head?.id !== task.id) return `task ${head?.id ?? ""} comes first`;
  const target = targetOf(vm, task, job);
  if (target?.nodeId !== send.nodeId || target.generation !== send.generation) return "the VM's claim is another one";
  if (mayRun(job, send.undo) && leftOutNodes(tx.state).length > 0)
    return "nothing starts before it is known what runs on nodes that were left out";
  const admitted = admit(tx.cluster() ?? null, task, job, node, used);
  if (!admitted.ok) return admitted.why;
  if ((admitted.slot?.key ?? null) !== send.slot) return "the limits have changed";
  const reduced = reduce(task, { kind: "sent", ...send }, { atMs: tx.atMs, revision: tx.index });
  return reduced.ok ? null : reduced.why;
}

export function begin(tx: Transaction, command: TaskBegin): CommandResult {
  const { path, attempt, run } = command;
  // What it starts now, no report of a run before it may call gone.
  const node = tx.needNode(command.nodeId);
  const present = withRun(node, run);
  if (present !== node) tx.putNode(present);
  const task = workersTask(tx, command);
  const job = jobAt(task, path);
  const unknown = leftOutNodes(tx.state);
  // Sent before the recover, for a claim that those of before may have ended and given to another since.
  if (job !== undefined && mayRun(job, false) && unknown.length > 0) {
    throw new RoostError(
      { kind: "precondition", reason: `nothing starts before it is known what runs on ${unknown.map(({ name }) => name).join(", ")}` },
      "let each rejoin (roost cluster rejoin), or confirm that it is off (roost node fence)",
    );
  }
  change(tx, task, { kind: "begun", path, attempt, run });
  return {};
}

export function progress(tx: Transaction, command: TaskProgress): CommandResult {
  const { path, attempt } = command;
  change(tx, workersTask(tx, command), { kind: "progress", path, attempt, steps: bounded(command.steps), progress: command.progress });
  return {};
}

export function answer(tx: Transaction, command: TaskAnswer): CommandResult {
  const { path, attempt, outcome } = command;
  const task = workersTask(tx, command);
  if (jobAt(task, path)?.generation !== command.generation)
    throw new RoostError({ kind: "precondition", reason: `job ${path} of task ${task.id} was sent for another generation` });
  const said = outcome.ok
    ? outcome
    : {
        ok: false as const,
        error: { ...outcome.error, message: outcome.error.message.slice(0, TEXT_MAX), hint: outcome.error.hint.slice(0, TEXT_MAX) },
      };
  const after = change(tx, task, { kind: "answered", path, attempt, outcome: said, steps: bounded(command.steps) });
  jobAnswered(tx, after, path);
  return { taskIds: [task.id] };
}

/** The task of a job that was sent to that very node: nobody answers for another (SEC-3). */
function workersTask(tx: Transaction, { taskId, path, nodeId }: JobKey & { nodeId: string }): Task {
  const node = ownNode(tx, nodeId);
  const task = needTask(tx, taskId);
  const job = jobAt(task, path);
  if (job?.nodeId !== nodeId || TOLD.has(job.name))
    throw new RoostError({ kind: "precondition", reason: `job ${path} of task ${taskId} was not sent to node ${node.name}` });
  return task;
}

function bounded(steps: readonly Step[]): Step[] {
  return steps
    .slice(-TASK_LIMITS.stepsPerJob)
    .map((step) => ({ ...step, name: step.name.slice(0, TEXT_MAX), detail: step.detail.slice(0, TEXT_MAX) }));
}

export function cancel(tx: Transaction, { taskId }: TaskCancel): CommandResult {
  const task = needTask(tx, taskId);
  if (FINISHED.has(task.state)) throw new RoostError({ kind: "precondition", reason: `task ${task.id} is ${task.state} already` });
  const vm = tx.get("vms", task.object.id);
  if (vm !== undefined && task.action === "migrate") {
    if (vm.migration?.phase !== "incoming")
      throw new RoostError({ kind: "precondition", reason: `task ${task.id} has no way back: the VM is handed over` }, "migrate it back");
    callOff(tx, vm, `${task.id} cancelled by ${tx.envelope.actor}`);
    return { taskIds: [task.id] };
  }
  const after = change(tx, task, { kind: "cancel", by: tx.envelope.actor });
  if (vm === undefined) return { taskIds: [task.id] };
  // What the VM shall be follows: else the restart policy would begin anew what was just called off.
  if (isStart(task)) {
    const row = { ...vm, desired: { ...vm.desired, power: "off" as const } };
    tx.putVm(
      vm.claim === null && vm.state !== "epilog"
        ? tx.moved({ ...row, pendingReasons: [] }, "stopped", `${task.id} cancelled by ${tx.envelope.actor}`)
        : row,
    );
  } else if (isEnd(task) && vm.claim !== null) stillOn(tx, vm, `${task.id} cancelled by ${tx.envelope.actor}`);
  releaseIfDue(tx, after);
  return { taskIds: [task.id] };
}
