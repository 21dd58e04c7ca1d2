/** Small nodes, VMs and views for tests of pure code; a test names only what it is about. */
import type { Node, NodeInfo, NodeState } from "../../src/model/node.ts";
import type { Pool } from "../../src/model/pool.ts";
import { defaultSettings } from "../../src/model/settings.ts";
import type { Settings } from "../../src/model/settings.ts";
import { NO_TASKS, type View } from "../../src/model/view.ts";
import type { Vm, VmDefinition, VmState } from "../../src/model/vm.ts";

export interface NodeWish extends Partial<NodeInfo> {
  state?: NodeState;
}

export function testNode(id: string, { state, ...info }: NodeWish): Node {
  return {
    id,
    peerId: 1,
    name: id,
    state: state ?? "ready",
    stateSinceMs: 0,
    stateWhy: "",
    role: "voter",
    zone: "",
    labels: {},
    apiAddress: "",
    peerAddress: "",
    joinedAtMs: 0,
    tokenId: null,
    info: {
      bootId: "b",
      version: "",
      driver: "simulated",
      hypervisor: "",
      arch: "x86_64",
      hardwareAccelerated: true,
      cpus: 4,
      cpuModel: "",
      memoryMib: 4096,
      reserveMib: 0,
      guardian: null,
      pools: [],
      bridges: [],
      ...info,
    },
    parkedMs: 0,
    parkRevision: 0,
    claimRevision: 0,
    revision: 0,
  };
}

export interface VmWish {
  claim?: string | null;
  home?: string | null;
  state?: VmState;
  wanted?: string;
  hold?: boolean;
  number?: number;
}

export function testVm(id: string, definition: Partial<VmDefinition>, wish: VmWish = {}): Vm {
  const claim = wish.claim ?? null;
  return {
    id,
    number: wish.number ?? 1,
    definition: {
      name: id,
      cpus: 1,
      memoryMib: 256,
      arch: "x86_64",
      boot: null,
      disks: [],
      nics: [],
      labels: {},
      restart: "always",
      ha: { enabled: true, priority: 0, onQuorumLoss: "stop" },
      ...definition,
    },
    createdAtMs: 0,
    revision: 0,
    desired: { power: "on", how: "graceful", deleted: false, hold: wish.hold ?? false, nodeId: wish.wanted ?? null },
    state: wish.state ?? (claim === null ? "pending" : "running"),
    stateSinceMs: 0,
    reason: null,
    pendingReasons: [],
    claim: claim === null ? null : { nodeId: claim, generation: 1, deadline: true, sinceMs: 0 },
    generation: 1,
    homeNodeId: wish.home ?? null,
    underHa: true,
    warnings: [],
    failures: 0,
    retryAtMs: 0,
    history: [],
    failover: null,
  };
}

export function testPool(name: string, shared: boolean): Pool {
  return { id: `p-${name}`, name, kind: "dir", path: `/${name}`, shared, createdAtMs: 0, revision: 0 };
}

/** Pool `name` as a node sees it. */
export function seenPool(name: string, available: boolean): NodeInfo["pools"][number] {
  return { poolId: `p-${name}`, available, problem: available ? "" : "not mounted", totalBytes: 0, freeBytes: 0 };
}

export function testView(nodes: readonly Node[], vms: readonly Vm[], pools: readonly Pool[] = [], settings: Partial<Settings> = {}): View {
  const claims = new Map<string, Set<string>>();
  for (const vm of vms) {
    if (vm.claim === null) continue;
    claims.set(vm.claim.nodeId, (claims.get(vm.claim.nodeId) ?? new Set()).add(vm.id));
  }
  return {
    index: 7,
    term: 1,
    cluster: {
      id: "c",
      name: "c",
      generation: 1,
      createdAtMs: 0,
      caCertificate: "",
      caKey: "",
      settings: { ...defaultSettings(), ...settings },
      longestClaimMs: 4_000,
      nextPeerId: 1,
      nextVmNumber: 1,
      nextTaskNumber: 1,
    },
    nodes: new Map(nodes.map((node) => [node.id, node])),
    vms: new Map(vms.map((vm) => [vm.id, vm])),
    pools: new Map(pools.map((pool) => [pool.id, pool])),
    policies: new Map(),
    policyIdByName: new Map(),
    zoneRoles: new Map(),
    tokens: new Map(),
    ...NO_TASKS,
    claimsByNode: claims,
    vmIdByName: new Map(vms.map((vm) => [vm.definition.name, vm.id])),
    nodeIdByName: new Map(nodes.map((node) => [node.name, node.id])),
    poolIdByName: new Map(pools.map((pool) => [pool.name, pool.id])),
  };
}
