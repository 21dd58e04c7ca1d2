/**
 * May this VM be on this node? The hard checks of SCH-1 in their order, each with a code and the numbers. The scheduler
 * filters with them and the state asks them again when a plan is applied (SCH-20): there is no second version.
 */
import { checkRequirements, printFault } from "./expression/check.ts";
import { holds, nodeValue } from "./expression/evaluate.ts";
import { claimOn } from "./claims.ts";
import { claimedOn, fits, limitsOf, nodeUsage } from "./capacity.ts";
import type { Reservation, Usage } from "./capacity.ts";
import type { Node, NodeInfo } from "./node.ts";
import { agrees, describePolicy, isBetweenVms, isMust, nodesOfOthers, policiesOf } from "./policy.ts";
import type { Policy, Whereabouts } from "./policy.ts";
import { chooseCpus, freeCpus, isPinned, pinnedOn, problemWithCpus } from "./pinning.ts";
import type { Pinned } from "./pinning.ts";
import { defaultSettings } from "./settings.ts";
import type { Settings } from "./settings.ts";
import type { View } from "./view.ts";
import type { Vm, VmDefinition } from "./vm.ts";

export type RefusalCode =
  | "node-not-ready"
  | "witness"
  | "node-unknown"
  | "requested-node"
  | "partition"
  | "architecture"
  | "cpu"
  | "bridge"
  | "pool"
  | "home-node"
  | "requirements"
  | "policy"
  | "memory"
  | "cpus"
  | "pinning"
  | "vm-policy";

/** Why a node cannot take a VM. */
export interface Refusal<Code extends string = string> {
  code: Code;
  /** For people, begins with the node's name: `n2: needs 512 MiB, 200 MiB free of 2048`. */
  detail: string;
  /** The numbers of the detail, units last in the names; empty where the reason has none. */
  numbers: Readonly<Record<string, number>>;
}

export interface PlacementOptions {
  /** Sums kept by the caller; without them the node's claims are summed from the view. */
  usage?: Usage | undefined;
  /** What is promised on nodes beyond the view, by node id. */
  inFlight?: ReadonlyMap<string, Reservation> | undefined;
  /** `preferred`: a VM that asks for CPUs of its own may go without (HA recovery, SCH-4). Absent: `needed`. */
  pinning?: "needed" | "preferred" | undefined;
  /** Where VMs are beyond the view: what was placed before in the same plan. */
  where?: Whereabouts | undefined;
}

/** What a check looks at; the same for all nodes of one decision. */
export interface PlacementContext extends PlacementOptions {
  readonly view: View;
  readonly settings: Settings;
}

/** One link of the chain. `fixed` ones depend on rows only; `capacity` and `others` also on what was placed before in the same plan. */
export interface PlacementCheck {
  readonly code: RefusalCode;
  readonly kind: "fixed" | "capacity" | "others";
  readonly about: string;
  check(context: PlacementContext, vm: Vm, node: Node): Refusal<RefusalCode> | null;
}

const DEFAULT_SETTINGS = Object.freeze(defaultSettings());

export function settingsOf(view: Pick<View, "cluster">): Settings {
  return view.cluster?.settings ?? DEFAULT_SETTINGS;
}

/** SCH-1 in order; the first that refuses is the reason. */
export const PLACEMENT_CHECKS: readonly PlacementCheck[] = [
  {
    code: "node-not-ready",
    kind: "fixed",
    about: "the node is alive and ready",
    check: (_context, _vm, node) =>
      node.witness === true
        ? refusal("node-not-ready", node, "is a witness: it votes and runs no VMs")
        : node.state === "ready"
          ? null
          : refusal("node-not-ready", node, `is ${node.state}${node.stateWhy === "" ? "" : ` (${node.stateWhy})`}`),
  },
  {
    code: "witness",
    kind: "fixed",
    about: "the node is there for more than its vote",
    check: (_context, _vm, node) => (node.witness === true ? refusal("witness", node, "is a witness: it votes and runs no VMs") : null),
  },
  {
    code: "node-unknown",
    kind: "fixed",
    about: "the agent has said what the node has",
    check: (_context, _vm, node) => (node.info === null ? refusal("node-unknown", node, "has not reported what it has yet") : null),
  },
  {
    code: "requested-node",
    kind: "fixed",
    about: "the node is the one asked for, if one was",
    check: (context, vm, node) => {
      const wanted = vm.desired.nodeId;
      if (wanted === null || wanted === node.id) return null;
      return refusal("requested-node", node, `the VM was asked to be on ${nodeName(context.view, wanted)}`);
    },
  },
  {
    code: "partition",
    kind: "fixed",
    about: "node and VM are of the same partition",
    check: (_context, vm, node) => {
      const [mine, its] = [vm.definition.partition ?? "", node.partition ?? ""];
      return mine === its
        ? null
        : refusal("partition", node, `is in ${its === "" ? "no partition" : `partition ${its}`}, the VM in ${mine === "" ? "none" : mine}`);
    },
  },
  {
    code: "architecture",
    kind: "fixed",
    about: "the node has the VM's architecture",
    check: (_context, vm, node) => {
      const info = known(node);
      return info.arch === vm.definition.arch ? null : refusal("architecture", node, `is ${info.arch}, the VM needs ${vm.definition.arch}`);
    },
  },
  { code: "cpu", kind: "fixed", about: "the guest's CPU model and features are supported", check: checkCpuModel },
  {
    code: "bridge",
    kind: "fixed",
    about: "every network the VM needs is on the node",
    check: (_context, vm, node) => {
      const missing = vm.definition.nics.find((nic) => !known(node).bridges.includes(nic.bridge));
      return missing === undefined ? null : refusal("bridge", node, `has no bridge ${missing.bridge}`);
    },
  },
  { code: "pool", kind: "fixed", about: "the VM's volumes are reachable from the node", check: checkPools },
  {
    code: "home-node",
    kind: "fixed",
    about: "volumes in pools that are not shared stay where they are",
    check: (context, vm, node) => {
      if (vm.homeNodeId === null || vm.homeNodeId === node.id) return null;
      const pool = localPool(context.view, vm.definition);
      return pool === null
        ? null
        : refusal("home-node", node, `the VM's volumes in pool ${pool} are local to ${nodeName(context.view, vm.homeNodeId)}`);
    },
  },
  { code: "requirements", kind: "fixed", about: "the VM's requirements hold on the node", check: checkRequirement },
  {
    code: "policy",
    kind: "fixed",
    about: "must policies of the VM on nodes and zones",
    check: (context, vm, node) => checkPolicies(context, vm, node, (policy) => !isBetweenVms(policy), "policy"),
  },
  { code: "memory", kind: "capacity", about: "used + in flight + asked ≤ (physical − reserve) × ratio", check: checkMemory },
  { code: "cpus", kind: "capacity", about: "vCPUs placed + asked ≤ logical CPUs × ratio, where a ratio is set", check: checkCpus },
  {
    code: "pinning",
    kind: "others",
    about: "enough CPUs that are no other VM's alone, where the VM asks for its own",
    check: checkPinning,
  },
  {
    code: "vm-policy",
    kind: "others",
    about: "must policies of the VM with other VMs",
    check: (context, vm, node) => checkPolicies(context, vm, node, isBetweenVms, "vm-policy"),
  },
];

/**
 * The first reason why `vm` may not be on `node`, or null if it may. What the VM itself holds there already is not
 * counted twice. O(1) with `usage`, else O(VMs on the node).
 */
export function checkPlacement(view: View, vm: Vm, node: Node, options: PlacementOptions = {}): Refusal<RefusalCode> | null {
  const context: PlacementContext = { ...options, view, settings: settingsOf(view) };
  for (const link of PLACEMENT_CHECKS) {
    const found = link.check(context, vm, node);
    if (found !== null) return found;
  }
  return null;
}

/** Names of the pools a definition needs, each once: of its disks, of what they are made from, of its boot files. */
export function poolsOf(definition: VmDefinition): string[] {
  const names = new Set<string>();
  for (const disk of definition.disks) {
    names.add(disk.pool);
    if (disk.source !== null) names.add(poolOfReference(disk.source));
  }
  const boot = definition.boot;
  if (boot !== null) {
    names.add(poolOfReference(boot.kernel));
    if (boot.initrd !== null) names.add(poolOfReference(boot.initrd));
  }
  return [...names];
}

/** Name of a pool the VM needs that is not shared, which binds the VM to its home; null if all are shared. */
export function localPool(view: Pick<View, "pools" | "poolIdByName">, definition: VmDefinition): string | null {
  for (const name of poolsOf(definition)) {
    const id = view.poolIdByName.get(name);
    if (id !== undefined && view.pools.get(id)?.shared === false) return name;
  }
  return null;
}

/** What others hold on the node, in flight included, without `vm` itself. */
function heldByOthers(context: PlacementContext, vm: Vm, node: Node): Reservation {
  const sums = context.usage === undefined ? claimedOn(context.view, node.id) : nodeUsage(context.usage, node.id);
  const inFlight = context.inFlight?.get(node.id);
  // The view's own row says what the sums hold; the caller's may be a later version of it.
  const own = context.view.vms.get(vm.id);
  const counted = own !== undefined && claimOn(own, node.id) !== null ? own.definition : null;
  return {
    memoryMib: sums.memoryMib + (inFlight?.memoryMib ?? 0) - (counted?.memoryMib ?? 0),
    cpus: sums.cpus + (inFlight?.cpus ?? 0) - (counted?.cpus ?? 0),
  };
}

function checkMemory(context: PlacementContext, vm: Vm, node: Node): Refusal<RefusalCode> | null {
  const limitMib = limitsOf(node, context.settings).memoryMib;
  const usedMib = heldByOthers(context, vm, node).memoryMib;
  const askedMib = vm.definition.memoryMib;
  if (fits(usedMib, askedMib, limitMib)) return null;
  const freeMib = Math.max(0, limitMib - usedMib);
  return refusal("memory", node, `needs ${askedMib} MiB, ${freeMib} MiB free of ${limitMib}`, { askedMib, usedMib, freeMib, limitMib });
}

function checkCpus(context: PlacementContext, vm: Vm, node: Node): Refusal<RefusalCode> | null {
  if (context.settings["scheduler.cpuRatio"] === 0) return null;
  const held = pinnedOn(context.view, vm, node.id, context.inFlight);
  const exclusiveCpus = held.reduce((sum, { cpus }) => sum + cpus.length, 0);
  const limitCpus = limitsOf(node, context.settings, exclusiveCpus).cpus;
  if (limitCpus === Number.POSITIVE_INFINITY) return null;
  const usedCpus = heldByOthers(context, vm, node).cpus;
  const askedCpus = vm.definition.cpus;
  if (fits(usedCpus, askedCpus, limitCpus)) return null;
  const freeCpus = Math.max(0, limitCpus - usedCpus);
  return refusal("cpus", node, `needs ${askedCpus} vCPUs, ${freeCpus} free of ${limitCpus}`, { askedCpus, usedCpus, freeCpus, limitCpus });
}

function checkCpuModel(_context: PlacementContext, vm: Vm, node: Node): Refusal<RefusalCode> | null {
  const { model, features } = vm.definition.cpu ?? { model: null, features: [] };
  const { cpuModels, cpuFeatures } = known(node);
  if (model !== null && model !== "host" && cpuModels !== undefined && !cpuModels.includes(model))
    return refusal("cpu", node, `cannot give a guest the CPU model ${model}`);
  const missing = cpuFeatures === undefined ? [] : features.filter((feature) => !cpuFeatures.includes(feature));
  return missing.length === 0
    ? null
    : refusal("cpu", node, `has not the CPU feature ${missing.join(", ")}`, { missingFeatures: missing.length });
}

function checkPinning(context: PlacementContext, vm: Vm, node: Node): Refusal<RefusalCode> | null {
  if (!isPinned(vm) || context.pinning === "preferred") return null;
  if (known(node).cpuTopology === undefined) return refusal("pinning", node, "has not reported which CPUs it has");
  const held = pinnedOn(context.view, vm, node.id, context.inFlight);
  if (chooseCpus(node, vm, held) !== null) return fitsBesideShared(context, vm, node, held);
  const { free, most, all } = freeCpus(node, held);
  const askedCpus = vm.definition.cpus;
  const numbers = { askedCpus, freeCpus: free, mostOfOneNuma: most, limitCpus: all };
  const where = vm.definition.cpuPinning?.numa === "one" ? `, ${most} of one NUMA node` : "";
  return refusal("pinning", node, `needs ${askedCpus} CPUs of its own, ${free} free of ${all}${where}; one is left to the host`, numbers);
}

/** What is pinned no longer serves the VMs that share. */
function fitsBesideShared(context: PlacementContext, vm: Vm, node: Node, held: readonly Pinned[]): Refusal<RefusalCode> | null {
  const exclusiveCpus = held.reduce((sum, { cpus }) => sum + cpus.length, 0) + vm.definition.cpus;
  const limitCpus = limitsOf(node, context.settings, exclusiveCpus).cpus;
  const usedCpus = heldByOthers(context, vm, node).cpus;
  if (fits(usedCpus, vm.definition.cpus, limitCpus)) return null;
  const sharedCpus = usedCpus - exclusiveCpus + vm.definition.cpus;
  const numbers = { askedCpus: vm.definition.cpus, sharedCpus, exclusiveCpus, limitCpus: limitCpus - exclusiveCpus };
  return refusal(
    "pinning",
    node,
    `${sharedCpus} vCPUs share its CPUs, and only ${numbers.limitCpus} could beside ${exclusiveCpus} CPUs given away`,
    numbers,
  );
}

/**
 * The check when a plan is applied: the placement itself, and the CPUs it gives. `cpus` undefined with `unpinned` set is an
 * HA recovery that found no node with CPUs to give.
 */
export function checkPlaced(
  view: View,
  vm: Vm,
  node: Node,
  placed: { cpus?: readonly number[] | undefined; unpinned?: string | undefined },
  options: PlacementOptions = {},
): Refusal<RefusalCode> | null {
  const without = placed.cpus === undefined && placed.unpinned !== undefined && vm.state === "recovering";
  const found = checkPlacement(view, vm, node, { ...options, pinning: without ? "preferred" : "needed" });
  if (found !== null || without) return found;
  if (!isPinned(vm)) return placed.cpus === undefined ? null : refusal("pinning", node, "the VM did not ask for CPUs of its own");
  const problem = problemWithCpus(node, vm, placed.cpus ?? [], pinnedOn(view, vm, node.id, options.inFlight));
  return problem === null ? null : refusal("pinning", node, problem);
}

function checkRequirement(_context: PlacementContext, vm: Vm, node: Node): Refusal<RefusalCode> | null {
  const text = vm.definition.requirements ?? null;
  if (text === null || text.trim() === "") return null;
  const checked = checkRequirements(text);
  if (!checked.ok) return refusal("requirements", node, `the requirements are wrong: ${printFault(text, checked.fault)}`);
  if (holds(checked.expression, (name) => nodeValue(node, name))) return null;
  return refusal("requirements", node, `${text} does not hold`);
}

function checkPolicies(
  context: PlacementContext,
  vm: Vm,
  node: Node,
  which: (policy: Policy) => boolean,
  code: "policy" | "vm-policy",
): Refusal<RefusalCode> | null {
  for (const policy of policiesOf(context.view, vm.id)) {
    if (!isMust(policy) || !which(policy)) continue;
    if (agrees(context.view, policy, node, nodesOfOthers(context.view, policy, vm, context.where))) continue;
    return refusal(code, node, describePolicy(context.view, policy));
  }
  return null;
}

function checkPools(context: PlacementContext, vm: Vm, node: Node): Refusal<RefusalCode> | null {
  for (const name of poolsOf(vm.definition)) {
    const id = context.view.poolIdByName.get(name);
    if (id === undefined) return refusal("pool", node, `no pool is named ${name}`);
    const status = known(node).pools.find((pool) => pool.poolId === id);
    if (status === undefined) return refusal("pool", node, `has not reported pool ${name}`);
    if (!status.available)
      return refusal("pool", node, `pool ${name} is not available${status.problem === "" ? "" : `: ${status.problem}`}`);
  }
  return null;
}

function poolOfReference(reference: string): string {
  const slash = reference.indexOf("/");
  return slash === -1 ? reference : reference.slice(0, slash);
}

function nodeName(view: View, nodeId: string): string {
  return view.nodes.get(nodeId)?.name ?? nodeId;
}

/** Checks after `node-unknown` have the node's facts; a chain in another order is a bug. */
function known(node: Node): NodeInfo {
  if (node.info === null) throw new TypeError(`node ${node.name} has no facts: node-unknown must come first in the chain`);
  return node.info;
}

function refusal(code: RefusalCode, node: Node, why: string, numbers: Readonly<Record<string, number>> = {}): Refusal<RefusalCode> {
  return { code, detail: `${node.name}: ${why}`, numbers };
}
