/** `roost scheduler plan --cluster FILE --request FILE`: the production scheduler on a cluster from a file. Pure. */
import { invalid } from "../base/errors.ts";
import { explain, whyNot } from "../scheduler/explain.ts";
import type { Verdict, WhyNot } from "../scheduler/explain.ts";
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

/** Both the reasons of a VM's decision and, with `whyNotNode` ("all" or a name), what would have to change. */
export interface ExplainAnswer {
  vm: string;
  node: string | null;
  /** Position among the plan's decisions, from 0; null if the VM was not planned. */
  position: number | null;
  refused: PendingReason[] | null;
  verdicts: Verdict[];
  whyNot: WhyNot[];
}

/** `roost scheduler explain VM --cluster FILE --request FILE [--why-not NODE|all]`. Throws `invalid` for names that are not there. */
export function runSchedulerExplain(
  clusterText: string,
  requestText: string,
  vm: string,
  whyNotNode: string | null,
): Printed<ExplainAnswer> {
  const { view, request, seed } = readPlanFiles(clusterText, requestText);
  if (!request.vms.includes(vm)) throw invalid("vm", `the request has no VM named ${vm}`, `it has ${request.vms.slice(0, 10).join(", ")}`);
  if (whyNotNode !== null && whyNotNode !== "all" && !view.nodes.has(whyNotNode))
    throw invalid("why-not", `no node is named ${whyNotNode}`);
  const { nodeId, position, refused, verdicts } = explain(view, request, seed, vm);
  const changes = whyNotNode === null ? [] : whyNot(view, request, vm, whyNotNode === "all" ? null : whyNotNode);
  const json: ExplainAnswer = { vm, node: nodeId, position, refused, verdicts, whyNot: changes };
  const head = whyNotNode === null ? ["NODE", "", "SCORE", "WHY NOT"] : ["NODE", "FITS", "WHAT WOULD HAVE TO CHANGE"];
  const rows =
    whyNotNode === null
      ? verdicts.map((one) => [
          one.nodeName,
          one.chosen ? "chosen" : "",
          one.score === null ? "-" : one.score.toFixed(4),
          one.refusals.map(({ detail }) => detail).join("; "),
        ])
      : changes.map((one) => [
          one.nodeName,
          one.fits ? "yes" : "no",
          one.possible ? one.changes.map(({ text }) => text).join("; and ") : "nothing would help",
        ]);
  return { json, table: { head, rows } };
}

/** Files → view and request. */
export function readPlanFiles(clusterText: string, requestText: string): { view: View; request: PlanRequest; seed: string } {
  const cluster = clusterFrom(parseClusterText(clusterText));
  const asked = requestFrom(parseRequestText(requestText));
  const { view, request } = viewFrom(cluster, asked);
  if (request === null) throw new TypeError("a view made with a request has one");
  return { view, request, seed: asked.seed };
}
