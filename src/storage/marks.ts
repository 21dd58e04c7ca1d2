/**
 * Generations marked beside volumes (HA-6): files `OWNER.generation-N`, one for each generation. A file a generation instead of one
 * that is rewritten, because then no lock is needed: each node first adds its own mark and then looks. Of two nodes that
 * do so at once, at least the lower one sees the higher and gives up, whichever way the steps fall.
 */
import { open, readdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { RoostError } from "../base/errors.ts";
import { dropTemp, makeTemp, syncPath, unlinkIfThere, writeNew } from "./files.ts";
import { errorCode } from "./faults.ts";
import type { Mark, VolumeRecord } from "./pool.ts";

export interface MarkFolder {
  folder: string;
  poolName: string;
  nodeId: string;
}

interface MarkFile {
  nodeId: string;
  volumes: string[];
  making: string[];
}

/** Adds this node's mark; throws `conflict` if the node is stale. Keeps one generation back, for messages. */
export async function addMark(at: MarkFolder, owner: string, generation: number): Promise<Mark> {
  const before = (await generations(at, owner)).filter((n) => n !== generation);
  refuseIfStale(at, owner, generation, before);
  const below = before.at(-1);
  const last = below === undefined ? null : await readMark(at, owner, below);
  const fresh: MarkFile = { nodeId: at.nodeId, volumes: last?.volumes ?? [], making: [] };
  await writeNew(at.folder, markName(owner, generation), JSON.stringify(fresh), at.nodeId);

  const all = await generations(at, owner);
  refuseIfStale(at, owner, generation, all);
  const own = await readMark(at, owner, generation);
  if (own === null) throw stale(`the mark of generation ${generation} of ${owner} was taken away`);
  if (own.nodeId !== at.nodeId)
    throw stale(`generation ${generation} of ${owner} is marked by node ${own.nodeId} in pool ${JSON.stringify(at.poolName)}`);
  for (const old of all) {
    if (below !== undefined && old < below) await unlinkIfThere(join(at.folder, markName(owner, old)));
  }
  return {
    owner,
    generation,
    nodeId: at.nodeId,
    volumes: [...new Set([...own.volumes, ...(last?.volumes ?? [])])],
    making: own.making,
    previous: below === undefined || last === null ? null : { generation: below, nodeId: last.nodeId },
  };
}

/** Throws `conflict` if a higher generation is marked; with `own` also if this one is not. */
export async function checkMark(at: MarkFolder, owner: string, generation: number, need: "own" | "none above"): Promise<void> {
  const all = await generations(at, owner);
  refuseIfStale(at, owner, generation, all);
  if (need === "own" && !all.includes(generation))
    throw stale(`generation ${generation} of ${owner} is no longer marked in pool ${JSON.stringify(at.poolName)}`);
}

/** The mark as it stands; null if there is none. */
export async function lookAtMark(at: MarkFolder, owner: string, generation: number): Promise<Mark | null> {
  const own = await readMark(at, owner, generation);
  if (own === null) return null;
  const below = (await generations(at, owner)).findLast((n) => n < generation);
  const last = below === undefined ? null : await readMark(at, owner, below);
  return { owner, generation, ...own, previous: below === undefined || last === null ? null : { generation: below, nodeId: last.nodeId } };
}

/** Replaces the lists in this node's own mark; nobody else writes that file. */
export async function recordVolumes(at: MarkFolder, owner: string, generation: number, { volumes, making }: VolumeRecord): Promise<void> {
  await checkMark(at, owner, generation, "own");
  const now = await readMark(at, owner, generation);
  if (now !== null && sameList(now.volumes, volumes) && sameList(now.making, making)) return;
  const temp = await makeTemp(at.folder, at.nodeId);
  try {
    const handle = await open(temp, "r+");
    try {
      await handle.writeFile(JSON.stringify({ nodeId: at.nodeId, volumes: [...volumes], making: [...making] } satisfies MarkFile));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temp, join(at.folder, markName(owner, generation)));
    await syncPath(at.folder);
  } finally {
    await dropTemp(temp);
  }
}

/** Removes the owner's marks up to this generation; throws `conflict` if there is a higher one. */
export async function removeMarks(at: MarkFolder, owner: string, generation: number): Promise<void> {
  const all = await generations(at, owner);
  refuseIfStale(at, owner, generation, all);
  for (const n of all) await unlinkIfThere(join(at.folder, markName(owner, n)));
  if (all.length > 0) await syncPath(at.folder);
}

function markName(owner: string, generation: number): string {
  return `${owner}.generation-${generation}`;
}

/** True for the file names of marks, which are no volumes. */
export function isMarkName(name: string): boolean {
  return /\.generation-\d+$/.test(name);
}

/** Ascending. */
async function generations(at: MarkFolder, owner: string): Promise<number[]> {
  const prefix = `${owner}.generation-`;
  const found: number[] = [];
  for (const name of await readdir(at.folder)) {
    if (!name.startsWith(prefix)) continue;
    const text = name.slice(prefix.length);
    if (/^\d{1,16}$/.test(text)) found.push(Number(text));
  }
  return found.sort((a, b) => a - b);
}

async function readMark(at: MarkFolder, owner: string, generation: number): Promise<MarkFile | null> {
  const path = join(at.folder, markName(owner, generation));
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
  const parsed = parseMark(text);
  if (parsed === null)
    throw new RoostError({ kind: "damaged", what: `the generation mark ${path}` }, "look who runs the VM; then remove the file by hand");
  return parsed;
}

function parseMark(text: string): MarkFile | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || !("nodeId" in value) || !("volumes" in value) || !("making" in value)) return null;
  const { nodeId, volumes, making } = value;
  return typeof nodeId === "string" && areNames(volumes) && areNames(making) ? { nodeId, volumes, making } : null;
}

function areNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === "string");
}

function refuseIfStale(at: MarkFolder, owner: string, generation: number, all: readonly number[]): void {
  const highest = all.at(-1);
  if (highest === undefined || highest <= generation) return;
  throw stale(
    `generation ${highest} of ${owner} is marked in pool ${JSON.stringify(at.poolName)}; this node still works on generation ${generation}`,
  );
}

function stale(reason: string): RoostError {
  return new RoostError({ kind: "conflict", reason }, "the VM has been placed again since; this node's claim on it is void");
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}
