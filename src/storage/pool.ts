/**
 * The contract of a storage pool (STO-1): a place that holds volumes and can make, copy and hand them to a hypervisor.
 * A pool knows nothing of VMs or Raft: owners are plain names. Every driver passes test/contract/pool.ts.
 *
 * Rules that every driver keeps:
 * - Names are checked (src/storage/names.ts): nothing outside the pool is read or written, through links neither (SEC-4).
 * - A volume appears whole or not at all, and making one never replaces one of the same name: a slow node that comes
 *   late must not overwrite the disk of a VM that already runs elsewhere.
 * - Each call looks again whether this really is the pool (an unmounted folder is an empty one) and fails as `unavailable` if not.
 * - Everything has a time limit; long calls also take a signal.
 * - What a driver cannot do is false in `capabilities` and throws `unsupported` if called all the same.
 */
import type { StorageFence } from "./fence.ts";
import { RoostError } from "../base/errors.ts";
import type { PoolStatus } from "../model/node.ts";
import type { Pool } from "../model/pool.ts";

export interface StoragePool {
  readonly pool: Pool;
  readonly capabilities: PoolCapabilities;
  /** Cuts nodes off from all volumes of the pool; absent where the storage cannot tell nodes apart. */
  readonly nodeFence?: StorageFence;
  /** How this node sees the pool now. Never rejects: what is wrong is in `problem`. */
  status(): Promise<PoolStatus>;
  /** All volumes, by name; at most `LIST_LIMIT`, beyond that it throws `exhausted`. */
  list(): Promise<VolumeInfo[]>;
  /** null if there is no such volume. */
  stat(name: string): Promise<VolumeInfo | null>;
  /** Makes an empty volume. Throws `exists`. */
  create(name: string, want: { format: VolumeFormat; sizeBytes: number }, options?: MakeOptions): Promise<VolumeInfo>;
  /**
   * Makes a full copy of a volume of this or another pool, in the format wanted, grown to `sizeBytes` if that is larger
   * (null: the source's size). Throws `exists`; `invalid` if smaller than the source; `conflict` if the source is being written.
   */
  clone(
    source: VolumeLocation,
    name: string,
    want: { format: VolumeFormat; sizeBytes: number | null },
    options?: MakeOptions,
  ): Promise<VolumeInfo>;
  /** Grows a volume that nobody uses; refuses to shrink. No error if it has that size already. */
  resize(name: string, sizeBytes: number, options?: CallOptions): Promise<VolumeInfo>;
  /** No error if it is gone already. Throws `conflict` while something has it open (STO-3). */
  delete(name: string, options?: CallOptions): Promise<void>;
  /**
   * What to hand to a hypervisor (or to `clone`) for a volume. `format` null takes what the volume is; otherwise it must be
   * that. With `exclusive`, throws `conflict` while another process has it open (HA-6). Throws `not-found`, `denied`.
   */
  attach(name: string, want: { format: VolumeFormat | null; exclusive: boolean }, options?: CallOptions): Promise<VolumeLocation>;
  /** Path on this node of a file that is no disk (kernel, initrd). Throws `not-found`, `denied`. */
  file(name: string): Promise<string>;

  /**
   * Marks that this node works on the owner's volumes under a generation (HA-6). Throws `conflict` if a higher one is
   * marked, or the same by another node: then this node is stale. Idempotent.
   */
  mark(owner: string, generation: number): Promise<Mark>;
  /** Throws `conflict` if a generation above this one is marked; with `own` also if this one is not marked (any more). */
  checkMark(owner: string, generation: number, need: "own" | "none above"): Promise<void>;
  /** The mark of this generation as it stands, without adding or checking one; null if there is none. */
  readMark(owner: string, generation: number): Promise<Mark | null>;
  /** Writes down in this node's own mark which volumes the owner has, and which it sets out to make. Throws `conflict` if it is stale. */
  recordVolumes(owner: string, generation: number, record: VolumeRecord): Promise<void>;
  /** Forgets the owner. Throws `conflict` if a generation above this one is marked. */
  unmark(owner: string, generation: number): Promise<void>;

  /** Declared for the drivers and issues to come; see `capabilities`. */
  snapshot(name: string, snapshot: string): Promise<void>;
  rollback(name: string, snapshot: string): Promise<void>;
  /** Cuts every generation of the owner below this one off from its volumes. */
  fence(owner: string, generation: number): Promise<void>;
}

export interface PoolCapabilities {
  shared: boolean;
  snapshot: boolean;
  clone: boolean;
  thin: boolean;
  liveMigrate: boolean;
  fence: boolean;
}

export type VolumeFormat = "raw" | "qcow2";

/** Where a volume's bytes are, for hypervisors and copies. A file's path is absolute, without links. */
export interface VolumeLocation {
  kind: "file";
  path: string;
  format: VolumeFormat;
}

export interface VolumeInfo {
  name: string;
  format: VolumeFormat;
  /** What a guest sees. */
  sizeBytes: number;
  /** What it takes in the pool. */
  allocatedBytes: number;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
}

export interface MakeOptions extends CallOptions {
  /** Told now and then while a copy runs; the total is what the source takes. */
  progress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Asked when the volume is complete, just before it appears under its name; what it throws stops it. */
  confirm?: (() => Promise<void>) | undefined;
}

export interface VolumeRecord {
  /** Volumes the owner is known to have, from this and older generations: a lost one is noticed instead of made anew. */
  volumes: readonly string[];
  /** Written before each is made: what this generation may have made, and so may take back. */
  making: readonly string[];
}

export interface Mark extends VolumeRecord {
  owner: string;
  generation: number;
  nodeId: string;
  /** The generation before, for messages about who may still hold a disk. */
  previous: { generation: number; nodeId: string } | null;
}

export const LIST_LIMIT = 10_000;

/** For the operations that a driver's capabilities exclude. */
export function unsupported(pool: Pool, operation: string): RoostError {
  return new RoostError({ kind: "unsupported", what: `${operation} in pool ${JSON.stringify(pool.name)} (kind ${pool.kind})` });
}
