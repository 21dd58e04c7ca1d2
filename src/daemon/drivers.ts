/** Which driver runs this node's VMs. */
import { existsSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import type { NodeConfig } from "../base/config.ts";
import { asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { within } from "../base/time-limit.ts";
import type { Driver } from "../hypervisor/driver.ts";
import { DEFAULT_CLIENT_OPTIONS } from "../hypervisor/libvirt/client.ts";
import { LibvirtDriver } from "../hypervisor/libvirt/driver.ts";
import { FileDomainStore } from "../hypervisor/simulated-files.ts";
import { SimulatedDriver } from "../hypervisor/simulated.ts";
import { probedAcceleration } from "./probed.ts";

const PROBE_LIMIT_MS = 20_000;
const EMULATOR = "/usr/bin/qemu-system-x86_64";

/** `auto` takes libvirt where its socket is and answers; else the simulated driver, and says so. */
export async function chooseDriver(config: NodeConfig, clusterId: string, effects: { clock: Clock; log: Logger }): Promise<Driver> {
  const log = effects.log.child("driver");
  if (config.driver !== "simulated") {
    const socket = DEFAULT_CLIENT_OPTIONS.socketPaths.find((path) => existsSync(path));
    if (config.driver === "libvirt" || socket !== undefined) {
      const probe = { path: join(config.data, "run", "acceleration.json"), emulatorPath: EMULATOR, arch: "x86_64" };
      const driver = new LibvirtDriver(
        { clusterId, client: { uri: config.libvirtUri }, acceleration: "probe", emulatorPath: EMULATOR },
        { log, probe: () => probedAcceleration(probe, { nowMs: () => effects.clock.wallMs(), log }) },
      );
      if (config.driver === "libvirt") return driver;
      try {
        await within(driver.capabilities(), PROBE_LIMIT_MS, "asking libvirt what it can do");
        return driver;
      } catch (thrown) {
        log.warn("libvirt does not answer", { reason: asRoostError(thrown).message });
        await driver.close();
      }
    }
    log.warn("no hypervisor found: VMs on this node are only simulated (--driver simulated says that this is meant)");
  }
  const [cpusText, numaText] = config.simulatedCpus.split("/");
  const simulated = {
    cpus: Number(cpusText === "" ? cpus().length : cpusText),
    numaNodes: Number(numaText ?? 1),
    memoryMib: config.memory === "" ? Math.floor(totalmem() / 2 ** 20) : Number(config.memory),
  };
  return new SimulatedDriver(
    { clusterId, ...simulated },
    { clock: effects.clock, log, store: new FileDomainStore(join(config.data, "simulated"), { log }) },
  );
}
