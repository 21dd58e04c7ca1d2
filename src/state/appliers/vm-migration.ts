/**
 * Live migration in the replicated state (HA-8). Two words decide it, and the log orders them: the source's `handed-over` moves the claim,
 * anybody's `not-migrated` gives the migration up. Whichever comes first makes the other void, so never do both sides believe that
 * they may run the VM (docs/design/014-live-migration.md).
 */
import { formatGeneration } from "../../base/units.ts";
import { RoostError } from "../../base/errors.ts";
import { GENERATIONS_PER_CLUSTER_GENERATION } from "../../model/cluster.ts";
import { leftOutNodes } from "../../model/node.ts";
import { emigrationBlocker, guestBlocker } from "../../model/migration.ts";
import { checkPlaced } from "../../model/placement.ts";
import type { Proof } from "../../model/proof.ts";
import type { Claim, Migration, Vm } from "../../model/vm.ts";
import type { VmMigrate, VmMigrateAbort, VmObservation } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import { JOBS } from "../../model/task-definitions.ts";
import { isSent, type TaskError } from "../../model/task.ts";
import { change } from "../tasks/queue.ts";
import { migrationBegun, migrationCancelled, migrationHandedOver, migrationTask } from "../tasks/migration.ts";
import type { Transaction } from "../transaction.ts";
import { giveUpMigration, withoutMigration } from "./vm-moves.ts";

export function migrate(tx: Transaction, command: VmMigrate): CommandResult {
  const vm = tx.needVm(command.vmId);
  const target = tx.needNode(command.nodeId);
  // Asked again for what is under way or done: a repeat must not fail.
  if (vm.claim?.nodeId === target.id) return under(tx, vm);
  if (vm.migration?.phase === "incoming" && vm.migration.claim.nodeId === target.id) return under(tx, vm);
  const unknown = leftOutNodes(tx.state);
  if (unknown.length > 0) {
    throw new RoostError(
      { kind: "precondition", reason: `nothing moves before it is known what runs on ${unknown.map(({ name }) => name).join(", ")}` },
      "let each rejoin (roost cluster rejoin), or confirm that it is off (roost node fence)",
    );
  }
  const blocker = emigrationBlocker(tx.state, vm);
  if (blocker !== null || vm.claim === null) throw new RoostError({ kind: "precondition", reason: blocker?.detail ?? "" });
  if (vm.claim.generation !== command.generation)
    throw new RoostError({ kind: "conflict", reason: `vm ${vm.definition.name} was placed anew since this was decided` });
  const { cpus } = command;
  const free: Vm = { ...vm, desired: { ...vm.desired, nodeId: null } };
  const refusal = checkPlaced(tx.state, free, target, { cpus }, { usage: tx.state.usage }) ?? guestBlocker(tx.state, vm, target);
  if (refusal !== null) throw new RoostError({ kind: "precondition", reason: refusal.detail });
  const floor = tx.needCluster().generation * GENERATIONS_PER_CLUSTER_GENERATION;
  const generation = Math.max(vm.generation, floor) + 1;
  const claim: Claim = {
    nodeId: target.id,
    generation,
    deadline: vm.underHa && vm.definition.ha.onQuorumLoss === "stop",
    sinceMs: tx.atMs,
    ...(cpus === undefined ? {} : { cpus }),
  };
  const from = tx.get("nodes", vm.claim.nodeId)?.name ?? vm.claim.nodeId;
  const why = command.why === "" ? `by ${tx.envelope.actor}` : command.why;
  tx.emit(
    "vm.migration",
    vm.id,
    vm.definition.name,
    `from ${from} to ${target.name}, generation ${formatGeneration(generation)}`,
    target.id,
  );
  tx.putVm(
    tx.moved({ ...vm, generation, migration: { phase: "incoming", claim, why: null } }, "migrating", `live to ${target.name}, ${why}`),
  );
  tx.touchClaims(target.id);
  const task = migrationBegun(tx, vm, vm.claim, claim, command.why === "" ? "asked" : command.why);
  return { ids: [vm.id], taskIds: [task.id] };
}

function under(tx: Transaction, vm: Vm): CommandResult {
  const task = migrationTask(tx, vm.id);
  return { ids: [vm.id], taskIds: task === undefined ? [] : [task.id] };
}

export function abort(tx: Transaction, command: VmMigrateAbort): CommandResult {
  const vm = tx.needVm(command.vmId);
  const { taskIds = [] } = under(tx, vm);
  if (vm.migration?.phase === "incoming") callOff(tx, vm, command.why);
  return { ids: [vm.id], taskIds };
}

/** Somebody no longer wants it; as long as it is not handed over. */
export function callOff(tx: Transaction, vm: Vm, why: string): void {
  migrationCancelled(tx, vm.id);
  tx.putVm(giveUpMigration(tx, vm, why));
}

/** The source's word: the claim is the target's from now on. @param claim the source's; the caller has checked that it speaks for it. */
export function handedOver(tx: Transaction, vm: Vm, claim: Claim, generation: number): Vm {
  const { migration } = vm;
  if (migration?.phase !== "incoming" || migration.claim.generation !== generation) {
    throw new RoostError({ kind: "precondition", reason: `vm ${vm.definition.name}: this migration was given up before` });
  }
  const target = migration.claim.nodeId;
  const name = tx.get("nodes", target)?.name ?? target;
  tx.emit("vm.migration", vm.id, vm.definition.name, `handed over, goes on on ${name}`, target);
  tx.touchClaims(claim.nodeId);
  tx.touchClaims(target);
  migrationHandedOver(tx, vm.id, claim, migration.claim);
  // What the source was told to do is the target's to do. What cannot be repeated ends here: the source may die before it says so, and
  // nothing that comes after it in the VM's queue would ever have its turn.
  const error: TaskError = { code: "lost", message: "the VM moved to another node before it was done", hint: "ask again" };
  for (const task of tx.tasksOf(vm.id)) {
    for (const job of task.jobs) {
      if (!isSent(job) || job.nodeId !== claim.nodeId) continue;
      if (JOBS[job.name].repeatable) change(tx, task, { kind: "recalled", path: job.path });
      else change(tx, task, { kind: "claim-ended", again: false, error });
    }
  }
  // Still migrating: it stands still until the target says that it runs.
  return { ...withoutMigration(vm), claim: { ...migration.claim, sinceMs: tx.atMs }, homeNodeId: target, reason: null };
}

/** What the target says of what arrives. */
export function observeIncoming(tx: Transaction, vm: Vm, migration: Migration, observed: VmObservation): Vm {
  switch (observed.kind) {
    case "not-migrated":
      return giveUpMigration(tx, vm, observed.detail);
    case "incoming-gone": {
      const { nodeId, generation } = migration.claim;
      tx.touchClaims(nodeId);
      return endIncoming(tx, giveUpMigration(tx, vm, observed.detail), { kind: "release", nodeId, generation });
    }
    default:
      throw new RoostError({
        kind: "precondition",
        reason: `vm ${vm.definition.name}: ${observed.kind} of what is still arriving, generation ${formatGeneration(migration.claim.generation)}`,
      });
  }
}

/** Nothing of what was arriving runs or will: a VM that lost its source, too, may be placed again, by both proofs. */
export function endIncoming(tx: Transaction, vm: Vm, proof: Proof): Vm {
  const ended = withoutMigration(giveUpMigration(tx, vm, `${proof.kind} of its target`));
  if (ended.state !== "recovering" || ended.failover === null) return ended;
  return { ...ended, reason: null, failover: { ...ended.failover, incomingProof: proof } };
}
