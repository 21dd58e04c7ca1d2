/** What is wrong: what nodes say is there, against what the state says should be. Pure; `roost doctor` and the fault matrix read it alike. */
import type { PoolStatus } from "./node.ts";
import { FINISHED } from "./task.ts";
import type { Job, Task } from "./task.ts";
import type { View } from "./view.ts";
import type { DiskDefinition, Vm } from "./vm.ts";

/** One node as it was found. */
export interface Inspection {
  nodeId: string;
  domains: { vmId: string; generation: number; name: string; state: string }[];
  /** Empty: it could be asked. */
  hypervisorProblem: string;
  /** Registrations with the keeper. */
  registrations: { vmId: string; generation: number; phase: string }[];
  keeperProblem: string;
  /** Volumes of VMs, in the pools that could be listed. */
  volumes: { poolId: string; name: string; vmId: string; allocatedBytes: number }[];
  missingPools: PoolStatus[];
  /** Open with the hypervisor, that of the look itself not counted. */
  sessions: number;
}

export type FindingCode =
  | "orphan-domain"
  | "lost-domain"
  | "orphan-registration"
  | "orphan-volume"
  | "lost-volume"
  | "undo-fails"
  | "job-waits"
  | "retry-fails"
  | "sessions"
  | "pool"
  | "hypervisor"
  | "keeper";

export interface Finding {
  code: FindingCode;
  severity: "error" | "warning";
  where: string;
  subject: string;
  what: string;
  do: string;
}

const SILENT: ReadonlySet<string> = new Set(["unreachable", "fenced", "removed"]);
/** Has its disks, unless somebody took them. */
const WITH_DISKS: ReadonlySet<Vm["state"]> = new Set<Vm["state"]>(["running", "paused", "shutdown", "stopped"]);
const WITH_DOMAIN: ReadonlySet<Vm["state"]> = new Set<Vm["state"]>(["running", "paused"]);

/** In the order in which an operator should look: by node, then what no node has. */
export function diagnose(view: View, inspections: readonly Inspection[]): Finding[] {
  const nodes = inspections.flatMap((inspection) => nodeFindings(view, inspection));
  return [...nodes, ...volumeFindings(view, inspections), ...taskFindings(view)];
}

/** The same finding in another look. */
export function findingKey({ code, where, subject }: Finding): string {
  return `${code} ${where} ${subject}`;
}

function nodeFindings(view: View, inspection: Inspection): Finding[] {
  const { nodeId } = inspection;
  const where = view.nodes.get(nodeId)?.name ?? nodeId;
  const found: Finding[] = [];
  const add = (code: FindingCode, severity: Finding["severity"], subject: string, what: string, todo: string): void => {
    found.push({ code, severity, where, subject, what, do: todo });
  };
  if (inspection.hypervisorProblem !== "")
    add(
      "hypervisor",
      "error",
      "hypervisor",
      `does not answer: ${inspection.hypervisorProblem}`,
      `mend it on ${where}; jobs there fail or wait until then`,
    );
  if (inspection.keeperProblem !== "")
    add(
      "keeper",
      "error",
      "keeper",
      `does not answer: ${inspection.keeperProblem}`,
      `look at the agent's log on ${where}; it starts another by itself`,
    );
  for (const pool of inspection.missingPools) {
    const name = view.pools.get(pool.poolId)?.name ?? pool.poolId;
    add("pool", "error", `pool ${name}`, `is not there: ${pool.problem}`, `mount it on ${where}, or: roost pool delete ${name}`);
  }
  const here = new Set<string>();
  for (const { vmId, generation, name, state } of inspection.domains) {
    here.add(vmId);
    const vm = view.vms.get(vmId);
    if (vm?.claim?.nodeId === nodeId && vm.claim.generation === generation) continue;
    const whose =
      vm === undefined
        ? "no VM"
        : vm.claim === null
          ? "a VM that no node holds"
          : `a VM that ${view.nodes.get(vm.claim.nodeId)?.name ?? vm.claim.nodeId} holds`;
    add(
      "orphan-domain",
      "error",
      `domain ${name}`,
      `is ${state} and belongs to ${whose}`,
      `the agent of ${where} ends it by itself within seconds; if it stays, look at its log`,
    );
  }
  if (inspection.hypervisorProblem === "") {
    for (const vmId of view.claimsByNode.get(nodeId) ?? []) {
      const vm = view.vms.get(vmId);
      if (vm === undefined || here.has(vmId) || !WITH_DOMAIN.has(vm.state)) continue;
      add(
        "lost-domain",
        "error",
        `vm ${vm.definition.name}`,
        `is ${vm.state} by the state, and no domain of it is there`,
        `the agent of ${where} reports it within seconds; if it stays, look at its log`,
      );
    }
  }
  for (const { vmId, generation, phase } of inspection.registrations) {
    const vm = view.vms.get(vmId);
    if (vm?.claim?.nodeId === nodeId && vm.claim.generation === generation) continue;
    add(
      "orphan-registration",
      "error",
      `vm ${vm?.definition.name ?? vmId}`,
      `is ${phase} at the keeper, without a claim`,
      `the agent of ${where} takes it back by itself; if it stays, look at its log`,
    );
  }
  const busy = (view.tasksByNode.get(nodeId)?.size ?? 0) > 0;
  if (inspection.sessions > 0 && !busy)
    add(
      "sessions",
      "warning",
      "sessions",
      `${inspection.sessions} open with the hypervisor, and no job is there`,
      `they should go by themselves; restarting the agent of ${where} closes them, VMs keep running`,
    );
  return found;
}

/** Where a disk's own volume lies, and its name. */
function ownVolume(vm: Vm, disk: DiskDefinition): string | null {
  return disk.source !== null && !disk.clone ? null : volumeNameOf(vm.id, disk);
}

/** The name of the volume that is made for a disk of a VM. */
export function volumeNameOf(vmId: string, disk: Pick<DiskDefinition, "target" | "format">): string {
  return `vm-${vmId}-${disk.target}.${disk.format}`;
}

const VOLUME = /^vm-([0-9a-zA-Z-]+)-[a-z]+\.(?:raw|qcow2)$/;

/** The VM that a volume was made for; null for any other volume. */
export function vmOfVolume(name: string): string | null {
  return VOLUME.exec(name)?.[1] ?? null;
}

function volumeFindings(view: View, inspections: readonly Inspection[]): Finding[] {
  const found: Finding[] = [];
  /** `pool name`, and before it the node where the pool is the node's own. */
  const there = new Map<string, { poolId: string; nodeId: string; name: string; vmId: string }>();
  const listed = new Set<string>();
  for (const { nodeId, volumes, missingPools } of inspections) {
    const missing = new Set(missingPools.map(({ poolId }) => poolId));
    for (const pool of view.pools.values()) if (!missing.has(pool.id)) listed.add(pool.shared ? pool.id : `${nodeId} ${pool.id}`);
    for (const { poolId, name, vmId } of volumes) {
      const shared = view.pools.get(poolId)?.shared === true;
      there.set(shared ? `${poolId} ${name}` : `${nodeId} ${poolId} ${name}`, { poolId, nodeId, name, vmId });
    }
  }
  const poolText = (poolId: string, nodeId: string | null): string => {
    const pool = view.pools.get(poolId);
    return `pool ${pool?.name ?? poolId}${nodeId === null || pool?.shared === true ? "" : ` on ${view.nodes.get(nodeId)?.name ?? nodeId}`}`;
  };
  for (const { poolId, nodeId, name, vmId } of there.values()) {
    const vm = view.vms.get(vmId);
    if (vm?.definition.disks.some((disk) => ownVolume(vm, disk) === name) === true && !leftBehind(view, vm, poolId, nodeId)) continue;
    const whose = vm === undefined ? "no VM" : `vm ${vm.definition.name}, which is ${vm.state} and has nothing there`;
    found.push({
      code: "orphan-volume",
      severity: "error",
      where: poolText(poolId, nodeId),
      subject: `volume ${name}`,
      what: `belongs to ${whose}`,
      do: "look whether somebody still needs what is in it, then delete the file",
    });
  }
  for (const vm of view.vms.values()) {
    if (!WITH_DISKS.has(vm.state) || (vm.state === "stopped" && !vm.history.some(({ state }) => state === "running"))) continue;
    for (const disk of vm.definition.disks) {
      const name = ownVolume(vm, disk);
      const poolId = name === null ? undefined : view.poolIdByName.get(disk.pool);
      if (name === null || poolId === undefined) continue;
      const shared = view.pools.get(poolId)?.shared === true;
      const nodeId = vm.claim?.nodeId ?? vm.homeNodeId;
      const place = shared ? poolId : `${nodeId ?? ""} ${poolId}`;
      if (!listed.has(place) || there.has(`${place} ${name}`)) continue;
      found.push({
        code: "lost-volume",
        severity: "error",
        where: poolText(poolId, nodeId),
        subject: `vm ${vm.definition.name}`,
        what: `its volume ${name} is gone`,
        do: "bring the file back from a backup; a start makes no new one, because that would lose what the VM wrote",
      });
    }
  }
  return found;
}

/** A disk that lies on a node of its own where the VM is not at home. */
function leftBehind(view: View, vm: Vm, poolId: string, nodeId: string): boolean {
  if (view.pools.get(poolId)?.shared !== false) return false;
  const home = vm.claim?.nodeId ?? vm.homeNodeId;
  return home !== null && home !== nodeId;
}

/** So often an undo or a retry may fail before it is shown. */
const PATIENCE = 2;

function taskFindings(view: View): Finding[] {
  const found: Finding[] = [];
  for (const ids of view.tasksByObject.values()) {
    for (const id of ids) {
      const task = view.tasks.get(id);
      if (task === undefined || FINISHED.has(task.state)) continue;
      for (const job of task.jobs) found.push(...jobFindings(view, task, job));
    }
  }
  return found;
}

function jobFindings(view: View, task: Task, job: Job): Finding[] {
  const node = job.nodeId === null ? undefined : view.nodes.get(job.nodeId);
  const where = node?.name ?? "cluster";
  const subject = `task ${task.id} (${task.action} of ${task.object.name})`;
  const show = `roost task show ${task.id}`;
  const isUndo = job.state === "undo-waiting" || job.state === "undo-sent";
  const open = isUndo || job.state === "sent" || (job.state === "waiting" && job.error !== null);
  if (!open) return [];
  if (node !== undefined && SILENT.has(node.state) && job.state !== "waiting") {
    const what = `${isUndo ? "the undo of " : ""}${job.name} waits for ${node.name}, which is ${node.state}`;
    return [
      { code: "job-waits", severity: "warning", where, subject, what, do: `bring ${node.name} back, or fence it if it is off: ${show}` },
    ];
  }
  if (job.error === null || (!isUndo && job.attempt < PATIENCE)) return [];
  const what = `${isUndo ? "the undo of " : ""}${job.name} keeps failing (attempt ${job.attempt}): ${job.error.message}`;
  return [
    {
      code: isUndo ? "undo-fails" : "retry-fails",
      severity: "error",
      where,
      subject,
      what,
      do: `${job.error.hint === "" ? "mend the cause" : job.error.hint}; it is tried again by itself: ${show}`,
    },
  ];
}
