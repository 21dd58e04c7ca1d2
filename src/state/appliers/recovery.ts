/**
 * A cluster that goes on from one replica's state: after lost quorum, or from a backup. Applied offline, once, by the node that
 * goes on (src/offline); everybody else gets its result with the checkpoint. What the state says of the other nodes may be out of
 * date, and they may still run: each is `leftOut` until its own hello or somebody's word accounts for it, and nothing is placed
 * before (docs/design/007-state-guarantees.md).
 */
import { invalid, RoostError } from "../../base/errors.ts";
import type { ClusterRecover } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { noteLife } from "./fencing.ts";
import { fence, newNode } from "./node.ts";
import { loseSight } from "./vm-moves.ts";

/** So that neither revisions nor VM generations, which it is the upper part of, leave the safe integers. */
const GENERATION_MAX = 4_096;

export function recover(tx: Transaction, command: ClusterRecover): CommandResult {
  const cluster = tx.needCluster();
  const { keepNodeId, node: joining, generation, off, why } = command;
  if (generation <= cluster.generation)
    throw new RoostError({
      kind: "conflict",
      reason: `the cluster is in generation ${cluster.generation} already, not below ${generation}`,
    });
  if (!Number.isSafeInteger(generation) || generation > GENERATION_MAX) throw invalid("generation", `expected at most ${GENERATION_MAX}`);
  const isNew = joining !== null && !tx.state.nodes.has(joining.id);
  if (isNew && tx.state.nodeIdByName.has(joining.name)) {
    throw new RoostError(
      { kind: "exists", what: "node", name: joining.name },
      `on that very host go on as it: --as ${joining.name}; else choose another --name`,
    );
  }
  tx.put("cluster", "self", { ...cluster, generation, nextPeerId: cluster.nextPeerId + (isNew ? 1 : 0) });
  for (const node of tx.rows("nodes")) {
    if (node.state === "removed") continue;
    if (node.id === keepNodeId) {
      tx.putNode({
        ...node,
        ...(joining === null ? {} : { apiAddress: joining.apiAddress, peerAddress: joining.peerAddress }),
        role: "voter",
        parkedMs: 0,
        claimRevision: tx.index,
      });
      continue;
    }
    const reason = `left out by ${why}, generation ${generation}`;
    if (node.state !== "unreachable") tx.emit("node.state", node.id, node.name, `${node.state} → unreachable: ${reason}`, node.id);
    // Its keeper may know a claim set of those of before; the first acknowledgement here replaces it (never-twice.md, rule 8).
    const ours = { claimRevision: tx.index, leftOut: generation, parkedMs: 0 };
    tx.putNode({ ...node, ...ours, state: "unreachable", stateSinceMs: tx.atMs, stateWhy: reason, role: "none" });
    for (const vm of tx.vmsOn(node.id)) if (vm.claim?.nodeId === node.id) tx.putVm(loseSight(tx, vm, node));
    if (off.includes(node.id)) {
      fence(tx, {
        type: "node.fence",
        nodeId: node.id,
        proof: { kind: "operator", nodeId: node.id, user: tx.envelope.actor.replace(/^user:/, "") },
      });
    }
  }
  // Nobody is at it any more, and what was intended was for another cluster than this.
  for (const { nodeId } of tx.rows("fencing")) noteLife(tx, nodeId, `the cluster went on by ${why}`);
  if (isNew) tx.putNode({ ...newNode(tx, joining, cluster.nextPeerId, null), role: "voter" });
  tx.emit("cluster.recovered", cluster.id, cluster.name, `generation ${cluster.generation} → ${generation}: ${why}`, keepNodeId);
  return { ids: [keepNodeId], peerId: tx.needNode(keepNodeId).peerId };
}
