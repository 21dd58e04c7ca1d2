/** roost audit … */
import type { Command } from "commander";
import { invalid } from "../../base/errors.ts";
import { formatGeneration, parseDuration } from "../../base/units.ts";
import type { AuditedRun__Output } from "../../gen/types/roost/v1/AuditedRun.ts";
import type { AuditRunsResponse__Output } from "../../gen/types/roost/v1/AuditRunsResponse.ts";
import { EXIT, Exit } from "../exit.ts";
import { type Io, paint } from "../io.ts";
import { printValue } from "../output.ts";
import { auditRow } from "../rows.ts";
import { withSession } from "../session.ts";
import { table } from "../table.ts";

export function addAuditCommands(program: Command, io: Io): void {
  program
    .command("audit")
    .description("what certainly happened, by the nodes' own records")
    .command("runs [vm...]")
    .description("where each VM ran and when; exit code 1 if any ran in two places at one time")
    .option("--from <time>", "only runs that touch what is after: 2026-11-20T14:00:00Z, or how long ago, 2h")
    .option("--to <time>", "and before")
    .action((vms: string[], options: { from?: string; to?: string }, command: Command) =>
      withSession(io, command, async (session) => {
        const fromMs = timeOf("--from", options.from, io.nowMs());
        const toMs = timeOf("--to", options.to, io.nowMs());
        const answer = await session.client.call("AuditService", "AuditRuns", { vms, fromMs, toMs }, session.limits);
        if (session.format === "json" || session.format === "yaml") await printValue(io, session.format, auditRow(answer));
        else io.out(auditText(io, answer));
        if (answer.overlaps > 0) throw new Exit(EXIT.failed);
      }),
    );
}

/** 0 for none said. */
function timeOf(option: string, text: string | undefined, nowMs: number): number {
  if (text === undefined) return 0;
  const ago = parseDuration(text);
  const atMs = ago.ok ? nowMs - ago.value : Date.parse(text);
  if (!Number.isFinite(atMs))
    throw invalid(option, `expected a time such as 2026-11-20T14:00:00Z, or a duration such as 2h, not ${JSON.stringify(text)}`);
  return Math.round(atMs);
}

/** `14:03:05.120`, with the date where it is another one than today's. */
function moment(ms: number, nowMs: number): string {
  const text = new Date(ms).toISOString();
  return text.slice(0, 10) === new Date(nowMs).toISOString().slice(0, 10) ? text.slice(11, 23) : text.slice(0, 23).replace("T", " ");
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(3)} s`;

function auditText(io: Io, answer: AuditRunsResponse__Output): string {
  const at = (ms: number): string => moment(ms, answer.nowMs);
  const named = (run: AuditedRun__Output | null): string =>
    run === null ? "?" : `${run.node} (generation ${formatGeneration(run.generation)})`;
  const rows = answer.vms.flatMap(({ vm, vmId, runs }) =>
    runs.map((run) => [
      vm === "" ? vmId : vm,
      run.node,
      formatGeneration(run.generation),
      at(run.fromMs),
      run.toMs === 0 ? "runs" : at(run.toMs),
      `±${Math.ceil(run.boundMs)} ms`,
      run.ended,
    ]),
  );
  const meetings = answer.vms.flatMap(({ vm, vmId, meetings: met }) =>
    met.map(({ kind, earlier, later, atLeastMs, atMostMs }) => {
      const pair = `${vm === "" ? vmId : vm}: ${named(earlier)} and ${named(later)}`;
      if (kind === "overlap") return paint(io, "red", `OVERLAP ${pair} both ran for ${seconds(atLeastMs)} or more`);
      if (kind === "by-claim")
        return `by its claim alone: ${pair}; nobody saw the first end, because its host went down: its claim was over before the second began`;
      return paint(io, "yellow", `unsure ${pair}: the records allow up to ${seconds(atMostMs)} in common`);
    }),
  );
  const clocks = answer.nodes.map(({ node, problem, offsetMs, offsetBoundMs, sinceMs }) => [
    node,
    problem === "" ? `${offsetMs.toFixed(1)} ms` : "",
    problem === "" ? `±${offsetBoundMs.toFixed(1)} ms` : "",
    problem !== "" ? `no answer: ${problem}` : sinceMs === 0 ? "no records" : `records since ${at(sinceMs)}`,
  ]);
  const verdict =
    answer.overlaps > 0
      ? paint(io, "red", `${answer.overlaps} ${answer.overlaps === 1 ? "overlap" : "overlaps"}`)
      : `${answer.unsure === 0 && answer.unknown.length === 0 ? "no overlap" : "no overlap in what is known"}${answer.unsure === 0 ? "" : `, ${answer.unsure} unsure`}`;
  return [
    table(["VM", "NODE", "GENERATION", "FROM", "TO", "BOUND", "ENDED"], rows),
    ...meetings.map((line) => `${line}\n`),
    "\n",
    table(["NODE", "CLOCK", "BOUND", "RECORDS"], clocks),
    ...answer.unknown.map((line) => `not known: ${line}\n`),
    `\n${verdict}; times are UTC by the clock of ${answer.node}\n`,
  ].join("");
}
