// SCH-15: every step fits while the VM is on both ends, lowers the score as it says, and breaks no policy. Counted by hand here.
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import type { Policy } from "../../src/model/policy.ts";
import { rebalance } from "../../src/scheduler/rebalance.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 15);
t.comment(`seed ${seed}`);

t.test("the arithmetic of one step", async (t) => {
  // n1 holds 600 of 1000 MiB and 6 of 10 vCPUs, n2 nothing: both spreads are (0.6 - 0) / 2 = 0.3, the score 0.6.
  // Moving a (200 MiB, 2 vCPUs): 0.4 and 0.2, spreads 0.1, score 0.2. Moving b (400, 4): 0.2 and 0.4, the same; a comes first.
  const view = testView(
    [testNode("n1", { memoryMib: 1000, cpus: 10 }), testNode("n2", { memoryMib: 1000, cpus: 10 })],
    [
      testVm("a", { memoryMib: 200, cpus: 2 }, { claim: "n1", number: 1 }),
      testVm("b", { memoryMib: 400, cpus: 4 }, { claim: "n1", number: 2 }),
    ],
  );
  const found = rebalance(view);
  t.same(
    found.steps.map(({ vmId, fromNodeId, toNodeId, memoryMib }) => [vmId, fromNodeId, toNodeId, memoryMib]),
    [["a", "n1", "n2", 200]],
  );
  t.same([found.scoreBefore.toFixed(9), found.scoreAfter.toFixed(9)], ["0.600000000", "0.200000000"]);
  t.same(found.steps[0]?.target, { usedMib: 0, limitMib: 1000, usedCpus: 0, limitCpus: null });
  t.same([found.movedMib, found.stopped], [200, "min-gain"]);
  t.same(rebalance(view, { maxMib: 100 }), { ...found, scoreAfter: found.scoreBefore, movedMib: 0, steps: [], stopped: "max-mib" });
  t.equal(rebalance(view, { maxSteps: 0 }).stopped, "max-steps");
});

t.test("vCPUs count as memory does, and only what fits and runs is moved", async (t) => {
  const nodes = ["n1", "n2"].map((id) => testNode(id, { memoryMib: 1000, cpus: 10 }));
  const on = (id: string, memoryMib: number, cpus: number, number: number) => testVm(id, { memoryMib, cpus }, { claim: "n1", number });
  // n1 holds 500 MiB and 4 vCPUs: 0.25 + 0.2. Moving a: memory 0.3 and 0.2, vCPUs 0.3 and 0.1: 0.05 + 0.1. b: the same memory, vCPUs 0.2 and 0.2: 0.05.
  const view = testView(nodes, [on("a", 200, 1, 1), on("b", 200, 2, 2), on("c", 100, 1, 3)]);
  const found = rebalance(view);
  t.same([found.steps.length, found.steps[0]?.vmId, found.scoreAfter.toFixed(9)], [1, "b", "0.050000000"]);
  t.same(rebalance(view, { minGain: 0.41 }).steps, [], "it gains 0.4");
  const b = view.vms.get("b")!;
  const starting = rebalance({ ...view, vms: new Map([...view.vms, ["b", { ...b, state: "boot" }]]) });
  t.same(
    starting.steps.map(({ vmId }) => vmId),
    ["a", "c"],
    "then c: memory 0.2 and 0.3, vCPUs even",
  );
  // 10 CPUs × 0.2: 2 vCPUs a node. a would even memory and vCPUs out as b does, but has 3.
  const tight = rebalance(testView(nodes, [on("a", 200, 3, 1), on("b", 150, 1, 2)], [], { "scheduler.cpuRatio": 0.2 }));
  t.match(tight.steps, [{ vmId: "b", target: { usedCpus: 0, limitCpus: 2 } }]);
});

t.test("random clusters", async (t) => {
  const random = seededRandom(seed);
  let steps = 0;
  for (let round = 0; round < 60; round++) {
    const nodes = Array.from({ length: 2 + random.below(8) }, (_, i) =>
      testNode(`n${i}`, {
        memoryMib: 1000 + 500 * random.below(3),
        cpus: 8 + 4 * random.below(3),
        state: random.below(8) === 0 ? "draining" : "ready",
      }),
    );
    const free = new Map(nodes.map((node) => [node.id, { mib: node.info!.memoryMib, cpus: node.info!.cpus }]));
    const groups = [0, 1].map(() => new Set<string>());
    const vms = Array.from({ length: 5 + random.below(40) }, (_, i) => {
      const definition = { memoryMib: 20 + random.below(200), cpus: 1 + random.below(3) };
      // Most begin on the first nodes, so that there is something to even out.
      const nodeId = `n${Math.min(random.below(nodes.length), random.below(nodes.length))}`;
      const room = free.get(nodeId)!;
      if (room.mib < definition.memoryMib || room.cpus < definition.cpus) return testVm(`v${i}`, definition, { number: i });
      room.mib -= definition.memoryMib;
      room.cpus -= definition.cpus;
      const group = groups[random.below(8)];
      if (group !== undefined && ![...group].some((one) => one.endsWith(`/${nodeId}`))) group.add(`v${i}/${nodeId}`);
      return testVm(`v${i}`, definition, { claim: nodeId, number: i });
    });
    const policies = new Map(
      groups.map((group, g): [string, Policy] => [
        `p${g}`,
        {
          id: `p${g}`,
          name: `p${g}`,
          enabled: true,
          members: [...group].map((one) => one.split("/")[0]!),
          strength: "must",
          weight: 1,
          target: { kind: "vms", rule: "different-nodes" },
          revision: 1,
        },
      ]),
    );
    const view = { ...testView(nodes, vms, [], { "scheduler.cpuRatio": 1 }), policies };
    const found = rebalance(view, { minGain: 1e-6, ...(round % 3 === 0 ? { maxMib: 500 } : {}) });
    t.same(
      rebalance(
        { ...view, vms: new Map([...view.vms].toReversed()), nodes: new Map([...view.nodes].toReversed()) },
        { minGain: 1e-6, ...(round % 3 === 0 ? { maxMib: 500 } : {}) },
      ),
      found,
      `round ${round}: whatever the order of the maps`,
    );
    const where = new Map(vms.map((vm) => [vm.id, vm.claim?.nodeId ?? null]));
    const score = (): number => {
      const ready = nodes.filter((node) => node.state === "ready");
      return (["memoryMib", "cpus"] as const).reduce((sum, which) => {
        const parts = ready.map(
          (node) =>
            vms.filter((vm) => where.get(vm.id) === node.id).reduce((used, vm) => used + vm.definition[which], 0) / node.info![which],
        );
        const mean = parts.reduce((a, b) => a + b, 0) / parts.length;
        return sum + Math.sqrt(parts.reduce((a, b) => a + (b - mean) ** 2, 0) / parts.length);
      }, 0);
    };
    if (nodes.every((node) => node.state !== "ready")) continue;
    let moved = 0;
    for (const step of found.steps) {
      const vm = view.vms.get(step.vmId)!;
      if (!t.equal(where.get(step.vmId), step.fromNodeId) || !t.equal(view.nodes.get(step.toNodeId)!.state, "ready")) return;
      if (!t.ok(Math.abs(score() - step.scoreBefore) < 1e-9 && step.scoreAfter < step.scoreBefore, `round ${round}: the score before`))
        return;
      const room = free.get(step.toNodeId)!;
      if (!t.ok(room.mib >= vm.definition.memoryMib && room.cpus >= vm.definition.cpus, `round ${round}: fits while on both ends`)) return;
      room.mib -= vm.definition.memoryMib;
      room.cpus -= vm.definition.cpus;
      const left = free.get(step.fromNodeId)!;
      left.mib += vm.definition.memoryMib;
      left.cpus += vm.definition.cpus;
      where.set(step.vmId, step.toNodeId);
      moved += vm.definition.memoryMib;
      if (!t.ok(Math.abs(score() - step.scoreAfter) < 1e-9, `round ${round}: the score after`)) return;
      for (const { members } of policies.values()) {
        const ready = members
          .map((id) => where.get(id))
          .filter((id) => id !== null && id !== undefined && view.nodes.get(id)!.state === "ready");
        if (!t.equal(new Set(ready).size, ready.length, `round ${round}: apart`)) return;
      }
      steps++;
    }
    if (!t.equal(moved, found.movedMib) || (round % 3 === 0 && !t.ok(moved <= 500))) return;
  }
  t.ok(steps > 100, `${steps} steps`);
});
