import { mkdtemp, rm, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { systemClock } from "../../src/base/clock.ts";
import { RoostError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { DriverAction } from "../../src/hypervisor/driver.ts";
import { FileDomainStore } from "../../src/hypervisor/simulated-files.ts";
import type { DomainStore } from "../../src/hypervisor/simulated-store.ts";
import { MemoryDomainStore } from "../../src/hypervisor/simulated-store.ts";
import { SimulatedDriver } from "../../src/hypervisor/simulated.ts";
import type { Operation } from "../../src/hypervisor/simulated.ts";
import { driverContract } from "../contract/driver.ts";
import type { DriverHarness } from "../contract/driver.ts";

const CLUSTER = "c1c1c1c1-0000-4000-8000-000000000001";

async function harness(backing: "memory" | "files", actions?: DriverAction[]): Promise<DriverHarness> {
  const folder = await mkdtemp(join(tmpdir(), "roost-simulated-"));
  const store: DomainStore = backing === "memory" ? new MemoryDomainStore() : new FileDomainStore(folder, { log: silentLogger });
  const options = { clusterId: CLUSTER, maxSessions: 4, shutdownDelayMs: 5, pollMs: 20, ...(actions === undefined ? {} : { actions }) };
  const deps = { clock: systemClock, log: silentLogger, store };
  const driver = new SimulatedDriver(options, deps);
  return {
    driver,
    clusterId: CLUSTER,
    spec: (vm) =>
      Promise.resolve({ ...vm, clusterId: CLUSTER, cpus: 1, memoryMib: 64, boot: null, disks: [], nics: [], serialLogPath: null }),
    guestReady: () => Promise.resolve(),
    startForeign: async (vmId, clusterId) => {
      // Generation 0: a file's kill recipe knows no cluster, only the generation tells this domain from ours.
      await store.create({ vmId, generation: 0, clusterId, name: "foreign", state: "running", cpus: 1, memoryMib: 1, startedWallMs: 0 });
      return { runs: async () => (await store.get(vmId)) !== null, end: async () => void (await store.remove(vmId)) };
    },
    destroyOutside: async ({ vmId }) => (backing === "memory" ? void (await store.remove(vmId)) : unlink(store.pathOf(vmId))),
    crashOutside: (ref) => driver.end(ref, "crashed"),
    killDaemon: () => {
      driver.disconnect("killed by the test");
      return Promise.resolve(() => Promise.resolve(driver.reconnect()));
    },
    freezeDaemon: () => {
      const fail = new RoostError({ kind: "timeout", what: "simulated call", afterMs: 5 });
      for (const operation of ["list", "state", "destroy"] satisfies Operation[]) driver.order({ operation, delayMs: 5, fail });
      return Promise.resolve(() => Promise.resolve());
    },
    again: () => Promise.resolve(new SimulatedDriver(options, deps)),
    killable: backing === "files",
    stop: () => rm(folder, { recursive: true, force: true }),
  };
}

driverContract("simulated, in memory", () => harness("memory"));
driverContract("simulated, as files", () => harness("files"));

/** Each action in turn that a hypervisor may lack. */
void t.test("what a hypervisor lacks is refused", async (t) => {
  const made = await harness("memory", ["start", "destroy"]);
  const { driver } = made;
  const session = await driver.login();
  const domain = await made.spec({ vmId: "0a0b0c0d-0000-4000-8000-000000000001", generation: 1, name: "a" });
  await session.define(domain);
  await session.start(domain, { paused: false });
  for (const action of ["shutdown", "reset", "pause", "resume", "stats"] as const) {
    await t.rejects(async () => void (await session[action](domain)), /is not supported/, action);
  }
  await session.destroy(domain);
  await driver.close();
  await made.stop();
});
