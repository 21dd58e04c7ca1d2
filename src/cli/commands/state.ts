/** roost cluster verify, backup, restore, recover, rejoin: the replicated state as a whole. */
import { type Command, Option } from "commander";
import { CONFIG_RULES, type ConfigKey } from "../../base/config.ts";
import { invalid } from "../../base/errors.ts";
import { BACKUP_MAGIC, FrameReader } from "../../base/framed.ts";
import { formatBytes } from "../../base/units.ts";
import { EXIT, Exit } from "../exit.ts";
import type { Handlers, RecoverAnswer, RejoinAnswer, RestoreAnswer } from "../handlers.ts";
import { type Io, paint } from "../io.ts";
import { parseFormat, printValue, timeText } from "../output.ts";
import { type GlobalOptions, withSession } from "../session.ts";
import { facts, table } from "../table.ts";

/** A big state on a slow line. */
const BACKUP_LIMIT_MS = 600_000;
/** What a restored node may be given, as `roost up` takes it. */
const PLACE_KEYS = ["data", "name", "listen", "advertise", "zone", "labels"] as const satisfies readonly ConfigKey[];

/** What is shown of a backup's first piece. */
interface BackupHead {
  clusterId: string;
  name: string;
  generation: number;
  index: number;
}

export function addStateCommands(cluster: Command, io: Io, handlers: Handlers): void {
  addVerify(cluster, io);
  addBackup(cluster, io);
  addRestore(cluster, io, handlers);
  addRecover(cluster, io, handlers);
  addRejoin(cluster, io, handlers);
}

function addVerify(cluster: Command, io: Io): void {
  cluster
    .command("verify")
    .description("compare all nodes' tables at one index by their hashes; exit code 1 if any differs")
    .action((_options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const answer = await session.client.call("ClusterService", "VerifyCluster", { requestId: io.newId() }, session.limits);
        const differs = answer.nodes.some((node) => node.result === "differs");
        if (session.format === "json" || session.format === "yaml") await printValue(io, session.format, answer);
        else {
          const what = (node: (typeof answer.nodes)[number]): string =>
            node.differences.map(({ table: name, first }) => (first === "" ? name : `${name}, first at keys ${first}…`)).join("; ");
          io.out(
            table(
              ["NODE", "RESULT", "WHERE"],
              answer.nodes.map((node) => [node.node, node.result, what(node)]),
            ),
          );
          const rows = answer.tables.reduce((sum, one) => sum + one.rows, 0);
          io.out(
            `\n${rows} rows in ${answer.tables.length} tables at revision ${answer.revision}: ${differs ? paint(io, "red", "not the same everywhere") : "the same on all that answered"}\n`,
          );
          if (differs)
            io.err("hint: a node that differs cannot be trusted: remove it and join it again; keep its data folder for a bug report\n");
        }
        if (differs) throw new Exit(EXIT.failed);
      }),
    );
}

function addBackup(cluster: Command, io: Io): void {
  cluster
    .command("backup <file>")
    .description("write the whole state at one index into a new file; it holds the CA's key: keep it as you keep root's password")
    .action((path: string, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const file = await io.createFile(path);
        const reader = new FrameReader("the backup as it came", BACKUP_MAGIC);
        let bytes = 0;
        const heads: BackupHead[] = [];
        try {
          for await (const { data } of session.client.watch(
            "ClusterService",
            "BackupCluster",
            {},
            { signal: io.signal, timeoutMs: BACKUP_LIMIT_MS },
          )) {
            const [first] = reader.push(data);
            if (heads.length === 0 && first !== undefined) heads.push(JSON.parse(new TextDecoder().decode(first)) as BackupHead);
            await file.write(data);
            bytes += data.length;
          }
          reader.finish();
        } catch (thrown) {
          await file.discard();
          throw thrown;
        }
        await file.commit();
        const [head] = heads;
        const answer = {
          file: path,
          bytes,
          clusterId: head?.clusterId ?? "",
          generation: head?.generation ?? 0,
          revision: head?.index ?? 0,
        };
        if (session.format === "json" || session.format === "yaml") return printValue(io, session.format, answer);
        io.out(`${path}: ${formatBytes(bytes)}, cluster ${head?.name ?? ""} at revision ${answer.revision}\n`);
      }),
    );
}

function addRestore(cluster: Command, io: Io, handlers: Handlers): void {
  const restore = cluster
    .command("restore <file>")
    .description("found a cluster of one from a backup, in an empty data folder; says what it would do unless --yes")
    .option("--as <node>", "go on as this node of the backup, on its very host: its VMs there stay its own")
    .option("--off <nodes>", "nodes of the backup that you have seen powered off, with commas: their claims end")
    .option("--generation <n>", "of the restored cluster; above all that ever was (default: the backup's + 1)")
    .option("--yes", "do it");
  for (const key of PLACE_KEYS) restore.addOption(new Option(CONFIG_RULES[key].flag, CONFIG_RULES[key].about));
  restore.action(async (file: string, options: Record<string, unknown>, command: Command) => {
    const flags: Partial<Record<ConfigKey, string>> = {};
    for (const key of PLACE_KEYS) {
      const value = options[key];
      if (typeof value === "string") flags[key] = value;
    }
    const generation = options["generation"] === undefined ? null : Number(options["generation"]);
    if (generation !== null && !(Number.isSafeInteger(generation) && generation > 1))
      throw invalid("--generation", "expected a whole number above the backup's");
    const as = options["as"];
    const answer = await handlers.restore({
      file,
      flags,
      as: typeof as === "string" ? as : null,
      off: names(options["off"]),
      generation,
      yes: options["yes"] === true,
    });
    await tell(io, command, answer, restoreText(answer));
  });
}

function addRecover(cluster: Command, io: Io, handlers: Handlers): void {
  cluster
    .command("recover")
    .description("after the quorum is lost for good: this node goes on without the others; says what would be lost unless --yes")
    .option("--data <path>", CONFIG_RULES.data.about)
    .option("--off <nodes>", "nodes that you have seen powered off, with commas: their HA VMs are recovered")
    .option("--accept-loss", "go on although another survivor has more")
    .option("--yes", "do it")
    .action(async (options: { data?: string; off?: string; yes?: boolean; acceptLoss?: boolean }, command: Command) => {
      const { yes = false, acceptLoss = false } = options;
      const answer = await handlers.recover({ dataDir: dataDir(io, options.data), off: names(options.off), yes, acceptLoss });
      await tell(io, command, answer, recoverText(answer));
    });
}

function addRejoin(cluster: Command, io: Io, handlers: Handlers): void {
  cluster
    .command("rejoin <address>")
    .description("bring back a node that a recover left out: it begins anew from the node at the address (host:port of its API)")
    .option("--data <path>", CONFIG_RULES.data.about)
    .option("--yes", "do it")
    .action(async (address: string, options: { data?: string; yes?: boolean }, command: Command) => {
      const answer = await handlers.rejoin({ dataDir: dataDir(io, options.data), address, yes: options.yes ?? false });
      await tell(io, command, answer, rejoinText(answer));
    });
}

function dataDir(io: Io, flag: string | undefined): string {
  return flag ?? io.env["ROOST_DATA"] ?? CONFIG_RULES.data.initial;
}

function names(text: unknown): string[] {
  return typeof text === "string" && text !== "" ? text.split(",").map((name) => name.trim()) : [];
}

async function tell(io: Io, command: Command, answer: object, text: string): Promise<void> {
  const format = parseFormat(command.optsWithGlobals<GlobalOptions>().output);
  if (format === "json" || format === "yaml") await printValue(io, format, answer);
  else io.out(text);
}

function recoverText(answer: RecoverAnswer): string {
  const place = (term: number | null, index: number | null): string => (index === null ? "no answer" : `${index} of term ${term ?? 0}`);
  const rows = answer.nodes.map((node) => [node.name, node.fate, place(node.lastTerm, node.lastIndex), String(node.vms)]);
  const unknown = answer.nodes.filter(({ fate }) => fate === "unknown").map(({ name }) => name);
  const survivors = answer.nodes.filter(({ fate }) => fate === "survives").map(({ name }) => name);
  const lines = [
    table(["NODE", "FATE", "LOG ENDS AT", "VMS"], rows),
    `\nKept: all up to entry ${answer.lastIndex} of term ${answer.lastTerm}${answer.uncertain === 0 ? "" : `, ${answer.uncertain} of them not known to be committed`}. Lost: what only the others had.\n`,
    answer.done
      ? `${answer.node} goes on alone, in generation ${answer.generation}. Start it: roost up\n`
      : `With --yes ${answer.node} goes on alone, in generation ${answer.generation}; nodes of before are refused.\n`,
  ];
  if (survivors.length > 0)
    lines.push(
      `Then, on ${survivors.join(", ")}, with the agent stopped: roost cluster rejoin ADDRESS-OF-${answer.node} --yes, and roost up\n`,
    );
  if (unknown.length > 0)
    lines.push(
      `Nothing is placed before you know of ${unknown.join(", ")}: see that each is off, then --off here or roost node fence later.\n`,
    );
  return lines.join("");
}

function rejoinText(answer: RejoinAnswer): string {
  return answer.done
    ? `${answer.node}: from generation ${answer.from} to ${answer.generation}; what it had is put aside as *${answer.aside}. Start it: roost up\n`
    : `With --yes ${answer.node} goes from generation ${answer.from} to ${answer.generation} and begins with an empty log and state; the old ones are put aside. Its VMs are left as they are.\n`;
}

function restoreText(answer: RestoreAnswer): string {
  const unknown = answer.nodes.filter(({ off }) => !off).map(({ name }) => name);
  const lines = [
    facts([
      ["Cluster", `${answer.clusterName} (${answer.clusterId})`],
      ["Backup of", `${timeText(answer.createdAtMs)}, revision ${answer.revision}, ${answer.vms} VMs`],
      ["Generation", String(answer.generation)],
      ["Node", answer.node],
    ]),
    answer.nodes.length === 0
      ? ""
      : `\n${table(
          ["NODE OF BEFORE", "FATE", "VMS"],
          answer.nodes.map((node) => [node.name, node.off ? "off" : "unknown", String(node.vms)]),
        )}`,
    answer.done ? "\nRestored. Start it: roost up\n" : "\nNothing was changed: --yes does it.\n",
  ];
  if (unknown.length > 0)
    lines.push(
      `Nothing starts before you know of ${unknown.join(", ")}: see that each is off, then --off here or roost node fence later.\n`,
    );
  // Nobody can hold back for a node that nobody knows of.
  lines.push("A node that joined after the backup is not in it, and may run VMs that it knows: see that each such node is off first.\n");
  return lines.join("");
}
