/** `roost scheduler rebalance --cluster FILE`: the production rebalancing on a cluster from a file. Pure. */
import { rebalance } from "../scheduler/rebalance.ts";
import type { RebalanceOptions, RebalancePlan } from "../scheduler/rebalance.ts";
import type { Printed } from "./planfile-run.ts";
import { readCluster } from "./planfile-read.ts";
import { stateFrom } from "./planfile-view.ts";

/** The plan with names for ids, which in a file are the same. */
export interface RebalanceAnswer extends Omit<RebalancePlan, "steps"> {
  steps: (Omit<RebalancePlan["steps"][number], "vmId" | "fromNodeId" | "toNodeId"> & { vm: string; from: string; to: string })[];
}

export function runRebalance(clusterText: string, options: RebalanceOptions): Printed<RebalanceAnswer> {
  const { state } = stateFrom(readCluster(clusterText), null);
  const { steps, ...rest } = rebalance(state, options);
  const json: RebalanceAnswer = {
    ...rest,
    steps: steps.map(({ vmId, fromNodeId, toNodeId, ...step }) => ({ vm: vmId, from: fromNodeId, to: toNodeId, ...step })),
  };
  const rows = json.steps.map(({ vm, from, to, memoryMib, scoreAfter, target }) => [
    vm,
    from,
    to,
    `${memoryMib} MiB`,
    scoreAfter.toFixed(4),
    `${target.usedMib} + ${memoryMib} of ${target.limitMib} MiB`,
  ]);
  rows.push([
    "",
    "",
    "",
    `${json.movedMib} MiB`,
    json.scoreAfter.toFixed(4),
    `from ${json.scoreBefore.toFixed(4)}; stopped: ${json.stopped}`,
  ]);
  return { json, table: { head: ["VM", "FROM", "TO", "MOVES", "SCORE", "ON THE TARGET"], rows } };
}
