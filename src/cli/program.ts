/** The whole command line as one commander program. Nothing heavy is imported here: help and completion must start at once. */
import { Command, CommanderError } from "commander";
import { RoostError } from "../base/errors.ts";
import { didYouMean } from "../base/suggest.ts";
import { CONFIG_KEYS } from "../base/config.ts";
import { versionLine } from "../base/version.ts";
import { addAuditCommands } from "./commands/audit.ts";
import { addClusterCommands, addPoolCommands, addSettingsCommands, addTokenCommands } from "./commands/cluster.ts";
import { addContextCommands } from "./commands/context.ts";
import { addEventCommands } from "./commands/events.ts";
import { addDoctorCommand } from "./commands/doctor.ts";
import { addDaemonCommands } from "./commands/daemon.ts";
import { addHaCommands } from "./commands/ha.ts";
import { addLimitCommands } from "./commands/limits.ts";
import { addSchedulerCommands } from "./commands/scheduler.ts";
import { addNodeCommands } from "./commands/node.ts";
import { addPolicyCommands, addZoneCommands } from "./commands/policy.ts";
import { addTaskCommands } from "./commands/task.ts";
import { addVmCommands, listAll } from "./commands/vm.ts";
import { SHELLS } from "./completion.ts";
import { contextsDir } from "./context.ts";
import { EXIT, Exit, printError } from "./exit.ts";
import type { Handlers } from "./handlers.ts";
import { EXAMPLES, TOPICS } from "./help.ts";
import type { Io } from "./io.ts";
import { withSession } from "./session.ts";

export interface ProgramOptions {
  io: Io;
  handlers: Handlers;
  /** Names of the files in a folder; empty if there is none. */
  listDir: (path: string) => Promise<string[]>;
}

export function buildProgram({ io, handlers, listDir }: ProgramOptions): Command {
  const program = new Command("roost");
  program
    .description("Turns a handful of Linux hosts into one place to run virtual machines.")
    .version(versionLine(), "-V, --version", "version, commit and runtime")
    .option("-o, --output <form>", "table, wide, json or yaml", "table")
    .option("--timeout <duration>", "of a call (default 15s), or of --wait (default 5m)")
    .option("--context <name|file>", "cluster and user to call as (roost help environment)")
    .option("--socket <path>", "socket of a daemon on this host")
    .option("--stale", "read what the answering node has, without asking the others")
    .configureHelp({ showGlobalOptions: false, sortSubcommands: false })
    .helpCommand(false)
    .addHelpText("after", EXAMPLES)
    .configureOutput({ writeOut: io.out, writeErr: io.err, outputError: () => {} })
    .showSuggestionAfterError(false)
    .exitOverride();

  addDaemonCommands(program, io, handlers);
  addClusterCommands(program, io, handlers);
  addNodeCommands(program, io);
  addTokenCommands(program, io);
  addVmCommands(program, io);
  addTaskCommands(program, io);
  addLimitCommands(program, io);
  addPoolCommands(program, io);
  addPolicyCommands(program, io);
  addZoneCommands(program, io);
  addHaCommands(program, io);
  addAuditCommands(program, io);
  addSchedulerCommands(program, io, handlers);
  addEventCommands(program, io);
  addDoctorCommand(program, io);
  addSettingsCommands(program, io);
  addContextCommands(program, io, listDir);
  addOwnCommands(program, io, listDir);
  for (const command of allCommands(program)) {
    command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err, outputError: () => {} });
    if (command !== program) {
      command
        .helpCommand(false)
        .addHelpText("after", "\nFor all commands: -o table|wide|json|yaml, --timeout 30s, --context NAME, --stale\n");
    }
  }
  return program;
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

function addOwnCommands(program: Command, io: Io, listDir: ProgramOptions["listDir"]): void {
  program
    .command("help [words...]")
    .description("help on a command or a topic")
    .action((words: string[]) => {
      const topic = TOPICS[words.join(" ")];
      if (topic !== undefined) return io.out(topic);
      let at = program;
      for (const word of words) {
        const next = at.commands.find((command) => command.name() === word || command.aliases().includes(word));
        if (next === undefined) {
          const known = [...at.commands.map((command) => command.name()), ...(at === program ? Object.keys(TOPICS) : [])];
          throw new RoostError(
            { kind: "not-found", what: "command or topic", name: words.join(" ") },
            didYouMean(word, known)
              .trim()
              .replace(/^\(|\)$/g, "") || "roost help lists them",
          );
        }
        at = next;
      }
      io.out(at.helpInformation() + (at === program ? EXAMPLES : ""));
    });
  program
    .command("version")
    .description("version, commit and runtime")
    .action(() => io.out(`${versionLine()}\n`));
  program
    .command("completion <shell>")
    .description("print a completion script for bash, zsh or fish")
    .action((shell: string) => {
      const script = Object.hasOwn(SHELLS, shell) ? SHELLS[shell as keyof typeof SHELLS] : undefined;
      if (script === undefined) {
        throw new RoostError({
          kind: "invalid",
          violations: [{ field: "shell", message: `expected bash, zsh or fish, not ${JSON.stringify(shell)}` }],
        });
      }
      io.out(script(program));
    });
  // Names for completion scripts. Silent about errors: a shell that completes is no place for them.
  program.command("__complete <kind>", { hidden: true }).action(async (kind: string, _options: object, command: Command) => {
    const names = await completionNames(io, kind, command, listDir).catch(() => []);
    io.out(names.map((name) => `${name}\n`).join(""));
  });
}

async function completionNames(io: Io, kind: string, command: Command, listDir: ProgramOptions["listDir"]): Promise<string[]> {
  if (kind === "config") return [...CONFIG_KEYS];
  if (kind === "contexts")
    return (await listDir(contextsDir(io))).filter((file) => file.endsWith(".yaml")).map((file) => file.slice(0, -5));
  const names: string[] = [];
  await withSession(io, command, async (session) => {
    const quick = { ...session, consistency: "CONSISTENCY_STALE" as const, limits: { ...session.limits, timeoutMs: 2_000 } };
    const { client, limits } = quick;
    if (kind === "vms") names.push(...(await listAll(quick, {})).map((vm) => vm.name));
    if (kind === "nodes")
      names.push(
        ...(await client.call("NodeService", "ListNodes", { consistency: "CONSISTENCY_STALE" }, limits)).nodes.map((node) => node.name),
      );
    if (kind === "pools")
      names.push(
        ...(await client.call("PoolService", "ListPools", { consistency: "CONSISTENCY_STALE" }, limits)).pools.map((pool) => pool.name),
      );
    if (kind === "policies")
      names.push(
        ...(await client.call("PolicyService", "ListPolicies", { consistency: "CONSISTENCY_STALE" }, limits)).policies.map(
          (one) => one.name,
        ),
      );
    if (kind === "zones")
      names.push(
        ...(await client.call("PolicyService", "ListZones", { consistency: "CONSISTENCY_STALE" }, limits)).zones.map((one) => one.name),
      );
    if (kind === "tasks")
      names.push(
        ...(await client.call("TaskService", "ListTasks", { consistency: "CONSISTENCY_STALE", pageSize: 100 }, limits)).tasks.map(
          (one) => one.id,
        ),
      );
    if (kind === "settings")
      names.push(...(await client.call("ClusterService", "ListSettings", {}, limits)).settings.map((row) => row.key));
    if (kind === "tokens") names.push(...(await client.call("ClusterService", "ListTokens", {}, limits)).tokens.map((row) => row.id));
  });
  return names;
}

/** Runs one command line and answers the exit code; never throws, never ends the process. */
export async function runProgram(argv: readonly string[], options: ProgramOptions): Promise<number> {
  const { io } = options;
  const program = buildProgram(options);
  if (argv.length === 0) {
    program.outputHelp();
    return EXIT.usage;
  }
  try {
    await program.parseAsync([...argv], { from: "user" });
    // What follows for ever ends in no other way; scripts shall see that it was cut.
    return io.signal.aborted ? EXIT.interrupted : EXIT.ok;
  } catch (error) {
    if (error instanceof Exit) return error.code;
    if (error instanceof CommanderError) return usageError(io, program, argv, error);
    if (io.signal.aborted) return EXIT.interrupted;
    return printError(io, error);
  }
}

function usageError(io: Io, program: Command, argv: readonly string[], error: CommanderError): number {
  if (error.exitCode === 0 || error.code === "commander.help") return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  // The deepest command that the words name: its help is what is wanted, and its words are what could be meant.
  let at = program;
  for (const word of argv) {
    const next = at.commands.find((command) => command.name() === word || command.aliases().includes(word));
    if (next !== undefined) at = next;
  }
  const wrong = /'([^']+)'/.exec(error.message)?.[1] ?? "";
  const known = wrong.startsWith("-")
    ? [...at.options, ...program.options].map((option) => option.long ?? "")
    : at.commands.map((command) => command.name());
  const message = error.message.replace(/^error: /, "").split("\n")[0] ?? "";
  const line = ["roost", ...pathOf(at)].join(" ");
  return printError(
    io,
    new RoostError({ kind: "invalid", violations: [{ field: "", message: `${message}${didYouMean(wrong, known)}` }] }, `${line} --help`),
  );
}

function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}
