/** What is on this node, for `roost doctor`: each part is asked for itself, so that one that does not answer hides no other. */
import { asRoostError } from "../base/errors.ts";
import { within } from "../base/time-limit.ts";
import type { Driver } from "../hypervisor/driver.ts";
import type { Inspection } from "../model/doctor.ts";
import { vmOfVolume } from "../model/doctor.ts";
import type { StoragePool } from "../storage/pool.ts";
import type { Keeper } from "./keeper/client.ts";

export interface InspectDeps {
  nodeId: string;
  /** null: a witness, which has none. */
  driver: Driver | null;
  keeper: Pick<Keeper, "list">;
  pools: () => Promise<readonly StoragePool[]>;
}

const LIMIT_MS = 5_000;

export async function inspectNode({ nodeId, driver, keeper, pools }: InspectDeps): Promise<Inspection> {
  const sessions = driver?.sessions() ?? 0;
  const [domains, kept, stored] = await Promise.all([
    attempt([], "listing domains", () => listDomains(driver)),
    attempt([], "asking the keeper", async () => (await keeper.list()).vms),
    attempt({ volumes: [], missingPools: [] }, "listing volumes", async () => listVolumes(await pools())),
  ]);
  return {
    nodeId,
    domains: domains.value.map(({ vmId, generation, name, state }) => ({ vmId, generation, name, state })),
    hypervisorProblem: domains.problem,
    registrations: kept.value.map(({ vmId, generation, phase }) => ({ vmId, generation, phase })),
    keeperProblem: kept.problem,
    ...stored.value,
    sessions,
  };
}

async function attempt<T>(otherwise: T, what: string, work: () => Promise<T>): Promise<{ value: T; problem: string }> {
  try {
    return { value: await within(work(), LIMIT_MS, what), problem: "" };
  } catch (thrown) {
    return { value: otherwise, problem: asRoostError(thrown).message };
  }
}

async function listDomains(driver: Driver | null) {
  if (driver === null) return [];
  const session = await driver.login();
  try {
    return await session.list();
  } finally {
    await session.logout();
  }
}

async function listVolumes(pools: readonly StoragePool[]): Promise<Pick<Inspection, "volumes" | "missingPools">> {
  const volumes: Inspection["volumes"] = [];
  const missingPools: Inspection["missingPools"] = [];
  for (const storage of pools) {
    const status = await storage.status();
    if (!status.available) {
      missingPools.push(status);
      continue;
    }
    const listed = await attempt([], `listing pool ${storage.pool.name}`, () => storage.list());
    if (listed.problem !== "") missingPools.push({ ...status, available: false, problem: listed.problem });
    for (const { name, allocatedBytes } of listed.value) {
      const vmId = vmOfVolume(name);
      if (vmId !== null) volumes.push({ poolId: storage.pool.id, name, vmId, allocatedBytes });
    }
  }
  return { volumes, missingPools };
}
