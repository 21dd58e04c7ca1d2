/** Virtual machines: definitions checked whole before anything is proposed, wishes proposed, states read. */
import { invalid, RoostError } from "../../base/errors.ts";
import type { Violation } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { checkDefinition } from "../../model/definition.ts";
import { faultsInView } from "../../model/definition-view.ts";
import type { Node } from "../../model/node.ts";
import type { View } from "../../model/view.ts";
import type { Vm, VmDefinition } from "../../model/vm.ts";
import { newVm } from "../../model/new-vm.ts";
import { planMoves } from "../../placing/moves.ts";
import { passedOver } from "../../scheduler/manual.ts";
import type { MigrateVmRequest__Output } from "../../gen/types/roost/v1/MigrateVmRequest.ts";
import type { CreateVmRequest__Output } from "../../gen/types/roost/v1/CreateVmRequest.ts";
import type { Vm as VmMessage } from "../../gen/types/roost/v1/Vm.ts";
import { actorOf } from "../auth.ts";
import { propose, readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { toDefinition, toVm } from "../convert.ts";
import { findNode, findVm, page } from "../lookup.ts";
import { waitOfVm } from "../waits.ts";
import { changesOf } from "../watch.ts";
import type { VmAction } from "../../model/lifecycle.ts";

/** VMs in one create: a command must stay far below the size limit of a Raft entry. */
export const MAX_BATCH = 500;

interface Candidate {
  id: string;
  definition: VmDefinition;
}

/**
 * Checks all definitions with all their faults (VM-5). Fields are those of the definition, with `definitions[i].` before
 * them when there are several.
 */
function checkAll(request: CreateVmRequest__Output, view: View, only: Node | null, context: CallContext): Candidate[] {
  const { definitions } = request;
  if (definitions.length === 0) throw invalid("definitions", "expected at least one definition");
  if (definitions.length > MAX_BATCH)
    throw invalid("definitions", `expected at most ${MAX_BATCH} definitions at once, not ${definitions.length}`);
  const faults: Violation[] = [];
  const candidates: Candidate[] = [];
  const firstWithName = new Map<string, number>();
  const faultsHere = faultsInView(view, only);
  definitions.forEach((input, i) => {
    const add = (violation: Violation): void => {
      faults.push({
        field: definitions.length === 1 ? violation.field : `definitions[${i}].${violation.field}`,
        message: violation.message,
      });
    };
    const other = firstWithName.get(input.name);
    if (other !== undefined && input.name !== "")
      add({ field: "name", message: `${JSON.stringify(input.name)} is the name of definition ${other + 1} of this request already` });
    else firstWithName.set(input.name, i);
    const id = context.newId();
    const checked = checkDefinition(input, { vmId: id, arch: only?.info?.arch ?? context.arch });
    if (!checked.ok) {
      const said = new Set(checked.violations.map((violation) => violation.field));
      checked.violations.forEach(add);
      for (const violation of faultsHere(checked.partial)) if (!said.has(violation.field)) add(violation);
      return;
    }
    faultsHere(checked.definition).forEach(add);
    candidates.push({ id, definition: checked.definition });
  });
  // Names that the cluster has are refused when the command is applied, because a repeated request has them too. Beside
  // other faults, and in a plan, they are said here.
  if (faults.length > 0 || request.plan) {
    definitions.forEach((input, i) => {
      if (!view.vmIdByName.has(input.name)) return;
      const field = definitions.length === 1 ? "name" : `definitions[${i}].name`;
      faults.push({ field, message: `a VM named ${JSON.stringify(input.name)} exists already` });
    });
  }
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults }, "nothing was created");
  return candidates;
}

/** A node that only preferences speak against is taken by force, not by accident (SCH-16). */
function requireUnforced(view: View, vm: Vm, node: Node | null, force: boolean): void {
  const reasons = node === null || force ? [] : passedOver(view, vm, node.id);
  if (reasons.length === 0 || node === null) return;
  throw new RoostError(
    { kind: "precondition", reason: `${node.name} is not what vm ${vm.definition.name} prefers: ${reasons.join("; ")}` },
    "--force takes it all the same; it never passes a must",
  );
}

/** The view with the VM in it as if it had just been created. */
function viewWith(view: View, vm: Vm): View {
  return { ...view, vms: new Map([...view.vms, [vm.id, vm]]) };
}

function requireUnforcedNew(view: View, candidates: readonly Candidate[], node: Node | null, request: CreateVmRequest__Output): void {
  const { cluster } = view;
  // Without preferences in the cluster there is nothing that could be forced.
  if (node === null || request.force || cluster === null || (view.policies.size === 0 && view.zoneRoles.size === 0)) return;
  for (const { id, definition } of candidates) {
    const by = { cluster, atMs: 0, index: view.index, actor: "" };
    const vm = newVm({ id, number: 0, definition, hold: false, nodeId: node.id, power: "on" }, [], by);
    requireUnforced(viewWith(view, vm), vm, node, false);
  }
}

async function migrate(request: MigrateVmRequest__Output, context: CallContext): Promise<{ vm: VmMessage; task: string }> {
  const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
  const vm = findVm(view, request.vm);
  const { mode } = request;
  if (mode !== "" && mode !== "live" && mode !== "cold") throw invalid("mode", `expected live or cold, not ${JSON.stringify(mode)}`);
  if (mode === "live" || (mode === "" && vm.claim !== null)) return await migrateLive(request, vm, view, context);
  if (vm.claim !== null) {
    throw new RoostError(
      { kind: "precondition", reason: `vm ${vm.definition.name} is ${vm.state}: only a stopped VM moves cold` },
      `without --cold it moves while it runs; or roost vm shutdown ${vm.definition.name} --wait first`,
    );
  }
  if (request.node === "") throw invalid("node", "expected the node that a stopped VM is to be at home on");
  const node = findNode(view, request.node);
  requireUnforced(view, vm, node, request.force);
  await propose(context, { type: "vm.rehome", vmId: vm.id, nodeId: node.id }, request.requestId);
  const after = context.store.view();
  return { vm: toVm(after, after.vms.get(vm.id) ?? gone(vm)), task: "" };
}

async function migrateLive(
  request: MigrateVmRequest__Output,
  vm: Vm,
  view: View,
  context: CallContext,
): Promise<{ vm: VmMessage; task: string }> {
  const node = request.node === "" ? null : findNode(view, request.node);
  // What has been done or is under way already is found out when the command is applied.
  const isThere = node !== null && (vm.claim?.nodeId === node.id || vm.migration?.claim.nodeId === node.id);
  if (!isThere) requireUnforced(view, vm, node, request.force);
  const { moves, blocked } = isThere ? { moves: [], blocked: [] } : planMoves(view, [vm.id], { seed: vm.id, only: node?.id ?? null });
  const [move] = moves;
  const why = blocked[0]?.reasons.join("; ") ?? "";
  if (!isThere && move === undefined)
    throw new RoostError({
      kind: "precondition",
      reason: `vm ${vm.definition.name} cannot migrate: ${why === "" ? "no node takes it" : why}`,
    });
  const chosen = move ?? { nodeId: node?.id ?? "", generation: vm.claim?.generation ?? 0 };
  const { taskIds } = await propose(context, { type: "vm.migrate", vmId: vm.id, ...chosen, why: "" }, request.requestId);
  const after = context.store.view();
  return { vm: toVm(after, after.vms.get(vm.id) ?? gone(vm)), task: taskIds?.[0] ?? "" };
}

async function desire(
  context: CallContext,
  name: string,
  action: VmAction | "auto-start",
  requestId: string,
  where: { node: string; force: boolean } = { node: "", force: false },
): Promise<{ vm: VmMessage; task: string }> {
  const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
  const vm = findVm(view, name);
  const node = where.node === "" ? null : findNode(view, where.node);
  const nodeId = node?.id ?? null;
  if (vm.claim === null) requireUnforced(view, vm, node, where.force);
  // A held VM is `pending` already; what starts it is the release to the scheduler (SCH-16).
  const resolved = action === "auto-start" ? (vm.desired.hold || (vm.state === "pending" && nodeId !== null) ? "deploy" : "start") : action;
  const { taskIds } = await propose(context, { type: "vm.desire", vmId: vm.id, action: resolved, nodeId }, requestId);
  const after = context.store.view();
  return { vm: toVm(after, after.vms.get(vm.id) ?? gone(vm)), task: taskIds?.[0] ?? "" };
}

/** A VM that was deleted on the spot has no row any more. */
function gone(vm: Vm): Vm {
  return { ...vm, state: "deleted", claim: null, desired: { ...vm.desired, deleted: true } };
}

function planned(candidate: Candidate, request: CreateVmRequest__Output): VmMessage {
  return {
    name: candidate.definition.name,
    state: request.stopped ? "stopped" : "pending",
    definition: toDefinition(candidate.definition),
    desired: request.stopped ? "off" : "on",
    hold: request.hold,
    wantedNode: request.node,
  };
}

function parseLabels(texts: string[]): [string, string][] {
  return texts.map((text, i) => {
    const at = text.indexOf("=");
    if (at < 1) throw invalid(`labels[${i}]`, `expected key=value, not ${JSON.stringify(text)}`);
    return [text.slice(0, at), text.slice(at + 1)];
  });
}

export const vmService: ServiceMethods<"VmService", CallContext> = {
  async CreateVm(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const only = request.node === "" ? null : findNode(view, request.node);
    if (only?.state === "removed") throw invalid("node", `node ${only.name} was removed`);
    const candidates = checkAll(request, view, only, context);
    requireUnforcedNew(view, candidates, only, request);
    if (request.plan) return { vms: candidates.map((candidate) => planned(candidate, request)), revision: view.index };
    const result = await propose(
      context,
      {
        type: "vm.create",
        vms: candidates.map(({ id, definition }) => ({
          id,
          definition,
          hold: request.hold,
          nodeId: only?.id ?? null,
          power: request.stopped ? "off" : "on",
        })),
      },
      request.requestId,
    );
    const after = context.store.view();
    // The ids of the first answer, if this request was repeated.
    const ids = result.ids ?? candidates.map(({ id }) => id);
    // One that was deleted already is left out, and its task with it.
    const made = ids.flatMap((id, i) => {
      const vm = after.vms.get(id);
      return vm === undefined ? [] : [{ vm: toVm(after, vm), task: result.taskIds?.[i] ?? "" }];
    });
    return { vms: made.map(({ vm }) => vm), tasks: made.map(({ task }) => task), revision: after.index };
  },

  async ListVms(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const wanted = parseLabels(request.labels);
    const nodeId = request.node === "" ? null : findNode(view, request.node).id;
    let rows = [...view.vms.values()].filter((vm) => vm.state !== "deleted");
    if (nodeId !== null) rows = rows.filter((vm) => vm.claim?.nodeId === nodeId);
    if (wanted.length > 0) rows = rows.filter((vm) => wanted.every(([key, value]) => vm.definition.labels[key] === value));
    const part = page(rows, (vm) => vm.number, request);
    return { vms: part.rows.map((vm) => toVm(view, vm)), nextPageToken: part.nextPageToken, read: info };
  },

  async GetVm(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const vm = findVm(view, request.vm);
    return { vm: { ...toVm(view, vm), waits: waitOfVm(view, vm, context.nowMs()) }, read: info };
  },

  StartVm: (request, context) => desire(context, request.vm, "auto-start", request.requestId, { node: request.node, force: request.force }),
  MigrateVm: migrate,
  async AbortMigration(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const vm = findVm(view, request.vm);
    await propose(context, { type: "vm.migrate-abort", vmId: vm.id, why: `by ${actorOf(context.identity)}` }, request.requestId);
    const after = context.store.view();
    return { vm: toVm(after, after.vms.get(vm.id) ?? gone(vm)) };
  },
  ShutdownVm: (request, context) => desire(context, request.vm, request.force ? "force-shutdown" : "shutdown", request.requestId),
  DeleteVm: (request, context) => desire(context, request.vm, "delete", request.requestId),
  PauseVm: (request, context) => desire(context, request.vm, "pause", request.requestId),
  UnpauseVm: (request, context) => desire(context, request.vm, "unpause", request.requestId),
  RestartVm: (request, context) => desire(context, request.vm, request.force ? "force-restart" : "restart", request.requestId),

  async *WatchVm(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const { id } = findVm(view, request.vm);
    context.log.debug("watch begins", { vm: id, actor: actorOf(context.identity) });
    let last: Vm | null = null;
    for await (const now of changesOf(context.store, [id], context.signal)) {
      const vm = now.vms.get(id);
      if (vm === undefined || vm.state === "deleted") {
        yield { vm: last === null ? null : toVm(now, gone(vm ?? last)), deleted: true };
        return;
      }
      if (vm === last) continue;
      last = vm;
      yield { vm: toVm(now, vm), deleted: false };
    }
  },
};
