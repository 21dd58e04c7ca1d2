/** A lab's cluster full of guests that leave marks, and what a drill asks of it. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { emptyMarkerDisk, markerGuestDisk } from "../../../scripts/guest/marker.ts";
import { formCluster, roostOn } from "../../../scripts/lab/cluster.ts";
import { Lab, type LabNode, waitFor } from "../../../scripts/lab/lab.ts";
import { run, tryRun } from "../../../scripts/lab/run.ts";
import { createClient, type RpcClient } from "../../../src/base/rpc-client.ts";
import { Sampler } from "../e2e-sampler.ts";
import { judgeRuns, readMarkerDisk, readSerialRuns, type Verdict } from "../runs.ts";

export interface DrillVm {
  id: string;
  name: string;
  state: string;
  node: string | null;
  generation: number;
  reason: string;
}

export interface DrillFailover {
  vmName: string;
  fromNode: string;
  proofMs: number;
  plannedMs: number;
  /** When the node was told to start it, and when its agent had seen it run. Wall clock, ms; 0 for not yet. */
  startedMs: number;
  runningMs: number;
}

/** Where a VM runs: another pid or generation is another run. */
export interface Sight {
  node: string;
  generation: number;
  pid: number;
}

export interface DrillLabOptions {
  base: string;
  nodes: number;
  vmsPerNode: number;
  /** Each data folder a file system of its own, so that one can be filled. */
  smallDisks: boolean;
  /** `KEY=VALUE`, set one after the other before there is any VM. */
  settings: readonly string[];
  say: (line: string) => void;
}

const CALL_MS = 3_000;
/** Above all that a busy machine makes of it. */
const WHOLE_MS = 120_000;
const DATA_MIB = 192;

export class DrillCluster {
  readonly lab: Lab;
  readonly sampler: Sampler;
  readonly #client: RpcClient;
  readonly #vmNames: string[];
  readonly #mounts: string[];

  private constructor(lab: Lab, vmNames: string[], mounts: string[]) {
    this.lab = lab;
    this.#vmNames = vmNames;
    this.#mounts = mounts;
    // By the nodes' sockets, which no cut reaches; one that cannot serve says so and the next is asked.
    this.#client = createClient({ endpoints: lab.nodes.map((node) => node.socketPath), connectMs: 500 });
    this.sampler = new Sampler(lab, () => this.vms());
  }

  static async up(options: DrillLabOptions): Promise<DrillCluster> {
    const lab = await Lab.up({ base: options.base, nodes: options.nodes, ground: "namespaces", progress: options.say });
    const mounts: string[] = [];
    const names = Array.from({ length: options.nodes * options.vmsPerNode }, (_, i) => `d${String(i + 1).padStart(2, "0")}`);
    const cluster = new DrillCluster(lab, names, mounts);
    try {
      if (options.smallDisks) await cluster.#separateDisks();
      await formCluster(lab, options.say);
      for (const setting of options.settings) await roostOn(lab.node(1), ["settings", "set", ...setting.split("=", 2)]);
      // Longer claims than now are over, and forgotten, only then: twice the default, and a little.
      if (options.settings.length > 0) await sleep(10_000);
      await cluster.#createVms();
      await cluster.whole();
      cluster.sampler.start();
      return cluster;
    } catch (error) {
      await cluster.down();
      throw error;
    }
  }

  async down(): Promise<void> {
    await this.sampler.stop();
    this.#client.close();
    for (const node of this.lab.nodes) if (this.#mounts.length > 0 && node.isOn()) await node.kill("all");
    for (const path of this.#mounts) await tryRun(["umount", "-l", path]);
    await this.lab.down();
  }

  async vms(): Promise<DrillVm[]> {
    const { vms } = await this.#client.call("VmService", "ListVms", {}, { timeoutMs: CALL_MS });
    return vms.map(({ id, name, state, node, generation, reason }) => ({
      id,
      name,
      state,
      node: node === "" ? null : node,
      generation,
      reason,
    }));
  }

  async failovers(): Promise<DrillFailover[]> {
    return (await this.#client.call("ClusterService", "ListFailovers", {}, { timeoutMs: CALL_MS })).failovers;
  }

  async leader(): Promise<LabNode> {
    const name = await waitFor("a leader", async () => (await this.#nodes()).find((node) => node.leader)?.name, WHOLE_MS);
    return this.lab.node(name);
  }

  /** Until every node is ready, every VM runs once, where the list says, and its guest leaves marks. */
  async whole(): Promise<Map<string, Sight>> {
    const sights = await waitFor(
      "the cluster to be whole",
      async (saw) => {
        const nodes = await this.#nodes();
        saw(nodes.map((node) => `${node.name} ${node.state}`).join(", "));
        if (nodes.length < this.lab.nodes.length || nodes.some((node) => node.state !== "ready")) return null;
        const vms = await this.vms();
        saw(vms.map((vm) => `${vm.name} ${vm.state} ${vm.node ?? "-"} ${vm.reason}`).join(", "));
        const seen = this.#look(vms);
        return vms.length === this.#vmNames.length && seen.size === vms.length ? seen : null;
      },
      WHOLE_MS,
      { everyMs: 200 },
    );
    for (const name of this.#vmNames) {
      const before = await this.#marks(name);
      await waitFor(`marks of ${name}`, async () => (await this.#marks(name)) > before, WHOLE_MS);
    }
    return sights;
  }

  /** Judges every VM by its guests' own records. */
  async judge(): Promise<Map<string, Verdict>> {
    const verdicts = new Map<string, Verdict>();
    for (const name of this.#vmNames) {
      // The logs first: what is in them is on the disk by then.
      const serial = [];
      for (const node of this.lab.nodes) {
        const text = await readFile(join(node.dataDir, "serial", `${name}.log`), "latin1").catch(() => "");
        serial.push(...readSerialRuns(node.name, text));
      }
      verdicts.set(name, judgeRuns(await readFile(this.markerPath(name)), serial));
    }
    return verdicts;
  }

  /** What `roost audit runs` says of it. */
  async audit(): Promise<{ overlaps: number; unsure: number; unknown: string[]; runs: Map<string, number> }> {
    const { overlaps, unsure, unknown, vms } = await this.#client.call(
      "AuditService",
      "AuditRuns",
      { vms: [], fromMs: 0, toMs: 0 },
      { timeoutMs: 15_000 },
    );
    return { overlaps, unsure, unknown, runs: new Map(vms.map(({ vm, runs }) => [vm, runs.length])) };
  }

  async #nodes(): Promise<{ name: string; state: string; leader: boolean }[]> {
    return (await this.#client.call("NodeService", "ListNodes", {}, { timeoutMs: CALL_MS })).nodes;
  }

  /** The VMs that run exactly once, where the list says. */
  #look(vms: readonly DrillVm[]): Map<string, Sight> {
    const processes = this.lab.nodes.flatMap((node) => node.qemuProcesses().map((qemu) => ({ node: node.name, ...qemu })));
    const seen = new Map<string, Sight>();
    for (const vm of vms) {
      const [only, ...more] = processes.filter((qemu) => qemu.uuid === vm.id);
      if (vm.state === "running" && only?.node === vm.node && only !== undefined && more.length === 0)
        seen.set(vm.name, { node: only.node, generation: vm.generation, pid: only.pid });
    }
    return seen;
  }

  /** The disk that all runs of a VM leave their marks on. */
  markerPath(name: string): string {
    return join(this.lab.sharedDir, `${name}-marks.img`);
  }

  async #marks(name: string): Promise<number> {
    return readMarkerDisk(await readFile(this.markerPath(name))).runs.reduce((sum, run) => sum + run.lastN, 0);
  }

  async #createVms(): Promise<void> {
    const first = this.lab.node(1);
    await roostOn(first, ["pool", "create", "shared", "--path", this.lab.sharedDir, "--shared"]);
    await waitFor(
      "the pool on all nodes",
      async () => {
        const { pools } = await this.#client.call("PoolService", "ListPools", {}, { timeoutMs: CALL_MS });
        return pools[0]?.nodes.filter((node) => node.available).length === this.lab.nodes.length;
      },
      WHOLE_MS,
    );
    for (const name of this.#vmNames) {
      await writeFile(join(this.lab.sharedDir, `${name}.img`), markerGuestDisk(name));
      await writeFile(this.markerPath(name), emptyMarkerDisk());
    }
    const definitions = this.#vmNames.map((name) => ({
      name,
      cpus: 1,
      memoryMib: 16,
      disks: [
        { pool: "shared", source: `shared/${name}.img`, format: "raw", bus: "ide" },
        { pool: "shared", source: `shared/${name}-marks.img`, format: "raw", bus: "ide", clone: false, shareable: true },
      ],
    }));
    await this.#client.call("VmService", "CreateVm", { definitions }, { timeoutMs: 30_000 });
  }

  /** Mounted outside of the nodes, so that a node that is powered off finds its data again. */
  async #separateDisks(): Promise<void> {
    for (const node of this.lab.nodes) {
      await node.kill("all");
      await run(["mount", "-t", "tmpfs", "-o", `size=${DATA_MIB}m,mode=700`, "drill-data", node.dataDir]);
      this.#mounts.push(node.dataDir);
      await run(["mkdir", "-m", "700", join(node.dataDir, "run")]);
      await node.powerOn();
    }
  }
}
