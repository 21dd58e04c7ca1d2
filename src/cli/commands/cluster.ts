/** roost cluster, token, pool, settings. */
import type { Command } from "commander";
import { invalid, RoostError } from "../../base/errors.ts";
import { formatBytes, formatDuration, parseDuration } from "../../base/units.ts";
import { didYouMean } from "../../base/suggest.ts";
import type { Node__Output } from "../../gen/types/roost/v1/Node.ts";
import type { Setting__Output } from "../../gen/types/roost/v1/Setting.ts";
import { paint } from "../io.ts";
import type { Handlers } from "../handlers.ts";
import type { Io } from "../io.ts";
import { addStateCommands } from "./state.ts";
import { printList, printValue } from "../output.ts";
import { poolRow, tokenRow } from "../rows.ts";
import { eachItem, withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { facts } from "../table.ts";
import { addBenchCommand } from "./bench.ts";
import { addRebalance } from "./rebalance.ts";

function structured(session: Session): "json" | "yaml" | null {
  return session.format === "json" || session.format === "yaml" ? session.format : null;
}

export function addClusterCommands(program: Command, io: Io, handlers: Handlers): void {
  const cluster = program.command("cluster").description("the cluster as a whole");
  addBenchCommand(cluster, io);
  addStateCommands(cluster, io, handlers);
  addRebalance(cluster, io);
  cluster
    .command("show")
    .description("id, leader, voters, counts")
    .action((_options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const [cluster, { nodes }] = await Promise.all([
          session.client.call("ClusterService", "GetCluster", { consistency: session.consistency }, session.limits),
          session.client.call("NodeService", "ListNodes", { consistency: session.consistency }, session.limits),
        ]);
        const leader = nodes.find((node) => node.id === cluster.leaderNodeId)?.name ?? cluster.leaderNodeId;
        const form = structured(session);
        if (form !== null) return printValue(io, form, { ...cluster, leader: leader === "" ? null : leader });
        const read = cluster.read;
        io.out(
          facts([
            ["Name", cluster.name],
            ["Id", cluster.id],
            ["Leader", leader === "" ? "none" : `${leader}, term ${cluster.term}`],
            ["Quorum", cluster.hasQuorum ? "yes" : paint(io, "red", "no: nothing can be changed now")],
            ["Generation", cluster.generation > 1 ? `${cluster.generation}: recovered or restored` : ""],
            [
              "Level",
              `${cluster.level}${cluster.levelHeldBackBy.length === 0 ? "" : `, held back by ${cluster.levelHeldBackBy.join(", ")}: upgrade roost there`}`,
            ],
            ...cluster.alarms.map((alarm): [string, string] => ["Alarm", paint(io, "red", alarm)]),
            ["Voters", votersText(nodes)],
            ["Nodes", String(cluster.nodes)],
            ["VMs", String(cluster.vms)],
            [
              "Revision",
              read === null
                ? ""
                : `${read.revision}${read.linearizable ? "" : `, stale: last leader heard ${read.ageMs < 0 ? "never" : `${formatDuration(read.ageMs)} ago`}`}`,
            ],
          ]),
        );
      }),
    );
}

export function addTokenCommands(program: Command, io: Io): void {
  const token = program.command("token").description("join tokens");
  token
    .command("create")
    .description("make a token for `roost join`; it is shown this once")
    .option("--ttl <duration>", "how long it can be used (default 1h, at most 7d)")
    .option("--uses <n>", "how many nodes can join with it (default 1)")
    .action((options: { ttl?: string; uses?: string }, command: Command) =>
      withSession(io, command, async (session) => {
        const ttl = options.ttl === undefined ? null : parseDuration(options.ttl);
        if (ttl !== null && !ttl.ok) throw invalid("--ttl", `expected ${ttl.expected}`);
        const uses = options.uses === undefined ? 0 : Number(options.uses);
        if (!Number.isSafeInteger(uses) || uses < 0)
          throw invalid("--uses", `expected a whole number, not ${JSON.stringify(options.uses)}`);
        const answer = await session.client.call(
          "ClusterService",
          "CreateToken",
          { ttlMs: ttl?.value ?? 0, uses, requestId: io.newId() },
          session.limits,
        );
        const form = structured(session);
        if (form !== null) return printValue(io, form, { token: answer.token, ...answer.info });
        // On standard error, so that $(roost token create) is the token.
        const info = answer.info;
        if (info !== null) {
          const left = formatDuration(info.expiresAtMs - info.createdAtMs);
          io.err(`Good for ${info.usesLeft} ${info.usesLeft === 1 ? "node" : "nodes"} within ${left}. On the new node: roost join TOKEN\n`);
        }
        io.out(`${answer.token}\n`);
      }),
    );
  token
    .command("list")
    .alias("ls")
    .description("tokens that can still be used or have just ended; never their texts")
    .action((_options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const { tokens } = await session.client.call("ClusterService", "ListTokens", {}, session.limits);
        await printList(
          io,
          session.format,
          tokens,
          [
            { header: "ID", cell: (row) => row.id },
            { header: "USES", cell: (row) => String(row.usesLeft), right: true },
            {
              header: "EXPIRES",
              cell: (row) => (row.expiresAtMs <= io.nowMs() ? "expired" : `in ${formatDuration(row.expiresAtMs - io.nowMs())}`),
            },
            { header: "BY", cell: (row) => row.createdBy },
          ],
          tokenRow,
        );
      }),
    );
  token
    .command("revoke <id...>")
    .description("make tokens useless")
    .action((ids: string[], _options: object, command: Command) =>
      withSession(io, command, (session) =>
        eachItem(io, ids, async (id) => {
          await session.client.call("ClusterService", "RevokeToken", { id }, session.limits);
          io.out(`${id}: revoked\n`);
        }),
      ),
    );
}

export function addPoolCommands(program: Command, io: Io): void {
  const pool = program.command("pool").description("where volumes lie");
  pool
    .command("create <name>")
    .description("make a folder a pool")
    .requiredOption("--path <path>", "the folder, the same on each node")
    .option("--shared", "all nodes see the same files there: VMs on it can be recovered elsewhere")
    .action((name: string, options: { path: string; shared?: boolean }, command: Command) =>
      withSession(io, command, async (session) => {
        const { path, shared = false } = options;
        const answer = await session.client.call(
          "PoolService",
          "CreatePool",
          { name, kind: "dir", path, shared, requestId: io.newId() },
          session.limits,
        );
        const form = structured(session);
        if (form !== null) return printValue(io, form, answer.pool === null ? null : poolRow(answer.pool));
        io.out(`${name}: created, ${shared ? "shared" : "local to each node"}\n`);
      }),
    );
  pool
    .command("list")
    .alias("ls")
    .description("pools and how each node sees them")
    .action((_options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const { pools } = await session.client.call("PoolService", "ListPools", { consistency: session.consistency }, session.limits);
        await printList(
          io,
          session.format,
          pools,
          [
            { header: "NAME", cell: (row) => row.name },
            { header: "KIND", cell: (row) => row.kind },
            { header: "SHARED", cell: (row) => (row.shared ? "yes" : "no") },
            { header: "PATH", cell: (row) => row.path },
            { header: "NODES", cell: (row) => `${row.nodes.filter((node) => node.available).length}/${row.nodes.length}`, right: true },
            {
              header: "FREE",
              cell: (row) => freeText(row.nodes.filter((node) => node.available).map((node) => node.freeBytes)),
              right: true,
            },
            {
              header: "PROBLEM",
              cell: (row) =>
                row.nodes
                  .filter((node) => !node.available)
                  .map((node) => `${node.node}: ${node.problem}`)
                  .join("; "),
            },
          ],
          poolRow,
        );
      }),
    );
  pool
    .command("delete <name...>")
    .alias("rm")
    .description("forget pools that no VM uses; the files stay")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, (session) =>
        eachItem(io, names, async (name) => {
          await session.client.call("PoolService", "DeletePool", { name, requestId: io.newId() }, session.limits);
          io.out(`${name}: deleted\n`);
        }),
      ),
    );
}

/** Of several folders the fullest: it is the one that will refuse. */
/** Those that do not answer, and how many more may be lost. */
function votersText(nodes: readonly Node__Output[]): string {
  const voters = nodes.filter((node) => node.role === "voter" || node.role === "witness");
  const silent = voters.filter((node) => node.state === "unreachable" || node.state === "fenced").map((node) => node.name);
  const spare = Math.ceil(voters.length / 2) - 1 - silent.length;
  if (silent.length === 0) return `${voters.length}: ${spare > 0 ? spare : "none"} may be lost`;
  return `${voters.length}, silent: ${silent.toSorted().join(", ")}; ${spare > 0 ? spare : "none"} more may be lost`;
}

function freeText(free: number[]): string {
  return free.length === 0 ? "" : formatBytes(Math.min(...free));
}

function vdcText(row: Setting__Output): string {
  return Object.entries(row.vdcs)
    .map(([vdc, value]) => `${vdc}: ${value}`)
    .join(", ");
}

export function addSettingsCommands(program: Command, io: Io): void {
  const settings = program.command("settings").description("settings of the whole cluster, changed live");
  const all = async (session: Session): Promise<Setting__Output[]> =>
    (await session.client.call("ClusterService", "ListSettings", {}, session.limits)).settings;
  settings
    .command("list")
    .alias("ls")
    .description("all settings; changed ones are marked")
    .action((_options: object, command: Command) =>
      withSession(io, command, async (session) =>
        printList(
          io,
          session.format,
          await all(session),
          [
            { header: "KEY", cell: (row) => row.key },
            { header: "VALUE", cell: (row) => (row.value === row.defaultValue ? row.value : paint(io, "bold", `${row.value} *`)) },
            { header: "VDCS", cell: vdcText, wide: true },
            { header: "DEFAULT", cell: (row) => row.defaultValue },
            { header: "EXPECTED", cell: (row) => row.expected, wide: true },
            { header: "ABOUT", cell: (row) => (row.ignored === "" ? row.about : paint(io, "yellow", `without effect: ${row.ignored}`)) },
          ],
          (row) => ({ ...row }),
        ),
      ),
    );
  const update = async (session: Session, key: string, wish: { value?: string; vdc: string; reset?: boolean }): Promise<void> => {
    const { setting } = await session.client.call(
      "ClusterService",
      "UpdateSetting",
      { key, ...wish, requestId: io.newId() },
      session.limits,
    );
    const form = structured(session);
    if (form !== null) return printValue(io, form, setting);
    const now =
      wish.vdc === ""
        ? (setting?.value ?? "")
        : `${setting?.vdcs[wish.vdc] ?? `${setting?.value ?? ""} (the cluster's)`} in vdc ${wish.vdc}`;
    io.out(`${key}: ${now}\n`);
    if (setting !== null && setting.ignored !== "")
      io.err(`${paint(io, "yellow", "warning:", "err")} it has no effect: ${setting.ignored}\n`);
  };
  settings
    .command("set <key> <value>")
    .description("change one setting")
    .option("--vdc <vdc>", "only for VMs of this vdc")
    .action((key: string, value: string, options: { vdc?: string }, command: Command) =>
      withSession(io, command, (session) => update(session, key, { value, vdc: options.vdc ?? "" })),
    );
  settings
    .command("reset <key>")
    .description("let a vdc have the cluster's value again, or a kind of driver the platform's limit")
    .option("--vdc <vdc>", "which vdc")
    .action((key: string, options: { vdc?: string }, command: Command) =>
      withSession(io, command, (session) => update(session, key, { vdc: options.vdc ?? "", reset: true })),
    );
  settings
    .command("profile [name]")
    .description("set what belongs together as one: default or aggressive; without a name, list them")
    .action((name: string | undefined, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const request = { profile: name ?? "", requestId: io.newId() };
        const { profiles } = await session.client.call("ClusterService", "ApplyProfile", request, session.limits);
        await printList(
          io,
          session.format,
          profiles.filter((one) => name === undefined || one.name === name),
          [
            { header: "PROFILE", cell: (one) => (one.current ? paint(io, "bold", `${one.name} *`) : one.name) },
            {
              header: "VALUES",
              cell: (one) =>
                Object.entries(one.values)
                  .map(([key, value]) => `${key}=${value}`)
                  .join(" "),
            },
            { header: "ABOUT", cell: (one) => one.about },
          ],
          (one) => ({ ...one }),
        );
      }),
    );
  settings
    .command("explain <key>")
    .description("what a setting does, its range, default and value")
    .action((key: string, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const rows = await all(session);
        const row = rows.find((setting) => setting.key === key);
        if (row === undefined) {
          throw new RoostError(
            { kind: "not-found", what: "setting", name: key },
            `roost settings list shows them${didYouMean(
              key,
              rows.map((setting) => setting.key),
            )}`,
          );
        }
        const form = structured(session);
        if (form !== null) return printValue(io, form, row);
        io.out(
          `${row.about}\n\n${facts([
            ["Key", row.key],
            ["Value", row.value],
            ["Default", row.defaultValue],
            ["Expected", row.expected],
            ["VDCs", vdcText(row)],
            ["No effect", row.ignored],
          ])}`,
        );
      }),
    );
}
