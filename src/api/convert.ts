/** The only place where rows become messages: protocol types stop here. */
import { failoverBudgetMs } from "../ha/budget.ts";
import type { JoinToken } from "../model/cluster.ts";
import type { Node } from "../model/node.ts";
import { nodeUsage } from "../model/capacity.ts";
import type { Usage } from "../model/capacity.ts";
import type { Pool } from "../model/pool.ts";
import { policiesOf } from "../model/policy.ts";
import type { Proof } from "../model/proof.ts";
import { ignoredLimits, limitKey } from "../model/limit-settings.ts";
import { defaultSettings, expectedOf, SETTING_RULES } from "../model/settings.ts";
import type { SettingKey, Settings, VdcSettings } from "../model/settings.ts";
import { claimOn } from "../model/claims.ts";
import type { View } from "../model/view.ts";
import type { Vm, VmDefinition } from "../model/vm.ts";
import type { Event } from "../state/outcome.ts";
import type { Event as EventMessage } from "../gen/types/roost/v1/Event.ts";
import type { Failover as FailoverMessage } from "../gen/types/roost/v1/Failover.ts";
import type { Node as NodeMessage } from "../gen/types/roost/v1/Node.ts";
import type { Pool as PoolMessage } from "../gen/types/roost/v1/Pool.ts";
import type { Setting as SettingMessage } from "../gen/types/roost/v1/Setting.ts";
import type { Token as TokenMessage } from "../gen/types/roost/v1/Token.ts";
import type { Vm as VmMessage } from "../gen/types/roost/v1/Vm.ts";
import type { VmDefinition as DefinitionMessage } from "../gen/types/roost/v1/VmDefinition.ts";

/** A node's name, or its id if it is not known (any more); empty for none. */
export function nodeName(view: View, nodeId: string | null): string {
  return nodeId === null ? "" : (view.nodes.get(nodeId)?.name ?? nodeId);
}

export function toDefinition(definition: VmDefinition): DefinitionMessage {
  return {
    name: definition.name,
    cpus: definition.cpus,
    memoryMib: definition.memoryMib,
    arch: definition.arch,
    boot:
      definition.boot === null
        ? null
        : { kernel: definition.boot.kernel, initrd: definition.boot.initrd ?? "", cmdline: definition.boot.cmdline },
    disks: definition.disks.map((disk) => ({ ...disk, source: disk.source ?? "", sizeBytes: disk.sizeBytes ?? 0 })),
    nics: definition.nics.map((nic) => ({ ...nic })),
    labels: definition.labels,
    restart: definition.restart,
    ha: {
      ...(definition.ha.enabled === null ? {} : { enabled: definition.ha.enabled }),
      priority: definition.ha.priority,
      onQuorumLoss: definition.ha.onQuorumLoss,
    },
    vdc: definition.vdc ?? "",
    partition: definition.partition ?? "",
    requirements: definition.requirements ?? "",
    rank: definition.rank ?? "",
    cpuPinning: definition.cpuPinning ?? null,
    cpu:
      definition.cpu === null || definition.cpu === undefined
        ? null
        : { model: definition.cpu.model ?? "", features: definition.cpu.features },
  };
}

export function toVm(view: View, vm: Vm): VmMessage {
  return {
    id: vm.id,
    number: vm.number,
    name: vm.definition.name,
    state: vm.state,
    stateSinceMs: vm.stateSinceMs,
    reason: vm.reason ?? "",
    definition: toDefinition(vm.definition),
    nodeId: vm.claim?.nodeId ?? "",
    node: nodeName(view, vm.claim?.nodeId ?? null),
    generation: vm.generation,
    underHa: vm.underHa,
    warnings: vm.warnings,
    pendingReasons: vm.pendingReasons.map((reason) => ({ ...reason })),
    desired: vm.desired.deleted ? "deleted" : vm.desired.power,
    createdAtMs: vm.createdAtMs,
    revision: vm.revision,
    history: vm.history.map((entry) => ({
      state: entry.state,
      atMs: entry.atMs,
      node: nodeName(view, entry.nodeId),
      generation: entry.generation,
      why: entry.why,
    })),
    failures: vm.failures,
    homeNode: nodeName(view, vm.homeNodeId),
    hold: vm.desired.hold,
    wantedNode: nodeName(view, vm.desired.nodeId),
    pinnedCpus: vm.claim?.cpus ?? [],
    unpinned: vm.claim?.unpinned ?? "",
    policies: policiesOf(view, vm.id).map((policy) => policy.name),
    tasks: [...(view.tasksByObject.get(vm.id) ?? [])],
  };
}

/** `usage`: sums over the view; `leaderId`: as the answering node knows it; `whole`: with the long lists. */
export function toNode(view: View, node: Node, usage: Usage, leaderId: string | null, whole = false): NodeMessage {
  const used = nodeUsage(usage, node.id);
  const info = node.info;
  return {
    id: node.id,
    peerId: node.peerId,
    name: node.name,
    state: node.state,
    stateSinceMs: node.stateSinceMs,
    stateWhy: node.stateWhy,
    role: node.witness === true && node.role === "voter" ? "witness" : node.role,
    witness: node.witness === true,
    ...(node.drain === undefined
      ? {}
      : { drain: { ...node.drain, blocked: node.drain.blocked.map(({ name, reasons }) => ({ vm: name, reasons })) } }),
    removing: node.removing !== undefined && node.state !== "removed",
    leader: node.id === leaderId,
    zone: node.zone,
    labels: node.labels,
    apiAddress: node.apiAddress,
    peerAddress: node.peerAddress,
    joinedAtMs: node.joinedAtMs,
    version: info?.version ?? "",
    driver: info?.driver ?? "",
    hypervisor: info?.hypervisor ?? "",
    hardwareAccelerated: info?.hardwareAccelerated ?? false,
    arch: info?.arch ?? "",
    cpus: info?.cpus ?? 0,
    cpuModel: info?.cpuModel ?? "",
    memoryMib: info?.memoryMib ?? 0,
    reserveMib: info?.reserveMib ?? 0,
    memoryUsedMib: used.memoryMib,
    cpusUsed: used.cpus,
    vms: used.vms,
    guardian: info?.guardian ?? "",
    pools: (info?.pools ?? []).map((pool) => ({
      name: view.pools.get(pool.poolId)?.name ?? pool.poolId,
      available: pool.available,
      problem: pool.problem,
      totalBytes: pool.totalBytes,
      freeBytes: pool.freeBytes,
    })),
    bridges: info?.bridges ?? [],
    partition: node.partition ?? "",
    cpuTopology: info?.cpuTopology ?? null,
    cpuModels: whole ? (info?.cpuModels ?? []) : [],
    cpuFeatures: whole ? (info?.cpuFeatures ?? []) : [],
    values: info?.values ?? {},
    probeProblems: info?.probeProblems ?? [],
    problems: info?.problems ?? [],
    ...(info?.freeMemoryMib === undefined ? {} : { freeMemoryMib: info.freeMemoryMib }),
    ...(info?.cpuUsedPercent === undefined ? {} : { cpuUsedPercent: info.cpuUsedPercent }),
    pinnedCpus: pinnedCpus(view, node.id),
  };
}

function pinnedCpus(view: View, nodeId: string): number {
  let sum = 0;
  for (const vmId of view.claimsByNode.get(nodeId) ?? []) sum += claimOn(view.vms.get(vmId) ?? { claim: null }, nodeId)?.cpus?.length ?? 0;
  return sum;
}

export function toPool(view: View, pool: Pool): PoolMessage {
  const nodes = [...view.nodes.values()].toSorted((a, b) => a.peerId - b.peerId);
  return {
    id: pool.id,
    name: pool.name,
    kind: pool.kind,
    path: pool.path,
    shared: pool.shared,
    createdAtMs: pool.createdAtMs,
    nodes: nodes.flatMap((node) => {
      const status = node.info?.pools.find((entry) => entry.poolId === pool.id);
      if (status === undefined) return [];
      const { available, problem, totalBytes, freeBytes } = status;
      return [{ node: node.name, available, problem, totalBytes, freeBytes }];
    }),
  };
}

export function toToken(token: JoinToken): TokenMessage {
  const { id, createdAtMs, expiresAtMs, usesLeft, createdBy } = token;
  return { id, createdAtMs, expiresAtMs, usesLeft, createdBy };
}

export function toSetting(key: SettingKey, settings: Settings, byVdc: Readonly<Record<string, VdcSettings>> = {}): SettingMessage {
  const own = Object.entries(byVdc).flatMap(([vdc, values]) =>
    Object.entries(values).flatMap(([name, value]) => (name === key ? [[vdc, value]] : [])),
  );
  const rule = SETTING_RULES[key];
  return {
    key,
    value: String(settings[key]),
    defaultValue: String(rule.initial),
    expected: expectedOf(key),
    about: rule.about,
    vdcs: Object.fromEntries(own),
  };
}

/** The limit of one kind of driver; once it is reset, the platform's value that holds instead. null: there is no such key. */
export function toLimit(view: View, key: string): SettingMessage | null {
  const known = limitKey(key);
  if (known === null) return null;
  const settings = view.cluster?.settings ?? defaultSettings();
  const platform = toSetting(known.base, settings);
  const ignored = ignoredLimits(view.cluster, view.nodes.values()).find((one) => one.key === key)?.why ?? "";
  return {
    ...platform,
    key,
    value: String(view.cluster?.limits?.[key] ?? settings[known.base]),
    defaultValue: platform.value ?? "",
    about: `For ${known.kind}: ${platform.about ?? ""}`,
    ignored,
  };
}

export function toEvent(event: Event): EventMessage {
  return { ...event, objectId: event.objectId ?? "" };
}

export function toFailover(view: View, vm: Vm, settings: Settings): FailoverMessage | null {
  const failover = vm.failover;
  if (failover === null) return null;
  return {
    vmId: vm.id,
    vmName: vm.definition.name,
    fromNode: nodeName(view, failover.fromNodeId),
    toNode: nodeName(view, failover.toNodeId),
    lastHeartbeatMs: failover.lastHeartbeatMs,
    suspectMs: failover.suspectMs,
    proofMs: failover.proofMs,
    plannedMs: failover.plannedMs ?? 0,
    startedMs: failover.startedMs ?? 0,
    runningMs: failover.runningMs ?? 0,
    proofKind: failover.proof.kind,
    proof: proofText(view, failover.proof),
    budgetMs: failoverBudgetMs(settings, failover.leaderChanged),
  };
}

/** A proof in words, with its numbers. */
export function proofText(view: View, proof: Proof): string {
  const node = nodeName(view, proof.nodeId);
  switch (proof.kind) {
    case "release":
      return `${node} confirmed that the VM is gone (generation ${proof.generation})`;
    case "expiry":
      return `${node} unacknowledged for ${Math.round(proof.sinceAckMs)} ms > granted ${proof.grantedMs} + margin ${proof.marginMs} (term ${proof.term})`;
    case "fence":
      return proof.by === "power"
        ? `${node} seen off at ${proof.device} by ${nodeName(view, proof.observerId)} (attempt ${proof.attempt})`
        : `${node} cut off from its disks by ${proof.device}`;
    case "operator":
      return `${proof.user} says that ${node} is off`;
  }
}
