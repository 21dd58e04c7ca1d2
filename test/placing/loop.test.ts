/** The scheduler's loop over a store in memory: what it proposes, when, and when it keeps quiet. */
import t from "tap";
import type { NodeInfo } from "../../src/model/node.ts";
import type { VmDefinition } from "../../src/model/vm.ts";
import { placingCluster } from "../support/placing.ts";
import { definition, diskIn, fencing, INFO, pool } from "../state/log.ts";

t.test("what waits is placed in one plan; nothing to do is nothing said", async (t) => {
  const { run, create, plans, vm } = await placingCluster();
  await run();
  t.equal(plans.length, 0);
  await create("a");
  await create("b");
  await run();
  t.equal(plans.length, 1);
  t.same([vm("a").claim?.nodeId, vm("b").claim?.nodeId], ["n1", "n1"]);
  await run(60_000);
  t.equal(plans.length, 1);
});

t.test("a VM that fits nowhere: its reasons are written once, it blocks nobody, and it is placed when there is room", async (t) => {
  const { run, create, plans, vm, addNode } = await placingCluster();
  await create("big", { memoryMib: 8_192 });
  await create("small");
  await run();
  t.equal(vm("small").claim?.nodeId, "n1", "behind one that does not fit");
  t.match(vm("big"), { state: "pending", pendingReasons: [{ code: "memory", nodes: 1, detail: /^n1: needs 8192 MiB/ }] });
  // small's claim changed what is free, which the reasons say; after that they say the same.
  await run();
  const written = plans.length;
  for (let i = 0; i < 5; i++) await run(31_000);
  t.equal(plans.length, written, "the same reasons are no news");
  await create("small2");
  await run();
  t.equal(vm("small2").claim?.nodeId, "n1");
  await addNode("n2", { memoryMib: 16_384 });
  await run();
  t.equal(vm("big").claim?.nodeId, "n2", "at once, not after the retry time");
  t.same(vm("big").pendingReasons, []);
});

t.test("room that another VM leaves is seen", async (t) => {
  const { run, create, vm, gone } = await placingCluster();
  await create("a", { memoryMib: 4_096, restart: "never" });
  await run();
  await create("b", { memoryMib: 4_096 });
  await run();
  t.equal(vm("b").claim, null);
  await gone("a", "destroyed");
  await run();
  t.equal(vm("b").claim?.nodeId, "n1");
});

t.test("whatever could make room is a reason to look again before the retry time", async (t) => {
  const changes: [string, Partial<VmDefinition>, Partial<NodeInfo>, Partial<NodeInfo>][] = [
    ["memory", { memoryMib: 6_000 }, {}, { memoryMib: 8_192 }],
    ["reserve", { memoryMib: 4_000 }, { reserveMib: 1_000 }, { reserveMib: 0 }],
    ["a bridge", { nics: [{ bridge: "br1", mac: "52:54:00:00:00:01", model: "virtio" }] }, {}, { bridges: ["br0", "br1"] }],
    ["a pool", { disks: [diskIn("shared")] }, { pools: [] }, { pools: INFO.pools }],
    ["the architecture", { arch: "aarch64" }, {}, { arch: "aarch64" }],
  ];
  for (const [what, wanted, before, after] of changes) {
    const { run, create, vm, as, hello } = await placingCluster();
    await as("n1", pool("shared", true));
    await hello("n1", before);
    await create("v", wanted);
    await run();
    t.equal(vm("v").claim, null, `${what}: not yet`);
    await as("n1", { type: "node.info", nodeId: "n1", info: { ...INFO, ...after } });
    await run(1);
    t.equal(vm("v").claim?.nodeId, "n1", what);
  }
});

t.test("a VM that somebody asks for again is looked at again, whatever it waited for", async (t) => {
  const { run, create, vm, as } = await placingCluster(2);
  await create("v");
  await as("n1", { type: "node.enable", nodeId: "n1", enabled: false });
  await as("n1", { type: "vm.desire", vmId: "v", action: "deploy", nodeId: "n1" });
  await run();
  t.equal(vm("v").claim, null, "n1 takes nothing");
  await as("n1", { type: "vm.desire", vmId: "v", action: "deploy", nodeId: "n2" });
  await run(1);
  t.equal(vm("v").claim?.nodeId, "n2");
});

t.test("held VMs wait for their deploy", async (t) => {
  const { run, create, vm, as, plans } = await placingCluster();
  await create("v", {}, true);
  await run();
  t.equal(plans.length, 0);
  await as("n1", { type: "vm.desire", vmId: "v", action: "deploy", nodeId: null });
  await run();
  t.equal(vm("v").claim?.nodeId, "n1");
});

t.test("back-off: not before its time, and then in place; elsewhere after ha.restartsInPlace failures (HA-12)", async (t) => {
  const { run, create, vm, gone, as } = await placingCluster(2);
  await as("n1", { type: "setting.update", key: "ha.maxFailures", value: 20 });
  await create("v");
  await run();
  const home = vm("v").claim!.nodeId;
  const other = home === "n1" ? "n2" : "n1";
  const nodes: string[] = [];
  for (let failures = 1; failures <= 5; failures++) {
    await gone("v");
    const waitMs = vm("v").retryAtMs - vm("v").stateSinceMs;
    if (waitMs > 0) {
      await run(waitMs - 1);
      t.equal(vm("v").claim, null, `${waitMs} ms are not over`);
      await run(1);
    } else await run();
    nodes.push(vm("v").claim?.nodeId ?? "none");
  }
  // Three restarts in place; the fourth failure sends it away, the fifth away from there.
  t.same(nodes, [home, home, home, other, home]);
});

t.test("the only node is better than none", async (t) => {
  const { run, create, vm, gone, as } = await placingCluster();
  await as("n1", { type: "setting.update", key: "ha.restartsInPlace", value: 0 });
  await create("v");
  await run();
  await gone("v");
  await run();
  t.equal(vm("v").claim?.nodeId, "n1");
});

t.test("a dead node's VMs are recovered before others are started, by priority, then number (HA-11)", async (t) => {
  const { run, create, vm, as, plans } = await placingCluster(2);
  await as("n1", { type: "node.enable", nodeId: "n1", enabled: false });
  // 4 × 1024 MiB fill n2; n1 can take them all but then nothing more.
  const priorities = [0, 5, 0, 9];
  for (const [i, priority] of priorities.entries()) await create(`v${i}`, { ha: { enabled: true, priority, onQuorumLoss: "stop" } });
  await run();
  t.same([...store(vm)], ["n2", "n2", "n2", "n2"]);
  await as("n1", { type: "node.enable", nodeId: "n1", enabled: true });
  await create("new", { memoryMib: 2_048 });
  await as("n1", { type: "node.suspect", nodeId: "n2", silentMs: 2_000 });
  await as("n1", { type: "vm.retry", vmId: "new" });
  await run();
  t.equal(vm("new").claim?.nodeId, "n1", "nobody knows yet that n2 is dead");
  const before = plans.length;
  await as("n1", fencing("n2"));
  await run();
  const [recovery] = plans.slice(before);
  // 2 of 4 GiB are taken: the two of the highest priority fit.
  t.same(
    recovery?.placements.map((one) => one.vmId),
    ["v3", "v1"],
  );
  t.same(
    recovery?.rejections.map((one) => one.vmId),
    ["v0", "v2"],
  );
  t.match(vm("v0"), {
    state: "recovering",
    pendingReasons: [
      { code: "node-not-ready", nodes: 1 },
      { code: "memory", nodes: 1 },
    ],
  });

  function* store(read: typeof vm): Generator<string | undefined> {
    for (let i = 0; i < 4; i++) yield read(`v${i}`).claim?.nodeId;
  }
});

t.test("more than one plan's worth of VMs that fit nowhere block nobody behind them", async (t) => {
  const { run, as, vm, hello } = await placingCluster();
  const vms = Array.from({ length: 600 }, (_, i) => ({
    id: `big${i}`,
    definition: definition(`big${i}`, { memoryMib: 99_999 }),
    hold: false,
    nodeId: null,
    power: "on" as const,
  }));
  await as("n1", { type: "vm.create", vms });
  await as("n1", { type: "vm.create", vms: [{ id: "small", definition: definition("small"), hold: false, nodeId: null, power: "on" }] });
  // Each look, something has changed that could make room, so all are due again.
  for (let i = 0; i < 3; i++) {
    await hello("n1", { memoryMib: 4_096 + i });
    await run(250);
  }
  t.equal(vm("small").claim?.nodeId, "n1");
});

t.test("switched off, it leaves pending VMs to a scheduler outside and goes on recovering", async (t) => {
  const { run, create, vm, as } = await placingCluster(2);
  await create("ha");
  await run();
  const home = vm("ha").claim!.nodeId;
  await as("n1", { type: "setting.update", key: "scheduler.enabled", value: "off" });
  await create("v");
  await run();
  t.equal(vm("v").claim, null);
  await as("n1", { type: "node.suspect", nodeId: home, silentMs: 2_000 });
  await as("n1", fencing(home));
  await run();
  t.equal(vm("ha").claim?.nodeId, home === "n1" ? "n2" : "n1");
  t.equal(vm("v").claim, null);
  const left = vm("ha").claim!.nodeId;
  await create("w");
  await as("n1", { type: "vm.desire", vmId: "w", action: "deploy", nodeId: left });
  await run();
  t.equal(vm("w").claim?.nodeId, left, "the node that somebody outside chose");
  await as("n1", { type: "setting.update", key: "scheduler.enabled", value: "on" });
  await run();
  t.ok(vm("v").claim);
});

t.test("each decision is kept with its VM: where, why there, why not elsewhere (SCH-17)", async (t) => {
  const { run, create, vm, store, addNode } = await placingCluster(1);
  await create("a", { memoryMib: 3_072 });
  await create("b", { memoryMib: 2_048 });
  await run();
  // n1 has 4096 MiB and 4 CPUs: a there scores (1/4 + 3072/4096) / 2 = 0.5.
  t.match(vm("a").decisions, [
    { nodeId: "n1", score: 0.5, refused: {}, top: [{ nodeId: "n1", score: 0.5 }], viewIndex: store.state.index - 1 },
  ]);
  t.match(vm("b").decisions, [{ nodeId: null, score: null, refused: { memory: 1 }, top: [], index: store.state.index }]);
  await addNode("n2");
  await run();
  t.match(vm("b").decisions, [{ nodeId: null }, { nodeId: "n2", refused: { memory: 1 }, score: 0.375 }], "(1/4 + 2048/4096) / 2");
});
