/** How long a failover may take (HA-17). */
import type { Settings } from "../model/settings.ts";

/** How long a plan, its commit and the start of a domain may take together. */
const PLAN_AND_START_MS = 500;
/** An election: time-outs of 1–2 s. */
const ELECTION_MS = 2_000;

/**
 * From the last heartbeat to the start on the new node, the guest's boot not counted: claim + margin + plan and start,
 * and an election more if the leader died too. With the defaults 4000 + 250 + 500 = 4750 ms, or 6750 ms.
 */
export function failoverBudgetMs(settings: Settings, leaderChanged: boolean): number {
  return settings["ha.claimMs"] + settings["ha.marginMs"] + PLAN_AND_START_MS + (leaderChanged ? ELECTION_MS : 0);
}
