/** A real libvirtd takes what is said of CPUs, and does it: the threads run where they should. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../../src/base/log.ts";
import type { DomainSpec } from "../../../src/hypervisor/driver.ts";
import { LibvirtDriver } from "../../../src/hypervisor/libvirt/driver.ts";
import { guestDisk } from "../../support/guest.ts";
import { startLibvirtd } from "../../support/libvirtd.ts";

const CLUSTER = "aaaaaaaa-0000-4000-8000-00000000c9a5";

t.test("topology is found, and pinned, shared and chosen CPUs are taken", async (t) => {
  const libvirtd = await startLibvirtd();
  if ("skip" in libvirtd) return t.plan(0, libvirtd.skip);
  t.teardown(() => libvirtd.stop());
  const folder = mkdtempSync("/tmp/roost-pinning-");
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const driver = new LibvirtDriver(
    { clusterId: CLUSTER, acceleration: "tcg", client: { socketPaths: [libvirtd.socketPath] } },
    { log: silentLogger },
  );
  t.teardown(() => driver.close());

  const { cpuTopology, cpuModels, cpuFeatures } = await driver.capabilities();
  const ids = cpuTopology?.numa.flatMap((node) => node.cpus) ?? [];
  t.equal(ids.length, cpus().length, "every CPU of the machine is in one NUMA node");
  t.equal(new Set(ids).size, ids.length);
  t.ok(cpuModels?.includes("qemu64"));
  t.ok((cpuFeatures?.length ?? 0) > 10, "features, expanded");

  const session = await driver.login();
  t.teardown(() => session.logout());
  let made = 0;
  /** What `virsh dumpxml` says of the running domain. */
  const run = async (changes: Partial<DomainSpec>, confineTo: number[] | null = null): Promise<string> => {
    const vmId = `11111111-2222-4333-8444-00000000000${++made}`;
    const path = join(folder, `${vmId}.raw`);
    writeFileSync(path, guestDisk());
    const spec: DomainSpec = {
      vmId,
      generation: 1,
      clusterId: CLUSTER,
      name: `pin-${made}`,
      cpus: 1,
      memoryMib: 16,
      boot: null,
      disks: [{ source: { kind: "file", path, format: "raw" }, target: "hda", bus: "ide", device: "disk", readonly: false, cache: "none" }],
      nics: [],
      serialLogPath: null,
      ...changes,
    };
    await session.define(spec);
    await session.start(spec, { paused: false });
    if (confineTo !== null) await session.confine(spec, { vcpus: spec.cpus, cpus: confineTo });
    const xml = libvirtd.virsh("dumpxml", vmId);
    const pin = libvirtd.virsh("vcpupin", vmId);
    await session.destroy(spec);
    return `${xml}\n${pin}`;
  };
  const last = ids.at(-1) ?? 0;
  const pinned = await run({
    cpuPlacement: { kind: "pinned", cpus: [last], numaNode: cpuTopology?.numa.at(-1)?.id ?? null },
    cpu: { model: "host", features: [] },
  });
  t.match(pinned, new RegExp(`<vcpupin vcpu='0' cpuset='${last}'/>`));
  t.match(pinned, new RegExp(`<emulatorpin cpuset='${last}'/>`));
  t.match(pinned, /<memory mode='strict' nodeset='\d+'\/>/);
  t.match(pinned, new RegExp(`\\n\\s*0\\s+${last}\\s*$`), "the vCPU's thread is bound to that CPU");

  const shared = await run({ cpuPlacement: { kind: "shared", cpus: [0] }, cpu: { model: "Westmere", features: ["avx2"] } });
  t.match(shared, /<vcpu placement='static' cpuset='0'>1<\/vcpu>/);
  t.match(shared, /<model fallback='forbid'>Westmere<\/model>/);
  t.match(shared, /<feature policy='require' name='avx2'\/>/);

  const confined = await run({}, [last]);
  t.match(confined, new RegExp(`\\n\\s*0\\s+${last}\\s*$`), "a running domain's vCPU is bound anew");
  t.match(confined, new RegExp(`<emulatorpin cpuset='${last}'/>`));

  await t.rejects(run({ cpu: { model: "Snowridge", features: [] } }), "a model that the emulator cannot give is refused by libvirt");
});
