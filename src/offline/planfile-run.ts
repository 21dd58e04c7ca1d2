/** `roost scheduler plan --cluster FILE --request FILE`: the production scheduler on a cluster from a file. Pure. */
import { plan } from "../scheduler/plan.ts";
import type { Plan } from "../scheduler/types.ts";
import type { PendingReason } from "../model/vm.ts";
import type { View } from "../model/view.ts";
import type { PlanRequest } from "../scheduler/types.ts";
import { clusterFrom, requestFrom } from "./planfile.ts";
import { parseClusterText, parseRequestText } from "./planfile-text.ts";
import { viewFrom } from "./planfile-view.ts";

/** The answer for programs. */
export interface PlanAnswer {
  placements: { vm: string; node: string }[];
  rejections: { vm: string; reasons: PendingReason[] }[];
  /** True if no plan places more. */
  proven: boolean;
  method: Plan["method"];
}

/** What the CLI prints: `json` for programs, `table` for people. */
export interface Printed<T> {
  json: T;
  table: { head: string[]; rows: string[][] };
}

/** Both texts may be JSON or the one-line-each form. Throws `invalid` with every fault. */
export function runSchedulerPlan(clusterText: string, requestText: string): Printed<PlanAnswer> {
  const { view, request, seed } = readPlanFiles(clusterText, requestText);
  const found = plan(view, request, seed);
  const json: PlanAnswer = {
    placements: found.placements.map(({ vmId, nodeId }) => ({ vm: vmId, node: nodeId })),
    rejections: found.rejections.map(({ vmId, reasons }) => ({ vm: vmId, reasons })),
    proven: found.proven,
    method: found.method,
  };
  return {
    json,
    table: {
      head: ["VM", "NODE", "WHY"],
      rows: [
        ...json.placements.map(({ vm, node }) => [vm, node, ""]),
        ...json.rejections.map(({ vm, reasons }) => [
          vm,
          "-",
          reasons.map((reason) => `${reason.code} on ${reason.nodes}: ${reason.detail}`).join("; "),
        ]),
      ],
    },
  };
}

/** Files → view and request. */
export function readPlanFiles(clusterText: string, requestText: string): { view: View; request: PlanRequest; seed: string } {
  const cluster = clusterFrom(parseClusterText(clusterText));
  const asked = requestFrom(parseRequestText(requestText));
  const { view, request } = viewFrom(cluster, asked);
  if (request === null) throw new TypeError("a view made with a request has one");
  return { view, request, seed: asked.seed };
}
