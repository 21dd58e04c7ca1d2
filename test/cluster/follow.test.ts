/** Seven real replicas, five of which vote: the others follow, take the place of the dead, and give it back to nobody. */
import t from "tap";
import type { RoostError } from "../../src/base/errors.ts";
import { TestCluster, type TestNode, until } from "../support/replicas.ts";

const actor = "test";
const token = (id: string) => ({ type: "token.create", id, secretHash: "x", ttlMs: 60_000, uses: 1 }) as const;

// Seven nodes on a busy machine.
t.setTimeout(120_000);
const cluster = await TestCluster.create(7);
t.teardown(() => cluster.close());
const rolesAt = (node: TestNode): string =>
  [...node.replica.view().nodes.values()]
    .toSorted((a, b) => a.peerId - b.peerId)
    .map((row) => row.role)
    .join(" ");
/** Killed and not started again. */
const dead = new Set<TestNode>();
const leader = (): TestNode => cluster.nodes.find((node) => !dead.has(node) && node.replica.leadership().leading)!;

t.test("five vote, two follow; all apply, propose and read linearizably", async (t) => {
  const [n1, , , , , n6, n7] = cluster.nodes as [TestNode, TestNode, TestNode, TestNode, TestNode, TestNode, TestNode];
  for (const node of cluster.nodes) {
    await until(node.replica, () => rolesAt(node) === "voter voter voter voter voter follower follower");
  }
  for (const [writer, reader] of [
    [n6, n7],
    [n7, n1],
    [n1, n6],
  ] as const) {
    const id = `by-${writer.name}`;
    t.strictSame(await writer.replica.propose(token(id), { actor }), { ids: [id] });
    t.ok((await reader.replica.read({ timeoutMs: 5_000 })).tokens.has(id));
  }
  t.same(n6.replica.membership().learners, []);
});

t.test("a voter that is dead for long is replaced, and follows when it is back", async (t) => {
  await leader().replica.propose({ type: "setting.update", key: "raft.replaceVoterMs", value: 1_000 }, { actor });
  const gone = cluster.nodes.slice(0, 5).find((node) => node !== leader())!;
  await gone.kill();
  const n7 = cluster.nodes[6]!;
  await until(n7.replica, () => !n7.replica.membership().voters.includes(gone.peerId) && n7.replica.membership().outgoing.length === 0);
  t.same(n7.replica.membership().voters.length, 5);
  await until(n7.replica, () => n7.replica.view().nodes.get(gone.id)?.role === "follower");
  await n7.replica.propose(token("while-it-was-off"), { actor });

  const back = await cluster.restart(gone);
  await until(back.replica, () => back.replica.view().tokens.has("while-it-was-off"));
  await until(back.replica, () => !back.replica.membership().voters.includes(gone.peerId));
  t.strictSame(await back.replica.propose(token("by-the-returned"), { actor }), { ids: ["by-the-returned"] });
});

t.test("the leader's death: followers go on with the next one", async (t) => {
  const old = leader();
  await old.kill();
  dead.add(old);
  const followers = cluster.nodes.filter((node) => node !== old && !node.replica.membership().voters.includes(node.peerId));
  t.ok(followers.length > 0);
  for (const node of followers) {
    const id = `after-by-${node.name}`;
    t.strictSame(await patiently(() => node.replica.propose(token(id), { actor, requestId: `${id}@000001000000`, timeoutMs: 20_000 })), {
      ids: [id],
    });
    t.ok((await patiently(() => node.replica.read({ timeoutMs: 10_000 }))).tokens.has(id));
  }
});

/** An election that takes long on a busy machine is refused at once (RAFT-6), and asked again. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await call();
    } catch (thrown) {
      if ((thrown as RoostError).fault.kind !== "unavailable" || tries > 100) throw thrown;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

t.test("removed for good: Raft lets it go first, then no door opens to it (CLU-9)", async (t) => {
  const living = cluster.nodes.filter((node) => !dead.has(node));
  await until(living[0]!.replica, () => living.some((node) => node.replica.leadership().leading));
  const old = leader();
  const other = living.find((node) => node !== old)!;
  // The hardest of all: the leader itself.
  await patiently(() => other.replica.propose({ type: "node.remove", nodeId: old.id, dead: false, proof: null }, { actor }));
  await until(other.replica, () => other.replica.view().nodes.get(old.id)?.state === "removed");
  t.notOk(other.replica.membership().voters.includes(old.peerId));
  const events = other.replica.eventsSince(0).filter((event) => event.subjectId === old.id && event.kind === "node.state");
  t.match(events.at(-1)?.message, /→ removed: removed by test/);

  // It may not even have heard of it: its peers' doors tell it.
  const told = await refusalOf(old, "from-the-removed");
  t.match(told.fault, { reason: /was removed from the cluster/ });
  t.match(told.hint, /move its data folder away/);
  t.notOk((await other.replica.read({ timeoutMs: 10_000 })).tokens.has("from-the-removed"));

  // Nor after a restart.
  await old.kill();
  const again = await cluster.restart(old);
  t.match((await refusalOf(again, "restarted")).fault, { reason: /was removed from the cluster/ });
});

/** Asks until the node knows that it is out. */
async function refusalOf(node: TestNode, id: string): Promise<RoostError> {
  for (let tries = 0; tries < 200; tries++) {
    const error = (await node.replica.propose(token(id), { actor, timeoutMs: 1_000 }).catch((thrown: unknown) => thrown)) as RoostError;
    if (error.fault.kind === "precondition") return error;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${node.name} was never told`);
}
