import t from "tap";
import type { RoostError } from "../../src/base/errors.ts";
import type { State } from "../../src/state/state.ts";
import { encodeCheckpoint } from "../state/log.ts";
import { TestCluster, type TestNode, until } from "../support/replicas.ts";

const actor = "test";
const token = (id: string) => ({ type: "token.create", id, secretHash: "x", ttlMs: 60_000, uses: 1 }) as const;

/** Tables of a node as bytes: equal on all replicas at one index (STA-1). */
/** Rows in the order of their text: a restarted node has them in the order of its database. */
function tables(node: TestNode): string {
  const state = node.replica.view() as State;
  const rows = new TextDecoder().decode(
    encodeCheckpoint(state, { index: state.index, term: state.term, membership: node.replica.membership() }),
  );
  return rows.split("\n").toSorted().join("\n");
}

function leaderOf(nodes: readonly TestNode[]): TestNode | undefined {
  return nodes.find((node) => node.replica.leadership().leading);
}

t.test("three replicas", async (t) => {
  const cluster = await TestCluster.create(3);
  t.teardown(() => cluster.close());
  const [n1, n2, n3] = cluster.nodes as [TestNode, TestNode, TestNode];

  await t.test("become voters together, so that two never vote alone", async (t) => {
    await until(n3.replica, () => n3.replica.membership().voters.length === 3 && n3.replica.membership().outgoing.length === 0);
    t.strictSame(
      [...n3.replica.membership().voters].toSorted((a, b) => a - b),
      [1, 2, 3],
    );
    await until(n1.replica, () => [...n1.replica.view().nodes.values()].every((node) => node.role === "voter"));
    const roles = n1.replica.eventsSince(0 + 2).filter((event) => event.kind === "node.role");
    t.ok(roles.length >= 2, "each promotion is an event");
  });

  await t.test("any node takes a write and sees it at once", async (t) => {
    for (const node of cluster.nodes) {
      const id = `from-${node.name}`;
      t.strictSame(await node.replica.propose(token(id), { actor }), { ids: [id] });
      t.ok(node.replica.view().tokens.has(id));
    }
  });

  await t.test("a linearizable read on another node sees a write that was acknowledged before", async (t) => {
    for (let i = 0; i < 20; i++) {
      const writer = cluster.nodes[i % 3]!;
      const reader = cluster.nodes[(i + 1) % 3]!;
      await writer.replica.propose(token(`read-${i}`), { actor });
      const view = await reader.replica.read({ timeoutMs: 5_000 });
      t.ok(view.tokens.has(`read-${i}`));
    }
  });

  const once = `r1@${Date.now()}`;
  await t.test("a repeated request id returns the first answer and applies once (STA-2)", async (t) => {
    const first = await n2.replica.propose(
      { type: "token.create", id: "once", secretHash: "x", ttlMs: 60_000, uses: 1 },
      { actor, requestId: once },
    );
    const again = await n3.replica.propose(
      { type: "token.create", id: "twice", secretHash: "x", ttlMs: 60_000, uses: 1 },
      { actor, requestId: once },
    );
    t.strictSame(again, first);
    t.notOk(n3.replica.view().tokens.has("twice"));
  });

  await t.test("a command's own fault comes back to the proposer with its hint", async (t) => {
    const refusal = (await n2.replica
      .propose({ type: "token.revoke", id: "none" }, { actor })
      .catch((error: unknown) => error)) as RoostError;
    t.strictSame(refusal.fault, { kind: "not-found", what: "token", name: "none" });
  });

  await t.test("the leader's death loses nothing acknowledged, and the rest goes on", async (t) => {
    const leader = leaderOf(cluster.nodes)!;
    await leader.kill();
    const rest = cluster.nodes.filter((node) => node !== leader);
    t.strictSame(
      await rest[1]!.replica.propose(token("thrice"), { actor, requestId: once, timeoutMs: 20_000 }),
      { ids: ["once"] },
      "also over a change of the leader",
    );
    t.notOk(rest[1]!.replica.view().tokens.has("thrice"));
    const written = await rest[0]!.replica.propose(token("after"), { actor, timeoutMs: 20_000 });
    t.strictSame(written, { ids: ["after"] });
    const view = await rest[1]!.replica.read({ timeoutMs: 10_000 });
    for (const id of ["from-n1", "from-n2", "from-n3", "once", "after"]) t.ok(view.tokens.has(id), id);

    const back = await cluster.restart(leader);
    await until(back.replica, () => back.replica.view().tokens.has("after"));
    await back.replica.read({ timeoutMs: 10_000 });
    const target = Math.max(...cluster.nodes.map((node) => node.replica.view().index));
    for (const node of cluster.nodes) await until(node.replica, () => node.replica.view().index >= target);
    t.equal(new Set(cluster.nodes.map(tables)).size, 1, "all tables are equal at the same index");
  });

  await t.test("without a quorum writes and reads are refused with who is needed; stale reads work (RAFT-6)", async (t) => {
    const alone = cluster.nodes[0]!;
    await Promise.all(cluster.nodes.filter((node) => node !== alone).map((node) => node.kill()));
    const refusal = (await alone.replica
      .propose(token("never"), { actor, timeoutMs: 3_600_000 })
      .catch((error: unknown) => error)) as RoostError;
    t.equal(refusal.fault.kind, "unavailable");
    t.match(refusal.hint, /reachable: n1; not: n2, n3/);
    const unread = (await alone.replica.read({ timeoutMs: 3_600_000 }).catch((error: unknown) => error)) as RoostError;
    t.equal(unread.fault.kind, "unavailable");
    t.ok(alone.replica.view().tokens.has("after"));
  });
});

t.test("killed in the middle of writes, a node starts again with all that it acknowledged", async (t) => {
  const cluster = await TestCluster.create(1);
  t.teardown(() => cluster.close());
  let acknowledged = 0;
  for (let round = 0; round < 4; round++) {
    const node = cluster.nodes[0]!;
    await until(node.replica, () => node.replica.leadership().leading);
    const write = async (): Promise<void> => {
      for (;;) {
        await node.replica.propose({ type: "setting.update", key: "vm.bootTimeoutMs", value: 1_000 + (acknowledged % 1_000) }, { actor });
        acknowledged++;
      }
    };
    // They end with the refusal of a replica that stops.
    const writers = Array.from({ length: 20 }, () => write().catch((error: unknown) => error));
    const target = acknowledged + 100 + round * 37;
    await until(node.replica, () => acknowledged >= target);
    const before = node.replica.view().index;
    // The state is often ahead of the log's own word of what is committed: that is not fsynced.
    await node.kill();
    await Promise.all(writers);
    const back = await cluster.restart(node);
    t.ok(back.replica.view().index >= before, `round ${round}: nothing applied is lost`);
    await back.replica.read({ timeoutMs: 10_000 });
  }
});
