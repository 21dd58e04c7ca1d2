/** The pools of slots as people see them (LIM-8): who holds what, who waits in which order, and for about how long. Pure. */
import { limitKey } from "../model/limit-settings.ts";
import { computeOf, connectionOf, isFree, poolOf, slotOf, type Connection } from "../model/limits.ts";
import { JOBS } from "../model/task-definitions.ts";
import { jobAt, placeOf } from "../model/task-flow.ts";
import { targetOf } from "../model/task-target.ts";
import { FINISHED, isSent, type Job, type Task } from "../model/task.ts";
import type { View } from "../model/view.ts";
import { candidates, inOrder, Turns, type Candidate } from "./orchestrate.ts";

export interface PoolView {
  key: string;
  kind: "compute" | "device" | "backup";
  /** Name of the node, or of the device or backup manager. */
  connection: string;
  /** Empty: of the connection as a whole. */
  vdc: string;
  limit: number;
  /** Which setting says so, or that the driver has no more. */
  why: string;
  holders: HolderView[];
  /** In the order in which they get their turn. */
  waiting: HolderView[];
}

export interface HolderView {
  taskId: string;
  path: string;
  job: string;
  objectName: string;
  vdc: string;
  /** Since when it holds the slot, or waits for one, wall clock ms. */
  sinceMs: number;
}

export interface JobLimit {
  path: string;
  job: string;
  state: string;
  /** null: it takes no slot, or it is not known yet of which pool; `why` says. */
  pool: PoolView | null;
  /** From 1; 0: it does not wait for a slot. */
  place: number;
  /** How long until its turn, judged by the jobs before; -1: nothing to go by. */
  expectedMs: number;
  why: string;
}

/** Every node's pool, those of devices and managers, and with `byvdc` those that somebody uses; in order of their keys. */
export function poolsOf(view: View, atMs: number): PoolView[] {
  const pools = new Map<string, PoolView>();
  const add = (connection: Connection, vdc: string): PoolView => {
    const made = poolView(view, connection, vdc);
    const known = pools.get(made.key) ?? made;
    pools.set(made.key, known);
    return known;
  };
  for (const node of view.nodes.values()) {
    if (node.info === null || node.state === "removed") continue;
    const connections = [
      computeOf(node),
      ...(node.info.connections ?? []).map((one) => ({ ...one, id: one.name, sessions: one.maxSessions })),
    ];
    for (const connection of connections) if (!poolOf(view.cluster, connection, "").byVdc) add(connection, "");
  }
  for (const ids of view.tasksByNode.values()) {
    for (const id of ids) {
      const task = view.tasks.get(id);
      for (const job of task?.jobs ?? []) {
        const node = view.nodes.get(job.nodeId ?? "");
        const connection = task === undefined || node === undefined ? null : connectionOf(task, job, node);
        if (task === undefined || connection === null || !isSent(job) || job.slot === null) continue;
        const pool = add(connection, task.vdc);
        // A power-on under faststatechanges waits for nobody, but its deploy counts (LIM-7 e).
        const known = pool.holders.some((holder) => holder.taskId === task.id && holder.path === job.path);
        if (!known) pool.holders.push({ ...holderOf(task, job), sinceMs: job.sentAtMs ?? atMs });
      }
    }
  }
  const waiting = new Map<PoolView, Candidate[]>();
  for (const candidate of candidates(view, atMs)) {
    if (candidate.slot === null || candidate.slot.size === null) continue;
    const node = view.nodes.get(candidate.send.nodeId);
    const connection = node === undefined ? null : connectionOf(candidate.task, candidate.job, node);
    if (connection === null) continue;
    const pool = add(connection, candidate.task.vdc);
    waiting.set(pool, [...(waiting.get(pool) ?? []), candidate]);
  }
  for (const [pool, list] of waiting) {
    const turns = turnsFrom(pool);
    for (const { task, job } of inOrder(list, pool.key, turns)) {
      pool.waiting.push({ ...holderOf(task, job), sinceMs: waitsSince(task, job) });
      turns.served(pool.key, task.vdc);
    }
  }
  for (const pool of pools.values()) pool.holders.sort((a, b) => a.sinceMs - b.sinceMs || (a.taskId < b.taskId ? -1 : 1));
  return [...pools.values()].toSorted((a, b) => (a.key < b.key ? -1 : 1));
}

/** Why each job of a task waits, or does not. */
export function explainLimits(view: View, task: Task, atMs: number): JobLimit[] {
  const pools = poolsOf(view, atMs);
  return task.jobs.map((job) => {
    const base = { path: job.path, job: job.name, state: job.state, pool: null, place: 0, expectedMs: -1 };
    if (JOBS[job.name].takes === "none") return { ...base, why: "it takes no slot" };
    const vm = view.vms.get(task.object.id);
    const target = vm === undefined ? null : targetOf(vm, task, job);
    const node = view.nodes.get(target?.nodeId ?? "") ?? view.nodes.get(job.nodeId ?? "");
    if (FINISHED.has(task.state)) return { ...base, why: `the task is ${task.state}` };
    if (node === undefined) return { ...base, why: "which node, and so which pool, is known once it has a place" };
    const connection = connectionOf(task, job, node);
    if (connection === null) return { ...base, why: `${node.name} has no ${JOBS[job.name].pool} ${task.connection ?? ""}` };
    const slot = slotOf(view.cluster, task, job, connection);
    if (slot === null || slot.size === null) return { ...base, why: "openSession.faststatechanges: it waits for no slot" };
    const pool = pools.find(({ key }) => key === slot.key) ?? poolView(view, connection, task.vdc);
    if (isSent(job)) return { ...base, pool, why: "it holds a slot" };
    const place = pool.waiting.findIndex((one) => one.taskId === task.id && one.path === job.path) + 1;
    if (place === 0) return { ...base, pool, why: "its turn in the task has not come" };
    const free = isFree(slot, (key) => view.slots.get(key) ?? 0);
    const meanMs = meanOf(view, job, node.id);
    const expectedMs = free ? 0 : meanMs === null ? -1 : Math.round((meanMs * place) / pool.limit);
    return {
      ...base,
      pool,
      place,
      expectedMs,
      why: free ? "a slot is free: it is about to be sent" : `${pool.holders.length} of ${pool.limit} slots are taken`,
    };
  });
}

function poolView(view: View, connection: Connection, vdc: string): PoolView {
  const { key, size, byVdc } = poolOf(view.cluster, connection, vdc);
  const { pool, id, driver, sessions, recovery } = connection;
  const base = recovery === true ? "ha.openSession" : pool === "compute" ? "openSession" : `${pool}.openSession`;
  const own = `${driver}.${base}`;
  const setting = recovery !== true && view.cluster?.limits?.[own] !== undefined && limitKey(own) !== null ? own : base;
  const wished = Number(view.cluster?.limits?.[own] ?? view.cluster?.settings[base as "openSession"] ?? size);
  const capped = sessions !== null && sessions < wished;
  const name = pool === "compute" ? (view.nodes.get(id)?.name ?? id) : id;
  const why = capped
    ? `the driver ${driver} allows for ${sessions} (${setting} is ${wished})`
    : `${setting}${byVdc ? ", for each vdc" : recovery === true ? ", for recoveries" : ""}`;
  return { key, kind: pool, connection: name, vdc: byVdc ? vdc : "", limit: size, why, holders: [], waiting: [] };
}

function holderOf(task: Task, job: Job): Omit<HolderView, "sinceMs"> {
  return { taskId: task.id, path: job.path, job: job.name, objectName: task.object.name, vdc: task.vdc };
}

function waitsSince(task: Task, job: Job): number {
  const ends = job.after.map((path) => jobAt(task, path)?.endedAtMs ?? 0);
  return Math.max(task.createdAtMs, placeOf(task)?.endedAtMs ?? 0, job.endedAtMs ?? 0, ...ends);
}

/** Who was served last, as far as it can be seen: by those that hold slots now. */
function turnsFrom(pool: PoolView): Turns {
  const turns = new Turns();
  for (const { vdc } of pool.holders.toSorted((a, b) => a.sinceMs - b.sinceMs)) turns.served(pool.key, vdc);
  return turns;
}

/** How long such jobs took on that node of late, ms; null: none is known. */
function meanOf(view: View, { name }: Job, nodeId: string): number | null {
  let [sum, count] = [0, 0];
  for (const task of view.tasks.values()) {
    for (const job of task.jobs) {
      if (job.name !== name || job.nodeId !== nodeId || job.state !== "done" || job.sentAtMs === null || job.endedAtMs === null) continue;
      sum += job.endedAtMs - job.sentAtMs;
      count += 1;
    }
  }
  return count === 0 ? null : sum / count;
}
