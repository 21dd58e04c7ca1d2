/**
 * Plans that leave room for failures (HA-16): what is planned is looked at as if it were done, and VMs that would make some loss
 * impossible to survive, with a proof of it, are planned again without the nodes where they do. What is only not shown is let
 * through. Recovery is never held back. Pure; called by the loop on the leader, and by what-if. docs/design/013-admission.md.
 */
import { usageOf } from "../model/capacity.ts";
import { settingsOf } from "../model/placement.ts";
import { goalOf } from "../model/tolerance.ts";
import type { Impossible, ToleranceGoal } from "../model/tolerance.ts";
import { describeImpossible } from "../model/tolerance-text.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import type { Kept } from "../scheduler/kept.ts";
import { plan } from "../scheduler/plan.ts";
import { lossOf, toleranceOf } from "../scheduler/tolerance.ts";
import type { Tolerance } from "../scheduler/tolerance.ts";
import type { Plan, PlanRequest, PlannedPlacement, Reserve } from "../scheduler/types.ts";
import { Supposed } from "./supposed.ts";

export interface Admitted {
  plan: Plan;
  /** As it was planned in the end: with the nodes that were closed to VMs. */
  request: PlanRequest;
  /** Of the cluster with the plan done; null where nothing is to be tolerated. */
  tolerance: Tolerance | null;
}

export interface AdmissionOptions {
  kept?: Kept | undefined;
  /** Placements that are on their way. */
  promised?: readonly PlannedPlacement[];
}

/** Losses planned for one answer: about a tenth of a second. */
const PLANS = 150;
/** Plans made again, each without what the one before was refused for; after so many, and again so many, with less effort. */
const ROUNDS = 8;
/** Kinds of VMs looked at on every node, each round. */
const KINDS = 4;
/** Looks at one loss to find which VMs of a plan are too many. */
const LOOKS = 64;

export function planWithReserve(view: View, request: PlanRequest, seed: string, options: AdmissionOptions = {}): Admitted {
  const goal = goalOf(settingsOf(view));
  const make = (reserve: readonly Reserve[]): Admitted => {
    const whole = reserve.length === 0 ? request : { ...request, reserve };
    return { plan: plan(view, whole, seed, view.usage ?? usageOf(view), options.kept), request: whole, tolerance: null };
  };
  let made = make([]);
  if (request.kind !== "start" || (goal.nodes === 0 && !goal.zones)) return made;
  const reserve: Reserve[] = [];
  for (let round = 0; ; round++) {
    const supposed = new Supposed(view, options.promised ?? []);
    const asked = made.plan.placements.filter(({ vmId }) => !hasRunBefore(view.vms.get(vmId)));
    if (asked.length === 0) return made;
    supposed.place(made.plan.placements);
    const tolerance = look(supposed.view, goal, asked);
    const [impossible] = tolerance.impossible;
    if (impossible === undefined) return { ...made, tolerance };
    supposed.unplace(asked);
    const effort = round < ROUNDS ? "other nodes" : round < 2 * ROUNDS ? "none" : "refuse all";
    reserve.push(...new Blame(supposed, impossible, effort).of(asked));
    made = make(merged(reserve));
  }
}

function look(view: View, goal: ToleranceGoal, asked: readonly PlannedPlacement[]): Tolerance {
  return toleranceOf(view, goal, { first: true, plans: PLANS, blame: new Set(asked.map(({ vmId }) => vmId)) });
}

/** Its room was counted until its guest died: it only comes back. */
function hasRunBefore(vm: Vm | undefined): boolean {
  return vm !== undefined && vm.failures > 0;
}

type Effort = "other nodes" | "none" | "refuse all";

/** Finds the VMs of a plan that one loss has no room for, and the nodes where that is so. */
class Blame {
  readonly #supposed: Supposed;
  readonly #impossible: Impossible;
  /** For a VM that is too many: look where else it could be, or let it wait for the next plan; or let all of them wait. */
  readonly #effort: Effort;
  #looks = LOOKS;
  readonly #closed = new Map<string, Reserve & { vms: string[] }>();

  constructor(supposed: Supposed, impossible: Impossible, effort: Effort) {
    this.#supposed = supposed;
    this.#impossible = impossible;
    this.#effort = effort;
  }

  of(asked: readonly PlannedPlacement[]): Reserve[] {
    this.#admit(asked);
    return [...this.#closed.values()].filter(({ vms }) => vms.length > 0);
  }

  /** Halves what is too much until single VMs are found; those before keep their room. */
  #admit(asked: readonly PlannedPlacement[]): void {
    const open = asked.filter((one) => !this.#isClosed(one));
    if (open.length === 0) return;
    this.#supposed.place(open);
    const why = this.#whyNot();
    if (why === null) return;
    this.#supposed.unplace(open);
    if (open.length > 1) {
      this.#admit(open.slice(0, open.length >> 1));
      this.#admit(open.slice(open.length >> 1));
    } else this.#close(open[0]!, why);
  }

  #isClosed(one: PlannedPlacement): boolean {
    const known = this.#closed.get(this.#kindOf(one.vmId));
    if (known?.nodes.includes(one.nodeId) !== true) return false;
    known.vms.push(one.vmId);
    return true;
  }

  /** More of the same kind find less room yet, so one answer is for all of them. */
  #close(one: PlannedPlacement, why: Impossible): void {
    const { view } = this.#supposed;
    const all = [...view.nodes.values()].filter((node) => node.state === "ready").map(({ id }) => id);
    const nodes =
      this.#effort !== "other nodes"
        ? all
        : this.#closed.size >= KINDS
          ? [one.nodeId]
          : all.filter((nodeId) => {
              if (nodeId === one.nodeId) return true;
              this.#supposed.place([{ ...one, nodeId }]);
              const closed = this.#whyNot() !== null;
              this.#supposed.unplace([{ ...one, nodeId }]);
              return closed;
            });
    this.#closed.set(this.#kindOf(one.vmId), { vms: [one.vmId], nodes, why: `room is kept: ${describeImpossible(view, why)}` });
  }

  #whyNot(): Impossible | null {
    const { lost, zone } = this.#impossible;
    // Out of looks: what is left waits for the next plan, with the reason that is known.
    if (this.#effort === "refuse all" || this.#looks-- <= 0) return this.#impossible;
    const answer = lossOf(this.#supposed.view, lost, zone, { blame: this.#supposed.added });
    return answer !== null && "vmIds" in answer ? answer : null;
  }

  /** VMs that are the same to every node and every loss. */
  #kindOf(vmId: string): string {
    const { view } = this.#supposed;
    const vm = view.vms.get(vmId);
    if (vm === undefined || view.policies.size > 0) return vmId;
    const { name: _, ...definition } = vm.definition;
    return JSON.stringify([definition, vm.underHa, vm.homeNodeId, vm.desired.nodeId]);
  }
}

/** The same nodes and words as one entry. */
function merged(reserve: readonly Reserve[]): Reserve[] {
  const found = new Map<string, Reserve & { vms: string[] }>();
  for (const { vms, nodes, why } of reserve) {
    const key = JSON.stringify([nodes, why]);
    const known = found.get(key);
    if (known === undefined) found.set(key, { vms: [...vms], nodes, why });
    else known.vms.push(...vms);
  }
  return [...found.values()];
}
