/** Why VMs stay pending (SCH-14): the whole chain asked on every node, as it is once the plan's placements are made. */
import { nodeUsage, usageOf } from "../model/capacity.ts";
import type { Reservation } from "../model/capacity.ts";
import type { Node } from "../model/node.ts";
import type { Refusal } from "../model/placement.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import { mark, rewind } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { lift, putBack, settle } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import { FILTERS, refuse } from "./filters.ts";
import type { FilterContext } from "./filters.ts";
import type { Item } from "./items.ts";

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
  const known = new Map<string, PendingReason[]>();
  for (const [k, item] of items.entries()) {
    if (attempt.node[k] !== -1) continue;
    // A VM that has a claim is left out of its own node's sums: only VMs without one share an answer.
    const key = item.vm.claim === null && item.overlay === null ? `${item.class.id} ${item.memory} ${item.cpus}` : item.vm.id;
    let found = known.get(key);
    if (found === undefined) {
      lift(arena, item, kind);
      found = reasonsOf({ ...context, inFlight: promisedBy(context, arena, item), where: arena.where }, item.vm);
      putBack(arena, item, kind);
      known.set(key, found);
    }
    reasons.set(item.vm.id, found);
  }
  rewind(arena, before);
  return reasons;
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
  const reasons = [...counted.values()].sort((a, b) => (ORDER.get(a.code) ?? 0) - (ORDER.get(b.code) ?? 0));
  if (counted.size === 0 && context.view.nodes.size === 0) return [{ code: "no-nodes", nodes: 0, detail: "the cluster has no nodes" }];
  if (counted.size === 0) return [{ code: "no-room", nodes: 0, detail: "the nodes that would do are promised to other VMs" }];
  return reasons.map(({ code, nodes, detail }) => ({ code, nodes, detail }));
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
    const memoryMib = arena.usedMemory[i]! - counted.memoryMib + (lifted ? item.memory : 0);
    const cpus = arena.usedCpus[i]! - counted.cpus + (lifted ? item.cpus : 0);
    if (memoryMib !== 0 || cpus !== 0) sums.set(node.id, { memoryMib, cpus });
  }
  return sums;
}
