/** Why VMs stay pending (SCH-14): the whole chain asked on every node, as it is once the plan's placements are made. */
import type { Reservation } from "../model/capacity.ts";
import type { Refusal } from "../model/placement.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import type { Arena } from "./arena.ts";
import type { Attempt } from "./attempt.ts";
import { FILTERS, refuse } from "./filters.ts";
import type { FilterContext } from "./filters.ts";
import type { Item } from "./items.ts";

const ORDER = new Map(FILTERS.map((filter, i) => [filter.code, i]));

/** Reasons by VM id, of the items the attempt did not place. */
export function reasonsFor(context: FilterContext, arena: Arena, items: readonly Item[], attempt: Attempt): Map<string, PendingReason[]> {
  const reasons = new Map<string, PendingReason[]>();
  if (attempt.node.every((i) => i !== -1)) return reasons;
  const after: FilterContext = { ...context, inFlight: promised(context, arena, items, attempt) };
  const known = new Map<string, PendingReason[]>();
  for (const [k, item] of items.entries()) {
    if (attempt.node[k] !== -1) continue;
    // A VM that has a claim is left out of its own node's sums: only VMs without one share an answer.
    const key = item.vm.claim === null ? `${item.class.id} ${item.memory} ${item.cpus}` : item.vm.id;
    let found = known.get(key);
    if (found === undefined) {
      found = reasonsOf(after, item.vm);
      known.set(key, found);
    }
    reasons.set(item.vm.id, found);
  }
  return reasons;
}

/** What every node says to the VM, counted by code, with the first node's words (by node name) as the example. */
export function reasonsOf(context: FilterContext, vm: Vm): PendingReason[] {
  const counted = new Map<string, PendingReason & { example: string }>();
  for (const node of context.view.nodes.values()) {
    if (node.state === "removed") continue;
    const refusal: Refusal | null = refuse(context, vm, node);
    if (refusal === null) continue;
    const entry = counted.get(refusal.code);
    if (entry === undefined) counted.set(refusal.code, { code: refusal.code, nodes: 1, detail: refusal.detail, example: node.name });
    else {
      entry.nodes++;
      if (node.name < entry.example) Object.assign(entry, { detail: refusal.detail, example: node.name });
    }
  }
  const reasons = [...counted.values()].sort((a, b) => (ORDER.get(a.code) ?? 0) - (ORDER.get(b.code) ?? 0));
  if (counted.size === 0 && context.view.nodes.size === 0) return [{ code: "no-nodes", nodes: 0, detail: "the cluster has no nodes" }];
  if (counted.size === 0) return [{ code: "no-room", nodes: 0, detail: "the nodes that would do are promised to other VMs" }];
  return reasons.map(({ code, nodes, detail }) => ({ code, nodes, detail }));
}

/** What was in flight before, and the attempt's placements. */
function promised(context: FilterContext, arena: Arena, items: readonly Item[], attempt: Attempt): Map<string, Reservation> {
  const sums = new Map<string, Reservation>();
  for (const [nodeId, reservation] of context.inFlight ?? []) sums.set(nodeId, { ...reservation });
  for (const [k, item] of items.entries()) {
    const i = attempt.node[k]!;
    if (i === -1) continue;
    const nodeId = arena.nodes[i]!.id;
    const sum = sums.get(nodeId) ?? { memoryMib: 0, cpus: 0 };
    sums.set(nodeId, { memoryMib: sum.memoryMib + item.memory, cpus: sum.cpus + item.cpus });
  }
  return sums;
}
