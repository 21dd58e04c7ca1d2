/** roost node fence, roost node fencing … */
import type { Command } from "commander";
import { invalid, RoostError } from "../../base/errors.ts";
import { parseDuration } from "../../base/units.ts";
import type { NodeFencing__Output } from "../../gen/types/roost/v1/NodeFencing.ts";
import type { TestedFenceDevice__Output } from "../../gen/types/roost/v1/TestedFenceDevice.ts";
import { EXIT, Exit } from "../exit.ts";
import { paint, type Io } from "../io.ts";
import { type Column, printList, printValue, timeText } from "../output.ts";
import { fencingRow } from "../rows.ts";
import { type Session, withSession } from "../session.ts";

const LOOK_MS = 300;

interface SetOptions {
  agent: string;
  option?: string[];
  secretFile?: string;
  device?: string;
  level?: string;
  timeLimit?: string;
  unchecked?: boolean;
}

/** `k=v` pairs; `k=@FILE` takes a file's text. */
async function pairs(io: Io, texts: readonly string[]): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const text of texts) {
    const at = text.indexOf("=");
    if (at < 1) throw invalid("--option", `expected key=value or key=@FILE, not ${JSON.stringify(text)}`);
    const value = text.slice(at + 1);
    found[text.slice(0, at)] = value.startsWith("@") ? await readText(io, value.slice(1)) : value;
  }
  return found;
}

async function readText(io: Io, path: string): Promise<string> {
  try {
    return path === "-" ? await io.readStdin() : await io.readFile(path);
  } catch (error) {
    throw new RoostError({ kind: "not-found", what: "file", name: path }, undefined, { cause: error });
  }
}

/** Lines `key=value`; empty ones and those with # are left out. What is wrong is told without what it says. */
async function secretsOf(io: Io, path: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [i, line] of (await readText(io, path)).split(/\r?\n/).entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const at = line.indexOf("=");
    if (at < 1) throw invalid("--secret-file", `line ${i + 1} of ${path} is not key=value, such as password=…`);
    found[line.slice(0, at).trim()] = line.slice(at + 1);
  }
  return found;
}

interface DeviceRow {
  fencing: NodeFencing__Output;
  device: NodeFencing__Output["devices"][number];
  first: boolean;
}

function optionsText({ options, secretNames }: DeviceRow["device"]): string {
  const shown = Object.entries(options).map(([key, value]) => `${key}=${value.includes("\n") ? "…" : value}`);
  return [...shown, ...secretNames.map((key) => `${key}=***`)].join(" ");
}

function attemptText(io: Io, { attempt }: NodeFencing__Output): string {
  if (attempt === null) return "never";
  const colour = attempt.state === "done" ? "green" : attempt.state === "failed" ? "red" : "yellow";
  return `${paint(io, colour, attempt.state)} ${timeText(attempt.beganAtMs)}`;
}

function columns(io: Io): Column<DeviceRow>[] {
  return [
    { header: "NODE", cell: ({ fencing }) => fencing.node },
    { header: "LEVEL", cell: ({ device }) => String(device.level), right: true },
    { header: "DEVICE", cell: ({ device }) => device.name },
    { header: "AGENT", cell: ({ device }) => device.agent },
    { header: "OPTIONS", cell: ({ device }) => optionsText(device) },
    { header: "LIMIT", cell: ({ device }) => `${device.timeoutMs / 1000}s`, right: true, wide: true },
    { header: "LAST FENCING", cell: ({ fencing, first }) => (first ? attemptText(io, fencing) : "") },
  ];
}

async function listFencing(session: Session, node: string): Promise<NodeFencing__Output[]> {
  const { nodes } = await session.client.call("NodeService", "ListFencing", { node, consistency: session.consistency }, session.limits);
  return nodes;
}

/** Until the attempt is over, each step told as it comes. */
async function followAttempt(session: Session, node: string, attempt: number): Promise<void> {
  const { io } = session;
  const startMs = io.nowMs();
  const tell = (text: string): void =>
    io.err(`${paint(io, "dim", `+${((io.nowMs() - startMs) / 1000).toFixed(1)}s`, "err")} ${node}: ${text}\n`);
  let told = 0;
  let executor = "";
  while (io.nowMs() - startMs < session.waitMs) {
    io.signal.throwIfAborted();
    const now = (await listFencing(session, node))[0]?.attempt ?? null;
    if (now === null || now.id !== attempt) {
      io.err(`${node}: another attempt has begun, or its devices were unset\n`);
      throw new Exit(EXIT.goal);
    }
    const fresh = now.steps.filter((step) => step.atMs > told);
    for (const step of fresh) tell(step.node === "" ? step.text : `${step.node}: ${step.text}`);
    told = fresh.at(-1)?.atMs ?? told;
    if (now.executor !== executor && now.executor !== "") tell(`try ${now.tries} by ${now.executor}`);
    executor = now.executor;
    if (now.state === "done") return;
    if (now.state !== "open") {
      io.err(`${node}: ${now.state}\n`);
      throw new Exit(EXIT.goal);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new RoostError(
    { kind: "timeout", what: `fencing ${node}`, afterMs: session.waitMs },
    `it goes on; \`roost node fencing list ${node}\` shows it`,
  );
}

export function addFencingCommands(node: Command, io: Io): void {
  node
    .command("fence <node>")
    .description("make sure that a node that does not answer is off, so that its VMs may start elsewhere at once")
    .option("--confirmed", "you have made sure that the machine is off: no device is asked")
    .option("--no-wait", "do not follow the attempt")
    .addHelpText("after", "\nIt is switched off by its power devices (roost node fencing set) and must be seen off.")
    .action((name: string, options: { confirmed?: boolean; wait: boolean }, command: Command) =>
      withSession(io, command, async (session) => {
        const asked = { node: name, confirmed: options.confirmed ?? false, requestId: io.newId() };
        const answer = await session.client.call("NodeService", "FenceNode", asked, session.limits);
        const nodeName = answer.node?.name ?? name;
        if (!asked.confirmed && options.wait) await followAttempt(session, nodeName, answer.attempt);
        const { node: row } = await session.client.call(
          "NodeService",
          "GetNode",
          { node: nodeName, consistency: session.consistency },
          session.limits,
        );
        const value = { name: nodeName, state: row?.state ?? "", attempt: answer.attempt === 0 ? null : answer.attempt };
        if (session.format === "json" || session.format === "yaml") return printValue(io, session.format, value);
        io.out(`${value.name}: ${value.state}\n`);
      }),
    );

  const fencing = node.command("fencing").description("power devices that can switch nodes off");
  fencing
    .command("list [node]")
    .alias("ls")
    .description("devices of all nodes, or of one, and the last attempts")
    .action((name: string | undefined, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const found = await listFencing(session, name ?? "");
        if (session.format === "json" || session.format === "yaml") return printValue(io, session.format, found.map(fencingRow));
        const rows = found.flatMap((one) => one.devices.map((device, i): DeviceRow => ({ fencing: one, device, first: i === 0 })));
        await printList(io, session.format, rows, columns(io), (row) => fencingRow(row.fencing));
        if (name === undefined) return;
        for (const step of found[0]?.attempt?.steps ?? [])
          io.out(`  ${timeText(step.atMs)}  ${step.node === "" ? "" : `${step.node}: `}${step.text}\n`);
      }),
    );
  fencing
    .command("set <node>")
    .description("give a node a power device; it is asked for its power state first")
    .requiredOption("--agent <name>", "redfish, or a fence agent such as fence_ipmilan")
    .option("--option <key=value...>", "an option of the agent; key=@FILE takes a file's text")
    .option("--secret-file <file>", "lines key=value that nobody sees again, such as password=…; - reads standard input")
    .option("--device <name>", "name of the device, where a node has several; else the agent's")
    .option("--level <n>", "devices of one level must all be off; the next level is tried when one is not", "1")
    .option("--time-limit <duration>", "from the order to the observed off", "30s")
    .option("--unchecked", "do not ask the device")
    .addHelpText(
      "after",
      "\nExamples:\n  roost node fencing set n1 --agent redfish --option ip=10.0.0.5 username=roost fingerprint=… --secret-file FILE\n" +
        "  roost node fencing set n2 --agent fence_ipmilan --option ip=10.0.0.6 username=roost lanplus=1 --secret-file FILE",
    )
    .action((name: string, options: SetOptions, command: Command) =>
      withSession(io, command, async (session) => {
        const limit = parseDuration(options.timeLimit ?? "");
        if (!limit.ok) throw invalid("--time-limit", `expected ${limit.expected}`);
        const level = Number(options.level);
        if (!Number.isInteger(level)) throw invalid("--level", "expected a number from 1");
        const device = {
          name: options.device ?? "",
          level,
          agent: options.agent,
          options: await pairs(io, options.option ?? []),
          secrets: options.secretFile === undefined ? {} : await secretsOf(io, options.secretFile),
          timeoutMs: limit.value,
        };
        const request = { node: name, device, unchecked: options.unchecked ?? false, requestId: io.newId() };
        const { fencing: row } = await session.client.call("NodeService", "SetFencing", request, session.limits);
        if (row === null) return;
        if (session.format === "json" || session.format === "yaml") return printValue(io, session.format, fencingRow(row));
        io.out(`${row.node}: ${row.devices.map((one) => `${one.name} (level ${one.level})`).join(", ")}\n`);
      }),
    );
  fencing
    .command("unset <node> [device]")
    .description("take a device from a node, or all of them")
    .action((name: string, device: string | undefined, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const request = { node: name, device: device ?? "", requestId: io.newId() };
        await session.client.call("NodeService", "UnsetFencing", request, session.limits);
      }),
    );
  fencing
    .command("test <node>")
    .description("ask a node's devices for their power state, from the node that answers this call")
    .action((name: string, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const answer = await session.client.call("NodeService", "TestFencing", { node: name }, session.limits);
        const shown: Column<TestedFenceDevice__Output>[] = [
          { header: "LEVEL", cell: (one) => String(one.level), right: true },
          { header: "DEVICE", cell: (one) => one.name },
          { header: "AGENT", cell: (one) => one.agent },
          { header: "POWER", cell: (one) => one.power },
          { header: "PROBLEM", cell: (one) => (one.problem === "" ? "" : paint(io, "red", one.problem)) },
        ];
        const json = ({ power, problem, ...rest }: TestedFenceDevice__Output): object => ({
          ...rest,
          power: power === "" ? null : power,
          problem: problem === "" ? null : problem,
          askedFrom: answer.askedFrom,
        });
        await printList(io, session.format, answer.devices, shown, json);
        if (answer.devices.some((one) => one.problem !== "")) throw new Exit(EXIT.failed);
      }),
    );
}
