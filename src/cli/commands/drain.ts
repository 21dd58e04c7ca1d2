/** roost node drain, undrain: a node is emptied for maintenance, and taken back into use. */
import type { Command } from "commander";
import { invalid, RoostError } from "../../base/errors.ts";
import { formatDuration, parseDuration } from "../../base/units.ts";
import type { Drain__Output } from "../../gen/types/roost/v1/Drain.ts";
import type { DrainStep__Output } from "../../gen/types/roost/v1/DrainStep.ts";
import type { Node__Output } from "../../gen/types/roost/v1/Node.ts";
import { EXIT, Exit } from "../exit.ts";
import { paint } from "../io.ts";
import type { Io } from "../io.ts";
import { printList, printValue } from "../output.ts";
import { nodeRow } from "../rows.ts";
import { withSession } from "../session.ts";
import type { Session } from "../session.ts";

interface DrainOptions {
  preview?: boolean;
  deadline?: string;
  allowRestart?: boolean;
  parallel?: string;
  abort?: boolean;
  wait?: boolean;
  watch?: boolean;
}

type Change = (
  session: Session,
  names: string[],
  call: (name: string, session: Session) => Promise<{ node: Node__Output | null }>,
) => Promise<void>;

const LOOK_MS = 500;

export function addDrainCommands(node: Command, io: Io, change: Change): void {
  const undrain = (session: Session, names: string[]): Promise<void> =>
    change(session, names, (name) =>
      session.client.call("NodeService", "UndrainNode", { node: name, requestId: io.newId() }, session.limits),
    );
  node
    .command("drain <node>")
    .description("empty a node for maintenance: its VMs move while they run; undrain takes it back")
    .option("--preview", "only say what would happen to each VM")
    .option("--deadline <duration>", "give up after so long and leave the node as it was")
    .option("--allow-restart", "shut down what cannot move while it runs, and start it elsewhere")
    .option("--parallel <n>", "VMs that leave at once", "2")
    .option("--abort", "as undrain")
    .option("-w, --wait", "until nothing runs there")
    .option("--watch", "as --wait: prints what is left and what is in the way")
    .action((name: string, options: DrainOptions, command: Command) =>
      withSession(io, command, async (session) => {
        if (options.abort === true) return await undrain(session, [name]);
        const limit = options.deadline === undefined ? null : parseDuration(options.deadline);
        if (limit?.ok === false) throw invalid("--deadline", `expected a duration such as 10m, not ${JSON.stringify(options.deadline)}`);
        const parallel = Number(options.parallel);
        if (!Number.isInteger(parallel) || parallel < 1) throw invalid("--parallel", "expected a number from 1");
        const { preview = false, allowRestart = false } = options;
        const wish = { node: name, preview, limitMs: limit?.ok === true ? limit.value : 0, allowRestart, parallel, requestId: io.newId() };
        const answer = await session.client.call("NodeService", "DrainNode", wish, session.limits);
        if (preview) return await printSteps(session, answer.steps);
        const waits = options.wait === true || options.watch === true;
        if (waits) await untilEmpty(session, name);
        const now = waits ? await getNode(session, name) : answer.node;
        if (now === null) return;
        if (session.format === "json" || session.format === "yaml") return await printValue(io, session.format, nodeRow(now));
        io.out(`${now.name}: ${now.state}\n`);
      }),
    );
  node
    .command("undrain <node...>")
    .description("end a drain, done or not: the nodes are as they were before")
    .action((names: string[], _options: object, command: Command) => withSession(io, command, (session) => undrain(session, names)));
}

export function drainText(drain: Drain__Output, nowMs: number): string {
  const by = `by ${drain.actor}, for ${formatDuration(Math.max(0, nowMs - drain.beganMs))}`;
  const limit = drain.limitMs === 0 ? "" : ` of ${formatDuration(drain.limitMs)}`;
  const blocked = drain.blocked.map(({ vm, reasons }) => `${vm} cannot leave: ${reasons.join("; ")}`);
  return [drain.done ? `done, ${by}` : `${by}${limit}`, ...blocked].join("; ");
}

function printSteps(session: Session, steps: readonly DrainStep__Output[]): Promise<void> {
  return printList(
    session.io,
    session.format,
    [...steps],
    [
      { header: "VM", cell: (step) => step.vm },
      { header: "WOULD", cell: (step) => step.action },
      { header: "TO", cell: (step) => step.to },
      { header: "WHY", cell: (step) => step.reasons.join("; ") },
    ],
    (step) => ({ ...step, to: step.to === "" ? null : step.to }),
  );
}

async function getNode(session: Session, name: string): Promise<Node__Output> {
  const { node } = await session.client.call("NodeService", "GetNode", { node: name, consistency: session.consistency }, session.limits);
  if (node === null) throw new RoostError({ kind: "not-found", what: "node", name });
  return node;
}

/** Prints each change of what is left, and what is in the way. */
async function untilEmpty(session: Session, name: string): Promise<void> {
  const { io } = session;
  const deadlineMs = io.nowMs() + session.waitMs;
  let told = "";
  for (;;) {
    const node = await getNode(session, name);
    if (node.drain === null) {
      io.err(`${paint(io, "red", "error:", "err")} the drain of ${name} has ended: ${node.stateWhy}\n`);
      throw new Exit(EXIT.goal);
    }
    if (node.drain.done) return;
    const blocked = node.drain.blocked.map(({ vm, reasons }) => `\n  ${vm} cannot leave: ${reasons.join("; ")}`).join("");
    const line = `${name}: ${node.vms} ${node.vms === 1 ? "VM" : "VMs"} left${blocked}`;
    if (line !== told) io.err(`${line}\n`);
    told = line;
    if (io.nowMs() >= deadlineMs) {
      io.err(`${paint(io, "red", "error:", "err")} ${name} is not empty yet; the drain goes on\n`);
      throw new Exit(EXIT.goal);
    }
    if (io.signal.aborted) throw new Exit(EXIT.interrupted);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
