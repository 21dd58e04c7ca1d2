/**
 * Pool driver `dir`: qcow2 and raw files in a folder, also on a shared mount such as NFS (STO-2). Volumes it makes are full
 * copies, never overlays: an overlay breaks as soon as its template changes.
 */
import { access, constants, lstat, mkdir, open, readdir, realpath, stat, statfs, truncate } from "node:fs/promises";
import { isAbsolute, join, sep } from "node:path";
import { assert } from "../base/assert.ts";
import { invalid, RoostError } from "../base/errors.ts";
import type { PoolStatus } from "../model/node.ts";
import type { Pool } from "../model/pool.ts";
import { FileGuard, runTool } from "./effects.ts";
import { errorCode, explain } from "./faults.ts";
import { dropTemp, makeTemp, publish, sweepTemps, syncPath, unlinkIfThere } from "./files.ts";
import { type ImageHeader, rawHeader, readImageHeader } from "./image.ts";
import { refuseIfUsed, type Users } from "./locks.ts";
import { checkMarker, writeMarker } from "./marker.ts";
import { addMark, checkMark, isMarkName, lookAtMark, recordVolumes, removeMarks } from "./marks.ts";
import { checkFileName, checkVolumeName } from "./names.ts";
import type { OpenOptions, PoolLimits } from "./open.ts";
import {
  type CallOptions,
  LIST_LIMIT,
  type MakeOptions,
  type Mark,
  type PoolCapabilities,
  type StoragePool,
  unsupported,
  type VolumeFormat,
  type VolumeInfo,
  type VolumeLocation,
  type VolumeRecord,
} from "./pool.ts";

/** How often a copy's progress is looked at. */
const COPY_LOOK_MS = 500;

interface DirOptions extends OpenOptions {
  limits: PoolLimits;
}

/** A regular file inside the pool, links resolved. */
interface Found {
  path: string;
  header: ImageHeader;
  allocatedBytes: number;
}

export class DirPool implements StoragePool {
  readonly pool: Pool;
  readonly capabilities: PoolCapabilities;
  readonly #nodeId: string;
  readonly #limits: PoolLimits;
  readonly #guard: FileGuard;
  #swept = false;
  /** A status call that has not come back: asked again, it is awaited again instead of hanging a second thread. */
  #asking: Promise<PoolStatus> | null = null;

  private constructor(pool: Pool, options: DirOptions) {
    this.pool = pool;
    this.capabilities = { shared: pool.shared, snapshot: false, clone: true, thin: true, liveMigrate: pool.shared, fence: false };
    this.#nodeId = options.nodeId;
    this.#limits = options.limits;
    this.#guard = new FileGuard({ limitMs: options.limits.fileMs, where: `pool ${JSON.stringify(pool.name)} (${pool.path})` });
  }

  static async open(pool: Pool, options: DirOptions): Promise<DirPool> {
    // In names of unfinished files it stands between dots; with one inside, a node could sweep another's.
    assert(/^[A-Za-z0-9_-]+$/.test(options.nodeId), `node id ${JSON.stringify(options.nodeId)} fits in a file name`);
    const self = new DirPool(pool, options);
    if (!isAbsolute(pool.path)) return self;
    try {
      await self.#guard.run("opening", async () => {
        // Not for shared pools: a missing folder there means that the mount is missing.
        if (options.mayInitialise && !pool.shared) await mkdir(pool.path, { recursive: true });
        if (options.mayInitialise) await writeMarker(pool, options.nodeId);
        if ((await self.#problem()) === null) await self.#sweep();
      });
    } catch {
      // `status` looks again and tells what is wrong, every time it is asked.
    }
    return self;
  }

  async status(): Promise<PoolStatus> {
    this.#asking ??= this.#look().finally(() => (this.#asking = null));
    return await this.#asking;
  }

  async #look(): Promise<PoolStatus> {
    const status = { poolId: this.pool.id, available: false, problem: "", totalBytes: 0, freeBytes: 0 };
    const work = async (): Promise<PoolStatus> => {
      const problem = await this.#problem();
      if (problem !== null) return { ...status, problem };
      await access(this.pool.path, constants.W_OK);
      const { bsize, blocks, bavail } = await statfs(this.pool.path);
      return { ...status, available: true, totalBytes: blocks * bsize, freeBytes: bavail * bsize };
    };
    try {
      return await this.#guard.run("looking at the pool", work, this.#limits.statusMs);
    } catch (error) {
      const told = explain(error, this.pool, "looking at the pool");
      return { ...status, problem: told.hint === undefined ? told.message : `${told.message}: ${told.hint}` };
    }
  }

  /** null if the folder is there and is this pool's. */
  async #problem(): Promise<string | null> {
    const { path } = this.pool;
    if (!isAbsolute(path)) return `the path of pool ${JSON.stringify(this.pool.name)}, ${JSON.stringify(path)}, must begin with /`;
    try {
      if (!(await stat(path)).isDirectory()) return `${path} is no folder`;
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
      return `the folder ${path} of pool ${JSON.stringify(this.pool.name)} does not exist on this node: make it, or mount the share there`;
    }
    return await checkMarker(this.pool, this.#nodeId);
  }

  /** Removes what a killed process of this node left unfinished. */
  async #sweep(): Promise<void> {
    await sweepTemps(this.pool.path, this.#nodeId);
    this.#swept = true;
  }

  /** File work in the pool after a look that it is the pool; what fails is told with `work`. */
  async #in<T>(work: string, act: () => Promise<T>, limitMs?: number): Promise<T> {
    try {
      return await this.#guard.run(
        work,
        async () => {
          const problem = await this.#problem();
          if (problem !== null) throw new RoostError({ kind: "unavailable", reason: `${work}: ${problem}` });
          return await act();
        },
        limitMs,
      );
    } catch (error) {
      throw explain(error, this.pool, work);
    }
  }

  /** Runs a tool on files of the pool. */
  async #tool(
    work: string,
    tool: string,
    args: readonly string[],
    options: CallOptions | undefined,
    timeoutMs = this.#limits.toolMs,
  ): Promise<string> {
    try {
      return await runTool(tool, args, { what: `${work} in pool ${JSON.stringify(this.pool.name)}`, timeoutMs, signal: options?.signal });
    } catch (error) {
      throw explain(error, this.pool, work);
    }
  }

  async list(): Promise<VolumeInfo[]> {
    return await this.#in("listing volumes", async () => {
      const found: VolumeInfo[] = [];
      for (const entry of (await readdir(this.pool.path, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
        if (!entry.isFile() || isMarkName(entry.name)) continue;
        const info = await this.#statOrNull(entry.name);
        if (info === null) continue;
        if (found.length === LIST_LIMIT)
          throw new RoostError({
            kind: "exhausted",
            reason: `pool ${JSON.stringify(this.pool.name)} holds more than ${LIST_LIMIT} volumes`,
          });
        found.push(info);
      }
      return found;
    });
  }

  async #statOrNull(name: string): Promise<VolumeInfo | null> {
    try {
      return infoOf(name, await this.#find(name));
    } catch (error) {
      // Names that are no volume names, foreign files, and what went away meanwhile.
      if (error instanceof RoostError && ["not-found", "invalid"].includes(error.fault.kind)) return null;
      throw error;
    }
  }

  async stat(name: string): Promise<VolumeInfo | null> {
    checkFileName(name);
    return await this.#in(`looking at ${name}`, async () => {
      try {
        return infoOf(name, await this.#find(name));
      } catch (error) {
        if (error instanceof RoostError && error.fault.kind === "not-found") return null;
        throw error;
      }
    });
  }

  async create(name: string, want: { format: VolumeFormat; sizeBytes: number }, options?: MakeOptions): Promise<VolumeInfo> {
    checkSize(want.sizeBytes);
    return await this.#make(name, `making ${name}`, options, async (temp) => {
      if (want.format === "raw") await this.#in(`making ${name}`, () => truncate(temp, want.sizeBytes));
      else await this.#tool(`making ${name}`, "qemu-img", ["create", "-q", "-f", want.format, temp, String(want.sizeBytes)], options);
    });
  }

  async clone(
    source: VolumeLocation,
    name: string,
    want: { format: VolumeFormat; sizeBytes: number | null },
    options?: MakeOptions,
  ): Promise<VolumeInfo> {
    const work = `copying ${source.path} to ${name}`;
    if (want.sizeBytes !== null) checkSize(want.sizeBytes);
    const from = await this.#in(work, () => inspect(source.path, source.path));
    const usable = this.#usable(source.path, from.header, source.format);
    if (want.sizeBytes !== null && want.sizeBytes < usable.sizeBytes) {
      throw invalid(
        "sizeBytes",
        `${want.sizeBytes} is smaller than the source ${source.path}, which has ${usable.sizeBytes}`,
        "give at least the source's size, or none to take it",
      );
    }
    await this.#refuseIfUsed(source.path, "writers", work, options);
    return await this.#make(name, work, options, async (temp) => {
      // `cp` shares blocks where the file system can (XFS, btrfs, NFS 4.2) and keeps holes; only another format needs qemu-img.
      const [tool, ...args]: [string, ...string[]] =
        source.format === want.format
          ? ["cp", "--reflink=auto", "--sparse=always", "--", source.path, temp]
          : ["qemu-img", "convert", "-q", "-f", source.format, "-O", want.format, source.path, temp];
      const stopWatching = this.#watchCopy(temp, from.allocatedBytes, options);
      await this.#tool(work, tool, args, options, this.#limits.copyMs).finally(stopWatching);
      if (want.sizeBytes !== null && want.sizeBytes > usable.sizeBytes) await this.#grow(temp, want.format, want.sizeBytes, work, options);
    });
  }

  /** Tells how far a copy is, by what it takes so far; returns the way to stop. */
  #watchCopy(temp: string, totalBytes: number, options: MakeOptions | undefined): () => void {
    const tell = options?.progress;
    if (tell === undefined) return () => {};
    let asking = false;
    const timer = setInterval(() => {
      if (asking) return;
      asking = true;
      this.#guard
        .run("looking at a copy", () => stat(temp))
        .then(({ blocks }) => tell(Math.min(blocks * 512, totalBytes), totalBytes))
        .catch(() => {}) // the copy itself fails, too, or goes on: only this look is lost
        .finally(() => (asking = false));
    }, COPY_LOOK_MS);
    return () => clearInterval(timer);
  }

  /** Fills a temporary file and then gives it its name; whatever stops it on the way, the name never stands for half a volume. */
  async #make(name: string, work: string, options: MakeOptions | undefined, fill: (temp: string) => Promise<void>): Promise<VolumeInfo> {
    checkVolumeName(name);
    const folder = this.pool.path;
    const path = join(folder, name);
    const taken = (): RoostError => new RoostError({ kind: "exists", what: `volume in pool ${JSON.stringify(this.pool.name)}`, name });
    const temp = await this.#in(work, async () => {
      if (!this.#swept) await this.#sweep();
      if (await isThere(path)) throw taken();
      return await makeTemp(folder, this.#nodeId);
    });
    try {
      await fill(temp);
      await options?.confirm?.();
      // Syncing writes out what the copy left in memory: as long as the copy itself.
      const published = await this.#in(work, () => publish(temp, path, folder), this.#limits.copyMs);
      if (!published) throw taken();
      return await this.#in(work, async () => infoOf(name, await this.#find(name)));
    } finally {
      await this.#guard
        .run(work, () => dropTemp(temp))
        .catch(() => {
          // The next process of this node sweeps it; the error that matters is the one on its way.
        });
    }
  }

  async resize(name: string, sizeBytes: number, options?: CallOptions): Promise<VolumeInfo> {
    checkSize(sizeBytes);
    const work = `resizing ${name}`;
    const at = await this.attach(name, { format: null, exclusive: true }, options);
    const now = await this.#in(work, async () => infoOf(name, await this.#find(name)));
    if (sizeBytes < now.sizeBytes) {
      throw invalid(
        "sizeBytes",
        `${name} has ${now.sizeBytes} bytes and cannot shrink to ${sizeBytes}`,
        "shrinking cuts data off: make a new, smaller volume and copy inside the guest",
      );
    }
    if (sizeBytes > now.sizeBytes) {
      await this.#grow(at.path, at.format, sizeBytes, work, options);
      await this.#in(work, () => syncPath(at.path));
    }
    return await this.#in(work, async () => infoOf(name, await this.#find(name)));
  }

  async #grow(path: string, format: VolumeFormat, sizeBytes: number, work: string, options: CallOptions | undefined): Promise<void> {
    if (format === "raw") await this.#in(work, () => truncate(path, sizeBytes));
    else await this.#tool(work, "qemu-img", ["resize", "-q", "-f", format, path, String(sizeBytes)], options);
  }

  async delete(name: string, options?: CallOptions): Promise<void> {
    checkFileName(name);
    const work = `deleting ${name}`;
    const path = await this.#in(work, async () => {
      try {
        return await this.#resolve(name);
      } catch (error) {
        if (error instanceof RoostError && error.fault.kind === "not-found") return null;
        throw error;
      }
    });
    if (path === null) return;
    await this.#refuseIfUsed(path, "anyone", work, options);
    await this.#in(work, async () => {
      // The name itself and not what a link in the pool leads to.
      if (await unlinkIfThere(join(this.pool.path, name))) await syncPath(this.pool.path);
    });
  }

  async attach(name: string, want: { format: VolumeFormat | null; exclusive: boolean }, options?: CallOptions): Promise<VolumeLocation> {
    checkFileName(name);
    const work = `opening ${name}`;
    const found = await this.#in(work, () => this.#find(name));
    const { format } = this.#usable(name, found.header, want.format);
    const location: VolumeLocation = { kind: "file", path: found.path, format };
    if (want.exclusive) await this.#refuseIfUsed(found.path, "anyone", work, options);
    return location;
  }

  async file(name: string): Promise<string> {
    checkFileName(name);
    return await this.#in(`opening ${name}`, () => this.#resolve(name));
  }

  async mark(owner: string, generation: number): Promise<Mark> {
    checkVolumeName(owner);
    return await this.#in(`marking generation ${generation} of ${owner}`, () => addMark(this.#marks(), owner, generation));
  }

  async checkMark(owner: string, generation: number, need: "own" | "none above"): Promise<void> {
    checkVolumeName(owner);
    await this.#in(`checking generation ${generation} of ${owner}`, () => checkMark(this.#marks(), owner, generation, need));
  }

  async readMark(owner: string, generation: number): Promise<Mark | null> {
    checkVolumeName(owner);
    return await this.#in(`reading the mark of ${owner}`, () => lookAtMark(this.#marks(), owner, generation));
  }

  async recordVolumes(owner: string, generation: number, record: VolumeRecord): Promise<void> {
    checkVolumeName(owner);
    await this.#in(`recording volumes of ${owner}`, () => recordVolumes(this.#marks(), owner, generation, record));
  }

  async unmark(owner: string, generation: number): Promise<void> {
    checkVolumeName(owner);
    await this.#in(`forgetting ${owner}`, () => removeMarks(this.#marks(), owner, generation));
  }

  async snapshot(): Promise<void> {
    throw unsupported(this.pool, "snapshot");
  }

  async rollback(): Promise<void> {
    throw unsupported(this.pool, "rollback");
  }

  async fence(): Promise<void> {
    throw unsupported(this.pool, "fence");
  }

  #marks(): { folder: string; poolName: string; nodeId: string } {
    return { folder: this.pool.path, poolName: this.pool.name, nodeId: this.#nodeId };
  }

  /** The real path of a file of the pool. Throws `not-found`; `denied` if a link leads out of the pool. */
  async #resolve(name: string): Promise<string> {
    const root = await realpath(this.pool.path);
    let path: string;
    try {
      path = await realpath(join(this.pool.path, name));
    } catch (error) {
      if (["ENOENT", "ENOTDIR"].includes(errorCode(error))) throw this.#missing(name);
      throw error;
    }
    if (!path.startsWith(root.endsWith(sep) ? root : root + sep)) {
      throw new RoostError(
        { kind: "denied", reason: `${name} is a link that leads out of pool ${JSON.stringify(this.pool.name)}` },
        "copy the file into the pool",
      );
    }
    if (!(await stat(path)).isFile()) throw invalid("name", `${name} in pool ${JSON.stringify(this.pool.name)} is no regular file`);
    return path;
  }

  #missing(name: string): RoostError {
    return new RoostError(
      { kind: "not-found", what: `file in pool ${JSON.stringify(this.pool.name)} (${this.pool.path})`, name },
      `copy it to ${join(this.pool.path, name)}`,
    );
  }

  async #find(name: string): Promise<Found> {
    checkFileName(name);
    return await inspect(await this.#resolve(name), name);
  }

  /** What the header says, if that may be used as `format`; throws `invalid` with what to do. */
  #usable(name: string, header: ImageHeader, format: VolumeFormat | null): { format: VolumeFormat; sizeBytes: number } {
    const convert = "convert it: qemu-img convert -O qcow2 OLD NEW";
    const actual = header.format === "foreign" ? header.name : header.format;
    if (header.format === "foreign") throw invalid("format", `${name} is ${actual}, which cannot be used as a disk`, convert);
    if (format !== null && format !== header.format)
      throw invalid("format", `${name} is ${actual}, not ${format}`, `say format: ${actual}`);
    if (header.trouble !== null)
      throw invalid("name", `${name} cannot be used: ${header.trouble}`, "make one whole image of it: qemu-img convert -O qcow2 OLD NEW");
    return { format: header.format, sizeBytes: header.sizeBytes };
  }

  async #refuseIfUsed(path: string, users: Users, work: string, options: CallOptions | undefined): Promise<void> {
    await refuseIfUsed(path, users, { work, timeoutMs: this.#limits.toolMs, signal: options?.signal });
  }
}

async function inspect(path: string, name: string): Promise<Found> {
  let handle;
  try {
    handle = await open(path, "r");
  } catch (error) {
    if (errorCode(error) === "ENOENT") throw new RoostError({ kind: "not-found", what: "file", name }, undefined, { cause: error });
    throw error;
  }
  try {
    const { blocks, size } = await handle.stat();
    // The name's word is taken: what a raw disk begins with is its guest's business, and could be a header made to fool us.
    const header = path.endsWith(".raw") ? rawHeader(size) : await readImageHeader(handle, size);
    return { path, header, allocatedBytes: blocks * 512 };
  } finally {
    await handle.close();
  }
}

function infoOf(name: string, found: Found): VolumeInfo {
  const { header, allocatedBytes } = found;
  if (header.format === "foreign") throw invalid("name", `${name} is ${header.name}, which is no volume format`);
  return { name, format: header.format, sizeBytes: header.sizeBytes, allocatedBytes };
}

/** The name is taken, be it by a dangling link. */
async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    throw error;
  }
}

function checkSize(sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % 512 !== 0) {
    throw invalid("sizeBytes", `${sizeBytes} is no disk size`, "give a positive number of bytes that is a multiple of 512");
  }
}
