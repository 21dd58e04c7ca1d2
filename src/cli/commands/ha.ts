/** roost ha … */
import type { Command } from "commander";
import { invalid } from "../../base/errors.ts";
import type { Failover__Output } from "../../gen/types/roost/v1/Failover.ts";
import type { GetHaResponse__Output } from "../../gen/types/roost/v1/GetHaResponse.ts";
import type { HaForecast__Output } from "../../gen/types/roost/v1/HaForecast.ts";
import { paint } from "../io.ts";
import type { Colour, Io } from "../io.ts";
import { printValue } from "../output.ts";
import { failoverRow, forecastRow, haRow } from "../rows.ts";
import { withSession } from "../session.ts";
import { facts, table } from "../table.ts";
import { timeline } from "../timeline.ts";

const COLOURS: Record<string, Colour> = { protected: "green", unproven: "yellow", overcommitted: "red" };
const SHOWN = 10;

export function addHaCommands(program: Command, io: Io): void {
  const ha = program.command("ha").description("what the cluster survives, and failovers");
  addShow(ha, io);
  addForecast(ha, io);
}

function addShow(ha: Command, io: Io): void {
  ha.command("show [vm...]")
    .description("what may fail now, who waits for what, and time lines of failovers")
    .option("--tolerate <n>", "ask for the loss of any so many nodes (default: ha.tolerate, or 1)")
    .option("--zones", "and of any whole zone")
    .option("--disable <nodes>", "as if nothing could be placed on these nodes, separated by commas")
    .addHelpText(
      "after",
      "\nExamples:\n  roost ha show\n  roost ha show web\n  roost ha show --tolerate 2\n  roost ha show --disable n3    before `roost node disable n3`\n",
    )
    .action((names: string[], options: { tolerate?: string; zones?: boolean; disable?: string }, command: Command) =>
      withSession(io, command, async (session) => {
        const nodes = options.tolerate === undefined ? {} : { nodes: wholeNumber("--tolerate", options.tolerate) };
        const zones = options.zones === undefined ? {} : { zones: options.zones };
        const request = { ...nodes, ...zones, disabled: listOf(options.disable), consistency: session.consistency };
        const answer = await session.client.call("HaService", "GetHa", request, session.limits);
        const shown = answer.failovers.filter(
          (failover) => names.length === 0 || names.includes(failover.vmName) || names.includes(failover.vmId),
        );
        if (session.format === "json" || session.format === "yaml")
          return printValue(io, session.format, { ...haRow(answer), failovers: shown.map(failoverRow) });
        io.out(names.length === 0 ? statusText(io, answer) : "");
        io.out(failoversText(io, shown, names.length === 0));
      }),
    );
}

function addForecast(ha: Command, io: Io): void {
  ha.command("forecast [node...]")
    .description("if a node died now: which VMs recover where, which do not and why, and when; changes nothing")
    .option("--kill <nodes>", "these nodes at the same time, separated by commas")
    .option("--zone <zone>", "a whole zone")
    .addHelpText("after", "\nExamples:\n  roost ha forecast\n  roost ha forecast n1\n  roost ha forecast --kill n1,n2 -o json\n")
    .action((names: string[], options: { kill?: string; zone?: string }, command: Command) =>
      withSession(io, command, async (session) => {
        const kill = listOf(options.kill);
        if (kill.length > 0 && names.length > 0) throw invalid("--kill", "goes without other nodes");
        const request = {
          nodes: kill.length > 0 ? kill : names,
          together: kill.length > 0,
          zone: options.zone ?? "",
          consistency: session.consistency,
        };
        const { forecasts } = await session.client.call("HaService", "ForecastHa", request, session.limits);
        if (session.format === "json" || session.format === "yaml") return printValue(io, session.format, forecasts.map(forecastRow));
        const isOverview = names.length === 0 && kill.length === 0 && options.zone === undefined && session.format !== "wide";
        io.out(isOverview ? overview(forecasts) : forecasts.map((one) => forecastText(io, one)).join("\n"));
      }),
    );
}

function listOf(text: string | undefined): string[] {
  return (text ?? "").split(",").filter((word) => word !== "");
}

function wholeNumber(option: string, text: string): number {
  if (!/^\d$/.test(text)) throw invalid(option, `expected 0 to 3, not ${JSON.stringify(text)}`);
  return Number(text);
}

function statusText(io: Io, answer: GetHaResponse__Output): string {
  const { verdict, nodes, zones, tolerate, tolerateZones, impossible, open, openCount, vmsUnderHa } = answer;
  const goal = [...(nodes > 0 ? [`any ${nodes === 1 ? "node" : `${nodes} nodes`}`] : []), ...(zones ? ["any zone"] : [])].join(" or ");
  const kept = tolerate > 0 || tolerateZones ? "" : "; told only: ha.tolerate is 0, so nothing waits for it";
  const says: Record<string, string> = {
    protected:
      vmsUnderHa === 0
        ? "protected: no VM runs under HA"
        : `protected: after the loss of ${goal} each of ${vmsUnderHa} VMs under HA has a place: proven, and the proof checked`,
    overcommitted: `overcommitted: the loss of ${goal} is not survived`,
    unproven: `unproven: for ${openCount} losses nothing was shown, such as that of ${open.join("; ")}`,
  };
  const rest = answer.votersMayFail === 0 ? "if one more fails, nothing can be recovered" : `${answer.votersMayFail} more may fail`;
  const silent = answer.votersSilent === 0 ? "" : `, ${answer.votersSilent} silent`;
  const lines = facts([
    ["HA", `${paint(io, COLOURS[verdict] ?? "red", says[verdict] ?? verdict)}${kept}`],
    ...impossible.slice(0, SHOWN).map((one): [string, string] => ["Not survived", one.text]),
    ["Voters", `${answer.voters}${silent}; ${rest}`],
    ["Witness", answer.witnesses.join(", ")],
  ]);
  const many = (count: number): string => (count > SHOWN ? `  … and ${count - SHOWN} more: -o json\n` : "");
  const list = <T>(title: string, rows: readonly T[], line: (row: T) => string): string =>
    rows.length === 0
      ? ""
      : `${title}\n${rows
          .slice(0, SHOWN)
          .map((row) => `  ${line(row)}\n`)
          .join("")}${many(rows.length)}`;
  return (
    lines +
    list("No recovery by time alone:", answer.withoutExpiry, ({ node, why }) => `${node}: ${why}`) +
    list("Under HA, and lost with their node:", answer.unrecoverable, ({ vm, why }) => `${vm}: ${why}`) +
    list("Waiting:", answer.waits, ({ name, text }) => `${name}: ${text}`)
  );
}

function failoversText(io: Io, failovers: readonly Failover__Output[], isBelow: boolean): string {
  if (failovers.length === 0) return isBelow ? "" : "no failover so far\n";
  return `${isBelow ? "\n" : ""}${failovers.map((failover) => timeline(io, failover)).join("\n")}`;
}

function lossText({ lost, zone }: HaForecast__Output): string {
  return zone === "" ? lost.join(", ") : `zone ${zone}`;
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)}s`;

function overview(forecasts: readonly HaForecast__Output[]): string {
  const rows = forecasts.map((one) => [
    lossText(one),
    String(one.recovers),
    String(one.waits),
    String(one.staysDown),
    one.quorum ? (one.recovers === 0 ? "" : seconds(one.budgetMs)) : "never",
    one.expectedMs === 0 || one.recovers === 0 ? "" : seconds(one.expectedMs),
    [...(one.leader ? ["leader"] : []), ...(one.quorum ? [] : ["no quorum is left"])].join(", "),
  ]);
  return table(["DIES", "RECOVER", "WAIT", "STAY DOWN", "WITHIN", "EXPECTED", "NOTE"], rows, [
    "RECOVER",
    "WAIT",
    "STAY DOWN",
    "WITHIN",
    "EXPECTED",
  ]);
}

function forecastText(io: Io, one: HaForecast__Output): string {
  const within = one.recovers === 0 ? "" : `, within ${seconds(one.budgetMs)} of the last heartbeat`;
  const measured = one.expectedMs === 0 || one.recovers === 0 ? "" : ` (${seconds(one.expectedMs)} by ${one.measured} failovers measured)`;
  const quorum = one.quorum ? "" : "no quorum is left: nothing recovers, and VMs under HA stop everywhere unless on-quorum-loss is keep\n";
  const head = `${paint(io, "bold", `If ${lossText(one)} died`)}${one.leader ? ", the leader with it" : ""}: ${one.recovers} of ${one.vms.length} VMs recover${within}${measured}\n`;
  const rows = one.vms.map((fate) => [
    fate.vm,
    fate.from,
    fate.fate === "recovers" ? fate.to : "",
    fate.fate,
    fate.reasons.length === 0 ? fate.why : `${fate.why}: ${fate.reasons.map(({ detail }) => detail).join("; ")}`,
  ]);
  return head + quorum + (rows.length === 0 ? "" : table(["VM", "FROM", "TO", "FATE", "WHY"], rows));
}
