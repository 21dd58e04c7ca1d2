/**
 * Keeps package-lock.json complete. A registry that mirrors only what somebody asked for has no native parts for other platforms; npm
 * then leaves them out of the lock, and `npm ci` refuses that lock everywhere. Run after every `npm install`:
 *
 *   node scripts/tidy/lock.ts
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

interface LockEntry {
  version?: string;
  dev?: boolean;
  optionalDependencies?: Record<string, string>;
  [key: string]: unknown;
}

export interface Lock {
  packages: Record<string, LockEntry>;
  [key: string]: unknown;
}

interface Gap {
  name: string;
  version: string;
  dev: boolean;
}

/** Optional dependencies that a package of the lock names and the lock does not have. */
export function lockGaps(lock: Lock): Gap[] {
  const gaps = new Map<string, Gap>();
  for (const [path, entry] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      if (!isLocked(lock, path, name)) gaps.set(name, { name, version, dev: entry.dev === true });
    }
  }
  return [...gaps.values()];
}

/** Whether Node would find `name` from the package at `path` of the tree: beside it, or in a node_modules above. */
function isLocked(lock: Lock, path: string, name: string): boolean {
  for (let at = path; ; at = at.slice(0, Math.max(0, at.lastIndexOf("node_modules/") - 1))) {
    if (`${at === "" ? "" : `${at}/`}node_modules/${name}` in lock.packages) return true;
    if (at === "") return false;
  }
}

/** The lock with its gaps filled: `@oxlint/binding-linux-x64-musl` says for which system it is. No hash: none is ever fetched here. */
export function completeLock(lock: Lock): Lock {
  const added = lockGaps(lock).map(({ name, version, dev }): [string, LockEntry] => {
    const parts = (name.split("/").at(-1) ?? "").replace(/^binding-/, "").split("-");
    const [os, cpu, abi] = parts;
    if (os === undefined || cpu === undefined || !/^\d+\.\d+\.\d+$/.test(version))
      throw new Error(`cannot tell which system ${name}@${version} is for`);
    const libc = abi?.startsWith("musl") === true ? "musl" : abi?.startsWith("gnu") === true ? "glibc" : undefined;
    return [
      `node_modules/${name}`,
      { version, cpu: [cpu], ...(dev ? { dev } : {}), ...(libc === undefined ? {} : { libc: [libc] }), optional: true, os: [os] },
    ];
  });
  const packages = [...Object.entries(lock.packages), ...added].toSorted(([a], [b]) => a.localeCompare(b, "en"));
  return { ...lock, packages: Object.fromEntries(packages) };
}

if (import.meta.main) {
  const file = join(import.meta.dirname, "..", "..", "package-lock.json");
  const lock = JSON.parse(readFileSync(file, "utf8")) as Lock;
  const gaps = lockGaps(lock);
  if (gaps.length > 0) writeFileSync(file, `${JSON.stringify(completeLock(lock), null, 2)}\n`);
  process.stdout.write(`package-lock.json: ${gaps.length} native parts for other platforms added\n`);
}
