/** roost limits: how many jobs may run at the same time, who holds the slots and who waits (LIM-8). */
import type { Command } from "commander";
import type { ExplainLimitsResponse__Output } from "../../gen/types/roost/v1/ExplainLimitsResponse.ts";
import type { LimitHolder__Output } from "../../gen/types/roost/v1/LimitHolder.ts";
import type { LimitPool__Output } from "../../gen/types/roost/v1/LimitPool.ts";
import type { Io } from "../io.ts";
import { printList, printValue } from "../output.ts";
import { limitRow } from "../rows.ts";
import { withSession } from "../session.ts";
import { shortTime, taskLine } from "../task-text.ts";

/** Of a long list: so many are named. */
const NAMED = 4;

function names(holders: readonly LimitHolder__Output[]): string {
  const named = holders.slice(0, NAMED).map((holder) => `${holder.objectName} ${holder.job} (${holder.task})`);
  return [...named, ...(holders.length > NAMED ? [`${holders.length - NAMED} more`] : [])].join(", ");
}

export function poolName(pool: Pick<LimitPool__Output, "kind" | "connection" | "vdc">): string {
  return `${pool.kind} of ${pool.connection}${pool.vdc === "" ? "" : `, vdc ${pool.vdc}`}`;
}

export function addLimitCommands(program: Command, io: Io): void {
  const limits = program
    .command("limits")
    .description("how many jobs run at the same time: pools, who holds their slots, who waits")
    .option("--all", "pools that nobody uses, too")
    .action((options: { all?: boolean }, command: Command) =>
      withSession(io, command, async (session) => {
        const { pools } = await session.client.call("LimitService", "ListLimits", { consistency: session.consistency }, session.limits);
        const structured = session.format === "json" || session.format === "yaml";
        const shown = pools.filter((pool) => structured || options.all === true || pool.holders.length + pool.waiting.length > 0);
        await printList(
          io,
          session.format,
          shown,
          [
            { header: "POOL", cell: poolName },
            { header: "USED", cell: (pool) => `${pool.holders.length}/${pool.limit}`, right: true },
            { header: "WAITING", cell: (pool) => String(pool.waiting.length), right: true },
            { header: "HOLDERS", cell: (pool) => names(pool.holders) },
            { header: "NEXT", cell: (pool) => names(pool.waiting) },
            { header: "WHY", cell: (pool) => pool.why, wide: true },
          ],
          limitRow,
        );
        if (!structured && shown.length === 0) io.err("no slot is taken; roost limits --all shows every pool\n");
      }),
    );
  limits
    .command("explain <task>")
    .description("which slots a task takes, its place in the queue, who is before it, and how long it may take")
    .action((task: string, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const request = { task, consistency: session.consistency };
        const answer = await session.client.call("LimitService", "ExplainLimits", request, session.limits);
        if (session.format === "json" || session.format === "yaml") return printValue(io, session.format, explainRow(answer));
        io.out(explainText(io, answer));
      }),
    );
}

function explainRow({ task, jobs }: ExplainLimitsResponse__Output): object {
  return {
    task: task?.id ?? null,
    state: task?.state ?? null,
    jobs: jobs.map((job) => ({
      path: job.path,
      job: job.job,
      state: job.state,
      pool: job.pool === null ? null : limitRow(job.pool),
      place: job.place === 0 ? null : job.place,
      expectedMs: job.expectedMs < 0 ? null : job.expectedMs,
      why: job.why,
    })),
  };
}

function explainText(io: Io, { task, jobs }: ExplainLimitsResponse__Output): string {
  let text = task === null ? "" : `${task.id}  ${task.action} of ${task.objectName}: ${taskLine(io, task)}\n`;
  for (const job of jobs) {
    text += `\n${job.job}: ${job.state}; ${job.why}\n`;
    if (job.pool === null) continue;
    const { pool } = job;
    text += `  pool     ${poolName(pool)}: ${pool.holders.length} of ${pool.limit} slots taken (${pool.why})\n`;
    if (job.place > 0) {
      text += `  place    ${job.place} of ${pool.waiting.length}${job.expectedMs < 0 ? "" : `, in about ${shortTime(job.expectedMs)}`}\n`;
    }
    for (const holder of pool.holders) {
      text += `  holder   ${holder.objectName} ${holder.job} (${holder.task}, vdc ${holder.vdc}) for ${shortTime(io.nowMs() - holder.sinceMs)}\n`;
    }
    for (const before of pool.waiting.slice(0, Math.max(0, job.place - 1))) {
      text += `  before   ${before.objectName} ${before.job} (${before.task}, vdc ${before.vdc})\n`;
    }
  }
  return text;
}
