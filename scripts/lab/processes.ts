/** Which processes belong to a node of the lab, and what each is, read from /proc. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";

export type ProcessKind = "init" | "agent" | "keeper" | "libvirtd" | "qemu" | "other";

export interface LabProcess {
  /** Process id as this program sees it; signals go to this one. */
  pid: number;
  /** Process id within the node. */
  innerPid: number;
  kind: ProcessKind;
  argv: string[];
  /** Start time in clock ticks since the kernel's boot (field 22 of /proc/PID/stat); with the pid it names one process for good. */
  startTicks: number;
  /** `T` is stopped. */
  state: string;
  parentPid: number;
}

/** All live processes that satisfy `belongs`, zombies left out. */
function scan(belongs: (pid: number) => boolean): LabProcess[] {
  const found: LabProcess[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      if (!belongs(pid)) continue;
      const process = readProcess(pid);
      if (process !== null) found.push(process);
    } catch {
      // It ended while it was looked at, or is the kernel's.
    }
  }
  return found;
}

/** All processes in the pid namespace that `initPid` is the first process of. */
export function processesOfNamespace(initPid: number): LabProcess[] {
  let namespace: string;
  try {
    namespace = readlinkSync(`/proc/${initPid}/ns/pid`);
  } catch {
    return [];
  }
  return scan((pid) => readlinkSync(`/proc/${pid}/ns/pid`) === namespace);
}

/** All processes that name `folder` on their command line or in ROOST_DATA: a node without namespaces. */
export function processesOfFolder(folder: string): LabProcess[] {
  return scan((pid) => {
    if (pid === process.pid) return false;
    const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    if (argv.some((word) => word === folder || word.startsWith(`${folder}/`))) return true;
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`ROOST_DATA=${folder}`);
  });
}

/** null for zombies and kernel threads. */
export function readProcess(pid: number): LabProcess | null {
  const fields = statFields(pid);
  const state = fields[0] ?? "?";
  if (state === "Z" || state === "X") return null;
  const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  if (argv.length === 0) return null;
  const inner = /^NSpid:.*\s(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  const innerPid = Number(inner ?? pid);
  return { pid, innerPid, kind: kindOf(argv, innerPid), argv, startTicks: Number(fields[19]), state, parentPid: Number(fields[1]) };
}

/**
 * True if the process that had this pid and start time still lives, or any of its threads does: the first thread of a
 * killed QEMU may be a zombie while another still writes.
 */
export function isAlive(pid: number, startTicks: number): boolean {
  try {
    const fields = statFields(pid);
    if (Number(fields[19]) !== startTicks) return false;
    return (fields[0] !== "Z" && fields[0] !== "X") || readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

/** The fields of /proc/PID/stat from the state on (index 0 is field 3): the name before it may hold spaces and brackets. */
function statFields(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function kindOf(argv: readonly string[], innerPid: number): ProcessKind {
  if (innerPid === 1) return "init";
  const program = basename(argv[0] ?? "");
  if (program.startsWith("qemu-system-")) return "qemu";
  if (program === "libvirtd" || program === "virtqemud") return "libvirtd";
  const word = roostVerb(argv);
  if (word === "keeper") return "keeper";
  return word === "up" || word === "join" || word === "daemon" ? "agent" : "other";
}

/** The first word after roost itself: `roost up …` or `node [options] …/src/main.ts up …`. */
function roostVerb(argv: readonly string[]): string | undefined {
  const at = argv.findIndex((word, index) => (index === 0 && basename(word) === "roost") || word.endsWith("src/main.ts"));
  return at < 0 ? undefined : argv.slice(at + 1).find((word) => !word.startsWith("-"));
}
