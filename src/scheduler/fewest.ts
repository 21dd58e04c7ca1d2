/**
 * A packing batch uses the fewest nodes: what a plan has placed is placed again on the nodes in use and as few empty ones
 * as the lower bound allows, one more for as long as something is left out.
 */
import { LIMIT_CPUS, LIMIT_MEMORY, USED_CPUS, USED_MEMORY, WIDTH } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { greedy, valueOf } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import { boundOf } from "./bound.ts";
import type { Item, RequestClass } from "./items.ts";
import { repack } from "./repack.ts";
import type { Scorer } from "./scorers.ts";
import type { PlanKind } from "./types.ts";

export interface Fewest {
  attempt: Attempt;
  /** Empty nodes it uses, and that any plan with as many VMs needs at least. */
  opened: number;
  bound: number;
}

/** At most so many sets of nodes are tried. */
const TRIES = 8;

/**
 * @param start a plan; the answer places the same VMs on no more nodes.
 * @param order of the greedy way; @param budget of one `repack`, in comparisons.
 */
export function fewest(
  arena: Arena,
  items: readonly Item[],
  start: Attempt,
  order: readonly number[],
  score: Scorer,
  kind: PlanKind,
  budget: number,
): Fewest {
  const placed = items.filter((_, k) => start.node[k] !== -1);
  const empty = emptyNodes(arena, placed);
  const opened = (attempt: Attempt): number => empty.filter((i) => attempt.node.includes(i)).length;
  const best: Fewest = { attempt: start, opened: opened(start), bound: leastNodes(arena, placed, empty) };
  if (best.opened <= best.bound) return best;

  const used = new Set(empty);
  const open = new Set([...arena.nodes.keys()].filter((i) => !used.has(i)));
  const left = [...empty];
  while (open.size < arena.nodes.length - empty.length + best.bound) open.add(left.shift()!);
  for (let tries = 0; tries < TRIES && left.length > 0; tries++) {
    const narrow = narrowed(items, open, start);
    const first = greedy(arena, narrow, order, score, kind);
    const all = narrow.every((item, k) => first.node[k] !== -1 || item.class.eligible.length === 0);
    const node = all ? first.node : repack(arena, narrow, first.node, budget);
    const out = placedBy(start, items).filter((k) => node[k] === -1);
    if (out.length === 0) {
      const attempt: Attempt = { order, node, scorers: [], value: valueOf(items, node) };
      if (opened(attempt) < best.opened) Object.assign(best, { attempt, opened: opened(attempt) });
      return best;
    }
    // The next largest that some of what is left out may use.
    const next = left.findIndex((i) => out.some((k) => items[k]!.class.eligible.includes(i)));
    if (next === -1) return best;
    open.add(left.splice(next, 1)[0]!);
  }
  return best;
}

function placedBy(start: Attempt, items: readonly Item[]): number[] {
  return items.map((_, k) => k).filter((k) => start.node[k] !== -1);
}

/** Open to some of the VMs and without any, the largest first. */
function emptyNodes(arena: Arena, placed: readonly Item[]): number[] {
  const reachable = new Set<number>();
  for (const one of new Set(placed.map((item) => item.class))) for (const i of one.eligible) reachable.add(i);
  const size = (i: number): number => {
    const cpus = arena.cells[i * WIDTH + LIMIT_CPUS]!;
    return arena.cells[i * WIDTH + LIMIT_MEMORY]! * (cpus === Number.POSITIVE_INFINITY ? 1 : cpus);
  };
  return [...reachable].filter((i) => arena.cells[i * WIDTH + USED_MEMORY] === 0).toSorted((a, b) => size(b) - size(a) || a - b);
}

/** So many empty nodes are needed at least, by memory alone and by vCPUs alone, each on the largest of them. */
function leastNodes(arena: Arena, placed: readonly Item[], empty: readonly number[]): number {
  const isEmpty = new Set(empty);
  const inUse = [...arena.nodes.keys()].filter((i) => !isEmpty.has(i));
  let least = 0;
  for (const [limit, usedColumn, which] of [
    [LIMIT_MEMORY, USED_MEMORY, "memory"],
    [LIMIT_CPUS, USED_CPUS, "cpus"],
  ] as const) {
    const free = (i: number): number => arena.cells[i * WIDTH + limit]! - arena.cells[i * WIDTH + usedColumn]!;
    const sizes = placed.map((item) => item[which]);
    const rooms = inUse.map(free);
    const more = empty.map(free).toSorted((a, b) => b - a);
    let [low, high] = [least, more.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (boundOf(sizes, [...rooms, ...more.slice(0, middle)]) >= sizes.length) high = middle;
      else low = middle + 1;
    }
    least = Math.max(least, low);
  }
  return least;
}

/** The same VMs, open to those nodes only; those that prefer some nodes keep their choice, and what has no place gets none. */
function narrowed(items: readonly Item[], open: ReadonlySet<number>, start: Attempt): Item[] {
  const known = new Map<RequestClass, RequestClass>();
  return items.map((item, k) => {
    if (start.node[k] === -1) return { ...item, class: { ...item.class, eligible: new Int32Array(0) } };
    if (item.class.tiers !== null || item.overlay !== null) return item;
    let own = known.get(item.class);
    if (own === undefined) known.set(item.class, (own = { ...item.class, eligible: item.class.eligible.filter((i) => open.has(i)) }));
    return { ...item, class: own };
  });
}
