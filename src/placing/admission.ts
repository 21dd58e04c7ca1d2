/**
 * Plans that leave room for failures (HA-16): what is planned is looked at as if it were done, and VMs that would make some loss
 * impossible to survive, with a proof of it, are planned again without the nodes where they do. What is only not shown is let
 * through. Recovery is never held back. Pure; called by the loop on the leader, and by what-if. docs/design/013-admission.md.
 */
import { usageOf } from "../model/capacity.ts";
import { hash32 } from "../model/hash.ts";
import { checkPlacement, settingsOf } from "../model/placement.ts";
import { goalOf } from "../model/tolerance.ts";
import type { Impossible } from "../model/tolerance.ts";
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

/** Losses planned one by one for one plan, in all its rounds: a few tenths of a second. */
const PLANS = 150;
/** Plans made again, each without what the one before was refused for. */
const ROUNDS = 6;
/** Places tried again, one by one, for VMs that were refused. */
const REOPENED = 16;
/** Kinds of VMs looked at on every node, each round. */
const KINDS = 4;
/** Looks at one loss, in all rounds, to find which VMs of a plan are too many and where. */
const LOOKS = 300;

export function planWithReserve(view: View, request: PlanRequest, seed: string, options: AdmissionOptions = {}): Admitted {
  const goal = goalOf(settingsOf(view));
  const make = (reserve: readonly Reserve[]): Admitted => {
    const whole = reserve.length === 0 ? request : { ...request, reserve };
    return { plan: plan(view, whole, seed, view.usage ?? usageOf(view), options.kept), request: whole, tolerance: null };
  };
  let made = make([]);
  if (request.kind !== "start" || (goal.nodes === 0 && !goal.zones)) return made;
  const reserve: Reserve[] = [];
  let plans = PLANS;
  const looks = { left: LOOKS };
  const look = (after: View, blame: ReadonlySet<string>): Tolerance => {
    const tolerance = toleranceOf(after, goal, { first: true, plans, blame });
    plans -= tolerance.planned;
    return tolerance;
  };
  for (let round = 0; ; round++) {
    const supposed = new Supposed(view, options.promised ?? []);
    const asked = made.plan.placements.filter(({ vmId }) => !hasRunBefore(view.vms.get(vmId)));
    supposed.place(made.plan.placements);
    const tolerance = asked.length === 0 ? null : look(supposed.view, new Set(asked.map(({ vmId }) => vmId)));
    const impossible = tolerance?.impossible[0];
    if (impossible === undefined) {
      plans = PLANS;
      const more =
        reserve.length === 0
          ? null
          : reopened(supposed, made.plan, reserve, seed, (after, blame) => (plans > 0 ? look(after, blame) : null));
      if (more === null) return { ...made, tolerance };
      const again = make(more);
      const all = new Supposed(view, [...(options.promised ?? []), ...again.plan.placements]);
      const after = look(all.view, new Set(again.plan.placements.map(({ vmId }) => vmId)));
      return after.impossible.length === 0 ? { ...again, tolerance: after } : { ...made, tolerance };
    }
    supposed.unplace(asked);
    // Too much at once: half of it waits for the next plan, and half of the rest, until what is left passes.
    if (round >= ROUNDS || looks.left <= 0) reserve.push(untilNextPlan(supposed.view, asked.slice(asked.length >> 1), impossible));
    else reserve.push(...new Blame(supposed, impossible, looks).of(asked));
    made = make(merged(reserve));
  }
}

/**
 * A VM may have been refused beside others that were refused themselves in the end. So some that wait are asked once more, each alone
 * beside the plan: the exclusions with a node opened again for those that fit, or null for none. Who is asked first is chance, or the
 * same would always be left out.
 */
function reopened(
  supposed: Supposed,
  { rejections }: Plan,
  reserve: readonly Reserve[],
  seed: string,
  look: (view: View, blame: ReadonlySet<string>) => Tolerance | null,
): Reserve[] | null {
  const { view } = supposed;
  const refused = new Set(reserve.flatMap(({ vms }) => vms));
  const waiting = rejections.map(({ vmId }) => vmId).filter((id) => refused.has(id));
  const fitted = new Map<string, string>();
  let tries = REOPENED;
  for (const vmId of waiting.toSorted((a, b) => hash32(`${seed}/${a}`) - hash32(`${seed}/${b}`))) {
    for (const node of view.nodes.values()) {
      const vm = view.vms.get(vmId);
      if (vm === undefined || checkPlacement(view, vm, node, { usage: view.usage }) !== null) continue;
      if (tries-- <= 0) return fitted.size === 0 ? null : opened(view, reserve, fitted);
      const there = [{ vmId, nodeId: node.id }];
      supposed.place(there);
      if (look(view, new Set([vmId]))?.impossible.length === 0) {
        fitted.set(vmId, node.id);
        break;
      }
      supposed.unplace(there);
    }
  }
  return fitted.size === 0 ? null : opened(view, reserve, fitted);
}

/** The one node is open to each of them, and no other. */
function opened(view: View, reserve: readonly Reserve[], fitted: ReadonlyMap<string, string>): Reserve[] {
  const rest = reserve.map((one) => ({ ...one, vms: one.vms.filter((id) => !fitted.has(id)) })).filter(({ vms }) => vms.length > 0);
  const own = [...fitted].map(([vmId, nodeId]): Reserve => {
    const why = reserve.find(({ vms }) => vms.includes(vmId))?.why ?? "";
    return { vms: [vmId], nodes: readyNodes(view).filter((id) => id !== nodeId), why };
  });
  return merged([...rest, ...own]);
}

/** Its room was counted until its guest died: it only comes back. */
function hasRunBefore(vm: Vm | undefined): boolean {
  return vm !== undefined && vm.failures > 0;
}

/** Finds the VMs of a plan that one loss has no room for, and the nodes where that is so. */
class Blame {
  readonly #supposed: Supposed;
  readonly #impossible: Impossible;
  readonly #looks: { left: number };
  readonly #closed = new Map<string, Reserve & { vms: string[] }>();

  constructor(supposed: Supposed, impossible: Impossible, looks: { left: number }) {
    this.#supposed = supposed;
    this.#impossible = impossible;
    this.#looks = looks;
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
    const all = readyNodes(view);
    const nodes =
      this.#closed.size >= KINDS
        ? [one.nodeId]
        : all.filter((nodeId) => {
            if (nodeId === one.nodeId) return true;
            this.#supposed.place([{ ...one, nodeId }]);
            const closed = this.#whyNot() !== null;
            this.#supposed.unplace([{ ...one, nodeId }]);
            return closed;
          });
    this.#closed.set(this.#kindOf(one.vmId), { vms: [one.vmId], nodes, why: reasonOf(view, why) });
  }

  #whyNot(): Impossible | null {
    const { lost, zone } = this.#impossible;
    // Out of looks: what is left waits for the next plan, with the reason that is known.
    if (this.#looks.left-- <= 0) return this.#impossible;
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

function untilNextPlan(view: View, placements: readonly PlannedPlacement[], why: Impossible): Reserve {
  return { vms: placements.map(({ vmId }) => vmId), nodes: readyNodes(view), why: reasonOf(view, why) };
}

function readyNodes(view: View): string[] {
  return [...view.nodes.values()].filter((node) => node.state === "ready").map(({ id }) => id);
}

function reasonOf(view: View, why: Impossible): string {
  return `room is kept: ${describeImpossible(view, why)}`;
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
