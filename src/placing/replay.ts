/**
 * Plans made again from the state's history (SCH-17, SCH-19): the same bytes, or where they part. The view is the one the
 * plan was made on, so whatever differs is the policy's, the settings' or the release's doing. Pure.
 */
import type { Certificate } from "../model/certificate.ts";
import type { Settings } from "../model/settings.ts";
import type { View } from "../model/view.ts";
import type { PendingReason } from "../model/vm.ts";
import { plan } from "../scheduler/plan.ts";
import { certificateOf } from "../scheduler/record.ts";
import type { Plan, PlanRequest } from "../scheduler/types.ts";
import { Past } from "../state/history.ts";
import type { HistoryRow } from "../state/history.ts";
import type { State } from "../state/state.ts";
import { nodesToAvoid } from "./request.ts";

/** One VM decided otherwise than it was. */
export interface Difference {
  vmId: string;
  /** null: no node would do. */
  before: string | null;
  after: string | null;
  /** Why not, where it is placed no more. */
  reasons: PendingReason[];
}

export interface Replayed {
  /** Of the command that carried the plan. */
  index: number;
  viewIndex: number;
  atMs: number;
  certificate: Certificate;
  /** null where the view is out of retention. */
  plan: Plan | null;
  /** Byte for byte the same answer. */
  same: boolean;
  differences: Difference[];
}

export interface ReplayOptions {
  /** Indexes of commands, both included. */
  from: number;
  to: number;
  /** Settings that shall be others than they were. */
  settings?: Partial<Settings>;
}

/** Kept plans of a stretch, oldest first, each planned again. */
export function replay(present: State, { from, to, settings = {} }: ReplayOptions): Replayed[] {
  const rows = [...present.history.values()].filter((row) => row.certificate !== null && row.index >= from && row.index <= to);
  const past = new Past(present);
  return rows
    .toReversed()
    .map((row) => replayRow(past, row, settings))
    .toReversed();
}

/** The view and request of one kept plan; null where they are out of retention. */
export function inputsOf(past: Past, certificate: Certificate): { view: View; request: PlanRequest } | null {
  const view = past.at(certificate.viewIndex);
  return view === null ? null : { view, request: { ...requestOf(certificate), avoid: nodesToAvoid(view, certificate.vms) } };
}

/** The request that a certificate was made of; `avoid` is not kept, because it follows from the view. */
function requestOf(certificate: Certificate): PlanRequest {
  const { vms, mode, kind, scoring, inFlight, reserve } = certificate;
  return {
    vms,
    mode,
    kind,
    scoring: scoring as PlanRequest["scoring"],
    inFlight: new Map(inFlight.map(([nodeId, memoryMib, cpus, pinned]) => [nodeId, { memoryMib, cpus, pinned: pinned ?? [] }])),
    ...(reserve === undefined
      ? {}
      : { reserve: reserve.map(([of, nodes, why]) => ({ vms: of.flatMap((k) => vms[k] ?? []), nodes, why })) }),
  };
}

function replayRow(past: Past, row: HistoryRow, settings: Partial<Settings>): Replayed {
  const certificate = row.certificate!;
  const { index, atMs } = row;
  const about = { index, viewIndex: certificate.viewIndex, atMs, certificate };
  const inputs = inputsOf(past, certificate);
  if (inputs === null) return { ...about, plan: null, same: false, differences: [] };
  const view = withSettings(inputs.view, settings);
  const again = plan(view, inputs.request, certificate.seed, inputs.view.usage);
  return {
    ...about,
    plan: again,
    same: JSON.stringify(certificateOf(again, inputs.request)) === JSON.stringify(certificate),
    differences: differencesOf(certificate, again),
  };
}

function withSettings(view: View, settings: Partial<Settings>): View {
  if (Object.keys(settings).length === 0 || view.cluster === null) return view;
  // The state's class has getters of its own nowhere: its fields are all there is.
  return { ...view, cluster: { ...view.cluster, settings: { ...view.cluster.settings, ...settings } } };
}

function differencesOf(before: Certificate, again: Plan): Difference[] {
  const then = new Map(before.decisions.map(([vm, node]) => [before.vms[vm] ?? "", before.nodes[node] ?? null]));
  const now = new Map<string, string | null>(again.placements.map(({ vmId, nodeId }) => [vmId, nodeId]));
  const reasons = new Map(again.rejections.map((one) => [one.vmId, one.reasons]));
  return before.vms
    .map((vmId) => ({ vmId, before: then.get(vmId) ?? null, after: now.get(vmId) ?? null, reasons: reasons.get(vmId) ?? [] }))
    .filter((one) => one.before !== one.after);
}
