/** Seven real replicas, five of which vote: the others follow, take the place of the dead, and give it back to nobody. */
import t from "tap";
import { TestCluster, type TestNode, until } from "../support/replicas.ts";

const actor = "test";
const token = (id: string) => ({ type: "token.create", id, secretHash: "x", ttlMs: 60_000, uses: 1 }) as const;

const cluster = await TestCluster.create(7);
t.teardown(() => cluster.close());
const rolesAt = (node: TestNode): string =>
  [...node.replica.view().nodes.values()]
    .toSorted((a, b) => a.peerId - b.peerId)
    .map((row) => row.role)
    .join(" ");
const leader = (): TestNode => cluster.nodes.find((node) => node.replica.leadership().leading)!;

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
  const dead = cluster.nodes.slice(0, 5).find((node) => node !== leader())!;
  await dead.kill();
  const n7 = cluster.nodes[6]!;
  await until(n7.replica, () => !n7.replica.membership().voters.includes(dead.peerId) && n7.replica.membership().outgoing.length === 0);
  t.same(n7.replica.membership().voters.length, 5);
  await until(n7.replica, () => n7.replica.view().nodes.get(dead.id)?.role === "follower");
  await n7.replica.propose(token("while-it-was-off"), { actor });

  const back = await cluster.restart(dead);
  await until(back.replica, () => back.replica.view().tokens.has("while-it-was-off"));
  await until(back.replica, () => !back.replica.membership().voters.includes(dead.peerId));
  t.strictSame(await back.replica.propose(token("by-the-returned"), { actor }), { ids: ["by-the-returned"] });
});

t.test("the leader's death: followers go on with the next one", async (t) => {
  const old = leader();
  await old.kill();
  const followers = cluster.nodes.filter((node) => node !== old && !node.replica.membership().voters.includes(node.peerId));
  t.ok(followers.length > 0);
  for (const node of followers) {
    const id = `after-by-${node.name}`;
    t.strictSame(await node.replica.propose(token(id), { actor, timeoutMs: 20_000 }), { ids: [id] });
    t.ok((await node.replica.read({ timeoutMs: 10_000 })).tokens.has(id));
  }
});
