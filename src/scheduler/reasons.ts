/** Why VMs stay pending (SCH-14): the whole chain asked on every node, as it is once the plan's placements are made. */
import { fits, nodeUsage, usageOf } from "../model/capacity.ts";
import type { Reservation } from "../model/capacity.ts";
import type { Pinned } from "../model/pinning.ts";
import type { Node } from "../model/node.ts";
import type { Refusal } from "../model/placement.ts";
import { policiesOf } from "../model/policy.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import { LIMIT_CPUS, LIMIT_MEMORY, USED_CPUS, USED_MEMORY, WIDTH, mark, rewind } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { lift, putBack, settle } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import { FILTERS, refuse } from "./filters.ts";
import type { FilterContext } from "./filters.ts";
import type { Item, RequestClass } from "./items.ts";

const POLICIES = FILTERS.filter((filter) => filter.code === "policy" || filter.code === "vm-policy");
const POLICY_CODES = new Set(POLICIES.map((filter) => filter.code));
const ORDER = new Map(FILTERS.map((filter, i) => [filter.code, i]));

/** Reasons by VM id, of the items the attempt did not place. */
export function reasonsFor(context: FilterContext, arena: Arena, items: readonly Item[], attempt: Attempt): Map<string, PendingReason[]> {
  const reasons = new Map<string, PendingReason[]>();
  if (attempt.node.every((i) => i !== -1)) return reasons;
  const kind = context.request.kind;
  const before = mark(arena);
  for (const [k, item] of items.entries()) {
    const i = attempt.node[k]!;
    if (i === -1) continue;
    lift(arena, item, kind);
    settle(arena, item, i, kind);
  }
  const many = new Crowd(context, arena);
  for (const [k, item] of items.entries()) {
    if (attempt.node[k] !== -1) continue;
    // A VM that has a claim is left out of its own node's sums, and policies speak for single VMs: no answer is shared.
    if (item.vm.claim === null && policiesOf(context.view, item.vm.id).length === 0 && item.pinning === null) {
      reasons.set(item.vm.id, many.reasonsOf(item));
      continue;
    }
    lift(arena, item, kind);
    reasons.set(item.vm.id, reasonsOf({ ...context, inFlight: promisedBy(context, arena, item), where: arena.where }, item.vm));
    putBack(arena, item, kind);
  }
  rewind(arena, before);
  return reasons;
}

/** The same answers for many VMs that have neither claim nor policies: the fixed part once a class, capacity from the columns. */
class Crowd {
  private readonly context: FilterContext;
  private readonly arena: Arena;
  /** Node indexes in the order of names, which decides whose words are the example. */
  private readonly byName: number[];
  private readonly known = new Map<number, PendingReason[]>();
  private readonly fixed = new Map<RequestClass, { reasons: PendingReason[]; eligible: Uint8Array }>();
  private promised: ReadonlyMap<string, Reservation> | null = null;

  constructor(context: FilterContext, arena: Arena) {
    this.context = context;
    this.arena = arena;
    this.byName = arena.nodes.map((_, i) => i).sort((a, b) => (arena.nodes[a]!.name < arena.nodes[b]!.name ? -1 : 1));
  }

  reasonsOf(item: Item): PendingReason[] {
    let found = this.known.get(item.size);
    if (found === undefined) this.known.set(item.size, (found = this.ask(item)));
    return found;
  }

  private ask(item: Item): PendingReason[] {
    const { arena } = this;
    const { reasons, eligible } = this.fixedOf(item);
    const counts = { memory: 0, cpus: 0 };
    const example = { memory: -1, cpus: -1 };
    for (const i of this.byName) {
      if (eligible[i] === 0) continue;
      const code = !fits(arena.cells[i * WIDTH + USED_MEMORY]!, item.memory, arena.cells[i * WIDTH + LIMIT_MEMORY]!)
        ? "memory"
        : !fits(arena.cells[i * WIDTH + USED_CPUS]!, item.cpus, arena.cells[i * WIDTH + LIMIT_CPUS]!)
          ? "cpus"
          : null;
      if (code === null) continue;
      if (counts[code]++ === 0) example[code] = i;
    }
    this.promised ??= promisedBy(this.context, arena, item);
    const all = [...reasons];
    for (const code of ["memory", "cpus"] as const) {
      if (counts[code] === 0) continue;
      const refusal = refuse({ ...this.context, inFlight: this.promised }, item.vm, arena.nodes[example[code]]!);
      all.push({ code, nodes: counts[code], detail: refusal?.detail ?? "" });
    }
    return inOrder(all, arena.nodes.length);
  }

  private fixedOf(item: Item): { reasons: PendingReason[]; eligible: Uint8Array } {
    let found = this.fixed.get(item.class);
    if (found === undefined) {
      const eligible = new Uint8Array(this.arena.nodes.length);
      for (const i of item.class.eligible) eligible[i] = 1;
      const counted = new Map<string, PendingReason>();
      for (const i of this.byName) {
        const refusal = eligible[i] === 1 ? null : refuse(this.context, item.vm, this.arena.nodes[i]!);
        if (refusal === null) continue;
        const entry = counted.get(refusal.code);
        if (entry === undefined) counted.set(refusal.code, { code: refusal.code, nodes: 1, detail: refusal.detail });
        else entry.nodes++;
      }
      found = { reasons: [...counted.values()], eligible };
      this.fixed.set(item.class, found);
    }
    return found;
  }
}

/** Never empty: a VM that stays pending is told why. */
function inOrder(reasons: PendingReason[], nodes: number): PendingReason[] {
  if (reasons.length === 0 && nodes === 0) return [{ code: "no-nodes", nodes: 0, detail: "the cluster has no nodes" }];
  if (reasons.length === 0) return [{ code: "no-room", nodes: 0, detail: "the nodes that would do are promised to other VMs" }];
  return reasons.sort((a, b) => (ORDER.get(a.code) ?? 0) - (ORDER.get(b.code) ?? 0));
}

/** What every node says to the VM, counted by code, with the first node's words (by node name) as the example. */
export function reasonsOf(context: FilterContext, vm: Vm): PendingReason[] {
  const counted = new Map<string, PendingReason & { example: string }>();
  const count = (refusal: Refusal | null, node: Node): void => {
    if (refusal === null) return;
    const entry = counted.get(refusal.code);
    if (entry === undefined) counted.set(refusal.code, { code: refusal.code, nodes: 1, detail: refusal.detail, example: node.name });
    else {
      entry.nodes++;
      if (node.name < entry.example) Object.assign(entry, { detail: refusal.detail, example: node.name });
    }
  };
  const nodes = [...context.view.nodes.values()].filter((node) => node.state !== "removed");
  const first = nodes.map((node) => refuse(context, vm, node));
  for (const [k, node] of nodes.entries()) count(first[k]!, node);
  // A policy that is violated is told even where no node is left without it (SCH-2).
  if (first.every((refusal) => refusal !== null && !POLICY_CODES.has(refusal.code))) {
    for (const node of nodes)
      count(
        POLICIES.reduce<Refusal | null>((found, filter) => found ?? filter.refuse(context, vm, node), null),
        node,
      );
  }
  return inOrder(
    [...counted.values()].map(({ code, nodes: refused, detail }) => ({ code, nodes: refused, detail })),
    nodes.length,
  );
}

/**
 * What the arena counts beyond the view's sums: what is in flight and what the plan has placed so far. The checks take
 * the item's own claim out of the view's sums themselves, so where the arena has lifted it, it is put back here.
 */
export function promisedBy(context: FilterContext, arena: Arena, item: Item): Map<string, Reservation> {
  const sums = new Map<string, Reservation>();
  const usage = context.usage ?? usageOf(context.view);
  const own = context.request.kind === "migrate" ? null : item.vm.claim;
  for (const [i, node] of arena.nodes.entries()) {
    const counted = nodeUsage(usage, node.id);
    const lifted = own?.nodeId === node.id;
    const pinned: Pinned[] = [...(context.inFlight?.get(node.id)?.pinned ?? [])];
    for (const here of arena.pinned.values()) if (here.node === i) pinned.push(here);
    const memoryMib = arena.cells[i * WIDTH + USED_MEMORY]! - counted.memoryMib + (lifted ? item.memory : 0);
    const cpus = arena.cells[i * WIDTH + USED_CPUS]! - counted.cpus + (lifted ? item.cpus : 0);
    if (memoryMib !== 0 || cpus !== 0) sums.set(node.id, { memoryMib, cpus, pinned });
  }
  return sums;
}
