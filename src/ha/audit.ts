/**
 * Did a VM run in two places (HA-18)? From what the nodes wrote down themselves, by clocks that are known to each other with a bound.
 * Pure: the nodes' answers go in.
 */
import type { NodeRun, NodeRuns } from "../model/run.ts";

/** A node's answer, and how its wall clock stands to the auditor's. */
export interface NodeRecords extends NodeRuns {
  nodeId: string;
  /** What has to be added to the node's wall clock, ms, and by how much that may be wrong: half the shortest round trip. */
  offsetMs: number;
  offsetBoundMs: number;
}

/** A run in the auditor's wall clock, ms. */
export interface AuditedRun extends NodeRun {
  nodeId: string;
  /** By how much any of its times may be wrong. */
  boundMs: number;
}

/**
 * `overlap`: both certainly ran at one time. `unsure`: the records do not tell them apart. `by-claim`: they do not either, because
 * one's host went down with it; what tells is that its claim was over, by its guardian.
 */
export interface Meeting {
  kind: "overlap" | "unsure" | "by-claim";
  earlier: AuditedRun;
  later: AuditedRun;
  /** How long both ran: at least, and at most, ms. */
  atLeastMs: number;
  atMostMs: number;
}

export interface VmAudit {
  vmId: string;
  /** By when they began. */
  runs: AuditedRun[];
  meetings: Meeting[];
  /** Times between two runs without any, ms; for information: a VM may have been stopped. */
  gaps: { fromMs: number; toMs: number }[];
}

/** How far apart two clocks drift that nobody disciplines: crystals are within 20 to 50 parts in a million each. */
export const DRIFT = 100e-6;

/** @param range only runs that touch it; wall clock ms of the auditor. */
export function auditRuns(nodes: readonly NodeRecords[], range: { fromMs: number; toMs: number; nowMs: number }): VmAudit[] {
  const byVm = new Map<string, AuditedRun[]>();
  for (const { nodeId, offsetMs, offsetBoundMs, runs } of nodes)
    for (const run of runs) {
      const moved = (ms: number): number => ms + offsetMs;
      // The offset is of now; further back it may have been another one.
      const ageMs = Math.max(0, range.nowMs - moved(run.fromMs));
      const audited: AuditedRun = {
        ...run,
        nodeId,
        fromMs: moved(run.fromMs),
        toMs: run.toMs === null ? null : moved(run.toMs),
        sureFromMs: moved(run.sureFromMs),
        sureToMs: moved(run.sureToMs),
        boundMs: offsetBoundMs + ageMs * DRIFT,
      };
      if (audited.fromMs > range.toMs || (audited.toMs ?? Infinity) < range.fromMs) continue;
      byVm.set(run.vmId, [...(byVm.get(run.vmId) ?? []), audited]);
    }
  return [...byVm]
    .map(([vmId, unsorted]) => {
      const runs = unsorted.toSorted((a, b) => a.fromMs - b.fromMs || a.generation - b.generation);
      const meetings = runs.flatMap((earlier, i) => runs.slice(i + 1).flatMap((later) => meeting(earlier, later, range.nowMs) ?? []));
      return { vmId, runs, meetings, gaps: gapsOf(runs) };
    })
    .toSorted((a, b) => (a.vmId < b.vmId ? -1 : 1));
}

/** Null if the records show that one was over when the other began. */
function meeting(earlier: AuditedRun, later: AuditedRun, nowMs: number): Meeting | null {
  // On one node there is one clock.
  const boundMs = earlier.nodeId === later.nodeId ? 0 : earlier.boundMs + later.boundMs;
  const endMs = (run: AuditedRun): number => run.toMs ?? nowMs;
  const atMostMs = Math.min(endMs(earlier), endMs(later)) - Math.max(earlier.fromMs, later.fromMs) + boundMs;
  const sure = Math.min(earlier.sureToMs, later.sureToMs) - Math.max(earlier.sureFromMs, later.sureFromMs) - boundMs;
  const atLeastMs = Math.max(0, sure);
  if (atLeastMs > 0) return { kind: "overlap", earlier, later, atLeastMs, atMostMs };
  if (later.sawBegin && atMostMs <= 0) return null;
  return {
    kind: earlier.hostWentDown && later.sawBegin ? "by-claim" : "unsure",
    earlier,
    later,
    atLeastMs,
    atMostMs: Math.max(0, atMostMs),
  };
}

function gapsOf(runs: readonly AuditedRun[]): { fromMs: number; toMs: number }[] {
  const gaps: { fromMs: number; toMs: number }[] = [];
  let overMs = -Infinity;
  for (const run of runs) {
    if (run.fromMs > overMs && overMs !== -Infinity) gaps.push({ fromMs: overMs, toMs: run.fromMs });
    overMs = Math.max(overMs, run.toMs ?? Infinity);
  }
  return gaps;
}
