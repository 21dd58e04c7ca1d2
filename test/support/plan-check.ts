/**
 * A checker of plan answers that shares no code with the scheduler: it knows plan files in their JSON form and the rules of
 * docs/planfile.md and docs/policies.md, and nothing else.
 */
export interface CheckNode {
  name: string;
  cpus: number;
  memoryMib: number;
  reserveMib?: number;
  zone?: string;
  partition?: string;
  labels?: Record<string, string>;
  arch?: string;
  state?: string;
  bridges?: string[];
  pools?: string[];
}

export interface CheckVm {
  name: string;
  cpus: number;
  memoryMib: number;
  node?: string;
  labels?: Record<string, string>;
  partition?: string;
  arch?: string;
  bridges?: string[];
  pools?: string[];
  requirements?: string;
  requestedNode?: string;
}

export interface CheckPolicy {
  name: string;
  vms: string[];
  vmLabels?: Record<string, string>;
  rule: "must" | "must-not" | "prefer" | "prefer-not";
  nodes?: string[];
  nodeLabels?: Record<string, string>;
  zones?: string[];
  place?: "same-node" | "different-nodes";
  weight?: number;
  enabled?: boolean;
}

export interface CheckCluster {
  nodes: CheckNode[];
  vms: CheckVm[];
  policies: CheckPolicy[];
  zones: { name: string; role: "primary" | "secondary" }[];
  settings: { memoryRatio: number; cpuRatio: number; reserveMib: number };
}

export interface CheckAnswer {
  placements: { vm: string; node: string }[];
  rejections: { vm: string; reasons: { code: string; nodes: number; detail: string }[] }[];
  proven: boolean;
}

/** What a requirement of the generator means, by its text. */
export type Meanings = ReadonlyMap<string, (node: CheckNode) => boolean>;

/** Where VMs are, by name; begins with the cluster's. */
type Where = Map<string, string>;

export class PlanChecker {
  readonly cluster: CheckCluster;
  readonly asked: CheckVm[];
  private readonly meanings: Meanings;
  private readonly vms: Map<string, CheckVm>;
  private readonly roles: Map<string, string>;

  constructor(cluster: CheckCluster, asked: CheckVm[], meanings: Meanings) {
    this.cluster = cluster;
    this.asked = asked;
    this.meanings = meanings;
    this.vms = new Map([...cluster.vms, ...asked].map((vm) => [vm.name, vm]));
    this.roles = new Map(cluster.zones.map(({ name, role }) => [name, role]));
  }

  /** Every rule that the answer breaks, in words; empty if it is right. */
  faults(answer: CheckAnswer, inOrder: boolean): string[] {
    const faults: string[] = [];
    const answered = [...answer.placements, ...answer.rejections].map(({ vm }) => vm).sort();
    const wanted = this.asked.map(({ name }) => name).sort();
    if (JSON.stringify(answered) !== JSON.stringify(wanted)) faults.push(`asked for ${wanted.join()}, answered ${answered.join()}`);
    const where = this.begin();
    for (const { vm, node } of answer.placements) {
      const [asked, there] = [this.vms.get(vm), this.cluster.nodes.find(({ name }) => name === node)];
      if (asked === undefined || there === undefined) return [...faults, `${vm} on ${node}: no such thing`];
      const why = this.refusals(where, asked, there);
      if (why.length > 0) faults.push(`${vm} on ${node}: ${why.join()}`);
      // Only one by one is every VM placed on the cluster as those before it in the answer left it.
      else if (inOrder) faults.push(...this.preferenceFaults(where, asked, there));
      where.set(vm, node);
    }
    for (const { vm, reasons } of answer.rejections) faults.push(...this.rejectionFaults(where, this.vms.get(vm)!, reasons));
    return faults;
  }

  /** As many of the VMs as any plan can place, by trying everything. */
  most(): number {
    const visit = (k: number, where: Where): number => {
      const vm = this.asked[k];
      if (vm === undefined) return 0;
      let best = visit(k + 1, where);
      for (const node of this.cluster.nodes) {
        if (this.refusals(where, vm, node).length > 0) continue;
        where.set(vm.name, node.name);
        best = Math.max(best, 1 + visit(k + 1, where));
        where.delete(vm.name);
      }
      return best;
    };
    return visit(0, this.begin());
  }

  private begin(): Where {
    return new Map(this.cluster.vms.flatMap(({ name, node }) => (node === undefined ? [] : [[name, node] as const])));
  }

  private rejectionFaults(where: Where, vm: CheckVm, reasons: CheckAnswer["rejections"][number]["reasons"]): string[] {
    const faults: string[] = [];
    const counted = reasons.reduce((sum, { nodes }) => sum + nodes, 0);
    if (counted < this.cluster.nodes.length) faults.push(`${vm.name}: reasons of ${counted} nodes of ${this.cluster.nodes.length}`);
    for (const node of this.cluster.nodes) {
      if (this.refusals(where, vm, node).length === 0) faults.push(`${vm.name}: rejected, and fits ${node.name}`);
    }
    for (const { code, nodes, detail } of reasons) {
      // A node counts for its first reason, and once more where a policy speaks against it anyway.
      const really = this.cluster.nodes.filter((node) => this.refusals(where, vm, node).includes(code));
      if (nodes < 1 || nodes > really.length) faults.push(`${vm.name}: ${code} on ${nodes} nodes, it is true of ${really.length}`);
      const named = this.cluster.nodes.find(({ name }) => detail.startsWith(`${name}: `));
      if (named === undefined || !really.includes(named)) faults.push(`${vm.name}: ${code} is not true of the node in "${detail}"`);
      else if (code === "memory" || code === "cpus") {
        const { limit, used, asked } = this.room(where, vm, named, code);
        const numbers = /needs (\d+) \w+, (\d+) (?:\w+ )?free of (\d+)/.exec(detail)?.slice(1).map(Number);
        const right = [asked, Math.max(0, limit - used), limit];
        if (JSON.stringify(numbers) !== JSON.stringify(right)) faults.push(`${vm.name}: "${detail}", it is ${right.join()}`);
      }
    }
    return faults;
  }

  /** Every code that speaks against the node. */
  private refusals(where: Where, vm: CheckVm, node: CheckNode): string[] {
    const codes: string[] = [];
    const all = (needed: string[] | undefined, there: string[] | undefined): boolean =>
      there === undefined || (needed ?? []).every((one) => there.includes(one));
    if ((node.state ?? "ready") !== "ready") codes.push("node-not-ready");
    if (vm.requestedNode !== undefined && vm.requestedNode !== node.name) codes.push("requested-node");
    if ((vm.partition ?? "") !== (node.partition ?? "")) codes.push("partition");
    if ((vm.arch ?? "x86_64") !== (node.arch ?? "x86_64")) codes.push("architecture");
    if (!all(vm.bridges, node.bridges)) codes.push("bridge");
    if (!all(vm.pools, node.pools)) codes.push("pool");
    if (vm.requirements !== undefined && this.meanings.get(vm.requirements)?.(node) !== true) codes.push("requirements");
    for (const code of ["memory", "cpus"] as const) {
      const { limit, used, asked } = this.room(where, vm, node, code);
      if (used + asked > limit) codes.push(code);
    }
    for (const policy of this.policiesOf(vm)) {
      if (!policy.rule.startsWith("must") || this.agrees(where, policy, vm, node)) continue;
      codes.push(policy.place === undefined ? "policy" : "vm-policy");
    }
    return codes;
  }

  private room(where: Where, vm: CheckVm, node: CheckNode, what: "memory" | "cpus"): { limit: number; used: number; asked: number } {
    const { memoryRatio, cpuRatio, reserveMib } = this.cluster.settings;
    const size = (one: CheckVm): number => (what === "memory" ? one.memoryMib : one.cpus);
    let used = 0;
    for (const [name, at] of where) if (at === node.name && name !== vm.name) used += size(this.vms.get(name)!);
    const limit =
      what === "memory"
        ? Math.floor((node.memoryMib - (node.reserveMib ?? reserveMib)) * memoryRatio)
        : cpuRatio === 0
          ? Infinity
          : Math.floor(node.cpus * cpuRatio);
    return { limit, used, asked: size(vm) };
  }

  private policiesOf(vm: CheckVm): CheckPolicy[] {
    return this.cluster.policies.filter((policy) => policy.enabled !== false && this.isMember(policy, vm));
  }

  private isMember(policy: CheckPolicy, vm: CheckVm): boolean {
    return policy.vms.includes(vm.name) || has(vm.labels, policy.vmLabels);
  }

  private agrees(where: Where, policy: CheckPolicy, vm: CheckVm, node: CheckNode): boolean {
    if (policy.zones !== undefined) return policy.zones.some((zone) => zone === node.zone || zone === this.roles.get(node.zone ?? ""));
    if (policy.place !== undefined) {
      const others = new Set<string>();
      for (const [name, at] of where) {
        const ready = this.cluster.nodes.find((one) => one.name === at)?.state ?? "ready";
        if (name !== vm.name && ready === "ready" && this.isMember(policy, this.vms.get(name)!)) others.add(at);
      }
      return policy.place === "same-node" ? others.size === 0 || others.has(node.name) : !others.has(node.name);
    }
    const target = (policy.nodes ?? []).includes(node.name) || has(node.labels, policy.nodeLabels);
    return target === (policy.rule === "must" || policy.rule === "prefer");
  }

  /** A preferred node that would have done, where another was taken. */
  private preferenceFaults(where: Where, vm: CheckVm, chosen: CheckNode): string[] {
    const preferences = this.policiesOf(vm)
      .filter(({ rule }) => rule.startsWith("prefer"))
      .sort((a, b) => (b.weight ?? 1) - (a.weight ?? 1) || (a.name < b.name ? -1 : 1));
    let left = this.cluster.nodes.filter((node) => this.refusals(where, vm, node).length === 0);
    for (const policy of preferences) {
      const preferred = left.filter((node) => this.agrees(where, policy, vm, node));
      if (preferred.length > 0) left = preferred;
    }
    if (this.roles.size > 0 && !this.policiesOf(vm).some((policy) => policy.zones !== undefined)) {
      const primary = left.filter((node) => this.roles.get(node.zone ?? "") === "primary");
      if (primary.length > 0) left = primary;
    }
    return left.includes(chosen) ? [] : [`${vm.name} on ${chosen.name}: preferred are ${left.map(({ name }) => name).join()}`];
  }
}

function has(labels: Record<string, string> | undefined, wanted: Record<string, string> | undefined): boolean {
  const pairs = Object.entries(wanted ?? {});
  return pairs.length > 0 && pairs.every(([key, value]) => labels?.[key] === value);
}
