/** `roost scheduler plan --cluster FILE --request FILE`: the production scheduler on a cluster from a file. Pure. */
import { invalid } from "../base/errors.ts";
import { whatIf } from "../placing/what-if.ts";
import type { WhatIf } from "../placing/what-if.ts";
import { parseWhatIf } from "../placing/what-if-script.ts";
import { whyNot } from "../placing/why-not.ts";
import type { ChangeKind } from "../placing/why-not.ts";
import { explain } from "../scheduler/explain.ts";
import type { Verdict } from "../scheduler/explain.ts";
import { plan } from "../scheduler/plan.ts";
import type { Plan } from "../scheduler/types.ts";
import type { PendingReason } from "../model/vm.ts";
import type { PlanRequest } from "../scheduler/types.ts";
import type { State } from "../state/state.ts";
import { parseJson } from "./planfile-text.ts";
import { readCluster, readRequest } from "./planfile-read.ts";
import { stateFrom } from "./planfile-view.ts";

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

/** One of the changes that together would make the VM fit. */
export interface ChangeAnswer {
  kind: ChangeKind;
  text: string;
}

export interface WhyNotAnswer {
  node: string;
  fits: boolean;
  /** False if none of the changes known helps. */
  possible: boolean;
  changes: ChangeAnswer[];
  alternatives: ChangeAnswer[][];
}

/** Both the reasons of a VM's decision and, with `whyNotNode` ("all" or a name), what would have to change. */
export interface ExplainAnswer {
  vm: string;
  node: string | null;
  /** Position among the plan's decisions, from 0; null if the VM was not planned. */
  position: number | null;
  refused: PendingReason[] | null;
  verdicts: Verdict[];
  whyNot: WhyNotAnswer[];
}

/** `roost scheduler explain --vm VM --cluster FILE --request FILE [--why-not NODE|all]`. Throws `invalid` for names that are not there. */
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
  const changes = whyNotNode === null ? [] : whyNot(view, vm, whyNotNode === "all" ? null : whyNotNode);
  const said = (list: readonly ChangeAnswer[]): ChangeAnswer[] => list.map(({ kind, text }) => ({ kind, text }));
  const json: ExplainAnswer = {
    vm,
    node: nodeId,
    position,
    refused,
    verdicts,
    whyNot: changes.map((one) => ({
      node: one.nodeName,
      fits: one.fits,
      possible: one.possible,
      changes: said(one.changes),
      alternatives: one.alternatives.map(said),
    })),
  };
  const head = whyNotNode === null ? ["NODE", "", "SCORE", "CPU", "MEMORY", "WHY NOT"] : ["NODE", "FITS", "WHAT WOULD HAVE TO CHANGE"];
  const share = (value: number | undefined | null): string => (value === undefined || value === null ? "-" : value.toFixed(4));
  const rows =
    whyNotNode === null
      ? verdicts.map((one) => [
          one.nodeName,
          one.chosen ? "chosen" : "",
          share(one.score),
          share(one.parts?.cpu),
          share(one.parts?.memory),
          one.refusals.map(({ detail }) => detail).join("; "),
        ])
      : json.whyNot.map((one) => [
          one.node,
          one.fits ? "yes" : "no",
          one.fits ? "" : one.possible ? changeText(one) : "nothing would help",
        ]);
  return { json, table: { head, rows } };
}

function changeText({ changes, alternatives }: WhyNotAnswer): string {
  return [changes, ...alternatives].map((set) => set.map(({ text }) => text).join(" and ")).join("; or ");
}

/** Whether a plan made before is the one that is made now. */
export interface ReplayAnswer {
  same: boolean;
  /** VMs that were decided otherwise; `null` for no node. */
  differences: { vm: string; before: string | null; after: string | null; reasons: PendingReason[] }[];
  answer: PlanAnswer;
}

/** `roost scheduler replay --cluster FILE --request FILE [--answer FILE]`: without an answer, the plan is compared with itself, made twice. */
export function runSchedulerReplay(clusterText: string, requestText: string, answerText: string | null): Printed<ReplayAnswer> {
  const answer = runSchedulerPlan(clusterText, requestText).json;
  const before = answerText === null ? runSchedulerPlan(clusterText, requestText).json : answerFrom(answerText);
  const nodeOf = (one: PlanAnswer): Map<string, string | null> =>
    new Map([
      ...one.rejections.map(({ vm }): [string, null] => [vm, null]),
      ...one.placements.map(({ vm, node }): [string, string] => [vm, node]),
    ]);
  const [then, now] = [nodeOf(before), nodeOf(answer)];
  const reasons = new Map(answer.rejections.map((one) => [one.vm, one.reasons]));
  const differences = [...new Set([...then.keys(), ...now.keys()])]
    .map((vm) => ({ vm, before: then.get(vm) ?? null, after: now.get(vm) ?? null, reasons: reasons.get(vm) ?? [] }))
    .filter((one) => one.before !== one.after);
  const same = JSON.stringify(before) === JSON.stringify(answer);
  return {
    json: { same, differences, answer },
    table: {
      head: ["VM", "BEFORE", "NOW", "WHY NOT"],
      rows: differences.map((one) => [one.vm, one.before ?? "-", one.after ?? "-", one.reasons.map(({ detail }) => detail).join("; ")]),
    },
  };
}

function answerFrom(text: string): PlanAnswer {
  const value = parseJson(text, "answer") as Partial<PlanAnswer> | null;
  if (value === null || !Array.isArray(value.placements) || !Array.isArray(value.rejections))
    throw invalid("--answer", "is not what `roost scheduler plan -o json` prints");
  return value as PlanAnswer;
}

/** `roost scheduler what-if 'fail n1; …' --cluster FILE`. */
export function runWhatIf(clusterText: string, script: string): Printed<WhatIf> {
  const { state } = stateFrom(readCluster(clusterText), null);
  const json = whatIf(state, parseWhatIf(script), []);
  const rows = [
    ...json.steps.flatMap(({ text, moves, notes }) => [
      ...moves.map((move) => [text, move.vmName, move.from ?? "-", move.to ?? "-", ""]),
      ...notes.map((note) => [text, "", "", "", note]),
    ]),
    ...json.stranded.map((one) => ["", one.vmName, one.from ?? "-", "-", one.reasons.map(({ detail }) => detail).join("; ")]),
  ];
  return { json, table: { head: ["STATEMENT", "VM", "FROM", "TO", "WHY"], rows } };
}

/** Files → state and request. */
export function readPlanFiles(clusterText: string, requestText: string): { view: State; request: PlanRequest; seed: string } {
  const cluster = readCluster(clusterText);
  const asked = readRequest(requestText);
  const { state, request } = stateFrom(cluster, asked);
  if (request === null) throw new TypeError("a state made with a request has one");
  return { view: state, request, seed: asked.seed };
}
