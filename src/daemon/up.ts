/** `roost up` and `roost join`: from flags to a daemon that serves, in the foreground or detached. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { type ConfigKey, type NodeConfig, resolveConfig, socketPath } from "../base/config.ts";
import { asRoostError, invalid, RoostError } from "../base/errors.ts";
import { createLogger, type Logger } from "../base/log.ts";
import { createClient } from "../base/rpc-client.ts";
import { confirmUntilTaken } from "./confirm.ts";
import { type Daemon, startDaemon } from "./daemon.ts";
import { foundCluster, joinByToken } from "../cluster/found.ts";
import { forgetNode, type Identity, loadIdentity, saveIdentity } from "../cluster/identity.ts";
import { ownProgram } from "./program.ts";

export interface StartOptions {
  flags: Partial<Record<ConfigKey, string>>;
  configFile: string | null;
  foreground: boolean;
}

/** A detached daemon answers within this, or its log says why not. */
const SERVE_LIMIT_MS = 30_000;
/** How long a node that starts is asked whether it is still one. */
const OUT_LIMIT_MS = 1_500;
/** File calls on a hung mount each hold a thread of libuv's pool; LevelDB must not wait for them. */
const FILE_THREADS = "16";

export async function up(options: StartOptions & { clusterName: string | null }): Promise<number> {
  const config = await configOf(options);
  const known = await loadIdentity(config.data);
  if (known === null) {
    refuseLeftovers(config.data);
    const identity = await foundCluster(config, options.clusterName, Date.now());
    await saveIdentity(config.data, identity);
  }
  if (options.foreground) return await runForeground(config, known === null ? "founded" : "started");
  await detach(config, options.configFile);
  if (known !== null) await refuseIfOut(config);
  print(known === null ? howToJoin(config) : `node is up; \`roost node list\` shows the cluster\n`);
  return 0;
}

export async function joinWith(token: string, options: StartOptions & { witness?: boolean }): Promise<number> {
  const config = await configOf(options);
  const known = await loadIdentity(config.data);
  if (known !== null) {
    throw new RoostError(
      { kind: "precondition", reason: `${config.data} is the data folder of node ${known.name} of cluster ${known.clusterId} already` },
      "`roost up` starts it; another --data folder joins anew",
    );
  }
  refuseLeftovers(config.data);
  const identity = await joinByToken(config, token, options.witness);
  await saveIdentity(config.data, identity);
  if (options.foreground) return await runForeground(config, "joined");
  await detach(config, options.configFile);
  await untilReady(config, identity.nodeId);
  print(`node ${identity.name} has joined and is ready; \`roost node list\` shows the cluster\n`);
  return 0;
}

/** The daemon proper, on a data folder that has its identity. */
export async function daemon(options: StartOptions): Promise<number> {
  return await runForeground(await configOf(options), "started");
}

async function runForeground(config: NodeConfig, how: "founded" | "joined" | "started"): Promise<number> {
  const log = createLogger({
    level: config.logLevel as "info",
    nowMs: () => Date.now(),
    write: (line) => process.stderr.write(`${line}\n`),
  });
  const identity = await loadIdentity(config.data);
  if (identity === null) {
    throw new RoostError(
      { kind: "precondition", reason: `${config.data} holds no node` },
      "`roost up` starts a cluster, `roost join TOKEN` joins one",
    );
  }
  let running: Daemon;
  try {
    running = await startDaemon(config, identity, { log, fatal: (error) => fatal(log, error) });
  } catch (thrown) {
    if (isNewcomer(identity)) await forgetNode(config.data);
    throw thrown;
  }
  const stop = (signal: string): void => {
    log.info("signal", { signal });
    running.stop().catch((thrown: unknown) => fatal(log, thrown));
  };
  process.once("SIGTERM", () => stop("SIGTERM"));
  process.once("SIGINT", () => stop("SIGINT"));
  if (identity.joining !== null) {
    try {
      await confirmUntilTaken(identity, identity.joining.endpoints, log);
    } catch (thrown) {
      await running.stop();
      if (isNewcomer(identity)) await forgetNode(config.data);
      throw thrown;
    }
    await saveIdentity(config.data, { ...identity, joining: null });
  }
  log.info("serving", { node: identity.name, api: identity.apiAddress, data: config.data, how });
  if (how === "founded") print(howToJoin(config));
  await running.stopped;
  return 0;
}

/** A join that fails leaves nothing of it behind (CLU-2); a node that was one before keeps what it is. */
function isNewcomer(identity: Identity): boolean {
  return identity.joining !== null && identity.joining.again !== true;
}

/** Nothing is flushed or told: the log is durable, VMs belong to the hypervisor, and the keeper watches the deadlines. */
function fatal(log: Logger, thrown: unknown): void {
  const error = asRoostError(thrown);
  log.error("fatal", { error: error.message, hint: error.hint, stack: error.stack });
  process.exit(70);
}

async function configOf(options: StartOptions): Promise<NodeConfig> {
  const { data } = resolveConfig({ env: process.env, flags: options.flags }).values;
  const path = options.configFile ?? join(data, "config.yaml");
  let file: Record<string, unknown> = {};
  if (options.configFile !== null || existsSync(path)) {
    let parsed: unknown;
    try {
      parsed = parse(await readFile(path, "utf8")) ?? {};
    } catch (thrown) {
      throw invalid(
        path,
        thrown instanceof Error ? thrown.message : String(thrown),
        "a config file is YAML with the keys of `roost config explain`",
      );
    }
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw invalid(path, "expected keys and values");
    file = parsed as Record<string, unknown>;
  }
  const config = resolveConfig({ file, env: process.env, flags: options.flags }).values;
  process.env["ROOST_DATA"] = config.data;
  process.env["UV_THREADPOOL_SIZE"] ??= FILE_THREADS;
  return config;
}

/** A state without an identity is half of a node: going on would found another cluster over it. */
function refuseLeftovers(dataDir: string): void {
  for (const name of ["state", "raft"]) {
    if (existsSync(join(dataDir, name))) {
      throw new RoostError(
        { kind: "precondition", reason: `${join(dataDir, name)} exists, but no identity.json beside it` },
        "restore identity.json, or use an empty --data folder",
      );
    }
  }
}

async function detach(config: NodeConfig, configFile: string | null): Promise<void> {
  await mkdir(join(config.data, "log"), { recursive: true, mode: 0o700 });
  const logPath = join(config.data, "log", "agent.log");
  const log = await open(logPath, "a", 0o600);
  const [program, ...before] = ownProgram();
  // Everything but name and addresses, which the identity holds, goes along as flags: the environment may differ next time.
  const flags = [
    "--data",
    config.data,
    "--driver",
    config.driver,
    "--libvirt-uri",
    config.libvirtUri,
    "--guardian",
    config.guardian,
    "--raft-tick-ms",
    config.raftTickMs,
    "--log-level",
    config.logLevel,
  ];
  if (config.memory !== "") flags.push("--memory", config.memory);
  if (config.simulatedCpus !== "") flags.push("--simulated-cpus", config.simulatedCpus);
  const child = spawn(program, [...before, "daemon", ...flags, ...(configFile === null ? [] : ["--config", configFile])], {
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
    cwd: "/",
  });
  let ended: string | null = null;
  child.once("exit", (code, signal) => (ended = signal ?? `code ${code}`));
  child.once("error", (error) => (ended = error.message));
  child.unref();
  await log.close();
  const client = createClient({ endpoints: [socketPath(config.data)] });
  await until("starting the daemon", logPath, async () => {
    if (ended !== null)
      throw new RoostError({ kind: "unavailable", reason: `the daemon ended with ${String(ended)}` }, `its log is ${logPath}`);
    // Of all calls this one asks for no cluster: a joining node has no state yet.
    return await client.call("NodeService", "ListNodes", { consistency: "CONSISTENCY_STALE" }, { timeoutMs: 2_000 }).then(
      () => true,
      () => false,
    );
  }).finally(() => client.close());
}

/** Resolves when the node may run VMs. */
async function untilReady(config: NodeConfig, nodeId: string): Promise<void> {
  const client = createClient({ endpoints: [socketPath(config.data)] });
  await until("becoming ready", join(config.data, "log", "agent.log"), async () => {
    const answer = await client
      .call("NodeService", "GetNode", { node: nodeId, consistency: "CONSISTENCY_STALE" }, { timeoutMs: 2_000 })
      .catch(() => null);
    return answer?.node?.state === "ready";
  }).finally(() => client.close());
}

/** @throws RoostError `precondition` where the node knows that it was removed. One that still asks around is up. */
async function refuseIfOut(config: NodeConfig): Promise<void> {
  const client = createClient({ endpoints: [socketPath(config.data)] });
  const asked = client.call("ClusterService", "GetCluster", { consistency: "CONSISTENCY_LINEARIZABLE" }, { timeoutMs: OUT_LIMIT_MS });
  const thrown = await asked.then(
    () => null,
    (error: unknown) => asRoostError(error),
  );
  client.close();
  if (thrown?.fault.kind === "precondition") throw thrown;
}

async function until(what: string, logPath: string, holds: () => Promise<boolean>): Promise<void> {
  const endMs = Date.now() + SERVE_LIMIT_MS;
  while (!(await holds())) {
    if (Date.now() > endMs) throw new RoostError({ kind: "timeout", what, afterMs: SERVE_LIMIT_MS }, `its log is ${logPath}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function howToJoin(config: NodeConfig): string {
  const socket = config.data === "/var/lib/roost" ? "" : `ROOST_SOCKET=${socketPath(config.data)} `;
  return [
    "A cluster of one is up, and useful at once: `roost vm create -f vm.yaml` runs a VM.",
    "To add nodes:",
    `  here:           ${socket}roost token create`,
    "  on the others:  roost join TOKEN",
    "",
  ].join("\n");
}

function print(text: string): void {
  process.stdout.write(text);
}
