/** One VM's last decision (or an earlier one), regenerated from the history, and what would be decided now (SCH-17). Pure. */
import type { Certificate, VmDecision } from "../model/certificate.ts";
import { leftOutNodes } from "../model/node.ts";
import type { Vm } from "../model/vm.ts";
import { explain } from "../scheduler/explain.ts";
import type { Explanation } from "../scheduler/explain.ts";
import { plan } from "../scheduler/plan.ts";
import { certificateOf } from "../scheduler/record.ts";
import { historyBegins, Past } from "../state/history.ts";
import type { State } from "../state/state.ts";
import { inputsOf } from "./replay.ts";
import { nodesToAvoid } from "./request.ts";

export interface VmExplanation {
  vm: Vm;
  /** What was decided; null if no scheduler of this cluster ever decided about it. */
  decision: VmDecision | null;
  /** The whole plan it was part of; null if out of retention. */
  certificate: Certificate | null;
  /** Every node's verdict at the moment of the decision; null where it cannot be regenerated, with `problem` saying why. */
  regenerated: Explanation | null;
  /** True if the plan, made again, is the recorded one byte for byte. */
  same: boolean;
  problem: string | null;
  /** The present state's verdicts, for a VM that waits; null for others. */
  now: Explanation | null;
}

/** `revision`: index of the command that carried the decision; null for the last one. */
export function explainVm(present: State, vm: Vm, revision: number | null): VmExplanation {
  const decisions = vm.decisions ?? [];
  const decision = (revision === null ? decisions.at(-1) : decisions.find((one) => one.index === revision)) ?? null;
  const index = decision?.index ?? revision;
  const row = index === null ? undefined : [...present.history.values()].find((one) => one.index === index);
  const certificate = row?.certificate?.vms.includes(vm.id) === true ? row.certificate : null;
  const answer: VmExplanation = { vm, decision, certificate, regenerated: null, same: false, problem: null, now: nowOf(present, vm) };
  if (certificate === null) {
    answer.problem =
      decision === null
        ? undecided(present)
        : `the decision at revision ${decision.index} is out of retention, which begins at ${historyBegins(present)} (scheduler.historyMib); what is shown was kept with the VM`;
    return answer;
  }
  const inputs = inputsOf(new Past(present), certificate);
  if (inputs === null) {
    answer.problem = `the view at revision ${certificate.viewIndex} is out of retention, which begins at ${historyBegins(present)} (scheduler.historyMib)`;
    return answer;
  }
  const { view, request } = inputs;
  const again = certificateOf(plan(view, request, certificate.seed, view.usage), request);
  answer.same = JSON.stringify(again) === JSON.stringify(certificate);
  if (!answer.same) answer.problem = "the plan made again is not the recorded one: it was made by another release";
  answer.regenerated = explain(view, request, certificate.seed, vm.id, view.usage);
  return answer;
}

function undecided(present: State): string {
  const unknown = leftOutNodes(present).map((node) => node.name);
  return unknown.length > 0
    ? `nothing is placed, wherever there is room, until each of ${unknown.join(", ")} has rejoined or is confirmed off (roost node fence)`
    : "the scheduler has not decided about this VM yet";
}

/** As the loop would ask next, for this VM alone. */
function nowOf(present: State, vm: Vm): Explanation | null {
  if (vm.claim !== null || (vm.state !== "pending" && vm.state !== "recovering")) return null;
  const kind = vm.state === "recovering" ? "recover" : "start";
  const request = { vms: [vm.id], mode: "one-by-one", kind, scoring: null, manual: true, avoid: nodesToAvoid(present, [vm.id]) } as const;
  return explain(present, request, vm.id, vm.id, present.usage);
}
