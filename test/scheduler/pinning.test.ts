// SCH-4: CPUs that are one VM's alone. Which it gets, what is left for the others, and that no CPU is ever given twice.
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { replaceVm, usageOf } from "../../src/model/capacity.ts";
import type { Reservation } from "../../src/model/capacity.ts";
import type { CpuTopology, Node } from "../../src/model/node.ts";
import { chooseCpus, numaMemoryOf } from "../../src/model/pinning.ts";
import { checkPlaced } from "../../src/model/placement.ts";
import type { Vm } from "../../src/model/vm.ts";
import { plan } from "../../src/scheduler/plan.ts";
import type { PlanRequest } from "../../src/scheduler/types.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 404);
t.comment(`seed ${seed}`);

/** NUMA nodes of so many CPUs each, numbered through. */
function topology(...sizes: number[]): CpuTopology {
  let next = 0;
  const numa = sizes.map((size, id) => ({ id, memoryMib: 1000, cpus: Array.from({ length: size }, () => next++) }));
  return { sockets: sizes.length, coresPerSocket: 1, threadsPerCore: 1, numa };
}

function pinnedNode(id: string, ...sizes: number[]): Node {
  return testNode(id, { cpuTopology: topology(...sizes), cpus: sizes.reduce((a, b) => a + b, 0), memoryMib: 2000 });
}

function pinnedVm(id: string, cpus: number, numa: "any" | "one" = "any", memoryMib = 10): Vm {
  return testVm(id, { cpus, memoryMib, cpuPinning: { numa } });
}

t.test("which CPUs", async (t) => {
  const node = pinnedNode("n", 4, 6);
  const held = (...cpus: number[]): { cpus: number[]; memoryMib: number }[] => [{ cpus, memoryMib: 0 }];
  t.same(chooseCpus(node, pinnedVm("a", 4), []), [0, 1, 2, 3], "4 of NUMA 0 leave 0 over, of NUMA 1 2: the tightest");
  t.same(chooseCpus(node, pinnedVm("a", 4), held(0)), [4, 5, 6, 7], "3 are free in NUMA 0: too few");
  t.same(chooseCpus(node, pinnedVm("a", 5), held(4, 5)), [0, 1, 2, 3, 6], "over both, 4 and 4 free, the lower first");
  t.equal(chooseCpus(node, pinnedVm("a", 5, "one"), held(4, 5)), null, "not over both for a VM that wants one");
  t.equal(chooseCpus(node, pinnedVm("a", 10), []), null, "one CPU is left to the host");
  t.same(chooseCpus(node, pinnedVm("a", 9), [])?.length, 9);
  t.same(
    chooseCpus(node, pinnedVm("a", 2, "one", 600), [{ cpus: [0], memoryMib: 500 }]),
    [4, 5],
    "NUMA 0 has 1000 - 500 MiB left, 600 are asked",
  );
});

t.test("a user's VM waits, HA's goes without and says so", async (t) => {
  const view = testView([pinnedNode("n1", 4), testNode("n2", { cpus: 8 })], [pinnedVm("a", 2), pinnedVm("b", 2)]);
  const request: PlanRequest = { vms: ["a", "b"], mode: "batch", kind: "start", scoring: null };
  const started = plan(view, request, "s");
  t.same(started.placements.length, 1, "of 4 CPUs one stays with the host: 2 and no 2 more");
  t.same(started.placements[0]?.cpus, [0, 1]);
  const [rejected] = started.rejections;
  t.same(
    rejected?.reasons.map(({ code, detail }) => [code, detail]),
    [["pinning", "n1: needs 2 CPUs of its own, 2 free of 4; one is left to the host"]],
    "counted with the node that has not said what CPUs it has",
  );
  t.equal(rejected?.reasons[0]?.nodes, 2);
  const recovered = plan(view, { ...request, kind: "recover" }, "s");
  t.same(
    recovered.placements.map(({ cpus, unpinned }) => [cpus, unpinned !== undefined]).toSorted((a, b) => Number(b[1]) - Number(a[1])),
    [
      [undefined, true],
      [[0, 1], false],
    ],
  );
});

t.test("what is given away is not shared", async (t) => {
  // 4 CPUs, ratio 2: 8 vCPUs may share. 2 given away leave 2 x 2 = 4 to share.
  const node = pinnedNode("n1", 4);
  const owner = {
    ...pinnedVm("p", 2),
    claim: { nodeId: "n1", generation: 1, deadline: true, sinceMs: 0, cpus: [0, 1] },
    state: "running" as const,
  };
  const others = ["a", "b", "c", "d", "e"].map((id, k) => testVm(id, { cpus: 1, memoryMib: 10 }, { number: k + 2 }));
  const view = testView([node], [owner, ...others], [], { "scheduler.cpuRatio": 2 });
  const found = plan(view, { vms: ["a", "b", "c", "d", "e"], mode: "one-by-one", kind: "start", scoring: null }, "s");
  t.equal(found.placements.length, 4);
  t.match(found.rejections[0]?.reasons[0], { code: "cpus", detail: "n1: needs 1 vCPUs, 0 free of 6" });
});

t.test("never two VMs on one CPU, whoever planned", async (t) => {
  const random = seededRandom(seed);
  let [given, without, refused] = [0, 0, 0];
  for (let round = 0; round < 200; round++) {
    const nodes = Array.from({ length: 1 + random.below(4) }, (_, i) => pinnedNode(`n${i}`, 1 + random.below(4), 1 + random.below(6)));
    const vms = Array.from({ length: 12 }, (_, i): Vm => {
      const numa = random.below(2) === 0 ? ("one" as const) : ("any" as const);
      const vm =
        random.below(3) === 0
          ? testVm(`v${i}`, { cpus: 1 + random.below(3), memoryMib: 50 })
          : pinnedVm(`v${i}`, 1 + random.below(4), numa, 100 + random.below(300));
      return { ...vm, number: i + 1, state: random.below(2) === 0 ? "pending" : "recovering" };
    });
    let view = testView(nodes, vms, [], { "scheduler.cpuRatio": random.below(3) });
    // Three planners on the same view that know nothing of each other; each plan is one command.
    const plans = [0, 1, 2].map((k) => {
      const kind = random.below(2) === 0 ? ("recover" as const) : ("start" as const);
      const state = kind === "recover" ? "recovering" : "pending";
      const some = vms.filter((vm) => vm.state === state && random.below(4) > 0).map((vm) => vm.id);
      const scoring = random.below(2) === 0 ? ("consolidate" as const) : null;
      return plan(view, { vms: some, mode: random.below(2) === 0 ? "batch" : "one-by-one", kind, scoring }, `${round}/${k}`);
    });
    for (const [k, { placements }] of plans.entries()) {
      const inFlight = new Map<string, Reservation>();
      const usage = usageOf(view);
      const applied: Vm[] = [];
      for (const { vmId, nodeId, cpus, unpinned } of placements) {
        const vm = view.vms.get(vmId)!;
        const problem =
          vm.claim !== null ? "placed" : checkPlaced(view, vm, view.nodes.get(nodeId)!, { cpus, unpinned }, { usage, inFlight });
        if (k === 0 && !t.equal(problem, null, `round ${round}: ${vmId} on ${nodeId}, the first to be applied`)) return;
        if (problem !== null) {
          refused++;
          continue;
        }
        if (cpus !== undefined) given++;
        if (unpinned !== undefined) without++;
        const held = inFlight.get(nodeId) ?? { memoryMib: 0, cpus: 0 };
        const pinned = [...(held.pinned ?? []), ...(cpus === undefined ? [] : [{ cpus, memoryMib: numaMemoryOf(vm) }])];
        inFlight.set(nodeId, { memoryMib: held.memoryMib + vm.definition.memoryMib, cpus: held.cpus + vm.definition.cpus, pinned });
        const claim = {
          nodeId,
          generation: 2,
          deadline: true,
          sinceMs: 0,
          ...(cpus === undefined ? {} : { cpus }),
          ...(unpinned === undefined ? {} : { unpinned }),
        };
        applied.push({ ...vm, claim, state: "prolog" });
      }
      for (const row of applied) replaceVm(usage, view.vms.get(row.id)!, row);
      view = testView(
        nodes,
        [...new Map([...view.vms, ...applied.map((row) => [row.id, row] as const)]).values()],
        [],
        view.cluster!.settings,
      );
    }
    for (const node of nodes) {
      const here = [...view.vms.values()].filter((vm) => vm.claim?.nodeId === node.id);
      const all = here.flatMap((vm) => vm.claim?.cpus ?? []);
      if (!t.equal(new Set(all).size, all.length, `round ${round}: ${node.id} gives ${all.join(" ")}`)) return;
      if (!t.ok(all.length < node.info!.cpus, `round ${round}: ${node.id} keeps one`)) return;
      const ratio = view.cluster!.settings["scheduler.cpuRatio"];
      const sharing = here.filter((vm) => vm.claim?.cpus === undefined).reduce((sum, vm) => sum + vm.definition.cpus, 0);
      if (ratio > 0 && !t.ok(sharing <= ratio * (node.info!.cpus - all.length), `round ${round}: ${sharing} share`)) return;
      for (const vm of here) {
        const asks = vm.definition.cpuPinning;
        if (asks === undefined || asks === null || vm.claim!.unpinned !== undefined) continue;
        if (!t.equal(vm.claim!.cpus?.length, vm.definition.cpus, `round ${round}: one each`)) return;
        const homes = new Set(vm.claim!.cpus!.map((cpu) => node.info!.cpuTopology!.numa.findIndex((one) => one.cpus.includes(cpu))));
        if (asks.numa === "one" && !t.equal(homes.size, 1, `round ${round}: of one NUMA node`)) return;
      }
    }
  }
  t.ok(given > 300 && without > 20 && refused > 100, `given ${given}, without ${without}, refused ${refused}`);
});
