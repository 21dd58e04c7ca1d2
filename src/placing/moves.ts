/**
 * Where running VMs could go, as one plan, and what stands in the way of those that cannot (HA-15). Pure: a user's migration, a drain, its
 * preview and the rebalancing all ask here.
 */
import { usageOf } from "../model/capacity.ts";
import { emigrationBlocker } from "../model/migration.ts";
import type { View } from "../model/view.ts";
import { plan } from "../scheduler/plan.ts";

export interface Move {
  vmId: string;
  nodeId: string;
  /** Of the claim that it leaves. */
  generation: number;
  /** CPUs of the target that are to be the VM's alone. */
  cpus?: number[];
}

export interface Blocked {
  vmId: string;
  /** For people, one a reason: `n2: needs 512 MiB, 200 MiB free of 2048`. */
  reasons: string[];
}

/** `only`: no other node will do. `seed` decides ties. */
export function planMoves(
  view: View,
  vmIds: readonly string[],
  options: { seed: string; only?: string | null },
): { moves: Move[]; blocked: Blocked[] } {
  const blocked: Blocked[] = [];
  const movable: string[] = [];
  const vms = new Map(view.vms);
  for (const id of vmIds) {
    const vm = view.vms.get(id);
    if (vm === undefined) continue;
    const blocker = emigrationBlocker(view, vm);
    if (blocker !== null) blocked.push({ vmId: id, reasons: [blocker.detail] });
    else movable.push(id);
    // A node asked for at its creation was asked for once.
    vms.set(id, { ...vm, desired: { ...vm.desired, nodeId: options.only ?? null } });
  }
  if (movable.length === 0) return { moves: [], blocked };
  const request = { vms: movable, mode: "batch", kind: "migrate", live: true, scoring: null, manual: true } as const;
  const made = plan({ ...view, vms }, request, options.seed, view.usage ?? usageOf(view));
  for (const { vmId, reasons } of made.rejections) {
    // That it cannot stay where it is goes without saying.
    const source = view.nodes.get(view.vms.get(vmId)?.claim?.nodeId ?? "")?.name ?? "";
    const details = reasons.map(({ detail }) => detail).filter((detail) => !detail.startsWith(`${source}: `));
    blocked.push({ vmId, reasons: details.length === 0 ? ["there is no other node"] : details });
  }
  const moves = made.placements.flatMap(({ vmId, nodeId, cpus }): Move[] => {
    const generation = view.vms.get(vmId)?.claim?.generation;
    return generation === undefined ? [] : [{ vmId, nodeId, generation, ...(cpus === undefined ? {} : { cpus: [...cpus] }) }];
  });
  return { moves, blocked };
}
