/** roost explain, what-if, scheduler: asked of a cluster, or of a plan file without any. */
import type { Command } from "commander";
import { invalid, RoostError } from "../../base/errors.ts";
import type { ExplainVmResponse__Output } from "../../gen/types/roost/v1/ExplainVmResponse.ts";
import type { NodeVerdict__Output } from "../../gen/types/roost/v1/NodeVerdict.ts";
import type { PendingReason__Output } from "../../gen/types/roost/v1/PendingReason.ts";
import type { WhatIfResponse__Output } from "../../gen/types/roost/v1/WhatIfResponse.ts";
import type { WhyNot__Output } from "../../gen/types/roost/v1/WhyNot.ts";
import type { Handlers, OfflineAnswer } from "../handlers.ts";
import { paint } from "../io.ts";
import type { Io } from "../io.ts";
import { parseFormat, printValue, timeText } from "../output.ts";
import type { GlobalOptions, Session } from "../session.ts";
import { withSession } from "../session.ts";
import { facts, table } from "../table.ts";
import { parseVmFile } from "../definition-file.ts";
import { addRebalanceLimits, rebalanceLimits } from "./rebalance.ts";
import type { RebalanceFlags } from "./rebalance.ts";

function structured(session: Session): "json" | "yaml" | null {
  return session.format === "json" || session.format === "yaml" ? session.format : null;
}

export function addSchedulerCommands(program: Command, io: Io, handlers: Handlers): void {
  addExplain(program, io);
  addWhatIf(program, io);
  const scheduler = program.command("scheduler").description("plans made again, and plans without a cluster (docs/planfile.md)");
  addLive(scheduler, io, handlers);
  addOffline(scheduler, io, handlers);
}

function addExplain(program: Command, io: Io): void {
  program
    .command("explain <vm>")
    .description("why a VM is where it is: every node's verdict at the moment of the decision, with its numbers")
    .option("--why-not <node>", "the smallest change that would make it fit there; `all` for every node")
    .option("--revision <n>", "an earlier decision (default: the last)")
    .addHelpText("after", "\nExamples:\n  roost explain web\n  roost explain web --why-not n3\n  roost explain web --why-not all -o json\n")
    .action((vm: string, options: { whyNot?: string; revision?: string }, command: Command) =>
      withSession(io, command, async (session) => {
        const revision = wholeNumber("--revision", options.revision ?? "0");
        const whyNot = options.whyNot ?? "";
        const request = { vm, revision, whyNot, consistency: session.consistency };
        const answer = await session.client.call("SchedulerService", "ExplainVm", request, session.limits);
        const form = structured(session);
        if (form !== null) return printValue(io, form, explainRow(answer));
        io.out(whyNot === "" ? explainText(io, answer) : whyNotText(answer.whyNot));
      }),
    );
}

function addWhatIf(program: Command, io: Io): void {
  program
    .command("what-if <statements>")
    .description("play changes on a copy of the cluster's state: what moves, what is lost, what waits; changes nothing")
    .option("-f, --file <file>", "definitions that `add` can use as models")
    .addHelpText(
      "after",
      `
Statements, divided by semicolons:
  fail NODE                    fail zone ZONE
  drain NODE                   disable NODE                 enable NODE
  add COUNT VM                 remove VM                    stop VM, start VM
  resize VM cpus=N memory=SIZE
  set KEY VALUE                enable policy POLICY         disable policy POLICY

Examples:
  roost what-if 'fail n1'
  roost what-if 'fail n1; add 20 web; drain n2' -o json
`,
    )
    .action((script: string, options: { file?: string }, command: Command) =>
      withSession(io, command, async (session) => {
        const definitions = options.file === undefined ? [] : await definitionsIn(io, options.file);
        const request = { script, definitions, consistency: session.consistency };
        const answer = await session.client.call("SchedulerService", "WhatIf", request, session.limits);
        const form = structured(session);
        if (form !== null) return printValue(io, form, whatIfRow(answer));
        io.out(whatIfText(io, answer));
      }),
    );
}

function addLive(scheduler: Command, io: Io, handlers: Handlers): void {
  scheduler
    .command("export [file]")
    .description("the cluster as a plan file; to standard output without a file")
    .option("--history", "with what is kept of decisions, so that the file can be replayed")
    .action((file: string | undefined, options: { history?: boolean }, command: Command) =>
      withSession(io, command, async (session) => {
        const request = { history: options.history ?? false, consistency: session.consistency };
        const { text } = await session.client.call("SchedulerService", "ExportPlanFile", request, session.limits);
        if (file === undefined || file === "-") return io.out(text);
        await io.writeFile(file, text);
        io.err(`${file}: written\n`);
      }),
    );
  scheduler
    .command("replay")
    .description("plan a recorded stretch again: the same bytes, or who would be elsewhere")
    .option("--from <revision>", "the first (default: the oldest kept)")
    .option("--to <revision>", "the last (default: the newest)")
    .option("--set <key=value...>", "settings that shall be others than they were")
    .option("--cluster <file>", "a plan file instead of the cluster; with its recording, or with a request")
    .option("--request <file>", "with --cluster: a request instead of the recording")
    .option("--answer <file>", "with --request: what `scheduler plan -o json` printed before")
    .addHelpText("after", "\nExamples:\n  roost scheduler replay\n  roost scheduler replay --set scheduler.scoring=consolidate\n")
    .action(async (options: ReplayFlags, command: Command) => {
      const settings = settingsOf(options.set ?? []);
      const from = wholeNumber("--from", options.from ?? "0");
      const to = options.to === undefined ? null : wholeNumber("--to", options.to);
      const { cluster, request = null, answer = null } = options;
      if (cluster !== undefined) {
        if (request !== null && Object.keys(settings).length > 0)
          throw invalid("--set", "goes with a recording, not with --request", "write the settings into the cluster's file");
        const files = { cluster, request };
        return printOffline(
          io,
          command,
          await handlers.schedulerReplay(files, { answer, from, to: to ?? Number.MAX_SAFE_INTEGER, settings }),
        );
      }
      if (request !== null || answer !== null) throw invalid(request === null ? "--answer" : "--request", "goes with --cluster only");
      await withSession(io, command, (session) => replayLive(session, { from, to: to ?? 0, settings }));
    });
}

interface ReplayFlags {
  from?: string;
  to?: string;
  set?: string[];
  cluster?: string;
  request?: string;
  answer?: string;
}

async function replayLive(session: Session, asked: { from: number; to: number; settings: Record<string, string> }): Promise<void> {
  const { io } = session;
  const request = { fromRevision: asked.from, toRevision: asked.to, settings: asked.settings, consistency: session.consistency };
  const { plans, historyBegins } = await session.client.call("SchedulerService", "ReplayPlans", request, session.limits);
  const form = structured(session);
  const rows = plans.map(({ placedAgain, differences, ...plan }) => ({
    ...plan,
    placedAgain: placedAgain < 0 ? null : placedAgain,
    differences: differences.map(({ vm, before, after, reasons }) => ({ vm, before: before || null, after: after || null, reasons })),
  }));
  if (form !== null) return printValue(io, form, { historyBegins, plans: rows });
  io.out(
    table(
      ["REVISION", "TIME", "KIND", "VMS", "PLACED", "AGAIN", "SAME", "DIFFERENCES"],
      rows.map((row) => [
        String(row.revision),
        timeText(row.atMs),
        row.kind,
        String(row.vms),
        String(row.placed),
        row.placedAgain === null ? "out of retention" : String(row.placedAgain),
        row.same ? "yes" : "no",
        row.differences.length > 0
          ? row.differences.map(({ vm, before, after }) => `${vm}: ${before ?? "nowhere"} → ${after ?? "nowhere"}`).join(", ")
          : row.same || row.placedAgain === null
            ? ""
            : "same nodes, other scores",
      ]),
      ["VMS", "PLACED"],
    ),
  );
  if (rows.length === 0) io.err(`no plan is kept in that stretch; the history begins at revision ${historyBegins}\n`);
}

function addOffline(scheduler: Command, io: Io, handlers: Handlers): void {
  const add = (name: string, about: string): Command =>
    scheduler
      .command(name)
      .description(about)
      .requiredOption("--cluster <file>", "the cluster, as a plan file; - reads standard input")
      .requiredOption("--request <file>", "what is asked for");
  add("plan", "plan a request on a cluster in a file").action(async (options: { cluster: string; request: string }, command: Command) => {
    const { cluster, request } = options;
    await printOffline(io, command, await handlers.schedulerPlan({ cluster, request }));
  });
  add("explain", "why each node was taken or refused for one VM of a file")
    .requiredOption("--vm <name>", "the VM in question")
    .option("--why-not <node>", "what would have to change for this node; `all` for every node")
    .action(async (options: { cluster: string; request: string; vm: string; whyNot?: string }, command: Command) => {
      const { cluster, request, vm, whyNot = null } = options;
      await printOffline(io, command, await handlers.schedulerExplain({ cluster, request }, { vm, whyNot }));
    });
  addRebalanceLimits(
    scheduler
      .command("rebalance")
      .description("live migrations that would even out the cluster in a file, step by step; nothing is moved")
      .requiredOption("--cluster <file>", "the cluster, as a plan file; - reads standard input"),
  ).action(async ({ cluster, ...flags }: RebalanceFlags & { cluster: string }, command: Command) => {
    const { maxMib = null, maxSteps = null, ...rest } = rebalanceLimits(flags);
    await printOffline(io, command, await handlers.schedulerRebalance(cluster, { maxMib, maxSteps, ...rest }));
  });
  scheduler
    .command("what-if <statements>")
    .description("as `roost what-if`, on a cluster in a file")
    .requiredOption("--cluster <file>", "the cluster, as a plan file; - reads standard input")
    .action(async (script: string, options: { cluster: string }, command: Command) =>
      printOffline(io, command, await handlers.schedulerWhatIf(options.cluster, script)),
    );
}

async function printOffline(io: Io, command: Command, answer: OfflineAnswer): Promise<void> {
  const format = parseFormat(command.optsWithGlobals<GlobalOptions>().output);
  if (format === "json" || format === "yaml") return printValue(io, format, answer.json);
  io.out(table(answer.table.head, answer.table.rows));
}

async function definitionsIn(io: Io, path: string): Promise<Awaited<ReturnType<typeof parseVmFile>>["definitions"]> {
  const text = path === "-" ? await io.readStdin() : await io.readFile(path);
  const file = await parseVmFile(path === "-" ? "stdin" : path, text);
  if (file.faults.length === 0) return file.definitions;
  const violations = file.faults.map(({ index, field, message }) => ({ field: `${file.locate(index, field).text} ${field}`, message }));
  throw new RoostError({ kind: "invalid", violations });
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw invalid(option, `expected a revision, not ${JSON.stringify(text)}`);
  return value;
}

function settingsOf(pairs: readonly string[]): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const pair of pairs) {
    const equals = pair.indexOf("=");
    if (equals < 1) throw invalid("--set", `expected KEY=VALUE, not ${JSON.stringify(pair)}`);
    settings[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
  return settings;
}

function scoreText(score: number | undefined): string {
  return score === undefined ? "-" : score.toFixed(4);
}

function reasonsText(reasons: readonly PendingReason__Output[]): string {
  return reasons.map(({ code, nodes, detail }) => (nodes > 1 ? `${code} on ${nodes} nodes (${detail})` : detail)).join("; ");
}

function verdictTable(verdicts: readonly NodeVerdict__Output[]): string {
  let rank = 0;
  return table(
    ["NODE", "VERDICT", "RANK", "SCORE", "CPU", "MEMORY", "WHY NOT"],
    verdicts.map((one) => [
      one.node,
      one.chosen ? "chosen" : one.refusals.length > 0 ? "refused" : one.tier > 0 ? "fits, less preferred" : "fits",
      one.refusals.length > 0 ? "" : String(++rank),
      scoreText(one.score),
      scoreText(one.cpuScore),
      scoreText(one.memoryScore),
      // The node's name is in its own column.
      one.refusals.map(({ detail }) => detail.replace(`${one.node}: `, "")).join("; "),
    ]),
    ["RANK", "SCORE", "CPU", "MEMORY"],
  );
}

function explainText(io: Io, answer: ExplainVmResponse__Output): string {
  const { decision } = answer;
  let text = facts([["VM", `${answer.vm}, ${answer.state}${answer.node === "" ? "" : ` on ${answer.node}`}`]]);
  if (decision !== null) {
    const ways = [`balanced ${decision.placedBalanced}`, `compact ${decision.placedCompact}`, `search ${decision.placedSearch}`];
    const tried = ways.filter((way) => !way.endsWith(" -1")).join(", ");
    text += facts([
      ["Decision", `${decision.node === "" ? "no node would do" : decision.node}, ${timeText(decision.atMs)}`],
      ["Revision", `${decision.revision}, planned on the view at ${decision.viewRevision}`],
      [
        "Plan",
        decision.vms === 0 ? "" : `${decision.vms} ${decision.vms === 1 ? "VM" : "VMs"}; placed: ${tried}; ${decision.method} taken`,
      ],
      ["Proof", decision.proven ? "no plan places more of them" : "none that no plan places more"],
      [
        "Replay",
        answer.verdicts.length === 0 ? "" : answer.same ? "the same, byte for byte" : paint(io, "yellow", "differs from the recorded plan"),
      ],
    ]);
  }
  if (answer.problem !== "") text += facts([["Note", answer.problem]]);
  if (answer.verdicts.length > 0) text += `\n${verdictTable(answer.verdicts)}`;
  else if (decision !== null) {
    const refused = Object.entries(decision.refused).map(([code, nodes]) => `${code} ${nodes}`);
    text += facts([
      ["Best then", decision.top.map(({ node, score }) => `${node} ${scoreText(score)}`).join(", ")],
      ["Refused then", refused.join(", ")],
    ]);
  }
  if (answer.verdictsNow.length > 0) text += `\nNow:\n${verdictTable(answer.verdictsNow)}`;
  return text;
}

function whyNotText(answers: readonly WhyNot__Output[]): string {
  const setText = (set: readonly { text: string }[]): string => set.map((one) => one.text).join(" and ");
  return table(
    ["NODE", "FITS", "WHAT WOULD HAVE TO CHANGE"],
    answers.flatMap((one) => [
      [one.node, one.fits ? "yes" : "no", one.fits ? "" : one.possible ? setText(one.changes) : "nothing that is known would help"],
      ...one.alternatives.map((set) => ["", "", `or ${setText(set.changes)}`]),
    ]),
  ).replaceAll(/^- +- +or /gm, (found) => " ".repeat(found.length - 3) + "or ");
}

function whatIfText(io: Io, answer: WhatIfResponse__Output): string {
  let text = "";
  for (const step of answer.steps) {
    text += `${paint(io, "bold", step.text)}\n`;
    for (const { vm, from, to } of step.moves) text += `  ${vm}: ${from || "nowhere"} → ${to || "nowhere"}\n`;
    for (const note of step.notes) text += `  ${note}\n`;
    if (step.moves.length + step.notes.length === 0) text += "  nothing moves\n";
  }
  if (answer.stranded.length > 0) {
    text += `\n${paint(io, "yellow", "Without a node at the end:")}\n`;
    text += table(
      ["VM", "STATE", "HA", "WAS ON", "WHY"],
      answer.stranded.map((one) => [one.vm, one.state, one.underHa ? "yes" : "no", one.from, reasonsText(one.reasons)]),
    );
  }
  text += `\n${table(
    ["NODE", "STATE", "VMS", "MEMORY MIB", "OF"],
    answer.nodes.map((one) => [
      one.node,
      one.stateBefore === one.stateAfter ? one.stateAfter : `${one.stateBefore} → ${one.stateAfter}`,
      one.vmsBefore === one.vmsAfter ? String(one.vmsAfter) : `${one.vmsBefore} → ${one.vmsAfter}`,
      one.memoryMibBefore === one.memoryMibAfter ? String(one.memoryMibAfter) : `${one.memoryMibBefore} → ${one.memoryMibAfter}`,
      String(one.memoryLimitMib),
    ]),
  )}`;
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  const { balanceBefore: before, balanceAfter: after } = answer;
  text += `\n${facts([
    ["HA", answer.haFailed === 0 ? "" : haText(io, answer)],
    ["Memory in use", before === null || after === null ? "" : `mean ${percent(before.mean)} → ${percent(after.mean)}`],
    [
      "Spread",
      before === null || after === null ? "" : `${percent(before.spread)} → ${percent(after.spread)}, fullest ${percent(after.max)}`,
    ],
  ])}`;
  return text;
}

function haText(io: Io, { haFailed, haRecovered }: WhatIfResponse__Output): string {
  if (haRecovered === haFailed) return `all ${haFailed} HA VMs that failed run again`;
  return paint(io, "red", `${haFailed - haRecovered} of ${haFailed} HA VMs that failed do not run again`);
}

/** The JSON form: null for what there is none of. */
function explainRow({ read: _read, decision, verdicts, verdictsNow, ...rest }: ExplainVmResponse__Output): object {
  const verdictRow = ({ node, nodeId, chosen, score, cpuScore, memoryScore, tier, refusals }: NodeVerdict__Output): object => ({
    node,
    nodeId,
    chosen,
    score: score ?? null,
    cpuScore: cpuScore ?? null,
    memoryScore: memoryScore ?? null,
    tier,
    refusals,
  });
  return {
    ...rest,
    node: rest.node || null,
    problem: rest.problem || null,
    decision: decision === null ? null : { ...decision, node: decision.node || null, score: decision.score ?? null },
    verdicts: verdicts.map(verdictRow),
    verdictsNow: verdictsNow.map(verdictRow),
  };
}

function whatIfRow({ read: _read, steps, stranded, ...rest }: WhatIfResponse__Output): object {
  return {
    steps: steps.map((step) => ({ ...step, moves: step.moves.map(({ vm, from, to }) => ({ vm, from: from || null, to: to || null })) })),
    stranded: stranded.map((one) => ({ ...one, from: one.from || null })),
    ...rest,
  };
}
