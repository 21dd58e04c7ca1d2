/**
 * Empties the nodes that are to be drained (HA-15): a few VMs at once, live, and again after a while where it did not work; those that cannot
 * move while they run are shut down and started elsewhere, if the drain says so. All it must not forget is in the nodes' rows, so the
 * next leader goes on; what it remembers here are only pauses.
 */
import type { Clock } from "../base/clock.ts";
import { asRoostError } from "../base/errors.ts";
import type { LeaderService } from "../cluster/leadership.ts";
import type { Store } from "../cluster/store.ts";
import type { DrainBlock, Node } from "../model/node.ts";
import { isAnswering } from "../model/node.ts";
import { localPool } from "../model/placement.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import type { Command } from "../state/commands.ts";
import { planMoves } from "./moves.ts";
import type { Move } from "./moves.ts";

export interface DrainStep {
  vm: Vm;
  /** `wait`: it is on its way, or about to settle. */
  action: "migrate" | "restart" | "wait" | "blocked";
  /** For `migrate`. */
  move: Move | null;
  reasons: string[];
}

const RETRY_FIRST_MS = 2_000;
const RETRY_LAST_MS = 60_000;
const PROPOSE_MS = 5_000;

/** What a drain of the node would do with each of its VMs now, by name. Also its preview. */
export function planDrain(view: View, node: Node, wish: { allowRestart: boolean }): DrainStep[] {
  const vms = [...(view.claimsByNode.get(node.id) ?? [])]
    .flatMap((id) => view.vms.get(id) ?? [])
    .filter((vm) => vm.claim?.nodeId === node.id);
  const settled = vms.filter(
    (vm) => vm.state === "running" && vm.migration === undefined && vm.desired.power === "on" && !vm.desired.deleted,
  );
  // Nothing lands on the node itself: by the plan a node that a VM leaves is none of its targets.
  const { moves, blocked } = planMoves(
    view,
    settled.map((vm) => vm.id),
    { seed: node.id },
  );
  const byVm = new Map(moves.map((move) => [move.vmId, move]));
  const why = new Map(blocked.map(({ vmId, reasons }) => [vmId, reasons]));
  const steps = vms.map((vm): DrainStep => {
    const move = byVm.get(vm.id) ?? null;
    if (move !== null) return { vm, action: "migrate", move, reasons: [] };
    const reasons = why.get(vm.id);
    if (reasons === undefined) return { vm, action: "wait", move: null, reasons: [`is ${vm.state}`] };
    const local = localPool(view, vm.definition);
    if (wish.allowRestart && local === null) return { vm, action: "restart", move: null, reasons };
    return { vm, action: "blocked", move: null, reasons };
  });
  return steps.toSorted((a, b) => (a.vm.definition.name < b.vm.definition.name ? -1 : 1));
}

export function drainService(store: Store, effects: { clock: Clock; nodeId: string }): LeaderService {
  /** By VM: it did not work, so not again before. */
  const pauses = new Map<string, { failures: number; untilMs: number; generation: number; why: string }>();
  const started = new Map<string, number>();
  const propose = async (command: Command): Promise<string | null> => {
    try {
      await store.propose(command, { actor: `leader:${effects.nodeId}`, term: store.leadership().term, timeoutMs: PROPOSE_MS });
      return null;
    } catch (error) {
      return asRoostError(error).message;
    }
  };

  const pause = (vm: Vm, why: string): void => {
    const failures = (pauses.get(vm.id)?.failures ?? 0) + 1;
    const untilMs = effects.clock.monotonicMs() + Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** (failures - 1));
    pauses.set(vm.id, { failures, untilMs, generation: vm.generation, why });
  };

  /** VMs that were shut down for a drain start again wherever they fit. Answers those that are still to come. */
  const startAgain = async (ids: readonly string[]): Promise<string[]> => {
    const left: string[] = [];
    for (const id of ids) {
      const vm = store.view().vms.get(id);
      if (vm === undefined || vm.desired.deleted || vm.desired.power === "on") continue;
      if (vm.state === "stopped") {
        if ((await propose({ type: "vm.desire", vmId: id, action: "start", nodeId: null })) !== null) left.push(id);
      } else left.push(id);
    }
    return left;
  };

  const work = async (node: Node): Promise<void> => {
    const { drain } = node;
    if (drain === undefined) {
      const left = await startAgain(node.restarting ?? []);
      if (left.length !== (node.restarting ?? []).length)
        await propose({ type: "node.drain-report", nodeId: node.id, done: false, blocked: [], restarting: left });
      return;
    }
    if (!isAnswering(node)) return;
    if (!drain.done && drain.limitMs > 0 && effects.clock.wallMs() - drain.beganMs >= drain.limitMs) {
      const names = drain.blocked.map(({ name }) => name);
      const left =
        names.length === 0
          ? ""
          : `; still there: ${names.slice(0, 5).join(", ")}${names.length > 5 ? ` and ${names.length - 5} more` : ""}`;
      await propose({ type: "node.undrain", nodeId: node.id, why: `its time of ${Math.round(drain.limitMs / 1000)} s is over${left}` });
      return;
    }
    const view = store.view();
    const nowMs = effects.clock.monotonicMs();
    const steps = planDrain(view, node, drain);
    for (const [vmId, generation] of started) {
      const vm = view.vms.get(vmId);
      if (vm?.state === "migrating") continue;
      started.delete(vmId);
      // It runs where it was: why, its row says.
      if (vm?.claim?.nodeId === node.id && vm.generation >= generation) pause(vm, vm.reason ?? "the migration was given up");
    }
    let free = drain.parallel - steps.filter(({ action }) => action === "wait").length;
    const blocked: DrainBlock[] = [];
    const restarting = await startAgain(drain.restarting);
    const toShutDown: Vm[] = [];
    for (const { vm, action, move, reasons } of steps) {
      const name = vm.definition.name;
      const paused = pauses.get(vm.id);
      if (action === "blocked") blocked.push({ vmId: vm.id, name, reasons });
      else if (paused !== undefined && paused.untilMs > nowMs && action !== "wait")
        blocked.push({ vmId: vm.id, name, reasons: [paused.why] });
      else if (action === "migrate" && move !== null && free > 0) {
        free--;
        const refused = await propose({ type: "vm.migrate", ...move, why: `drain of ${node.name}` });
        if (refused === null) started.set(vm.id, vm.generation + 1);
        else pause(vm, refused);
      } else if (action === "restart" && free > 0) {
        free--;
        restarting.push(vm.id);
        toShutDown.push(vm);
      }
    }
    const done = steps.length === 0 && restarting.length === 0 && (view.claimsByNode.get(node.id)?.size ?? 0) === 0;
    const report = { done, blocked, restarting: [...new Set(restarting)] };
    const before = { done: drain.done, blocked: drain.blocked, restarting: drain.restarting };
    // Noted before anything is shut down: a leader that comes later starts it again.
    if (
      JSON.stringify(report) !== JSON.stringify(before) &&
      (await propose({ type: "node.drain-report", nodeId: node.id, ...report })) !== null
    )
      return;
    for (const vm of toShutDown) {
      const refused = await propose({ type: "vm.desire", vmId: vm.id, action: "shutdown", nodeId: null });
      if (refused !== null) pause(vm, refused);
    }
  };

  return {
    name: "draining",
    everyMs: 500,
    onChange: true,
    run: async () => {
      for (const node of store.view().nodes.values()) if (node.drain !== undefined || node.restarting !== undefined) await work(node);
    },
  };
}
