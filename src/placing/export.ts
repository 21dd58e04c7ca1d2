/** The live cluster as a plan file (docs/planfile.md): names for ids, nothing secret. Pure. */
import { localPool, poolsOf, settingsOf } from "../model/placement.ts";
import type { Policy } from "../model/policy.ts";
import type { Node } from "../model/node.ts";
import type { Vm } from "../model/vm.ts";
import { scratchOf } from "../state/history.ts";
import type { RowChange, State } from "../state/state.ts";

/** Rows of the state as they are, with the history: what a replay needs. */
export interface Recording {
  index: number;
  term: number;
  rows: RowChange[];
}

type Fields = Record<string, unknown>;

/** JSON text; `history` adds the recording. */
export function exportPlanFile(state: State, { history }: { history: boolean }): string {
  const settings = settingsOf(state);
  const file: Fields = {
    settings: {
      memoryRatio: settings["scheduler.memoryRatio"],
      cpuRatio: settings["scheduler.cpuRatio"],
      reserveMib: 0,
      scoring: settings["scheduler.scoring"],
      rank: settings["scheduler.rank"],
    },
    zones: [...state.zoneRoles].map(([name, role]) => ({ name, role })),
    nodes: [...state.nodes.values()]
      .filter((node) => node.state !== "removed" && node.info !== null)
      .toSorted((a, b) => a.peerId - b.peerId)
      .map((node) => nodeEntry(state, node)),
    vms: [...state.vms.values()].toSorted((a, b) => a.number - b.number).map((vm) => vmEntry(state, vm)),
    policies: [...state.policies.values()].map((policy) => policyEntry(state, policy)),
  };
  if (history) file["recording"] = recordingOf(state);
  return `${JSON.stringify(file, null, 1)}\n`;
}

function recordingOf(state: State): Recording {
  const rows = [...scratchOf(state).rows()].map((change): RowChange => {
    if (change.table !== "cluster" || change.row === null) return change;
    return { ...change, row: { ...change.row, caCertificate: "", caKey: "" } };
  });
  for (const [key, row] of state.history) rows.push({ table: "history", key, row });
  return { index: state.index, term: state.term, rows };
}

/** Leaves out what is as if it were not said. */
function said(fields: Fields): Fields {
  const isNothing = (value: unknown): boolean =>
    value === undefined ||
    value === null ||
    value === "" ||
    (Array.isArray(value) && value.length === 0) ||
    (typeof value === "object" && !Array.isArray(value) && Object.keys(value).length === 0);
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => !isNothing(value)));
}

function nodeEntry(state: State, node: Node): Fields {
  const info = node.info!;
  const topology = info.cpuTopology;
  return {
    ...said({
      name: node.name,
      cpus: info.cpus,
      memoryMib: info.memoryMib,
      reserveMib: info.reserveMib,
      zone: node.zone,
      partition: node.partition,
      labels: node.labels,
      arch: info.arch,
      state: node.state === "ready" ? undefined : node.state === "joining" ? "disabled" : node.state,
      driver: info.driver,
      hypervisor: info.hypervisor,
      cpuModel: info.cpuModel,
      cpuModels: info.cpuModels,
      cpuFeatures: info.cpuFeatures,
      numa: topology?.numa.length,
      threadsPerCore: topology?.threadsPerCore,
      values: info.values,
      guardian: info.guardian === null ? false : undefined,
    }),
    bridges: info.bridges,
    pools: info.pools.filter(({ available }) => available).flatMap(({ poolId }) => state.pools.get(poolId)?.name ?? []),
  };
}

function vmEntry(state: State, vm: Vm): Fields {
  const { definition, claim, homeNodeId } = vm;
  const nodeName = (id: string | null): string | undefined => (id === null ? undefined : state.nodes.get(id)?.name);
  // What lies in a node's own pool can start nowhere else.
  const bound = claim === null && localPool(state, definition) !== null ? homeNodeId : vm.desired.nodeId;
  const off = claim === null && vm.desired.power === "off";
  const node = nodeName(claim?.nodeId ?? homeNodeId);
  return said({
    name: definition.name,
    cpus: definition.cpus,
    memoryMib: definition.memoryMib,
    node,
    state: claim !== null || node === undefined ? undefined : off ? "stopped" : vm.state === "recovering" ? "recovering" : "pending",
    hold: vm.desired.hold || (off && node === undefined) ? true : undefined,
    requestedNode: nodeName(bound),
    ha: vm.underHa ? undefined : false,
    priority: definition.ha.priority === 0 ? undefined : definition.ha.priority,
    vdc: definition.vdc,
    partition: definition.partition,
    labels: definition.labels,
    arch: definition.arch,
    bridges: [...new Set(definition.nics.map((nic) => nic.bridge))],
    pools: poolsOf(definition),
    requirements: definition.requirements,
    rank: definition.rank,
    pinning: definition.cpuPinning?.numa,
    pinned: claim?.cpus,
    cpuModel: definition.cpu?.model,
    cpuFeatures: definition.cpu?.features,
  });
}

function policyEntry(state: State, policy: Policy): Fields {
  const { target } = policy;
  return said({
    name: policy.name,
    vms: policy.members.flatMap((id) => state.vms.get(id)?.definition.name ?? []),
    vmLabels: policy.memberLabels,
    rule: policy.strength,
    nodes: target.kind === "nodes" ? target.nodeIds.flatMap((id) => state.nodes.get(id)?.name ?? []) : undefined,
    nodeLabels: target.kind === "nodes" ? target.labels : undefined,
    zones: target.kind === "zones" ? target.zones : undefined,
    place: target.kind === "vms" ? target.rule : undefined,
    weight: policy.weight,
    enabled: policy.enabled ? undefined : false,
  });
}
