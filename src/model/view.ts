/** The read-only state at one index: what schedulers, detectors and services look at. Rows are never mutated in place. */
import type { BenchRow } from "./bench.ts";
import type { Usage } from "./capacity.ts";
import type { Cluster, JoinToken } from "./cluster.ts";
import type { DigestRow } from "./digest.ts";
import type { Fencing } from "./fencing.ts";
import type { Node } from "./node.ts";
import type { Policy, ZoneRole } from "./policy.ts";
import type { Pool } from "./pool.ts";
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
  readonly vmIdByName: ReadonlyMap<string, string>;
  readonly nodeIdByName: ReadonlyMap<string, string>;
  readonly poolIdByName: ReadonlyMap<string, string>;
}
