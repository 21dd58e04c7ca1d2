/** What the end of a VM's claim means for its tasks, whatever ended it: an answer, a report, a proof. */
import type { TaskError } from "../../model/task.ts";
import { isStart, placeOf } from "../../model/task-flow.ts";
import type { Vm } from "../../model/vm.ts";
import type { Transaction } from "../transaction.ts";
import { change, enqueue } from "./queue.ts";

/**
 * @param after the VM without its claim.
 * @param cause of the start that follows, if it is to run again.
 */
export function claimEnded(tx: Transaction, after: Vm, why: string, cause: string): void {
  const again = after.state === "pending" || after.state === "recovering";
  const error: TaskError = { code: "lost", message: why, hint: "" };
  for (const task of tx.tasksOf(after.id)) {
    if (isStart(task) && placeOf(task)?.state === "waiting") continue;
    change(tx, task, { kind: "claim-ended", again, error });
  }
  if (again && !tx.tasksOf(after.id).some(isStart))
    enqueue(tx, { action: after.state === "recovering" ? "recover" : "deploy", vm: after, cause });
}
