/** The time line of a failover for people (HA-17): each moment against the last heartbeat, and the whole against its budget. */
import type { Failover__Output } from "../gen/types/roost/v1/Failover.ts";
import { paint } from "./io.ts";
import type { Io } from "./io.ts";

function seconds(ms: number): string {
  return `+${(ms / 1000).toFixed(2)}s`;
}

/** `+4.25s` is counted from the last heartbeat; what has not come yet is left out. */
export function timeline(io: Io, failover: Failover__Output): string {
  const begin = failover.lastHeartbeatMs;
  const steps: [number, string][] = [
    [failover.lastHeartbeatMs, `last heartbeat of ${failover.fromNode}`],
    [failover.suspectMs, "suspect"],
    [failover.proofMs, `proof by ${failover.proofKind}: ${failover.proof}`],
    [failover.plannedMs, `planned on ${failover.toNode}`],
    [failover.startedMs, `started on ${failover.toNode}`],
    [failover.runningMs, `running on ${failover.toNode}`],
  ];
  // A release or fence may come before anybody was suspected.
  const known = steps.filter(([at], i) => i === 0 || at > 0).toSorted(([a], [b]) => a - b);
  const rows = known.map(([at, text]) => `  ${seconds(at - begin).padStart(9)}  ${text}\n`).join("");
  const end = failover.startedMs;
  const took = end === 0 ? null : end - begin;
  let verdict = `not started yet; budget ${seconds(failover.budgetMs).slice(1)} from the last heartbeat`;
  if (took !== null) {
    const within = took <= failover.budgetMs;
    const text = `started within ${seconds(took).slice(1)} of ${seconds(failover.budgetMs).slice(1)} budget`;
    verdict = within ? paint(io, "green", text) : paint(io, "yellow", `${text}: ${seconds(took - failover.budgetMs)} over`);
  }
  const arrow = failover.toNode === "" ? `${failover.fromNode} → ?` : `${failover.fromNode} → ${failover.toNode}`;
  return `${paint(io, "bold", failover.vmName)}  ${arrow}  ${verdict}\n${rows}`;
}
