/** roost up, join, down, daemon, keeper, config: parsed here, done by the handlers or the local daemon. */
import type { Command } from "commander";
import { Option } from "commander";
import { CONFIG_KEYS, CONFIG_RULES, resolveConfig } from "../../base/config.ts";
import type { ConfigKey } from "../../base/config.ts";
import { asRoostError, invalid, RoostError } from "../../base/errors.ts";
import { didYouMean } from "../../base/suggest.ts";
import { formatDuration, parseDuration } from "../../base/units.ts";
import { EXIT, Exit } from "../exit.ts";
import type { DaemonOptions, Handlers } from "../handlers.ts";
import type { Io } from "../io.ts";
import { parseFormat, printList, printValue } from "../output.ts";
import type { GlobalOptions } from "../session.ts";
import { withSession } from "../session.ts";
import { facts } from "../table.ts";

function withConfigOptions(command: Command): Command {
  command
    .option("--config <file>", "config file (default: config.yaml in the data folder)")
    .option("--foreground", "stay here and log to standard error");
  for (const key of CONFIG_KEYS) command.addOption(new Option(CONFIG_RULES[key].flag, CONFIG_RULES[key].about));
  return command;
}

function daemonOptions(options: Record<string, unknown>): DaemonOptions {
  const flags: Partial<Record<ConfigKey, string>> = {};
  for (const key of CONFIG_KEYS) {
    const value = options[key];
    if (typeof value === "string") flags[key] = value;
  }
  const configFile = options["config"];
  return { flags, configFile: typeof configFile === "string" ? configFile : null, foreground: options["foreground"] === true };
}

async function end(code: Promise<number>): Promise<void> {
  const got = await code;
  if (got !== EXIT.ok) throw new Exit(got);
}

export function addDaemonCommands(program: Command, io: Io, handlers: Handlers): void {
  withConfigOptions(program.command("up").description("start this node; on a bare host this founds a cluster of one"))
    .option("--cluster-name <name>", "name of the cluster that is founded")
    .action((options: Record<string, unknown>) => {
      const name = options["clusterName"];
      return end(handlers.up({ ...daemonOptions(options), clusterName: typeof name === "string" ? name : null }));
    });

  withConfigOptions(program.command("join <token>").description("join this host to the cluster that made the token (roost token create)"))
    .option("--witness", "it votes and runs no VMs: a third voice for two nodes")
    .action(async (token: string, options: Record<string, unknown>) => {
      // A token on the command line can be read by others on this host: - takes it from standard input.
      const text = token === "-" ? (await io.readStdin()).trim() : token;
      return end(handlers.join(text, { ...daemonOptions(options), witness: options["witness"] === true }));
    });

  withConfigOptions(program.command("daemon", { hidden: true })).action((options: Record<string, unknown>) =>
    end(handlers.daemon(daemonOptions(options))),
  );

  program
    .command("keeper", { hidden: true })
    .argument("[words...]")
    .allowUnknownOption()
    .action((words: string[]) => end(handlers.keeper(words)));

  program
    .command("down")
    .description("stop this node's agent; its VMs keep running, their claims are parked")
    .option("--park <duration>", "how long the VMs may wait for the agent (default 10m)")
    .option("--no-park", "stop though nobody can note it, as without quorum or once removed: HA VMs here end when their claims do")
    .action((options: { park?: string | boolean }, command: Command) => {
      const park = typeof options.park === "string" ? parseDuration(options.park) : null;
      if (park !== null && !park.ok) throw invalid("--park", `expected ${park.expected}`);
      const { context, socket } = command.optsWithGlobals<GlobalOptions>();
      if (socket === undefined && (context !== undefined || (io.env["ROOST_CONTEXT"] ?? "") !== "")) {
        // Over the network "this node" would be whichever answers first.
        throw new RoostError(
          { kind: "precondition", reason: "roost down stops the agent of this host, and a context points elsewhere" },
          "run it on the node, without a context",
        );
      }
      return withSession(io, command, async (session) => {
        const withoutParking = options.park === false;
        const request = { parkMs: park?.value ?? 0, withoutParking };
        const { parkedMs } = await session.client.call("NodeService", "StopAgent", request, session.limits).catch((thrown: unknown) => {
          const { fault } = asRoostError(thrown);
          const mayHelp = !withoutParking && (fault.kind === "unavailable" || fault.kind === "precondition");
          throw mayHelp
            ? new RoostError(fault, "`roost down --no-park` stops it all the same; its HA VMs end when their claims do")
            : thrown;
        });
        io.out(
          parkedMs === 0
            ? "the agent stops; VMs without HA keep running, those under HA until their claims end\n"
            : `the agent stops; its VMs keep running, and nobody recovers them for ${formatDuration(parkedMs)}\nroost up takes them over again\n`,
        );
      });
    });

  addConfigCommands(program, io);
}

function addConfigCommands(program: Command, io: Io): void {
  program
    .command("config")
    .description("options of this node: config file < environment < flags")
    .command("explain [key]")
    .description("what an option does, where it can be set, what it is now")
    .option("--config <file>", "config file to look at")
    .action(async (key: string | undefined, options: { config?: string }, command: Command) => {
      const data = io.env["ROOST_DATA"] ?? CONFIG_RULES.data.initial;
      const path = options.config ?? `${data}/config.yaml`;
      const text = await io.readFile(path).catch((error: NodeJS.ErrnoException) => {
        if (options.config === undefined) return "";
        throw new RoostError({ kind: "not-found", what: "config file", name: path }, undefined, { cause: error });
      });
      const { parse } = await import("yaml");
      const file = (parse(text) ?? {}) as Record<string, unknown>;
      const { values, sources } = resolveConfig({ file, env: io.env, flags: {} });
      if (key !== undefined && !Object.hasOwn(CONFIG_RULES, key)) {
        throw new RoostError(
          { kind: "not-found", what: "option", name: key },
          `roost config explain lists them${didYouMean(key, CONFIG_KEYS)}`,
        );
      }
      const rows = CONFIG_KEYS.filter((candidate) => key === undefined || candidate === key).map((name) => {
        const { env, flag, initial, expected, about } = CONFIG_RULES[name];
        return { key: name, value: values[name], source: sources[name], default: initial, environment: env, flag, expected, about };
      });
      const format = parseFormat(command.optsWithGlobals<GlobalOptions>().output);
      const [only] = rows;
      if (key === undefined || only === undefined) {
        return printList(
          io,
          format,
          rows,
          [
            { header: "KEY", cell: (row) => row.key },
            { header: "VALUE", cell: (row) => row.value },
            { header: "FROM", cell: (row) => row.source },
            { header: "ENVIRONMENT", cell: (row) => row.environment },
            { header: "FLAG", cell: (row) => row.flag },
            { header: "ABOUT", cell: (row) => row.about, wide: true },
          ],
          (row) => row,
        );
      }
      if (format === "json" || format === "yaml") return printValue(io, format, only);
      io.out(
        `${only.about}\n\n${facts([
          ["Key in the config file", only.key],
          ["Environment", only.environment],
          ["Flag", only.flag],
          ["Expected", only.expected],
          ["Default", only.default === "" ? "(none)" : only.default],
          ["Value", only.value === "" ? "(none)" : only.value],
          ["From", only.source],
        ])}`,
      );
    });
}
