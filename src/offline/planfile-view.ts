/** A plan file's cluster as a state of its own, and its request as the scheduler's. Names serve as ids. */
import { invalid } from "../base/errors.ts";
import type { Node } from "../model/node.ts";
import type { Policy } from "../model/policy.ts";
import type { Pool } from "../model/pool.ts";
import { defaultSettings } from "../model/settings.ts";
import type { CpuTopology } from "../model/node.ts";
import type { Vm } from "../model/vm.ts";
import type { PlanRequest } from "../scheduler/types.ts";
import { State } from "../state/state.ts";
import type { PlanCluster, PlanFileRequest, PlanNode, PlanPolicy, PlanVm } from "./planfile.ts";

const ARCH = "x86_64";

/** The state at index 1; new VMs of `request` are in it, pending. Throws `invalid` for a request that names unknown VMs or a known name anew. */
export function stateFrom(cluster: PlanCluster, request: PlanFileRequest | null): { state: State; request: PlanRequest | null } {
  const known = new Set(cluster.vms.map((vm) => vm.name));
  const all: PlanVm[] = [...cluster.vms];
  const nodeNames = new Set(cluster.nodes.map((node) => node.name));
  const asked = new Set<string>();
  for (const [k, entry] of (request?.vms ?? []).entries()) {
    if (typeof entry === "string") {
      if (!known.has(entry))
        throw invalid(`vms[${k}]`, `no VM of the cluster is named ${entry}`, "write a new VM whole: name, cpus, memoryMib");
      if (asked.has(entry)) throw invalid(`vms[${k}]`, `${entry} is there twice`);
      asked.add(entry);
      continue;
    }
    if (asked.has(entry.name)) throw invalid(`vms[${k}].name`, `${entry.name} is there twice`);
    if (known.has(entry.name))
      throw invalid(`vms[${k}].name`, `${entry.name} is a VM already`, "name the VMs of the cluster by their name alone");
    for (const field of ["node", "requestedNode"] as const) {
      const name = entry[field];
      if (name !== undefined && !nodeNames.has(name)) throw invalid(`vms[${k}].${field}`, `no node is named ${name}`);
    }
    known.add(entry.name);
    all.push(entry);
    asked.add(entry.name);
  }
  const poolNames = [...new Set([...all.flatMap((vm) => vm.pools ?? []), ...cluster.nodes.flatMap((node) => node.pools ?? [])])].sort();
  const bridges = [...new Set(all.flatMap((vm) => vm.bridges ?? []))].sort();
  const pools = poolNames.map((name): Pool => ({
    id: name,
    name,
    kind: "dir",
    path: `/${name}`,
    shared: true,
    createdAtMs: 0,
    revision: 1,
  }));
  const nodes = cluster.nodes.map((node, i) => nodeRow(node, i + 1, cluster, poolNames, bridges));
  const vms = all.map((vm, i) => vmRow(vm, i + 1));
  const state = new State();
  state.index = 1;
  state.term = 1;
  const defaults = defaultSettings();
  const { memoryRatio, cpuRatio, scoring, rank } = cluster.settings;
  state.write({
    table: "cluster",
    key: "self",
    row: {
      id: "planfile",
      name: "planfile",
      generation: 1,
      createdAtMs: 0,
      caCertificate: "",
      caKey: "",
      settings: {
        ...defaults,
        "scheduler.memoryRatio": memoryRatio,
        "scheduler.cpuRatio": cpuRatio,
        "scheduler.scoring": request?.scoring ?? scoring ?? "balance",
        "scheduler.rank": rank ?? defaults["scheduler.rank"],
        // Nothing is kept of what happens to a file's cluster.
        "scheduler.historyMib": 0,
      },
      longestClaimMs: defaults["ha.claimMs"],
      nextPeerId: nodes.length + 1,
      nextVmNumber: vms.length + 1,
      nextTaskNumber: 1,
    },
  });
  for (const row of nodes) state.write({ table: "nodes", key: row.id, row });
  for (const row of pools) state.write({ table: "pools", key: row.id, row });
  for (const row of vms) state.write({ table: "vms", key: row.id, row });
  for (const { name, role } of cluster.zones) state.write({ table: "zoneRoles", key: name, row: role });
  for (const policy of cluster.policies) state.write({ table: "policies", key: policy.name, row: policyRow(policy) });
  if (request === null) return { state, request: null };
  const { mode, kind } = request;
  return { state, request: { vms: [...asked], mode, kind, scoring: request.scoring, manual: true } };
}

function nodeRow(node: PlanNode, peerId: number, cluster: PlanCluster, poolNames: readonly string[], bridges: readonly string[]): Node {
  return {
    id: node.name,
    peerId,
    name: node.name,
    state: node.state ?? "ready",
    stateSinceMs: 0,
    stateWhy: "",
    role: "voter",
    zone: node.zone ?? "",
    labels: node.labels ?? {},
    partition: node.partition ?? "",
    apiAddress: "",
    peerAddress: "",
    joinedAtMs: 0,
    tokenId: null,
    info: {
      bootId: "planfile",
      version: "",
      driver: node.driver ?? "simulated",
      hypervisor: node.hypervisor ?? "",
      arch: node.arch ?? ARCH,
      hardwareAccelerated: true,
      cpus: node.cpus,
      cpuModel: node.cpuModel ?? "",
      ...(node.cpuModels === undefined ? {} : { cpuModels: node.cpuModels.toSorted() }),
      ...(node.cpuFeatures === undefined ? {} : { cpuFeatures: node.cpuFeatures.toSorted() }),
      ...(node.numa === undefined ? {} : { cpuTopology: topologyOf(node, node.numa) }),
      ...(node.values === undefined ? {} : { values: node.values }),
      memoryMib: node.memoryMib,
      reserveMib: node.reserveMib ?? cluster.settings.reserveMib,
      guardian: node.guardian === false ? null : "planfile",
      pools: (node.pools ?? poolNames).map((poolId) => ({ poolId, available: true, problem: "", totalBytes: 0, freeBytes: 0 })),
      bridges: [...(node.bridges ?? bridges)],
    },
    parkedMs: 0,
    parkRevision: 0,
    claimRevision: 1,
    revision: 1,
  };
}

/** CPUs numbered core by core, shared out evenly: the first NUMA nodes have one more where it does not come out even. */
function topologyOf(node: PlanNode, numa: number): CpuTopology {
  const threadsPerCore = node.threadsPerCore ?? 1;
  const cores = Math.floor(node.cpus / threadsPerCore);
  let next = 0;
  return {
    sockets: numa,
    coresPerSocket: Math.ceil(cores / numa),
    threadsPerCore,
    numa: Array.from({ length: numa }, (_, id) => {
      const count = (Math.floor(cores / numa) + (id < cores % numa ? 1 : 0)) * threadsPerCore;
      const cpus = Array.from({ length: count }, () => next++);
      return { id, cpus, memoryMib: Math.floor(node.memoryMib / numa) };
    }),
  };
}

function policyRow(policy: PlanPolicy): Policy {
  return {
    id: policy.name,
    name: policy.name,
    enabled: policy.enabled ?? true,
    members: policy.vms,
    ...(policy.vmLabels === undefined ? {} : { memberLabels: policy.vmLabels }),
    strength: policy.rule,
    weight: policy.weight ?? 1,
    target:
      policy.nodes !== undefined || policy.nodeLabels !== undefined
        ? { kind: "nodes", nodeIds: policy.nodes ?? [], ...(policy.nodeLabels === undefined ? {} : { labels: policy.nodeLabels }) }
        : policy.zones !== undefined
          ? { kind: "zones", zones: policy.zones }
          : { kind: "vms", rule: policy.place ?? "different-nodes" },
    revision: 1,
  };
}

function vmRow(vm: PlanVm, number: number): Vm {
  const stopped = vm.state === "stopped";
  const waits = vm.state === "pending" || vm.state === "recovering";
  const runsOn = vm.node === undefined || stopped || waits ? null : vm.node;
  const ha = vm.ha ?? true;
  return {
    id: vm.name,
    number,
    definition: {
      name: vm.name,
      cpus: vm.cpus,
      memoryMib: vm.memoryMib,
      arch: vm.arch ?? ARCH,
      boot: null,
      disks: (vm.pools ?? []).map((pool, k) => ({
        pool,
        source: null,
        sizeBytes: 1,
        clone: true,
        format: "raw" as const,
        target: `vd${k}`,
        bus: "virtio" as const,
        device: "disk" as const,
        readonly: false,
        cache: "default" as const,
      })),
      nics: (vm.bridges ?? []).map((bridge) => ({ bridge, mac: "", model: "virtio" as const })),
      labels: vm.labels ?? {},
      partition: vm.partition ?? "",
      requirements: vm.requirements ?? null,
      rank: vm.rank ?? null,
      cpuPinning: vm.pinning === undefined ? null : { numa: vm.pinning },
      cpu:
        vm.cpuModel === undefined && vm.cpuFeatures === undefined ? null : { model: vm.cpuModel ?? null, features: vm.cpuFeatures ?? [] },
      ...(vm.vdc === undefined ? {} : { vdc: vm.vdc }),
      restart: "always",
      ha: { enabled: ha, priority: vm.priority ?? 0, onQuorumLoss: "stop" },
    },
    createdAtMs: 0,
    revision: 1,
    desired: { power: stopped ? "off" : "on", how: "graceful", deleted: false, hold: vm.hold ?? false, nodeId: vm.requestedNode ?? null },
    state: runsOn !== null ? "running" : stopped ? "stopped" : vm.state === "recovering" ? "recovering" : "pending",
    stateSinceMs: 0,
    reason: null,
    pendingReasons: [],
    claim:
      runsOn === null
        ? null
        : { nodeId: runsOn, generation: 1, deadline: ha, sinceMs: 0, ...(vm.pinned === undefined ? {} : { cpus: vm.pinned }) },
    generation: runsOn === null ? 0 : 1,
    homeNodeId: vm.node ?? null,
    underHa: ha,
    warnings: [],
    failures: 0,
    retryAtMs: 0,
    history: [],
    failover: null,
  };
}
