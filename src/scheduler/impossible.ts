/** Why the VMs of a request cannot all be placed, with the numbers that show it; the simplest reason there is. */
import type { Impossible } from "../model/tolerance.ts";
import { freeRoom } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { Item } from "./items.ts";

export type Why = Pick<Impossible, "kind" | "vmIds" | "resource" | "needed" | "available" | "size">;

/**
 * @param proven no plan places all of them, by a bound or a complete search.
 * Null where nothing shows it. The arena holds nothing of the items.
 */
export function whyImpossible(arena: Arena, items: readonly Item[], proven: boolean): Why | null {
  const free = freeRoom(arena);
  return alone(free, items) ?? bySum(free, items) ?? bySlots(free, items) ?? (proven ? bySearch(items) : null);
}

type Free = ReturnType<typeof freeRoom>;
const RESOURCES = ["memory", "cpus"] as const;

function alone(free: Free, items: readonly Item[]): Why | null {
  for (const item of items) {
    const vmIds = [item.vm.id];
    const { eligible } = item.class;
    if (eligible.length === 0) return { kind: "node", vmIds, resource: null, needed: 1, available: 0, size: 0 };
    for (const resource of RESOURCES) {
      const available = Math.max(
        0,
        eligible.reduce((most, i) => Math.max(most, free[resource][i]!), 0),
      );
      if (item[resource] > available) return { kind: "vm", vmIds, resource, needed: item[resource], available, size: 0 };
    }
  }
  return null;
}

/** The VMs of each class, and all of them. */
function groupsOf(items: readonly Item[]): (readonly Item[])[] {
  const byClass = Map.groupBy(items, (item) => item.class);
  return byClass.size === 1 ? [items] : [items, ...byClass.values()];
}

function nodesOf(group: readonly Item[]): number[] {
  return [...new Set([...new Set(group.map((item) => item.class))].flatMap(({ eligible }) => [...eligible]))];
}

function bySum(free: Free, items: readonly Item[]): Why | null {
  for (const group of groupsOf(items)) {
    const nodes = nodesOf(group);
    for (const resource of RESOURCES) {
      const needed = group.reduce((sum, item) => sum + item[resource], 0);
      const smallest = group.reduce((least, item) => Math.min(least, item[resource]), Infinity);
      const available = nodes.reduce((sum, i) => sum + (free[resource][i]! >= smallest ? free[resource][i]! : 0), 0);
      if (needed > available) return { kind: "sum", vmIds: idsOf(group), resource, needed, available, size: smallest };
    }
  }
  return null;
}

function bySlots(free: Free, items: readonly Item[]): Why | null {
  for (const group of groupsOf(items)) {
    const nodes = nodesOf(group);
    for (const resource of RESOURCES) {
      for (const size of new Set(group.map((item) => item[resource]))) {
        if (size <= 0) continue;
        const large = group.filter((item) => item[resource] >= size);
        const available = nodes.reduce((sum, i) => sum + Math.max(0, Math.floor(free[resource][i]! / size)), 0);
        if (large.length > available) return { kind: "slots", vmIds: idsOf(large), resource, needed: large.length, available, size };
      }
    }
  }
  return null;
}

function bySearch(items: readonly Item[]): Why {
  return { kind: "search", vmIds: idsOf(items), resource: null, needed: items.length, available: items.length - 1, size: 0 };
}

function idsOf(items: readonly Item[]): string[] {
  return items.map((item) => item.vm.id);
}
