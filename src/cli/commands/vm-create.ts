/** roost vm create: every fault of a file with its line, the cluster's beside the file's own. */
import { RoostError } from "../../base/errors.ts";
import type { Violation } from "../../base/errors.ts";
import { formatMib } from "../../base/units.ts";
import type { Vm__Output } from "../../gen/types/roost/v1/Vm.ts";
import { followTask } from "../follow-task.ts";
import { stateLine } from "../state-line.ts";
import { printValue } from "../output.ts";
import { vmRow } from "../rows.ts";
import { eachItem } from "../session.ts";
import type { Session } from "../session.ts";
import { parseVmFile, splitField } from "../definition-file.ts";
import type { DefinitionFile, Place } from "../definition-file.ts";
import { table } from "../table.ts";

export interface CreateOptions {
  file: string;
  node?: string;
  hold?: boolean;
  stopped?: boolean;
  plan?: boolean;
  wait?: boolean;
  force?: boolean;
}

const HINT = "nothing was created; roost help vm-file shows a whole definition";

export async function createVms(session: Session, options: CreateOptions): Promise<void> {
  const { io, client, limits } = session;
  const { name, text } = await readInput(session, options.file);
  const file = await parseVmFile(name, text);
  const request = {
    definitions: file.definitions,
    node: options.node ?? "",
    hold: options.hold ?? false,
    stopped: options.stopped ?? false,
    force: options.force ?? false,
    requestId: io.newId(),
  };
  const create = (plan: boolean): ReturnType<typeof client.call<"VmService", "CreateVm">> =>
    client.call("VmService", "CreateVm", { ...request, plan }, limits);

  if (file.faults.length > 0) {
    // What could be read is checked by the cluster too, so that one look at the file is enough.
    const more = await create(true).then(
      () => [],
      (error: unknown) => violationsOf(error) ?? [],
    );
    throw located(file, name, more, HINT);
  }
  const answer = await create(options.plan ?? false).catch((error: unknown) => {
    const violations = violationsOf(error);
    throw violations === null ? error : located(file, name, violations, HINT);
  });
  const structured = session.format === "json" || session.format === "yaml" ? session.format : null;
  if (options.plan === true) {
    if (structured !== null) return printValue(io, structured, answer.vms.map(vmRow));
    io.out(planTable(answer.vms));
    io.err(`${answer.vms.length === 1 ? "1 VM" : `${answer.vms.length} VMs`} would be created; nothing was\n`);
    return;
  }
  const taskOf = new Map(answer.vms.map((vm, i) => [vm.id, answer.tasks[i] ?? ""]));
  if (structured === null) {
    for (const vm of answer.vms) {
      const task = taskOf.get(vm.id) ?? "";
      io.out(`${vm.name}: created, ${vm.id}${task === "" ? "" : `, task ${task}`}\n`);
    }
  }
  // A VM that is held or stays off has no goal to wait for.
  const waits = options.wait === true && options.hold !== true && options.stopped !== true;
  let vms = answer.vms;
  try {
    if (waits)
      await eachItem(
        io,
        vms.map((vm) => vm.name),
        async (name) => {
          const task = taskOf.get(vms.find((vm) => vm.name === name)?.id ?? "") ?? "";
          if (task !== "") await followTask(session, { id: task, name }, { onward: true });
        },
      );
  } finally {
    if (waits) vms = await Promise.all(vms.map(async (vm) => (await client.call("VmService", "GetVm", { vm: vm.id }, limits)).vm ?? vm));
    if (structured !== null) await printValue(io, structured, vms.map(vmRow));
    else if (waits) for (const vm of vms) io.out(`${vm.name}: ${stateLine(vm)}\n`);
  }
}

/** A file's text, or standard input's for `-`, with the name for messages. */
export async function readInput(session: Session, path: string): Promise<{ name: string; text: string }> {
  if (path === "-") return { name: "stdin", text: await session.io.readStdin() };
  try {
    return { name: path, text: await session.io.readFile(path) };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT") throw new RoostError({ kind: "not-found", what: "file", name: path }, "use - to read standard input");
    throw new RoostError({ kind: "internal", reason: `cannot read ${path}: ${code ?? String(error)}` });
  }
}

export function violationsOf(error: unknown): Violation[] | null {
  return error instanceof RoostError && error.fault.kind === "invalid" ? error.fault.violations : null;
}

/** All faults in the order of the file; what the file itself got wrong is not said twice. */
export function located<T>(file: DefinitionFile<T>, name: string, fromCluster: Violation[], hint: string): RoostError {
  const own = new Set(file.faults.map(({ index, field }) => `${index} ${topOf(field)}`));
  const all: { place: Place; field: string; message: string }[] = [];
  const add = (index: number, field: string, message: string): void => void all.push({ place: file.locate(index, field), field, message });
  for (const { index, field, message } of file.faults) add(index, field, message);
  for (const violation of fromCluster) {
    const { index, field } = splitField(violation.field);
    // Faults about the request as a whole (`node`, `definitions`) belong to no line.
    if (index >= file.definitions.length || violation.field === "node" || violation.field === "") {
      all.push({ place: { text: name, line: 0, column: 0 }, field: violation.field, message: violation.message });
    } else if (!own.has(`${index} ${topOf(field)}`)) {
      add(index, field, violation.message);
    }
  }
  all.sort((a, b) => a.place.line - b.place.line || a.place.column - b.place.column);
  const violations = all.map(({ place, field, message }) => ({
    field: place.text,
    message: field === "" ? message : `${field}: ${message}`,
  }));
  return new RoostError({ kind: "invalid", violations }, hint);
}

/** `memory` for memoryMib and memory_mib: the same thing in another spelling has the same faults. */
function topOf(field: string): string {
  return field.replace(/(?:Mib|_mib)$/, "").replace(/(?:Bytes|_bytes)$/, "");
}

/** The plan of a create for people. */
function planTable(vms: Vm__Output[]): string {
  return table(
    ["NAME", "CPUS", "MEMORY", "DISKS", "NICS"],
    vms.map((vm) => [
      vm.name,
      String(vm.definition?.cpus ?? 0),
      formatMib(vm.definition?.memoryMib ?? 0),
      String(vm.definition?.disks.length ?? 0),
      String(vm.definition?.nics.length ?? 0),
    ]),
    ["CPUS", "MEMORY", "DISKS", "NICS"],
  );
}
