/**
 * A node's way out for good (CLU-9): first somebody says so, then Raft lets it go (src/cluster/membership.ts), then its row says
 * `removed` and stays: id and peer id are never given again, and its certificate opens no door.
 */
import { RoostError } from "../../base/errors.ts";
import { isAnswering, type Node } from "../../model/node.ts";
import type { Vm } from "../../model/vm.ts";
import type { NodeRemove, NodeRemoved } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { endClaims } from "./node-moves.ts";
import { forgetNode } from "./policy.ts";
import { remove as deleteVm } from "../tasks/effects.ts";
import { isRecoverable, rehomeCleaning } from "./vm-moves.ts";

/** VMs that a refusal names. */
const NAMED_MAX = 10;

export function remove(tx: Transaction, command: NodeRemove): CommandResult {
  const node = tx.needNode(command.nodeId);
  if (node.state === "removed" || (node.removing !== undefined && !command.dead)) return { ids: [node.id] };
  // One that a recover left out has no role either, and joined long ago.
  if (node.role === "none" && node.state === "joining") {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} has not joined yet` },
      "a join that is not confirmed is undone by itself within a minute; `roost token revoke` ends its token",
    );
  }
  const rest = tx.rows("nodes", (other) => other.id !== node.id && other.role !== "none" && other.removing === undefined);
  if (!rest.some((other) => other.state !== "removed")) {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} is the last one of the cluster` },
      "a cluster ends when its data folders are deleted",
    );
  }
  if (command.dead) checkDead(tx, node, command);
  else checkAlive(tx, node);
  if (command.proof !== null) {
    const times = { lastHeartbeatMs: node.stateSinceMs, leaderChanged: false, suspectMs: node.stateSinceMs };
    endClaims(tx, node, command.proof, times, () => true);
  }
  const { actor } = tx.envelope;
  const row = tx.needNode(node.id);
  const why = `being removed by ${actor}`;
  const state = isAnswering(row) ? "disabled" : row.state;
  tx.putNode({ ...row, state, stateWhy: why, disabled: true, removing: { atMs: tx.atMs, actor } });
  tx.emit("node.state", node.id, node.name, why);
  return { ids: [node.id] };
}

/** Nothing may be lost, and nothing run on unseen. */
function checkAlive(tx: Transaction, node: Node): void {
  if (node.state === "unreachable" || node.state === "fenced") {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} does not answer` },
      "wait for it, or remove it as dead with --dead",
    );
  }
  const running = tx.vmsOn(node.id);
  const bound = boundTo(tx, node).filter((vm) => vm.claim === null);
  if (running.length + bound.length === 0) return;
  const parts = [
    ...(running.length > 0 ? [`holds ${names(running)}`] : []),
    ...(bound.length > 0 ? [`has the only disks of ${names(bound)}`] : []),
  ];
  throw new RoostError(
    { kind: "precondition", reason: `node ${node.name} ${parts.join(" and ")}` },
    "`roost node disable` keeps new ones away; shut those down that can run elsewhere, delete those that cannot",
  );
}

/** It must be certain that nothing runs there: its claims are over already, or an operator vouches for it (never-twice.md). */
function checkDead(tx: Transaction, node: Node, command: NodeRemove): void {
  if (node.state !== "unreachable" && node.state !== "fenced") {
    throw new RoostError({ kind: "precondition", reason: `node ${node.name} is alive` }, "remove it without --dead");
  }
  if (command.proof !== null) return;
  refuseUnaccounted(node);
  const claimed = tx.vmsOn(node.id);
  if (claimed.length > 0) {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} may still run ${names(claimed)}` },
      "wait until their claims have expired (`roost ha show`), or make sure that the machine is off and say so with --confirmed",
    );
  }
  const lost = boundTo(tx, node);
  if (lost.length > 0) {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} has the only disks of ${names(lost)}` },
      "--confirmed gives them up with the node; the VMs can only be deleted then",
    );
  }
}

/** What a node runs that was left out by a recover this state does not know: that it holds no claims here says nothing (never-twice.md). */
function refuseUnaccounted(node: Node): void {
  if (node.leftOut === undefined) return;
  throw new RoostError(
    {
      kind: "precondition",
      reason: `node ${node.name} was left out in generation ${node.leftOut}: it may run what this state does not know`,
    },
    "let it rejoin (roost cluster rejoin), or make sure that the machine is off and say so: --dead --confirmed",
  );
}

/** VMs whose disks lie there and nowhere else. */
function boundTo(tx: Transaction, node: Node): Vm[] {
  return tx.rows("vms", (vm) => vm.homeNodeId === node.id && vm.state !== "deleted" && !isRecoverable(tx, vm));
}

function names(vms: readonly Vm[]): string {
  const shown = vms
    .slice(0, NAMED_MAX)
    .map((vm) => vm.definition.name)
    .join(", ");
  const more = vms.length - NAMED_MAX;
  return more > 0 ? `${shown} and ${more} more VMs` : shown;
}

/** The leader's last word, once Raft counts the node no more. */
export function removed(tx: Transaction, command: NodeRemoved): CommandResult {
  const node = tx.needNode(command.nodeId);
  if (node.state === "removed") return { ids: [node.id] };
  if (node.removing === undefined) throw new RoostError({ kind: "precondition", reason: `nobody has asked to remove node ${node.name}` });
  if (node.role === "voter" || node.role === "learner")
    throw new RoostError({ kind: "precondition", reason: `node ${node.name} is still a Raft peer` });
  if (tx.vmsOn(node.id).length > 0) throw new RoostError({ kind: "precondition", reason: `node ${node.name} holds claims` });
  // A recover may have come after it was asked for.
  refuseUnaccounted(node);
  const why = `removed by ${node.removing.actor}`;
  tx.putNode({ ...node, state: "removed", stateSinceMs: tx.atMs, stateWhy: why, role: "none", claimRevision: tx.index });
  tx.emit("node.state", node.id, node.name, `${node.state} → removed: ${why}`);
  forgetNode(tx, node.id);
  if (tx.get("fencing", node.id) !== undefined) tx.put("fencing", node.id, null);
  rehomeCleaning(tx);
  // What it alone could clean went with it.
  for (const vm of tx.rows("vms", (row) => row.state === "epilog" && row.claim === null && row.homeNodeId === node.id)) deleteVm(tx, vm);
  return { ids: [node.id] };
}
