/** Moves of a node that more than one command makes: another state, and the end of its claims. */
import type { Node, NodeState } from "../../model/node.ts";
import type { Proof } from "../../model/proof.ts";
import type { Transaction } from "../transaction.ts";
import { endIncoming } from "./vm-migration.ts";
import { afterRelease, rehomeCleaning } from "./vm-moves.ts";

export function moved(tx: Transaction, node: Node, to: NodeState, why: string): Node {
  if (node.state === to) return { ...node, stateWhy: why };
  tx.emit("node.state", node.id, node.name, `${node.state} → ${to}: ${why}`);
  return { ...node, state: to, stateSinceMs: tx.atMs, stateWhy: why };
}

/** By a proof that covers the node; the VMs of those claims are free to be placed again. */
export function endClaims(
  tx: Transaction,
  node: Node,
  proof: Proof,
  times: { lastHeartbeatMs: number; leaderChanged: boolean; suspectMs: number },
  covers: (claim: { deadline: boolean }) => boolean,
): void {
  const why = proof.kind === "expiry" ? `expired: ${proof.sinceAckMs} ms since the last acknowledgement` : `fenced by ${proof.kind}`;
  const { leftOut: _, ...known } = node;
  tx.putNode({ ...moved(tx, known, "fenced", why), claimRevision: tx.index });
  for (const vm of tx.vmsOn(node.id)) {
    if (vm.claim?.nodeId === node.id && covers(vm.claim)) tx.putVm(afterRelease(tx, vm, { to: "recover", proof, ...times }));
    if (vm.migration?.claim.nodeId === node.id && covers(vm.migration.claim)) tx.putVm(endIncoming(tx, vm, proof));
  }
  rehomeCleaning(tx);
}
