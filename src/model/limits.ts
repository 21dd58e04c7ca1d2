/**
 * How many operations run at the same time on one connection (LIM-1): a node's hypervisor or a cloud endpoint, a network device, a
 * backup manager. One place says which pool a job's slot is of and how large that is; the orchestrator, applying and `roost limits` read it.
 */
import { placeOf } from "./task-flow.ts";
import type { Job, Task } from "./task.ts";
import { JOBS, type PoolKind } from "./task-definitions.ts";
import { limitSetting } from "./limit-settings.ts";
import type { Node } from "./node.ts";
import { defaultSettings } from "./settings.ts";
import type { Cluster } from "./cluster.ts";

/** What a job needs to be sent. */
export interface Slot {
  /** `compute/NODE`, `device/NAME`, `backup/NAME`, with `/vdc/VDC` where the limit holds for each vdc, `/recovery` for recoveries. */
  key: string;
  /** Slots of the pool; null: none is waited for, it is only counted. */
  size: number | null;
  /** With `faststatechanges`: deploys between their configure and the end of their power-on, and how many of them there may be. */
  deploys: { key: string; size: number } | null;
}

/** Where a job of a pool goes. */
export interface Connection {
  pool: PoolKind;
  /** Of the node, device or manager. */
  id: string;
  driver: string;
  /** Sessions that its driver allows for; null: it does not say. */
  sessions: number | null;
  /** Its driver knows vdcs, so that a limit can hold for each of them (LIM-3). */
  vdcs: boolean;
  /** A recovery is to use it: those have slots of their own, because their budget is in seconds. */
  recovery?: true;
}

/** The connection that a job on that node needs, or null where the node has none of that name. */
export function connectionOf(task: Task, job: Job, node: Node): Connection | null {
  const { pool } = JOBS[job.name];
  if (pool === "compute") return task.action === "recover" ? { ...computeOf(node), vdcs: false, recovery: true } : computeOf(node);
  const found = node.info?.connections?.find((one) => one.pool === pool && one.name === task.connection);
  if (found === undefined) return null;
  // LIM-6: one endpoint, one pool.
  if (pool === "device" && node.info?.devices === true && found.driver === node.info.driver) return computeOf(node);
  return { pool, id: found.name, driver: found.driver, sessions: found.maxSessions, vdcs: found.vdcs };
}

export function computeOf(node: Node): Connection {
  const { info } = node;
  const sessions = info === null ? null : Math.min(info.maxSessions ?? info.cpus, info.cpus);
  return { pool: "compute", id: node.id, driver: info?.driver ?? "", sessions, vdcs: info?.vdcs === true };
}

/** The slot that a job holds from being sent to being answered; null: it takes none (LIM-4, LIM-5). */
export function slotOf(cluster: Cluster | null, task: Task, job: Job, connection: Connection): Slot | null {
  const { takes } = JOBS[job.name];
  if (takes === "none") return null;
  const { key, size, fast } = poolOf(cluster, connection, task.vdc);
  const deploys = `${key}/deploys`;
  const isDeploy = placeOf(task) !== undefined;
  if (takes === "state-change" && fast) return isDeploy && job.name === "power-on" ? { key: deploys, size: null, deploys: null } : null;
  // Each power-on follows its configure at once, so that deploys under way are bounded where they begin (LIM-7 e).
  return { key, size, deploys: fast && isDeploy ? { key: deploys, size: 2 * size } : null };
}

/** A connection's pool as a vdc sees it. */
export function poolOf(
  cluster: Cluster | null,
  connection: Connection,
  vdc: string,
): { key: string; size: number; byVdc: boolean; fast: boolean } {
  const { pool, id, driver, sessions, recovery } = connection;
  const byVdc = connection.vdcs && limitSetting(cluster, pool, driver, "byvdc") === "true";
  const wished =
    recovery === true ? (cluster?.settings ?? defaultSettings())["ha.openSession"] : Number(limitSetting(cluster, pool, driver, "size"));
  return {
    key: recovery === true ? `${pool}/${id}/recovery` : byVdc ? `${pool}/${id}/vdc/${vdc}` : `${pool}/${id}`,
    size: Math.max(1, Math.min(wished, sessions ?? wished)),
    byVdc,
    fast: pool === "compute" && limitSetting(cluster, pool, driver, "faststatechanges") === "true",
  };
}

/** True if the slot is free. @param used slots in use by key */
export function isFree(slot: Slot | null, used: (key: string) => number): boolean {
  if (slot === null || slot.size === null) return true;
  const taken = used(slot.key);
  return taken < slot.size && (slot.deploys === null || taken + used(slot.deploys.key) < slot.deploys.size);
}
