/**
 * What is kept of each plan (SCH-17): enough to make it again from the state's history and to see at a glance why. It is
 * compact, because it travels with the plan through the log and every replica keeps it.
 */
import type { Pinned } from "./pinning.ts";

/** Input and outcome of one plan. Node indexes point into `nodes`, VM indexes into `vms`. */
export interface Certificate {
  /** Raft index of the view that was planned on. */
  readonly viewIndex: number;
  readonly seed: string;
  readonly kind: "start" | "recover" | "migrate";
  readonly mode: "one-by-one" | "batch";
  /** As asked; null: as the settings said. */
  readonly scoring: string | null;
  /** VM ids in the order of the request. */
  readonly vms: readonly string[];
  /** Promised beyond the view: node id, MiB, vCPUs. */
  readonly inFlight: readonly (readonly [nodeId: string, memoryMib: number, cpus: number, pinned?: readonly Pinned[] | undefined])[];
  /** Room kept for failures: VM indexes, node ids, why; absent: none was asked for. */
  readonly reserve?: readonly (readonly [vms: readonly number[], nodes: readonly string[], why: string])[];
  readonly method: string;
  readonly proven: boolean;
  /** VMs placed by each way; null where it was not tried. */
  readonly placed: { readonly balanced: number; readonly compact: number | null; readonly search: number | null };
  readonly searchSteps: number;
  readonly nodes: readonly string[];
  /** In the order they were decided. */
  readonly decisions: readonly CompactDecision[];
  /** Hash of everything the plan answered: placements, reasons, method, proof. */
  readonly digest: string;
}

/** Node is -1 for none; scores have six significant digits, lowest wins; `refused` counts nodes by reason code. */
export type CompactDecision = readonly [
  vm: number,
  node: number,
  score: number | null,
  refused: Readonly<Record<string, number>>,
  top: readonly (readonly [node: number, score: number])[],
];

/** One VM's part, kept on its row when the whole certificate has gone. */
export interface VmDecision {
  /** Raft index of the command that carried it, and of the view it was made on. */
  index: number;
  viewIndex: number;
  atMs: number;
  /** null: no node would do. */
  nodeId: string | null;
  score: number | null;
  refused: Record<string, number>;
  /** Best nodes at that moment, at most 5. */
  top: { nodeId: string; score: number }[];
  method: string;
  proven: boolean;
}

/** Decisions kept on a VM's row. */
export const VM_DECISIONS_KEPT = 3;
