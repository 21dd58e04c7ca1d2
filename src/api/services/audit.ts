/** Did a VM run in two places: the nodes' own records gathered, their clocks told apart, and judged by ha/audit.ts (HA-18). */
import { asRoostError, invalid } from "../../base/errors.ts";
import type { RpcClient } from "../../base/rpc-client.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { formatGeneration } from "../../base/units.ts";
import type { AuditedRun as AuditedRunMessage } from "../../gen/types/roost/v1/AuditedRun.ts";
import { type AuditedRun, auditRuns, type NodeRecords, type VmAudit } from "../../ha/audit.ts";
import type { Node } from "../../model/node.ts";
import type { NodeRun } from "../../model/run.ts";
import type { View } from "../../model/view.ts";
import { type CallContext, timeLeftMs } from "../context.ts";
import { findVm } from "../lookup.ts";

/** Round trips to a node; the shortest bounds how wrong its clock's offset may be. */
const ROUND_TRIPS = 5;
const NODE_LIMIT_MS = 5_000;

const SLACK_MS = 60_000;

/** By the auditor's wall clock, ms; 0 for no limit. */
interface Range {
  fromMs: number;
  toMs: number;
}

interface Asked {
  node: Node;
  records: NodeRecords | null;
  problem: string;
}

export const auditService: ServiceMethods<"AuditService", CallContext> = {
  async AuditRuns(request, context) {
    const { fromMs, toMs } = request;
    if (fromMs < 0 || toMs < 0 || (toMs !== 0 && toMs < fromMs)) throw invalid("to_ms", "expected a time after from_ms");
    // Stale on purpose: it serves for names only, and an audit must work without a quorum.
    const view = context.store.view();
    const wanted = new Set(request.vms.map((text) => vmIdOf(view, text)));
    const nodes = [...view.nodes.values()].filter((node) => node.state !== "removed" && node.state !== "joining");
    const asked = await Promise.all(nodes.map((node) => ask(context, node, { fromMs, toMs })));
    const nowMs = context.nowMs();
    const answered = asked.flatMap(({ records }) => records ?? []);
    const audits = auditRuns(answered, { fromMs, toMs: toMs === 0 ? Infinity : toMs, nowMs }).filter(
      ({ vmId }) => wanted.size === 0 || wanted.has(vmId),
    );
    const count = (kind: string): number => audits.flatMap(({ meetings }) => meetings).filter((one) => one.kind === kind).length;
    return {
      node: view.nodes.get(context.nodeId)?.name ?? context.nodeId,
      nowMs,
      nodes: asked.map(({ node, records, problem }) => ({
        node: node.name,
        problem,
        offsetMs: records === null ? 0 : -records.offsetMs,
        offsetBoundMs: records?.offsetBoundMs ?? 0,
        sinceMs: records?.sinceMs ?? 0,
        lost: records?.lost ?? 0,
      })),
      vms: audits.map((audit) => toVm(view, audit)),
      overlaps: count("overlap"),
      unsure: count("unsure"),
      unknown: unknownOf(view, asked, audits, { fromMs, wanted }),
    };
  },

  async GetRunRecords({ clockOnly, fromMs, toMs }, context) {
    if (clockOnly) return { nowMs: context.nowMs(), runs: [], sinceMs: 0, lost: 0 };
    const { runs, sinceMs, lost } = await context.hooks.runs();
    const wanted = runs.filter((run) => (run.toMs ?? Infinity) >= fromMs && (toMs === 0 || run.fromMs <= toMs));
    return { nowMs: context.nowMs(), runs: wanted.map((run) => ({ ...run, toMs: run.toMs ?? 0 })), sinceMs, lost };
  },
};

/** A VM that was deleted is known by its id alone. */
function vmIdOf(view: View, text: string): string {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text) ? text : findVm(view, text).id;
}

async function ask(context: CallContext, node: Node, range: Range): Promise<Asked> {
  if (node.id === context.nodeId) {
    const own = await context.hooks.runs();
    return { node, records: { nodeId: node.id, offsetMs: 0, offsetBoundMs: 0, ...own }, problem: "" };
  }
  const client = context.hooks.nodeClient(node.id, node.apiAddress);
  try {
    return { node, records: await recordsOf(context, client, node.id, range), problem: "" };
  } catch (thrown) {
    return { node, records: null, problem: asRoostError(thrown).message };
  } finally {
    client.close();
  }
}

async function recordsOf(context: CallContext, client: RpcClient, nodeId: string, range: Range): Promise<NodeRecords> {
  const limits = { timeoutMs: Math.min(NODE_LIMIT_MS, timeLeftMs(context)), signal: context.signal };
  let offsetMs = 0;
  let offsetBoundMs = Infinity;
  for (let i = 0; i < ROUND_TRIPS; i++) {
    const sentMs = context.nowMs();
    const { nowMs } = await client.call("AuditService", "GetRunRecords", { clockOnly: true }, limits);
    const tookMs = context.nowMs() - sentMs;
    // Both clocks are read in whole ms.
    const boundMs = tookMs / 2 + 1;
    if (boundMs >= offsetBoundMs) continue;
    offsetMs = sentMs + tookMs / 2 - nowMs;
    offsetBoundMs = boundMs;
  }
  // A little more than is wanted: the judge has the better clock.
  const fromMs = range.fromMs === 0 ? 0 : range.fromMs - offsetMs - SLACK_MS;
  const toMs = range.toMs === 0 ? 0 : range.toMs - offsetMs + SLACK_MS;
  const { runs, sinceMs, lost } = await client.call("AuditService", "GetRunRecords", { clockOnly: false, fromMs, toMs }, limits);
  const own = runs.map((run): NodeRun => ({ ...run, toMs: run.toMs === 0 ? null : run.toMs }));
  return { nodeId, offsetMs, offsetBoundMs, runs: own, sinceMs, lost };
}

/** What nobody should take for checked. */
function unknownOf(
  view: View,
  asked: readonly Asked[],
  audits: readonly VmAudit[],
  want: { fromMs: number; wanted: ReadonlySet<string> },
): string[] {
  const unknown: string[] = [];
  for (const { node, records, problem } of asked) {
    if (records === null) unknown.push(`node ${node.name} did not answer, so its runs are not in this: ${problem}`);
    else if (records.lost > 0) unknown.push(`node ${node.name} could not write down ${records.lost} of its records`);
  }
  const recorded = new Set(audits.flatMap(({ vmId, runs }) => runs.map((run) => `${vmId} ${run.nodeId} ${run.generation}`)));
  for (const vm of view.vms.values()) {
    if (want.wanted.size > 0 && !want.wanted.has(vm.id)) continue;
    for (const { state, atMs, nodeId, generation } of vm.history) {
      const there = asked.find(({ node }) => node.id === nodeId);
      if (state !== "running" || atMs < want.fromMs || there?.records === undefined || there.records === null) continue;
      const key = `${vm.id} ${there.node.id} ${generation}`;
      if (recorded.has(key)) continue;
      recorded.add(key);
      unknown.push(
        `${vm.definition.name} ran on ${there.node.name} (generation ${formatGeneration(generation)}), which has no record of it`,
      );
    }
  }
  return unknown;
}

function toVm(view: View, { vmId, runs, meetings, gaps }: VmAudit): object {
  const toRun = (run: AuditedRun): AuditedRunMessage => ({
    node: view.nodes.get(run.nodeId)?.name ?? run.nodeId,
    generation: run.generation,
    fromMs: Math.floor(run.fromMs),
    toMs: run.toMs === null ? 0 : Math.ceil(run.toMs),
    boundMs: run.boundMs,
    ended: run.ended,
  });
  return {
    vmId,
    vm: view.vms.get(vmId)?.definition.name ?? "",
    runs: runs.map(toRun),
    meetings: meetings.map(({ kind, earlier, later, atLeastMs, atMostMs }) => ({
      kind,
      earlier: toRun(earlier),
      later: toRun(later),
      atLeastMs,
      atMostMs,
    })),
    gaps: gaps.map(({ fromMs, toMs }) => ({ fromMs: Math.round(fromMs), toMs: Math.round(toMs) })),
  };
}
