/**
 * The scheduler's loop on the leader: what waits is planned on the present view and proposed; the plan is checked again
 * where it is applied, so that nothing here must be locked (SCH-20).
 */
import type { Clock } from "../base/clock.ts";
import type { LeaderService } from "../cluster/leadership.ts";
import type { Store } from "../cluster/store.ts";
import { checkPlacement, settingsOf } from "../model/placement.ts";
import type { Node } from "../model/node.ts";
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
  /** Until when a rejected VM is left alone, monotonic ms, unless what is asked or the capacity it was rejected at changes. */
  const waiting = new Map<string, { untilMs: number; asked: string; capacity: string }>();

  const isDue = (vm: Vm, capacity: string): boolean => {
    const wait = waiting.get(vm.id);
    return wait === undefined || wait.capacity !== capacity || wait.asked !== askedMark(vm) || effects.clock.monotonicMs() >= wait.untilMs;
  };

  const place = async (term: number, kind: PlanKind, vms: readonly Vm[]): Promise<void> => {
    const view = store.view();
    const seed = effects.newId();
    const made = plan(view, { vms: vms.map((vm) => vm.id), mode: "batch", kind, scoring: null, avoid: nodesToAvoid(view, vms) }, seed);
    const capacity = capacityMark(view);
    const untilMs = effects.clock.monotonicMs() + settingsOf(view)["scheduler.retryMs"];
    for (const { vmId } of made.rejections) waiting.set(vmId, { untilMs, asked: askedMark(view.vms.get(vmId)), capacity });
    const command = commandOf(view, made);
    if (command === null) return;
    await store.propose(command, { actor: "scheduler", term });
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

      // All that is due, in plans of a limited size: who fits nowhere must not stand before who does.
      const recovering = recoveryBatch(view.vms.values(), nowMs).filter((vm) => isDue(vm, capacity));
      for (const batch of batchesOf(recovering)) await place(term, "recover", batch);

      const pending = pendingBatch(store.view().vms.values(), nowMs).filter((vm) => isDue(vm, capacity));
      for (const batch of batchesOf(pending)) await place(term, "start", batch);
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

function* batchesOf(vms: readonly Vm[]): Generator<readonly Vm[]> {
  for (let i = 0; i < vms.length; i += BATCH_MAX) yield vms.slice(i, i + BATCH_MAX);
}

/** Changes when the user asks anew. */
function askedMark(vm: Vm | undefined): string {
  return vm === undefined ? "" : `${vm.stateSinceMs} ${JSON.stringify(vm.desired)}`;
}

/** Changes when something changes that could make room: nodes, their states and facts, settings, pools, claims. */
function capacityMark(view: View): string {
  const parts: (string | number)[] = [];
  for (const node of view.nodes.values()) parts.push(node.id, node.state, node.claimRevision, factsMark(node));
  parts.push(JSON.stringify(view.cluster?.settings ?? null), view.pools.size);
  return parts.join("|");
}

/** Without free space of pools, which changes all the time and decides nothing. */
function factsMark({ info, labels, partition }: Node): string {
  const pools = info?.pools.map(({ poolId, available }) => `${poolId} ${available}`) ?? [];
  return JSON.stringify([info, labels, partition, pools], (key, value: unknown) => (key === "pools" ? undefined : value));
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
