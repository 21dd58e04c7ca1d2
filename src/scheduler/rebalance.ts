/**
 * A plan of live migrations that evens out the cluster (SCH-15). Pure; nothing is moved here.
 *
 * The score is the standard deviation over the ready nodes of memory in use / physical memory, plus that of vCPUs / logical
 * CPUs: what Ganeti's hbal weighs for VMs without mirrored disks, so both can be compared. Steps are taken one after the
 * other, each the best of all single migrations that are left; the VM holds its source until it has arrived.
 */
import { fits, usageOf } from "../model/capacity.ts";
import type { Usage } from "../model/capacity.ts";
import { checkPlacement, settingsOf } from "../model/placement.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import { CPUS, LIMIT_CPUS, LIMIT_MEMORY, MEMORY, USED_CPUS, USED_MEMORY, WIDTH, arenaOf, giveCpus, shift } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { FilterContext } from "./filters.ts";
import { classesFor, overlayFor, pinningFor } from "./items.ts";
import type { Item } from "./items.ts";
import { promisedBy } from "./reasons.ts";

export interface RebalanceOptions {
  /** Memory that may be moved in all, MiB; null for no limit. */
  maxMib?: number | null;
  maxSteps?: number | null;
  /** A step must lower the score by so much. */
  minGain?: number;
}

export interface RebalanceStep {
  vmId: string;
  fromNodeId: string;
  toNodeId: string;
  /** What travels. */
  memoryMib: number;
  /** CPUs of its own there, where the VM asks for them. */
  cpus?: number[];
  /** Of the whole cluster, before and after this step. */
  scoreBefore: number;
  scoreAfter: number;
  /** The target just before: with the VM added, both are within their limits. No vCPU limit: null. */
  target: { usedMib: number; limitMib: number; usedCpus: number; limitCpus: number | null };
}

export interface RebalancePlan {
  scoreBefore: number;
  scoreAfter: number;
  movedMib: number;
  steps: RebalanceStep[];
  /** Why there are no more: nothing gains enough, or a limit. */
  stopped: "min-gain" | "max-mib" | "max-steps";
}

const DEFAULT_MIN_GAIN = 0.001;

export function rebalance(view: View, options: RebalanceOptions = {}, usage: Usage = usageOf(view)): RebalancePlan {
  return new Rebalance(view, usage, options).run();
}

interface Move {
  item: Item;
  from: number;
  to: number;
  score: number;
}

class Rebalance {
  private readonly view: View;
  private readonly options: RebalanceOptions;
  private readonly arena: Arena;
  private readonly context: FilterContext;
  /** VMs that may move and have not, by the index of their node. */
  private readonly on: Item[][];
  /** Ready nodes. */
  private readonly nodes: Int32Array;
  private memorySum = 0;
  private memorySquares = 0;
  private cpuSum = 0;
  private cpuSquares = 0;
  private left: number;

  constructor(view: View, usage: Usage, options: RebalanceOptions) {
    this.view = view;
    this.options = options;
    this.left = options.maxMib ?? Number.POSITIVE_INFINITY;
    this.arena = arenaOf(view, { usage });
    const request = { vms: [], mode: "one-by-one", kind: "migrate", scoring: null } as const;
    this.context = { view, settings: settingsOf(view), request, usage, pinning: "needed" };
    this.nodes = Int32Array.from(
      [...this.arena.nodes.keys()].filter((i) => {
        const node = this.arena.nodes[i]!;
        return node.state === "ready" && this.arena.cells[i * WIDTH + MEMORY]! > 0 && this.arena.cells[i * WIDTH + CPUS]! > 0;
      }),
    );
    this.on = this.arena.nodes.map(() => []);
    // Which node a VM is on is looked at below, so VMs that differ in nothing else share their class.
    const classOf = classesFor({ ...this.context, request: { ...request, kind: "start" } }, this.arena);
    const ready = new Set(this.nodes);
    for (const vm of [...view.vms.values()].filter(mayMove).toSorted((a, b) => a.number - b.number || (a.id < b.id ? -1 : 1))) {
      const from = this.arena.indexOf.get(vm.claim!.nodeId);
      if (from === undefined || !ready.has(from)) continue;
      const own = classOf(vm);
      const pinning = pinningFor(this.context, this.arena, vm);
      const overlay = overlayFor(this.context, this.arena, vm, own, pinning);
      const { memoryMib: memory, cpus } = vm.definition;
      this.on[from]!.push({ vm, memory, cpus, tie: 0, class: own, size: 0, rank: 0, overlay, pinning, score: null });
    }
    for (const i of this.nodes) this.count(i, 1);
  }

  run(): RebalancePlan {
    const before = this.score();
    const plan: RebalancePlan = { scoreBefore: before, scoreAfter: before, movedMib: 0, steps: [], stopped: "min-gain" };
    while (plan.steps.length < (this.options.maxSteps ?? Number.POSITIVE_INFINITY)) {
      const move = this.best();
      if (move === null || plan.scoreAfter - move.score < (this.options.minGain ?? DEFAULT_MIN_GAIN)) {
        if (this.left < largest(this.on)) plan.stopped = "max-mib";
        return plan;
      }
      plan.steps.push(this.make(move, plan.scoreAfter));
      plan.scoreAfter = move.score;
      plan.movedMib += move.item.memory;
      this.left -= move.item.memory;
    }
    plan.stopped = "max-steps";
    return plan;
  }

  private score(): number {
    return spread(this.memorySum, this.memorySquares, this.nodes.length) + spread(this.cpuSum, this.cpuSquares, this.nodes.length);
  }

  /** The single migration that lowers the score most; ties by order of node and VM. */
  private best(): Move | null {
    const { arena, nodes } = this;
    const { cells } = arena;
    const n = nodes.length;
    // The score's slope in both variances, so that the inner loop needs no root; the winner's score is then computed in full.
    const perMemory = 1 / Math.max(spread(this.memorySum, this.memorySquares, n), 1e-9);
    const perCpu = 1 / Math.max(spread(this.cpuSum, this.cpuSquares, n), 1e-9);
    let [bestItem, bestFrom, bestTo, bestWorth]: [Item | null, number, number, number] = [null, -1, -1, 0];
    for (const from of nodes) {
      const at = from * WIDTH;
      for (const item of this.on[from]!) {
        if (item.memory > this.left) continue;
        const { memory, cpus } = item;
        const overlay = item.overlay?.(arena.where) ?? null;
        const tiers = overlay?.tiers ?? item.class.tiers;
        const outMemory = cells[at + USED_MEMORY]! / cells[at + MEMORY]!;
        const outCpu = cells[at + USED_CPUS]! / cells[at + CPUS]!;
        const lessMemory = memory / cells[at + MEMORY]!;
        const lessCpu = cpus / cells[at + CPUS]!;
        for (const to of item.class.eligible) {
          if (to === from) continue;
          const b = to * WIDTH;
          const inMemory = cells[b + USED_MEMORY]! / cells[b + MEMORY]!;
          const inCpu = cells[b + USED_CPUS]! / cells[b + CPUS]!;
          const moreMemory = memory / cells[b + MEMORY]!;
          const moreCpu = cpus / cells[b + CPUS]!;
          const squares = moreMemory * (2 * inMemory + moreMemory) - lessMemory * (2 * outMemory - lessMemory);
          const cpuSquares = moreCpu * (2 * inCpu + moreCpu) - lessCpu * (2 * outCpu - lessCpu);
          const shiftMemory = moreMemory - lessMemory;
          const shiftCpu = moreCpu - lessCpu;
          const worth =
            perMemory * (squares - ((2 * this.memorySum + shiftMemory) * shiftMemory) / n) +
            perCpu * (cpuSquares - ((2 * this.cpuSum + shiftCpu) * shiftCpu) / n);
          if (worth >= bestWorth) continue;
          if (
            !fits(cells[b + USED_MEMORY]!, memory, cells[b + LIMIT_MEMORY]!) ||
            !fits(cells[b + USED_CPUS]!, cpus, cells[b + LIMIT_CPUS]!)
          )
            continue;
          if (overlay !== null && overlay.blocked[to] !== 0) continue;
          if (tiers !== null && tiers[to]! > tiers[from]!) continue;
          [bestItem, bestFrom, bestTo, bestWorth] = [item, from, to, worth];
        }
      }
    }
    if (bestItem === null) return null;
    return { item: bestItem, from: bestFrom, to: bestTo, score: this.scoreWith(bestItem, bestFrom, bestTo) };
  }

  private scoreWith(item: Item, from: number, to: number): number {
    const before = [this.memorySum, this.memorySquares, this.cpuSum, this.cpuSquares] as const;
    this.carry(item, from, to);
    const score = this.score();
    this.carry(item, to, from);
    [this.memorySum, this.memorySquares, this.cpuSum, this.cpuSquares] = before;
    return score;
  }

  private carry({ memory, cpus }: Item, from: number, to: number): void {
    this.count(from, -1);
    this.count(to, -1);
    shift(this.arena, from, memory, cpus, -1);
    shift(this.arena, to, memory, cpus, 1);
    this.count(from, 1);
    this.count(to, 1);
  }

  private make({ item, from, to, score }: Move, before: number): RebalanceStep {
    const { arena, view, context } = this;
    const [source, target] = [arena.nodes[from]!, arena.nodes[to]!];
    // The state's own check, on what is promised by then: the VM still counts on its source.
    const refusal = checkPlacement(view, item.vm, target, { ...context, inFlight: promisedBy(context, arena, item), where: arena.where });
    if (refusal !== null) throw new TypeError(`a step of rebalancing does not fit: ${refusal.detail}`);
    const cells = arena.cells.slice(to * WIDTH, to * WIDTH + WIDTH);
    const own = item.pinning?.(to) ?? null;
    this.carry(item, from, to);
    if (own !== null) giveCpus(arena, item.vm.id, { ...own, node: to });
    if (item.overlay !== null) arena.where.set(item.vm.id, target.id);
    this.on[from] = this.on[from]!.filter((one) => one !== item);
    return {
      vmId: item.vm.id,
      fromNodeId: source.id,
      toNodeId: target.id,
      memoryMib: item.memory,
      ...(own === null ? {} : { cpus: [...own.cpus] }),
      scoreBefore: before,
      scoreAfter: score,
      target: {
        usedMib: cells[USED_MEMORY]!,
        limitMib: cells[LIMIT_MEMORY]!,
        usedCpus: cells[USED_CPUS]!,
        limitCpus: cells[LIMIT_CPUS] === Number.POSITIVE_INFINITY ? null : cells[LIMIT_CPUS]!,
      },
    };
  }

  private count(i: number, sign: 1 | -1): void {
    const { cells } = this.arena;
    const at = i * WIDTH;
    const memory = cells[at + USED_MEMORY]! / cells[at + MEMORY]!;
    const cpus = cells[at + USED_CPUS]! / cells[at + CPUS]!;
    this.memorySum += sign * memory;
    this.memorySquares += sign * memory * memory;
    this.cpuSum += sign * cpus;
    this.cpuSquares += sign * cpus * cpus;
  }
}

/** Runs and is to go on running. */
function mayMove(vm: Vm): boolean {
  return vm.claim !== null && vm.state === "running" && vm.desired.power === "on" && !vm.desired.deleted;
}

function largest(on: readonly Item[][]): number {
  return on.reduce((most, items) => items.reduce((more, { memory }) => Math.max(more, memory), most), 0);
}

/** Standard deviation from sums. */
function spread(sum: number, squares: number, n: number): number {
  return Math.sqrt(Math.max(0, squares / n - (sum / n) ** 2));
}
