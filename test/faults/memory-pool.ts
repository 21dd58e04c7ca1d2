/** A pool in memory that keeps the rules of src/storage/pool.ts as far as tasks need them, with a gate before and after each change. */
import { RoostError } from "../../src/base/errors.ts";
import type { PoolStatus } from "../../src/model/node.ts";
import type { Pool } from "../../src/model/pool.ts";
import type { Mark, StoragePool, VolumeInfo } from "../../src/storage/pool.ts";

/** What lies there; shared by the nodes that see the same folder. */
export class Shelf {
  readonly volumes = new Map<string, VolumeInfo>();
  readonly marks = new Map<string, Mark[]>();
}

/** Runs a change between its two gates: before it nothing has happened, after it everything has. */
export type Gate = <T>(operation: string, subject: string, change: () => T) => Promise<T>;

const MIB = 2 ** 20;

export class MemoryPool implements StoragePool {
  readonly pool: Pool;
  readonly capabilities = { shared: true, snapshot: false, clone: true, thin: false, liveMigrate: false, fence: false };
  readonly #shelf: Shelf;
  readonly #nodeId: string;
  readonly #gate: Gate;

  constructor(pool: Pool, shelf: Shelf, nodeId: string, gate: Gate) {
    this.pool = pool;
    this.#shelf = shelf;
    this.#nodeId = nodeId;
    this.#gate = gate;
  }

  status(): Promise<PoolStatus> {
    return Promise.resolve({ poolId: this.pool.id, available: true, problem: "", totalBytes: 2 ** 40, freeBytes: 2 ** 39 });
  }

  list(): Promise<VolumeInfo[]> {
    return Promise.resolve([...this.#shelf.volumes.values()]);
  }

  stat(name: string): Promise<VolumeInfo | null> {
    return Promise.resolve(this.#shelf.volumes.get(name) ?? null);
  }

  create(...[name, want, options]: Parameters<StoragePool["create"]>): Promise<VolumeInfo> {
    return this.#make("create", name, { ...want, allocatedBytes: MIB }, options?.confirm);
  }

  clone(...[source, name, want, options]: Parameters<StoragePool["clone"]>): Promise<VolumeInfo> {
    const from = this.#shelf.volumes.get(source.path.slice(1));
    if (from === undefined) throw new RoostError({ kind: "not-found", what: "volume", name: source.path });
    const sizeBytes = want.sizeBytes ?? from.sizeBytes;
    return this.#make("clone", name, { format: want.format, sizeBytes, allocatedBytes: from.allocatedBytes }, options?.confirm);
  }

  async #make(operation: string, name: string, info: Omit<VolumeInfo, "name">, confirm?: () => Promise<void>): Promise<VolumeInfo> {
    await confirm?.();
    return this.#gate(operation, name, () => {
      if (this.#shelf.volumes.has(name)) throw new RoostError({ kind: "exists", what: "volume", name });
      const made = { name, ...info };
      this.#shelf.volumes.set(name, made);
      return made;
    });
  }

  resize(): Promise<VolumeInfo> {
    throw new RoostError({ kind: "unsupported", what: "resize" });
  }

  delete(name: string): Promise<void> {
    return this.#gate("delete", name, () => void this.#shelf.volumes.delete(name));
  }

  attach(...[name]: Parameters<StoragePool["attach"]>): ReturnType<StoragePool["attach"]> {
    const found = this.#shelf.volumes.get(name);
    if (found === undefined) return Promise.reject(new RoostError({ kind: "not-found", what: "volume", name }));
    return Promise.resolve({ kind: "file", path: `/${name}`, format: found.format });
  }

  file(name: string): Promise<string> {
    return Promise.resolve(`/${name}`);
  }

  mark(owner: string, generation: number): Promise<Mark> {
    return this.#gate("mark", owner, () => {
      this.#refuseIfStale(owner, generation);
      const all = this.#shelf.marks.get(owner) ?? [];
      const last = all.findLast((mark) => mark.generation < generation) ?? null;
      const previous = last === null ? null : { generation: last.generation, nodeId: last.nodeId };
      const known = all.find((mark) => mark.generation === generation);
      if (known !== undefined && known.nodeId !== this.#nodeId) throw stale(owner, generation);
      const own = known ?? { owner, generation, nodeId: this.#nodeId, volumes: last?.volumes ?? [], making: [], previous };
      const volumes = [...new Set([...own.volumes, ...(last?.volumes ?? [])])];
      this.#shelf.marks.set(owner, [...(last === null ? [] : [last]), own]);
      return { ...own, volumes, previous };
    });
  }

  checkMark(...[owner, generation, need]: Parameters<StoragePool["checkMark"]>): Promise<void> {
    return attempt(() => {
      this.#refuseIfStale(owner, generation);
      if (need === "own" && this.#own(owner, generation) === null) throw stale(owner, generation);
    });
  }

  readMark(owner: string, generation: number): Promise<Mark | null> {
    return Promise.resolve(structuredClone(this.#own(owner, generation)));
  }

  recordVolumes(...[owner, generation, record]: Parameters<StoragePool["recordVolumes"]>): Promise<void> {
    return this.#gate("record", owner, () => {
      this.#refuseIfStale(owner, generation);
      const own = this.#own(owner, generation);
      if (own === null) throw stale(owner, generation);
      const all = this.#shelf.marks.get(owner) ?? [];
      this.#shelf.marks.set(
        owner,
        all.map((mark) => (mark === own ? { ...mark, volumes: [...record.volumes], making: [...record.making] } : mark)),
      );
    });
  }

  unmark(owner: string, generation: number): Promise<void> {
    return this.#gate("unmark", owner, () => {
      this.#refuseIfStale(owner, generation);
      this.#shelf.marks.delete(owner);
    });
  }

  snapshot = unsupported;
  rollback = unsupported;
  fence = unsupported;

  #own(owner: string, generation: number): Mark | null {
    return this.#shelf.marks.get(owner)?.find((mark) => mark.generation === generation) ?? null;
  }

  #refuseIfStale(owner: string, generation: number): void {
    if (this.#shelf.marks.get(owner)?.some((mark) => mark.generation > generation) === true) throw stale(owner, generation);
  }
}

async function attempt(work: () => void): Promise<void> {
  work();
}

function unsupported(): Promise<never> {
  return Promise.reject(new RoostError({ kind: "unsupported", what: "this" }));
}

function stale(owner: string, generation: number): RoostError {
  return new RoostError({ kind: "conflict", reason: `generation ${generation} of ${owner} is stale` });
}
