/**
 * The contract of a hypervisor driver (VM-13). A driver speaks for one node's hypervisor and knows nothing of
 * claims, Raft or pools: it is told what to run and says what runs. Every implementation passes the contract suite in
 * test/contract/driver.ts (VM-14).
 *
 * Rules that every driver keeps:
 * - `define` is idempotent for the same spec, never starts anything, and never marks a domain for autostart (HA-7).
 * - It lists and touches only domains that carry roost's mark for this cluster (HA-7).
 * - A call that may take long takes a `signal`/time limit and fails with a `timeout` fault that names it.
 * - Unsupported operations are in `capabilities().actions` as absent, and throw `unsupported` if called all the same.
 */
import type { Duplex } from "node:stream";
import type { CpuTopology } from "../model/node.ts";
import type { CpuDefinition } from "../model/vm.ts";

export interface Driver {
  readonly kind: DriverKind;
  /** Opens a session; operations need one. Sessions are counted (VM-16). */
  login(): Promise<Session>;
  /** What this hypervisor is and can do; found out by trying, cached after the first time. */
  capabilities(): Promise<Capabilities>;
  /** Sessions in use now. */
  sessions(): number;
  /**
   * Calls back for each life-cycle change of a roost domain, including those made behind roost's back (VM-10), until
   * the returned function is called. After a reconnect it sends `resync`: the receiver lists again.
   */
  watch(listener: (event: DomainEvent) => void): () => void;
  /** How a keeper that knows nothing of this driver's sessions kills a domain of it. */
  killRecipe(domain: DomainRef): KillRecipe;
  close(): Promise<void>;
}

export type DriverKind = "libvirt" | "simulated" | "script" | "ec2";

/** One logged-in connection. All calls throw RoostError. */
export interface Session {
  list(): Promise<DomainStatus[]>;
  /** Makes the domain known (configure). For libvirt's transient domains this prepares only what start needs. */
  define(spec: DomainSpec): Promise<void>;
  /** Forgets a defined domain that does not run (unconfigure); no error if it is not there. */
  undefine(ref: DomainRef): Promise<void>;
  /** Starts it; with `paused` its CPUs stay stopped until `resume` (HA-7: start paused, check the claim, resume). */
  start(ref: DomainRef, options: { paused: boolean }): Promise<void>;
  /** Asks the guest to power off and returns at once; `watch` tells when it is gone. */
  shutdown(ref: DomainRef): Promise<void>;
  /** Ends it now. No error if it does not run. After it returns nothing of the domain runs. */
  destroy(ref: DomainRef): Promise<void>;
  /** From now on its vCPUs, `vcpus` of them, and the hypervisor's threads for it run on these logical CPUs only. */
  confine(ref: DomainRef, to: { vcpus: number; cpus: readonly number[] }): Promise<void>;
  /** Asks the guest to reboot and returns at once. Not to be repeated without need: it would reboot again. */
  reboot(ref: DomainRef): Promise<void>;
  /** As the reset button: the guest begins anew. Not to be repeated without need. */
  reset(ref: DomainRef): Promise<void>;
  pause(ref: DomainRef): Promise<void>;
  resume(ref: DomainRef): Promise<void>;
  state(ref: DomainRef): Promise<DomainStatus | null>;
  stats(ref: DomainRef): Promise<DomainStats>;
  /** Begins to move a running domain away; the guest notices nothing yet. One at a time and domain. */
  emigrate(ref: DomainRef): Promise<Emigration>;
  /**
   * Prepares for a domain that comes from elsewhere with `offer`, an `Emigration`'s word. `spec` names the generation it has here.
   * Its volumes are used by both sides: shared, and never made new.
   */
  immigrate(spec: DomainSpec, offer: Uint8Array): Promise<Immigration>;
  logout(): Promise<void>;
}

/**
 * Live migration has two halves, and each driver does its own. What one half says to the other is opaque bytes, what the hypervisors
 * say to each other is a stream of bytes; both are carried by somebody who has checked who is at the other end:
 *
 *     source                          target
 *     emigrate → offer           →    immigrate → ticket, stream
 *     push(ticket, stream)       ⇄    stream
 *     receipt                    →    complete(receipt)
 *     (who may run is decided)
 *     destroy                         resume
 *
 * Until `push` has ended nothing is lost: an abort leaves the source's domain running and destroys the target's. After it both are
 * paused and whole, and stay so whatever happens to drivers and daemons: one of them is resumed, the other destroyed.
 */
export interface Emigration {
  readonly offer: Uint8Array;
  /**
   * Pushes the domain's memory through `stream` and ends with the domain paused here; the receipt is for the other side's `complete`.
   * If it fails, or `signal` is given, the domain runs on here (or, if libvirt cannot say how far it came, is paused, for `resume`).
   */
  push(ticket: Uint8Array, stream: Duplex, options: PushOptions): Promise<Uint8Array>;
  /** Gives the migration up, in whatever state it is; a domain that `push` has paused stays paused. */
  close(): Promise<void>;
}

export interface Immigration {
  readonly ticket: Uint8Array;
  /** Where the source's stream goes. */
  readonly stream: Duplex;
  /** Waits until all of it is here, paused. If that fails nothing of it is left. */
  complete(receipt: Uint8Array): Promise<void>;
  /** Ends an incoming domain that is not complete; one that is stays as it is. */
  close(): Promise<void>;
}

export interface PushOptions {
  signal: AbortSignal;
  /** null: as fast as it goes. */
  bandwidthMibPerSecond: number | null;
  /** How long the guest may stand still for the last part. A busy guest is slowed down until it fits. */
  downtimeMs: number;
  progress: (progress: PushProgress) => void;
}

export interface PushProgress {
  /** Sent so far, and what is still to be sent as far as is known now; a guest that writes makes it more. */
  sentBytes: number;
  leftBytes: number;
}

export interface DomainRef {
  /** The VM's id, a UUID; the domain's UUID is the same. */
  vmId: string;
  /** Placement generation the domain belongs to. */
  generation: number;
}

export interface DomainSpec extends DomainRef {
  clusterId: string;
  /** The VM's name, for people; the domain's own name is derived from it and unique per vm. */
  name: string;
  cpus: number;
  /** What the guest sees as its CPU; absent or null: what is best here. */
  cpu?: CpuDefinition | null;
  /** Where its vCPUs may run; absent or null: anywhere. */
  cpuPlacement?: CpuPlacement | null;
  memoryMib: number;
  boot: DirectBoot | null;
  disks: DiskAttachment[];
  nics: NicAttachment[];
  /** File on the node that gets the serial console's output, appended; null for none. */
  serialLogPath: string | null;
}

export type CpuPlacement =
  /** Logical CPUs of its own, one a vCPU, in their order; its memory of one NUMA node, unless that is null. */
  | { kind: "pinned"; cpus: number[]; numaNode: number | null }
  /** All together these, because the others belong to somebody. */
  | { kind: "shared"; cpus: number[] };

/** Direct kernel boot; absolute paths on the node, made by the pool. */
export interface DirectBoot {
  kernelPath: string;
  initrdPath: string | null;
  cmdline: string;
}

/** What a pool hands to the driver for one disk. */
export interface DiskAttachment {
  source: { kind: "file"; path: string; format: "raw" | "qcow2" };
  target: string;
  bus: "virtio" | "sata" | "scsi" | "ide";
  device: "disk" | "cdrom";
  readonly: boolean;
  /** Others write to it, too: no image lock is taken. */
  shareable?: true;
  cache: "none" | "writeback" | "writethrough" | "default";
}

export interface NicAttachment {
  mac: string;
  bridge: string;
  model: "virtio" | "e1000";
}

export type DomainState = "defined" | "running" | "paused" | "shutting-down" | "gone";

export interface DomainStatus extends DomainRef {
  /** Cluster that the domain's mark names. */
  clusterId: string;
  name: string;
  state: DomainState;
}

/** `gone.cause`: `shutdown` the guest powered off, `destroyed` somebody ended it, `crashed` the hypervisor process died or the guest panicked. */
export type DomainEvent =
  | ({ kind: "started" | "resumed" | "paused" } & DomainRef)
  | ({ kind: "gone"; cause: "shutdown" | "destroyed" | "crashed" | "unknown" } & DomainRef)
  | { kind: "resync" }
  | { kind: "disconnected"; reason: string };

export interface DomainStats {
  cpuTimeNs: number;
  memoryRssKib: number;
  diskReadBytes: number;
  diskWriteBytes: number;
  netRxBytes: number;
  netTxBytes: number;
}

export type DriverAction =
  | "start"
  | "shutdown"
  | "destroy"
  | "reboot"
  | "reset"
  | "pause"
  | "resume"
  | "suspend"
  | "snapshot"
  | "migrate"
  | "console"
  | "stats";

export interface Capabilities {
  hypervisor: string;
  version: string;
  arch: string;
  /** True only if a guest really ran on hardware virtualisation here; else guests are emulated. */
  hardwareAccelerated: boolean;
  cpus: number;
  memoryMib: number;
  cpuModel: string;
  /** null: not found out. */
  cpuTopology: CpuTopology | null;
  /** What a guest can be given, sorted; null: not found out. */
  cpuModels: string[] | null;
  cpuFeatures: string[] | null;
  actions: DriverAction[];
  diskBuses: DiskAttachment["bus"][];
  /** Sessions that may be open at once. */
  maxSessions: number;
  /** It knows vdcs, so that a limit may hold for each of them (LIM-3); absent: no. */
  vdcs?: boolean;
  /** A cloud's that does network devices as well, over the same connection (LIM-6); absent: no. */
  devices?: boolean;
}

/**
 * Data that lets the keeper (a process without drivers' state) end a domain: first through the hypervisor with a
 * short time limit, then by the process itself, found by a string that only its command line has.
 */
export type KillRecipe =
  | { kind: "libvirt"; socketPath: string; uri: string; uuid: string; processMark: string }
  | { kind: "file"; path: string; vmId: string; generation: number };
