/** roost vm … */
import type { Command } from "commander";
import { asRoostError, invalid } from "../../base/errors.ts";
import { formatDuration, formatGeneration, formatMib } from "../../base/units.ts";
import type { Vm__Output } from "../../gen/types/roost/v1/Vm.ts";
import { followTask } from "../follow-task.ts";
import { stateLine } from "../state-line.ts";
import { paint } from "../io.ts";
import type { Colour, Io } from "../io.ts";
import { printList, printValue, timeText } from "../output.ts";
import type { Column } from "../output.ts";
import { historyRow, vmDetailRow, vmRow } from "../rows.ts";
import { eachItem, withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { facts } from "../table.ts";
import { addVmTasks } from "./task.ts";
import { createVms } from "./vm-create.ts";
import type { CreateOptions } from "./vm-create.ts";
import { exportVms } from "./vm-export.ts";

const STATE_COLOURS: Record<string, Colour> = { running: "green", failed: "red", unknown: "red", recovering: "yellow", pending: "yellow" };

export function paintState(io: Io, state: string): string {
  const colour = STATE_COLOURS[state];
  return colour === undefined ? state : paint(io, colour, state);
}

function columns(io: Io): Column<Vm__Output>[] {
  return [
    { header: "NAME", cell: (vm) => vm.name },
    { header: "STATE", cell: (vm) => paintState(io, vm.state) },
    { header: "NODE", cell: (vm) => vm.node },
    { header: "CPUS", cell: (vm) => String(vm.definition?.cpus ?? 0), right: true },
    { header: "MEMORY", cell: (vm) => formatMib(vm.definition?.memoryMib ?? 0), right: true },
    { header: "HA", cell: (vm) => (vm.underHa ? "yes" : "no") },
    { header: "GENERATION", cell: (vm) => formatGeneration(vm.generation), right: true, wide: true },
    { header: "ID", cell: (vm) => vm.id, wide: true },
    { header: "LABELS", cell: (vm) => labelText(vm.definition?.labels ?? {}), wide: true },
    { header: "AGE", cell: (vm) => formatDuration(io.nowMs() - vm.createdAtMs), right: true },
    { header: "NOTE", cell: noteOf },
  ];
}

function labelText(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

/** The one thing to know about it: why it is not where it should be, else its first warning. */
function noteOf(vm: Vm__Output): string {
  if (vm.desired === "deleted" && vm.state !== "deleted") return "being deleted";
  if (vm.hold) return `held: roost vm start ${vm.name}`;
  const first = vm.pendingReasons[0];
  if (first !== undefined) return `${first.code}: ${first.detail}`;
  if (vm.unpinned !== "") return `not pinned: ${vm.unpinned}`;
  return vm.reason === "" ? (vm.warnings[0] ?? "") : vm.reason;
}

export async function listAll(session: Session, filter: { labels?: string[]; node?: string }): Promise<Vm__Output[]> {
  const vms: Vm__Output[] = [];
  let pageToken = "";
  do {
    const answer = await session.client.call(
      "VmService",
      "ListVms",
      { ...filter, consistency: session.consistency, pageToken },
      session.limits,
    );
    vms.push(...answer.vms);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  return vms;
}

async function getVm(session: Session, name: string): Promise<Vm__Output> {
  const { vm } = await session.client.call("VmService", "GetVm", { vm: name, consistency: session.consistency }, session.limits);
  if (vm === null) throw invalid("vm", "the answer has no VM");
  return vm;
}

interface VerbOptions {
  wait?: boolean;
  node?: string;
  force?: boolean;
}

interface MigrateOptions extends VerbOptions {
  live?: boolean;
  cold?: boolean;
  abort?: boolean;
}

/** A wish for each VM named; with --wait the task of each is followed to its end. */
async function wish(
  session: Session,
  names: string[],
  options: VerbOptions,
  call: (name: string) => Promise<{ vm: Vm__Output | null; task?: string }>,
): Promise<void> {
  const done = new Map<string, Vm__Output>();
  const structured = session.format === "json" || session.format === "yaml";
  try {
    await eachItem(session.io, names, async (name) => {
      const { vm, task = "" } = await call(name);
      if (vm === null) return;
      const waits = options.wait === true && task !== "";
      if (waits) await followTask(session, { id: task, name: vm.name }, { onward: true });
      done.set(name, waits ? ((await findVm(session, vm.id)) ?? { ...vm, state: "deleted", node: "", reason: "", tasks: [] }) : vm);
    });
  } finally {
    // In the order they were named, not in that of the answers.
    const rows = [...new Set(names)].flatMap((name) => done.get(name) ?? []);
    if (structured) await printValue(session.io, session.format === "json" ? "json" : "yaml", rows.map(vmRow));
    else for (const vm of rows) session.io.out(`${vm.name}: ${stateLine(vm)}${vm.tasks.length === 0 ? "" : ` (${vm.tasks.join(", ")})`}\n`);
  }
}

/** null if it is gone. */
async function findVm(session: Session, id: string): Promise<Vm__Output | null> {
  try {
    return await getVm(session, id);
  } catch (error) {
    if (asRoostError(error).fault.kind === "not-found") return null;
    throw error;
  }
}

function cpuText(vm: Vm__Output): string {
  const definition = vm.definition;
  const cpus = String(definition?.cpus ?? 0);
  if (definition?.cpuPinning === null || definition?.cpuPinning === undefined) return cpus;
  const asked = definition.cpuPinning.numa === "one" ? "of one NUMA node" : "anywhere on the node";
  if (vm.pinnedCpus.length > 0) return `${cpus}, pinned to CPUs ${vm.pinnedCpus.join(",")}`;
  return vm.unpinned === "" ? `${cpus}, to be pinned ${asked}` : `${cpus}, not pinned: ${vm.unpinned}`;
}

function show(io: Io, vm: Vm__Output): void {
  const definition = vm.definition;
  io.out(
    facts([
      ["Name", vm.name],
      ["Id", vm.id],
      ["State", `${paintState(io, vm.state)} since ${timeText(vm.stateSinceMs)}`],
      ["Reason", vm.reason],
      ["Waits for", vm.waits],
      ["Wanted", vm.desired + (vm.hold ? ", held from the scheduler" : "") + (vm.wantedNode === "" ? "" : `, only on ${vm.wantedNode}`)],
      ["Node", vm.node === "" ? "" : `${vm.node}, generation ${formatGeneration(vm.generation)}`],
      ["Home", vm.homeNode],
      ["HA", vm.underHa ? `yes, priority ${definition?.ha?.priority ?? 0}` : "no"],
      ["CPUs", cpuText(vm)],
      ["VDC", definition?.vdc ?? ""],
      ["Partition", definition?.partition ?? ""],
      ["Requires", definition?.requirements ?? ""],
      ["Rank", definition?.rank ?? ""],
      ["Policies", vm.policies.join(", ")],
      ["Memory", formatMib(definition?.memoryMib ?? 0)],
      ["Labels", labelText(definition?.labels ?? {})],
      ["Failures", vm.failures === 0 ? "" : String(vm.failures)],
      ["Tasks", vm.tasks.length === 0 ? "" : `${vm.tasks.join(", ")} (roost task show ${vm.tasks[0] ?? ""})`],
    ]),
  );
  for (const disk of definition?.disks ?? [])
    io.out(`Disk ${disk.target}: pool ${disk.pool}${disk.source === "" ? "" : `, from ${disk.source}`}\n`);
  for (const nic of definition?.nics ?? []) io.out(`Nic ${nic.mac}: bridge ${nic.bridge}\n`);
  for (const warning of vm.warnings) io.out(`${paint(io, "yellow", "Warning:")} ${warning}\n`);
  if (vm.pendingReasons.length > 0) {
    io.out("Why no node takes it:\n");
    for (const reason of vm.pendingReasons) io.out(`  ${reason.nodes} × ${reason.code}: ${reason.detail}\n`);
  }
}

export function addVmCommands(program: Command, io: Io): void {
  const vm = program.command("vm").description("virtual machines");
  const waitOption = ["-w, --wait", "follow to the goal, up to --timeout (default 5m)"] as const;

  vm.command("create")
    .description("create VMs from a file of definitions (roost help vm-file)")
    .requiredOption("-f, --file <file>", "YAML or JSON; - reads standard input")
    .option("--node <node>", "only this node will do")
    .option("--force", "with --node: although a preference is for others")
    .option("--hold", "keep from the scheduler until started by hand")
    .option("--stopped", "create, but do not start")
    .option("--plan", "check everything, create nothing")
    .option(...waitOption)
    .action((options: CreateOptions, command: Command) => withSession(io, command, (session) => createVms(session, options)));

  vm.command("list")
    .alias("ls")
    .description("all VMs, or those of a node or with labels")
    .option("--node <node>", "only VMs on this node")
    .option("-l, --label <key=value...>", "only VMs with all these labels")
    .action((options: { node?: string; label?: string[] }, command: Command) =>
      withSession(io, command, async (session) => {
        const vms = await listAll(session, { labels: options.label ?? [], node: options.node ?? "" });
        await printList(io, session.format, vms, columns(io), vmRow);
      }),
    );

  vm.command("show <vm...>")
    .description("all about VMs: definition, state, warnings, why pending")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        if (session.format === "json" || session.format === "yaml") {
          const rows: object[] = [];
          await eachItem(io, names, async (name) => void rows.push(vmDetailRow(await getVm(session, name))));
          return printValue(io, session.format, names.length === 1 ? rows[0] : rows);
        }
        let first = true;
        await eachItem(io, names, async (name) => {
          const found = await getVm(session, name);
          if (!first) io.out("\n");
          first = false;
          show(io, found);
        });
      }),
    );

  vm.command("start <vm...>")
    .alias("deploy")
    .description("start stopped VMs; release held ones to the scheduler")
    .option("--node <node>", "only this node will do")
    .option("--force", "with --node: although a preference is for others; never passes a must")
    .option(...waitOption)
    .action((names: string[], options: VerbOptions, command: Command) =>
      withSession(io, command, (session) => {
        const { node = "", force = false } = options;
        return wish(session, names, options, (name) =>
          session.client.call("VmService", "StartVm", { vm: name, node, force, requestId: io.newId() }, session.limits),
        );
      }),
    );

  vm.command("migrate <vm...>")
    .description("move VMs to another node: running ones while they run, stopped ones with their home")
    .option("--node <node>", "where to; running ones without it go where the scheduler says")
    .option("--live", "only if it runs")
    .option("--cold", "only if it is stopped")
    .option("--force", "although a preference is for others; never passes a must")
    .option("--abort", "give the migration under way up; the VM goes on where it is")
    .option(...waitOption)
    .action((names: string[], options: MigrateOptions, command: Command) =>
      withSession(io, command, async (session) => {
        const { node = "", force = false, live = false, cold = false, abort = false } = options;
        if (live && cold) throw invalid("--cold", "goes without --live");
        const mode = live ? "live" : cold ? "cold" : "";
        await wish(session, names, abort ? {} : options, async (name) => {
          if (abort) return await session.client.call("VmService", "AbortMigration", { vm: name, requestId: io.newId() }, session.limits);
          const request = { vm: name, node, force, mode, requestId: io.newId() };
          return await session.client.call("VmService", "MigrateVm", request, session.limits);
        });
      }),
    );

  for (const force of [false, true]) {
    vm.command(force ? "force-shutdown <vm...>" : "shutdown <vm...>")
      .description(force ? "power VMs off at once" : "ask guests to shut down")
      .option(...waitOption)
      .action((names: string[], options: VerbOptions, command: Command) =>
        withSession(io, command, (session) =>
          wish(session, names, options, (name) =>
            session.client.call("VmService", "ShutdownVm", { vm: name, force, requestId: io.newId() }, session.limits),
          ),
        ),
      );
  }

  for (const [verb, method, about] of [
    ["pause", "PauseVm", "stop the CPUs of guests; their memory stays"],
    ["unpause", "UnpauseVm", "let the CPUs of paused guests go on"],
  ] as const) {
    vm.command(`${verb} <vm...>`)
      .description(about)
      .option(...waitOption)
      .action((names: string[], options: VerbOptions, command: Command) =>
        withSession(io, command, (session) =>
          wish(session, names, options, (name) =>
            session.client.call("VmService", method, { vm: name, requestId: io.newId() }, session.limits),
          ),
        ),
      );
  }

  for (const force of [false, true]) {
    vm.command(force ? "force-restart <vm...>" : "restart <vm...>")
      .description(force ? "reset VMs at once, as their reset button would" : "ask guests to reboot")
      .option(...waitOption)
      .action((names: string[], options: VerbOptions, command: Command) =>
        withSession(io, command, (session) =>
          wish(session, names, options, (name) =>
            session.client.call("VmService", "RestartVm", { vm: name, force, requestId: io.newId() }, session.limits),
          ),
        ),
      );
  }

  vm.command("delete <vm...>")
    .alias("rm")
    .description("delete VMs and the copies of disks that were made for them")
    .option(...waitOption)
    .action((names: string[], options: VerbOptions, command: Command) =>
      withSession(io, command, (session) =>
        wish(session, names, options, (name) =>
          session.client.call("VmService", "DeleteVm", { vm: name, requestId: io.newId() }, session.limits),
        ),
      ),
    );

  vm.command("history <vm>")
    .description("the states a VM went through, when, where and why")
    .action((name: string, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const { history } = await getVm(session, name);
        await printList(
          io,
          session.format,
          history,
          [
            { header: "TIME", cell: (entry) => timeText(entry.atMs) },
            { header: "STATE", cell: (entry) => paintState(io, entry.state) },
            {
              header: "FOR",
              cell: (entry) => formatDuration((history[history.indexOf(entry) + 1]?.atMs ?? io.nowMs()) - entry.atMs),
              right: true,
            },
            { header: "NODE", cell: (entry) => entry.node },
            { header: "GENERATION", cell: (entry) => formatGeneration(entry.generation), right: true, wide: true },
            { header: "WHY", cell: (entry) => entry.why },
          ],
          historyRow,
        );
      }),
    );

  addVmTasks(vm, io);

  vm.command("export <vm...>")
    .description("print definitions as YAML that `roost vm create -f -` takes back")
    .action((names: string[], _options: object, command: Command) => withSession(io, command, (session) => exportVms(session, names)));

  vm.command("watch <vm...>")
    .description("print each change of VMs until they are gone or you stop it")
    .action((names: string[], _options: object, command: Command) => withSession(io, command, (session) => watchVms(session, names)));
}

async function watchVms(session: Session, names: string[]): Promise<void> {
  const { io } = session;
  const watchOne = async (name: string): Promise<void> => {
    try {
      for await (const { vm, deleted } of session.client.watch("VmService", "WatchVm", { vm: name }, { signal: io.signal })) {
        if (session.format === "json") io.out(`${JSON.stringify(vm === null ? { name, state: "deleted" } : vmRow(vm))}\n`);
        else io.out(`${timeText(io.nowMs())}  ${vm?.name ?? name}  ${deleted || vm === null ? "deleted" : stateLine(vm)}\n`);
      }
    } catch (error) {
      if (!io.signal.aborted) throw asRoostError(error);
    }
  };
  // All at once and without the usual limit: each holds one stream only.
  const results = await Promise.allSettled(names.map(watchOne));
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}
