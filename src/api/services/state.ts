/** The replicated state as a whole: comparing the replicas, backups, and what a replica has. */
import { VERSION } from "../../base/version.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { backupOf } from "../../cluster/backup.ts";
import { RoostError } from "../../base/errors.ts";
import { type Verdict, verdict } from "../../model/digest.ts";
import { leftOutNodes } from "../../model/node.ts";
import type { View } from "../../model/view.ts";
import { clusterLevel, heldBackBy, PROGRAM_LEVEL } from "../../state/levels.ts";
import { type CallContext, propose, readState, timeLeftMs } from "../context.ts";
import { changesWhile } from "../watch.ts";

/** Kept of a call's time for its answer. */
const ANSWER_MS = 200;

/** Silence of the leader after which a node says that there is no quorum, ms; above the longest election. */
export const QUORUM_SILENCE_MS = 3_000;

export const stateMethods: Pick<ServiceMethods<"ClusterService", CallContext>, "VerifyCluster" | "BackupCluster" | "InspectReplica"> = {
  async VerifyCluster(request, context) {
    const untilMs = context.nowMs() + timeLeftMs(context) - ANSWER_MS;
    const { index = 0 } = await propose(context, { type: "digest.ask", why: "verify" }, request.requestId);
    const found = await changesWhile(context.store, { untilMs, nowMs: context.nowMs, signal: context.signal }, (view) => {
      const now = verdict(view);
      if (now === null || now.asked.revision !== index) return null;
      return now.missing.length === 0 ? now : null;
    });
    const view = context.store.view();
    const last = found ?? verdict(view);
    if (last === null || last.asked.revision !== index)
      throw new RoostError({ kind: "conflict", reason: "another comparison was asked for meanwhile" }, "try again");
    return toVerified(view, last);
  },

  async *BackupCluster(_request, context) {
    await readState(context, "CONSISTENCY_LINEARIZABLE");
    const view = context.store.view();
    const tables = context.hooks.freeze();
    const { cluster } = view;
    if (cluster === null)
      throw new RoostError({ kind: "unavailable", reason: "the cluster's state is not here yet" }, "try again in a moment");
    const head = {
      clusterId: cluster.id,
      name: cluster.name,
      generation: cluster.generation,
      level: clusterLevel(view),
      index: view.index,
      term: view.term,
      createdAtMs: context.nowMs(),
      version: VERSION,
    };
    for (const data of backupOf(head, tables)) {
      if (context.signal.aborted) return;
      yield { data };
    }
  },

  async InspectReplica(_request, context) {
    const view = context.store.view();
    const { lastIndex, lastTerm } = await context.hooks.lastEntry();
    const { leading, leaderNodeId, silentMs } = context.store.leadership();
    return {
      nodeId: context.nodeId,
      clusterId: view.cluster?.id ?? "",
      generation: view.cluster?.generation ?? 0,
      lastTerm,
      lastIndex,
      appliedIndex: view.index,
      // One that only follows goes on naming the last leader it was told of.
      hasQuorum: leading || (leaderNodeId !== null && silentMs < QUORUM_SILENCE_MS),
    };
  },
};

function toVerified(view: View, { asked, tables, agreeing, differing, missing }: Verdict) {
  const name = (id: string): string => view.nodes.get(id)?.name ?? id;
  const nodes = [
    ...agreeing.map((id) => ({ node: name(id), result: "same", differences: [] })),
    ...[...new Set(differing.map(({ nodeId }) => nodeId))].map((id) => ({
      node: name(id),
      result: "differs",
      differences: differing.filter(({ nodeId }) => nodeId === id).map(({ table, first }) => ({ table, first })),
    })),
    ...missing.map((id) => ({ node: name(id), result: "missing", differences: [] })),
  ];
  return {
    revision: asked.revision,
    tables: tables.map(({ table, rows, hash }) => ({ table, rows, hash })),
    nodes: nodes.toSorted((a, b) => (a.node < b.node ? -1 : 1)),
  };
}

/** What an operator must know of the state as a whole, in words. */
export function alarmsOf(view: View, leftOut: number | null): string[] {
  const alarms: string[] = [];
  const name = (id: string): string => view.nodes.get(id)?.name ?? id;
  if (leftOut !== null) alarms.push(`this node was left out when the cluster was recovered (generation ${leftOut}): roost cluster rejoin`);
  const unknown = leftOutNodes(view).map((node) => node.name);
  if (unknown.length > 0)
    alarms.push(
      `nothing is placed until each of ${unknown.join(", ")} has rejoined or is confirmed off (roost node fence): what runs there is not known`,
    );
  const compared = verdict(view);
  for (const { nodeId, table, otherId } of compared?.differing ?? [])
    alarms.push(
      `${name(nodeId)} differs from ${name(otherId)} in table ${table} at revision ${compared?.asked.revision ?? 0}: remove it and join it again`,
    );
  return alarms;
}

/** Names of nodes that keep the cluster from a level that this program has. */
export function levelHeldBackBy(view: View): string[] {
  return clusterLevel(view) >= PROGRAM_LEVEL ? [] : heldBackBy(view, clusterLevel(view) + 1).map(({ name }) => name);
}
