/** The read-only state at one index: what schedulers, detectors and services look at. Rows are never mutated in place. */
import type { BenchRow } from "./bench.ts";
import type { Usage } from "./capacity.ts";
import type { Cluster, JoinToken } from "./cluster.ts";
import type { DigestRow } from "./digest.ts";
import type { Fencing } from "./fencing.ts";
import type { Node } from "./node.ts";
import type { Policy, ZoneRole } from "./policy.ts";
import type { Pool } from "./pool.ts";
import type { Task } from "./task.ts";
import type { Vm } from "./vm.ts";

export interface View {
  /** Raft index of the last applied command. */
  readonly index: number;
  readonly term: number;
  /** null before the first command of a cluster. */
  readonly cluster: Cluster | null;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly vms: ReadonlyMap<string, Vm>;
  readonly pools: ReadonlyMap<string, Pool>;
  /** Placement policies by id (SCH-2). */
  readonly policies: ReadonlyMap<string, Policy>;
  readonly policyIdByName: ReadonlyMap<string, string>;
  /** Roles of zones by name; empty: not an active-active cluster (SCH-3). */
  readonly zoneRoles: ReadonlyMap<string, ZoneRole>;
  /** Power devices by the id of the node they switch off; absent: none. */
  readonly fencing?: ReadonlyMap<string, Fencing>;
  readonly tokens: ReadonlyMap<string, JoinToken>;
  /** How the replicas compare (STA-1); absent: never compared. */
  readonly digests?: ReadonlyMap<string, DigestRow>;
  /** Only roost.v1.Bench looks at them; absent: none. */
  readonly bench?: ReadonlyMap<string, BenchRow>;
  /** Sums of what VMs take, where they are kept with each write; absent: `usageOf` sums anew. */
  readonly usage?: Usage;
  /** Index: VM ids by the node of their claim. */
  readonly claimsByNode: ReadonlyMap<string, ReadonlySet<string>>;
  /** Tasks by id, unfinished ones and the newest finished. */
  readonly tasks: ReadonlyMap<string, Task>;
  /** Index: ids of the unfinished tasks of an object (VM), in order of their numbers; only the first may send jobs. */
  readonly tasksByObject: ReadonlyMap<string, readonly string[]>;
  /** Index: ids of tasks that have a job sent to the node, to do or to undo. */
  readonly tasksByNode: ReadonlyMap<string, ReadonlySet<string>>;
  /** Index: ids of tasks whose turn it is and that have a job to send, though perhaps not before its `retryAtMs`. */
  readonly tasksDue: ReadonlySet<string>;
  /** Index: slots in use by pool (src/model/limits.ts). */
  readonly slots: ReadonlyMap<string, number>;
  readonly vmIdByName: ReadonlyMap<string, string>;
  readonly nodeIdByName: ReadonlyMap<string, string>;
  readonly poolIdByName: ReadonlyMap<string, string>;
}

/** For views that are not of a running cluster: plan files, questions. */
export const NO_TASKS: Pick<View, "tasks" | "tasksByObject" | "tasksByNode" | "tasksDue" | "slots"> = {
  tasks: new Map(),
  tasksByObject: new Map(),
  tasksByNode: new Map(),
  tasksDue: new Set(),
  slots: new Map(),
};
