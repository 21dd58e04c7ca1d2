/** Limits: the pools of slots, and why a task waits for one (LIM-8). */
import type { ServiceMethods } from "../../base/rpc.ts";
import { explainLimits, poolsOf } from "../../tasks/queue-view.ts";
import type { PoolView } from "../../tasks/queue-view.ts";
import type { LimitPool } from "../../gen/types/roost/v1/LimitPool.ts";
import { readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { toTask } from "../convert-task.ts";
import { findTask } from "./task.ts";

const KINDS: readonly PoolView["kind"][] = ["compute", "device", "backup"];

export const limitService: ServiceMethods<"LimitService", CallContext> = {
  async ListLimits(request, context) {
    const { view, info } = await readState(context, request.consistency);
    // By the names that people know, not by the ids in the keys.
    const nameOf = ({ kind, connection, vdc }: PoolView): string => [KINDS.indexOf(kind), connection, vdc].join("\n");
    const pools = poolsOf(view, context.nowMs()).toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
    return { pools: pools.map(toPool), read: info };
  },

  async ExplainLimits(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const task = findTask(view, request.task);
    const nowMs = context.nowMs();
    const jobs = explainLimits(view, task, nowMs).map((job) => ({ ...job, pool: job.pool === null ? null : toPool(job.pool) }));
    return { task: toTask(view, task, nowMs), jobs, read: info };
  },
};

function toPool(pool: PoolView): LimitPool {
  const toHolder = ({ taskId, ...holder }: PoolView["holders"][number]) => ({ task: taskId, ...holder });
  return { ...pool, holders: pool.holders.map(toHolder), waiting: pool.waiting.map(toHolder) };
}
