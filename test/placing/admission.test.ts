/** Room kept for failures (HA-16), in the loop: who waits and why, who does not, and that the cluster never gets into what it refuses. */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { replay } from "../../src/placing/replay.ts";
import { Supposed } from "../../src/placing/supposed.ts";
import { toleranceOf } from "../../src/scheduler/tolerance.ts";
import { placingCluster } from "../support/placing.ts";
import { fencing } from "../state/log.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 411);
const rounds = Number(process.env["ROOST_ROUNDS"] ?? 4);
t.comment(`seed ${seed}, ${rounds} rounds`);

async function tolerating(nodes: number, tolerate: number) {
  const cluster = await placingCluster(nodes);
  await cluster.as("n1", { type: "setting.update", key: "ha.tolerate", value: tolerate });
  return cluster;
}

t.test("a VM that takes the room of a failure waits, with the numbers, and is placed when there is room", async (t) => {
  // Three nodes of 4096 MiB; 2048 each. Six would fill them. With four placed (2048 + 2048 + 4096 or alike) a death must still find room.
  const { create, run, vm, store, addNode } = await tolerating(3, 1);
  for (let i = 1; i <= 6; i++) await create(`v${i}`, { memoryMib: 2_048 });
  await run();
  const placed = [...store.view().vms.values()].filter((one) => one.claim !== null);
  // 12288 in all; the loss of any node leaves 8192: four VMs, and no fifth.
  t.equal(placed.length, 4);
  const [waits] = [...store.view().vms.values()].filter((one) => one.claim === null);
  t.equal(waits?.state, "pending");
  t.match(waits?.pendingReasons, [{ code: "ha-reserve", nodes: 3, detail: /room is kept: if n\d died, .* would need \d+ MiB/ }]);
  t.equal(toleranceOf(store.view(), { nodes: 1, zones: false }).verdict, "protected");
  await addNode("n4");
  await run();
  t.ok(vm(waits!.id).claim !== null, "at once");
});

t.test("another node is taken where one would break it", async (t) => {
  // n1 has 8192 MiB, n2 4096. a (3072, under HA) goes to n1: (1 + 3072/8192) is less than n2's. b (2048, not under HA) is better on n2, 2048/4096
  // against 5120/8192, but then a would find 2048 there if n1 died.
  const { store, create, run, vm, as, hello, addNode } = await placingCluster(1);
  await hello("n1", { memoryMib: 8_192, cpus: 8 });
  await addNode("n2", { cpus: 8 });
  await create("a", { memoryMib: 3_072 });
  await run();
  t.equal(vm("a").claim?.nodeId, "n1");
  await as("n1", { type: "setting.update", key: "ha.tolerate", value: 1 });
  const ha = { enabled: false, priority: 0, onQuorumLoss: "stop" } as const;
  await create("b", { memoryMib: 2_048, ha });
  await run();
  t.equal(vm("b").claim?.nodeId, "n1");
  t.match(replay(store.state, { from: 0, to: Infinity }).at(-1), {
    same: true,
    certificate: { reserve: [[[0], ["n2"], /^room is kept: if n1 died/]] },
  });
  await create("c", { memoryMib: 2_048, ha });
  await run();
  t.equal(vm("c").claim?.nodeId, "n1");
  await create("d", { memoryMib: 2_048, ha });
  await run();
  t.match(vm("d").pendingReasons, [
    { code: "memory", nodes: 1, detail: "n1: needs 2048 MiB, 1024 MiB free of 8192" },
    {
      code: "ha-reserve",
      nodes: 1,
      detail: "n2: room is kept: if n1 died, a would need 3072 MiB, and no node left has more than 2048 free",
    },
  ]);
});

t.test("recovery and restarts are never held back", async (t) => {
  const { create, run, vm, as, gone } = await tolerating(2, 1);
  await create("a", { memoryMib: 1_024 });
  await create("b", { memoryMib: 1_024 });
  await run();
  await gone("a", "crashed");
  await run();
  t.ok(vm("a").claim !== null, "restarted");
  const from = vm("a").claim!.nodeId;
  await as("n1", { type: "node.suspect", nodeId: from, silentMs: 1_500 });
  await as("n1", fencing(from));
  await run();
  // One node is left, and cannot be lost: overcommitted, and yet.
  t.ok(vm("a").claim !== null && vm("a").claim?.nodeId !== from, "recovered");
  await create("c", { memoryMib: 256 });
  await run();
  t.match(vm("c").pendingReasons.find(({ code }) => code === "ha-reserve")?.detail, /room is kept: if n\d died, no node left may run/);
  await as("n1", { type: "setting.update", key: "ha.tolerate", value: 0 });
  await run();
  t.ok(vm("c").claim !== null, "as soon as nothing is to be tolerated");
});

t.test("whatever is created in whatever batches: never overcommitted, none refused that could be, the same again", async (t) => {
  let waited = 0;
  for (let round = 0; round < rounds; round++) {
    const random = seededRandom(seed + round);
    const goal = { nodes: 1 + random.below(2), zones: false };
    const { create, run, store, as, gone } = await tolerating(2 + random.below(4), goal.nodes);
    for (let i = 0; i < 25; i++) {
      for (let k = random.below(4); k >= 0; k--)
        await create(`v${i}-${k}`, {
          memoryMib: 256 * (1 + random.below(6)),
          restart: "never",
          ha: { enabled: random.below(4) > 0, priority: 0, onQuorumLoss: "stop" },
        });
      const running = [...store.view().vms.values()].filter((vm) => vm.claim !== null);
      if (running.length > 3 && random.below(3) === 0) {
        const vm = running[random.below(running.length)]!;
        await as("n1", { type: "vm.desire", vmId: vm.id, action: "force-shutdown", nodeId: null });
        // One of which nothing was sent to its node yet is let go at once.
        if (store.view().vms.get(vm.id)?.claim !== null) await gone(vm.id, "destroyed");
      }
      await run(random.below(3) * 20_000);
      const now = toleranceOf(store.view(), goal);
      if (!t.not(now.verdict, "overcommitted", `round ${round}, ${i}: ${JSON.stringify(now.impossible)}`)) return;
    }
    // What was too much at once is asked again.
    for (let k = 0; k < 8; k++) await run(60_000);
    const view = store.view();
    for (const vm of view.vms.values()) {
      if (vm.claim !== null || vm.desired.power !== "on") continue;
      waited++;
      for (const node of view.nodes.values()) {
        const used = [...view.vms.values()]
          .filter((one) => one.claim?.nodeId === node.id)
          .reduce((sum, one) => sum + one.definition.memoryMib, 0);
        if (used + vm.definition.memoryMib > node.info!.memoryMib) continue;
        const supposed = new Supposed(view, [{ vmId: vm.id, nodeId: node.id }]);
        const there = toleranceOf(supposed.view, goal);
        if (
          !t.equal(
            there.verdict,
            "overcommitted",
            `round ${round}: ${vm.id} could be on ${node.id}, ${JSON.stringify(vm.pendingReasons)} ${vm.failures}`,
          )
        )
          return;
      }
    }
    t.same(
      replay(store.state, { from: 0, to: Infinity }).filter((one) => !one.same),
      [],
      `round ${round}: replayed`,
    );
  }
  t.ok(waited > rounds, `${waited} VMs had to wait`);
});
