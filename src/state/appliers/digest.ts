/** Comparing the replicas (STA-1): one asks, each answers for the same index, and who differs is an event. */
import { type DigestReported, differences } from "../../model/digest.ts";
import type { DigestAsk, DigestReport } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { ownNode } from "./node.ts";

/** The replica hashes its tables after this command, not here: applying stays short (src/cluster/digest.ts). */
export function ask(tx: Transaction, command: DigestAsk): CommandResult {
  tx.needCluster();
  tx.put("digests", "asked", { kind: "asked", revision: tx.index, atMs: tx.atMs, why: command.why });
  return { index: tx.index };
}

export function report(tx: Transaction, command: DigestReport): CommandResult {
  const node = ownNode(tx, command.nodeId);
  const asked = tx.get("digests", "asked");
  // A newer question has been asked meanwhile.
  if (asked?.kind !== "asked" || asked.revision !== command.index) return { ids: [] };
  const row: DigestReported = { kind: "reported", nodeId: node.id, revision: command.index, tables: command.tables };
  tx.put("digests", node.id, row);
  for (const other of tx.rows("digests")) {
    if (other.kind !== "reported" || other.revision !== asked.revision || other.nodeId === node.id) continue;
    const [first] = differences(row, other);
    if (first === undefined) continue;
    const name = tx.state.nodes.get(other.nodeId)?.name ?? other.nodeId;
    const where = first.first === "" ? "" : `, first at keys that begin with ${JSON.stringify(first.first)}`;
    tx.emit(
      "cluster.diverged",
      node.id,
      node.name,
      `table ${first.table} differs from ${name}'s at revision ${asked.revision}${where}`,
      node.id,
    );
    break;
  }
  return { ids: [node.id] };
}
