/**
 * The loop on a random cluster's life, then every kept plan made again from the state's history: byte-equal (SCH-19), also
 * on a replica that came by a checkpoint. ROOST_SEED, ROOST_ROUNDS.
 */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { replay } from "../../src/placing/replay.ts";
import { plan } from "../../src/scheduler/plan.ts";
import { certificateOf } from "../../src/scheduler/record.ts";
import { State } from "../../src/state/state.ts";
import { placingCluster } from "../support/placing.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 9_001);
const rounds = Number(process.env["ROOST_ROUNDS"] ?? 6);
t.comment(`seed ${seed}, ${rounds} rounds`);

t.test("every kept plan gives the same bytes again", async (t) => {
  for (let round = 0; round < rounds; round++) {
    const random = seededRandom(seed + round);
    const cluster = await placingCluster(3 + random.below(4));
    for (let step = 0; step < 60; step++) await cluster.randomStep(random);
    const again = replay(cluster.store.state, { from: 0, to: Infinity });
    t.ok(again.length > 10, `round ${round}: ${again.length} plans`);
    const wrong = again.filter((one) => !one.same || one.differences.length > 0 || one.plan === null);
    if (
      !t.same(
        wrong.map((one) => one.index),
        [],
        `round ${round}: all the same`,
      )
    )
      return;

    const copy = new State();
    for (const row of structuredClone([...cluster.store.state.rows()])) copy.write(row);
    copy.index = cluster.store.state.index;
    if (
      !t.ok(
        replay(copy, { from: 0, to: Infinity }).every((one) => one.same),
        `round ${round}: on a copy too`,
      )
    )
      return;
  }
});

t.test("another policy is a diff: who goes elsewhere, and who would not fit", async (t) => {
  const cluster = await placingCluster(2);
  for (const id of ["a", "b", "c", "d"]) await cluster.create(id, { memoryMib: 1_024 });
  await cluster.run();
  const [same] = replay(cluster.store.state, { from: 0, to: Infinity });
  t.match(same, { same: true, differences: [] });
  const [packed] = replay(cluster.store.state, { from: 0, to: Infinity, settings: { "scheduler.scoring": "consolidate" } });
  t.equal(packed?.same, false);
  // Balanced: two on each of two nodes; packed: all four on one node of 4096 MiB.
  t.equal(packed?.differences.length, 2);
  const [half] = replay(cluster.store.state, { from: 0, to: Infinity, settings: { "scheduler.memoryRatio": 0.5 } });
  t.same(half?.differences, [], "2 × 2048 MiB are enough for four of 1024");
  const [quarter] = replay(cluster.store.state, { from: 0, to: Infinity, settings: { "scheduler.memoryRatio": 0.25 } });
  t.equal(quarter?.differences.filter(({ after }) => after === null).length, 2, "2 × 1024 MiB hold two");
  t.match(quarter?.differences[0]?.reasons, [{ code: "memory", nodes: 2 }]);
});

t.test("past retention it says so", async (t) => {
  const cluster = await placingCluster(1);
  await cluster.create("a");
  await cluster.run();
  const kept = [...cluster.store.state.history.values()];
  for (const row of kept)
    if (row.certificate === null) cluster.store.state.write({ table: "history", key: String(row.index).padStart(16, "0"), row: null });
  const [again] = replay(cluster.store.state, { from: 0, to: Infinity });
  t.match(again, { same: true }, "the view just before the plan's own row is still there");
  const { viewIndex } = again!;
  await cluster.create("b");
  const first = [...cluster.store.state.history.values()][0]!;
  t.equal(first.index, viewIndex + 1);
});

t.test("CPUs promised by plans on their way are promised at the replay, too", async (t) => {
  const cluster = await placingCluster(1);
  const numa = [{ id: 0, cpus: [0, 1, 2, 3, 4, 5, 6, 7], memoryMib: 4_096 }];
  await cluster.hello("n1", { cpus: 8, cpuTopology: { sockets: 1, coresPerSocket: 8, threadsPerCore: 1, numa } });
  await cluster.create("pinned", { cpus: 2, memoryMib: 512, cpuPinning: { numa: "any" } });
  const promised = { memoryMib: 1_024, cpus: 3, pinned: [{ cpus: [0, 1, 2], memoryMib: 1_024 }] };
  const { state } = cluster.store;
  const request = { vms: ["pinned"], mode: "batch", kind: "start", scoring: null, inFlight: new Map([["n1", promised]]) } as const;
  const made = plan(state, request, "seed");
  // 0 to 2 are promised; without that, it would have 0 and 1.
  t.match(made.placements, [{ vmId: "pinned", nodeId: "n1", cpus: [3, 4] }]);
  const certificate = certificateOf(made, request);
  const placements = made.placements.map((placement) => ({ ...placement, generation: cluster.vm(placement.vmId).generation }));
  await cluster.as("n1", { type: "vm.place", placements, rejections: [], certificate });
  t.same(cluster.vm("pinned").claim?.cpus, [3, 4]);
  const [again] = replay(state, { from: 0, to: Infinity });
  t.match(again, { same: true, differences: [], plan: { placements: [{ cpus: [3, 4] }] } });
});
