/** roost cluster rebalance, and the limits that it shares with `roost scheduler rebalance`. */
import type { Command } from "commander";
import { invalid } from "../../base/errors.ts";
import type { PlanRebalanceResponse__Output } from "../../gen/types/roost/v1/PlanRebalanceResponse.ts";
import type { RebalanceStep__Output } from "../../gen/types/roost/v1/RebalanceStep.ts";
import { EXIT, Exit } from "../exit.ts";
import { followTask } from "../follow-task.ts";
import type { Io } from "../io.ts";
import { parseFormat, printValue } from "../output.ts";
import type { GlobalOptions, Session } from "../session.ts";
import { withSession } from "../session.ts";
import { facts, table } from "../table.ts";

export interface RebalanceFlags {
  maxMib?: string;
  maxSteps?: string;
  minGain?: string;
}

/** Absent: no limit, and the planner's own least gain. */
export interface RebalanceLimits {
  maxMib?: number;
  maxSteps?: number;
  minGain?: number;
}

export function addRebalanceLimits(command: Command): Command {
  return command
    .option("--max-mib <n>", "memory that may be moved in all, MiB")
    .option("--max-steps <n>", "at most so many migrations")
    .option("--min-gain <x>", "stop when no migration lowers the score by so much (0.001)");
}

export function rebalanceLimits({ maxMib, maxSteps, minGain }: RebalanceFlags): RebalanceLimits {
  return {
    ...(maxMib === undefined ? {} : { maxMib: wholeFromZero("--max-mib", maxMib) }),
    ...(maxSteps === undefined ? {} : { maxSteps: wholeFromZero("--max-steps", maxSteps) }),
    ...(minGain === undefined ? {} : { minGain: fromZero("--min-gain", minGain) }),
  };
}

export function addRebalance(cluster: Command, io: Io): void {
  addRebalanceLimits(
    cluster
      .command("rebalance")
      .description("live migrations that would even out the cluster, each proven to fit")
      .option("--plan", "show them; nothing is moved")
      .option("--execute", "move the VMs, one after the other; stops at the first that does not move"),
  )
    .option("--explain", "each step with its proof in full")
    .addHelpText(
      "after",
      "\nExamples:\n  roost cluster rebalance --plan\n  roost cluster rebalance --execute --max-steps 10\n  roost cluster rebalance --plan --max-mib 65536 --max-steps 10\n  roost cluster rebalance --plan --explain -o json\n",
    )
    .action(async (flags: RebalanceFlags & { plan?: boolean; execute?: boolean; explain?: boolean }, command: Command) => {
      const limits = rebalanceLimits(flags);
      if ((flags.plan === true) === (flags.execute === true))
        throw invalid("--plan", "expected --plan or --execute", "see first what would move: roost cluster rebalance --plan");
      await withSession(io, command, async (session) => {
        const request = { ...limits, consistency: session.consistency };
        const answer = await session.client.call("SchedulerService", "PlanRebalance", request, session.limits);
        if (flags.execute === true) await execute(session, answer.steps);
        const form = parseFormat(command.optsWithGlobals<GlobalOptions>().output);
        if (form === "json" || form === "yaml") return printValue(io, form, rebalanceRow(answer));
        io.out(
          summary(answer) + (answer.steps.length === 0 ? "" : `\n${flags.explain === true ? proofs(answer) : stepTable(answer.steps)}`),
        );
      });
    });
}

/** One at a time, in the plan's order: each step is proven with those before it done, and checked again when it begins. */
async function execute(session: Session, steps: readonly RebalanceStep__Output[]): Promise<void> {
  const { io, client } = session;
  for (const [i, step] of steps.entries()) {
    io.err(`step ${i + 1} of ${steps.length}: ${step.vm}, ${step.from} → ${step.to}\n`);
    // The plan has seen that no preference is worse there.
    const wish = { vm: step.vm, node: step.to, mode: "live", force: true, requestId: io.newId() };
    const { vm, task } = await client.call("VmService", "MigrateVm", wish, session.limits);
    if (vm === null) continue;
    // One that fails is the last.
    if (task !== "") await followTask(session, { id: task, name: vm.name }, { onward: false });
    const after = (await client.call("VmService", "GetVm", { vm: vm.id, consistency: session.consistency }, session.limits)).vm;
    if (after?.node === step.to) continue;
    io.err(`${step.vm} is still on ${after?.node ?? "no node"}: ${after?.reason ?? ""}; nothing more is moved\n`);
    throw new Exit(EXIT.goal);
  }
}

function summary({ steps, scoreBefore, scoreAfter, movedMib, stopped }: PlanRebalanceResponse__Output): string {
  return facts([
    ["Steps", steps.length === 0 ? "none" : `${steps.length}, ${movedMib} MiB to move`],
    ["Score", `${scoreBefore.toFixed(4)} → ${scoreAfter.toFixed(4)} (0 is even)`],
    ["Stopped", STOPPED[stopped] ?? stopped],
  ]);
}

const STOPPED: Readonly<Record<string, string>> = {
  "min-gain": "no other migration gains enough",
  "max-mib": "whatever gains more is beyond --max-mib",
  "max-steps": "--max-steps",
};

function stepTable(steps: readonly RebalanceStep__Output[]): string {
  return table(
    ["STEP", "VM", "FROM", "TO", "MIB", "BEFORE", "AFTER", "MEMORY ON THE TARGET", "VCPUS THERE"],
    steps.map((step, i) => [
      String(i + 1),
      step.vm,
      step.from,
      step.to,
      String(step.memoryMib),
      step.scoreBefore.toFixed(4),
      step.scoreAfter.toFixed(4),
      memoryFits(step),
      vcpusFit(step),
    ]),
    ["STEP", "MIB", "BEFORE", "AFTER"],
  );
}

/** A step a paragraph: what the state's own check was asked and what it found. */
function proofs({ steps, viewRevision }: PlanRebalanceResponse__Output): string {
  return steps
    .map((step, i) =>
      facts([
        [`Step ${i + 1}`, `${step.vm}: ${step.from} → ${step.to}, ${step.memoryMib} MiB`],
        ["  View", `revision ${viewRevision}${i === 0 ? "" : ` with ${i === 1 ? "step 1" : `steps 1 to ${i}`} done`}`],
        ["  Score", `${step.scoreBefore.toFixed(6)} − ${(step.scoreBefore - step.scoreAfter).toFixed(6)} = ${step.scoreAfter.toFixed(6)}`],
        ["  Memory", `${memoryFits(step)}, and ${step.from} holds it until it has arrived`],
        ["  vCPUs", vcpusFit(step)],
        ["  CPUs", step.cpus.length === 0 ? "" : `${step.cpus.join(", ")}, its own`],
        ["  Filters", `no filter refuses ${step.to}, no preference is worse there than on ${step.from}`],
      ]),
    )
    .join("\n");
}

function memoryFits({ usedMib, memoryMib, limitMib }: RebalanceStep__Output): string {
  return `${usedMib} + ${memoryMib} ≤ ${limitMib} MiB`;
}

function vcpusFit({ usedVcpus, vcpus, limitVcpus }: RebalanceStep__Output): string {
  return `${usedVcpus} + ${vcpus}${limitVcpus === undefined ? ", no limit" : ` ≤ ${limitVcpus}`}`;
}

function rebalanceRow({ viewRevision, scoreBefore, scoreAfter, movedMib, stopped, steps }: PlanRebalanceResponse__Output): object {
  return {
    viewRevision,
    scoreBefore,
    scoreAfter,
    movedMib,
    stopped,
    steps: steps.map(({ usedMib, limitMib, usedVcpus, limitVcpus = null, _limitVcpus, ...step }) => ({
      ...step,
      target: { usedMib, limitMib, usedVcpus, limitVcpus },
    })),
  };
}

function fromZero(flag: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) throw invalid(flag, `must be a number from 0, not ${text}`);
  return value;
}

function wholeFromZero(flag: string, text: string): number {
  const value = fromZero(flag, text);
  if (!Number.isSafeInteger(value)) throw invalid(flag, `must be a whole number, not ${text}`);
  return value;
}
