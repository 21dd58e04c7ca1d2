/**
 * The scheduler's loop on the leader: what waits is planned on the present view and proposed; the plan is checked again
 * where it is applied, so that nothing here must be locked (SCH-20).
 */
import type { Clock } from "../base/clock.ts";
import type { LeaderService } from "../cluster/leadership.ts";
import type { Store } from "../cluster/store.ts";
import { checkPlacement, settingsOf } from "../model/placement.ts";
import type { View } from "../model/view.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import { plan } from "../scheduler/plan.ts";
import type { Plan, PlanKind } from "../scheduler/types.ts";
import type { VmPlace } from "../state/commands.ts";
import { pendingBatch, recoveryBatch } from "./due.ts";

/** VMs planned at once: bounds the time of one plan and the size of one command. */
const BATCH_MAX = 500;

export interface PlacingEffects {
  clock: Clock;
  newId(): string;
}

export function placingService(store: Store, effects: PlacingEffects): LeaderService {
  /** Until when a rejected VM is left alone unless capacity changes, monotonic ms, and the capacity it was rejected at. */
  const waiting = new Map<string, { untilMs: number; capacity: string }>();

  const isDue = (vm: Vm, capacity: string): boolean => {
    const wait = waiting.get(vm.id);
    return wait === undefined || wait.capacity !== capacity || effects.clock.monotonicMs() >= wait.untilMs;
  };

  const place = async (term: number, kind: PlanKind, vms: readonly Vm[]): Promise<void> => {
    const view = store.view();
    const seed = effects.newId();
    const made = plan(view, { vms: vms.map((vm) => vm.id), mode: "batch", kind, scoring: null, avoid: nodesToAvoid(view, vms) }, seed);
    const capacity = capacityMark(view);
    const untilMs = effects.clock.monotonicMs() + settingsOf(view)["scheduler.retryMs"];
    for (const rejection of made.rejections) waiting.set(rejection.vmId, { untilMs, capacity });
    const command = commandOf(view, made);
    if (command === null) return;
    await store.propose(command, { actor: "scheduler", requestId: seed, term });
  };

  return {
    name: "placing",
    everyMs: 250,
    onChange: true,
    async run(term) {
      const view = store.view();
      const nowMs = effects.clock.wallMs();
      const capacity = capacityMark(view);
      for (const id of waiting.keys()) if (!view.vms.has(id)) waiting.delete(id);

      const recovering = recoveryBatch(view.vms.values(), nowMs).filter((vm) => isDue(vm, capacity));
      if (recovering.length > 0) await place(term, "recover", recovering.slice(0, BATCH_MAX));

      const pending = pendingBatch(store.view().vms.values(), nowMs).filter((vm) => isDue(vm, capacity));
      if (pending.length > 0) await place(term, "start", pending.slice(0, BATCH_MAX));
    },
  };
}

/** HA-12: a VM that died alone is started again where it was, and elsewhere after too many failures. */
function nodesToAvoid(view: View, vms: readonly Vm[]): ReadonlyMap<string, readonly string[]> {
  const inPlace = settingsOf(view)["ha.restartsInPlace"];
  const avoid = new Map<string, readonly string[]>();
  for (const vm of vms) {
    if (vm.failures === 0 || vm.homeNodeId === null) continue;
    const home = view.nodes.get(vm.homeNodeId);
    const stays = vm.failures <= inPlace && home !== undefined && checkPlacement(view, vm, home) === null;
    avoid.set(vm.id, stays ? [...view.nodes.keys()].filter((id) => id !== vm.homeNodeId) : [vm.homeNodeId]);
  }
  return avoid;
}

/** Changes exactly when something changes that could make room: nodes, their states and facts, settings, claims. */
function capacityMark(view: View): string {
  const parts: (string | number)[] = [];
  for (const node of view.nodes.values())
    parts.push(node.id, node.state, node.claimRevision, JSON.stringify(node.info?.pools ?? null), node.info?.memoryMib ?? 0);
  parts.push(JSON.stringify(view.cluster?.settings ?? null), view.pools.size);
  return parts.join("|");
}

/** Nothing to say if nothing is placed and every reason is known already: a wait must not fill the log. */
function commandOf(view: View, made: Plan): VmPlace | null {
  const generationOf = (vmId: string): number => view.vms.get(vmId)?.generation ?? 0;
  const placements = made.placements.map(({ vmId, nodeId }) => ({ vmId, nodeId, generation: generationOf(vmId) }));
  const rejections = made.rejections
    .filter(({ vmId, reasons }) => !sameReasons(view.vms.get(vmId)?.pendingReasons ?? [], reasons))
    .map(({ vmId, reasons }) => ({ vmId, generation: generationOf(vmId), reasons }));
  return placements.length === 0 && rejections.length === 0 ? null : { type: "vm.place", placements, rejections };
}

function sameReasons(a: readonly PendingReason[], b: readonly PendingReason[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
