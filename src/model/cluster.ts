/** What there is once per cluster. */
import type { Settings, VdcSettings } from "./settings.ts";

export interface Cluster {
  /** Minted once, never changed (CLU-11). */
  id: string;
  name: string;
  /** Raised by `cluster recover` and restores; the upper part of every VM generation. */
  generation: number;
  /** What every node can apply (RAFT-7, src/state/levels.ts); absent: 1. */
  level?: number;
  createdAtMs: number;
  /** PEM. The key is in the replicated state so that every voter can let nodes join; it never leaves by the API. */
  caCertificate: string;
  caKey: string;
  settings: Settings;
  /** Settings of single vdcs, by their names; what is absent is as in `settings`. */
  vdcSettings?: Record<string, VdcSettings>;
  /** Concurrency limits of single kinds of drivers, devices and backup managers, by their full names, sorted (src/model/limit-settings.ts). */
  limits?: Record<string, string | number>;
  /** Longest `ha.claimMs` that an acknowledgement still in force may have granted; at least the setting. */
  longestClaimMs: number;
  nextPeerId: number;
  nextVmNumber: number;
  nextTaskNumber: number;
}

/** A join token; only the hash of its secret is kept (CLU-3). */
export interface JoinToken {
  id: string;
  secretHash: string;
  createdAtMs: number;
  expiresAtMs: number;
  usesLeft: number;
  createdBy: string;
}

/** A cluster generation takes the upper bits so that generations of a recovered cluster are above all older ones: 2^20 clusters × 2^32 placements. */
export const GENERATIONS_PER_CLUSTER_GENERATION = 2 ** 32;
