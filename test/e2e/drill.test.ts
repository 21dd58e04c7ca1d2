/** A sample of `npm run drill`: nodes die and are cut off, and no VM ever runs twice by its own guests' marks; two real copies are found. */
import { copyFile, rm } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { Lab, waitFor } from "../../scripts/lab/lab.ts";
import { DrillCluster } from "../support/drill/cluster.ts";
import { runDrill } from "../support/drill/drill.ts";
import type { Kind } from "../support/drill/faults.ts";
import { labRefused } from "../support/lab.ts";

const seed = Number(process.env["ROOST_SEED"] ?? Date.now() % 1_000_000);
console.log(`# seed ${seed}`);

t.setTimeout(300_000);
t.test("drills", { skip: await labRefused() }, async (t) => {
  const base = join("/tmp", `roost-e2e-drill-${process.pid}`);
  t.teardown(async () => {
    await Lab.downAt(base);
    await rm(base, { recursive: true, force: true });
  });
  const say = (line: string): void => t.comment(line);
  const cluster = await DrillCluster.up({ base, nodes: 3, vmsPerNode: 1, smallDisks: false, settings: [], say });
  t.teardown(async () => {
    await cluster.down();
  });

  for (const kind of ["kill", "partition"] as Kind[]) {
    const result = await runDrill(cluster, { kind, trials: 1, seed, say });
    t.ok(result.timesMs.length > 0, `${kind}: VMs were recovered`);
    t.same([result.overlaps, result.falseFailovers, result.unclear], [[], [], []], `${kind}: each ran once, and none without a reason`);
  }

  // Beside everything that guards a VM: a second copy of its guest, with a boot disk of its own, and the same marker disk.
  const [vm] = await cluster.vms();
  const other = cluster.lab.nodes.find((node) => node.name !== vm?.node);
  if (vm === undefined || other === undefined) throw new Error("no VM, or no other node");
  const boot = join(cluster.lab.sharedDir, "copy.img");
  await copyFile(join(cluster.lab.sharedDir, `${vm.name}.img`), boot);
  const started = await other.exec("cat > /run/copy.xml && virsh -q create /run/copy.xml", {
    input: copyXml(boot, cluster.markerPath(vm.name)),
    timeoutMs: 30_000,
  });
  t.equal(started.code, 0, started.stderr);
  const verdict = await waitFor(
    "the copy to be found",
    async () => {
      const now = (await cluster.judge()).get(vm.name);
      return now !== undefined && now.overlaps.length > 0 ? now : null;
    },
    30_000,
  );
  t.match(verdict.overlaps, [/both ran for \d+ marks or more/]);
});

function copyXml(bootPath: string, markerPath: string): string {
  return `<domain type='qemu'><name>copy</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/><memballoon model='none'/>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${bootPath}'/><target dev='hda' bus='ide'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${markerPath}'/><target dev='hdb' bus='ide'/><shareable/></disk>
</devices></domain>`;
}
