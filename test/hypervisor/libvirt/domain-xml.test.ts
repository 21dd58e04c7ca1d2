import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import type { DomainSpec } from "../../../src/hypervisor/driver.ts";
import { buildDomainXml, cpuList, readMark } from "../../../src/hypervisor/libvirt/domain-xml.ts";
import { domainName, nameHasMark, processMark, uuidBytes, uuidText } from "../../../src/hypervisor/libvirt/mark.ts";

const GOLDEN = join(import.meta.dirname, "../../golden/domain-xml");
const TCG = { kvm: false, emulatorPath: "/usr/bin/qemu-system-x86_64", arch: "x86_64" };

const SMALL: DomainSpec = {
  vmId: "11111111-2222-4333-8444-555555555555",
  generation: 3,
  clusterId: "aaaaaaaa-0000-4000-8000-00000000beef",
  name: "web-1",
  cpus: 1,
  memoryMib: 80,
  boot: { kernelPath: "/pool/vmlinuz", initrdPath: "/pool/initrd.img", cmdline: "console=ttyS0 panic=-1" },
  disks: [],
  nics: [],
  serialLogPath: "/var/log/roost/web-1.serial",
};

const LARGE: DomainSpec = {
  ...SMALL,
  generation: 12,
  name: `a <b> & "c" 'd' é`,
  cpus: 4,
  memoryMib: 2048,
  boot: null,
  disks: [
    {
      source: { kind: "file", path: "/pool/a&b.raw", format: "raw" },
      target: "vda",
      bus: "virtio",
      device: "disk",
      readonly: false,
      cache: "none",
    },
    {
      source: { kind: "file", path: "/pool/data.qcow2", format: "qcow2" },
      target: "sda",
      bus: "scsi",
      device: "disk",
      readonly: true,
      cache: "writeback",
    },
    {
      source: { kind: "file", path: "/pool/cd.iso", format: "raw" },
      target: "sdb",
      bus: "sata",
      device: "cdrom",
      readonly: false,
      cache: "default",
    },
  ],
  nics: [
    { mac: "52:54:00:00:00:01", bridge: "br0", model: "virtio" },
    { mac: "52:54:00:00:00:02", bridge: "br1", model: "e1000" },
  ],
  serialLogPath: null,
};

const SHARED: DomainSpec["disks"][number] = {
  source: { kind: "file", path: "/pool/marks.raw", format: "raw" },
  target: "hdb",
  bus: "ide",
  device: "disk",
  readonly: false,
  shareable: true,
  cache: "default",
};

const PINNED: DomainSpec = { ...SMALL, cpus: 2, cpuPlacement: { kind: "pinned", cpus: [4, 5], numaNode: 1 } };

const CASES: [string, DomainSpec, boolean][] = [
  ["direct-boot-tcg", SMALL, false],
  ["direct-boot-kvm", { ...SMALL, boot: { kernelPath: "/pool/vmlinuz", initrdPath: null, cmdline: `q="<&>'"` } }, true],
  ["disks-and-nics-tcg", LARGE, false],
  ["disks-and-nics-kvm", LARGE, true],
  ["pinned-one-numa-node-kvm", { ...PINNED, cpu: { model: "host", features: ["avx2", "x2apic"] } }, true],
  ["shareable-tcg", { ...SMALL, disks: [SHARED] }, false],
  [
    "pinned-anywhere-tcg",
    { ...PINNED, cpuPlacement: { kind: "pinned", cpus: [7, 2], numaNode: null }, cpu: { model: "Westmere", features: [] } },
    false,
  ],
  ["beside-pinned-tcg", { ...SMALL, cpuPlacement: { kind: "shared", cpus: [0, 1, 2, 5] }, cpu: { model: null, features: ["aes"] } }, false],
];

for (const [name, spec, kvm] of CASES) {
  void t.test(`definition: ${name}`, (t) => {
    const xml = buildDomainXml(spec, { ...TCG, kvm });
    const path = join(GOLDEN, `${name}.xml`);
    if (process.env["ROOST_GOLDEN"] === "write") writeFileSync(path, xml);
    t.equal(xml, readFileSync(path, "utf8"));
    t.strictSame(readMark(xml), { clusterId: spec.clusterId, vmId: spec.vmId, generation: spec.generation, name: spec.name });
    t.end();
  });
}

void t.test("the mark is read by namespace, not by prefix, and only from metadata", (t) => {
  const mark = (attributes: string, prefix = "r"): string =>
    `<domain><name>x</name><metadata><other:y xmlns:other="urn:other"/><${prefix}:domain xmlns:${prefix}="urn:roost:domain:1" ${attributes}/></metadata></domain>`;
  const good = `cluster="c" vm="v" generation="4" name="n"`;
  t.strictSame(readMark(mark(good)), { clusterId: "c", vmId: "v", generation: 4, name: "n" });
  t.strictSame(readMark(mark(good, "roost")), { clusterId: "c", vmId: "v", generation: 4, name: "n" });
  t.equal(readMark(mark(good).replace("urn:roost:domain:1", "urn:somebody:else")), null);
  t.equal(readMark("<domain><name>x</name></domain>"), null);
  t.equal(readMark("<domain><metadata/></domain>"), null);
  t.equal(readMark(`<domain><devices><roost:domain xmlns:roost="urn:roost:domain:1" ${good}/></devices></domain>`), null);
  for (const bad of [
    `cluster="c" vm="v" name="n"`.replace("vm", "wm"),
    `cluster="c" vm="v" generation="x"`,
    `cluster="" vm="v" generation="1"`,
  ]) {
    t.throws(() => readMark(mark(bad)), /damaged/);
  }
  t.end();
});

void t.test("names carry the generation, and a process mark fits one domain only", (t) => {
  const ref = { vmId: "11111111-2222-4333-8444-555555555555", generation: 3 };
  t.equal(domainName(ref, "web-1"), "roost-web-1-555555555555-g3");
  t.equal(domainName(ref, "a b/c,d=é"), "roost-a_b_c_d__-555555555555-g3");
  t.equal(domainName(ref, "x".repeat(100)).length, "roost-".length + 28 + "-555555555555-g3".length);
  const mark = processMark(ref);
  t.ok(`guest=${domainName(ref, "web-1")},debug-threads=on`.includes(mark));
  t.ok(nameHasMark(domainName(ref, "web-1"), mark));
  for (const generation of [2, 13, 30, 33]) {
    t.notOk(nameHasMark(domainName({ ...ref, generation }, "web-1"), mark), `generation ${generation}`);
    t.notOk(`guest=${domainName({ ...ref, generation }, "web-1")},debug-threads=on`.includes(mark), `generation ${generation}`);
  }
  t.equal(uuidText(uuidBytes(ref.vmId)), ref.vmId);
  t.end();
});

void t.test("lists of CPUs as libvirt writes them", (t) => {
  t.equal(cpuList([3, 1, 2, 8]), "1-3,8");
  t.equal(cpuList([5]), "5");
  t.equal(cpuList([0, 2, 4]), "0,2,4");
  t.end();
});
