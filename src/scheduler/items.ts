/** The VMs of one request as the planners see them: numbers, and the class that carries the fixed filters' answers. */
import { hash32 } from "../model/hash.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import type { Arena } from "./arena.ts";
import { classKey, refuseFixed, tierOf } from "./filters.ts";
import type { FilterContext } from "./filters.ts";

/** Equal requests as far as fixed filters and preferences go. */
export interface RequestClass {
  /** Number within the plan. */
  readonly id: number;
  /** Index of the nodes that passed all fixed filters, ascending. */
  readonly eligible: Int32Array;
  /** By node; null if all tiers are equal. */
  readonly tiers: Int32Array | null;
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
  /** Rank in HA order: 0 is recovered first. All 0 where priority does not count. */
  readonly rank: number;
}

/** The class of each VM, made once per distinct key: O(classes × nodes × filters). */
export function classesFor(context: FilterContext, arena: Arena): (vm: Vm) => RequestClass {
  const known = new Map<string, RequestClass>();
  return (vm) => {
    const key = classKey(context, vm);
    let found = known.get(key);
    if (found === undefined) {
      found = makeClass(context, arena, vm, known.size);
      known.set(key, found);
    }
    return found;
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

function makeClass(context: FilterContext, arena: Arena, vm: Vm, id: number): RequestClass {
  const eligible: number[] = [];
  const tiers = new Int32Array(arena.nodes.length);
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
