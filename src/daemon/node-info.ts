/** What this node is, put together from all who know a part of it: host, driver, pools, keeper, probes (CLU-6, CLU-7). */
import type { LoadMeter } from "../agent/load.ts";
import { probeNode } from "../agent/probe.ts";
import type { Probes } from "../agent/probes.ts";
import type { NodeConfig } from "../base/config.ts";
import { VERSION } from "../base/version.ts";
import type { Driver } from "../hypervisor/driver.ts";
import type { NodeConnection, NodeInfo } from "../model/node.ts";
import { PROGRAM_LEVEL } from "../state/levels.ts";
import type { OpenPools } from "./pools.ts";

export interface Informants {
  config: NodeConfig;
  driver: Driver;
  pools: OpenPools;
  probes: Probes;
  load: LoadMeter;
  bootId: string;
  connections: readonly NodeConnection[];
  /** The keeper's word, not the option: a watchdog that is too slow is none. */
  guardian: () => Promise<string | null>;
}

export async function nodeInfo({ config, driver, pools, probes, load, bootId, connections, guardian }: Informants): Promise<NodeInfo> {
  const capabilities = await driver.capabilities();
  const memoryMib = config.memory === "" ? null : Number(config.memory);
  const probed = await probeNode({ pools: await pools.opened(), memoryMib, reserveMib: memoryMib === null ? null : 0 });
  const { values, problems } = probes.current;
  const { cpuTopology, cpuModels, cpuFeatures } = capabilities;
  return {
    ...probed,
    bootId,
    level: PROGRAM_LEVEL,
    version: VERSION,
    driver: driver.kind,
    hypervisor: `${capabilities.hypervisor} ${capabilities.version}`.trim(),
    maxSessions: capabilities.maxSessions,
    ...(capabilities.vdcs === true ? { vdcs: true } : {}),
    ...(capabilities.devices === true ? { devices: true } : {}),
    ...(connections.length === 0 ? {} : { connections: [...connections] }),
    hardwareAccelerated: capabilities.hardwareAccelerated,
    arch: capabilities.arch,
    // Placements count in the CPUs that the driver can give.
    cpus: driver.kind === "simulated" ? capabilities.cpus : probed.cpus,
    ...(cpuTopology === null ? {} : { cpuTopology }),
    ...(cpuModels === null ? {} : { cpuModels }),
    ...(cpuFeatures === null ? {} : { cpuFeatures }),
    ...(Object.keys(values).length === 0 ? {} : { values }),
    ...(problems.length === 0 ? {} : { probeProblems: problems }),
    ...(await load.sample(probed.memoryMib)),
    actions: capabilities.actions.filter((action) => action === "migrate" || action === "suspend" || action === "snapshot").toSorted(),
    guardian: await guardian(),
  };
}
