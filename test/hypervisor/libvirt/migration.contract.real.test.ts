import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../../src/base/log.ts";
import { LibvirtDriver } from "../../../src/hypervisor/libvirt/driver.ts";
import { migrationContract } from "../../contract/migration.ts";
import type { MigrationHarness } from "../../contract/migration.ts";
import { GUEST_UP, guestDisk } from "../../support/guest.ts";
import { startLibvirtd } from "../../support/libvirtd.ts";
import type { PrivateLibvirtd } from "../../support/libvirtd.ts";

t.setTimeout(180_000);

const CLUSTER = "c1c1c1c1-0000-4000-8000-000000000001";

/** Two libvirtds in namespaces of their own, and a folder that both see. */
async function harness(): Promise<MigrationHarness | { skip: string }> {
  const started = await Promise.all([startLibvirtd(1), startLibvirtd(2)]);
  const [first, second] = started;
  if (first === undefined || second === undefined || "skip" in first || "skip" in second) {
    for (const one of started) if (!("skip" in one)) await one.stop();
    return first !== undefined && "skip" in first ? first : { skip: "no second libvirtd" };
  }
  const libvirtds = { source: first, target: second };
  const shared = mkdtempSync(join(tmpdir(), "roost-shared-"));
  const make = (libvirtd: PrivateLibvirtd): LibvirtDriver => {
    mkdirSync(join(libvirtd.folder, "m"), { recursive: true });
    return new LibvirtDriver(
      {
        clusterId: CLUSTER,
        acceleration: "tcg",
        migrationFolder: join(libvirtd.folder, "m"),
        client: { socketPaths: [libvirtd.socketPath], callTimeoutMs: 10_000, keepalive: { intervalMs: 1_000, count: 5 } },
      },
      { log: silentLogger },
    );
  };
  const drivers = { source: make(first), target: make(second) };
  const until = async (what: string, done: () => boolean): Promise<void> => {
    const deadlineMs = performance.now() + 30_000;
    while (!done()) {
      if (performance.now() > deadlineMs) throw new Error(`no ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const serial = (path: string | null): string => (path !== null && existsSync(path) ? readFileSync(path, "utf8") : "");
  return {
    ...drivers,
    spec: (vm, side) => {
      const path = join(shared, `${vm.vmId}.raw`);
      if (!existsSync(path)) writeFileSync(path, guestDisk());
      const disk = { source: { kind: "file", path, format: "raw" }, target: "vda", bus: "virtio", device: "disk" } as const;
      const nic = { mac: "52:54:00:00:00:01", bridge: "br0", model: "virtio" } as const;
      return Promise.resolve({
        ...vm,
        clusterId: CLUSTER,
        cpus: 1,
        memoryMib: 4,
        boot: null,
        disks: [{ ...disk, readonly: false, cache: "none" } as const],
        nics: [nic],
        serialLogPath: join(libvirtds[side].folder, `${vm.vmId}-${vm.generation}.serial`),
      });
    },
    guestReady: ({ serialLogPath }) => until("sign of the guest", () => serial(serialLogPath).includes(GUEST_UP)),
    lives: async ({ serialLogPath }) => {
      const before = serial(serialLogPath).length;
      await until("further sign of the guest", () => serial(serialLogPath).length > before);
      t.notOk(serial(serialLogPath).includes("!"), "every write of the guest went through");
      return { boots: serial(serialLogPath).split(GUEST_UP).length - 1 };
    },
    again: async (side) => {
      await drivers[side].close();
      drivers[side] = make(libvirtds[side]);
      return drivers[side];
    },
    stop: async () => {
      await first.stop();
      await second.stop();
      rmSync(shared, { recursive: true, force: true });
    },
  };
}

migrationContract("libvirt, qemu:///system", harness);
