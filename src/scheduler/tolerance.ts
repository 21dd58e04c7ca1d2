/**
 * Would all VMs under HA find a place after these losses (HA-16)? Three answers for each loss: shown, by arithmetic for many losses at
 * once or by a place for every VM; impossible, by a bound or a complete search; or neither. docs/design/013-admission.md. Pure.
 */
import { limitsOf, nodeUsage, usageOf } from "../model/capacity.ts";
import type { Usage } from "../model/capacity.ts";
import { isPinned } from "../model/pinning.ts";
import { settingsOf } from "../model/placement.ts";
import { isBetweenVms, isMust, policiesOf } from "../model/policy.ts";
import { homelessVms, mortalNodes, mortalZones, smallerLossesCount, vmsAtRiskOn } from "../model/tolerance.ts";
import type { Evidence, Impossible, ToleranceGoal } from "../model/tolerance.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import { arenaOf } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { classesFor } from "./items.ts";
import { whyImpossible } from "./impossible.ts";
import { viewAfter } from "./loss.ts";
import { solve } from "./plan.ts";
import type { PlanRequest } from "./types.ts";

export interface ToleranceOptions {
  /** Losses that may be planned one by one, so that an answer takes a second at most; what is left over is not shown. */
  plans?: number;
  /** Stop at the first loss that is impossible. */
  first?: boolean;
  /** Ids of the VMs that are asked about: a VM that would be lost whatever is decided about them is no reason to refuse them. */
  blame?: ReadonlySet<string>;
}

export interface Tolerance {
  goal: ToleranceGoal;
  /** `overcommitted`: some loss is impossible. `unproven`: some is neither shown nor impossible. Never called safe then. */
  verdict: "protected" | "unproven" | "overcommitted";
  evidence: Evidence[];
  /** The first of them. */
  impossible: Impossible[];
  /** Losses without an answer, node ids: the first of them, and how many. */
  open: (readonly string[])[];
  openCount: number;
  /** Losses that were planned one by one. */
  planned: number;
}

const PLANS_MAX = 400;
/** Rows of nodes and lost VMs that all plans of one answer may go through. */
const ROWS = 400_000;
const SEARCH_STEPS = 20_000;
const SHOWN = 5;

export function toleranceOf(view: View, goal: ToleranceGoal, options: ToleranceOptions = {}): Tolerance {
  return new Losing(view, options).answer(goal);
}

/** The answer for one loss alone; null where there is none. */
export function lossOf(
  view: View,
  lost: readonly string[],
  zone: string | null,
  options: ToleranceOptions = {},
): Evidence | Impossible | null {
  const vms = [...homelessVms(view), ...lost.flatMap((id) => vmsAtRiskOn(view, id))];
  return placesFor(view, view.usage ?? usageOf(view), { lost, zone }, vms, options.blame);
}

class Losing {
  readonly #view: View;
  readonly #usage: Usage;
  readonly #options: ToleranceOptions;
  readonly #room: Room;
  readonly #homeless: readonly Vm[];
  #plansLeft: number;

  constructor(view: View, options: ToleranceOptions) {
    this.#view = view;
    this.#usage = view.usage ?? usageOf(view);
    this.#options = options;
    this.#homeless = homelessVms(view);
    this.#room = new Room(view, this.#usage, this.#homeless);
    this.#plansLeft = options.plans ?? PLANS_MAX;
  }

  answer(goal: ToleranceGoal): Tolerance {
    const found: Tolerance = { goal, verdict: "protected", evidence: [], impossible: [], open: [], openCount: 0, planned: 0 };
    const mortal = mortalNodes(this.#view);
    // The heaviest first: what is left then is covered by arithmetic soonest.
    const order = mortal.toSorted((a, b) => this.#room.weight(b) - this.#room.weight(a) || (a < b ? -1 : 1));
    const most = Math.min(goal.nodes, order.length);
    for (let size = smallerLossesCount(this.#view) ? Math.min(1, most) : most; size <= most; size++)
      if (size > 0) this.#walk(found, order, [], 0, size);
    if (goal.zones) {
      for (const [zone, lost] of mortalZones(this.#view, mortal, goal)) {
        if (this.#isOver(found)) break;
        this.#leaf(found, lost, zone);
      }
    }
    found.verdict = found.impossible.length > 0 ? "overcommitted" : found.openCount > 0 ? "unproven" : "protected";
    return found;
  }

  /** All losses of `chosen` and `size` more of the order from `start` on. */
  #walk(found: Tolerance, order: readonly string[], chosen: readonly string[], start: number, size: number): void {
    if (this.#isOver(found)) return;
    if (size === 0) return this.#leaf(found, chosen, null);
    const among = order.slice(start);
    if (this.#room.holds(chosen, among, size)) {
      found.evidence.push({ kind: "room", losses: { all: chosen, among, more: size } });
      return;
    }
    for (let i = start; i <= order.length - size; i++) this.#walk(found, order, [...chosen, order[i]!], i + 1, size - 1);
  }

  #leaf(found: Tolerance, lost: readonly string[], zone: string | null): void {
    if (this.#room.holds(lost, [], 0)) {
      found.evidence.push({ kind: "room", losses: { all: lost, among: [], more: 0 } });
      return;
    }
    const short = this.#room.shortAfter(lost, zone);
    if (short !== null) return void found.impossible.push(short);
    const cost = (this.#view.nodes.size + lost.reduce((sum, id) => sum + this.#room.vmsOn(id).length, 0)) / (ROWS / PLANS_MAX);
    if (this.#plansLeft > 0) found.planned++;
    const vms = [...this.#homeless, ...lost.flatMap((id) => this.#room.vmsOn(id))];
    const answer = this.#plansLeft > 0 ? placesFor(this.#view, this.#usage, { lost, zone }, vms, this.#options.blame) : null;
    this.#plansLeft -= Math.max(1, cost);
    if (answer === null) {
      found.openCount++;
      if (found.open.length < SHOWN) found.open.push(lost);
    } else if (!("lost" in answer) || "moves" in answer) found.evidence.push(answer as Evidence);
    else if (found.impossible.length < SHOWN) found.impossible.push(answer as Impossible);
  }

  #isOver({ impossible }: Tolerance): boolean {
    return impossible.length >= (this.#options.first === true ? 1 : SHOWN);
  }
}

/** Plans a loss with the code that recovers. */
function placesFor(
  view: View,
  usage: Usage,
  loss: { lost: readonly string[]; zone: string | null },
  vms: readonly Vm[],
  blame: ReadonlySet<string> | undefined,
): Evidence | Impossible | null {
  const request: PlanRequest = {
    vms: vms.map((vm) => vm.id),
    mode: "batch",
    kind: "recover",
    scoring: "balance",
    manual: true,
    searchSteps: SEARCH_STEPS,
  };
  const { lost } = loss;
  const { arena, items, outcome } = solve(viewAfter(view, lost, vms), request, "tolerance", usage);
  const { node, order } = outcome.attempt;
  const left = items.filter((_, k) => node[k] === -1);
  if (left.length === 0) {
    const moves = order.map((k) => [items[k]!.vm.id, arena.nodes[node[k]!]!.id] as const);
    return { kind: "places", lost, moves };
  }
  const hopeless = new Set(
    left.filter((item) => item.class.eligible.length === 0 && blame?.has(item.vm.id) === false).map(({ vm }) => vm.id),
  );
  if (hopeless.size > 0) {
    const rest = vms.filter((vm) => !hopeless.has(vm.id));
    return placesFor(view, usage, loss, rest, blame);
  }
  const why = whyImpossible(arena, items, outcome.proven);
  return why === null ? null : { ...loss, ...why };
}

interface Need {
  memory: number;
  cpus: number;
}

/** VMs of one class on one node: the largest of them decides. */
interface Kind extends Need {
  eligible: Int32Array;
}

/** The arithmetic of `room` evidence: see `faultsOfRoom` in model/tolerance-check.ts for why it is enough. */
class Room {
  readonly #arena: Arena;
  readonly #limited: boolean;
  readonly #free: { memory: number; cpus: number }[];
  readonly #vms = new Map<string, Vm[]>();
  readonly #sums = new Map<string, Need>();
  readonly #kinds = new Map<string, Map<number, Kind>>();
  /** Nodes with VMs whose place depends on where others are: no arithmetic for them. */
  readonly #bound = new Set<string>();
  readonly #homeless: string | null;

  constructor(view: View, usage: Usage, homeless: readonly Vm[]) {
    const settings = settingsOf(view);
    this.#limited = settings["scheduler.cpuRatio"] > 0;
    this.#arena = arenaOf(view, { usage });
    const request: PlanRequest = { vms: [], mode: "batch", kind: "recover", scoring: null };
    const classOf = classesFor({ view, settings, request, usage, pinning: "preferred" }, this.#arena);
    this.#free = this.#arena.nodes.map((node) => {
      const used = nodeUsage(usage, node.id);
      const limits = limitsOf(node, settings, used.exclusiveCpus);
      return { memory: limits.memoryMib - used.memoryMib, cpus: limits.cpus - used.cpus };
    });
    const add = (nodeId: string, vms: readonly Vm[]): void => {
      const kinds = new Map<number, Kind>();
      const sum: Need = { memory: 0, cpus: 0 };
      for (const vm of vms) {
        const { memoryMib: memory, cpus } = vm.definition;
        sum.memory += memory;
        sum.cpus += cpus;
        const own = classOf(vm.desired.nodeId === null ? vm : { ...vm, desired: { ...vm.desired, nodeId: null } });
        const known = kinds.get(own.id);
        if (known === undefined) kinds.set(own.id, { memory, cpus, eligible: own.eligible });
        else Object.assign(known, { memory: Math.max(known.memory, memory), cpus: Math.max(known.cpus, cpus) });
        if ((this.#limited && isPinned(vm)) || policiesOf(view, vm.id).some((policy) => isMust(policy) && isBetweenVms(policy)))
          this.#bound.add(nodeId);
      }
      this.#vms.set(nodeId, [...vms]);
      this.#sums.set(nodeId, sum);
      this.#kinds.set(nodeId, kinds);
    };
    for (const id of view.claimsByNode.keys()) add(id, vmsAtRiskOn(view, id));
    this.#homeless = homeless.length === 0 ? null : "homeless VMs";
    if (this.#homeless !== null) add(this.#homeless, homeless);
  }

  vmsOn(nodeId: string): readonly Vm[] {
    return this.#vms.get(nodeId) ?? [];
  }

  /** Nodes with bound VMs are told apart first, then by what they lose. */
  weight(nodeId: string): number {
    return (this.#bound.has(nodeId) ? 2 ** 40 : 0) + (this.#sums.get(nodeId)?.memory ?? 0);
  }

  /** Too little memory in all, or too few vCPUs: the bound that needs no plan. */
  shortAfter(lost: readonly string[], zone: string | null): Impossible | null {
    const ids = this.#homeless === null ? lost : [...lost, this.#homeless];
    for (const resource of ["memory", "cpus"] as const) {
      const needed = ids.reduce((sum, id) => sum + (this.#sums.get(id)?.[resource] ?? 0), 0);
      let available = 0;
      for (const [i, node] of this.#arena.nodes.entries())
        if (node.state === "ready" && node.witness !== true && !lost.includes(node.id)) available += Math.max(0, this.#free[i]![resource]);
      if (needed <= available) continue;
      const vmIds = ids.flatMap((id) => this.vmsOn(id)).map(({ id }) => id);
      return { lost, zone, kind: "sum", vmIds, resource, needed, available, size: 0 };
    }
    return null;
  }

  /** True if any loss of `all` and `more` of `among` leaves room enough whatever goes where. */
  holds(all: readonly string[], among: readonly string[], more: number): boolean {
    const certain = this.#homeless === null ? all : [...all, this.#homeless];
    if ([...certain, ...among].some((id) => this.#bound.has(id))) return false;
    const sum = (id: string, of: keyof Need): number => this.#sums.get(id)?.[of] ?? 0;
    const worst = (of: keyof Need): number =>
      certain.reduce((total, id) => total + sum(id, of), 0) +
      largest(
        among.map((id) => sum(id, of)),
        more,
      );
    const [memory, cpus] = [worst("memory"), worst("cpus")];
    const kinds = new Map<number, Kind>();
    for (const id of [...certain, ...among]) {
      for (const [key, kind] of this.#kinds.get(id) ?? []) {
        const known = kinds.get(key);
        kinds.set(
          key,
          known === undefined ? kind : { ...known, memory: Math.max(known.memory, kind.memory), cpus: Math.max(known.cpus, kind.cpus) },
        );
      }
    }
    return [...kinds.values()].every((kind) => this.#suffices(kind, memory, cpus, all, among, more));
  }

  #suffices(kind: Kind, memory: number, cpus: number, all: readonly string[], among: readonly string[], more: number): boolean {
    const shares = new Float64Array(this.#arena.nodes.length);
    let left = 0;
    for (const i of kind.eligible) {
      const id = this.#arena.nodes[i]!.id;
      if (all.includes(id)) continue;
      const a = this.#free[i]!.memory - kind.memory + 1;
      const b = this.#free[i]!.cpus - kind.cpus + 1;
      if (a <= 0 || b <= 0) continue;
      left += shares[i] = Math.min(a / memory, this.#limited ? b / cpus : Number.POSITIVE_INFINITY);
    }
    left -= largest(
      among.map((id) => shares[this.#arena.indexOf.get(id) ?? -1] ?? 0),
      more,
    );
    // A little more than needed, so that the checker's sums in another order come out the same.
    return left >= (this.#limited ? 2 : 1) + 1e-6;
  }
}

function largest(values: readonly number[], count: number): number {
  if (count === 0) return 0;
  if (count === 1) return values.reduce((most, one) => Math.max(most, one), 0);
  return values
    .toSorted((a, b) => b - a)
    .slice(0, count)
    .reduce((sum, one) => sum + one, 0);
}
