/**
 * Programs that speak the fence-agents' contract (ClusterLabs' FenceAgentAPI.md): options as `name=value` lines on standard input,
 * what to do in `action`, an answer by exit code. Any `fence_*` of that project will do.
 */
import { spawn } from "node:child_process";
import { access, constants, stat } from "node:fs/promises";
import { join } from "node:path";
import { XMLParser } from "fast-xml-parser";
import { RoostError, type Violation } from "../base/errors.ts";
import { suggest } from "../base/suggest.ts";
import type { PowerFence, PowerState } from "./driver.ts";

/** Exit codes of `status` and `monitor` (fence-agents' lib/fencing.py: 0 on, 1 failed, 2 off). */
const STATUS_ON = 0;
const STATUS_OFF = 2;
const OUTPUT_MAX_BYTES = 256 * 1024;
/** After SIGTERM, so that an agent can end its session at the device. */
const GRACE_MS = 1_000;

export interface AgentProgram {
  /** `fence_ipmilan`. */
  name: string;
  path: string;
}

/** The program of that name in the first folder that has it. Throws `unavailable` where none has, or where others may write it. */
export async function findAgent(name: string, folders: readonly string[]): Promise<AgentProgram> {
  for (const folder of folders) {
    const path = join(folder, name);
    const row = await stat(path).catch(() => null);
    if (row === null || !row.isFile()) continue;
    await access(path, constants.X_OK).catch(() => {
      throw new RoostError({ kind: "unavailable", reason: `${path} cannot be executed` });
    });
    // It is run as root.
    if ((row.mode & 0o022) !== 0)
      throw new RoostError({ kind: "unavailable", reason: `${path} may be written by others than its owner` }, `chmod go-w ${path}`);
    if (row.uid !== 0 && row.uid !== process.getuid?.())
      throw new RoostError({ kind: "unavailable", reason: `${path} belongs to user ${row.uid}, not to root` });
    return { name, path };
  }
  throw new RoostError(
    { kind: "unavailable", reason: `${name} is not installed here (looked in ${folders.join(", ")})` },
    "install it on every node that shall be able to fence: package fence-agents",
  );
}

/** @param options all of them, secrets too: they go through standard input and are seen by nobody else. */
export function agentFence(program: AgentProgram, options: Readonly<Record<string, string>>, secrets: readonly string[]): PowerFence {
  const { name, path } = program;
  const at = options["ip"] ?? options["ipaddr"] ?? options["devices"] ?? "";
  const plug = options["plug"] ?? options["port"] ?? "";
  const hidden = secrets.map((key) => options[key] ?? "").filter((value) => value.length > 0);
  const act = (action: string, signal: AbortSignal): Promise<Answer> => runAgent(path, { ...options, action }, signal);
  const failed = (action: string, { code, said }: Answer): RoostError => {
    const text = masked(said, hidden);
    return new RoostError({ kind: "unavailable", reason: `${name} ${action}: ${code}${text === "" ? "" : `: ${text}`}` });
  };
  return {
    name: [name, at, plug].filter((part) => part !== "").join(" "),
    async off(signal) {
      const answer = await act("off", signal);
      if (answer.code !== 0) throw failed("off", answer);
    },
    async status(signal): Promise<PowerState> {
      const answer = await act("status", signal);
      if (answer.code === STATUS_ON) return "on";
      if (answer.code === STATUS_OFF) return "off";
      throw failed("status", answer);
    },
  };
}

export interface AgentMetadata {
  parameters: { name: string; required: boolean; hasDefault: boolean }[];
  actions: string[];
}

export async function readMetadata(program: AgentProgram, signal: AbortSignal): Promise<AgentMetadata> {
  const answer = await runAgent(program.path, { action: "metadata" }, signal);
  if (answer.code !== 0)
    throw new RoostError({ kind: "unavailable", reason: `${program.name} metadata: ${answer.code}: ${answer.said.slice(0, 200)}` });
  return parseMetadata(answer.text);
}

const LISTS = new Set(["parameter", "action"]);
const parser = new XMLParser({
  ignoreAttributes: false,
  parseTagValue: false,
  parseAttributeValue: false,
  isArray: (name) => LISTS.has(name),
});

type Element = Record<string, unknown>;

export function parseMetadata(xml: string): AgentMetadata {
  const fields = (value: unknown): Element => (typeof value === "object" && value !== null ? (value as Element) : {});
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  const list = (value: unknown): Element[] => (Array.isArray(value) ? value.map(fields) : []);
  const root = fields(fields(parser.parse(xml))["resource-agent"]);
  const parameters = list(fields(root["parameters"])["parameter"]).map((one) => {
    const content = fields(one["content"]);
    return { name: text(one["@_name"]), required: one["@_required"] === "1", hasDefault: content["@_default"] !== undefined };
  });
  const actions = list(fields(root["actions"])["action"]).map((one) => text(one["@_name"]));
  if (parameters.length === 0 || !actions.includes("off"))
    throw new RoostError({ kind: "unsupported", what: "a program that says of itself that it cannot switch off" });
  return { parameters, actions };
}

/** Unknown options and missing required ones, all at once. */
export function metadataFaults(metadata: AgentMetadata, options: readonly string[]): Violation[] {
  const known = metadata.parameters.map(({ name }) => name);
  const faults: Violation[] = [];
  for (const option of options) {
    if (known.includes(option)) continue;
    const near = suggest(option, known);
    faults.push({ field: `options.${option}`, message: `is not known to the agent${near === null ? "" : `; did you mean ${near}?`}` });
  }
  for (const { name, required, hasDefault } of metadata.parameters) {
    if (required && !hasDefault && name !== "action" && !options.includes(name))
      faults.push({ field: `options.${name}`, message: "is needed by the agent" });
  }
  return faults;
}

interface Answer {
  /** Exit code, or the signal that ended it. */
  code: number | string;
  text: string;
  /** The last line on standard error. */
  said: string;
}

function runAgent(path: string, options: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    // Nothing of this process's environment, and a group of its own, so that whatever it starts (ipmitool) ends with it.
    const child = spawn(path, [], {
      cwd: "/",
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8" },
    });
    const end = (how: NodeJS.Signals): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, how);
      } catch {
        // All of it has ended by itself.
      }
    };
    let grace: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      end("SIGTERM");
      grace = setTimeout(() => end("SIGKILL"), GRACE_MS);
    };
    signal.addEventListener("abort", onAbort);
    const out: Buffer[] = [];
    let size = 0;
    let said = "";
    child.stdout.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > OUTPUT_MAX_BYTES) end("SIGKILL");
      else out.push(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString("utf8")).slice(-2_000);
    });
    const settled = (): void => {
      clearTimeout(grace);
      signal.removeEventListener("abort", onAbort);
    };
    child.once("error", (error) => {
      settled();
      reject(new RoostError({ kind: "unavailable", reason: `${path} cannot be run: ${error.message}` }));
    });
    child.once("close", (code, by) => {
      settled();
      if (signal.aborted) reject(signal.reason as Error);
      else resolve({ code: code ?? String(by), text: Buffer.concat(out).toString("utf8"), said: said.trim().split("\n").at(-1) ?? "" });
    });
    // One that ends without reading is told by its exit code.
    child.stdin.on("error", () => {});
    child.stdin.end(
      Object.entries(options)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(""),
    );
  });
}

/** Agents repeat what they were given, at times. */
function masked(text: string, secrets: readonly string[]): string {
  let shown = text;
  for (const secret of secrets) shown = shown.replaceAll(secret, "***");
  return shown.slice(0, 300);
}
