/** Moves of a VM that more than one command makes: losing sight of it, and what follows when its claim ends. */
import { formatGeneration } from "../../base/units.ts";
import { assert } from "../../base/assert.ts";
import { RoostError } from "../../base/errors.ts";
import { endClaim, releaseOf, type Unclaimed } from "../../model/claim.ts";
import type { Node } from "../../model/node.ts";
import { poolsOf } from "../../model/placement.ts";
import type { Proof } from "../../model/proof.ts";
import type { Vm } from "../../model/vm.ts";
import { claimEnded } from "../tasks/claim-ended.ts";
import { migrationGivenUp } from "../tasks/migration.ts";
import { change } from "../tasks/queue.ts";
import type { Transaction } from "../transaction.ts";

/** Its node does not answer: the VM may run or not. In `prolog` nothing of its generation has run yet. */
export function loseSight(tx: Transaction, vm: Vm, node: Node): Vm {
  // While it is being handed over its own state says more; what happened is seen when one of the two nodes is there.
  const handedOver = vm.state === "migrating" && vm.migration?.phase !== "incoming";
  if (vm.state === "running" || vm.state === "paused" || vm.state === "boot" || vm.state === "shutdown" || handedOver) {
    return tx.moved(vm, "unknown", `node ${node.name} is unreachable`, `node ${node.name} is unreachable`);
  }
  return vm;
}

/** From now on its source keeps it; what has arrived at the target is to be destroyed there. */
export function giveUpMigration(tx: Transaction, vm: Vm, why: string): Vm {
  const { migration } = vm;
  if (migration?.phase !== "incoming") return vm;
  tx.emit("vm.migration", vm.id, vm.definition.name, `given up${why === "" ? "" : `: ${why}`}`, migration.claim.nodeId);
  const to = tx.get("nodes", migration.claim.nodeId)?.name ?? migration.claim.nodeId;
  const reason = `not migrated to ${to}${why === "" ? "" : `: ${why}`}`;
  migrationGivenUp(tx, vm.id, reason);
  return { ...vm, reason, migration: { ...migration, phase: "aborting", why } };
}

export function withoutMigration(vm: Vm): Vm {
  const { migration: _, ...rest } = vm;
  return rest;
}

/** All but `recover` follow the holder's own report: that is the proof then. */
export type Afterwards =
  /** Run it again elsewhere: its node is gone, with proof. */
  | { to: "recover"; proof: Proof; lastHeartbeatMs: number; leaderChanged: boolean; suspectMs: number }
  /** Run it again wherever it fits, not before `retryAtMs`. */
  | { to: "restart"; why: string; retryAtMs: number; failures: number }
  /** As restart, for what is no failure; a failover that is under way stays one. */
  | { to: "wait"; why: string; retryAtMs: number }
  | { to: "stop"; why: string }
  | { to: "fail"; why: string };

/**
 * The VM without its claim. What the user wants comes first: a deleted VM goes to `epilog`, one that shall be off to
 * `stopped`, whatever `afterwards` says.
 */
export function afterRelease(tx: Transaction, vm: Vm, afterwards: Afterwards): Vm {
  const after = released(tx, vm, afterwards);
  const max = tx.settings["ha.maxFailures"];
  const proof = after.failover?.proof;
  if (afterwards.to === "recover") {
    const cause = `proof: ${proof?.kind ?? ""} of ${tx.get("nodes", afterwards.proof.nodeId)?.name ?? afterwards.proof.nodeId}`;
    claimEnded(tx, after, "its claim ended: its node is gone", cause);
  } else {
    const attempt = after.failures > 0 ? `attempt ${after.failures + 1} of ${max} after: ` : "";
    claimEnded(tx, after, afterwards.why, `${attempt}${afterwards.why}`);
  }
  return after;
}

function released(tx: Transaction, vm: Vm, afterwards: Afterwards): Vm {
  assert(vm.claim !== null, `vm ${vm.id}: no claim ends`);
  const released = endClaim(
    giveUpMigration(tx, vm, "the VM ended at its source"),
    afterwards.to === "recover" ? afterwards.proof : releaseOf(vm.claim),
  );
  if (vm.desired.deleted) return tx.moved(released, "epilog", "to be deleted");
  if (vm.desired.power === "off")
    return tx.moved({ ...released, failures: 0, retryAtMs: 0 }, "stopped", afterwards.to === "recover" ? "its node is gone" : "shut down");
  switch (afterwards.to) {
    case "recover": {
      const { proof, lastHeartbeatMs, leaderChanged, suspectMs } = afterwards;
      const failover = {
        fromNodeId: proof.nodeId,
        toNodeId: null,
        proof,
        lastHeartbeatMs,
        leaderChanged,
        suspectMs,
        proofMs: tx.atMs,
        plannedMs: null,
        startedMs: null,
        runningMs: null,
      };
      const from = tx.get("nodes", proof.nodeId)?.name ?? proof.nodeId;
      tx.emit(
        "failover.proof",
        vm.id,
        vm.definition.name,
        `${proof.kind} of ${from}, generation ${formatGeneration(vm.generation)}`,
        proof.nodeId,
      );
      const arriving = tx.get("nodes", released.migration?.claim.nodeId ?? "")?.name;
      const waits = arriving === undefined ? null : `waits for ${arriving} to show that nothing is left of what was arriving there`;
      return tx.moved({ ...released, failover, retryAtMs: 0 }, "recovering", `proof: ${proof.kind} of ${from}`, waits);
    }
    case "restart":
      return tx.moved(
        { ...released, retryAtMs: afterwards.retryAtMs, failures: afterwards.failures },
        "pending",
        afterwards.why,
        afterwards.why,
      );
    case "wait": {
      const recovers = vm.failover !== null && vm.failover.runningMs === null;
      const { why, retryAtMs } = afterwards;
      return tx.moved({ ...released, retryAtMs }, recovers ? "recovering" : "pending", why, why);
    }
    case "stop":
      return tx.moved({ ...released, desired: { ...vm.desired, power: "off" } }, "stopped", afterwards.why);
    case "fail":
      return tx.moved({ ...released, desired: { ...vm.desired, power: "off" } }, "failed", afterwards.why, afterwards.why);
  }
}

/** True if every file and disk of the VM lies in a shared pool. */
export function isRecoverable(tx: Transaction, vm: Pick<Vm, "definition">): boolean {
  return localPools(tx, vm).length === 0;
}

/** Names of the VM's pools that are local to a node. */
export function localPools(tx: Transaction, vm: Pick<Vm, "definition">): string[] {
  return poolsOf(vm.definition).filter((name) => tx.get("pools", tx.state.poolIdByName.get(name) ?? "")?.shared !== true);
}

/**
 * Deletes a VM that no node holds: at once if it never had volumes, else by the agent of the node that can reach
 * them (`epilog` on `homeNodeId`). Returns null when the row is to go now.
 */
export function beginCleaning(tx: Transaction, vm: Unclaimed): Vm | null {
  if (vm.homeNodeId === null) return null;
  const home = tx.get("nodes", vm.homeNodeId);
  // Its disks went with the node that had them.
  if (home?.state === "removed" && otherHome(tx, vm) === vm.homeNodeId) return null;
  const homeNodeId = home !== undefined && !isAway(home) ? vm.homeNodeId : otherHome(tx, vm);
  return tx.moved({ ...vm, homeNodeId }, "epilog", "to be deleted", homeNodeId === vm.homeNodeId ? null : vm.reason);
}

function isAway(node: Node): boolean {
  return node.state === "fenced" || node.state === "unreachable" || node.state === "removed";
}

/** VMs whose cleaning waits for a node that is away move to one that reaches their pools, if there is one now. */
export function rehomeCleaning(tx: Transaction): void {
  for (const vm of tx.rows("vms", (row) => row.state === "epilog" && row.claim === null)) {
    if (vm.homeNodeId === null) continue;
    const home = tx.get("nodes", vm.homeNodeId);
    const away = home === undefined || isAway(home);
    const homeNodeId = away ? otherHome(tx, vm) : vm.homeNodeId;
    if (homeNodeId === vm.homeNodeId) continue;
    tx.putVm({ ...vm, homeNodeId });
    for (const task of tx.tasksOf(vm.id))
      for (const job of task.jobs)
        if (job.name === "unconfigure" && job.state === "sent") change(tx, task, { kind: "recalled", path: job.path });
  }
}

/** A ready node that can reach all of the VM's pools; the old home where the volumes are local to it. */
function otherHome(tx: Transaction, vm: Vm): string {
  if (vm.homeNodeId === null) throw new RoostError({ kind: "internal", reason: `vm ${vm.id} has no home to clean` });
  if (!isRecoverable(tx, vm)) return vm.homeNodeId;
  const pools = poolsOf(vm.definition).map((name) => tx.state.poolIdByName.get(name));
  const reaches = (node: Node): boolean =>
    node.info !== null && pools.every((id) => node.info?.pools.some((pool) => pool.poolId === id && pool.available));
  const candidates = tx.rows("nodes", (node) => node.state === "ready" && reaches(node));
  return candidates.toSorted((a, b) => a.peerId - b.peerId)[0]?.id ?? vm.homeNodeId;
}
