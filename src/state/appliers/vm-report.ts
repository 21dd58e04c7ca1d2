/** What an agent's observation makes of a VM. */
import { isSent } from "../../model/task.ts";
import type { Proof } from "../../model/proof.ts";
import type { Claim, Vm } from "../../model/vm.ts";
import type { VmObservation } from "../commands.ts";
import type { Transaction } from "../transaction.ts";
import { migrationArrived } from "../tasks/migration.ts";
import { handedOver } from "./vm-migration.ts";
import { afterRelease, giveUpMigration } from "./vm-moves.ts";

/** A VM that ran at least this long before it died has run well: failures count from one again. */
const RAN_WELL_MS = 60_000;

const HELD_FIRST_MS = 1_000;
const HELD_LAST_MS = 5_000;

const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_LAST_MS = 60_000;

/** @param claim the VM's claim; the caller has checked that the observation is of its generation and node. */
export function observe(tx: Transaction, vm: Vm, claim: Claim, observed: Exclude<VmObservation, { kind: "incoming-gone" }>): Vm {
  switch (observed.kind) {
    case "running":
      migrationArrived(tx, vm);
      return seenRunning(tx, vm);
    case "paused":
      migrationArrived(tx, vm);
      return vm.state === "running" || vm.state === "unknown" ? tx.moved(vm, "paused", "its CPUs are stopped") : vm;
    case "gone":
      return gone(tx, vm, claim, observed);
    case "handed-over":
      return handedOver(tx, vm, claim, observed.generation);
    case "not-migrated":
      return giveUpMigration(tx, vm, observed.detail);
  }
}

/** It was out of sight, or somebody let its CPUs go on. Starts and ends that are under way are told by their jobs' answers. */
function seenRunning(tx: Transaction, vm: Vm): Vm {
  if (vm.state === "paused") return tx.moved(vm, "running", "its CPUs go on");
  // Where it stays, or where it has arrived.
  if (vm.state === "migrating" && vm.migration?.phase !== "incoming") return landed(tx, vm);
  if (vm.state !== "unknown") return vm;
  const sent = tx.tasksOf(vm.id)[0]?.jobs.find((job) => isSent(job) || (job.state === "waiting" && job.attempt > 0))?.name;
  if (sent === "power-on") return vm;
  const ending = sent === "shutdown" || sent === "wait-for-power-off" || sent === "power-off";
  return tx.moved(vm, ending ? "shutdown" : "running", "seen again");
}

function landed(tx: Transaction, vm: Vm): Vm {
  // Back from a migration that was given up: why stays to be seen.
  return tx.moved(vm, "running", vm.reason ?? "runs", vm.reason);
}

export function started(tx: Transaction, vm: Vm): Vm {
  if (vm.failover === null || vm.failover.plannedMs === null || vm.failover.startedMs !== null) return vm;
  tx.emit("failover.started", vm.id, vm.definition.name, "its domain is being started", vm.claim?.nodeId ?? "");
  return { ...vm, failover: { ...vm.failover, startedMs: tx.atMs } };
}

export function running(tx: Transaction, vm: Vm, claim: Claim): Vm {
  const { heldTries: _, ...row } = vm;
  const moved = tx.moved(started(tx, row), "running", vm.state === "unknown" ? "seen again" : "runs");
  const { failover } = moved;
  if (failover === null || failover.toNodeId !== claim.nodeId || failover.runningMs !== null) return moved;
  tx.emit("failover.running", vm.id, vm.definition.name, `${tx.atMs - failover.lastHeartbeatMs} ms after the last heartbeat`, claim.nodeId);
  return { ...moved, failover: { ...failover, runningMs: tx.atMs } };
}

function gone(tx: Transaction, vm: Vm, claim: Claim, observed: VmObservation & { kind: "gone" }): Vm {
  const detail = observed.detail === "" ? "" : `: ${observed.detail}`;
  // From the history: its last state may be `unknown` or `shutdown`, and it ran before all the same.
  const ranSinceMs = vm.history.findLast((entry) => entry.state === "running" && entry.generation === claim.generation)?.atMs;
  const failed = ranSinceMs !== undefined && tx.atMs - ranSinceMs > RAN_WELL_MS ? 1 : vm.failures + 1;
  switch (observed.cause) {
    case "shutdown":
      if (vm.definition.restart === "always")
        return afterRelease(tx, vm, { to: "restart", why: "the guest shut down", retryAtMs: tx.atMs, failures: 0 });
      return afterRelease(tx, vm, { to: "stop", why: "the guest shut down" });
    case "fenced": {
      const proof: Proof = { kind: "release", nodeId: claim.nodeId, generation: claim.generation };
      return afterRelease(tx, vm, { to: "recover", proof, lastHeartbeatMs: tx.atMs, leaderChanged: false, suspectMs: tx.atMs });
    }
    case "destroyed":
    case "crashed":
      if (vm.definition.restart === "never") return afterRelease(tx, vm, { to: "stop", why: `${observed.cause}${detail}` });
      return again(tx, vm, failed, `${observed.cause}${detail}`);
    case "failed":
    case "never-started":
      return again(tx, vm, failed, `could not start${detail}`);
  }
}

/** Back to `pending` with back-off, or given up (HA-12). The first retry after a good run is at once. */
export function again(tx: Transaction, vm: Vm, failures: number, why: string): Vm {
  if (failures >= tx.settings["ha.maxFailures"])
    return afterRelease(tx, vm, { to: "fail", why: `${why}; given up after ${failures} failures` });
  const waitMs = failures <= 1 ? 0 : Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** (failures - 2));
  return afterRelease(tx, vm, { to: "restart", why, retryAtMs: tx.atMs + waitMs, failures });
}

/** Another node has its disk open: no fault of the VM, so it is only waited (HA-6). */
export function held(tx: Transaction, vm: Vm, why: string): Vm {
  const tries = (vm.heldTries ?? 0) + 1;
  const retryAtMs = tx.atMs + Math.min(HELD_LAST_MS, HELD_FIRST_MS * tries);
  return afterRelease(tx, { ...vm, heldTries: tries }, { to: "wait", why, retryAtMs });
}
