/** What to recover first, and the time line of a failover (HA-11, HA-17). Pure. */
import type { Failover, Vm } from "../model/vm.ts";
import type { Settings } from "../model/settings.ts";

/**
 * The VMs to plan as one batch now: every `recovering` one without a claim whose back-off is over, by priority, then
 * number. `nowMs` is wall clock, as `retryAtMs` is.
 */
export function recoveryBatch(vms: Iterable<Vm>, nowMs: number): Vm[] {
  const due: Vm[] = [];
  for (const vm of vms) {
    if (
      vm.state === "recovering" &&
      vm.claim === null &&
      vm.desired.power === "on" &&
      !vm.desired.deleted &&
      !vm.desired.hold &&
      vm.retryAtMs <= nowMs
    )
      due.push(vm);
  }
  return due.toSorted((a, b) => b.definition.ha.priority - a.definition.ha.priority || a.number - b.number);
}

export interface TimelineStep {
  step: "last heartbeat" | "suspect" | "proof" | "planned" | "started" | "running";
  /** Wall clock; null while it has not come yet. */
  atMs: number | null;
  /** ms since the last heartbeat. */
  sinceMs: number | null;
}

export interface Timeline {
  steps: TimelineStep[];
  /** From the last heartbeat to the start on the new node; the guest's boot is not counted. null while under way. */
  tookMs: number | null;
  budgetMs: number;
  withinBudget: boolean | null;
}

/** How long a plan, its commit and the start of a domain may take together. */
export const PLAN_AND_START_MS = 500;
/** An election: two time-outs of 1–2 s at worst, less what overlaps with the claim. */
const ELECTION_MS = 2_000;

/** Spec 5-ha: claim + margin + plan and start, and an election more if the leader died too. */
export function budgetMs(settings: Settings, leaderDied: boolean): number {
  return settings["ha.claimMs"] + settings["ha.marginMs"] + PLAN_AND_START_MS + (leaderDied ? ELECTION_MS : 0);
}

export function timeline(failover: Failover, settings: Settings, leaderDied: boolean): Timeline {
  const at: [TimelineStep["step"], number | null][] = [
    ["last heartbeat", failover.lastHeartbeatMs],
    ["suspect", failover.suspectMs],
    ["proof", failover.proofMs],
    ["planned", failover.plannedMs],
    ["started", failover.startedMs],
    ["running", failover.runningMs],
  ];
  const steps = at.map(([step, atMs]) => ({ step, atMs, sinceMs: atMs === null ? null : atMs - failover.lastHeartbeatMs }));
  const tookMs = failover.startedMs === null ? null : failover.startedMs - failover.lastHeartbeatMs;
  const budget = budgetMs(settings, leaderDied);
  return { steps, tookMs, budgetMs: budget, withinBudget: tookMs === null ? null : tookMs <= budget };
}
