// A packing batch uses few nodes, and says that it could not be fewer only where that is so: against trying everything.
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { plan } from "../../src/scheduler/plan.ts";
import { plantedFlavours, plantedMemory, plantedPerfect, verify, viewOf } from "../bench/scheduler/instances.ts";
import type { Instance } from "../bench/scheduler/instances.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 99);
t.comment(`seed ${seed}`);

t.test("against trying everything", async (t) => {
  const random = seededRandom(seed);
  let [optimal, proven, rounds] = [0, 0, 0];
  for (let round = 0; round < 250; round++) {
    const nodes = Array.from({ length: 2 + random.below(3) }, () => ({ memoryMib: 6 + random.below(8), cpus: 4 + random.below(4) }));
    const vms = Array.from({ length: 2 + random.below(5) }, () => ({ memoryMib: 1 + random.below(6), cpus: 1 + random.below(3) }));
    const holder = random.below(3);
    const view = testView(
      nodes.map((node, i) => testNode(`n${i}`, node)),
      [
        ...vms.map((vm, i) => testVm(`v${i}`, vm, { number: i + 1 })),
        ...(holder === 0 ? [testVm("old", { memoryMib: 2, cpus: 1 }, { claim: "n0", number: 90 })] : []),
      ],
      [],
      { "scheduler.cpuRatio": 1 },
    );
    const found = plan(view, { vms: vms.map((_, i) => `v${i}`), mode: "batch", kind: "start", scoring: "consolidate" }, `${round}`);
    const free = nodes.map((node, i) => ({
      memory: node.memoryMib - (holder === 0 && i === 0 ? 2 : 0),
      cpus: node.cpus - (holder === 0 && i === 0 ? 1 : 0),
      vms: holder === 0 && i === 0 ? 1 : 0,
    }));
    const best = bestByTryingAll(vms, free);
    const opened = new Set(found.placements.map(({ nodeId }) => nodeId).filter((id) => holder !== 0 || id !== "n0")).size;
    const mine = { placed: found.placements.length, opened };
    if (found.proven && !t.same(mine, best, `round ${round}: what is called proven`)) return;
    rounds++;
    if (mine.placed === best.placed && mine.opened === best.opened) optimal++;
    if (found.proven) proven++;
  }
  t.comment(`${rounds} rounds: optimal ${optimal}, proven ${proven}`);
  t.ok(optimal >= rounds * 0.95, `optimal in ${optimal} of ${rounds}`);
  t.ok(proven >= rounds * 0.5, `proven in ${proven} of ${rounds}`);
});

const rows: [instance: Instance, nodes: number][] = [
  [plantedPerfect(1, 100, 10), 100],
  [plantedMemory(2, 100, 10), 100],
  [plantedFlavours(1, 50), 50],
];
for (const [instance, optimum] of rows) {
  t.test(`${instance.name}: twice the nodes that are needed`, async (t) => {
    const wide = { ...instance, nodes: [...instance.nodes, ...instance.nodes] };
    const view = viewOf(wide);
    const found = plan(view, { vms: [...view.vms.keys()], mode: "batch", kind: "start", scoring: "consolidate" }, "f");
    const worth = verify(wide, found.placements);
    t.equal(worth.placed, 1);
    t.ok(worth.nodesUsed <= 1.02 * optimum, `${worth.nodesUsed} nodes, ${optimum} would do`);
  });
}

interface Room {
  memory: number;
  cpus: number;
  vms: number;
}

/** Most VMs placed, and then the fewest nodes that held none before. */
function bestByTryingAll(vms: readonly { memoryMib: number; cpus: number }[], rooms: Room[]): { placed: number; opened: number } {
  let best = { placed: 0, opened: 0 };
  const visit = (k: number, placed: number, opened: number): void => {
    if (placed + vms.length - k < best.placed) return;
    const vm = vms[k];
    if (vm === undefined) {
      if (placed > best.placed || opened < best.opened) best = { placed, opened };
      return;
    }
    for (const room of rooms) {
      if (room.memory < vm.memoryMib || room.cpus < vm.cpus) continue;
      room.memory -= vm.memoryMib;
      room.cpus -= vm.cpus;
      room.vms++;
      visit(k + 1, placed + 1, opened + (room.vms === 1 ? 1 : 0));
      room.memory += vm.memoryMib;
      room.cpus += vm.cpus;
      room.vms--;
    }
    visit(k + 1, placed, opened);
  };
  visit(0, 0, 0);
  return best;
}
