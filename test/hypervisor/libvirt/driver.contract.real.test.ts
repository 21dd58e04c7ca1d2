import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../../src/base/log.ts";
import type { DomainRef } from "../../../src/hypervisor/driver.ts";
import { buildDomainXml } from "../../../src/hypervisor/libvirt/domain-xml.ts";
import { LibvirtDriver } from "../../../src/hypervisor/libvirt/driver.ts";
import { driverContract } from "../../contract/driver.ts";
import type { DriverHarness } from "../../contract/driver.ts";
import { GUEST_UP, guestDisk } from "../../support/guest.ts";
import { startLibvirtd } from "../../support/libvirtd.ts";

t.setTimeout(180_000);

const CLUSTER = "c1c1c1c1-0000-4000-8000-000000000001";
const EMULATOR = { kvm: false, emulatorPath: "/usr/bin/qemu-system-x86_64", arch: "x86_64" };

async function harness(): Promise<DriverHarness | { skip: string }> {
  const libvirtd = await startLibvirtd();
  if ("skip" in libvirtd) return libvirtd;
  const { folder } = libvirtd;
  const make = (): LibvirtDriver =>
    new LibvirtDriver(
      {
        clusterId: CLUSTER,
        acceleration: "tcg",
        maxSessions: 4,
        destroyTimeoutMs: 5_000,
        client: { socketPaths: [libvirtd.socketPath], callTimeoutMs: 5_000, keepalive: { intervalMs: 1_000, count: 3 } },
      },
      { log: silentLogger },
    );
  const emulator = ({ vmId }: DomainRef): number => {
    const [pid] = libvirtd.emulators(vmId);
    if (pid === undefined) throw new Error(`no QEMU runs for ${vmId}`);
    return pid;
  };
  return {
    driver: make(),
    clusterId: CLUSTER,
    spec: (vm) => {
      const path = join(folder, `${vm.vmId}-${vm.generation}.raw`);
      writeFileSync(path, guestDisk());
      const disk = {
        source: { kind: "file", path, format: "raw" },
        target: "vda",
        bus: "virtio",
        device: "disk",
        readonly: false,
        cache: "none",
      } as const;
      const nic = { mac: "52:54:00:00:00:01", bridge: "br0", model: "virtio" } as const;
      const shape = { cpus: 1, memoryMib: 4, boot: null, disks: [disk], nics: [nic], serialLogPath: join(folder, `${vm.vmId}.serial`) };
      return Promise.resolve({ ...vm, ...shape, clusterId: CLUSTER });
    },
    guestReady: async ({ serialLogPath }) => {
      const deadlineMs = performance.now() + 20_000;
      const path = serialLogPath ?? "";
      while (!existsSync(path) || !readFileSync(path, "utf8").includes(GUEST_UP)) {
        if (performance.now() > deadlineMs) throw new Error("the guest printed nothing");
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    startForeign: async (vmId, clusterId) => {
      const path = join(folder, `${vmId}-foreign.xml`);
      const shape = { cpus: 1, memoryMib: 4, boot: null, disks: [], nics: [], serialLogPath: null };
      const xml = buildDomainXml({ vmId, generation: 7, name: "foreign", clusterId: clusterId ?? "x", ...shape }, EMULATOR);
      // Without the mark, everything else is as roost would have made it except the name.
      writeFileSync(
        path,
        clusterId === null ? xml.replace(/<metadata>[\s\S]*<\/metadata>/, "").replace(/<name>.*<\/name>/, "<name>mine</name>") : xml,
      );
      if (clusterId !== null) writeFileSync(path, xml.replace(/<name>.*<\/name>/, "<name>theirs</name>"));
      libvirtd.virsh("create", path);
      const runs = (): boolean => libvirtd.virsh("list", "--uuid").includes(vmId);
      return Promise.resolve({ runs: () => Promise.resolve(runs()), end: () => Promise.resolve(void libvirtd.virsh("destroy", vmId)) });
    },
    destroyOutside: ({ vmId }) => Promise.resolve(void libvirtd.virsh("destroy", vmId)),
    crashOutside: (ref) => Promise.resolve(void process.kill(emulator(ref), "SIGKILL")),
    killDaemon: () => {
      libvirtd.killDaemon();
      return Promise.resolve(() => libvirtd.startDaemon());
    },
    freezeDaemon: () => {
      libvirtd.signalDaemon("STOP");
      return Promise.resolve(() => Promise.resolve(libvirtd.signalDaemon("CONT")));
    },
    again: () => Promise.resolve(make()),
    killable: true,
    stop: () => libvirtd.stop(),
  };
}

driverContract("libvirt, qemu:///system", harness);
