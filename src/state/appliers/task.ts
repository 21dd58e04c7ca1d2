/** Tasks: what the orchestrator sends, what workers answer, what users cancel. */
import { RoostError } from "../../base/errors.ts";
import type { TaskAnswer, TaskBegin, TaskCancel, TaskDispatch, TaskProgress } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";

export function dispatch(_tx: Transaction, _command: TaskDispatch): CommandResult {
  throw new RoostError({ kind: "unsupported", what: "task.dispatch" });
}

export function begin(_tx: Transaction, _command: TaskBegin): CommandResult {
  throw new RoostError({ kind: "unsupported", what: "task.begin" });
}

export function progress(_tx: Transaction, _command: TaskProgress): CommandResult {
  throw new RoostError({ kind: "unsupported", what: "task.progress" });
}

export function answer(_tx: Transaction, _command: TaskAnswer): CommandResult {
  throw new RoostError({ kind: "unsupported", what: "task.answer" });
}

export function cancel(_tx: Transaction, _command: TaskCancel): CommandResult {
  throw new RoostError({ kind: "unsupported", what: "task.cancel" });
}
