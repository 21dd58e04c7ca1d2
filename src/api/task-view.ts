/** What a task's row means for people: what happened, what it waits for, what to do (docs/tasks.md). Pure: a view and the time in, words out. */
import { formatDuration } from "../base/units.ts";
import { isAnswering, type Node } from "../model/node.ts";
import { settingsOf } from "../model/placement.ts";
import { FINISHED } from "../model/task.ts";
import type { Job, JobName, Task, TaskAction } from "../model/task.ts";
import { JOBS } from "../model/task-definitions.ts";
import { isStart, mayStart, mayUndo, migrationOf } from "../model/task-flow.ts";
import { STEPS } from "../model/task-steps.ts";
import { targetOf } from "../model/task-target.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import { poolsOf } from "../tasks/queue-view.ts";
import type { PoolView } from "../tasks/queue-view.ts";
import { nodeName } from "./convert.ts";

export interface Wait {
  /** Path of the job; empty: the task as a whole. */
  path: string;
  kind: "turn" | "scheduler" | "slot" | "node" | "back-off" | "guest" | "worker";
  text: string;
  /** 0: not known. */
  untilMs: number;
  pool: string;
  place: number;
}

export interface Told {
  waits: Wait[];
  summary: string;
  advice: string[];
  followedBy: string;
}

/** A node of which nobody knows what it does. */
const SILENT: ReadonlySet<Node["state"]> = new Set<Node["state"]>(["unreachable", "fenced", "removed"]);

const VERB_OF: Partial<Record<TaskAction, string>> = { deploy: "start", recover: "start" };

export function tell(view: View, task: Task, nowMs: number): Told {
  const waits = FINISHED.has(task.state) ? [] : waitsOf(view, task, nowMs);
  const followedBy = FINISHED.has(task.state) ? (successor(view, task)?.id ?? "") : "";
  return { waits, summary: summaryOf(view, task, waits, nowMs), advice: adviceOf(view, task, waits, followedBy), followedBy };
}

/** What is so when a job is undone. */
const UNDONE: Partial<Record<JobName, string>> = {
  place: "its claim is released",
  configure: "the disks that it made are deleted",
  "power-on": "nothing of its domain is left",
  pause: "it runs again",
  unpause: "it is paused again",
};

/** Where a job that was never sent would go. */
function nodeOf(view: View, task: Task, job: Job): string | null {
  const vm = vmOf(view, task);
  return vm === undefined ? null : (targetOf(vm, task, job)?.nodeId ?? null);
}

/** `node:ID` with the node's name in place of its id. */
export function actorName(view: View, actor: string): string {
  return actor.startsWith("node:") ? `node:${nodeName(view, actor.slice(5))}` : actor;
}

function vmOf(view: View, task: Task): Vm | undefined {
  return task.object.kind === "vm" ? view.vms.get(task.object.id) : undefined;
}

/** The next start of the VM, where this one failed. */
function successor(view: View, task: Task): Task | undefined {
  if (!isStart(task) || task.state === "done") return undefined;
  for (const id of view.tasksByObject.get(task.object.id) ?? []) {
    const next = view.tasks.get(id);
    if (next !== undefined && next.number > task.number && isStart(next)) return next;
  }
  return undefined;
}

function waitsOf(view: View, task: Task, nowMs: number): Wait[] {
  const before = (view.tasksByObject.get(task.object.id) ?? []).map((id) => view.tasks.get(id)).find((other) => other !== undefined);
  if (before !== undefined && before.id !== task.id) {
    const text = `${before.id} (${before.action} of the same ${task.object.kind}, ${before.state}) comes first`;
    return [{ path: "", kind: "turn", text, untilMs: 0, pool: "", place: 0 }];
  }
  return task.jobs.flatMap((job) => waitOf(view, task, job, nowMs));
}

function waitOf(view: View, task: Task, job: Job, nowMs: number): Wait[] {
  const wait = (kind: Wait["kind"], text: string, more: Partial<Wait> = {}): Wait[] => [
    { path: job.path, kind, text, untilMs: 0, pool: "", place: 0, ...more },
  ];
  const node = job.nodeId === null ? undefined : view.nodes.get(job.nodeId);
  const silent = node !== undefined && SILENT.has(node.state);
  switch (job.state) {
    case "waiting": {
      if (!mayStart(task, job)) return [];
      if (job.name === "place") return placeWait(vmOf(view, task), view, wait, nowMs);
      if (job.retryAtMs > nowMs)
        return wait("back-off", `it is tried again${job.error === null ? "" : ` after: ${job.error.message}`}`, { untilMs: job.retryAtMs });
      return (
        silentTarget(view, task, job, wait, nowMs) ?? slotWait(view, task, job, wait, nowMs) ?? wait("worker", "it is about to be sent")
      );
    }
    case "undo-waiting":
      if (!mayUndo(task, job)) return [];
      if (job.retryAtMs > nowMs)
        return wait("back-off", `its undo failed and is tried again${job.error === null ? "" : `: ${job.error.message}`}`, {
          untilMs: job.retryAtMs,
        });
      if (silent) return silentWait(node, job, wait, nowMs);
      return slotWait(view, task, job, wait, nowMs) ?? wait("worker", "its undo is about to be sent");
    case "sent":
    case "undo-sent": {
      if (silent) return silentWait(node, job, wait, nowMs);
      const limit = JOBS[job.name].limit;
      const untilMs = limit === null || job.sentAtMs === null ? 0 : job.sentAtMs + Number(settingsOf(view)[limit]);
      if (job.name === "wait-for-power-off") return wait("guest", "the guest was asked to power off and is given time", { untilMs });
      const forMs = job.sentAtMs === null ? 0 : Math.max(0, nowMs - job.sentAtMs);
      return wait(
        "worker",
        `${nodeName(view, job.nodeId)} works on ${job.state === "sent" ? "it" : "its undo"} since ${formatDuration(forMs)}`,
      );
    }
    default:
      return [];
  }
}

type MakeWait = (kind: Wait["kind"], text: string, more?: Partial<Wait>) => Wait[];

function placeWait(vm: Vm | undefined, view: View, wait: MakeWait, nowMs: number): Wait[] {
  if (vm === undefined) return [];
  if (vm.desired.hold) return wait("scheduler", "it is held from the scheduler");
  if (vm.retryAtMs > nowMs)
    return wait("back-off", `it is placed again${vm.reason === null ? "" : ` after: ${vm.reason}`}`, { untilMs: vm.retryAtMs });
  if (vm.state === "pending" && vm.desired.nodeId === null && settingsOf(view)["scheduler.enabled"] === "off")
    return wait("scheduler", "the scheduler is switched off (scheduler.enabled)");
  if (vm.pendingReasons.length === 0) return wait("scheduler", "the scheduler is about to choose a node");
  const reasons = vm.pendingReasons.map(({ nodes, code, detail }) => `${nodes} ${nodes === 1 ? "node" : "nodes"}: ${code} (${detail})`);
  return wait("scheduler", `no node takes it: ${reasons.join("; ")}`);
}

function slotWait(view: View, task: Task, job: Job, wait: MakeWait, nowMs: number): Wait[] | null {
  if (JOBS[job.name].takes === "none") return null;
  const same = (one: { taskId: string; path: string }): boolean => one.taskId === task.id && one.path === job.path;
  for (const pool of poolsAt(view, nowMs)) {
    const at = pool.waiting.findIndex(same);
    if (at < 0) continue;
    // The first while a slot is free waits for nobody.
    if (at === 0 && pool.holders.length < pool.limit) return null;
    const share = pool.vdc === "" ? "" : `, vdc ${pool.vdc}`;
    const text = `place ${at + 1} of ${pool.waiting.length} for a slot of ${pool.connection}${share}: ${pool.holders.length} of ${pool.limit} taken`;
    return wait("slot", text, { pool: pool.key, place: at + 1 });
  }
  return null;
}

/** A job that is not sent, because the node that it would go to does not answer. */
function silentTarget(view: View, task: Task, job: Job, wait: MakeWait, nowMs: number): Wait[] | null {
  const vm = vmOf(view, task);
  const target = vm === undefined ? null : targetOf(vm, task, job);
  const node = target === null ? undefined : view.nodes.get(target.nodeId);
  if (node === undefined || isAnswering(node)) return null;
  return wait(
    "node",
    `${node.name} is ${node.state} since ${formatDuration(Math.max(0, nowMs - node.stateSinceMs))}: it is sent when ${node.name} answers`,
  );
}

/** Of one moment: many tasks are told together. */
let poolsNow: { view: View; index: number; atMs: number; pools: PoolView[] } | null = null;

function poolsAt(view: View, atMs: number): PoolView[] {
  if (poolsNow?.view !== view || poolsNow.index !== view.index || poolsNow.atMs !== atMs)
    poolsNow = { view, index: view.index, atMs, pools: poolsOf(view, atMs) };
  return poolsNow.pools;
}

function silentWait(node: Node, job: Job, wait: MakeWait, nowMs: number): Wait[] {
  const since = formatDuration(Math.max(0, nowMs - node.stateSinceMs));
  const what = job.state === "undo-waiting" ? "its undo can run there only" : "nobody knows what it did";
  return wait("node", `${node.name} is ${node.state} since ${since}: ${what}`);
}

/** `configure on n2`. */
function named(view: View, job: Job): string {
  return `${job.name}${job.nodeId === null ? "" : ` on ${nodeName(view, job.nodeId)}`}`;
}

function summaryOf(view: View, task: Task, waits: readonly Wait[], nowMs: number): string {
  const culprit = task.jobs.find((job) => job.error !== null && !isUndoing(job)) ?? task.jobs.find((job) => job.error !== null);
  const failure = task.error === null ? "" : `${culprit === undefined ? "it" : named(view, culprit)} failed: ${task.error.message}`;
  const undone = task.jobs.filter((job) => job.state === "undone");
  const undoText = undone.toReversed().map((job) => `${job.name} (${UNDONE[job.name] ?? JOBS[job.name].undo ?? ""})`);
  const left = task.jobs.filter((job) => job.state === "undo-waiting" || job.state === "undo-sent");
  const lines: string[] = [];
  switch (task.state) {
    case "done":
      return "";
    case "waiting":
    case "running": {
      const sent = task.jobs.filter((job) => job.state === "sent");
      if (task.cancel !== null) lines.push(`It is to end: ${actorName(view, task.cancel.by)} asked for it.`);
      if (failure !== "") lines.push(`${upper(failure)}; it is tried again, because it has no way back.`);
      for (const job of sent)
        lines.push(`${upper(named(view, job))} runs since ${formatDuration(Math.max(0, nowMs - (job.sentAtMs ?? nowMs)))}.`);
      if (sent.length === 0 && waits[0] !== undefined) lines.push(`It waits: ${waits[0].text}.`);
      return lines.join("\n");
    }
    case "rolling-back": {
      lines.push(
        task.cancel !== null ? `Cancelled by ${actorName(view, task.cancel.by)}.` : `${upper(failure === "" ? "a job failed" : failure)}.`,
      );
      if (undone.length > 0) lines.push(`Undone: ${undoText.join(", ")}.`);
      if (left.length > 0)
        lines.push(
          `Still to undo: ${left
            .toReversed()
            .map((job) => `${named(view, job)} (${JOBS[job.name].undo ?? ""})`)
            .join(", ")}.`,
        );
      return lines.join("\n");
    }
    case "failed":
    case "cancelled": {
      lines.push(
        task.state === "cancelled"
          ? `Cancelled by ${actorName(view, task.cancel?.by ?? task.actor)}.`
          : `${upper(failure === "" ? "it failed" : failure)}.`,
      );
      lines.push(undone.length > 0 ? `Undone: ${undoText.join(", ")}.` : stayed(view, task));
      return lines.join("\n");
    }
    case "unknown":
      lines.push(
        `${upper(culprit === undefined ? "its job" : named(view, culprit))} had begun when its worker ended: nobody knows whether it happened, and it is never repeated by itself.`,
      );
      return lines.join("\n");
  }
}

/** What is left of what has no undo. */
function stayed(view: View, task: Task): string {
  const job = migrationOf(task);
  if (job === undefined) return "There was nothing to undo.";
  const to = nodeName(view, task.targetNodeId);
  if (job.steps.some(({ name }) => name === STEPS.handedOver)) return `It had been handed over to ${to} before.`;
  return `It stayed with ${nodeName(view, job.nodeId)}; what had arrived on ${to} is destroyed there.`;
}

function isUndoing(job: Job): boolean {
  return job.state === "undo-waiting" || job.state === "undo-sent";
}

function upper(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

function adviceOf(view: View, task: Task, waits: readonly Wait[], followedBy: string): string[] {
  const advice: string[] = [];
  const add = (line: string): void => {
    if (line !== "" && !advice.includes(line)) advice.push(line);
  };
  const { name } = task.object;
  const again = `roost ${task.object.kind} ${VERB_OF[task.action] ?? task.action} ${name}`;
  for (const error of [task.error, ...task.jobs.map((job) => job.error)]) {
    if (error === null || task.state === "done") continue;
    add(error.hint);
    if (error.code === "disk-held") add("it goes on by itself as soon as the disk is free; the holder is named above");
    if (error.code === "timeout") {
      const limit = task.jobs.map((job) => JOBS[job.name].limit).find((key) => key !== null && error.message.includes(key));
      if (limit !== null && limit !== undefined)
        add(`if it only needs longer: roost settings set ${limit} DURATION (now ${settingsOf(view)[limit]}ms)`);
    }
  }
  for (const wait of waits) {
    const job = task.jobs.find(({ path }) => path === wait.path);
    const node = job === undefined ? "" : nodeName(view, job.nodeId ?? nodeOf(view, task, job));
    if (wait.kind === "node") add(`bring ${node} back; or, if you have made sure that it is off: roost node fence ${node} --confirmed`);
    if (wait.kind === "slot") add(`roost limits explain ${task.id} names who is before it; openSession says how many slots there are`);
    if (wait.kind === "scheduler") add(`roost explain ${name} --why-not all says what would have to change`);
    if (wait.kind === "turn") add(`roost task cancel ${wait.text.split(" ")[0] ?? ""} if it shall not wait for that`);
    if (wait.kind === "back-off" && job !== undefined && isUndoing(job))
      add(`mend what the message names on ${node}; the undo goes on by itself, and nothing else of ${name} runs before`);
    if (wait.kind === "guest") add(`roost vm force-shutdown ${name} ends it at once`);
  }
  switch (task.state) {
    case "failed":
      add(
        followedBy === ""
          ? `when the cause is mended: ${again}`
          : `it goes on by itself as ${followedBy}; roost task cancel ${followedBy} stops that`,
      );
      break;
    case "unknown":
      add(`look at the guest (roost vm show ${name}), then, if it has to be done: ${again}`);
      break;
    case "cancelled":
      if (followedBy === "") add(`to do it after all: ${again}`);
      break;
    default:
  }
  return advice;
}
