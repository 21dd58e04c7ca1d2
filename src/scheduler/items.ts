/** The VMs of one request as the planners see them: numbers, and the class that carries the fixed filters' answers. */
import { checkRank } from "../model/expression/check.ts";
import { nodeValue, rankOf } from "../model/expression/evaluate.ts";
import type { Value } from "../model/expression/evaluate.ts";
import { fits } from "../model/capacity.ts";
import { hash32 } from "../model/hash.ts";
import { chooseCpus, isPinned, numaMemoryOf, pinnedOn } from "../model/pinning.ts";
import type { Pinned } from "../model/pinning.ts";
import { agrees, isMust, nodesOfOthers } from "../model/policy.ts";
import type { Whereabouts } from "../model/policy.ts";
import type { Settings } from "../model/settings.ts";
import type { View } from "../model/view.ts";
import { DEFAULT_VDC } from "../model/vm.ts";
import type { Vm } from "../model/vm.ts";
import { CPUS, LIMIT_CPUS, LIMIT_MEMORY, USED_CPUS, USED_MEMORY, WIDTH, shared } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { classKey, groupsOf, refuseFixed, tierOf } from "./filters.ts";
import type { FilterContext, OthersOf } from "./filters.ts";
import { scorerFor } from "./scorers.ts";
import type { Scorer } from "./scorers.ts";
import type { PlanKind, Scoring } from "./types.ts";

/** Equal requests as far as fixed filters and preferences go. */
export interface RequestClass {
  /** Number within the plan. */
  readonly id: number;
  /** Index of the nodes that passed all fixed filters, ascending. */
  readonly eligible: Int32Array;
  /** By node; null if all tiers are equal. */
  readonly tiers: Float64Array | null;
  /** Nodes refused, by reason code. */
  readonly refused: ReadonlyMap<string, number>;
}

export interface Item {
  readonly vm: Vm;
  readonly memory: number;
  readonly cpus: number;
  /** Hash of seed and VM id; ties between nodes break by its XOR with the node's hash. */
  readonly tie: number;
  readonly class: RequestClass;
  /** Small number of class and size together: items with the same are alike to every node. */
  readonly size: number;
  /** Rank in HA order: 0 is recovered first. All 0 where priority does not count. */
  readonly rank: number;
  /** What changes with where other VMs are; null for a VM without policies between VMs. */
  readonly overlay: ((where: Whereabouts) => Overlay) | null;
  /** CPUs of its own that the VM would get on a node now, null for none (SCH-4); null for a VM that does not ask. */
  readonly pinning: ((i: number) => Pinned | null) | null;
  /** The VM's own score from its rank expression (SCH-9); null for the plan's. */
  readonly score: Scorer | null;
}

/** By node, as long as no other member moves. */
export interface Overlay {
  /** 0 where nothing refuses. */
  readonly blocked: Uint8Array;
  readonly tiers: Float64Array;
}

const BLOCKED_BY_POLICY = 1;
export const BLOCKED_BY_PINNING = 2;

/** The class of each VM, made once per distinct key: O(classes × nodes × filters). */
export function classesFor(context: FilterContext, arena: Arena, known = new Map<string, RequestClass>()): (vm: Vm) => RequestClass {
  // Numbers are the plan's own, in order of use, whatever is known from before.
  const numbered = new Map<RequestClass, RequestClass>();
  return (vm) => {
    const key = classKey(context, vm);
    let found = known.get(key);
    if (found === undefined) known.set(key, (found = makeClass(context, arena, vm, numbered.size)));
    let mine = numbered.get(found);
    if (mine === undefined) numbered.set(found, (mine = found.id === numbered.size ? found : { ...found, id: numbered.size }));
    return mine;
  };
}

/** Number for ties of one VM in one request. */
export function tieOf(seed: string, vmId: string): number {
  return hash32(`${seed}/${vmId}`);
}

/** Places in HA order (priority descending) of the VMs' priorities, equal priorities sharing a rank. */
export function ranksByPriority(vms: readonly Vm[]): Map<number, number> {
  const priorities = [...new Set(vms.map((vm) => vm.definition.ha.priority))].sort((a, b) => b - a);
  return new Map(priorities.map((priority, rank) => [priority, rank]));
}

/** HA order: priority descending, then number. */
export function haOrder(a: Vm, b: Vm): number {
  return b.definition.ha.priority - a.definition.ha.priority || a.number - b.number;
}

/** Rows of the ids, null where there is none. */
export function rowsOf(view: View, ids: readonly string[]): (Vm | null)[] {
  return ids.map((id) => view.vms.get(id) ?? null);
}

/** The CPUs that a VM which asks for its own would get on a node, beside those of the view and of the plan so far. */
export function pinningFor(context: FilterContext, arena: Arena, vm: Vm): Item["pinning"] {
  if (!isPinned(vm)) return null;
  return (i) => {
    const node = arena.nodes[i]!;
    const held: Pinned[] = pinnedOn(context.view, vm, node.id, context.inFlight);
    for (const here of arena.pinned.values()) if (here.node === i) held.push(here);
    const cpus = chooseCpus(node, vm, held);
    const at = i * WIDTH;
    const limit = arena.cells[at + LIMIT_CPUS]! - shared(arena, vm.definition.cpus);
    return cpus === null || !fits(arena.cells[at + USED_CPUS]!, vm.definition.cpus, limit) ? null : { cpus, memoryMib: numaMemoryOf(vm) };
  };
}

/** For VMs with policies between VMs, and those that ask for CPUs of their own. */
export function overlayFor(context: FilterContext, arena: Arena, vm: Vm, own: RequestClass, pinning: Item["pinning"]): Item["overlay"] {
  const groups = groupsOf(context, vm);
  if (groups.length === 0 && pinning === null) return null;
  const needed = context.pinning !== "preferred";
  return (where) => {
    const others = new Map(groups.map((policy) => [policy, nodesOfOthers(context.view, policy, vm, where)]));
    const at: OthersOf = (policy) => others.get(policy) ?? NOWHERE;
    const blocked = new Uint8Array(arena.nodes.length);
    const tiers = new Float64Array(arena.nodes.length);
    for (const i of own.eligible) {
      const node = arena.nodes[i]!;
      blocked[i] = groups.some((policy) => isMust(policy) && !agrees(context.view, policy, node, at(policy))) ? BLOCKED_BY_POLICY : 0;
      tiers[i] = tierOf(context, vm, node, at);
      if (pinning === null || pinning(i) !== null) continue;
      if (needed) blocked[i] = BLOCKED_BY_PINNING;
      else tiers[i]! += WITHOUT_CPUS;
    }
    return { blocked, tiers };
  };
}

/** Above all preferences by policy: HA recovery takes a node without CPUs to give only where none else is left. */
const WITHOUT_CPUS = 2 ** 45;

const NOWHERE: ReadonlySet<string> = new Set();

/**
 * The scorer of each VM that is not scored as the plan is: by its own rank, or because its vdc has another scoring than
 * the cluster and the request names none. Null for the plan's.
 */
export function ownScorers(context: FilterContext): (vm: Vm) => Scorer | null {
  const byVdc = new Map<string, Scorer | null>();
  const ofVdc = (vdc: string): Scorer | null => {
    const own = context.request.scoring === null ? context.view.cluster?.vdcSettings?.[vdc] : undefined;
    const settings = { ...context.settings, ...own };
    return own === undefined ? null : scorerOf(settings["scheduler.scoring"], settings, context.request.kind);
  };
  return (vm) => {
    const rank = rankScorer(vm.definition.rank ?? "");
    if (rank !== null) return rank;
    const vdc = vm.definition.vdc ?? DEFAULT_VDC;
    let found = byVdc.get(vdc);
    if (found === undefined) byVdc.set(vdc, (found = ofVdc(vdc)));
    return found;
  };
}

export function scorerOf(scoring: Scoring, settings: Settings, kind: PlanKind): Scorer {
  // What was refused when the setting was written cannot be in it; the formulas stand in for it all the same.
  if (scoring === "rank") return rankScorer(settings["scheduler.rank"]) ?? scorerFor("balance", kind);
  return scorerFor(scoring, kind);
}

/** Highest rank first, so its negative; null without one, or with one that was never valid. */
function rankScorer(text: string): Scorer | null {
  const checked = text === "" ? null : checkRank(text);
  if (checked === null || !checked.ok) return null;
  const expression = checked.expression;
  return (arena, i) => -rankOf(expression, (name) => loadValue(arena, i, name));
}

function loadValue(arena: Arena, i: number, name: string): Value {
  switch (name) {
    case "usedMemoryMib":
      return arena.cells[i * WIDTH + USED_MEMORY]!;
    case "freeMemoryMib":
      return arena.cells[i * WIDTH + LIMIT_MEMORY]! - arena.cells[i * WIDTH + USED_MEMORY]!;
    case "usedCpus":
      return arena.cells[i * WIDTH + USED_CPUS]!;
    case "freeCpus":
      return (
        (arena.cells[i * WIDTH + LIMIT_CPUS] === Number.POSITIVE_INFINITY
          ? arena.cells[i * WIDTH + CPUS]!
          : arena.cells[i * WIDTH + LIMIT_CPUS]!) - arena.cells[i * WIDTH + USED_CPUS]!
      );
    default:
      return nodeValue(arena.nodes[i]!, name);
  }
}

function makeClass(context: FilterContext, arena: Arena, vm: Vm, id: number): RequestClass {
  const eligible: number[] = [];
  const tiers = new Float64Array(arena.nodes.length);
  const refused = new Map<string, number>();
  for (const [i, node] of arena.nodes.entries()) {
    const refusal = refuseFixed(context, vm, node);
    if (refusal === null) {
      eligible.push(i);
      tiers[i] = tierOf(context, vm, node);
    } else {
      refused.set(refusal.code, (refused.get(refusal.code) ?? 0) + 1);
    }
  }
  const first = eligible.length === 0 ? 0 : tiers[eligible[0]!];
  return { id, eligible: Int32Array.from(eligible), tiers: eligible.every((i) => tiers[i] === first) ? null : tiers, refused };
}
