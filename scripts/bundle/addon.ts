/**
 * Loads a native addon out of the single binary. Bundled in place of `classic-level/binding.js` (scripts/bundle/plugins.ts): the
 * dynamic linker needs a file, so the embedded addon is written once under its content's hash and opened from there.
 */
import { createHash } from "node:crypto";
import { chmodSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getAsset } from "node:sea";
import { threadId } from "node:worker_threads";
import { RoostError } from "../../src/base/errors.ts";

/** Opens the addon embedded as asset `name`; works on the main thread and in workers. */
export function loadAddon(name: string): unknown {
  const path = extractAddon(name, new Uint8Array(getAsset(name)), addonFolder(process.env));
  const module: { exports: unknown } = { exports: {} };
  try {
    process.dlopen(module, path);
  } catch (error) {
    throw addonError(path, error);
  }
  return module.exports;
}

/** Where addons are written: in the data folder when ROOST_DATA names it (the daemon sets it), else per user under the temporary folder. */
export function addonFolder(env: { readonly ROOST_DATA?: string | undefined }): string {
  if (env.ROOST_DATA !== undefined && env.ROOST_DATA !== "") return join(env.ROOST_DATA, "addons");
  return join(tmpdir(), `roost-addons-${userId()}`);
}

/**
 * Writes `content` into `folder` under a name made of its SHA-256 and returns the path. A file that is there already is used only when
 * its whole content hashes right (a size may match by chance or by intent). The folder must be ours alone, 0700 and no link, since
 * whoever may write there runs code as us; anything else is refused, not repaired.
 */
export function extractAddon(name: string, content: Uint8Array, folder: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const found = lstatSync(folder);
  if (!found.isDirectory() || found.uid !== userId() || (found.mode & 0o077) !== 0) {
    throw new RoostError(
      { kind: "precondition", reason: `${folder} must be a folder of user ${userId()} with mode 0700 to hold native code` },
      `remove it (rm -r ${folder}) and start again`,
    );
  }
  const hash = sha256(content);
  const path = join(folder, `${name.replace(/\.node$/, "")}-${hash}.node`);
  if (hashOf(path) === hash) return path;
  // Threads and processes may race here: each writes its own file and the rename is atomic, so every reader sees a whole addon.
  const temporary = `${path}.${process.pid}.${threadId}`;
  rmSync(temporary, { force: true });
  writeFileSync(temporary, content, { mode: 0o500, flag: "wx" });
  chmodSync(temporary, 0o500);
  if (hashOf(temporary) !== hash) throw new RoostError({ kind: "damaged", what: `${temporary}, just written,` }, "check the disk");
  renameSync(temporary, path);
  return path;
}

/** The linker's words, and for a noexec mount (the common cause) what to do. */
export function addonError(path: string, error: unknown): RoostError {
  const text = error instanceof Error ? error.message : String(error);
  const noexec = /failed to map segment|operation not permitted|permission denied/i.test(text);
  return new RoostError(
    { kind: "precondition", reason: `cannot load native code from ${path}: ${text}` },
    noexec
      ? "its file system seems to be mounted noexec: remount it with exec, or put the data folder (ROOST_DATA, --data) elsewhere"
      : undefined,
    { cause: error },
  );
}

function sha256(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

function hashOf(path: string): string | undefined {
  try {
    // A link could be swapped after the check.
    return lstatSync(path).isFile() ? sha256(readFileSync(path)) : undefined;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function userId(): number {
  return process.geteuid?.() ?? 0;
}
