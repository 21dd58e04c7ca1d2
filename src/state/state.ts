/**
 * The replicated state: all tables in memory, one row a key, rows never mutated in place. It changes only through
 * src/state/apply.ts. Nothing here awaits, reads a clock or draws a random number (STA-1).
 */
import { emptyUsage, replaceVm, type Usage } from "../model/capacity.ts";
import type { BenchRow } from "../model/bench.ts";
import { claimsOf } from "../model/claims.ts";
import type { Cluster, JoinToken } from "../model/cluster.ts";
import type { Fencing } from "../model/fencing.ts";
import type { Membership } from "../model/membership.ts";
import type { DigestRow } from "../model/digest.ts";
import type { Node } from "../model/node.ts";
import type { Policy, ZoneRole } from "../model/policy.ts";
import type { Pool } from "../model/pool.ts";
import type { Task } from "../model/task.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import { TaskIndex } from "./tasks/index.ts";
import { eventKey, EventRing, type EventRow } from "./events.ts";
import type { HistoryRow } from "./history.ts";
import { type AppliedRequest, type CallerRequest, OWN_KEPT_REVISIONS, OwnAnswers } from "./requests.ts";

/** What each table holds; the keys are ids, `self` for the one row of `cluster`. */
export interface Rows {
  cluster: Cluster;
  nodes: Node;
  vms: Vm;
  tasks: Task;
  pools: Pool;
  policies: Policy;
  /** By the zone's name. */
  zoneRoles: ZoneRole;
  /** By the node's id. Has secrets. */
  fencing: Fencing;
  tokens: JoinToken;
  requests: AppliedRequest;
  callers: CallerRequest;
  events: EventRow;
  history: HistoryRow;
  digests: DigestRow;
  bench: BenchRow;
}

export type TableName = keyof Rows;

export const TABLE_NAMES: readonly TableName[] = [
  "cluster",
  "nodes",
  "vms",
  "tasks",
  "pools",
  "policies",
  "zoneRoles",
  "fencing",
  "tokens",
  "requests",
  "callers",
  "events",
  "history",
  "digests",
  "bench",
];

/** Tables that follow from applying as such, and the benchmark's; what changes in them is no object's change. */
const BOOKKEEPING: ReadonlySet<TableName> = new Set<TableName>(["requests", "callers", "events", "digests", "bench"]);

/** Keys of the objects that changed, for who follows single ones. */
export function changedObjects(changes: readonly RowChange[]): Set<string> {
  return new Set(changes.filter((change) => !BOOKKEEPING.has(change.table)).map((change) => change.key));
}

/** One row put or, with null, deleted: what is made durable, hashed and sent to watchers. */
export type RowChange = { [T in TableName]: { table: T; key: string; row: Rows[T] | null } }[TableName];

/** Raft's own facts at an index, stored with the rows in one atomic write (RAFT-3). */
export interface Position {
  index: number;
  term: number;
  membership: Membership;
}

export class State implements View {
  index = 0;
  term = 0;
  cluster: Cluster | null = null;
  readonly nodes = new Map<string, Node>();
  readonly vms = new Map<string, Vm>();
  readonly tasks = new Map<string, Task>();
  readonly taskIndex = new TaskIndex();
  readonly tasksByObject = this.taskIndex.byObject;
  readonly tasksByNode = this.taskIndex.byNode;
  readonly tasksDue = this.taskIndex.due;
  readonly slots = this.taskIndex.slots;
  readonly pools = new Map<string, Pool>();
  readonly policies = new Map<string, Policy>();
  readonly zoneRoles = new Map<string, ZoneRole>();
  readonly fencing = new Map<string, Fencing>();
  readonly tokens = new Map<string, JoinToken>();
  /** Answers to nodes' own proposals, in order of application; `moveTo` forgets the oldest. */
  readonly requests = new OwnAnswers();
  /** What the scheduler's inputs were before each command, oldest first; keys are indexes (src/state/history.ts). */
  readonly history = new Map<string, HistoryRow>();
  historyBytes = 0;
  readonly bench = new Map<string, BenchRow>();
  readonly callers = new Map<string, CallerRequest>();
  /** Times and ids of `callers`, the oldest first. */
  readonly callerTimes: { madeMs: number; requestId: string }[] = [];
  readonly events = new EventRing();
  readonly digests = new Map<string, DigestRow>();
  readonly claimsByNode = new Map<string, Set<string>>();
  /** Sums of what VMs take, kept with each write for the check of placements. */
  readonly usage: Usage = emptyUsage();
  readonly vmIdByName = new Map<string, string>();
  readonly nodeIdByName = new Map<string, string>();
  readonly poolIdByName = new Map<string, string>();
  readonly policyIdByName = new Map<string, string>();

  /** The index and term that all tables are at from now on. */
  moveTo(position: { index: number; term: number }): void {
    this.index = position.index;
    this.term = position.term;
    this.requests.forget(position.index - OWN_KEPT_REVISIONS);
  }

  /** Puts or deletes one row and keeps the indexes in step. */
  write(change: RowChange): void {
    switch (change.table) {
      case "cluster":
        this.cluster = change.row;
        return;
      case "nodes":
        // A removed node keeps its name only until another takes it.
        replace(
          this.nodes,
          this.nodeIdByName,
          change.key,
          change.row,
          (row) => row.name,
          (row) => row.state === "removed",
        );
        return;
      case "vms":
        replaceVm(this.usage, this.vms.get(change.key) ?? null, change.row);
        this.#moveClaims(change.key, holders(this.vms.get(change.key) ?? null), holders(change.row));
        replace(this.vms, this.vmIdByName, change.key, change.row, (row) => row.definition.name);
        return;
      case "tasks":
        this.taskIndex.replace(this.tasks, this.tasks.get(change.key) ?? null, change.row);
        replace(this.tasks, null, change.key, change.row, () => "");
        return;
      case "pools":
        replace(this.pools, this.poolIdByName, change.key, change.row, (row) => row.name);
        return;
      case "policies":
        replace(this.policies, this.policyIdByName, change.key, change.row, (row) => row.name);
        return;
      case "zoneRoles":
        replace(this.zoneRoles, null, change.key, change.row, () => "");
        return;
      case "fencing":
        replace(this.fencing, null, change.key, change.row, () => "");
        return;
      case "tokens":
        replace(this.tokens, null, change.key, change.row, () => "");
        return;
      case "requests":
        this.requests.set(change.key, change.row);
        return;
      case "callers":
        sortIn(this.callerTimes, this.callers.get(change.key), change.row);
        replace(this.callers, null, change.key, change.row, () => "");
        return;
      case "events":
        if (change.row === null) this.events.drop(change.key);
        else this.events.append(change.row);
        return;
      case "history":
        this.historyBytes += (change.row?.bytes ?? 0) - (this.history.get(change.key)?.bytes ?? 0);
        replace(this.history, null, change.key, change.row, () => "");
        return;
      case "digests":
        replace(this.digests, null, change.key, change.row, () => "");
        return;
      case "bench":
        replace(this.bench, null, change.key, change.row, () => "");
        return;
    }
  }

  /** Every row, table by table in a fixed order, keys sorted except where order is meaning: a checkpoint's content. */
  *rows(): Generator<RowChange> {
    if (this.cluster !== null) yield { table: "cluster", key: "self", row: this.cluster };
    for (const key of [...this.nodes.keys()].toSorted()) yield { table: "nodes", key, row: this.nodes.get(key) ?? null };
    for (const key of [...this.vms.keys()].toSorted()) yield { table: "vms", key, row: this.vms.get(key) ?? null };
    for (const key of [...this.tasks.keys()].toSorted()) yield { table: "tasks", key, row: this.tasks.get(key) ?? null };
    for (const key of [...this.pools.keys()].toSorted()) yield { table: "pools", key, row: this.pools.get(key) ?? null };
    for (const key of [...this.policies.keys()].toSorted()) yield { table: "policies", key, row: this.policies.get(key) ?? null };
    for (const key of [...this.zoneRoles.keys()].toSorted()) yield { table: "zoneRoles", key, row: this.zoneRoles.get(key) ?? null };
    for (const key of [...this.fencing.keys()].toSorted()) yield { table: "fencing", key, row: this.fencing.get(key) ?? null };
    for (const key of [...this.tokens.keys()].toSorted()) yield { table: "tokens", key, row: this.tokens.get(key) ?? null };
    for (const key of [...this.bench.keys()].toSorted()) yield { table: "bench", key, row: this.bench.get(key) ?? null };
    for (const key of [...this.digests.keys()].toSorted()) yield { table: "digests", key, row: this.digests.get(key) ?? null };
    for (const row of this.requests.values()) yield { table: "requests", key: row.requestId, row };
    for (const { requestId } of this.callerTimes) yield { table: "callers", key: requestId, row: this.callers.get(requestId) ?? null };
    for (const row of this.events.rows()) yield { table: "events", key: eventKey(row.revision), row };
    for (const [key, row] of this.history) yield { table: "history", key, row };
  }

  #moveClaims(vmId: string, from: readonly string[], to: readonly string[]): void {
    for (const nodeId of from) {
      if (to.includes(nodeId)) continue;
      const left = this.claimsByNode.get(nodeId);
      left?.delete(vmId);
      if (left?.size === 0) this.claimsByNode.delete(nodeId);
    }
    for (const nodeId of to) {
      const joined = this.claimsByNode.get(nodeId) ?? new Set<string>();
      joined.add(vmId);
      this.claimsByNode.set(nodeId, joined);
    }
  }
}

/** Nodes that hold something of the VM. */
function holders(vm: Vm | null): string[] {
  return vm === null ? [] : claimsOf(vm).map((claim) => claim.nodeId);
}

function replace<Row>(
  table: Map<string, Row>,
  names: Map<string, string> | null,
  key: string,
  row: Row | null,
  nameOf: (row: Row) => string,
  yields: (row: Row) => boolean = () => false,
): void {
  const before = table.get(key);
  // Another row may have taken the name in the same batch; only one's own entry is dropped.
  if (before !== undefined && names?.get(nameOf(before)) === key) names.delete(nameOf(before));
  if (row === null) {
    table.delete(key);
    return;
  }
  table.set(key, row);
  const holder = table.get(names?.get(nameOf(row)) ?? "");
  if (holder === undefined || !yields(row) || yields(holder)) names?.set(nameOf(row), key);
}

/** Keeps the times in order. Ids come nearly in order, so their place is near the end. */
function sortIn(times: { madeMs: number; requestId: string }[], before: CallerRequest | undefined, row: CallerRequest | null): void {
  const isBefore = (a: { madeMs: number; requestId: string }, b: { madeMs: number; requestId: string }): boolean =>
    a.madeMs < b.madeMs || (a.madeMs === b.madeMs && a.requestId < b.requestId);
  if (before !== undefined) {
    const at = times[0]?.requestId === before.requestId ? 0 : times.findIndex(({ requestId }) => requestId === before.requestId);
    times.splice(at, 1);
  }
  if (row === null) return;
  const entry = { madeMs: row.madeMs, requestId: row.requestId };
  let at = times.length;
  while (at > 0 && isBefore(entry, times[at - 1] as typeof entry)) at -= 1;
  times.splice(at, 0, entry);
}
