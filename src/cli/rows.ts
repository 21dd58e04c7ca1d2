/** What `-o json` and `-o yaml` print of each thing: documented in docs/cli-json.md, only ever added to. */
import { writeDefinition } from "../base/definition.ts";
import type { AuditedRun__Output } from "../gen/types/roost/v1/AuditedRun.ts";
import type { AuditRunsResponse__Output } from "../gen/types/roost/v1/AuditRunsResponse.ts";
import type { Event__Output } from "../gen/types/roost/v1/Event.ts";
import type { GetHaResponse__Output } from "../gen/types/roost/v1/GetHaResponse.ts";
import type { HaForecast__Output } from "../gen/types/roost/v1/HaForecast.ts";
import type { Failover__Output } from "../gen/types/roost/v1/Failover.ts";
import type { NodeFencing__Output } from "../gen/types/roost/v1/NodeFencing.ts";
import type { Node__Output } from "../gen/types/roost/v1/Node.ts";
import type { Policy__Output } from "../gen/types/roost/v1/Policy.ts";
import type { Zone__Output } from "../gen/types/roost/v1/Zone.ts";
import type { Pool__Output } from "../gen/types/roost/v1/Pool.ts";
import type { LimitPool__Output } from "../gen/types/roost/v1/LimitPool.ts";
import type { Task__Output } from "../gen/types/roost/v1/Task.ts";
import type { Token__Output } from "../gen/types/roost/v1/Token.ts";
import type { Vm__Output } from "../gen/types/roost/v1/Vm.ts";

/** Empty texts become null: "no node" is not a node called "". */
const orNull = (text: string): string | null => (text === "" ? null : text);

export function vmRow(vm: Vm__Output): object {
  return {
    id: vm.id,
    number: vm.number,
    name: vm.name,
    state: vm.state,
    node: orNull(vm.node),
    nodeId: orNull(vm.nodeId),
    generation: vm.generation,
    cpus: vm.definition?.cpus ?? 0,
    memoryMib: vm.definition?.memoryMib ?? 0,
    arch: vm.definition?.arch ?? "",
    underHa: vm.underHa,
    desired: vm.desired,
    hold: vm.hold,
    wantedNode: orNull(vm.wantedNode),
    homeNode: orNull(vm.homeNode),
    vdc: vm.definition?.vdc === "" ? "default" : (vm.definition?.vdc ?? "default"),
    pinnedCpus: vm.pinnedCpus,
    unpinned: orNull(vm.unpinned),
    policies: vm.policies,
    reason: orNull(vm.reason),
    pendingReasons: vm.pendingReasons.map(({ code, nodes, detail }) => ({ code, nodes, detail })),
    warnings: vm.warnings,
    labels: vm.definition?.labels ?? {},
    tasks: vm.tasks,
    failures: vm.failures,
    stateSinceMs: vm.stateSinceMs,
    createdAtMs: vm.createdAtMs,
    revision: vm.revision,
  };
}

export function vmDetailRow(vm: Vm__Output): object {
  return {
    ...vmRow(vm),
    waits: orNull(vm.waits),
    definition: vm.definition === null ? null : writeDefinition(vm.definition),
    history: vm.history.map(historyRow),
  };
}

export function historyRow(entry: Vm__Output["history"][number]): object {
  return { state: entry.state, atMs: entry.atMs, node: orNull(entry.node), generation: entry.generation, why: entry.why };
}

export function nodeRow(node: Node__Output): object {
  const {
    hypervisor,
    driver,
    arch,
    cpuModel,
    version,
    zone,
    partition,
    stateWhy,
    waits,
    guardian,
    freeMemoryMib,
    cpuUsedPercent,
    drain,
    ...rest
  } = node;
  return {
    ...rest,
    drain: drain ?? null,
    partition: orNull(partition),
    freeMemoryMib: freeMemoryMib ?? null,
    cpuUsedPercent: cpuUsedPercent ?? null,
    zone: orNull(zone),
    stateWhy: orNull(stateWhy),
    waits: orNull(waits),
    version: orNull(version),
    driver: orNull(driver),
    hypervisor: orNull(hypervisor),
    arch: orNull(arch),
    cpuModel: orNull(cpuModel),
    guardian: orNull(guardian),
    pools: node.pools.map((pool) => ({ ...pool, problem: orNull(pool.problem) })),
  };
}

export function fencingRow({ node, nodeId, devices, attempt }: NodeFencing__Output): object {
  return {
    node,
    nodeId,
    devices: devices.map(({ name, level, agent, options, secretNames, timeoutMs }) => ({
      name,
      level,
      agent,
      options,
      secretNames,
      timeoutMs,
    })),
    attempt:
      attempt === null
        ? null
        : { ...attempt, executor: orNull(attempt.executor), steps: attempt.steps.map((step) => ({ ...step, node: orNull(step.node) })) },
  };
}

export function haRow(answer: GetHaResponse__Output): object {
  const { failovers: _failovers, read: _read, impossible, ...rest } = answer;
  return { ...rest, impossible: impossible.map((one) => ({ ...one, zone: orNull(one.zone), resource: orNull(one.resource) })) };
}

export function forecastRow(forecast: HaForecast__Output): object {
  const vms = forecast.vms.map((fate) => ({ ...fate, to: orNull(fate.to), why: orNull(fate.why) }));
  return { ...forecast, zone: orNull(forecast.zone), vms, expectedMs: forecast.expectedMs || null, bootMs: forecast.bootMs || null };
}

export function policyRow(policy: Policy__Output): object {
  return { ...policy, enabled: policy.enabled ?? true, weight: policy.weight ?? 1, place: orNull(policy.place) };
}

export function zoneRow(zone: Zone__Output): object {
  return { ...zone, role: orNull(zone.role) };
}

export function poolRow(pool: Pool__Output): object {
  return { ...pool, nodes: pool.nodes.map((node) => ({ ...node, problem: orNull(node.problem) })) };
}

export function tokenRow(token: Token__Output): object {
  return { ...token };
}

export function eventRow(event: Event__Output): object {
  return { ...event, nodeId: orNull(event.nodeId), objectId: orNull(event.objectId) };
}

/** Moments that have not come are null, not 0. */
const orNot = (ms: number): number | null => (ms === 0 ? null : ms);

export function taskRow(task: Task__Output): object {
  const { objectKind, objectId, objectName, targetNode, cancelledBy, followedBy, jobs, waits, ...rest } = task;
  return {
    ...rest,
    object: { kind: objectKind, id: objectId, name: objectName },
    startedAtMs: orNot(task.startedAtMs),
    endedAtMs: orNot(task.endedAtMs),
    cancelledAtMs: orNot(task.cancelledAtMs),
    targetNode: orNull(targetNode),
    cancelledBy: orNull(cancelledBy),
    followedBy: orNull(followedBy),
    jobs: jobs.map((job) => ({
      ...job,
      node: orNull(job.node),
      nodeId: orNull(job.nodeId),
      slot: orNull(job.slot),
      sentAtMs: orNot(job.sentAtMs),
      endedAtMs: orNot(job.endedAtMs),
      retryAtMs: orNot(job.retryAtMs),
      undo: orNull(job.undo),
      limitSetting: orNull(job.limitSetting),
      limitMs: orNot(job.limitMs),
    })),
    waits: waits.map((wait) => ({
      ...wait,
      path: orNull(wait.path),
      untilMs: orNot(wait.untilMs),
      pool: orNull(wait.pool),
      place: orNot(wait.place),
    })),
  };
}

export function limitRow(pool: LimitPool__Output): object {
  return { ...pool, vdc: orNull(pool.vdc) };
}

export function failoverRow(failover: Failover__Output): object {
  return {
    ...failover,
    toNode: orNull(failover.toNode),
    plannedMs: orNot(failover.plannedMs),
    startedMs: orNot(failover.startedMs),
    runningMs: orNot(failover.runningMs),
  };
}

export function auditRow({ node, nowMs, nodes, vms, overlaps, unsure, unknown }: AuditRunsResponse__Output): object {
  const run = (one: AuditedRun__Output | null): object | null => (one === null ? null : { ...one, toMs: one.toMs === 0 ? null : one.toMs });
  return {
    overlaps,
    unsure,
    unknown,
    node,
    nowMs,
    nodes: nodes.map(({ problem, sinceMs, ...rest }) => ({ ...rest, problem: orNull(problem), sinceMs: sinceMs === 0 ? null : sinceMs })),
    vms: vms.map(({ vm, runs, meetings, ...rest }) => ({
      vm: orNull(vm),
      ...rest,
      runs: runs.map(run),
      meetings: meetings.map((met) => ({ ...met, earlier: run(met.earlier), later: run(met.later) })),
    })),
  };
}
