/** Which cluster is called, and as whom: a context file, or the local socket (IF-12). */
import { invalid, RoostError } from "../base/errors.ts";
import type { RpcClient } from "../base/rpc-client.ts";
import { CONFIG_RULES, socketPath } from "../base/config.ts";
import type { Io } from "./io.ts";
import { yamlText } from "./output.ts";

/** One cluster and one user of it; what `roost context issue` prints. */
export interface ContextFile {
  name: string;
  /** `host:port` of nodes' APIs; any will do, dead ones are passed over. */
  endpoints: string[];
  /** PEM texts. */
  ca: string;
  cert: string;
  key: string;
}

export function contextsDir(io: Io): string {
  return `${io.env["XDG_CONFIG_HOME"] ?? `${io.homeDir}/.config`}/roost`;
}

export async function readContext(io: Io, path: string): Promise<ContextFile> {
  let text: string;
  try {
    text = await io.readFile(path);
  } catch (error) {
    throw new RoostError({ kind: "not-found", what: "context file", name: path }, "roost context issue > FILE makes one", { cause: error });
  }
  const { parse } = await import("yaml");
  let value: Partial<ContextFile> | null;
  try {
    value = parse(text) as Partial<ContextFile> | null;
  } catch (error) {
    throw invalid(path, `is no YAML: ${(error as Error).message.split("\n")[0] ?? ""}`);
  }
  const { name = "default", endpoints, ca, cert, key } = value ?? {};
  if (
    !Array.isArray(endpoints) ||
    endpoints.length === 0 ||
    typeof ca !== "string" ||
    typeof cert !== "string" ||
    typeof key !== "string"
  ) {
    throw invalid(path, "is no context file: expected endpoints, ca, cert and key", "roost context issue > FILE makes one");
  }
  return { name, endpoints: endpoints.map(String), ca, cert, key };
}

export async function contextText(context: ContextFile): Promise<string> {
  return yamlText(context);
}

/** Name of the context in use from `roost context use`; null for the local socket. */
export async function currentContext(io: Io): Promise<string | null> {
  const name = await io.readFile(`${contextsDir(io)}/current`).catch(() => "");
  return name.trim() === "" ? null : name.trim();
}

export interface Target {
  endpoints: string[];
  tls?: { ca: string; cert: string; key: string };
  /** For messages: how this target was chosen. */
  from: string;
}

export interface TargetFlags {
  context?: string;
  socket?: string;
}

/**
 * Strongest first: --socket, --context, ROOST_CONTEXT, ROOST_SOCKET, ROOST_DATA's socket, `roost context use`, the default
 * socket. A context is a path if it has a slash, else a name under the config folder.
 */
export async function resolveTarget(io: Io, flags: TargetFlags): Promise<Target> {
  if (flags.socket !== undefined) return { endpoints: [absolute(flags.socket)], from: "--socket" };
  const flag = flags.context;
  const chosen = flag ?? io.env["ROOST_CONTEXT"];
  if (chosen !== undefined && chosen !== "") return fromFile(io, chosen, flag === undefined ? "ROOST_CONTEXT" : "--context");
  const socket = io.env["ROOST_SOCKET"];
  if (socket !== undefined && socket !== "") return { endpoints: [absolute(socket)], from: "ROOST_SOCKET" };
  const data = io.env["ROOST_DATA"];
  if (data !== undefined && data !== "") return { endpoints: [absolute(socketPath(data))], from: "ROOST_DATA" };
  const current = await currentContext(io);
  if (current !== null) return fromFile(io, current, "roost context use");
  return { endpoints: [socketPath(CONFIG_RULES.data.initial)], from: "the default" };
}

async function fromFile(io: Io, chosen: string, from: string): Promise<Target> {
  const path = chosen.includes("/") ? chosen : `${contextsDir(io)}/${chosen}.yaml`;
  const { endpoints, ca, cert, key } = await readContext(io, path);
  return { endpoints, tls: { ca, cert, key }, from: `${from} (${path})` };
}

function absolute(path: string): string {
  return path.startsWith("/") || path.startsWith(".") ? path : `./${path}`;
}

/** gRPC is loaded only here, so that help and completion start fast. */
export async function connect(io: Io, flags: TargetFlags): Promise<RpcClient> {
  const target = await resolveTarget(io, flags);
  const { createClient } = await import("../base/rpc-client.ts");
  return createClient({ endpoints: target.endpoints, ...(target.tls === undefined ? {} : { tls: target.tls }) });
}
