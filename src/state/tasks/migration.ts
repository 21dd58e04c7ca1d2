/** The task of a live migration: what is decided in the VM's row is noted in it, and nothing waits for it longer than that. */
import { jobAt, migrationOf } from "../../model/task-flow.ts";
import { STEPS } from "../../model/task-steps.ts";
import type { Job, Task } from "../../model/task.ts";
import type { Claim, Vm } from "../../model/vm.ts";
import type { Transaction } from "../transaction.ts";
import { change, changeIfPossible, enqueue } from "./queue.ts";

/** The unfinished migration of a VM. At most one: the row has place for one. */
export function migrationTask(tx: Transaction, vmId: string): Task | undefined {
  return tx.tasksOf(vmId).find((task) => task.action === "migrate");
}

/** It begins with the row, even if an earlier task of the VM is not finished: its node does that task's job before it lets the guest go. */
export function migrationBegun(tx: Transaction, vm: Vm, from: Claim, to: Claim, cause: string): Task {
  const task = enqueue(tx, { action: "migrate", vm, cause, targetNodeId: to.nodeId });
  const { nodeId, generation } = from;
  return change(tx, task, { kind: "sent", path: "0", attempt: 1, undo: false, nodeId, generation, slot: null });
}

/** From now on it is the target's that lets the guest go on. */
export function migrationHandedOver(tx: Transaction, vmId: string, from: Claim, to: Claim): void {
  const task = migrationTask(tx, vmId);
  if (task === undefined) return;
  const { nodeId, generation } = to;
  const named = (id: string): string => tx.get("nodes", id)?.name ?? id;
  const detail = `by ${named(from.nodeId)} to ${named(nodeId)}, which lets it go on`;
  change(tx, task, { kind: "handed-over", nodeId, generation, step: { atMs: tx.atMs, name: STEPS.handedOver, detail } });
}

/** Its new node was heard of it. */
export function migrationArrived(tx: Transaction, vm: Vm): void {
  const [task, job] = sentOf(tx, vm.id);
  if (task === undefined || vm.migration !== undefined) return;
  change(tx, task, { kind: "answered", path: job.path, attempt: job.attempt, outcome: { ok: true }, steps: [] });
}

/** The VM goes on where it was. Whoever called it off has ended the task before. */
export function migrationGivenUp(tx: Transaction, vmId: string, message: string): void {
  const [task, job] = sentOf(tx, vmId);
  if (task === undefined) return;
  const outcome = { ok: false as const, error: { code: "not-migrated", message, hint: "" } };
  change(tx, task, { kind: "answered", path: job.path, attempt: job.attempt, outcome, steps: [] });
}

export function migrationCancelled(tx: Transaction, vmId: string): void {
  const task = migrationTask(tx, vmId);
  if (task !== undefined) changeIfPossible(tx, task, { kind: "cancel", by: tx.envelope.actor });
}

function sentOf(tx: Transaction, vmId: string): [Task, Job] | [undefined, undefined] {
  const task = migrationTask(tx, vmId);
  const job = task === undefined ? undefined : jobAt(task, migrationOf(task)?.path ?? "");
  return task === undefined || job?.state !== "sent" ? [undefined, undefined] : [task, job];
}
