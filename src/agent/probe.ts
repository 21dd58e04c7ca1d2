/** What this node is (CLU-6): the part of NodeInfo that is found out without a hypervisor. */
import { readdir, stat } from "node:fs/promises";
import { cpus, machine, totalmem } from "node:os";
import { join } from "node:path";
import type { NodeInfo } from "../model/node.ts";
import type { StoragePool } from "../storage/pool.ts";

export type NodeProbe = Pick<NodeInfo, "arch" | "cpus" | "cpuModel" | "memoryMib" | "reserveMib" | "bridges" | "pools">;

export interface ProbeOptions {
  pools: Iterable<StoragePool>;
  /** Memory kept for the node itself, MiB; null for a tenth, at most 1024. To be set where nodes share one machine's memory. */
  reserveMib: number | null;
  /** Memory of the node, MiB; null for the machine's. To be set where nodes share it. */
  memoryMib: number | null;
  /** Where network interfaces are described, `/sys/class/net`; must be of the agent's own network namespace. */
  netFolder?: string;
}

export async function probeNode(options: ProbeOptions): Promise<NodeProbe> {
  const processors = cpus();
  const memoryMib = options.memoryMib ?? Math.floor(totalmem() / 1024 / 1024);
  return {
    // As `uname -m`, which is what VM definitions say.
    arch: machine(),
    cpus: processors.length,
    cpuModel: processors[0]?.model.trim() ?? "unknown",
    memoryMib,
    reserveMib: options.reserveMib ?? defaultReserveMib(memoryMib),
    bridges: await bridges(options.netFolder ?? "/sys/class/net"),
    // Each has its own time limit and never rejects.
    pools: await Promise.all([...options.pools].map((pool) => pool.status())),
  };
}

/** A tenth of the memory, at most 1 GiB: enough for the agent and libvirtd on any size of machine. */
export function defaultReserveMib(memoryMib: number): number {
  return Math.min(Math.floor(memoryMib / 10), 1024);
}

/** Names of the bridges, sorted. An interface is one if the kernel gives it a `bridge` folder (Documentation/ABI/testing/sysfs-class-net). */
async function bridges(netFolder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await namesIn(netFolder)) {
    try {
      if ((await stat(join(netFolder, name, "bridge"))).isDirectory()) found.push(name);
    } catch {
      // No bridge, or gone since the folder was read.
    }
  }
  return found.sort();
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch {
    // No sysfs (a bare container): then no bridge can be told, and none is reported.
    return [];
  }
}
