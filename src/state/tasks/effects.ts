/** What a job's course makes of its VM (the table in docs/design/015-tasks.md). */
import { isEnd, isStart, jobAt, mayUndo, placeOf } from "../../model/task-flow.ts";
import type { Job, Task } from "../../model/task.ts";
import type { Claim, Vm } from "../../model/vm.ts";
import { forgetVm } from "../appliers/policy.ts";
import { afterRelease } from "../appliers/vm-moves.ts";
import { again, held, running, started } from "../appliers/vm-report.ts";
import type { Transaction } from "../transaction.ts";
import { change, changeIfPossible } from "./queue.ts";

/** A job goes to its worker. */
export function jobSent(tx: Transaction, task: Task, job: Job, undo: boolean): void {
  const vm = tx.get("vms", task.object.id);
  if (vm === undefined || undo) return;
  if (job.name === "power-on" && vm.state === "prolog") tx.putVm(started(tx, tx.moved(vm, "boot", "disks are ready")));
  if ((job.name === "shutdown" || job.name === "power-off") && vm.claim !== null)
    tx.putVm(tx.moved(vm, "shutdown", `${task.action} by ${task.actor}`));
}

/** A job was answered. @param after the task with the answer in it. */
export function jobAnswered(tx: Transaction, after: Task, path: string): void {
  const job = jobAt(after, path);
  const vm = tx.get("vms", after.object.id);
  if (job === undefined || vm === undefined) return;
  if (job.state === "done") jobDone(tx, after, job, vm);
  else if (job.state === "undone") jobUndone(tx, job, vm);
  else if (job.state === "failed" && (job.name === "shutdown" || job.name === "wait-for-power-off"))
    stillOn(tx, vm, job.error?.message ?? "");
  releaseIfDue(tx, after);
}

function jobDone(tx: Transaction, task: Task, job: Job, vm: Vm): void {
  const { claim } = vm;
  switch (job.name) {
    case "power-on":
      // A task that goes back ends it again.
      if (task.state !== "rolling-back" && claim !== null) tx.putVm(running(tx, vm, claim));
      return;
    case "wait-for-power-off":
    case "power-off":
      if (claim !== null) release(tx, claim, afterRelease(tx, vm, { to: "stop", why: "shut down" }));
      return;
    case "unconfigure":
      remove(tx, vm);
      return;
    case "pause":
    case "unpause":
      if (task.state !== "rolling-back" && claim !== null) tx.putVm(pausedOrNot(tx, vm, job.name === "pause"));
      return;
    default:
      return;
  }
}

function jobUndone(tx: Transaction, job: Job, vm: Vm): void {
  if (job.name === "pause" || job.name === "unpause") tx.putVm(pausedOrNot(tx, vm, job.name === "unpause"));
}

function pausedOrNot(tx: Transaction, vm: Vm, paused: boolean): Vm {
  const from = paused ? "running" : "paused";
  if (vm.state !== from && vm.state !== "unknown") return vm;
  return paused ? tx.moved(vm, "paused", "its CPUs are stopped") : tx.moved(vm, "running", "its CPUs go on");
}

/** Nobody turns it off any more: whatever was asked of it has failed, or was cancelled. */
export function stillOn(tx: Transaction, vm: Vm, why: string): void {
  if (tx.tasksOf(vm.id).some(isEnd)) return;
  const row: Vm = { ...vm, desired: { ...vm.desired, power: "on", deleted: false } };
  tx.putVm(vm.state === "shutdown" ? tx.moved(row, "running", why, why) : row);
}

/**
 * The last step back of a start, which no worker does: all that came after `place` is undone, so that nothing of the generation is
 * anywhere, and the claim ends.
 */
export function releaseIfDue(tx: Transaction, task: Task): void {
  const place = placeOf(task);
  if (place === undefined || !mayUndo(task, place)) return;
  const vm = tx.needVm(task.object.id);
  const ended = change(tx, task, { kind: "released" });
  const { claim } = vm;
  if (claim === null) return;
  const { error } = ended;
  const what = error?.message ?? "";
  if (error?.code === "disk-held") release(tx, claim, held(tx, vm, what));
  else release(tx, claim, again(tx, vm, vm.failures + 1, what === "" ? "could not start" : `could not start: ${what}`));
}

function release(tx: Transaction, { nodeId }: Claim, vm: Vm): void {
  tx.putVm(vm);
  tx.touchClaims(nodeId);
}

/** The row goes, and what is left of its tasks ends with it. */
export function remove(tx: Transaction, vm: Vm): void {
  for (const task of tx.tasksOf(vm.id)) changeIfPossible(tx, task, { kind: "already-off", cleaned: true });
  forgetVm(tx, vm.id);
  tx.put("vms", vm.id, null);
  tx.emit("vm.deleted", vm.id, vm.definition.name, "deleted");
}

/** Everything of the VM that is not finished and can be called off is. */
export function cancelAll(tx: Transaction, vmId: string, by: string, except: Task): void {
  for (const task of tx.tasksOf(vmId)) {
    if (task.id === except.id) continue;
    releaseIfDue(tx, changeIfPossible(tx, task, { kind: "cancel", by }));
  }
}

/** The unfinished start of a VM. */
export function startOf(tx: Transaction, vmId: string): Task | undefined {
  return tx.tasksOf(vmId).find(isStart);
}
