/** Why VMs are where they are, and what would be if: questions only, answered from the answering node's copy of the state. */
import { invalid, RoostError } from "../../base/errors.ts";
import type { Violation } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { checkDefinition } from "../../model/definition.ts";
import { parseSetting } from "../../model/settings.ts";
import type { Settings } from "../../model/settings.ts";
import type { View } from "../../model/view.ts";
import { explainVm } from "../../placing/explain.ts";
import { exportPlanFile } from "../../placing/export.ts";
import { replay } from "../../placing/replay.ts";
import { parseWhatIf } from "../../placing/what-if-script.ts";
import { whatIf } from "../../placing/what-if.ts";
import { whyNot } from "../../placing/why-not.ts";
import { rebalance } from "../../scheduler/rebalance.ts";
import { historyBegins } from "../../state/history.ts";
import { State } from "../../state/state.ts";
import { readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { toDecision, toRebalance, toReplayed, toVerdict, toWhatIf, toWhyNot } from "../convert-scheduler.ts";
import { nodeName } from "../convert.ts";
import { findNode, findVm } from "../lookup.ts";

/** The history is the replicated state's own: a view made otherwise has none. */
function stateOf(view: View): State {
  if (view instanceof State) return view;
  throw new RoostError({ kind: "internal", reason: "the view is not the replicated state" });
}

export const schedulerService: ServiceMethods<"SchedulerService", CallContext> = {
  async ExplainVm(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const state = stateOf(view);
    const vm = findVm(view, request.vm);
    if (request.revision < 0) throw invalid("revision", "expected 0 or a revision");
    const answer = explainVm(state, vm, request.revision === 0 ? null : request.revision);
    const node = request.whyNot === "" || request.whyNot === "all" ? null : findNode(view, request.whyNot).id;
    return {
      vmId: vm.id,
      vm: vm.definition.name,
      state: vm.state,
      node: nodeName(view, vm.claim?.nodeId ?? null),
      decision: toDecision(view, answer),
      verdicts: (answer.regenerated?.verdicts ?? []).map(toVerdict),
      same: answer.same,
      problem: answer.problem ?? "",
      verdictsNow: (answer.now?.verdicts ?? []).map(toVerdict),
      whyNot: request.whyNot === "" ? [] : whyNot(state, vm.id, node).map(toWhyNot),
      read: info,
    };
  },

  async ReplayPlans(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const state = stateOf(view);
    const { fromRevision: from, toRevision: to } = request;
    if (from < 0 || to < 0) throw invalid("from_revision", "expected revisions");
    const plans = replay(state, { from, to: to === 0 ? Infinity : to, settings: settingsFrom(request.settings) });
    return { plans: plans.map((one) => toReplayed(view, one)), historyBegins: historyBegins(state), read: info };
  },

  async WhatIf(request, context) {
    const statements = parseWhatIf(request.script);
    const { view, info } = await readState(context, request.consistency);
    const faults: Violation[] = [];
    const models = request.definitions.flatMap((input, i) => {
      const checked = checkDefinition(input, { vmId: context.newId(), arch: context.arch });
      if (checked.ok) return [checked.definition];
      faults.push(...checked.violations.map(({ field, message }) => ({ field: `definitions[${i}].${field}`, message })));
      return [];
    });
    if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
    return { ...toWhatIf(view, whatIf(stateOf(view), statements, models)), read: info };
  },

  async PlanRebalance({ maxMib = null, maxSteps = null, minGain, consistency }, context) {
    const faults: Violation[] = [];
    for (const [field, value] of Object.entries({ max_mib: maxMib, max_steps: maxSteps, min_gain: minGain ?? null })) {
      if (value !== null && !(Number.isFinite(value) && value >= 0))
        faults.push({ field, message: `expected a number from 0, not ${value}` });
    }
    if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
    const { view, info } = await readState(context, consistency);
    const options = { maxMib, maxSteps, ...(minGain === undefined ? {} : { minGain }) };
    return { ...toRebalance(view, rebalance(view, options, view.usage)), read: info };
  },

  async ExportPlanFile(request, context) {
    const { view, info } = await readState(context, request.consistency);
    return { text: exportPlanFile(stateOf(view), { history: request.history }), read: info };
  },
};

function settingsFrom(wanted: Record<string, string>): Partial<Settings> {
  const faults: Violation[] = [];
  const settings: Record<string, string | number> = {};
  for (const [key, value] of Object.entries(wanted)) {
    const parsed = parseSetting(key, value);
    if (parsed.ok) settings[parsed.key] = parsed.value;
    else faults.push({ field: `settings.${key}`, message: `expected ${parsed.expected}, not ${JSON.stringify(value)}` });
  }
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
  return settings;
}
