/**
 * If these nodes died now (HA-17, BEY-4): who recovers where, who does not and why, and when. Planned by the code that recovers. Pure.
 */
import type { Node } from "../model/node.ts";
import { localPool, settingsOf } from "../model/placement.ts";
import { homelessVms, isAtRisk } from "../model/tolerance.ts";
import type { View } from "../model/view.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import { haOrder } from "../scheduler/items.ts";
import { viewAfter } from "../scheduler/loss.ts";
import { plan } from "../scheduler/plan.ts";
import { Supposed } from "./supposed.ts";

export interface Fate {
  vmId: string;
  from: string;
  /** `waits`: for a fence, an operator, or room. `stays-down`: until its node is back. */
  fate: "recovers" | "waits" | "stays-down";
  to: string | null;
  why: string;
  reasons: PendingReason[];
}

export interface Forecast {
  lost: readonly string[];
  zone: string | null;
  leader: boolean;
  /** Enough voters are left. */
  quorum: boolean;
  /** In HA order. */
  fates: Fate[];
  /** Medians of the failovers that the cluster remembers, ms: from the proof to the start, and from there to running; null: none. */
  startMs: number | null;
  bootMs: number | null;
  measured: number;
}

/** As large as the loop's. */
const BATCH_MAX = 500;

export function forecast(
  view: View,
  lost: readonly string[],
  about: { zone: string | null; leaderId: string | null; whyNoExpiry: (node: Node) => string | null },
): Forecast {
  const gone = new Set(lost);
  const held = lost.flatMap((id) => [...(view.claimsByNode.get(id) ?? [])]).flatMap((id) => view.vms.get(id) ?? []);
  const quorum = keepsQuorum(view, gone);
  const stays = new Map(
    held.flatMap((vm) => {
      const why = whyItStays(view, vm, quorum, about.whyNoExpiry);
      return why === null ? [] : [[vm.id, why] as const];
    }),
  );
  // Whoever waits already waits on, beside those of this loss.
  const waiting = [...homelessVms(view).filter((vm) => vm.claim === null), ...held.filter((vm) => !stays.has(vm.id))].toSorted(haOrder);
  const planned = quorum ? recovery(view, lost, waiting) : new Map<string, Planned>();
  const fates = held.toSorted(haOrder).map((vm): Fate => {
    const from = vm.claim!.nodeId;
    const reason = stays.get(vm.id);
    if (reason !== undefined) return { vmId: vm.id, from, to: null, reasons: [], ...reason };
    const place = planned.get(vm.id);
    if (place?.nodeId !== undefined) return { vmId: vm.id, from, fate: "recovers", to: place.nodeId, why: "", reasons: [] };
    return { vmId: vm.id, from, fate: "waits", to: null, why: "no room", reasons: place?.reasons ?? [] };
  });
  const failovers = [...view.vms.values()].flatMap(({ failover }) => failover ?? []);
  const starts = failovers.flatMap(({ proofMs, startedMs }) => (startedMs === null ? [] : [startedMs - proofMs]));
  const boots = failovers.flatMap(({ startedMs, runningMs }) => (startedMs === null || runningMs === null ? [] : [runningMs - startedMs]));
  return {
    lost,
    zone: about.zone,
    leader: about.leaderId !== null && gone.has(about.leaderId),
    quorum,
    fates,
    startMs: median(starts),
    bootMs: median(boots),
    measured: starts.length,
  };
}

function keepsQuorum(view: View, gone: ReadonlySet<string>): boolean {
  const voters = [...view.nodes.values()].filter(({ role, state }) => role === "voter" && state !== "removed");
  const left = voters.filter(({ id, state }) => !gone.has(id) && state !== "unreachable" && state !== "fenced");
  return left.length > voters.length / 2;
}

function whyItStays(view: View, vm: Vm, quorum: boolean, whyNoExpiry: (node: Node) => string | null): Pick<Fate, "fate" | "why"> | null {
  if (!vm.underHa) return { fate: "stays-down", why: "not under HA" };
  const local = localPool(view, vm.definition);
  if (local !== null) return { fate: "stays-down", why: `its disks in pool ${local} are local to the node` };
  if (!isAtRisk(view, vm)) return { fate: "stays-down", why: "it is to be off" };
  if (!quorum) return { fate: "waits", why: "no quorum is left: nothing is recovered before there is one" };
  const node = view.nodes.get(vm.claim!.nodeId);
  const noTime =
    vm.definition.ha.onQuorumLoss === "keep"
      ? "on-quorum-loss is keep: only a release, a fence or an operator frees it"
      : node === undefined
        ? null
        : whyNoExpiry(node);
  if (noTime === null) return null;
  const devices = view.fencing?.get(vm.claim!.nodeId)?.devices.length ?? 0;
  if (devices > 0 && settingsOf(view)["ha.fence"] !== "never") return null;
  return { fate: "waits", why: noTime };
}

interface Planned {
  nodeId?: string;
  reasons: PendingReason[];
}

/** As the leader's loop does it, batch after batch. */
function recovery(view: View, lost: readonly string[], vms: readonly Vm[]): Map<string, Planned> {
  const found = new Map<string, Planned>();
  let rest = viewAfter(view, lost, vms);
  for (let i = 0; i < vms.length; i += BATCH_MAX) {
    const ids = vms.slice(i, i + BATCH_MAX).map(({ id }) => id);
    const made = plan(rest, { vms: ids, mode: "batch", kind: "recover", scoring: null, manual: true }, "forecast");
    for (const { vmId, nodeId } of made.placements) found.set(vmId, { nodeId, reasons: [] });
    for (const { vmId, reasons } of made.rejections) found.set(vmId, { reasons });
    if (i + BATCH_MAX < vms.length) rest = new Supposed(rest, made.placements).view;
  }
  return found;
}

function median(values: readonly number[]): number | null {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? null;
}
