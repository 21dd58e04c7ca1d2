/** What is asked of the scheduler and what it answers. Data only: both can be kept, sent and planned again. */
import type { Reservation } from "../model/capacity.ts";
import type { PendingReason } from "../model/vm.ts";

export type Scoring = "balance" | "even" | "consolidate" | "rank";

/** `start`: does not run now (SCH-7). `recover`: HA recovery, in HA order. `migrate`: runs now and must leave its node (both SCH-6). */
export type PlanKind = "start" | "recover" | "migrate";

export interface PlanRequest {
  /** VM ids, in the order of the request. */
  readonly vms: readonly string[];
  /** `one-by-one`: each VM takes the best node left by those before it. `batch`: planned whole (SCH-11). */
  readonly mode: "one-by-one" | "batch";
  readonly kind: PlanKind;
  /** null: as the cluster's settings say. */
  readonly scoring: Scoring | null;
  /** They run while they move, so the guest must find there what it has here (HA-8). */
  readonly live?: boolean;
  /** A user named these VMs, so `hold` does not keep them back (SCH-16). */
  readonly manual?: boolean;
  /** Promised beyond the view, by node id: plans that are on their way to be applied. */
  readonly inFlight?: ReadonlyMap<string, Reservation>;
  /** By VM id, nodes to use only if no other is left, such as those where it just failed to start. */
  readonly avoid?: ReadonlyMap<string, readonly string[]>;
  /** Where VMs would take the room that HA keeps for failures (HA-16). */
  readonly reserve?: readonly Reserve[];
  /** Budget of the bounded search, in tried placements; null for the default. */
  readonly searchSteps?: number | null;
}

/** None of these VMs may be on any of these nodes: with one of them there, a failure could not be survived. */
export interface Reserve {
  readonly vms: readonly string[];
  readonly nodes: readonly string[];
  readonly why: string;
}

export interface PlannedPlacement {
  vmId: string;
  nodeId: string;
  /** As in the claim: CPUs that are the VM's alone, or why it gets none though it asked. */
  cpus?: number[];
  unpinned?: string;
}

export interface PlanRejection {
  vmId: string;
  /** In the order of the filter chain; never empty. */
  reasons: PendingReason[];
}

/** How the placements were found; `balanced` is also the answer of one-by-one. */
export type PlanMethod = "balanced" | "compact" | "search";

/** One VM's part of the certificate (SCH-17). */
export interface Decision {
  vmId: string;
  nodeId: string | null;
  /** Score of the winner, lowest wins; null if none. */
  score: number | null;
  /** Nodes refused, by reason code, in the order of the chain. */
  refused: Record<string, number>;
  /** Best nodes at the moment of the decision, at most 5. */
  top: { nodeId: string; score: number }[];
}

/** Enough to make the same plan again and to see at a glance why (SCH-17). */
export interface PlanCertificate {
  viewIndex: number;
  seed: string;
  mode: PlanRequest["mode"];
  kind: PlanKind;
  scoring: Scoring;
  vms: string[];
  method: PlanMethod;
  /** VMs placed by each way; null where it was not tried. */
  placed: { balanced: number; compact: number | null; search: number | null };
  /** Placements tried by the search. */
  searchSteps: number;
  decisions: Decision[];
}

export interface Plan {
  /** In the order they were decided; each is valid after those before it. */
  placements: PlannedPlacement[];
  /** In the order of the request. */
  rejections: PlanRejection[];
  method: PlanMethod;
  /** True if no plan could place more VMs (for `recover`: more of higher priority, then more), nor, for a packing batch, as many on fewer nodes. */
  proven: boolean;
  certificate: PlanCertificate;
}
