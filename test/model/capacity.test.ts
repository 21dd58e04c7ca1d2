import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { addVm, claimedOn, emptyUsage, fits, limitsOf, nodeUsage, removeVm, replaceVm, usageOf } from "../../src/model/capacity.ts";
import { defaultSettings } from "../../src/model/settings.ts";
import type { Vm } from "../../src/model/vm.ts";
import { testNode, testVm, testView } from "../support/world.ts";

t.test("a claim reserves in every state; a stopped VM only counts as placed at home", async (t) => {
  const usage = emptyUsage();
  addVm(usage, testVm("a", { memoryMib: 100, cpus: 1 }, { claim: "n1", state: "running" }));
  addVm(usage, testVm("b", { memoryMib: 200, cpus: 2 }, { claim: "n1", state: "prolog" }));
  addVm(usage, testVm("c", { memoryMib: 400, cpus: 4 }, { home: "n1", state: "stopped" }));
  addVm(usage, testVm("d", { memoryMib: 800, cpus: 8 }, { claim: "n2", home: "n1", state: "boot" }));
  addVm(usage, testVm("e", { memoryMib: 1600, cpus: 16 }, { state: "pending" }));
  // claims on n1: a + b; placed: a + b + c. d is on n2 whatever its home says. e is nowhere.
  t.same(nodeUsage(usage, "n1"), { vms: 2, memoryMib: 300, cpus: 3, placedVms: 3, placedMemoryMib: 700, placedCpus: 7, exclusiveCpus: 0 });
  t.same(nodeUsage(usage, "n2"), { vms: 1, memoryMib: 800, cpus: 8, placedVms: 1, placedMemoryMib: 800, placedCpus: 8, exclusiveCpus: 0 });
  t.same(nodeUsage(usage, "n3"), { vms: 0, memoryMib: 0, cpus: 0, placedVms: 0, placedMemoryMib: 0, placedCpus: 0, exclusiveCpus: 0 });
  t.equal(usage.totalCpus, 1 + 2 + 4 + 8 + 16);
});

t.test("kept step by step, the sums are those of the whole view", async (t) => {
  const seed = 20_261_121;
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  const usage = emptyUsage();
  const rows = new Map<string, Vm>();
  for (let step = 0; step < 2_000; step++) {
    const id = `v${random.below(40)}`;
    const before = rows.get(id) ?? null;
    const node = (): string | null => (random.below(3) === 0 ? null : `n${random.below(5)}`);
    const after =
      random.below(8) === 0
        ? null
        : testVm(
            id,
            { memoryMib: 1 + random.below(5000), cpus: 1 + random.below(16) },
            { claim: node(), home: node(), state: random.below(9) === 0 ? "deleted" : "running" },
          );
    if (after === null) rows.delete(id);
    else rows.set(id, after);
    replaceVm(usage, before, after);
    const fresh = usageOf({ vms: rows });
    if (!t.equal(usage.totalCpus, fresh.totalCpus)) t.bailout(`step ${step}`);
    for (let n = 0; n < 5; n++) if (!t.same(nodeUsage(usage, `n${n}`), nodeUsage(fresh, `n${n}`))) t.bailout(`step ${step}`);
  }
  for (const vm of rows.values()) removeVm(usage, vm);
  t.equal(usage.totalCpus, 0, "taking all out leaves nothing");
});

t.test("limits of a node", async (t) => {
  const rows: [
    memoryMib: number,
    reserveMib: number,
    cpus: number,
    memoryRatio: number,
    cpuRatio: number,
    memory: number,
    vcpus: number,
  ][] = [
    [8192, 512, 8, 1, 0, 7680, Infinity], // 8192 − 512; no CPU limit
    [8192, 512, 8, 1.5, 2, 11520, 16], // 7680 × 1.5; 8 × 2
    [100, 0, 3, 1.15, 1.5, 115, 4], // 100 × 1.15 = 114.99999999999999 in binary, meant is 115; 3 × 1.5 = 4.5
    [1000, 2000, 1, 4, 0.5, 0, 0], // more reserve than memory leaves nothing, not less than nothing; half a vCPU is none
    [4096, 0, 4, 0.1, 16, 409, 64], // 409.6
  ];
  for (const [memoryMib, reserveMib, cpus, memoryRatio, cpuRatio, memory, vcpus] of rows) {
    const settings = { ...defaultSettings(), "scheduler.memoryRatio": memoryRatio, "scheduler.cpuRatio": cpuRatio };
    t.same(limitsOf(testNode("n", { memoryMib, reserveMib, cpus }), settings), { memoryMib: memory, cpus: vcpus });
  }
  t.same(
    limitsOf({ ...testNode("n", {}), info: null }, defaultSettings()),
    { memoryMib: 0, cpus: 0 },
    "a node that said nothing has nothing",
  );
  t.ok(fits(3, 1, 4), "up to the limit");
  t.notOk(fits(3, 2, 4));
});

t.test("claims by the view's index", async (t) => {
  const view = testView(
    [testNode("n1", {})],
    [testVm("a", { memoryMib: 7, cpus: 2 }, { claim: "n1" }), testVm("b", { memoryMib: 9, cpus: 3 }, { home: "n1", state: "stopped" })],
  );
  t.same(claimedOn(view, "n1"), { memoryMib: 7, cpus: 2 });
  t.same(claimedOn(view, "n2"), { memoryMib: 0, cpus: 0 });
});
