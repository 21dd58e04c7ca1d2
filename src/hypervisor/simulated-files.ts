/**
 * Simulated domains as files, one per VM in a folder: they survive the agent, and a keeper ends one by deleting its file.
 */
import { statSync, watch } from "node:fs";
import { link, mkdir, open, readFile, readdir, rm, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { alreadyThere } from "./simulated-store.ts";
import type { DomainStore, StoredDomain } from "./simulated-store.ts";

/** Every file has this length, filled up with blanks: a change is one write in place, so no reader sees half of it. */
const FILE_BYTES = 2048;
const SUFFIX = ".domain.json";
/** Files carry times that move in steps of some ms: one that changed so shortly before it was read may have changed again since. */
const SETTLED_MS = 50;

/** A file as it was read; good while the file is the same one, unchanged. */
interface Known {
  ino: number;
  ctimeMs: number;
  text: string;
}

export class FileDomainStore implements DomainStore {
  readonly shared = true;
  private readonly folder: string;
  private readonly log: Logger;
  private readonly nowMs: () => number;
  private temporary = 0;
  /** By path: with hundreds of domains, reading each of them at each look is all that a node would do. */
  private readonly known = new Map<string, Known>();

  /** `nowMs`: for tests; wall clock. */
  constructor(folder: string, deps: { log: Logger; nowMs?: () => number }) {
    this.folder = folder;
    this.nowMs = deps.nowMs ?? Date.now;
    this.log = deps.log;
  }

  async list(): Promise<StoredDomain[]> {
    await mkdir(this.folder, { recursive: true });
    const names = (await readdir(this.folder)).filter((name) => name.endsWith(SUFFIX)).toSorted();
    const paths = names.map((name) => join(this.folder, name));
    const domains = await Promise.all(paths.map((path) => this.read(path)));
    if (this.known.size > paths.length) {
      const there = new Set(paths);
      for (const path of this.known.keys()) if (!there.has(path)) this.known.delete(path);
    }
    return domains.filter((domain) => domain !== null);
  }

  get(vmId: string): Promise<StoredDomain | null> {
    return this.read(this.pathOf(vmId));
  }

  async create(domain: StoredDomain): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    // Written aside, then linked: the name appears with its content, and never over another domain's.
    const aside = join(this.folder, `.${domain.vmId}.${process.pid}.${this.temporary++}`);
    await writeFile(aside, serialise(domain));
    try {
      await link(aside, this.pathOf(domain.vmId));
    } catch (error) {
      throw hasCode(error, "EEXIST") ? alreadyThere(domain.vmId) : error;
    } finally {
      await rm(aside, { force: true });
    }
  }

  async update(domain: StoredDomain): Promise<boolean> {
    const file = await open(this.pathOf(domain.vmId), "r+").catch((error: unknown) => {
      if (hasCode(error, "ENOENT")) return null;
      throw error;
    });
    if (file === null) return false;
    try {
      await file.write(serialise(domain), 0, FILE_BYTES, 0);
      // If the keeper deleted it meanwhile, the write went to a file without a name.
      return (await file.stat()).nlink > 0;
    } finally {
      await file.close();
    }
  }

  async remove(vmId: string): Promise<boolean> {
    try {
      await unlink(this.pathOf(vmId));
      return true;
    } catch (error) {
      if (hasCode(error, "ENOENT")) return false;
      throw error;
    }
  }

  watch(changed: () => void): () => void {
    try {
      const watcher = watch(this.folder, { persistent: false }, () => changed());
      watcher.on("error", (error) => this.log.warn("watching simulated domains failed; polling goes on", { reason: error.message }));
      return () => watcher.close();
    } catch (error) {
      this.log.debug("cannot watch simulated domains; polling goes on", { reason: error instanceof Error ? error.message : String(error) });
      return () => {};
    }
  }

  pathOf(vmId: string): string {
    return join(this.folder, `${vmId}${SUFFIX}`);
  }

  private async read(path: string): Promise<StoredDomain | null> {
    const text = await this.textOf(path);
    if (text === null) return null;
    try {
      return JSON.parse(text) as StoredDomain;
    } catch (error) {
      throw new RoostError({ kind: "damaged", what: `simulated domain file ${path}` }, "delete the file to end the domain", {
        cause: error,
      });
    }
  }

  /** null if there is no such file. */
  private async textOf(path: string): Promise<string | null> {
    const before = statSync(path, { throwIfNoEntry: false });
    if (before === undefined) return null;
    const known = this.known.get(path);
    if (known?.ino === before.ino && known.ctimeMs === before.ctimeMs) return known.text;
    const atMs = this.nowMs();
    try {
      const text = await readFile(path, "utf8");
      if (atMs - before.ctimeMs > SETTLED_MS) this.known.set(path, { ino: before.ino, ctimeMs: before.ctimeMs, text });
      return text;
    } catch (error) {
      if (hasCode(error, "ENOENT")) return null;
      throw error;
    }
  }
}

function serialise(domain: StoredDomain): Uint8Array {
  const bytes = Buffer.alloc(FILE_BYTES, " ");
  const text = Buffer.from(JSON.stringify(domain));
  if (text.length > FILE_BYTES) {
    throw new RoostError({ kind: "invalid", violations: [{ field: "name", message: "is too long for a simulated domain" }] });
  }
  text.copy(bytes);
  return bytes;
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
