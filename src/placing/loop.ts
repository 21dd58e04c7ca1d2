/**
 * The scheduler's loop on the leader: what waits is planned on the present view and proposed. A plan is checked again
 * where it is applied, so nothing is locked (SCH-20); plans on their way are reserved for, so that the next one does not
 * ask for the same room.
 */
import type { Clock } from "../base/clock.ts";
import type { LeaderService } from "../cluster/leadership.ts";
import type { Store } from "../cluster/store.ts";
import type { Reservation } from "../model/capacity.ts";
import { numaMemoryOf } from "../model/pinning.ts";
import { settingsOf } from "../model/placement.ts";
import { leftOutNodes } from "../model/node.ts";
import type { View } from "../model/view.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import { Kept } from "../scheduler/kept.ts";
import { certificateOf } from "../scheduler/record.ts";
import type { Plan, PlanKind, PlannedPlacement, PlanRequest } from "../scheduler/types.ts";
import type { VmPlace } from "../state/commands.ts";
import type { CommandResult } from "../state/outcome.ts";
import { planWithReserve } from "./admission.ts";
import { nodesToAvoid } from "./request.ts";
import { Waiting } from "./waiting.ts";

/** VMs planned at once: bounds the time of one plan and the size of one command. */
const BATCH_MAX = 500;
/** Plans on their way at once: the next is made while the log takes the one before. */
const FLYING_MAX = 3;
/** Changed rows that are remembered between two runs; past it everything is looked at again. */
const CHANGES_MAX = 50_000;

export interface PlacingEffects {
  clock: Clock;
  newId(): string;
}

/** A plan that was proposed and is not yet known to be applied. */
interface Flight {
  vmIds: ReadonlySet<string>;
  placements: readonly PlannedPlacement[];
  reserved: ReadonlyMap<string, Reservation>;
  landed: Promise<void>;
}

export function placingService(store: Store, effects: PlacingEffects): LeaderService {
  const waiting = new Waiting();
  const flying = new Set<Flight>();
  let changed = new Set<string>();
  /** Term that `waiting` was followed in; null if changes were missed. */
  let followed: number | null = null;
  let failure: unknown = null;

  store.subscribe(({ changedIds }) => {
    if (followed === null) return;
    if (!store.leadership().leading || changed.size > CHANGES_MAX) followed = null;
    else for (const id of changedIds) changed.add(id);
  });

  const kept = new Kept();

  const propose = (term: number, kind: PlanKind, vms: readonly Vm[]): void => {
    const view = store.view();
    const vmIds = vms.map((vm) => vm.id);
    const asked: PlanRequest = {
      vms: vmIds,
      mode: "batch",
      kind,
      scoring: null,
      avoid: nodesToAvoid(view, vmIds),
      inFlight: sum(flying),
    };
    const seed = effects.newId();
    const promised = [...flying].flatMap(({ placements }) => placements);
    const { plan: made, request } = planWithReserve(view, asked, seed, { kept, promised });
    const longestMs = settingsOf(view)["scheduler.retryMs"];
    const nowMs = effects.clock.monotonicMs();
    for (const { vmId, reasons } of made.rejections) waiting.refused(view.vms.get(vmId)!, reasons, nowMs, longestMs);
    const command = commandOf(view, made);
    if (command === null) return;
    command.certificate = certificateOf(made, request);
    const flight: Flight = {
      vmIds: new Set(made.placements.map(({ vmId }) => vmId)),
      placements: made.placements,
      reserved: reservedBy(view, made),
      landed: store
        .propose(command, { actor: "scheduler", term })
        .then((result) => settle(result.refused ?? [], longestMs))
        .catch((thrown: unknown) => {
          failure = thrown;
          settle(made.placements, longestMs);
        })
        .finally(() => flying.delete(flight)),
    };
    flying.add(flight);
  };

  /** Those that were not placed after all are tried again soon, with what the view says then. */
  const settle = (refused: readonly Pick<NonNullable<CommandResult["refused"]>[number], "vmId">[], longestMs: number): void => {
    for (const { vmId } of refused) {
      const vm = store.view().vms.get(vmId);
      if (vm !== undefined && vm.claim === null) waiting.conflicted(vm, effects.clock.monotonicMs(), longestMs);
    }
  };

  return {
    name: "placing",
    everyMs: 250,
    onChange: true,
    async run(term) {
      const [noted, thrown] = [changed, failure];
      changed = new Set();
      failure = null;
      if (followed === term) waiting.note(store.view(), noted);
      else waiting.reset(store.view());
      followed = term;

      // After a recover or restore: what runs there is not known, so anything placed might run twice.
      if (leftOutNodes(store.view()).length > 0) return;
      // All that is due, in plans of a limited size: who fits nowhere must not stand before who does. Recovery first (HA-11).
      for (const kind of ["recover", "start"] as const) {
        const state = kind === "recover" ? "recovering" : "pending";
        // Switched off, it still brings VMs to the nodes that a scheduler outside names (SCH-10).
        const chooses = kind === "recover" || settingsOf(store.view())["scheduler.enabled"] === "on";
        const due = waiting
          .due(store.view(), state, effects.clock.monotonicMs(), effects.clock.wallMs())
          .filter((vm) => (chooses || vm.desired.nodeId !== null) && ![...flying].some(({ vmIds }) => vmIds.has(vm.id)));
        for (const batch of batchesOf(due)) {
          while (flying.size >= FLYING_MAX) await Promise.race([...flying].map(({ landed }) => landed));
          propose(term, kind, stillWaiting(store.view(), batch));
        }
      }
      if (thrown !== null) throw thrown;
    },
  };
}

function* batchesOf(vms: readonly Vm[]): Generator<readonly Vm[]> {
  for (let i = 0; i < vms.length; i += BATCH_MAX) yield vms.slice(i, i + BATCH_MAX);
}

/** The rows as they are now, of those that nobody placed or stopped while a plan before them was on its way. */
function stillWaiting(view: View, vms: readonly Vm[]): Vm[] {
  return vms.flatMap((vm) => {
    const now = view.vms.get(vm.id);
    return now !== undefined && now.claim === null && now.state === vm.state && now.desired.power === "on" && !now.desired.hold
      ? [now]
      : [];
  });
}

function reservedBy(view: View, { placements }: Plan): Map<string, Reservation> {
  const sums = new Map<string, Reservation>();
  for (const { vmId, nodeId, cpus } of placements) {
    const vm = view.vms.get(vmId)!;
    const pinned = cpus === undefined ? [] : [{ cpus, memoryMib: numaMemoryOf(vm) }];
    add(sums, nodeId, { memoryMib: vm.definition.memoryMib, cpus: vm.definition.cpus, pinned });
  }
  return sums;
}

function sum(flights: ReadonlySet<Flight>): Map<string, Reservation> {
  const sums = new Map<string, Reservation>();
  for (const { reserved } of flights) for (const [nodeId, reservation] of reserved) add(sums, nodeId, reservation);
  return sums;
}

function add(sums: Map<string, Reservation>, nodeId: string, { memoryMib, cpus, pinned }: Reservation): void {
  const before = sums.get(nodeId) ?? { memoryMib: 0, cpus: 0, pinned: [] };
  sums.set(nodeId, {
    memoryMib: before.memoryMib + memoryMib,
    cpus: before.cpus + cpus,
    pinned: [...(before.pinned ?? []), ...(pinned ?? [])],
  });
}

/** Nothing to say if nothing is placed and every reason is known already: a wait must not fill the log. */
function commandOf(view: View, made: Plan): VmPlace | null {
  const generationOf = (vmId: string): number => view.vms.get(vmId)?.generation ?? 0;
  const placements = made.placements.map((placement) => ({ ...placement, generation: generationOf(placement.vmId) }));
  const rejections = made.rejections
    .filter(({ vmId, reasons }) => !sameReasons(view.vms.get(vmId)?.pendingReasons ?? [], reasons))
    .map(({ vmId, reasons }) => ({ vmId, generation: generationOf(vmId), reasons }));
  return placements.length === 0 && rejections.length === 0 ? null : { type: "vm.place", placements, rejections };
}

function sameReasons(a: readonly PendingReason[], b: readonly PendingReason[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
