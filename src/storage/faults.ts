/** What goes wrong with files and image tools, in words that say where and what to do. */
import { asRoostError, RoostError } from "../base/errors.ts";
import type { Pool } from "../model/pool.ts";
import { ToolError } from "./effects.ts";

/** Any error of work in a pool as a RoostError that names pool, path and work; RoostErrors pass unchanged. */
export function explain(thrown: unknown, pool: Pool, work: string): RoostError {
  if (thrown instanceof RoostError) return thrown;
  const where = `pool ${JSON.stringify(pool.name)} (${pool.path})`;
  const say = (kind: "exhausted" | "unavailable" | "conflict" | "denied", what: string, hint: string): RoostError =>
    new RoostError({ kind, reason: `${work}: ${where} ${what}` }, hint, { cause: thrown });

  switch (causeOf(thrown)) {
    case "full":
      return say("exhausted", "is full", "free space there, delete volumes that are not needed, or use another pool");
    case "read-only":
      return say(
        "unavailable",
        "is mounted read-only",
        "mount it writable; after disk errors a file system turns read-only by itself: look into dmesg",
      );
    case "permission":
      return say("denied", "does not let the agent write", "run the agent as root, or give its user the folder (on NFS: no_root_squash)");
    case "stale":
      return say("unavailable", "has lost its mount or its disk", "mount it again; look into dmesg");
    case "locked":
      return say(
        "conflict",
        "holds it open elsewhere: another process writes to it",
        "stop what uses it; the lock goes when its process is gone",
      );
    case "other":
      break;
  }
  if (thrown instanceof ToolError)
    return new RoostError({ kind: "internal", reason: `${work}: ${where}: ${thrown.message}` }, undefined, { cause: thrown });
  const plain = asRoostError(thrown);
  return new RoostError({ kind: "internal", reason: `${work}: ${where}: ${plain.message}` }, undefined, { cause: thrown });
}

type Cause = "full" | "read-only" | "permission" | "stale" | "locked" | "other";

function causeOf(thrown: unknown): Cause {
  if (thrown instanceof ToolError) {
    if (isLockText(thrown.stderr)) return "locked";
    if (/No space left on device|Disk quota exceeded/.test(thrown.stderr)) return "full";
    if (/Read-only file system/.test(thrown.stderr)) return "read-only";
    if (/Permission denied|Operation not permitted/.test(thrown.stderr)) return "permission";
    if (/Stale file handle|Input\/output error|Transport endpoint/.test(thrown.stderr)) return "stale";
    return "other";
  }
  switch (errorCode(thrown)) {
    case "ENOSPC":
    case "EDQUOT":
      return "full";
    case "EROFS":
      return "read-only";
    case "EACCES":
    case "EPERM":
      return "permission";
    case "ESTALE":
    case "EIO":
    case "ENOTCONN":
      return "stale";
    default:
      return "other";
  }
}

/** True for what qemu-img says about an image that another process has open for writing. */
export function isLockText(text: string): boolean {
  return /Failed to get (shared )?"[a-z ]+" lock/.test(text);
}

/** The `code` of a Node error, else "". */
export function errorCode(thrown: unknown): string {
  return thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : "";
}
