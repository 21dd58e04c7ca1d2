/** A plan file's cluster as a view of the state, and its request as the scheduler's. Names serve as ids. */
import { invalid } from "../base/errors.ts";
import type { Node } from "../model/node.ts";
import type { Policy } from "../model/policy.ts";
import type { Pool } from "../model/pool.ts";
import { defaultSettings } from "../model/settings.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import type { PlanRequest } from "../scheduler/types.ts";
import type { PlanCluster, PlanFileRequest, PlanNode, PlanPolicy, PlanVm } from "./planfile.ts";

const ARCH = "x86_64";

/** The view at index 1; new VMs of `request` are in it, pending. Throws `invalid` for a request that names unknown VMs or a known name anew. */
export function viewFrom(cluster: PlanCluster, request: PlanFileRequest | null): { view: View; request: PlanRequest | null } {
  const known = new Set(cluster.vms.map((vm) => vm.name));
  const all: PlanVm[] = [...cluster.vms];
  const asked: string[] = [];
  for (const [k, entry] of (request?.vms ?? []).entries()) {
    if (typeof entry === "string") {
      if (!known.has(entry))
        throw invalid(`vms[${k}]`, `no VM of the cluster is named ${entry}`, "write a new VM whole: name, cpus, memoryMib");
      asked.push(entry);
      continue;
    }
    if (known.has(entry.name))
      throw invalid(`vms[${k}].name`, `${entry.name} is a VM already`, "name the VMs of the cluster by their name alone");
    known.add(entry.name);
    all.push(entry);
    asked.push(entry.name);
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
  const claims = new Map<string, Set<string>>();
  for (const vm of vms) {
    if (vm.claim === null) continue;
    const set = claims.get(vm.claim.nodeId) ?? new Set();
    claims.set(vm.claim.nodeId, set.add(vm.id));
  }
  const names = <T extends { id: string }>(rows: readonly T[]): Map<string, string> => new Map(rows.map((row) => [row.id, row.id]));
  const view: View = {
    index: 1,
    term: 1,
    cluster: {
      id: "planfile",
      name: "planfile",
      generation: 1,
      createdAtMs: 0,
      caCertificate: "",
      caKey: "",
      settings: {
        ...defaultSettings(),
        "scheduler.memoryRatio": cluster.settings.memoryRatio,
        "scheduler.cpuRatio": cluster.settings.cpuRatio,
        "scheduler.scoring": request?.scoring ?? "balance",
      },
      longestClaimMs: defaultSettings()["ha.claimMs"],
      nextPeerId: nodes.length + 1,
      nextVmNumber: vms.length + 1,
    },
    nodes: new Map(nodes.map((node) => [node.id, node])),
    vms: new Map(vms.map((vm) => [vm.id, vm])),
    pools: new Map(pools.map((pool) => [pool.id, pool])),
    policies: new Map(cluster.policies.map((policy) => [policy.name, policyRow(policy)])),
    policyIdByName: new Map(cluster.policies.map((policy) => [policy.name, policy.name])),
    zoneRoles: new Map(cluster.zones.map(({ name, role }) => [name, role])),
    tokens: new Map(),
    claimsByNode: claims,
    vmIdByName: names(vms),
    nodeIdByName: names(nodes),
    poolIdByName: names(pools),
  };
  if (request === null) return { view, request: null };
  return { view, request: { vms: asked, mode: request.mode, kind: request.kind, scoring: request.scoring, manual: true } };
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
      driver: "simulated",
      hypervisor: "",
      arch: node.arch ?? ARCH,
      hardwareAccelerated: true,
      cpus: node.cpus,
      cpuModel: "",
      memoryMib: node.memoryMib,
      reserveMib: node.reserveMib ?? cluster.settings.reserveMib,
      guardian: "planfile",
      pools: (node.pools ?? poolNames).map((poolId) => ({ poolId, available: true, problem: "", totalBytes: 0, freeBytes: 0 })),
      bridges: [...(node.bridges ?? bridges)],
    },
    parkedMs: 0,
    parkRevision: 0,
    claimRevision: 1,
    revision: 1,
  };
}

function policyRow(policy: PlanPolicy): Policy {
  return {
    id: policy.name,
    name: policy.name,
    enabled: policy.enabled ?? true,
    members: policy.vms,
    strength: policy.rule,
    weight: policy.weight ?? 1,
    target:
      policy.nodes !== undefined
        ? { kind: "nodes", nodeIds: policy.nodes }
        : policy.zones !== undefined
          ? { kind: "zones", zones: policy.zones }
          : { kind: "vms", rule: policy.place ?? "different-nodes" },
    revision: 1,
  };
}

function vmRow(vm: PlanVm, number: number): Vm {
  const stopped = vm.state === "stopped";
  const runsOn = vm.node === undefined || stopped ? null : vm.node;
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
      restart: "always",
      ha: { enabled: true, priority: vm.priority ?? 0, onQuorumLoss: "stop" },
    },
    createdAtMs: 0,
    revision: 1,
    desired: { power: stopped ? "off" : "on", how: "graceful", deleted: false, hold: false, nodeId: vm.requestedNode ?? null },
    state: runsOn !== null ? "running" : stopped ? "stopped" : "pending",
    stateSinceMs: 0,
    reason: null,
    pendingReasons: [],
    claim: runsOn === null ? null : { nodeId: runsOn, generation: 1, deadline: true, sinceMs: 0 },
    generation: runsOn === null ? 0 : 1,
    homeNodeId: vm.node ?? null,
    underHa: true,
    warnings: [],
    failures: 0,
    retryAtMs: 0,
    history: [],
    failover: null,
  };
}
