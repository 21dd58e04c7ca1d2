/** The leader's services run while it leads, one run at a time, and end with it; a join nobody confirms is undone. */
import t from "tap";
import type { Clock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { firstMembership } from "../../src/model/membership.ts";
import type { MembershipChange } from "../../src/cluster/consensus/protocol.ts";
import { JOIN_CONFIRM_MS, joiningService } from "../../src/cluster/joining.ts";
import { type LeaderService, runWhileLeading } from "../../src/cluster/leadership.ts";
import type { Replica } from "../../src/cluster/replica.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { joining } from "../state/log.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
const actor = { actor: "test" };
const token = (id: string) => ({ type: "token.create", id, secretHash: "h", ttlMs: 600_000, uses: 1 }) as const;

function manualClock() {
  const timers = new Set<() => void>();
  const time = { nowMs: 0 };
  const clock: Clock = {
    monotonicMs: () => time.nowMs,
    wallMs: () => time.nowMs,
    after: (_delayMs, run) => {
      timers.add(run);
      return () => timers.delete(run);
    },
  };
  return {
    clock,
    time,
    waiting: () => timers.size,
    fire: async (): Promise<void> => {
      const due = [...timers];
      timers.clear();
      for (const run of due) run();
      await turn();
    },
  };
}

async function founded(): Promise<MemoryStore> {
  const store = new MemoryStore("n1");
  await store.propose({ type: "cluster.init", clusterId: "c", name: "c", caCertificate: "", caKey: "", node: joining("n1") }, actor);
  return store;
}

t.test("services", async (t) => {
  const store = await founded();
  const { clock, fire, waiting } = manualClock();
  const runs: number[] = [];
  let ends: (() => void)[] = [];
  let slow = false;
  let fails = false;
  const service: LeaderService = {
    name: "test",
    everyMs: 100,
    onChange: true,
    async run(term) {
      runs.push(term);
      if (fails) throw new Error("will pass");
      if (slow) await new Promise<void>((resolve) => ends.push(resolve));
    },
  };
  store.leads = { ...store.leads, leading: false };
  const stop = runWhileLeading(store, [service], { clock, log: silentLogger });
  await fire();
  await store.propose(token("a"), actor);
  await turn();
  t.same(runs, [], "not while another leads");

  store.leads = { ...store.leads, leading: true, term: 7 };
  await fire();
  t.same(runs, [7]);

  slow = true;
  await fire();
  await fire();
  for (const id of ["b", "c", "d"]) await store.propose(token(id), actor);
  await turn();
  t.same(runs, [7, 7], "one run at a time");
  slow = false;
  for (const end of ends.splice(0)) end();
  await turn();
  t.same(runs, [7, 7, 7], "what came meanwhile is one more run");

  fails = true;
  await fire();
  fails = false;
  await fire();
  t.equal(runs.length, 5, "a failed run is not the last");

  slow = true;
  ends = [];
  await fire();
  store.leads = { ...store.leads, leading: false };
  await store.propose(token("e"), actor);
  await turn();
  slow = false;
  for (const end of ends.splice(0)) end();
  await turn();
  t.equal(runs.length, 6, "no further run once another leads");

  store.leads = { ...store.leads, leading: true };
  stop();
  t.equal(waiting(), 0);
  await store.propose(token("f"), actor);
  await turn();
  t.equal(runs.length, 6, "stopped is stopped");
});

t.test("newcomers", async (t) => {
  const store = await founded();
  const { clock, time } = manualClock();
  const changes: MembershipChange[][] = [];
  const replica = {
    view: () => store.view(),
    propose: store.propose.bind(store),
    nodeId: "n1",
    membership: () => firstMembership(1),
    peersHeard: () => ({ caughtUp: [], lastHeardMs: [] }),
    changeMembership: (change: MembershipChange[]) => void changes.push(change),
  } as unknown as Replica;
  const service = joiningService(replica, clock);
  for (const id of ["n2", "n3"]) {
    await store.propose(token(id), actor);
    await store.propose({ type: "node.join", tokenId: id, secretHash: "h", node: joining(id) }, actor);
  }
  await store.propose({ type: "node.join-confirm", nodeId: "n2" }, actor);
  await service.run(1);

  time.nowMs = JOIN_CONFIRM_MS;
  await service.run(1);
  t.ok(store.view().nodes.has("n3"), "its time is not over");
  time.nowMs += 1;
  await service.run(1);
  t.notOk(store.view().nodes.has("n3"), "undone");
  t.equal(store.view().tokens.get("n3")?.usesLeft, 1, "and the token is good again");
  t.ok(store.view().nodes.has("n2"));

  await service.run(1);
  // Its time begins anew when it tries again.
  await store.propose({ type: "node.join", tokenId: "n3", secretHash: "h", node: joining("n3") }, actor);
  await service.run(1);
  time.nowMs += JOIN_CONFIRM_MS;
  await service.run(1);
  t.ok(store.view().nodes.has("n3"));
  t.same(changes, [], "two nodes, and the third has not confirmed: one votes");
});
