/** File writing that survives a crash at any point: whole or not at all, and never over another file. */
import { link, open, readdir, stat, unlink } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { errorCode } from "./faults.ts";

const TEMP_PREFIX = ".roost-tmp.";
/** Unfinished files that this process works on now; everything else of this node is left over from a crash. */
const active = new Set<string>();

/** A new empty file of this node in the folder, readable by its owner only. Give it back with `dropTemp`. */
export async function makeTemp(folder: string, nodeId: string): Promise<string> {
  const path = join(folder, `${TEMP_PREFIX}${nodeId}.${randomBytes(8).toString("hex")}`);
  active.add(path);
  try {
    await (await open(path, "wx", 0o600)).close();
  } catch (error) {
    active.delete(path);
    throw error;
  }
  return path;
}

export async function dropTemp(path: string): Promise<void> {
  try {
    await unlinkIfThere(path);
  } finally {
    active.delete(path);
  }
}

/** Removes what a killed process of this node left unfinished. Other nodes' files may be in work: left alone. */
export async function sweepTemps(folder: string, nodeId: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (!name.startsWith(`${TEMP_PREFIX}${nodeId}.`) || active.has(path)) continue;
    await unlinkIfThere(path);
  }
}

/**
 * Gives a finished temporary file its name, durably; false if the name is taken. A link and not a rename, because a
 * rename would replace the file of a node that was faster.
 */
export async function publish(temp: string, path: string, folder: string): Promise<boolean> {
  await syncPath(temp);
  try {
    await link(temp, path);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    // NFS may repeat a link whose answer was lost, and then reports its own success as EEXIST: same inode, ours.
    const [ours, theirs] = await Promise.all([stat(temp), stat(path)]);
    if (ours.ino !== theirs.ino || ours.dev !== theirs.dev) return false;
  }
  await syncPath(folder);
  return true;
}

/** Makes the bytes of a file, or the names in a folder, durable. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a small new file, whole or not at all; false if one of that name is there. */
export async function writeNew(folder: string, name: string, text: string, nodeId: string): Promise<boolean> {
  const temp = await makeTemp(folder, nodeId);
  try {
    const handle = await open(temp, "r+");
    try {
      await handle.writeFile(text);
    } finally {
      await handle.close();
    }
    return await publish(temp, join(folder, name), folder);
  } finally {
    await dropTemp(temp);
  }
}

/** False if it was not there. */
export async function unlinkIfThere(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    throw error;
  }
}
