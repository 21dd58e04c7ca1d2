/** The drain on the leader, over a store in memory: agents are played by the test, and any leader goes on where one was. */
import t from "tap";
import type { LeaderService } from "../../src/cluster/leadership.ts";
import { drainService } from "../../src/placing/drain.ts";
import type { Command, VmObservation } from "../../src/state/commands.ts";
import { PROGRAM_LEVEL } from "../../src/state/levels.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { CommandLog, diskIn, pool } from "../state/log.ts";

/** VMs v0, v1, … run on n1 of three nodes. */
function cluster(vms: number) {
  const log = CommandLog.withNodes(3, { actions: ["migrate"], level: PROGRAM_LEVEL });
  log.ok({ type: "level.raise", level: PROGRAM_LEVEL }, { term: 1 });
  log.ok(pool("local", false));
  for (let i = 0; i < vms; i++) log.running(`v${i}`, "n1", { memoryMib: 64 });
  const store = new MemoryStore("n1", log.state);
  const time = { ms: 0 };
  const clock = { monotonicMs: () => time.ms, wallMs: () => store.nowMs + time.ms, after: () => () => {} };
  const leader = (): LeaderService => drainService(store, { clock, nodeId: "n1" });
  const say = async (nodeId: string, command: Command): Promise<void> => {
    store.origin = nodeId;
    await store.propose(command, { actor: "test" });
    store.origin = "n1";
  };
  const vm = (id: string) => log.vm(id);
  const report = (id: string, observed: VmObservation): Promise<void> => {
    const { claim } = vm(id);
    if (claim === null) throw new Error(`${id} has no claim`);
    return say(claim.nodeId, { type: "vm.report", vmId: id, nodeId: claim.nodeId, generation: claim.generation, observed });
  };
  const moves = async (id: string): Promise<void> => {
    await report(id, { kind: "handed-over", generation: vm(id).migration?.claim.generation ?? 0 });
    await report(id, { kind: "running" });
  };
  const fails = async (id: string): Promise<void> => {
    const claim = vm(id).migration?.claim;
    await report(id, { kind: "not-migrated", detail: "cut" });
    await report(id, { kind: "running" });
    const { nodeId, generation } = claim!;
    await say(nodeId, { type: "vm.report", vmId: id, nodeId, generation, observed: { kind: "incoming-gone", detail: "" } });
  };
  const drain = (wish: { limitMs?: number; allowRestart?: boolean } = {}): Promise<void> =>
    say("n1", { type: "node.drain", nodeId: "n1", limitMs: 0, allowRestart: false, parallel: 2, ...wish });
  const moving = (): string[] => [...log.state.vms.values()].filter((row) => row.migration !== undefined).map(({ id }) => id);
  return { log, store, time, leader, say, vm, moves, fails, drain, moving, node: () => log.state.nodes.get("n1")! };
}

t.test("so many at once, whoever leads, until nothing is left", async (t) => {
  const { leader, moves, drain, moving, vm, node } = cluster(5);
  await drain();
  for (const expected of [2, 2, 1]) {
    await leader().run(1);
    await leader().run(1);
    const now = moving();
    t.equal(now.length, expected);
    t.ok(now.every((id) => vm(id).migration?.claim.nodeId !== "n1"));
    for (const id of now) await moves(id);
  }
  await leader().run(1);
  t.match(node(), { state: "maintenance", drain: { done: true, blocked: [] } });
});

t.test("what did not work is tried again after a pause, and said", async (t) => {
  const { leader, fails, moves, drain, moving, node, time } = cluster(1);
  const service = leader();
  await drain();
  await service.run(1);
  await fails("v0");
  await service.run(1);
  t.same(moving(), []);
  t.match(node().drain?.blocked, [{ name: "v0", reasons: [/not migrated to n[23]: cut/] }]);
  time.ms = 2_001;
  await service.run(1);
  t.same(moving(), ["v0"]);
  t.same(node().drain?.blocked, []);
  await moves("v0");
  await service.run(1);
  t.equal(node().state, "maintenance");
});

t.test("blockers are named; what may be is restarted elsewhere, and noted before it is shut down", async (t) => {
  const { log, leader, say, drain, moving, node, vm } = cluster(1);
  log.running("stuck", "n1", { disks: [diskIn("local")] });
  for (const nodeId of ["n2", "n3"]) log.hello(nodeId, { actions: [], level: PROGRAM_LEVEL });
  await drain();
  await leader().run(1);
  t.same(moving(), []);
  t.match(node().drain?.blocked, [
    { name: "stuck", reasons: [/pool local, which is local to its node/] },
    { name: "v0", reasons: [/cannot migrate running VMs/] },
  ]);
  await drain({ allowRestart: true });
  await leader().run(1);
  t.same(node().drain?.restarting, ["v0"]);
  t.match(vm("v0").desired, { power: "off", how: "graceful" });
  t.match(node().drain?.blocked, [{ name: "stuck" }], "its disks are nowhere else");
  // The drain ends and the leader changes in the middle of it.
  await say("n1", { type: "node.undrain", nodeId: "n1", why: "" });
  log.done("v0", "wait-for-power-off");
  t.equal(vm("v0").state, "stopped");
  await leader().run(1);
  t.match(vm("v0"), { state: "pending", desired: { power: "on" } });
  t.equal(node().restarting, undefined);
});

t.test("its time is over: the node is as it was, and what is left is named", async (t) => {
  const { log, leader, drain, node, time, store } = cluster(0);
  log.running("stuck", "n1", { disks: [diskIn("local")] });
  await drain({ limitMs: 10_000 });
  await leader().run(1);
  time.ms = 10_000;
  await leader().run(1);
  t.match(node(), { state: "ready", drain: undefined, stateWhy: /time of 10 s is over; still there: stuck/ });
  t.ok(store.eventsSince(0).some((event) => event.kind === "node.drain"));
});
