import t from "tap";
import { usageOf } from "../../src/model/capacity.ts";
import { PLACEMENT_CHECKS, checkPlacement, localPool, poolsOf } from "../../src/model/placement.ts";
import type { DiskDefinition } from "../../src/model/vm.ts";
import { seenPool, testNode, testPool, testView, testVm } from "../support/world.ts";

const disk = (pool: string, source: string | null = null): DiskDefinition => ({
  pool,
  source,
  sizeBytes: 1,
  clone: true,
  format: "raw",
  target: "vda",
  bus: "virtio",
  device: "disk",
  readonly: false,
  cache: "default",
});
const nic = (bridge: string) => ({ bridge, mac: "52:54:00:00:00:01", model: "virtio" as const });

t.test("one reason each, in the order of the chain", async (t) => {
  const pools = [testPool("shared", true), testPool("local", false)];
  const info = { pools: [seenPool("shared", true), seenPool("local", true)], bridges: ["br0"], memoryMib: 2048, reserveMib: 48, cpus: 2 };
  const good = testNode("n1", info);
  const rows: [what: string, vm: ReturnType<typeof testVm>, node: ReturnType<typeof testNode>, code: string | null, detail?: string][] = [
    ["nothing against it", testVm("v", { disks: [disk("shared")], nics: [nic("br0")] }), good, null],
    [
      "draining",
      testVm("v", {}),
      { ...good, state: "draining", stateWhy: "ann: new disks" },
      "node-not-ready",
      "n1: is draining (ann: new disks)",
    ],
    ["no facts yet", testVm("v", {}), { ...good, info: null }, "node-unknown"],
    ["asked for it", testVm("v", {}, { wanted: "n1" }), good, null],
    ["asked for another", testVm("v", {}, { wanted: "n2" }), good, "requested-node", "n1: the VM was asked to be on n2"],
    ["architecture", testVm("v", { arch: "aarch64" }), good, "architecture", "n1: is x86_64, the VM needs aarch64"],
    ["second bridge", testVm("v", { nics: [nic("br0"), nic("br1")] }), good, "bridge", "n1: has no bridge br1"],
    ["pool nobody knows", testVm("v", { disks: [disk("lost")] }), good, "pool", "n1: no pool is named lost"],
    ["pool not reported", testVm("v", { disks: [disk("shared")] }), testNode("n1", {}), "pool", "n1: has not reported pool shared"],
    [
      "pool not available",
      testVm("v", { disks: [disk("shared")] }),
      testNode("n1", { pools: [seenPool("shared", false)] }),
      "pool",
      "n1: pool shared is not available: not mounted",
    ],
    ["source's pool", testVm("v", { disks: [disk("shared", "lost/i.raw")] }), good, "pool", "n1: no pool is named lost"],
    ["kernel's pool", testVm("v", { boot: { kernel: "lost/k", initrd: null, cmdline: "" } }), good, "pool", "n1: no pool is named lost"],
    [
      "initrd's pool",
      testVm("v", { boot: { kernel: "shared/k", initrd: "lost/i", cmdline: "" } }),
      good,
      "pool",
      "n1: no pool is named lost",
    ],
    ["local volumes at home", testVm("v", { disks: [disk("local")] }, { home: "n1" }), good, null],
    [
      "local volumes elsewhere",
      testVm("v", { disks: [disk("local")] }, { home: "n2" }),
      good,
      "home-node",
      "n1: the VM's volumes in pool local are local to n2",
    ],
    ["local volumes nowhere yet", testVm("v", { disks: [disk("local")] }), good, null],
    ["shared volumes, home elsewhere", testVm("v", { disks: [disk("shared")] }, { home: "n2" }), good, null],
    ["memory to the last MiB: 2048 − 48 = 2000", testVm("v", { memoryMib: 2000 }), good, null],
    ["one more", testVm("v", { memoryMib: 2001 }), good, "memory", "n1: needs 2001 MiB, 2000 MiB free of 2000"],
  ];
  for (const [what, vm, node, code, detail] of rows) {
    const view = testView([good, testNode("n2", info)], [], pools);
    const found = checkPlacement(view, vm, node);
    t.equal(found?.code ?? null, code, what);
    if (detail !== undefined) t.equal(found?.detail, detail, what);
  }
  t.equal(new Set(PLACEMENT_CHECKS.map((link) => link.code)).size, PLACEMENT_CHECKS.length, "codes are unique");
});

t.test("capacity: claims + in flight + asked, without the VM itself", async (t) => {
  const node = testNode("n1", { memoryMib: 1000, cpus: 4 });
  const running = testVm("a", { memoryMib: 600, cpus: 3 }, { claim: "n1" });
  const off = testVm("b", { memoryMib: 600, cpus: 3 }, { home: "n1", state: "stopped" });
  const view = testView([node], [running, off], [], { "scheduler.cpuRatio": 1.5 });
  const asked = (memoryMib: number, cpus: number) => testVm("new", { memoryMib, cpus });
  for (const options of [{}, { usage: usageOf(view) }]) {
    t.equal(checkPlacement(view, asked(400, 1), node, options), null, "600 + 400 = 1000; the stopped VM reserves nothing");
    t.match(checkPlacement(view, asked(401, 1), node, options), {
      code: "memory",
      numbers: { askedMib: 401, usedMib: 600, freeMib: 400, limitMib: 1000 },
    });
    t.equal(checkPlacement(view, asked(1, 3), node, options), null, "3 + 3 = 4 × 1.5");
    t.match(checkPlacement(view, asked(1, 4), node, options), { code: "cpus", detail: "n1: needs 4 vCPUs, 3 free of 6" });
    t.equal(checkPlacement(view, running, node, options), null, "what it holds itself is not counted twice");
    const inFlight = new Map([["n1", { memoryMib: 100, cpus: 1 }]]);
    t.equal(checkPlacement(view, asked(300, 2), node, { ...options, inFlight }), null, "600 + 100 + 300");
    t.match(checkPlacement(view, asked(301, 2), node, { ...options, inFlight }), { code: "memory", numbers: { usedMib: 700 } });
    t.match(checkPlacement(view, asked(300, 3), node, { ...options, inFlight }), { code: "cpus", numbers: { usedCpus: 4 } });
  }
});

t.test("pools of a definition", async (t) => {
  const vm = testVm("v", { disks: [disk("a", "b/i.qcow2"), disk("a")], boot: { kernel: "c/k", initrd: "d/i", cmdline: "" } });
  t.same(poolsOf(vm.definition), ["a", "b", "c", "d"]);
  const view = testView([], [], [testPool("a", true), testPool("b", false)]);
  t.equal(localPool(view, vm.definition), "b");
  t.equal(localPool(view, testVm("v", { disks: [disk("a")] }).definition), null);
});
