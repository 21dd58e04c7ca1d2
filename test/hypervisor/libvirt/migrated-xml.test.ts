import t from "tap";
import type { DomainSpec } from "../../../src/hypervisor/driver.ts";
import { buildDomainXml, readMark } from "../../../src/hypervisor/libvirt/domain-xml.ts";
import { migratedXml } from "../../../src/hypervisor/libvirt/migrated-xml.ts";

const OPTIONS = { kvm: false, emulatorPath: "/usr/bin/qemu-system-x86_64", arch: "x86_64" };

function specOn(node: string, generation: number): DomainSpec {
  return {
    vmId: "11111111-2222-4333-8444-555555555555",
    generation,
    clusterId: "aaaaaaaa-0000-4000-8000-00000000beef",
    name: "web <1>",
    cpus: 2,
    memoryMib: 64,
    boot: { kernelPath: `/${node}/vmlinuz`, initrdPath: null, cmdline: "console=ttyS0" },
    disks: ["vda", "vdb"].map((target) => ({
      source: { kind: "file", path: `/${node}/${target}.qcow2`, format: "qcow2" },
      target,
      bus: "virtio",
      device: "disk",
      readonly: false,
      cache: "none",
    })),
    nics: [{ mac: "52:54:00:00:00:01", bridge: "br0", model: "virtio" }],
    serialLogPath: `/${node}/serial.log`,
  };
}

/** As the source's libvirt gives it: with addresses, backing chains and aliases that it chose. */
function fromSource(spec: DomainSpec): string {
  return buildDomainXml(spec, OPTIONS)
    .replace("</disk>", "<backingStore type='file'><source file='/n1/base.qcow2'/></backingStore><address type='pci' slot='0x05'/></disk>")
    .replace('placement="static"', "");
}

void t.test("the source's machine with this node's mark, files and CPUs", (t) => {
  const there: DomainSpec = { ...specOn("n2", 8), cpuPlacement: { kind: "pinned", cpus: [4, 6], numaNode: 0 } };
  const xml = migratedXml(fromSource({ ...specOn("n1", 7), cpuPlacement: { kind: "shared", cpus: [0, 1] } }), there, OPTIONS);
  t.equal(readMark(xml)?.generation, 8);
  t.equal(readMark(xml)?.name, "web <1>");
  t.notMatch(xml, "/n1/", "no path of the source's is left");
  for (const path of ["/n2/vmlinuz", "/n2/vda.qcow2", "/n2/vdb.qcow2", "/n2/serial.log"]) t.match(xml, path);
  t.match(xml, '<address type="pci" slot="0x05"/>', "devices are where they were");
  t.match(xml, /cpuset="4,6"/);
  t.match(xml, /<vcpupin vcpu="1" cpuset="6"/);
  t.notMatch(xml, "0-1");
  t.match(xml, /nodeset="0"/);
  const plain = migratedXml(fromSource(there), { ...specOn("n2", 8), serialLogPath: null }, OPTIONS);
  t.notMatch(plain, /cputune|numatune|<log/);
  t.end();
});

void t.test("a VM that is defined otherwise by now is refused", (t) => {
  const there = specOn("n2", 8);
  const source = fromSource(specOn("n1", 7));
  t.throws(() => migratedXml(source, { ...there, disks: there.disks.slice(0, 1) }, OPTIONS), /a disk vdb that is not defined here/);
  const third = { ...there.disks[0]!, target: "vdc" };
  t.throws(() => migratedXml(source, { ...there, disks: [...there.disks, third] }, OPTIONS), /has no disk vdc/);
  t.throws(() => migratedXml(source, { ...there, vmId: "99999999-2222-4333-8444-555555555555" }, OPTIONS), /comes as 1111/);
  t.end();
});
