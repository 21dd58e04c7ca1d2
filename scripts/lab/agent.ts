/** How the agent of a lab's node is started and asked: the one place that knows roost's command lines. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { CHECKOUT, NODE } from "./places.ts";

/** What a command line needs to know of a node. */
export interface NodePlace {
  name: string;
  /** Address that the agent listens on. */
  ip: string;
  /** Port for agents and API where nodes share one address; null for roost's own default. */
  port: number | null;
  dataDir: string;
}

export type AgentStart =
  /** Founds the cluster. */
  | { kind: "found" }
  | { kind: "join"; token: string }
  /** Anything later: the data folder knows the rest. */
  | { kind: "again" };

export interface AgentCommand {
  argv: string[];
  env: Record<string, string>;
}

/** `dist/roost` if it is built; else the sources, run by Node. ROOST_LAB_AGENT=source|dist, or the path of a binary, decides it. */
export function roostCommand(): string[] {
  const binary = join(CHECKOUT, "dist", "roost");
  // The binary's own options (pkg.config.json), and no warnings.
  const source = [NODE, "--disable-warning=ExperimentalWarning", "--max-semi-space-size=8", join(CHECKOUT, "src", "main.ts")];
  const wish = process.env["ROOST_LAB_AGENT"];
  if (wish === "source") return source;
  if (wish?.startsWith("/") === true) return [wish];
  return wish === "dist" || existsSync(binary) ? [binary] : source;
}

export function agentCommand(
  node: NodePlace,
  start: AgentStart,
  extra: { args?: string[]; env?: Record<string, string> } = {},
): AgentCommand {
  const listen = node.port === null ? node.ip : `${node.ip}:${node.port}`;
  const introduced = ["--name", node.name, "--listen", listen];
  const words = {
    found: () => ["up", "--data", node.dataDir, ...introduced],
    join: () => ["join", start.kind === "join" ? start.token : "", "--data", node.dataDir, ...introduced],
    again: () => ["up", "--data", node.dataDir],
  }[start.kind]();
  return {
    argv: [...roostCommand(), ...words, "--foreground", ...(extra.args ?? [])],
    env: { ROOST_DATA: node.dataDir, ...settings(node), ...extra.env },
  };
}

/**
 * A node in namespaces has a libvirtd, which may start a moment after the agent and so must not be looked for, and an init
 * that is its guardian. A node on loopback has neither.
 */
function settings(node: NodePlace): Record<string, string> {
  return node.port === null ? { ROOST_DRIVER: "libvirt", ROOST_GUARDIAN: "file" } : { ROOST_DRIVER: "simulated", ROOST_GUARDIAN: "none" };
}

/** Unix socket on which the node's agent answers its own host's CLI. */
export function agentSocket(node: NodePlace): string {
  return join(node.dataDir, "roost.sock");
}

/** Where the agent lets the hypervisor write a VM's serial output. */
export function serialLogFolders(node: NodePlace): string[] {
  return [
    join(node.dataDir, "log", "serial"),
    join(node.dataDir, "serial"),
    join(node.dataDir, "log"),
    join(node.dataDir, "run", "serial"),
  ];
}
