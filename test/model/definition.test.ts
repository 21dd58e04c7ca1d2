import t from "tap";
import { readDefinition, writeDefinition } from "../../src/base/definition.ts";
import type { DefinitionInput } from "../../src/base/definition.ts";
import { checkDefinition, generatedMac, isName, splitReference } from "../../src/model/definition.ts";
import type { VmDefinition } from "../../src/model/vm.ts";

const CONTEXT = { vmId: "5b1f6c9e-0000-4000-8000-000000000001", arch: "x86_64" };

function checked(plain: unknown): { definition: VmDefinition | null; faults: string[] } {
  const { input, violations } = readDefinition(plain);
  const result = checkDefinition(input, CONTEXT);
  const all = result.ok ? violations : [...violations, ...result.violations];
  return {
    definition: result.ok && violations.length === 0 ? result.definition : null,
    faults: all.map(({ field, message }) => `${field}: ${message}`),
  };
}

const MINIMAL = { name: "web", cpus: 2, memory: "512MiB" };

t.test("the least that is needed, and every default", async (t) => {
  t.same(checked(MINIMAL).definition, {
    name: "web",
    cpus: 2,
    memoryMib: 512,
    arch: "x86_64",
    boot: null,
    disks: [],
    nics: [],
    labels: {},
    restart: "on-failure",
    ha: { enabled: null, priority: 0, onQuorumLoss: "stop" },
  });
});

t.test("disks: targets are dealt out around those that are taken", async (t) => {
  const { definition, faults } = checked({
    ...MINIMAL,
    disks: [
      { pool: "p", size: "1GiB" },
      { pool: "p", size: "1GiB", target: "vda" },
      { source: "iso/debian.iso", device: "cdrom" },
      { source: "images/base.qcow2", bus: "scsi", clone: false },
      { pool: "p", source: "images/base.qcow2", size: "10GiB", format: "raw", readonly: true, cache: "none" },
    ],
  });
  t.same(faults, []);
  t.same(definition?.disks, [
    {
      pool: "p",
      source: null,
      sizeBytes: 2 ** 30,
      clone: true,
      format: "qcow2",
      target: "vdb",
      bus: "virtio",
      device: "disk",
      readonly: false,
      cache: "default",
    },
    {
      pool: "p",
      source: null,
      sizeBytes: 2 ** 30,
      clone: true,
      format: "qcow2",
      target: "vda",
      bus: "virtio",
      device: "disk",
      readonly: false,
      cache: "default",
    },
    {
      pool: "iso",
      source: "iso/debian.iso",
      sizeBytes: null,
      clone: false,
      format: "raw",
      target: "sda",
      bus: "sata",
      device: "cdrom",
      readonly: true,
      cache: "default",
    },
    {
      pool: "images",
      source: "images/base.qcow2",
      sizeBytes: null,
      clone: false,
      format: "qcow2",
      target: "sdb",
      bus: "scsi",
      device: "disk",
      readonly: false,
      cache: "default",
    },
    {
      pool: "p",
      source: "images/base.qcow2",
      sizeBytes: 10 * 2 ** 30,
      clone: true,
      format: "raw",
      target: "vdc",
      bus: "virtio",
      device: "disk",
      readonly: true,
      cache: "none",
    },
  ]);
});

await t.test("a disk that several write to is a raw source as it is", async (t) => {
  const shared = { source: "p/marks.raw", clone: false, format: "raw", shareable: true };
  const { definition, faults } = checked({ ...MINIMAL, disks: [shared] });
  t.same(faults, []);
  t.equal(definition?.disks[0]?.shareable, true);
  const written = writeDefinition(readDefinition({ ...MINIMAL, disks: [shared] }).input);
  t.same(checked(written).definition, definition, "it survives the way to YAML and back");
  for (const [more, fault] of [
    [{ clone: true }, /^disks\[0\]\.shareable: expected a source with clone: false/],
    [{ format: "qcow2" }, /^disks\[0\]\.shareable: expected format: raw/],
    [{ readonly: true }, /^disks\[0\]\.shareable: is for disks that are written/],
  ] as const) {
    const { faults } = checked({ ...MINIMAL, disks: [{ ...shared, ...more }] });
    t.equal(faults.length, 1);
    t.match(faults[0], fault);
  }
  const plain = checked({ ...MINIMAL, disks: [{ ...shared, shareable: false }] });
  t.notOk("shareable" in plain.definition!.disks[0]!, "what is not said is not in the row");
});

/** Changes to the minimal definition, and how each fault begins; one row each, all of them exactly. */
const FAULTS: [string, Record<string, unknown>, RegExp[]][] = [
  ["no name", { name: undefined }, [/^name: expected 1 to 63/]],
  ["capital letters", { name: "Web" }, [/^name: .*not "Web"/]],
  ["name with a dash at its end", { name: "web-" }, [/^name:/]],
  ["name of 64 letters", { name: "a".repeat(64) }, [/^name:/]],
  ["name that is an id", { name: "5b1f6c9e-0000-4000-8000-000000000001" }, [/^name:/]],
  ["name that is a list", { name: ["web"] }, [/^name: expected a text, not a list/, /^name:/]],
  ["no cpus", { cpus: undefined }, [/^cpus: expected a number of CPUs from 1 to 512$/]],
  ["cpus 0", { cpus: 0 }, [/^cpus:/]],
  ["cpus 513", { cpus: 513 }, [/^cpus: .*not 513/]],
  ["cpus 1.5", { cpus: 1.5 }, [/^cpus: expected a whole number, not 1.5/, /^cpus:/]],
  ["cpus as text", { cpus: "two" }, [/^cpus: expected a whole number, not "two"/, /^cpus:/]],
  ["memory without a unit", { memory: 512 }, [/^memory: expected an amount with its unit/, /^memory:/]],
  ["memory of half a MiB", { memory: "524288B" }, [/^memory: expected a whole number of MiB/, /^memory:/]],
  ["memory of 8 MiB", { memory: "8MiB" }, [/^memory: expected an amount of memory in MiB from 16 to 16777216, not 8$/]],
  ["memory of 17 TiB", { memory: "17TiB" }, [/^memory:/]],
  ["memory twice", { memoryMib: 512 }, [/^memoryMib: memory is given twice/]],
  ["a slip in a key", { memroy: "1GiB" }, [/^memroy: unknown key \(did you mean "memory"\?\)/]],
  ["an unknown key", { colour: "red" }, [/^colour: unknown key; known: name, cpus/]],
  ["another machine", { arch: "z80" }, [/^arch: expected one of x86_64/]],
  ["boot without a kernel", { boot: { cmdline: "quiet" } }, [/^boot\.kernel: expected POOL\/FILE of a kernel/]],
  ["a path that leaves its pool", { boot: { kernel: "images/../../etc/shadow" } }, [/^boot\.kernel: expected POOL\/FILE/]],
  ["an absolute path", { boot: { kernel: "/boot/vmlinuz" } }, [/^boot\.kernel:/]],
  ["a hidden file", { boot: { kernel: "images/.marker" } }, [/^boot\.kernel:/]],
  ["a protocol for QEMU", { boot: { kernel: "images/nbd:host:1" } }, [/^boot\.kernel:/]],
  ["two lines of kernel options", { boot: { kernel: "i/k", cmdline: "a\nb" } }, [/^boot\.cmdline: expected one line/]],
  ["a disk without pool", { disks: [{ size: "1GiB" }] }, [/^disks\[0\]\.pool: expected the name of a pool/]],
  ["an empty disk without size", { disks: [{ pool: "p" }] }, [/^disks\[0\]\.size: expected a size, because/]],
  ["a size for a source used as it is", { disks: [{ source: "p/x", clone: false, size: "1GiB" }] }, [/^disks\[0\]\.size: cannot be given/]],
  ["an empty cdrom", { disks: [{ pool: "p", device: "cdrom" }] }, [/^disks\[0\]\.source: .*cdrom/]],
  ["a cdrom on virtio", { disks: [{ source: "p/x.iso", device: "cdrom", bus: "virtio" }] }, [/^disks\[0\]\.bus: expected sata/]],
  [
    "one target twice",
    {
      disks: [
        { pool: "p", size: "1GiB", target: "vda" },
        { pool: "p", size: "1GiB", target: "vda" },
      ],
    },
    [/^disks\[1\]\.target: "vda" is the target of disks\[0\] already/],
  ],
  [
    "a target of another bus",
    { disks: [{ pool: "p", size: "1GiB", target: "sda" }] },
    [/^disks\[0\]\.target: expected vda to vdz for bus virtio/],
  ],
  [
    "27 disks on a bus",
    { disks: Array.from({ length: 27 }, () => ({ pool: "p", size: "1GiB" })) },
    [/^disks\[26\]\.target: expected at most 26/],
  ],
  [
    "33 disks",
    { disks: Array.from({ length: 33 }, (_, i) => ({ pool: "p", size: "1GiB", bus: i % 2 === 0 ? "virtio" : "sata" })) },
    [/^disks: expected at most 32 disks, not 33/],
  ],
  ["a slip in a choice", { restart: "on-failur" }, [/^restart: .*\(did you mean "on-failure"\?\)/]],
  ["no bridge", { nics: [{}] }, [/^nics\[0\]\.bridge: expected the name of a bridge/]],
  ["a bridge name too long for Linux", { nics: [{ bridge: "a".repeat(16) }] }, [/^nics\[0\]\.bridge:/]],
  ["a group address", { nics: [{ bridge: "br0", mac: "01:00:5e:00:00:01" }] }, [/^nics\[0\]\.mac: expected a unicast/]],
  [
    "one address twice",
    {
      nics: [
        { bridge: "br0", mac: "52:54:00:00:00:01" },
        { bridge: "br0", mac: "52:54:00:00:00:01".toUpperCase() },
      ],
    },
    [/^nics\[1\]\.mac: .*nics\[0\] already/],
  ],
  ["labels as a list", { labels: ["a"] }, [/^labels: expected key: value pairs, not a list/]],
  ["a label's key in capitals", { labels: { Tier: "x" } }, [/^labels\.Tier: expected a key/]],
  ["65 labels", { labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, "v"])) }, [/^labels: expected at most 64/]],
  ["a negative priority", { ha: { priority: -1 } }, [/^ha\.priority: expected a whole number from 0/]],
  ["unknown wish on quorum loss", { ha: { "on-quorum-loss": "pray" } }, [/^ha\.on-quorum-loss: expected one of stop, keep/]],
];

for (const [name, change, expected] of FAULTS) {
  t.test(name, async (t) => {
    const plain = Object.fromEntries(Object.entries({ ...MINIMAL, ...change }).filter(([, value]) => value !== undefined));
    const { faults } = checked(plain);
    t.equal(faults.length, expected.length, `faults: ${faults.join(" | ")}`);
    expected.forEach((pattern, i) => t.match(faults[i], pattern));
  });
}

t.test("all faults at once", async (t) => {
  const { faults } = checked({ name: "X", cpus: 0, memory: "1", disks: [{}], nics: [{}], restart: "x", ha: { priority: -1 } });
  t.same(
    new Set(faults.map((fault) => fault.split(":")[0])),
    new Set(["name", "cpus", "memory", "disks[0].pool", "disks[0].size", "nics[0].bridge", "restart", "ha.priority"]),
  );
});

t.test("no definition is anything but key: value pairs", async (t) => {
  for (const plain of [null, "web", 7, [], undefined])
    t.ok(checked(plain).faults[0]?.startsWith(": expected name, cpus, memory"), JSON.stringify(plain));
});

t.test("written and read back, nothing changes", async (t) => {
  const { definition } = checked({
    ...MINIMAL,
    boot: { kernel: "images/vmlinuz", cmdline: "console=ttyS0 quiet" },
    disks: [
      { pool: "p", size: "1536MiB" },
      { pool: "p", size: "1000000001B", bus: "sata" },
      { source: "iso/x.iso", device: "cdrom" },
    ],
    nics: [{ bridge: "br0" }, { bridge: "br1", model: "e1000" }],
    labels: { tier: "front", "a.b/c": "" },
    restart: "always",
    ha: { enabled: false, priority: 7, "on-quorum-loss": "keep" },
    vdc: "web",
    partition: "gold",
    requirements: 'label.disk = "ssd" & cpus >= 4',
    rank: "freeMemoryMib - probe.LOAD",
    "cpu-pinning": { numa: "one" },
    cpu: { model: "host", features: ["avx2", "aes"] },
  });
  if (definition === null) throw new Error("the definition is not valid");
  // As the API sends it: nothing is null but absent parts.
  const sent: DefinitionInput = {
    ...definition,
    boot: definition.boot === null ? null : { ...definition.boot, initrd: definition.boot.initrd ?? "" },
    disks: definition.disks.map((disk) => ({ ...disk, source: disk.source ?? "", sizeBytes: disk.sizeBytes ?? 0 })),
    ha: { ...definition.ha, enabled: definition.ha.enabled ?? undefined },
    requirements: definition.requirements ?? "",
    rank: definition.rank ?? "",
    cpu: { model: definition.cpu?.model ?? "", features: definition.cpu?.features ?? [] },
  };
  const again = checked(writeDefinition(sent));
  t.same(again.faults, []);
  // Another VM's id: only what was not written down could change.
  t.same(again.definition, definition);
});

t.test("an address comes from the VM's id and place, and is unicast and local", async (t) => {
  const seen = new Set<string>();
  for (let i = 0; i < 2_000; i++) for (const nic of [0, 1]) seen.add(generatedMac(`vm-${i}`, nic));
  t.equal(seen.size, 4_000, "no two of 4000 are the same");
  for (const mac of seen) if (!/^02(:[0-9a-f]{2}){5}$/.test(mac)) t.fail(mac);
  t.equal(generatedMac("x", 1), generatedMac("x", 1));
});

t.test("names and references", async (t) => {
  for (const good of ["a", "web-1", "0", "a".repeat(63)]) t.ok(isName(good), good);
  for (const bad of ["", "-a", "a-", "a_b", "a.b", "ä", "A", "a".repeat(64), "a b", "a\n"]) t.notOk(isName(bad), JSON.stringify(bad));
  t.same(splitReference("images/a/b.qcow2"), { pool: "images", file: "a/b.qcow2" });
  for (const bad of [
    "",
    "images",
    "images/",
    "/x",
    "images//x",
    "images/./x",
    "images/x/..",
    "Images/x",
    "images/a b",
    "images/x\0",
    "images/a,b",
    "i/1/2/3/4/5",
  ]) {
    t.equal(splitReference(bad), null, JSON.stringify(bad));
  }
});
