/** VMs: what users ask, what schedulers decide, what agents report. */
import { formatGeneration } from "../../base/units.ts";
import { invalid, RoostError } from "../../base/errors.ts";
import { legalActions } from "../../model/lifecycle.ts";
import { giveClaim, isUnclaimed } from "../../model/claim.ts";
import { GENERATIONS_PER_CLUSTER_GENERATION } from "../../model/cluster.ts";
import { newVm } from "../../model/new-vm.ts";
import { leftOutNodes } from "../../model/node.ts";
import { checkPlaced, checkPlacement } from "../../model/placement.ts";
import type { Reservation } from "../../model/capacity.ts";
import { numaMemoryOf } from "../../model/pinning.ts";
import type { Task } from "../../model/task.ts";
import type { VmAction } from "../../model/lifecycle.ts";
import type { Claim, Vm } from "../../model/vm.ts";
import type { VmCreate, VmDesire, VmPlace, VmRehome, VmReport, VmRetry } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { cancelAll, remove, startOf } from "../tasks/effects.ts";
import { change, enqueue } from "../tasks/queue.ts";
import { requirePresentRun } from "./node.ts";
import { decisionsWith } from "./vm-decisions.ts";
import { beginCleaning, localPools } from "./vm-moves.ts";
import { observeIncoming } from "./vm-migration.ts";
import { observe } from "./vm-report.ts";

const ENDS: ReadonlySet<VmAction> = new Set<VmAction>(["shutdown", "force-shutdown", "delete"]);

export function create(tx: Transaction, command: VmCreate): CommandResult {
  const cluster = tx.needCluster();
  const names = new Set<string>();
  let number = cluster.nextVmNumber;
  const taskIds: string[] = [];
  for (const { id, definition, hold, nodeId, power } of command.vms) {
    if (tx.get("vms", id) !== undefined) throw new RoostError({ kind: "exists", what: "vm", name: id });
    if (tx.state.vmIdByName.has(definition.name) || names.has(definition.name))
      throw new RoostError({ kind: "exists", what: "vm", name: definition.name });
    if (nodeId !== null) tx.needNode(nodeId);
    names.add(definition.name);
    const local = localPools(tx, { definition });
    const missing = local.find((name) => !tx.state.poolIdByName.has(name));
    if (missing !== undefined) throw invalid("disks", `no pool is named ${JSON.stringify(missing)}`, "`roost pool list` shows the pools");
    const by = { cluster, atMs: tx.atMs, index: tx.index, actor: tx.envelope.actor };
    const row = newVm({ id, number: number++, definition, hold, nodeId, power }, local, by);
    tx.putVm(row);
    tx.emit("vm.created", id, definition.name, `created, ${row.state}`);
    if (power === "on") taskIds.push(enqueue(tx, { action: "deploy", vm: row, cause: "asked" }).id);
  }
  tx.put("cluster", "self", { ...tx.needCluster(), nextVmNumber: number });
  return { ids: command.vms.map((vm) => vm.id), taskIds };
}

export function desire(tx: Transaction, command: VmDesire): CommandResult {
  const vm = tx.needVm(command.vmId);
  const legal = legalActions(vm.state);
  if (!legal.includes(command.action)) {
    // Asking again for what holds or is under way is no error: a script's repeat must not fail.
    if (isDoneAlready(vm, command.action)) return { ids: [vm.id], taskIds: underWay(tx, vm) };
    throw new RoostError({
      kind: "precondition",
      reason: `vm ${vm.definition.name} is ${vm.state}: cannot ${command.action}`,
      legal: [...legal],
    });
  }
  if (vm.desired.deleted && command.action === "delete") return { ids: [vm.id], taskIds: underWay(tx, vm) };
  if (vm.desired.deleted) throw new RoostError({ kind: "precondition", reason: `vm ${vm.definition.name} is being deleted`, legal: [] });
  if (vm.desired.power === "off" && vm.claim !== null && !ENDS.has(command.action))
    throw new RoostError({ kind: "precondition", reason: `vm ${vm.definition.name} is being shut down`, legal: [...ENDS] });
  if (command.nodeId !== null) tx.needNode(command.nodeId);
  tx.emit("vm.desired", vm.id, vm.definition.name, command.action, vm.claim?.nodeId ?? "");
  const task = asked(tx, vm, command);
  return { ids: [vm.id], taskIds: [task.id] };
}

/** @returns the task that does it. */
function asked(tx: Transaction, vm: Vm, { action, nodeId }: VmDesire): Task {
  const who = tx.envelope.actor;
  const same = tx.tasksOf(vm.id).at(-1);
  switch (action) {
    case "start":
    case "deploy": {
      const desired = { ...vm.desired, power: "on" as const, hold: false, nodeId };
      const row = tx.moved({ ...vm, desired, failures: 0, retryAtMs: 0, pendingReasons: [] }, "pending", `${action} by ${who}`);
      tx.putVm(row);
      return startOf(tx, vm.id) ?? enqueue(tx, { action: "deploy", vm: row, cause: `${action} asked` });
    }
    case "shutdown":
    case "force-shutdown": {
      if (same?.action === action && same.cancel === null) return same;
      const row: Vm = { ...vm, desired: { ...vm.desired, power: "off", how: action === "shutdown" ? "graceful" : "force" } };
      tx.putVm(row);
      const task = enqueue(tx, { action, vm: row, cause: "asked" });
      if (action === "shutdown" && vm.claim !== null) return task;
      cancelAll(tx, vm.id, `${task.id} (${action} by ${who})`, task);
      if (vm.claim !== null) return task;
      tx.putVm(tx.moved({ ...row, pendingReasons: [] }, "stopped", `${action} by ${who}`));
      return change(tx, task, { kind: "already-off", cleaned: false });
    }
    case "delete": {
      const row: Vm = { ...vm, desired: { ...vm.desired, power: "off", how: "force", deleted: true } };
      tx.putVm(row);
      const task = enqueue(tx, { action, vm: row, cause: "asked" });
      cancelAll(tx, vm.id, `${task.id} (${action} by ${who})`, task);
      if (!isUnclaimed(row)) return task;
      const cleaning = beginCleaning(tx, row);
      if (cleaning === null) {
        remove(tx, row);
        return task;
      }
      tx.putVm(cleaning);
      return change(tx, task, { kind: "already-off", cleaned: false });
    }
    case "pause":
    case "unpause":
      if (same?.action === action && same.cancel === null) return same;
      return enqueue(tx, { action, vm, cause: "asked" });
    case "restart":
    case "force-restart":
      return enqueue(tx, { action, vm, cause: "asked" });
  }
}

export function place(tx: Transaction, command: VmPlace): CommandResult {
  const placed: string[] = [];
  const refused: NonNullable<CommandResult["refused"]> = [];
  const inFlight = new Map<string, Reservation>();
  const touched = new Set<string>();
  const decided = decisionsWith(tx, command.certificate);
  const unknown = leftOutNodes(tx.state);
  if (command.placements.length > 0 && unknown.length > 0) {
    throw new RoostError(
      { kind: "precondition", reason: `nothing is placed before it is known what runs on ${unknown.map(({ name }) => name).join(", ")}` },
      "let each rejoin (roost cluster rejoin), or confirm that it is off (roost node fence)",
    );
  }
  const floor = tx.needCluster().generation * GENERATIONS_PER_CLUSTER_GENERATION;
  for (const { vmId, nodeId, generation, cpus, unpinned } of command.placements) {
    const vm = tx.get("vms", vmId);
    const node = tx.get("nodes", nodeId);
    const waits =
      vm !== undefined &&
      (vm.state === "pending" || vm.state === "recovering") &&
      vm.claim === null &&
      vm.migration === undefined &&
      vm.desired.power === "on";
    if (!waits || vm.generation !== generation || !isUnclaimed(vm)) {
      refused.push({ vmId, code: "not-waiting", detail: "the VM changed since the plan was made" });
      continue;
    }
    if (node === undefined) {
      refused.push({ vmId, code: "node-unknown", detail: "the node is gone" });
      continue;
    }
    const refusal = checkPlaced(tx.state, vm, node, { cpus, unpinned }, { usage: tx.state.usage, inFlight });
    if (refusal !== null) {
      refused.push({ vmId, code: refusal.code, detail: refusal.detail });
      continue;
    }
    const held = inFlight.get(nodeId) ?? { memoryMib: 0, cpus: 0 };
    inFlight.set(nodeId, {
      memoryMib: held.memoryMib + vm.definition.memoryMib,
      cpus: held.cpus + vm.definition.cpus,
      pinned: [...(held.pinned ?? []), ...(cpus === undefined ? [] : [{ cpus, memoryMib: numaMemoryOf(vm) }])],
    });
    touched.add(nodeId);
    placed.push(vmId);
    // Above all that a generation of before may have given without this state knowing.
    const next = Math.max(vm.generation, floor) + 1;
    const claim: Claim = {
      nodeId,
      generation: next,
      deadline: vm.underHa && vm.definition.ha.onQuorumLoss === "stop",
      sinceMs: tx.atMs,
      ...(cpus === undefined ? {} : { cpus }),
      ...(unpinned === undefined ? {} : { unpinned }),
    };
    const failover =
      vm.state === "recovering" && vm.failover !== null ? { ...vm.failover, toNodeId: nodeId, plannedMs: tx.atMs } : vm.failover;
    // A node asked for by name is asked for once: later the VM must be free to be recovered elsewhere.
    const desired = { ...vm.desired, nodeId: null };
    const row = giveClaim({ ...vm, ...decided(vm), desired, homeNodeId: nodeId, pendingReasons: [], failover }, claim);
    if (vm.state === "recovering")
      tx.emit("failover.planned", vm.id, vm.definition.name, `to ${node.name}, generation ${formatGeneration(next)}`, nodeId);
    tx.emit("vm.placed", vm.id, vm.definition.name, `on ${node.name}, generation ${formatGeneration(next)}`, nodeId);
    tx.putVm(tx.moved(row, "prolog", `placed on ${node.name}`));
    // Whatever waits has a start; a cluster written as a file has no tasks.
    const start = startOf(tx, vmId) ?? enqueue(tx, { action: "deploy", vm: row, cause: "placed" });
    change(tx, start, { kind: "placed", nodeId, generation: next });
  }
  for (const nodeId of touched) tx.touchClaims(nodeId);
  for (const { vmId, generation, reasons } of command.rejections) {
    const vm = tx.get("vms", vmId);
    if (vm === undefined || vm.generation !== generation || (vm.state !== "pending" && vm.state !== "recovering")) continue;
    tx.putVm({ ...vm, ...decided(vm), pendingReasons: reasons });
    tx.emit("vm.pending", vm.id, vm.definition.name, reasons.map((reason) => reason.detail).join("; "));
  }
  return { ids: placed, refused };
}

export function report(tx: Transaction, command: VmReport): CommandResult {
  const vm = tx.get("vms", command.vmId);
  if (tx.envelope.origin !== command.nodeId) {
    throw new RoostError({ kind: "denied", reason: `node ${tx.envelope.origin} cannot report for node ${command.nodeId}` });
  }
  // A row that went while the report was on its way has nothing left to say.
  if (vm === undefined) return { ids: [] };
  const { migration } = vm;
  if (migration?.claim.nodeId === command.nodeId && migration.claim.generation === command.generation) {
    tx.putVm(observeIncoming(tx, vm, migration, command.observed));
    return { ids: [vm.id] };
  }
  const { observed, run } = command;
  requirePresentRun(tx.needNode(command.nodeId), run);
  if (
    observed.kind === "incoming-gone" ||
    vm.claim === null ||
    vm.claim.nodeId !== command.nodeId ||
    vm.claim.generation !== command.generation
  ) {
    throw new RoostError({
      kind: "precondition",
      reason: `vm ${vm.definition.name}: generation ${formatGeneration(command.generation)} on this node is not its claim (generation ${formatGeneration(vm.generation)})`,
    });
  }
  tx.putVm(observe(tx, vm, vm.claim, observed));
  if (observed.kind === "gone") tx.touchClaims(command.nodeId);
  return { ids: [vm.id] };
}

export function retry(tx: Transaction, command: VmRetry): CommandResult {
  const vm = tx.needVm(command.vmId);
  if (vm.state === "pending" || vm.state === "recovering") tx.putVm({ ...vm, retryAtMs: 0 });
  return { ids: [vm.id] };
}

/** Only for a VM that holds nothing but volumes: one that runs moves by live migration. */
export function rehome(tx: Transaction, command: VmRehome): CommandResult {
  const vm = tx.needVm(command.vmId);
  const node = tx.needNode(command.nodeId);
  const { name } = vm.definition;
  if (vm.state !== "stopped" || vm.claim !== null) {
    throw new RoostError(
      {
        kind: "precondition",
        reason: `vm ${name} is ${vm.state}: only a stopped VM moves by cold migration`,
        legal: [...legalActions(vm.state)],
      },
      "shut it down first",
    );
  }
  if (vm.homeNodeId === node.id) return { ids: [vm.id] };
  const refusal = checkPlacement(tx.state, { ...vm, desired: { ...vm.desired, nodeId: null } }, node, { usage: tx.state.usage });
  if (refusal !== null) throw new RoostError({ kind: "precondition", reason: refusal.detail });
  tx.putVm({ ...vm, homeNodeId: node.id });
  tx.emit("vm.rehomed", vm.id, name, `at home on ${node.name}`, node.id);
  return { ids: [vm.id] };
}

function underWay(tx: Transaction, vm: Vm): string[] {
  return tx.tasksOf(vm.id).map((task) => task.id);
}

function isDoneAlready(vm: Vm, action: VmDesire["action"]): boolean {
  switch (action) {
    case "start":
    case "deploy":
      return vm.desired.power === "on" && !vm.desired.deleted;
    case "shutdown":
      return vm.desired.power === "off";
    case "force-shutdown":
      return vm.state === "stopped";
    case "delete":
      return vm.desired.deleted;
    case "pause":
    case "unpause":
    case "restart":
    case "force-restart":
      return false;
  }
}
