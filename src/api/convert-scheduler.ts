/** The scheduler's answers as messages: names instead of ids, absent instead of null. */
import type { View } from "../model/view.ts";
import type { VmExplanation } from "../placing/explain.ts";
import type { Replayed } from "../placing/replay.ts";
import type { Balance, WhatIf } from "../placing/what-if.ts";
import type { Change, WhyNot } from "../placing/why-not.ts";
import type { RebalancePlan } from "../scheduler/rebalance.ts";
import type { Verdict } from "../scheduler/explain.ts";
import type { NodeVerdict as VerdictMessage } from "../gen/types/roost/v1/NodeVerdict.ts";
import type { MemoryBalance } from "../gen/types/roost/v1/MemoryBalance.ts";
import type { PlacementChange } from "../gen/types/roost/v1/PlacementChange.ts";
import type { PlacementDecision } from "../gen/types/roost/v1/PlacementDecision.ts";
import type { PlanRebalanceResponse } from "../gen/types/roost/v1/PlanRebalanceResponse.ts";
import type { ReplayedPlan } from "../gen/types/roost/v1/ReplayedPlan.ts";
import type { WhatIfResponse } from "../gen/types/roost/v1/WhatIfResponse.ts";
import type { WhyNot as WhyNotMessage } from "../gen/types/roost/v1/WhyNot.ts";
import { nodeName } from "./convert.ts";

export function toDecision(view: View, { decision, certificate }: VmExplanation): PlacementDecision | null {
  if (decision === null) return null;
  return {
    revision: decision.index,
    viewRevision: decision.viewIndex,
    atMs: decision.atMs,
    node: nodeName(view, decision.nodeId),
    ...(decision.score === null ? {} : { score: decision.score }),
    refused: decision.refused,
    top: decision.top.map(({ nodeId, score }) => ({ node: nodeName(view, nodeId), score })),
    method: decision.method,
    proven: decision.proven,
    vms: certificate?.vms.length ?? 0,
    placedBalanced: certificate?.placed.balanced ?? -1,
    placedCompact: certificate?.placed.compact ?? -1,
    placedSearch: certificate?.placed.search ?? -1,
    seed: certificate?.seed ?? "",
    digest: certificate?.digest ?? "",
  };
}

export function toVerdict(verdict: Verdict): VerdictMessage {
  const { nodeId, nodeName: node, chosen, score, parts, tier, refusals } = verdict;
  return {
    nodeId,
    node,
    chosen,
    ...(score === null ? {} : { score }),
    ...(parts === null ? {} : { cpuScore: parts.cpu, memoryScore: parts.memory }),
    tier,
    refusals: refusals.map(({ code, detail, numbers }) => ({ code, detail, numbers: { ...numbers } })),
  };
}

export function toWhyNot({ nodeName: node, fits, possible, changes, alternatives, exact }: WhyNot): WhyNotMessage {
  const said = (set: readonly Change[]): PlacementChange[] => set.map(({ kind, text }) => ({ kind, text }));
  return { node, fits, possible, changes: said(changes), alternatives: alternatives.map((set) => ({ changes: said(set) })), exact };
}

export function toReplayed(view: View, { index, viewIndex, atMs, certificate, plan, same, differences }: Replayed): ReplayedPlan {
  return {
    revision: index,
    viewRevision: viewIndex,
    atMs,
    kind: certificate.kind,
    vms: certificate.vms.length,
    placed: certificate.decisions.filter(([, node]) => node !== -1).length,
    placedAgain: plan === null ? -1 : plan.placements.length,
    same,
    differences: differences.map(({ vmId, before, after, reasons }) => ({
      vm: view.vms.get(vmId)?.definition.name ?? vmId,
      before: nodeName(view, before),
      after: nodeName(view, after),
      reasons,
    })),
  };
}

export function toWhatIf(view: View, { steps, stranded, ha, nodes, balance }: WhatIf): WhatIfResponse {
  const name = (id: string | null): string => nodeName(view, id);
  const shares = ({ mean, spread, max }: Balance): MemoryBalance => ({ mean, spread, max });
  return {
    steps: steps.map(({ text, moves, notes }) => ({
      text,
      moves: moves.map(({ vmName, from, to }) => ({ vm: vmName, from: name(from), to: name(to) })),
      notes,
    })),
    stranded: stranded.map(({ vmName, state, underHa, from, reasons }) => ({ vm: vmName, state, underHa, from: name(from), reasons })),
    haFailed: ha.failed,
    haRecovered: ha.recovered,
    nodes: nodes.map(({ before, after }) => ({
      node: before.nodeName,
      stateBefore: before.state,
      stateAfter: after.state,
      vmsBefore: before.vms,
      vmsAfter: after.vms,
      memoryMibBefore: before.memoryMib,
      memoryMibAfter: after.memoryMib,
      memoryLimitMib: after.memoryLimitMib,
    })),
    balanceBefore: shares(balance.before),
    balanceAfter: shares(balance.after),
  };
}

export function toRebalance(view: View, { scoreBefore, scoreAfter, movedMib, stopped, steps }: RebalancePlan): PlanRebalanceResponse {
  return {
    viewRevision: view.index,
    scoreBefore,
    scoreAfter,
    movedMib,
    stopped,
    steps: steps.map(({ vmId, fromNodeId, toNodeId, target: { usedMib, limitMib, usedCpus, limitCpus }, ...step }) => {
      const definition = view.vms.get(vmId)?.definition;
      return {
        vm: definition?.name ?? vmId,
        from: nodeName(view, fromNodeId),
        to: nodeName(view, toNodeId),
        memoryMib: step.memoryMib,
        scoreBefore: step.scoreBefore,
        scoreAfter: step.scoreAfter,
        usedMib,
        limitMib,
        vcpus: definition?.cpus ?? 0,
        usedVcpus: usedCpus,
        ...(limitCpus === null ? {} : { limitVcpus: limitCpus }),
        cpus: step.cpus ?? [],
      };
    }),
  };
}
