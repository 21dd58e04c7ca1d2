/** What a failure would do, and what is being done about those that happened. Questions only. */
import { invalid, RoostError } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { failoverBudgetMs } from "../../ha/budget.ts";
import { whyNoExpiry } from "../../ha/detector.ts";
import type { Node } from "../../model/node.ts";
import { localPool, settingsOf } from "../../model/placement.ts";
import { faultsOfProof } from "../../model/tolerance-check.ts";
import { describeImpossible, describeLoss } from "../../model/tolerance-text.ts";
import { goalOf } from "../../model/tolerance.ts";
import type { Impossible, ToleranceGoal } from "../../model/tolerance.ts";
import type { View } from "../../model/view.ts";
import type { Vm } from "../../model/vm.ts";
import { forecast } from "../../placing/forecast.ts";
import type { Forecast } from "../../placing/forecast.ts";
import { toleranceOf } from "../../scheduler/tolerance.ts";
import type { HaForecast } from "../../gen/types/roost/v1/HaForecast.ts";
import type { HaImpossible } from "../../gen/types/roost/v1/HaImpossible.ts";
import type { HaVm } from "../../gen/types/roost/v1/HaVm.ts";
import type { HaWait } from "../../gen/types/roost/v1/HaWait.ts";
import { readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { nodeName, toFailover } from "../convert.ts";
import { findNode } from "../lookup.ts";
import { waitOfNode, waitOfVm } from "../waits.ts";

const NODES_MAX = 3;
const LISTED_MAX = 1_000;

export const haService: ServiceMethods<"HaService", CallContext> = {
  async GetHa(request, context) {
    const { view: now, info } = await readState(context, request.consistency);
    const settings = settingsOf(now);
    const set = goalOf(settings);
    const goal: ToleranceGoal = {
      nodes: request.nodes ?? (set.nodes === 0 && !set.zones ? 1 : set.nodes),
      zones: request.zones ?? set.zones,
    };
    if (!Number.isInteger(goal.nodes) || goal.nodes < 0 || goal.nodes > NODES_MAX)
      throw invalid("nodes", `expected 0 to ${NODES_MAX}, not ${goal.nodes}`);
    const view = withDisabled(
      now,
      request.disabled.map((name) => findNode(now, name)),
    );
    const tolerance = toleranceOf(view, goal);
    const proof = { viewIndex: view.index, goal, evidence: tolerance.evidence };
    const faults = tolerance.verdict === "protected" ? faultsOfProof(view, proof) : [];
    // Never called safe on the planner's word alone.
    if (faults.length > 0) throw new RoostError({ kind: "internal", reason: `the proof of N+k is wrong: ${faults[0]}` });
    const nodes = [...view.nodes.values()].filter((node) => node.state !== "removed").toSorted((a, b) => a.peerId - b.peerId);
    const voters = nodes.filter((node) => node.role === "voter");
    const silent = voters.filter(isSilent).length;
    const underHa = [...view.vms.values()].filter((vm) => vm.underHa && vm.claim !== null);
    const failovers = [...view.vms.values()].flatMap((vm) => toFailover(view, vm, settings) ?? []);
    return {
      verdict: tolerance.verdict,
      nodes: goal.nodes,
      zones: goal.zones,
      tolerate: set.nodes,
      tolerateZones: set.zones,
      impossible: tolerance.impossible.map((one) => toImpossible(view, one)),
      open: tolerance.open.map((lost) => describeLoss(view, { lost, zone: null })),
      openCount: tolerance.openCount,
      byArithmetic: tolerance.evidence.filter(({ kind }) => kind === "room").length,
      byPlaces: tolerance.evidence.filter(({ kind }) => kind === "places").length,
      checked: tolerance.verdict === "protected",
      vmsUnderHa: underHa.length,
      unrecoverable: unrecoverable(view, underHa).slice(0, LISTED_MAX),
      withoutExpiry: nodes
        .filter((node) => node.witness !== true && node.state !== "joining")
        .flatMap((node) => {
          const why = whyNoExpiry(node);
          return why === null ? [] : [{ node: node.name, why }];
        }),
      voters: voters.length,
      votersSilent: silent,
      votersMayFail: Math.max(0, voters.length - silent - (Math.floor(voters.length / 2) + 1)),
      witnesses: nodes.filter((node) => node.witness === true).map(({ name }) => name),
      waits: waitsOf(now, nodes, context.nowMs()).slice(0, LISTED_MAX),
      failovers: failovers.toSorted((a, b) => (a.proofMs ?? 0) - (b.proofMs ?? 0)),
      read: info,
    };
  },

  async ForecastHa(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const named = request.nodes.map((name) => findNode(view, name));
    if (request.together && named.length === 0) throw invalid("nodes", "expected the nodes that die together");
    if (request.zone !== "" && named.length > 0) throw invalid("zone", "goes without nodes: a zone is all of its nodes");
    const { leaderNodeId: leaderId } = context.store.leadership();
    const answer = (lost: readonly Node[], zone: string | null): HaForecast =>
      toForecast(
        view,
        forecast(
          view,
          lost.map(({ id }) => id),
          { zone, leaderId, whyNoExpiry },
        ),
      );
    return { forecasts: lossesOf(view, request.zone, named, request.together).map(({ lost, zone }) => answer(lost, zone)), read: info };
  },
};

interface Loss {
  lost: Node[];
  zone: string | null;
}

function lossesOf(view: View, zone: string, named: readonly Node[], together: boolean): Loss[] {
  const living = [...view.nodes.values()].filter((node) => node.state !== "removed" && node.state !== "joining" && !isSilent(node));
  const nodes = living.toSorted((a, b) => a.peerId - b.peerId);
  if (zone !== "") {
    const lost = nodes.filter((node) => node.zone === zone);
    if (lost.length === 0) throw new RoostError({ kind: "not-found", what: "zone", name: zone }, "`roost zone list` shows them");
    return [{ lost, zone }];
  }
  if (together) return [{ lost: [...named], zone: null }];
  const zones = Map.groupBy(nodes, (node) => node.zone);
  zones.delete("");
  const each = (named.length > 0 ? named : nodes).map((node): Loss => ({ lost: [node], zone: null }));
  return named.length > 0 || zones.size < 2 ? each : [...each, ...[...zones].map(([name, lost]): Loss => ({ lost, zone: name }))];
}

function isSilent(node: Node): boolean {
  return node.state === "unreachable" || node.state === "fenced";
}

function withDisabled(view: View, nodes: readonly Node[]): View {
  if (nodes.length === 0) return view;
  const rows = new Map(view.nodes);
  for (const node of nodes) if (node.state === "ready") rows.set(node.id, { ...node, state: "disabled", stateWhy: "supposed" });
  return { ...view, nodes: rows };
}

function unrecoverable(view: View, vms: readonly Vm[]): HaVm[] {
  return vms.flatMap((vm) => {
    const pool = localPool(view, vm.definition);
    const node = nodeName(view, vm.claim?.nodeId ?? null);
    return pool === null ? [] : [{ vm: vm.definition.name, node, why: `its disks in pool ${pool} are local to ${node}` }];
  });
}

function waitsOf(view: View, nodes: readonly Node[], nowMs: number): HaWait[] {
  const ofNodes = nodes.map((node) => ({ kind: "node", name: node.name, text: waitOfNode(view, node, nowMs) }));
  const vms = [...view.vms.values()].filter(
    (vm) => vm.underHa && (vm.state === "unknown" || vm.state === "recovering" || isRecovering(vm)),
  );
  const ofVms = vms
    .toSorted((a, b) => a.number - b.number)
    .map((vm) => ({ kind: "vm", name: vm.definition.name, text: waitOfVm(view, vm, nowMs) }));
  return [...ofNodes, ...ofVms].filter(({ text }) => text !== "");
}

/** On its new node, and not running there yet. */
function isRecovering(vm: Vm): boolean {
  return (vm.state === "prolog" || vm.state === "boot") && vm.failover !== null && vm.failover.runningMs === null;
}

function toImpossible(view: View, one: Impossible): HaImpossible {
  return {
    lost: one.lost.map((id) => nodeName(view, id)),
    zone: one.zone ?? "",
    kind: one.kind,
    vms: one.vmIds.map((id) => view.vms.get(id)?.definition.name ?? id),
    resource: one.resource ?? "",
    needed: one.needed,
    available: one.available,
    size: one.size,
    text: describeImpossible(view, one),
  };
}

function toForecast(view: View, { lost, zone, leader, quorum, fates, startMs, bootMs, measured }: Forecast): HaForecast {
  const settings = settingsOf(view);
  const budgetMs = failoverBudgetMs(settings, leader);
  const proofMs = settings["ha.claimMs"] + settings["ha.marginMs"] + (leader ? budgetMs - failoverBudgetMs(settings, false) : 0);
  const count = (fate: string): number => fates.filter((one) => one.fate === fate).length;
  return {
    lost: lost.map((id) => nodeName(view, id)),
    zone: zone ?? "",
    leader,
    quorum,
    vms: fates.map(({ vmId, from, fate, to, why, reasons }) => ({
      vm: view.vms.get(vmId)?.definition.name ?? vmId,
      from: nodeName(view, from),
      fate,
      to: nodeName(view, to),
      why,
      reasons,
    })),
    recovers: count("recovers"),
    waits: count("waits"),
    staysDown: count("stays-down"),
    proofMs,
    budgetMs,
    expectedMs: startMs === null ? 0 : proofMs + startMs,
    measured,
    bootMs: bootMs ?? 0,
  };
}
