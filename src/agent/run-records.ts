/**
 * What a node writes down of its VMs' runs, and how runs are read back from it. Agent and keeper each append to a file of their own:
 * each sees ends that the other may miss.
 */
import type { NodeRun, NodeRuns } from "../model/run.ts";

/** A moment on one node. Durations and order within a boot go by `bootMs`; the wall clock serves where the boot is another one. */
export interface Stamp {
  bootId: string;
  /** CLOCK_BOOTTIME. */
  bootMs: number;
  wallMs: number;
}

export type RunRecord = Stamp &
  (
    | { op: "agent" }
    /** The guest is about to execute; on the disk before it does. */
    | { op: "begin"; vmId: string; generation: number }
    /** It was seen running. */
    | { op: "runs"; vmId: string; generation: number }
    /** It executes nothing until it is seen again. */
    | { op: "paused"; vmId: string; generation: number }
    /** It was seen gone; `seenMs`: last seen running, by the same clock as bootMs. */
    | { op: "end"; vmId: string; generation: number; how: string; seenMs?: number }
    | { op: "lost"; count: number }
  );

/** A line of a file, or null for one that was cut short. */
export function parseRecord(line: string): RunRecord | null {
  try {
    const value = JSON.parse(line) as RunRecord;
    return typeof value.op === "string" &&
      typeof value.bootId === "string" &&
      Number.isFinite(value.bootMs) &&
      Number.isFinite(value.wallMs)
      ? value
      : null;
  } catch {
    return null;
  }
}

/** /proc/uptime counts in hundredths of a second, rounded down: what has ended may have run that much longer. */
const TICK_MS = 10;

interface Building {
  vmId: string;
  generation: number;
  from: Stamp;
  sawBegin: boolean;
  sureFrom: Stamp | null;
  sureTo: Stamp | null;
  paused: Stamp | null;
  ends: { at: Stamp; how: string; pausedAt: Stamp | null }[];
}

/**
 * The runs in a node's records. `files`: each in the order written. `sightings`: when the living agent last saw what runs, bootMs by
 * `VM generation`. A generation runs once on a node, if at all.
 */
export function runsOf(files: readonly (readonly RunRecord[])[], now: Stamp, sightings: ReadonlyMap<string, number>): NodeRuns {
  const all = files.flat().toSorted(byTime);
  const building = new Map<string, Building>();
  let lost = 0;
  for (const record of all) {
    if (record.op === "lost") lost += record.count;
    if (record.op === "lost" || record.op === "agent") continue;
    take(building, record);
  }
  const boots = firstOfBoots(all);
  const wallOf = (stamp: Stamp): number => (stamp.bootId === now.bootId ? now.wallMs - (now.bootMs - stamp.bootMs) : stamp.wallMs);
  const runs = [...building.values()].map((one): NodeRun => {
    const seen = sightings.get(`${one.vmId} ${one.generation}`);
    if (seen !== undefined && one.from.bootId === now.bootId) saw(one, { ...now, bootMs: seen, wallMs: now.wallMs - (now.bootMs - seen) });
    const sureTo = one.sureTo ?? one.from;
    // Who still saw it running later was right: an end before that was none.
    const end = one.ends.find(({ at }) => byTime(at, sureTo) >= 0);
    const { vmId, generation, sawBegin } = one;
    const base = { vmId, generation, sawBegin, fromMs: wallOf(one.from), sureFromMs: wallOf(one.sureFrom ?? one.from) };
    const sureToMs = wallOf(sureTo);
    if (end !== undefined)
      return { ...base, sureToMs, toMs: wallOf(end.pausedAt ?? end.at) + TICK_MS, ended: end.how, hostWentDown: false };
    if (one.from.bootId === now.bootId) return { ...base, sureToMs, toMs: null, ended: "", hostWentDown: false };
    const next = boots[boots.findIndex((boot) => boot.bootId === one.from.bootId) + 1] ?? now;
    return { ...base, sureToMs, toMs: wallOf(next), ended: "its host went down", hostWentDown: true };
  });
  return { runs, sinceMs: all[0] === undefined ? 0 : wallOf(all[0]), lost };
}

function take(building: Map<string, Building>, record: RunRecord & { vmId: string; generation: number }): void {
  const { vmId, generation } = record;
  const key = `${vmId} ${generation}`;
  let one = building.get(key);
  if (one === undefined) {
    // The end of what never ran, or of what the records have forgotten.
    if (record.op === "end" || record.op === "paused") return;
    building.set(
      key,
      (one = { vmId, generation, from: record, sawBegin: record.op === "begin", sureFrom: null, sureTo: null, paused: null, ends: [] }),
    );
  }
  if (record.op === "begin") one.paused = null;
  else if (record.op === "runs") {
    one.paused = null;
    saw(one, record);
  } else if (record.op === "paused") one.paused ??= record;
  else if (record.op === "end") {
    if (record.seenMs !== undefined)
      saw(one, { ...record, bootMs: record.seenMs, wallMs: record.wallMs - (record.bootMs - record.seenMs) });
    one.ends.push({ at: record, how: record.how, pausedAt: one.paused });
  }
}

function saw(one: Building, at: Stamp): void {
  if (one.sureFrom === null || byTime(at, one.sureFrom) < 0) one.sureFrom = at;
  if (one.sureTo === null || byTime(at, one.sureTo) > 0) one.sureTo = at;
}

/** Within a boot by its clock; boots by the wall clock. */
function byTime(a: Stamp, b: Stamp): number {
  return a.bootId === b.bootId ? a.bootMs - b.bootMs : a.wallMs - b.wallMs;
}

function firstOfBoots(sorted: readonly Stamp[]): Stamp[] {
  const first = new Map<string, Stamp>();
  for (const stamp of sorted) if (!first.has(stamp.bootId)) first.set(stamp.bootId, stamp);
  return [...first.values()];
}
