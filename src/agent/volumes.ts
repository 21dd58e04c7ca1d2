/**
 * A VM's volumes on this node: made before it starts (configure), taken back if that start fails, deleted with it (unconfigure). All are idempotent
 * and survive a crash at any point; all refuse to touch anything once a higher generation of the VM has been here (HA-6).
 */
import { invalid, RoostError, type Violation } from "../base/errors.ts";
import { formatBytes, formatGeneration } from "../base/units.ts";
import type { DirectBoot, DiskAttachment } from "../hypervisor/driver.ts";
import { volumeNameOf } from "../model/doctor.ts";
import type { DiskDefinition, Vm } from "../model/vm.ts";
import { STEPS } from "../model/task-steps.ts";
import type { JobProgress } from "../model/task.ts";
import { parseVolumeReference } from "../storage/names.ts";
import type { CallOptions, MakeOptions, Mark, StoragePool, VolumeLocation } from "../storage/pool.ts";

/** Opened pools by name. */
export type Pools = ReadonlyMap<string, StoragePool>;

export interface Prepared {
  boot: DirectBoot | null;
  disks: DiskAttachment[];
}

export interface VolumeCall extends CallOptions {
  /** What was done, in the words of model/task-steps.ts. */
  step?: ((name: string, detail: string) => void) | undefined;
  progress?: ((progress: JobProgress) => void) | undefined;
}

/** A disk is open elsewhere: shown, never broken by force (HA-6). */
export class DiskHeld extends RoostError {}

/** One disk with everything it refers to looked up. */
interface Plan {
  disk: DiskDefinition;
  field: string;
  pool: StoragePool;
  /** The volume's name in `pool`. */
  name: string;
  /** Made by us from `source`, or empty; false for a source used in place. */
  own: boolean;
  source: VolumeLocation | null;
}

/** The name of the volume that is made for a disk. */
export function volumeName(vmId: string, disk: DiskDefinition): string {
  return volumeNameOf(vmId, disk);
}

/**
 * Makes what is missing of the VM's volumes and says how to attach them. A volume that exists is used as it is, which is how
 * a recovered VM finds its disks. Throws `invalid` with all wrong fields before anything is made; `conflict` if this node's
 * generation is stale or a disk is still open elsewhere (retry later); `damaged` if a volume that was made once is gone.
 *
 * `arriving`: the VM comes by live migration, so its disks are open at the source, and one that is not there is never made new.
 */
export async function prepare(vm: Vm, pools: Pools, options?: VolumeCall & { arriving?: boolean }): Promise<Prepared> {
  const generation = generationOf(vm);
  if (vm.claim === null)
    throw new RoostError({ kind: "precondition", reason: `VM ${vm.definition.name} has no claim: its disks are not ours to prepare` });
  const { boot, plans } = await plan(vm, pools, options);

  const marks = new Map<StoragePool, Mark>();
  for (const pool of markedPools(plans)) marks.set(pool, await pool.mark(ownerOf(vm.id), generation));
  const arriving = options?.arriving === true;
  const missing = new Set<Plan>();
  for (const step of plans) {
    if (!step.own || (await step.pool.stat(step.name)) !== null) continue;
    if (arriving) throw new RoostError({ kind: "not-found", what: `volume in pool ${step.pool.pool.name}`, name: step.name });
    missing.add(step);
  }
  // Before anything is made, so that whoever takes it back knows it from what was there, wherever this stops.
  for (const [pool, mark] of marks) {
    const names = [...missing].filter((step) => step.pool === pool).map((step) => step.name);
    const making = [...new Set([...mark.making, ...names])];
    await pool.recordVolumes(ownerOf(vm.id), generation, { volumes: mark.volumes, making });
    marks.set(pool, { ...mark, making });
  }

  const disks: DiskAttachment[] = [];
  for (const step of plans) {
    const mark = marks.get(step.pool);
    if (missing.has(step)) await make(vm, step, generation, mark, options);
    const source = await attach(step, arriving, mark, options);
    const { target, bus, device, readonly, shareable, cache } = step.disk;
    disks.push({ source, target, bus, device, readonly, ...(shareable === true ? { shareable } : {}), cache });
  }
  for (const [pool, mark] of marks) {
    const made = plans.filter((step) => step.own && step.pool === pool).map((step) => step.name);
    await pool.recordVolumes(ownerOf(vm.id), generation, { volumes: [...new Set([...mark.volumes, ...made])], making: mark.making });
  }
  return { boot, disks };
}

/**
 * Takes back what `prepare` did under the VM's present generation: deletes the volumes that it made, and its mark where that is
 * the only one. What older generations made stays. Throws `conflict` if a higher generation has been here, or a disk is still open.
 */
export async function takeBack(vm: Vm, pools: Pools, options?: VolumeCall): Promise<void> {
  const generation = generationOf(vm);
  const owner = ownerOf(vm.id);
  for (const pool of new Set(vm.definition.disks.map((disk) => pools.get(poolNameOf(disk))))) {
    const mark = (await pool?.readMark(owner, generation)) ?? null;
    if (pool === undefined || mark === null) continue;
    const volumes = mark.volumes.filter((name) => !mark.making.includes(name));
    // First no longer the VM's, then gone: the other way round a volume that is missed would look lost.
    await pool.recordVolumes(owner, generation, { volumes, making: mark.making });
    for (const name of mark.making) await remove(pool, name, options);
    if (volumes.length === 0 && mark.previous === null) await pool.unmark(owner, generation);
    else await pool.recordVolumes(owner, generation, { volumes, making: [] });
  }
}

async function remove(pool: StoragePool, name: string, options: VolumeCall | undefined): Promise<void> {
  const info = await pool.stat(name);
  await pool.delete(name, options);
  if (info !== null) options?.step?.(STEPS.diskDeleted, `${pool.pool.name}/${name}`);
}

/**
 * Deletes the volumes that `prepare` made for the VM and its marks; sources used in place stay. Throws `conflict` if a higher
 * generation has been here, or a disk is still open.
 */
export async function clean(vm: Vm, pools: Pools, options?: VolumeCall): Promise<void> {
  const generation = generationOf(vm);
  const owner = ownerOf(vm.id);
  // A source used in place may be gone by now, and its pool too: nothing of ours but perhaps a mark is there.
  const inPlace = vm.definition.disks.filter((disk) => !isOwn(disk)).map((disk) => pools.get(poolNameOf(disk)));
  const own = vm.definition.disks
    .filter(isOwn)
    .map((disk) => ({ disk, pool: poolNamed(pools, disk.pool, `VM ${vm.definition.name}, disk ${disk.target}`) }));
  const marked = new Set([...own.map((step) => step.pool), ...inPlace.filter((pool) => pool !== undefined)]);
  for (const pool of marked) await pool.checkMark(owner, generation, "none above");
  for (const { disk, pool } of own) await remove(pool, volumeName(vm.id, disk), options);
  // Marks last: after a crash in between they still tell a stale node to keep off.
  for (const pool of marked) await pool.unmark(owner, generation);
}

async function plan(vm: Vm, pools: Pools, options: CallOptions | undefined): Promise<{ boot: DirectBoot | null; plans: Plan[] }> {
  const violations: Violation[] = [];
  const hints = new Set<string>();
  const attempt = async <T>(field: string, work: () => Promise<T>): Promise<T | null> => {
    try {
      return await work();
    } catch (error) {
      const wrong = wrongField(field, error);
      if (wrong === null) throw error;
      violations.push(wrong);
      if (error instanceof RoostError && error.hint !== undefined) hints.add(error.hint);
      return null;
    }
  };

  const { boot, disks } = vm.definition;
  const file = async (reference: string): Promise<string> => {
    const { pool, file: name } = parseVolumeReference(reference);
    return await poolNamed(pools, pool, reference).file(name);
  };
  const kernelPath = boot === null ? null : await attempt("boot.kernel", () => file(boot.kernel));
  const initrd = boot?.initrd ?? null;
  const initrdPath = initrd === null ? null : await attempt("boot.initrd", () => file(initrd));
  const plans: Plan[] = [];
  for (const [i, disk] of disks.entries()) {
    const field = `disks[${i}]`;
    const planned = await attempt(disk.source === null ? field : `${field}.source`, () => planDisk(vm, disk, field, pools, options));
    if (planned !== null) plans.push(planned);
  }
  if (violations.length > 0) throw new RoostError({ kind: "invalid", violations }, hints.size === 0 ? undefined : [...hints].join("; "));
  return { boot: boot === null || kernelPath === null ? null : { kernelPath, initrdPath, cmdline: boot.cmdline }, plans };
}

async function planDisk(vm: Vm, disk: DiskDefinition, field: string, pools: Pools, options: CallOptions | undefined): Promise<Plan> {
  if (disk.source === null) {
    if (disk.sizeBytes === null) throw invalid("sizeBytes", "an empty disk needs a size", "give it a size, or a source to copy");
    return { disk, field, pool: poolNamed(pools, disk.pool, "the disk's pool"), name: volumeName(vm.id, disk), own: true, source: null };
  }
  const reference = parseVolumeReference(disk.source);
  const sourcePool = poolNamed(pools, reference.pool, disk.source);
  if (!disk.clone) {
    const info = await sourcePool.stat(reference.file);
    await sourcePool.attach(reference.file, { format: disk.format, exclusive: false }, options);
    if (disk.sizeBytes !== null && disk.sizeBytes !== info?.sizeBytes) {
      throw invalid(
        "sizeBytes",
        `a disk with clone: false keeps the size of its source, ${info?.sizeBytes ?? "?"} bytes`,
        "leave the size out, or let it be cloned",
      );
    }
    return { disk, field, pool: sourcePool, name: reference.file, own: false, source: null };
  }
  const pool = poolNamed(pools, disk.pool, "the disk's pool");
  const name = volumeName(vm.id, disk);
  // Once the copy is there its source is not needed any more, and may be gone.
  const source =
    (await pool.stat(name)) === null ? await sourcePool.attach(reference.file, { format: null, exclusive: false }, options) : null;
  return { disk, field, pool, name, own: true, source };
}

async function make(vm: Vm, step: Plan, generation: number, mark: Mark | undefined, options: VolumeCall | undefined): Promise<void> {
  const { disk, pool, name } = step;
  const at = `${pool.pool.name}/${name}`;
  if (mark?.volumes.includes(name) === true) {
    throw new RoostError(
      {
        kind: "damaged",
        what: `disk ${disk.target} of VM ${vm.definition.name}: its volume ${name} was in pool ${JSON.stringify(pool.pool.name)} and is gone; it`,
      },
      "bring the file back from a backup; a new copy of the source would silently lose what the VM wrote",
    );
  }
  if (disk.source !== null && step.source === null) {
    throw new RoostError({ kind: "conflict", reason: `volume ${name} went away while it was being prepared` }, "it is tried again");
  }
  const making: MakeOptions = {
    signal: options?.signal,
    confirm: () => pool.checkMark(ownerOf(vm.id), generation, "own"),
    progress: (done, total) => options?.progress?.({ what: `copy of ${disk.source ?? ""} to ${at}`, done, total, unit: "bytes" }),
  };
  try {
    if (step.source !== null) {
      options?.step?.(STEPS.copyStarted, `${disk.source ?? ""} to ${at}`);
      const { allocatedBytes } = await pool.clone(step.source, name, { format: disk.format, sizeBytes: disk.sizeBytes }, making);
      options?.step?.(STEPS.copyFinished, `${at}, ${formatBytes(allocatedBytes)}`);
    } else if (disk.sizeBytes !== null) {
      await pool.create(name, { format: disk.format, sizeBytes: disk.sizeBytes }, making);
      options?.step?.(STEPS.diskMade, `${at}, ${formatBytes(disk.sizeBytes)}`);
    }
  } catch (error) {
    // Another run of this same step was faster: its volume is as good.
    if (error instanceof RoostError && error.fault.kind === "exists") return;
    const wrong = wrongField(step.field, error);
    throw wrong === null
      ? error
      : new RoostError({ kind: "invalid", violations: [wrong] }, error instanceof RoostError ? error.hint : undefined, { cause: error });
  }
}

async function attach(step: Plan, arriving: boolean, mark: Mark | undefined, options: CallOptions | undefined): Promise<VolumeLocation> {
  const { disk, pool, name } = step;
  try {
    return await pool.attach(name, { format: disk.format, exclusive: !disk.readonly && disk.shareable !== true && !arriving }, options);
  } catch (error) {
    if (!(error instanceof RoostError) || error.fault.kind !== "conflict") throw error;
    // The generation before is where to look.
    const before = mark?.previous ?? null;
    const who = before === null ? "" : `; before, node ${before.nodeId} had it (generation ${formatGeneration(before.generation)})`;
    throw new DiskHeld({ kind: "conflict", reason: `${error.message}${who}` }, error.hint, { cause: error });
  }
}

/** Pools where writable volumes of the VM lie: only there can a stale node do harm. */
function markedPools(plans: readonly Plan[]): Set<StoragePool> {
  return new Set(plans.filter((step) => step.own || !step.disk.readonly).map((step) => step.pool));
}

function isOwn(disk: DiskDefinition): boolean {
  return disk.clone || disk.source === null;
}

/** The pool a disk's volume lies in; for a source used in place that is the source's. */
function poolNameOf(disk: DiskDefinition): string {
  return disk.source === null || disk.clone ? disk.pool : parseVolumeReference(disk.source).pool;
}

function ownerOf(vmId: string): string {
  return `vm-${vmId}`;
}

function generationOf(vm: Vm): number {
  return vm.claim?.generation ?? vm.generation;
}

function poolNamed(pools: Pools, name: string, usedBy: string): StoragePool {
  const pool = pools.get(name);
  if (pool === undefined) {
    throw new RoostError(
      { kind: "not-found", what: `pool (${usedBy})`, name },
      pools.size === 0 ? "make one: roost pool create" : `there are: ${[...pools.keys()].sort().join(", ")}`,
    );
  }
  return pool;
}

/** The violation for an error that the definition's author must mend; null for those of the pool or the moment. */
function wrongField(field: string, error: unknown): Violation | null {
  if (!(error instanceof RoostError)) return null;
  switch (error.fault.kind) {
    case "invalid":
      return {
        field: error.fault.violations[0]?.field === "sizeBytes" ? `${field.replace(/\.source$/, "")}.size` : field,
        message: error.fault.violations.map((v) => v.message).join("; "),
      };
    case "not-found":
    case "denied":
      return { field, message: error.message };
    default:
      return null;
  }
}
