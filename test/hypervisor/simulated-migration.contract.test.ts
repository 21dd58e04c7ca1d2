import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { FileDomainStore } from "../../src/hypervisor/simulated-files.ts";
import { MemoryDomainStore } from "../../src/hypervisor/simulated-store.ts";
import type { DomainStore } from "../../src/hypervisor/simulated-store.ts";
import { SimulatedDriver } from "../../src/hypervisor/simulated.ts";
import { migrationContract } from "../contract/migration.ts";

const CLUSTER = "c1c1c1c1-0000-4000-8000-000000000001";

for (const kind of ["memory", "files"] as const) {
  migrationContract(`simulated, ${kind}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "roost-simulated-"));
    const store = (side: string): DomainStore =>
      kind === "memory" ? new MemoryDomainStore() : new FileDomainStore(join(folder, side), { log: silentLogger });
    const stores = { source: store("source"), target: store("target") };
    const make = (side: "source" | "target"): SimulatedDriver =>
      new SimulatedDriver({ clusterId: CLUSTER, pushStepMs: 1 }, { clock: systemClock, log: silentLogger, store: stores[side] });
    const drivers = { source: make("source"), target: make("target") };
    return Promise.resolve({
      ...drivers,
      spec: (vm) =>
        Promise.resolve({ ...vm, clusterId: CLUSTER, cpus: 1, memoryMib: 64, boot: null, disks: [], nics: [], serialLogPath: null }),
      guestReady: () => Promise.resolve(),
      lives: null,
      again: async (side) => {
        await drivers[side].close();
        drivers[side] = make(side);
        return drivers[side];
      },
      stop: () => Promise.resolve(rmSync(folder, { recursive: true, force: true })),
    });
  });
}
