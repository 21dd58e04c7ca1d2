/**
 * End-to-end tests: a cluster of dist/roost in a lab of its own, real QEMU guests in it, and what may be believed about
 * them: their serial output, the machine's process table, and what `roost … -o json` says.
 */
import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { roostCommand } from "../../scripts/lab/agent.ts";
import { answering, formCluster } from "../../scripts/lab/cluster.ts";
import { Lab, waitFor, type LabNode } from "../../scripts/lab/lab.ts";
import { tryRun, type RunResult } from "../../scripts/lab/run.ts";
import { bootSector, BOOT_SECTOR_DISK_BYTES } from "../../scripts/guest/boot-sector.ts";
import { guestDisk } from "./guest.ts";
import { Sampler } from "./e2e-sampler.ts";

/** Part of tap's `t` that is needed here. */
export interface Test {
  teardown(fn: () => Promise<void>): void;
  comment(text: string): void;
  passing(): boolean;
}

/** Of `roost vm list -o json`, as docs/cli-json.md promises it. */
export interface VmRow {
  id: string;
  name: string;
  state: string;
  node: string | null;
  generation: number;
  underHa: boolean;
  desired: string;
  reason: string | null;
  warnings: string[];
  failures: number;
  pendingReasons: { code: string; nodes: number; detail: string }[];
}

export interface NodeRow {
  name: string;
  state: string;
  leader: boolean;
  role: string;
  vms: number;
}

export interface FailoverRow {
  vmName: string;
  fromNode: string;
  toNode: string | null;
  proofKind: string;
  lastHeartbeatMs: number;
  suspectMs: number;
  proofMs: number;
  plannedMs: number | null;
  startedMs: number | null;
  runningMs: number | null;
  budgetMs: number;
}

/** For whatever should come soon; far above what it takes on a quiet machine. */
export const SOON_MS = 60_000;

export class Cluster {
  readonly lab: Lab;
  /** Watches from the first VM to the end of the test that nothing runs twice. */
  readonly sampler: Sampler;

  constructor(lab: Lab) {
    this.lab = lab;
    this.sampler = new Sampler(lab, () => this.json<VmRow[]>(["vm", "list"], 5_000));
  }

  node(which: string | number): LabNode {
    return this.lab.node(which);
  }

  /** Runs dist/roost on this machine against whatever node answers; gives its output whatever its exit code. */
  async roost(words: readonly string[], options: { timeoutMs?: number; input?: string } = {}): Promise<RunResult> {
    return await tryRun([...roostCommand(), ...words], { timeoutMs: SOON_MS, ...options, env: { ROOST_CONTEXT: this.lab.contextPath } });
  }

  /** As roost(), but throws unless it succeeds. */
  async must(words: readonly string[], options: { timeoutMs?: number; input?: string } = {}): Promise<string> {
    const result = await this.roost(words, options);
    if (result.code !== 0) throw new Error(`roost ${words.join(" ")}: exit code ${result.code}\n${result.stderr}${result.stdout}`);
    return result.stdout;
  }

  /** Runs dist/roost inside a node, against that node's own agent. */
  async roostOn(node: LabNode, words: readonly string[], timeoutMs = SOON_MS): Promise<RunResult> {
    return await node.exec([...roostCommand(), ...words], { timeoutMs });
  }

  async json<T>(words: readonly string[], timeoutMs = SOON_MS): Promise<T> {
    return JSON.parse(await this.must([...words, "-o", "json"], { timeoutMs })) as T;
  }

  vms(): Promise<VmRow[]> {
    return this.json<VmRow[]>(["vm", "list"]);
  }

  async vm(name: string): Promise<VmRow> {
    const found = (await this.vms()).find((vm) => vm.name === name);
    if (found === undefined) throw new Error(`no VM ${name} in the list`);
    return found;
  }

  nodes(): Promise<NodeRow[]> {
    return this.json<NodeRow[]>(["node", "list"]);
  }

  async leader(): Promise<LabNode> {
    const name = await waitFor(
      "a leader",
      async (saw) => {
        const rows = await this.nodes();
        saw(rows);
        return rows.find((row) => row.leader)?.name;
      },
      SOON_MS,
      { everyMs: 300 },
    );
    return this.lab.node(name);
  }

  failovers(): Promise<FailoverRow[]> {
    return this.json<{ failovers: FailoverRow[] }>(["ha", "show"]).then(({ failovers }) => failovers);
  }

  /** Until the VMs named are all as `good` says; gives their rows. */
  async until(what: string, names: readonly string[], good: (vm: VmRow) => boolean, timeoutMs = SOON_MS): Promise<VmRow[]> {
    return await waitFor(
      `${names.join(", ")}: ${what}`,
      async (saw) => {
        const rows = (await this.vms()).filter((vm) => names.includes(vm.name));
        saw(rows.map((vm) => `${vm.name} ${vm.state} ${vm.node ?? "-"} g${vm.generation} ${vm.reason ?? ""}`));
        return rows.length === names.length && rows.every(good) ? rows : null;
      },
      timeoutMs,
      { everyMs: 300 },
    );
  }

  async untilNodes(what: string, names: readonly string[], good: (node: NodeRow) => boolean, timeoutMs = SOON_MS): Promise<void> {
    await waitFor(
      `${names.join(", ")}: ${what}`,
      async (saw) => {
        const rows = (await this.nodes()).filter((node) => names.includes(node.name));
        saw(rows.map((node) => `${node.name} ${node.state}`));
        return rows.length === names.length && rows.every(good);
      },
      timeoutMs,
      { everyMs: 300 },
    );
  }

  /**
   * Creates VMs on the smallest guest and waits until they run and have printed. Each has its own image to be cloned, so
   * that the guest knows its name. `more` is added to each definition.
   */
  async createGuests(names: readonly string[], more = ""): Promise<VmRow[]> {
    for (const name of names) await writeFile(join(this.lab.sharedDir, `${name}.img`), sectorImage(name));
    const file = names.map((name) => guestDefinition(name, `shared/${name}.img`, more)).join("---\n");
    await this.must(["vm", "create", "-f", "-", "--wait", "--timeout", "60s"], { input: file });
    const rows = await this.until("running", names, (vm) => vm.state === "running");
    for (const vm of rows) await this.marksOn(this.lab.node(vm.node ?? ""), vm.name);
    return rows;
  }

  /** The image of a guest that powers off when the power button is pressed, as `shared/button.img`. */
  async layButtonImage(): Promise<void> {
    await writeFile(join(this.lab.sharedDir, "button.img"), guestDisk());
  }

  /** Until a guest has printed a mark on a node. */
  async marksOn(node: LabNode, name: string): Promise<Serial> {
    return await waitFor(
      `a mark of ${name} on ${node.name}`,
      async (saw) => {
        const serial = await readSerial(node, name);
        saw(serial);
        return serial !== null && serial.marks > 0 ? serial : null;
      },
      SOON_MS,
    );
  }

  /** Until a VM's guest prints more than it has until now. */
  async untilItTicks(node: LabNode, name: string): Promise<void> {
    const before = (await readSerial(node, name))?.lastN ?? -1;
    await waitFor(
      `another mark of ${name} on ${node.name} after ${before}`,
      async () => ((await readSerial(node, name))?.lastN ?? -1) > before,
      SOON_MS,
    );
  }

  /** Process id of the one QEMU that runs a VM anywhere; throws if none or more. */
  qemu(vmId: string): { pid: number; node: LabNode } {
    const found = this.lab.nodes.flatMap((node) =>
      node
        .qemuProcesses()
        .filter((qemu) => qemu.uuid === vmId)
        .map((qemu) => ({ pid: qemu.pid, node })),
    );
    const [only] = found;
    if (only === undefined || found.length > 1)
      throw new Error(
        `${found.length} QEMU processes run VM ${vmId}: ${found.map(({ pid, node }) => `${pid} on ${node.name}`).join(", ")}`,
      );
    return only;
  }

  /** Process ids by VM name. */
  pids(rows: readonly VmRow[]): Record<string, number> {
    return Object.fromEntries(rows.map((vm) => [vm.name, this.qemu(vm.id).pid]));
  }

  /** Powers a dead node on, until the cluster calls it ready. */
  async powerOn(node: LabNode): Promise<void> {
    await node.powerOn();
    await answering(node);
  }

  /** What a node would have to show for itself after a failure, for a failed test's output. */
  async logs(): Promise<string> {
    const parts: string[] = [];
    for (const node of this.lab.nodes) {
      for (const path of [node.agentLogPath, node.initLogPath]) {
        const text = await readFile(path, "utf8").catch(() => "");
        parts.push(`==== ${node.name} ${path}\n${text.split("\n").slice(-25).join("\n")}`);
      }
    }
    return parts.join("\n");
  }
}

/**
 * A cluster on a new lab with a shared pool, taken down with the test whatever happens. ROOST_E2E_KEEP=1 keeps the lab of
 * a failed test for a look.
 */
export async function clusterForTest(t: Test, theme: string, nodes = 3): Promise<Cluster> {
  const base = join("/tmp", `roost-e2e-${theme}-${process.pid}`);
  let cluster: Cluster | null = null;
  t.teardown(async () => {
    await cluster?.sampler.stop();
    if (!t.passing() && cluster !== null) t.comment(await cluster.logs());
    if (!t.passing() && process.env["ROOST_E2E_KEEP"] === "1") return t.comment(`the lab is left in ${base}`);
    await Lab.downAt(base);
    await rm(base, { recursive: true, force: true });
  });
  const lab = await Lab.up({ base, nodes });
  if (lab.ground !== "namespaces") throw new Error("end-to-end tests need root and network namespaces");
  cluster = new Cluster(lab);
  await formCluster(lab);
  await cluster.must(["pool", "create", "shared", "--path", lab.sharedDir, "--shared"]);
  await waitFor(
    "the shared pool on all nodes",
    async (saw) => {
      const [pool] = await (cluster as Cluster).json<{ nodes: { available: boolean }[] }[]>(["pool", "list"]);
      saw(pool);
      return pool !== undefined && pool.nodes.length === nodes && pool.nodes.every((node) => node.available);
    },
    SOON_MS,
    { everyMs: 200 },
  );
  cluster.sampler.start();
  return cluster;
}

export function guestDefinition(name: string, source: string, more = ""): string {
  return `name: ${name}
cpus: 1
memory: 16MiB
disks:
  - {pool: shared, source: ${source}, format: raw, bus: ide}
${more}`;
}

function sectorImage(name: string): Uint8Array {
  const image = Buffer.alloc(BOOT_SECTOR_DISK_BYTES);
  image.set(bootSector(name));
  return image;
}

/** What a boot-sector guest printed on one node. */
export interface Serial {
  /** How often a guest started here. */
  boots: number;
  /** Complete marks of the last boot. */
  marks: number;
  /** The counter that the last boot found on its disk. */
  foundN: number;
  /** The counter of its last complete mark; -1 for none. */
  lastN: number;
  /** Host time of the first and the last mark of the last boot, ms since 1970; 0 without marks. */
  firstMs: number;
  lastMs: number;
}

const MIDNIGHT_TICKS = 0x1800b0;
const TICK_MS = 54.9254;

/** Null if there is no serial output. */
export async function readSerial(node: LabNode, name: string): Promise<Serial | null> {
  const path = join(node.dataDir, "serial", `${name}.log`);
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const before = await stat(path).catch(() => null);
    if (before === null) return null;
    const text = await readFile(path, "latin1");
    // A guest that prints between the two looks makes them disagree.
    if ((await stat(path)).mtimeMs !== before.mtimeMs) continue;
    const boots = text.split("ROOST-GUEST ready ").slice(1);
    const last = boots.at(-1) ?? "";
    const marks = [...last.matchAll(/^ROOST-GUEST mark n=([0-9a-f]{8}) tick=([0-9a-f]{8})\r?\n/gm)];
    const hex = (text: string | undefined): number => Number.parseInt(text ?? "", 16);
    const end = marks.at(-1);
    const ticks = (hex(end?.[2]) - hex(marks[0]?.[2]) + MIDNIGHT_TICKS) % MIDNIGHT_TICKS;
    return {
      boots: boots.length,
      marks: marks.length,
      foundN: hex(/disk=([0-9a-f]{8})/.exec(last)?.[1]),
      lastN: end === undefined ? -1 : hex(end[1]),
      firstMs: end === undefined ? 0 : before.mtimeMs - ticks * TICK_MS,
      lastMs: end === undefined ? 0 : before.mtimeMs,
    };
  }
  throw new Error(`${path} changes faster than it can be read`);
}
