/**
 * A cluster and a request as a file: for tests, bug reports and capacity planning without any cluster (docs/planfile.md).
 * This file is the JSON form's shape and check; every fault is reported, each with its field.
 */
import { RoostError } from "../base/errors.ts";
import type { Violation } from "../base/errors.ts";
import { checkRank, checkRequirements, printFault } from "../model/expression/check.ts";

export interface PlanCluster {
  nodes: PlanNode[];
  vms: PlanVm[];
  policies: PlanPolicy[];
  zones: PlanZone[];
  settings: PlanSettings;
}

export interface PlanNode {
  name: string;
  cpus: number;
  memoryMib: number;
  /** Kept for the node itself; absent: the settings' `reserveMib`. */
  reserveMib?: number;
  zone?: string;
  partition?: string;
  labels?: Record<string, string>;
  arch?: string;
  state?: PlanNodeState;
  driver?: string;
  hypervisor?: string;
  cpuModel?: string;
  /** What guests can be given; absent: anything. */
  cpuModels?: string[];
  cpuFeatures?: string[];
  /** NUMA nodes that the CPUs are shared out to; absent: nothing can be pinned here. */
  numa?: number;
  threadsPerCore?: number;
  /** What probes print, for requirements and rank. */
  values?: Record<string, string>;
  /** Something acts when agent and keeper are gone (absent: true); only for what-if. */
  guardian?: boolean;
  bridges?: string[];
  /** Names of the shared pools the node reaches; absent: all that are named anywhere. */
  pools?: string[];
}

export type PlanNodeState = "ready" | "disabled" | "draining" | "maintenance" | "unreachable" | "fenced";

export interface PlanVm {
  name: string;
  cpus: number;
  memoryMib: number;
  /** Where it is; absent: nowhere yet. */
  node?: string;
  /** With a node: `running` (absent) reserves there; `stopped`, `pending`, `recovering` have their home there and reserve nothing. */
  state?: "running" | "stopped" | "pending" | "recovering";
  /** Kept from the scheduler. */
  hold?: boolean;
  /** Under HA; absent: true. */
  ha?: boolean;
  vdc?: string;
  /** Exclusive CPUs, of any NUMA nodes or all of one. */
  pinning?: "any" | "one";
  /** Those it has on its node. */
  pinned?: number[];
  cpuModel?: string;
  cpuFeatures?: string[];
  /** Only this node will do. */
  requestedNode?: string;
  priority?: number;
  partition?: string;
  labels?: Record<string, string>;
  arch?: string;
  bridges?: string[];
  pools?: string[];
  requirements?: string;
  rank?: string;
}

export interface PlanPolicy {
  name: string;
  vms: string[];
  rule: "must" | "must-not" | "prefer" | "prefer-not";
  /** VMs with all these labels are members, too. */
  vmLabels?: Record<string, string>;
  /** One of: nodes (by name, by labels, or both), zones, place. */
  nodes?: string[];
  nodeLabels?: Record<string, string>;
  zones?: string[];
  place?: "same-node" | "different-nodes";
  /** Of preferences, higher first. */
  weight?: number;
  enabled?: boolean;
}

export interface PlanZone {
  name: string;
  role: "primary" | "secondary";
}

export interface PlanSettings {
  memoryRatio: number;
  /** 0: no limit. */
  cpuRatio: number;
  reserveMib: number;
  scoring?: PlanScoring;
  /** What `rank` compares. */
  rank?: string;
}

export type PlanScoring = "balance" | "even" | "consolidate" | "rank";

export interface PlanFileRequest {
  /** Names of the cluster's VMs, or new ones. */
  vms: (string | PlanVm)[];
  mode: "one-by-one" | "batch";
  /** null: as the cluster's settings say, else balance. */
  scoring: PlanScoring | null;
  kind: "start" | "recover" | "migrate";
  seed: string;
}

type Fields = Record<string, Rule>;
type Rule = { readonly needed?: true } & (
  | { readonly is: "name" | "text" | "boolean" | "names" | "labels" | "cpus" | "requirements" | "rank" }
  | { readonly is: "number" | "whole"; readonly min: number }
  | { readonly is: "choice"; readonly of: readonly string[] }
);

const NODE: Fields = {
  name: { is: "name", needed: true },
  cpus: { is: "whole", min: 1, needed: true },
  memoryMib: { is: "whole", min: 1, needed: true },
  reserveMib: { is: "whole", min: 0 },
  zone: { is: "name" },
  partition: { is: "name" },
  labels: { is: "labels" },
  arch: { is: "name" },
  state: { is: "choice", of: ["ready", "disabled", "draining", "maintenance", "unreachable", "fenced"] },
  driver: { is: "text" },
  hypervisor: { is: "text" },
  cpuModel: { is: "text" },
  cpuModels: { is: "names" },
  cpuFeatures: { is: "names" },
  numa: { is: "whole", min: 1 },
  threadsPerCore: { is: "whole", min: 1 },
  values: { is: "labels" },
  guardian: { is: "boolean" },
  bridges: { is: "names" },
  pools: { is: "names" },
};

const VM: Fields = {
  name: { is: "name", needed: true },
  cpus: { is: "whole", min: 1, needed: true },
  memoryMib: { is: "whole", min: 1, needed: true },
  node: { is: "name" },
  state: { is: "choice", of: ["running", "stopped", "pending", "recovering"] },
  hold: { is: "boolean" },
  ha: { is: "boolean" },
  vdc: { is: "name" },
  pinning: { is: "choice", of: ["any", "one"] },
  pinned: { is: "cpus" },
  cpuModel: { is: "text" },
  cpuFeatures: { is: "names" },
  requestedNode: { is: "name" },
  priority: { is: "whole", min: -1_000_000 },
  partition: { is: "name" },
  labels: { is: "labels" },
  arch: { is: "name" },
  bridges: { is: "names" },
  pools: { is: "names" },
  requirements: { is: "requirements" },
  rank: { is: "rank" },
};

const POLICY: Fields = {
  name: { is: "name", needed: true },
  vms: { is: "names" },
  vmLabels: { is: "labels" },
  rule: { is: "choice", of: ["must", "must-not", "prefer", "prefer-not"], needed: true },
  nodes: { is: "names" },
  nodeLabels: { is: "labels" },
  zones: { is: "names" },
  place: { is: "choice", of: ["same-node", "different-nodes"] },
  weight: { is: "number", min: 0 },
  enabled: { is: "boolean" },
};

const ZONE: Fields = {
  name: { is: "name", needed: true },
  role: { is: "choice", of: ["primary", "secondary"], needed: true },
};

const SETTINGS: Fields = {
  memoryRatio: { is: "number", min: 0 },
  cpuRatio: { is: "number", min: 0 },
  reserveMib: { is: "whole", min: 0 },
  scoring: { is: "choice", of: ["balance", "even", "consolidate", "rank"] },
  rank: { is: "rank" },
};

const REQUEST: Fields = {
  mode: { is: "choice", of: ["one-by-one", "batch"] },
  scoring: { is: "choice", of: ["balance", "even", "consolidate", "rank"] },
  kind: { is: "choice", of: ["start", "recover", "migrate"] },
  seed: { is: "text" },
};

/** Checks the parsed JSON (or text form) of a cluster; throws `invalid` with all faults. */
export function clusterFrom(value: unknown): PlanCluster {
  const faults: Violation[] = [];
  const top = record(value, "", faults, ["nodes", "vms", "policies", "zones", "settings", "recording"]);
  const cluster: PlanCluster = {
    nodes: rows<PlanNode>(top["nodes"], "nodes", NODE, faults),
    vms: rows<PlanVm>(top["vms"], "vms", VM, faults),
    policies: rows<Omit<PlanPolicy, "vms"> & { vms?: string[] }>(top["policies"], "policies", POLICY, faults).map((policy) => ({
      ...policy,
      vms: policy.vms ?? [],
    })),
    zones: rows<PlanZone>(top["zones"], "zones", ZONE, faults),
    settings: {
      memoryRatio: 1,
      cpuRatio: 0,
      reserveMib: 0,
      ...row<Partial<PlanSettings>>(top["settings"] ?? {}, "settings", SETTINGS, faults),
    },
  };
  unique(cluster.nodes, "nodes", faults);
  unique(cluster.vms, "vms", faults);
  unique(cluster.policies, "policies", faults);
  const nodes = new Set(cluster.nodes.map((node) => node.name));
  for (const [k, vm] of cluster.vms.entries()) {
    mention(vm.node, nodes, "node", `vms[${k}].node`, faults);
    mention(vm.requestedNode, nodes, "node", `vms[${k}].requestedNode`, faults);
    if (vm.state !== undefined && vm.node === undefined)
      faults.push({ field: `vms[${k}].state`, message: "means something only with a node" });
  }
  for (const [k, policy] of cluster.policies.entries()) {
    for (const [j, node] of (policy.nodes ?? []).entries()) mention(node, nodes, "node", `policies[${k}].nodes[${j}]`, faults);
    const targets = [policy.nodes ?? policy.nodeLabels, policy.zones, policy.place].filter((target) => target !== undefined).length;
    if (targets !== 1) faults.push({ field: `policies[${k}]`, message: "names exactly one of nodes (or nodeLabels), zones and place" });
    if (policy.nodes === undefined && policy.nodeLabels === undefined && (policy.rule === "must-not" || policy.rule === "prefer-not")) {
      faults.push({ field: `policies[${k}].rule`, message: "must-not and prefer-not go with nodes; zones and place take must or prefer" });
    }
  }
  refuse(faults, "the cluster file");
  return cluster;
}

/** Checks the parsed request; throws `invalid` with all faults. */
export function requestFrom(value: unknown): PlanFileRequest {
  const faults: Violation[] = [];
  const top = record(value, "", faults, ["vms", ...Object.keys(REQUEST)]);
  const list = top["vms"];
  const vms: (string | PlanVm)[] = [];
  if (!Array.isArray(list)) faults.push({ field: "vms", message: "must be a list of names or VMs" });
  else {
    for (const [k, entry] of (list as unknown[]).entries()) {
      vms.push(typeof entry === "string" ? entry : row<PlanVm>(entry, `vms[${k}]`, VM, faults));
    }
  }
  const known = Object.fromEntries(Object.keys(REQUEST).map((name) => [name, top[name] ?? null]));
  const options = row<Partial<Omit<PlanFileRequest, "vms">>>(known, "", REQUEST, faults);
  refuse(faults, "the request file");
  return { mode: "one-by-one", scoring: null, kind: "start", seed: "0", ...options, vms };
}

function refuse(faults: Violation[], where: string): void {
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults }, `see docs/planfile.md for the form of ${where}`);
}

function rows<T extends object>(value: unknown, path: string, fields: Fields, faults: Violation[]): T[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) {
    faults.push({ field: path, message: "must be a list" });
    return [];
  }
  return (value as unknown[]).map((entry, k) => row<T>(entry, `${path}[${k}]`, fields, faults));
}

/** The caller names the type that `fields` describes. */
function row<T extends object>(value: unknown, path: string, fields: Fields, faults: Violation[]): T {
  const found = { ...record(value, path, faults, Object.keys(fields)) };
  // Programs write null for what they leave out.
  for (const name of Object.keys(found)) if (found[name] === null) delete found[name];
  for (const [name, rule] of Object.entries(fields)) {
    const field = path === "" ? name : `${path}.${name}`;
    const problem = found[name] === undefined ? (rule.needed === true ? "is missing" : null) : problemWith(found[name], rule);
    if (problem !== null) faults.push({ field, message: problem });
  }
  return found as T;
}

function record(value: unknown, path: string, faults: Violation[], known: readonly string[]): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    faults.push({ field: path, message: "must be an object" });
    return {};
  }
  for (const name of Object.keys(value)) {
    if (!known.includes(name))
      faults.push({ field: path === "" ? name : `${path}.${name}`, message: `is not known; expected one of ${known.join(", ")}` });
  }
  return value as Record<string, unknown>;
}

/** An EiB in MiB: more is a slip, or an amount in bytes. */
const WHOLE_MAX = 2 ** 40;

function problemWith(value: unknown, rule: Rule): string | null {
  switch (rule.is) {
    case "name":
      return typeof value === "string" && /^[^\s,=#]+$/.test(value) ? null : "must be a name without blanks, commas, = and #";
    case "text":
      return typeof value === "string" ? null : "must be text";
    case "requirements":
    case "rank": {
      if (typeof value !== "string") return "must be text";
      const checked = rule.is === "rank" ? checkRank(value) : checkRequirements(value);
      return checked.ok ? null : printFault(value, checked.fault);
    }
    case "boolean":
      return typeof value === "boolean" ? null : "must be true or false";
    case "names":
      return Array.isArray(value) && value.every((entry) => typeof entry === "string") ? null : "must be a list of names";
    case "cpus":
      return Array.isArray(value) && value.every((entry) => Number.isSafeInteger(entry) && Number(entry) >= 0)
        ? null
        : "must be a list of CPU numbers";
    case "labels":
      return typeof value === "object" && value !== null && Object.values(value).every((entry) => typeof entry === "string")
        ? null
        : "must be an object of texts";
    case "number":
      return typeof value === "number" && Number.isFinite(value) && value >= rule.min ? null : `must be a number from ${rule.min}`;
    case "whole":
      return typeof value === "number" && Number.isInteger(value) && value >= rule.min && value <= WHOLE_MAX
        ? null
        : `must be a whole number from ${rule.min}${typeof value === "number" && value > WHOLE_MAX ? ` to ${WHOLE_MAX}` : ""}`;
    case "choice":
      return typeof value === "string" && rule.of.includes(value) ? null : `must be one of ${rule.of.join(", ")}`;
  }
}

function unique(list: readonly { name: string }[], path: string, faults: Violation[]): void {
  const seen = new Set<string>();
  for (const [k, { name }] of list.entries()) {
    if (seen.has(name)) faults.push({ field: `${path}[${k}].name`, message: `${name} is there twice` });
    seen.add(name);
  }
}

function mention(name: string | undefined, known: ReadonlySet<string>, what: string, field: string, faults: Violation[]): void {
  if (name !== undefined && !known.has(name)) faults.push({ field, message: `no ${what} is named ${name}` });
}
