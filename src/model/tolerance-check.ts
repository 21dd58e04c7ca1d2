/**
 * The small checker of N+k proofs (HA-16, BEY-4). It believes nothing of what the scheduler says and shares no code with its planning:
 * it goes through every loss by itself, and asks only what applying a placement asks (`checkPlacement`). O(losses × VMs lost).
 */
import { limitsOf, nodeUsage, replaceVm, usageOf } from "./capacity.ts";
import type { Usage } from "./capacity.ts";
import type { Node } from "./node.ts";
import { isPinned } from "./pinning.ts";
import { PLACEMENT_CHECKS, checkPlacement, settingsOf } from "./placement.ts";
import { isBetweenVms, isMust, policiesOf } from "./policy.ts";
import { homelessVms, mortalNodes, mortalZones, smallerLossesCount, vmsAtRiskOn } from "./tolerance.ts";
import type { Evidence, Losses, ToleranceProof } from "./tolerance.ts";
import type { View } from "./view.ts";
import type { Vm } from "./vm.ts";

/** Everything that is wrong with the proof, in words; empty if it shows what it says of this view. */
export function faultsOfProof(view: View, proof: ToleranceProof): string[] {
  if (proof.viewIndex !== view.index) return [`the proof is of revision ${proof.viewIndex}, this is ${view.index}`];
  const faults = proof.evidence.flatMap((one) => (one.kind === "room" ? faultsOfRoom(view, one.losses) : faultsOfPlaces(view, one)));
  for (const lost of everyLoss(view, proof.goal)) {
    if (!proof.evidence.some((one) => covers(one, lost))) faults.push(`nothing is shown for the loss of ${named(view, lost)}`);
  }
  return faults;
}

/** Every set of nodes that the goal speaks of; as ids, ascending. */
export function* everyLoss(view: View, goal: ToleranceProof["goal"]): Generator<readonly string[]> {
  const mortal = mortalNodes(view);
  const most = Math.min(goal.nodes, mortal.length);
  for (let size = smallerLossesCount(view) ? Math.min(1, most) : most; size <= most; size++)
    if (size > 0) yield* choose(mortal, size, 0, []);
  if (goal.zones) for (const nodeIds of mortalZones(view, mortal, goal).values()) yield nodeIds;
}

function* choose(from: readonly string[], size: number, start: number, chosen: readonly string[]): Generator<readonly string[]> {
  if (chosen.length === size) return yield chosen;
  for (let i = start; i <= from.length - (size - chosen.length); i++) yield* choose(from, size, i + 1, [...chosen, from[i]!]);
}

function covers(evidence: Evidence, lost: readonly string[]): boolean {
  if (evidence.kind === "places") return evidence.lost.length === lost.length && lost.every((id) => evidence.lost.includes(id));
  const { all, among, more } = evidence.losses;
  const rest = lost.filter((id) => !all.includes(id));
  return lost.length - rest.length === all.length && rest.length <= more && rest.every((id) => among.includes(id));
}

function lostWith(view: View, lost: readonly string[]): Vm[] {
  return [...homelessVms(view), ...lost.flatMap((id) => vmsAtRiskOn(view, id))];
}

/** Each VM that is lost has one place, and one after the other may be put there as things are then. */
function faultsOfPlaces(view: View, { lost, moves }: Evidence & { kind: "places" }): string[] {
  const where = `loss of ${named(view, lost)}`;
  const after = afterLoss(view, lost);
  const waiting = new Map(lostWith(view, lost).map((vm) => [vm.id, vm]));
  const faults: string[] = [];
  for (const [vmId, nodeId] of moves) {
    const vm = after.view.vms.get(vmId);
    const node = after.view.nodes.get(nodeId);
    if (vm === undefined || node === undefined || !waiting.delete(vmId)) {
      faults.push(`${where}: ${vmId} on ${nodeId} is no answer`);
      continue;
    }
    const refusal = checkPlacement(after.view, vm, node, { usage: after.usage, pinning: "preferred" });
    if (refusal !== null) faults.push(`${where}: ${vm.definition.name} cannot be on ${refusal.detail}`);
    after.put(vm, node);
  }
  for (const vm of waiting.values()) faults.push(`${where}: ${vm.definition.name} has no place`);
  return faults;
}

/** The view without the lost nodes, with their VMs waiting; `put` gives a VM a claim in it. */
function afterLoss(view: View, lost: readonly string[]): { view: View; usage: Usage; put(vm: Vm, node: Node): void } {
  const vms = new Map(view.vms);
  const claimsByNode = new Map([...view.claimsByNode].map(([id, ids]) => [id, new Set(ids)]));
  const sums = view.usage ?? usageOf(view);
  const usage: Usage = { totalCpus: sums.totalCpus, nodes: new Map([...sums.nodes].map(([id, row]) => [id, { ...row }])) };
  for (const vm of lostWith(view, lost)) {
    if (vm.claim !== null) claimsByNode.get(vm.claim.nodeId)?.delete(vm.id);
    const waiting: Vm = { ...vm, claim: null, state: "recovering", desired: { ...vm.desired, nodeId: null } };
    vms.set(vm.id, waiting);
    replaceVm(usage, vm, waiting);
  }
  const nodes = new Map([...view.nodes].filter(([id]) => !lost.includes(id)));
  return {
    view: { ...view, nodes, vms, claimsByNode, usage },
    usage,
    put(vm, node) {
      const placed: Vm = { ...vm, claim: { nodeId: node.id, generation: vm.generation + 1, deadline: true, sinceMs: 0 } };
      vms.set(vm.id, placed);
      claimsByNode.set(node.id, (claimsByNode.get(node.id) ?? new Set()).add(vm.id));
      replaceVm(usage, vm, placed);
    },
  };
}

/**
 * If the VMs lost take M MiB and C vCPUs together, a VM of m and c finds every node it may use full only if each took at least
 * a = free − m + 1 MiB or b = free − c + 1 vCPUs of them. Those filled by memory add up to less than M, those by vCPUs to less than C: so the
 * sum of min(a / M, b / C) over these nodes stays below 2, or below 1 where vCPUs are not limited. If it is not, nothing can go wrong,
 * in whatever order and wherever they are put.
 */
function faultsOfRoom(view: View, { all, among, more }: Losses): string[] {
  const where = `room after the loss of ${[...all.map((id) => nodeName(view, id)), `${more} of ${among.length} nodes`].join(", ")}`;
  if (all.some((id) => among.includes(id)) || new Set(among).size !== among.length) return [`${where}: a node is named twice`];
  const settings = settingsOf(view);
  const limited = settings["scheduler.cpuRatio"] > 0;
  const usage = view.usage ?? usageOf(view);
  const onNode = new Map([...all, ...among].map((id) => [id, vmsAtRiskOn(view, id)]));
  const certain = [...homelessVms(view), ...all.flatMap((id) => onNode.get(id)!)];
  const concerned = [...certain, ...among.flatMap((id) => onNode.get(id)!)];
  const bound = concerned.find(
    (vm) => (limited && isPinned(vm)) || policiesOf(view, vm.id).some((policy) => isMust(policy) && isBetweenVms(policy)),
  );
  if (bound !== undefined) return [`${where}: where ${bound.definition.name} may be depends on other VMs`];
  const total = (vms: readonly Vm[], of: "memoryMib" | "cpus"): number => vms.reduce((sum, vm) => sum + vm.definition[of], 0);
  const worst = (of: "memoryMib" | "cpus"): number =>
    total(certain, of) +
    top(
      among.map((id) => total(onNode.get(id)!, of)),
      more,
    );
  const [memory, cpus] = [worst("memoryMib"), worst("cpus")];
  const dead = new Set(all);
  for (const group of alike(view, concerned)) {
    const share = (node: Node): number => {
      const { memoryMib, cpus: usedCpus, exclusiveCpus } = nodeUsage(usage, node.id);
      const limits = limitsOf(node, settings, exclusiveCpus);
      const a = limits.memoryMib - memoryMib - group.memoryMib + 1;
      const b = limits.cpus - usedCpus - group.cpus + 1;
      return a <= 0 || b <= 0 ? 0 : Math.min(a / memory, limited ? b / cpus : Infinity);
    };
    const shares = new Map(group.nodes.filter((node) => !dead.has(node.id)).map((node) => [node.id, share(node)]));
    const left =
      [...shares.values()].reduce((sum, one) => sum + one, 0) -
      top(
        among.map((id) => shares.get(id) ?? 0),
        more,
      );
    if (left < (limited ? 2 : 1) + 1e-9) return [`${where}: not enough for VMs such as ${group.example.definition.name}`];
  }
  return [];
}

/** VMs by the set of nodes that rows alone allow them, with the largest memory and the most vCPUs of each set. */
function alike(view: View, vms: readonly Vm[]): { nodes: Node[]; memoryMib: number; cpus: number; example: Vm }[] {
  const context = { view, settings: settingsOf(view) };
  const fixed = PLACEMENT_CHECKS.filter(({ kind }) => kind === "fixed");
  const groups = new Map<string, { nodes: Node[]; memoryMib: number; cpus: number; example: Vm }>();
  const known = new Map<string, Node[]>();
  const nodesFor = (vm: Vm): Node[] => {
    const { name: _, memoryMib: _memory, cpus: _cpus, ...rest } = vm.definition;
    // All that a check of rows alone can look at, but for the node.
    const key = JSON.stringify([rest, vm.homeNodeId, view.policies.size === 0 ? "" : vm.id]);
    const asked = { ...vm, desired: { ...vm.desired, nodeId: null } };
    const allows = (node: Node): boolean => node.state === "ready" && fixed.every((link) => link.check(context, asked, node) === null);
    const found = known.get(key) ?? [...view.nodes.values()].filter(allows);
    known.set(key, found);
    return found;
  };
  for (const vm of vms) {
    const nodes = nodesFor(vm);
    const key = nodes.map(({ id }) => id).join(" ");
    const group = groups.get(key) ?? { nodes, memoryMib: 0, cpus: 0, example: vm };
    const { memoryMib, cpus } = vm.definition;
    groups.set(key, { ...group, memoryMib: Math.max(group.memoryMib, memoryMib), cpus: Math.max(group.cpus, cpus) });
  }
  return [...groups.values()];
}

/** Sum of the `count` largest. */
function top(values: readonly number[], count: number): number {
  return values
    .toSorted((a, b) => b - a)
    .slice(0, count)
    .reduce((sum, one) => sum + one, 0);
}

function named(view: View, ids: readonly string[]): string {
  return ids.map((id) => nodeName(view, id)).join(", ");
}

function nodeName(view: View, id: string): string {
  return view.nodes.get(id)?.name ?? id;
}
