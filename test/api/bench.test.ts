/** roost.v1.Bench: what it keeps, what it refuses, and that its rows live through checkpoint and restart. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { authorize } from "../../src/api/auth.ts";
import { benchService } from "../../src/api/services/bench.ts";
import { StateDb } from "../../src/cluster/state-db.ts";
import { NO_MEMBERSHIP } from "../../src/model/membership.ts";
import { decodeCheckpoint, encodeCheckpoint } from "../state/log.ts";
import { testCluster } from "../support/api.ts";
import type { TestCluster } from "../support/api.ts";

async function enabled(value = "true"): Promise<TestCluster> {
  const cluster = await testCluster();
  cluster.store.nowMs = cluster.server.nowMs();
  await cluster.store.propose({ type: "setting.update", key: "bench.enabled", value }, { actor: "test" });
  return cluster;
}

const put = (cluster: TestCluster, key: string, value: Buffer, requestId = ""): ReturnType<typeof benchService.Put> =>
  benchService.Put({ key, value, requestId }, cluster.as());
const get = (cluster: TestCluster, key: string, stale = false): ReturnType<typeof benchService.Get> =>
  benchService.Get({ key, stale }, cluster.as());

/** What the call was refused with; null if it was not. */
function refusal(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => null,
    (thrown: unknown) => thrown,
  );
}

t.test("what was put comes back, byte for byte, with the index of its write", async (t) => {
  const cluster = await enabled();
  const value = Buffer.from([0, 255, 128, 10, 34, 92]);
  const { index } = await put(cluster, "k", value);
  t.equal(index, cluster.store.view().index);
  for (const stale of [false, true]) t.same(await get(cluster, "k", stale), { value, index, found: true, revision: index });
  const second = await put(cluster, "k", Buffer.alloc(0));
  t.equal(second.index, Number(index) + 1);
  t.same(await get(cluster, "k"), { value: Buffer.alloc(0), index: second.index, found: true, revision: second.index });
  t.same(await get(cluster, "other"), { value: Buffer.alloc(0), index: 0, found: false, revision: second.index });
});

t.test("a repeated request id answers the first index and writes nothing", async (t) => {
  const cluster = await enabled();
  const requestId = `r1@${cluster.server.nowMs()}`;
  const first = await put(cluster, "k", Buffer.from("a"), requestId);
  await put(cluster, "k", Buffer.from("b"));
  t.same(await put(cluster, "k", Buffer.from("a"), requestId), first);
  t.match(await get(cluster, "k"), { value: Buffer.from("b") });
});

t.test("off, it says how it is switched on, and nothing reaches the log", async (t) => {
  const cluster = await enabled("false");
  const before = cluster.store.view().index;
  const off = { fault: { kind: "precondition" }, hint: "roost settings set bench.enabled true" };
  t.match(await refusal(put(cluster, "k", Buffer.from("v"))), off);
  t.match(await refusal(get(cluster, "k")), off);
  t.equal(cluster.store.view().index, before);
  // Switched off between the look and the commit: applying refuses as well.
  t.match(await refusal(cluster.store.propose({ type: "bench.put", key: "k", value: "" }, { actor: "test" })), off);
});

t.test("sizes are limited", async (t) => {
  const cluster = await enabled();
  // 86 × 3 = 258 bytes of UTF-8 in 86 characters.
  for (const key of ["", "k".repeat(257), "€".repeat(86)])
    t.match(await refusal(put(cluster, key, Buffer.from("v"))), { fault: { kind: "invalid", violations: [{ field: "key" }] } });
  t.match(await refusal(put(cluster, "k", Buffer.alloc(2 ** 20 + 1))), { fault: { kind: "invalid", violations: [{ field: "value" }] } });
  await put(cluster, "k".repeat(256), Buffer.alloc(2 ** 20));
});

t.test("not for nodes", async (t) => {
  const cluster = await enabled();
  const node = { kind: "node", nodeId: cluster.nodeIds[0] ?? "" } as const;
  const { store } = cluster;
  for (const method of ["Put", "Get"]) {
    try {
      authorize(node, `/roost.v1.Bench/${method}`, store.view());
      t.fail("a node may not call it");
    } catch (thrown) {
      t.match(thrown, { fault: { kind: "denied" } });
    }
  }
});

t.test("rows are in checkpoints and in the database", async (t) => {
  const cluster = await enabled();
  await put(cluster, "b", Buffer.from("2"));
  await put(cluster, "a", Buffer.from("1"));
  const { state } = cluster.store;
  const position = { index: state.index, term: 1, membership: NO_MEMBERSHIP };
  const { rows } = decodeCheckpoint(encodeCheckpoint(state, position));
  t.same(
    rows.filter((row) => row.table === "bench"),
    ["a", "b"].map((key) => ({ table: "bench", key, row: state.bench.get(key) })),
  );
  const folder = await mkdtemp(join(tmpdir(), "roost-bench-"));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const db = await StateDb.open(folder);
  const slices = async function* () {
    yield rows;
  };
  await db.replace(position, slices(), () => {});
  await db.close();
  const again = await StateDb.open(folder);
  t.same((await again.load()).state.bench, state.bench);
  await again.close();
});
