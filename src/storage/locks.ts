/**
 * Who has an image open, asked of QEMU's own image locks (HA-6). `qemu-img info` will not do: it never notices that a raw
 * image is being written. Looking takes some ms, changes no byte, and breaks no lock.
 */
import { RoostError } from "../base/errors.ts";
import { runTool, ToolError } from "./effects.ts";
import { isLockText } from "./faults.ts";

/** `writers`: fail if somebody writes to it; `anyone`: also if somebody only reads. */
export type Users = "writers" | "anyone";

/**
 * Throws `conflict` while another process uses the image at this path. Without qemu-io (package qemu-utils) nobody can tell
 * and nothing is thrown: QEMU's own locks still refuse a second writer at start.
 */
export async function refuseIfUsed(
  path: string,
  users: Users,
  options: { work: string; timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<void> {
  // QEMU's option syntax: a comma in a value is written twice.
  const filename = path.replaceAll(",", ",,");
  // To notice readers, ask to write. To notice writers, refuse to share writing; only the debug filter has an option for that.
  const args =
    users === "anyone"
      ? ["--image-opts", `driver=raw,file.driver=file,file.filename=${filename}`, "-c", "length"]
      : ["-r", "--image-opts", `driver=blkdebug,unshare-child-perms.0=write,image.driver=file,image.filename=${filename}`, "-c", "length"];
  try {
    await runTool("qemu-io", args, { what: `${options.work}: looking at its lock`, timeoutMs: options.timeoutMs, signal: options.signal });
  } catch (error) {
    if (error instanceof ToolError) {
      // Anything but a lock (no permission, read-only) is for the work that follows to report.
      if (!isLockText(error.stderr)) return;
      throw new RoostError(
        {
          kind: "conflict",
          reason: `${options.work}: ${path} is held: another process ${users === "writers" ? "writes to it" : "has it open"}`,
        },
        "stop what uses it; the lock goes when its process is gone, and is never broken by force",
        { cause: error },
      );
    }
    if (error instanceof RoostError && error.fault.kind === "unavailable" && options.signal?.aborted !== true) return;
    throw error;
  }
}
