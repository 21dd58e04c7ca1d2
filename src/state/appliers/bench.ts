/** roost.v1.Bench's one write. */
import { RoostError } from "../../base/errors.ts";
import type { BenchPut } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";

export function put(tx: Transaction, command: BenchPut): CommandResult {
  if (tx.settings["bench.enabled"] !== "true") {
    throw new RoostError({ kind: "precondition", reason: "roost.v1.Bench is switched off" }, "roost settings set bench.enabled true");
  }
  tx.put("bench", command.key, { value: command.value, index: tx.index });
  return { index: tx.index };
}
