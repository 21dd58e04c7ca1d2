import { rm } from "node:fs/promises";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import t from "tap";
import type { StateDatabase } from "../../src/cluster/state-database.ts";
import { StateDb } from "../../src/cluster/state-db.ts";
import { firstMembership } from "../../src/model/membership.ts";
import { apply } from "../../src/state/apply.ts";
import { decodeEnvelope } from "../../src/state/codec.ts";
import type { Position, RowChange, State } from "../../src/state/state.ts";
import { checkpointText, CommandLog } from "../state/log.ts";

const root = await mkdtemp(join(tmpdir(), "roost-state-db-"));
t.teardown(() => rm(root, { recursive: true, force: true }));
let folders = 0;
const folder = (): string => join(root, `${++folders}`);
const at = (index: number): Position => ({ index, term: 1, membership: firstMembership(1) });

/** Applies the log's entries to a database's state in batches of a size, as a replica does. */
async function play(db: StateDb, state: State, log: CommandLog, batchSize: number): Promise<void> {
  const entries = log.entries.filter((entry) => entry.index > state.index);
  while (entries.length > 0) {
    const changes: RowChange[] = [];
    for (const entry of entries.splice(0, batchSize)) changes.push(...apply(state, decodeEnvelope(entry.data), entry).changes);
    db.write(changes, at(state.index));
  }
  await db.sync(at(state.index));
}

/** A log whose later commands each forget up to four answers of before. */
function logWithEvictions(): CommandLog {
  const log = CommandLog.withNodes(2);
  log.running("v", "n2");
  for (let i = 0; i < 20; i++) log.ok({ type: "vm.retry", vmId: "v" }, { requestId: `a${i}@000001000000` });
  log.nowMs += 601_000;
  // Ids against the order of the alphabet, so that an order by key would show.
  for (let i = 9; i >= 0; i--) log.ok({ type: "vm.retry", vmId: "v" }, { requestId: `b${i}@000001000000` });
  return log;
}

t.test("what is opened again is what was written, indexes and order of answers too", async (t) => {
  for (const batchSize of [1, 3, 100]) {
    const path = folder();
    const log = logWithEvictions();
    const db = await StateDb.open(path);
    const { state } = await db.load();
    await play(db, state, log, batchSize);
    await db.close();

    const again = await StateDb.open(path);
    const loaded = await again.load();
    t.same(loaded.position, at(log.state.index));
    t.equal(checkpointText(loaded.state), checkpointText(log.state), `batches of ${batchSize}`);
    t.same(
      [...loaded.state.requests.keys(), ...loaded.state.callers.keys()].toSorted(),
      [...log.state.requests.keys(), ...log.state.callers.keys()].toSorted(),
      "the order decides who is forgotten next, so it must be the same on all",
    );
    t.same([...loaded.state.claimsByNode], [...log.state.claimsByNode]);

    // And on from there: a reopened replica must not part from one that went on.
    for (let i = 0; i < 10; i++) log.ok({ type: "vm.retry", vmId: "v" }, { requestId: `c${9 - i}@000001000000` });
    await play(again, loaded.state, log, batchSize);
    await again.close();
    const third = await StateDb.open(path);
    t.equal(checkpointText((await third.load()).state), checkpointText(log.state));
    await third.close();
  }
});

t.test("an empty folder is an empty state", async (t) => {
  const db = await StateDb.open(folder());
  const { state, position } = await db.load();
  t.same([position.index, position.term, position.membership.voters, state.cluster], [0, 0, [], null]);
  await db.close();
});

t.test("replaced by a checkpoint: nothing of before is left, what follows is kept, and no older position comes back", async (t) => {
  // A stop may come at any moment while the checkpoint is taken over, and knows the position of before only.
  for (let turns = 0; turns <= 12; turns++) {
    const path = folder();
    const before = logWithEvictions();
    const db = await StateDb.open(path);
    const { state } = await db.load();
    await play(db, state, before, 5);

    const other = CommandLog.withNodes(3);
    for (let i = 0; i < 50; i++)
      other.ok({ type: "token.create", id: `t${i}`, secretHash: "", ttlMs: 1, uses: 1 }, { requestId: `z${99 - i}@000001000000` });
    const slices = async function* (): AsyncGenerator<RowChange[]> {
      for (const row of other.state.rows()) yield [row];
    };
    const replaced = db.replace(at(other.state.index), slices(), () => {});
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
    await Promise.all([replaced, db.sync(at(before.state.index))]);
    await db.close();

    const again = await StateDb.open(path);
    const loaded = await again.load();
    t.same(loaded.position, at(other.state.index), `after ${turns} turns`);
    t.equal(checkpointText(loaded.state), checkpointText(other.state));
    t.same([...loaded.state.requests.keys()], [...other.state.requests.keys()]);
    t.notOk(loaded.state.vms.has("v"));
    other.ok({ type: "token.revoke", id: "t49" }, { requestId: "a@000001000000" });
    await play(again, loaded.state, other, 1);
    await again.close();
    const third = await StateDb.open(path);
    t.equal(checkpointText((await third.load()).state), checkpointText(other.state));
    await third.close();
  }
});

t.test("damage is refused with what to do", async (t) => {
  const path = folder();
  const log = CommandLog.withNodes(2);
  log.running("v", "n2");
  const db = await StateDb.open(path);
  const { state } = await db.load();
  await play(db, state, log, 2);
  await db.close();

  const raw = new Level<string, string>(path, { keyEncoding: "utf8", valueEncoding: "utf8" });
  const load = async (): Promise<unknown> => {
    const opened = await StateDb.open(path);
    try {
      return await opened.load();
    } finally {
      await opened.close();
    }
  };
  /** Does something to the stored rows behind its back, loads, and puts all back. */
  const after = async (change: (rows: Map<string, string>) => void): Promise<unknown> => {
    await raw.open();
    const rows = new Map<string, string>(await raw.iterator().all());
    const changed = new Map(rows);
    change(changed);
    await raw.clear();
    await raw.batch([...changed].map(([key, value]) => ({ type: "put" as const, key, value })));
    await raw.close();
    const result = await load().catch((error: unknown) => error);
    await raw.open();
    await raw.clear();
    await raw.batch([...rows].map(([key, value]) => ({ type: "put" as const, key, value })));
    await raw.close();
    return result;
  };
  const damaged = { fault: { kind: "damaged" }, hint: /move the data folder away and join the cluster again/ };

  await raw.open();
  const keys = await raw.keys().all();
  await raw.close();
  for (const key of keys.filter((one) => !one.startsWith("a!15!"))) {
    const flip = (position: (value: string) => number) => (rows: Map<string, string>) => {
      const value = rows.get(key)!;
      const i = position(value);
      rows.set(key, value.slice(0, i) + String.fromCharCode(value.charCodeAt(i) ^ 1) + value.slice(i + 1));
    };
    t.match(await after(flip((value) => value.length >> 1)), damaged, `${key}: a bit in the middle`);
    t.match(await after(flip(() => 0)), damaged, `${key}: a bit of the checksum`);
    t.match(await after((rows) => rows.set(key, "")), damaged, `${key}: nothing`);
    t.match(await after((rows) => rows.set(key, rows.get(key)!.slice(0, -1))), damaged, `${key}: cut short`);
  }
  t.match(await after((rows) => rows.set("a!11!n1", rows.get("a!11!n2")!)), damaged, "a row under another's key");
  t.match(await after((rows) => rows.set("a!77!x", rows.get("a!11!n2")!)), damaged, "a key of no table");
  t.match(await load(), { position: { index: log.state.index } }, "unharmed again");
});

t.test("one process at a time", async (t) => {
  const path = folder();
  const db = await StateDb.open(path);
  t.match(await StateDb.open(path).catch((error: unknown) => error), {
    fault: { kind: "precondition", reason: /in use by another process/ },
    hint: /running on this data folder/,
  });
  await db.close();
});

t.test("a write that fails is told, and nothing is written after it", async (t) => {
  const path = folder();
  const log = CommandLog.withNodes(1);
  const db = await StateDb.open(path);
  const { state } = await db.load();
  await play(db, state, log, 1);
  await db.close();
  db.write([], at(1_000));
  t.match(await db.sync(at(1_001)).catch((error: unknown) => error), {
    fault: { kind: "unavailable", reason: /cannot write/ },
    hint: /free space/,
  });
  t.ok(db.failure);
});

t.test("killed before its first checkpoint was whole, a new node begins anew", async (t) => {
  const path = folder();
  const log = CommandLog.withNodes(2);
  const db = await StateDb.open(path);
  await db.load();
  const half = async function* (): AsyncGenerator<RowChange[]> {
    yield [...log.state.rows()];
    throw new Error("killed");
  };
  await t.rejects(db.replace(at(24), half(), () => {}));
  await db.close();

  const again = await StateDb.open(path);
  const loaded = await again.load();
  t.equal(loaded.position.index, 0);
  t.equal(loaded.state.nodes.size, 0);
  await again.close();
  const raw = new Level<string, string>(path);
  t.strictSame(await raw.keys().all(), [], "and nothing of it is left");
  await raw.close();
});

t.test("etcd 3.5's post-mortem: the applied index is never written apart from the rows that it stands for", async (t) => {
  // There, the index was made durable by another transaction than the changes: after a crash some were taken for applied that were not.
  const batches: { keys: string[]; sync: boolean }[] = [];
  let writing = Promise.resolve();
  const disk: StateDatabase = {
    batch: async (operations, { sync }) => {
      batches.push({ keys: operations.map(({ key }) => key), sync });
      await (writing = new Promise((resolve) => setImmediate(resolve)));
    },
    async *iterator() {},
    clear: async () => {},
    snapshot: () => t.fail("nothing is frozen here") as never,
    close: async () => {},
  };
  const db = new StateDb(disk, "disk");
  const { state } = await db.load();
  const log = logWithEvictions();
  for (const entry of log.entries) db.write(apply(state, decodeEnvelope(entry.data), entry).changes, at(entry.index));
  await db.sync(at(state.index));
  await writing;
  t.ok(batches.length > 1, `${batches.length} batches`);
  for (const { keys } of batches)
    t.equal(
      keys.findLast((key) => key !== "00"),
      "a!01",
      "each ends with the position that it leads to",
    );

  // A checkpoint's rows go where nobody looks, and are made the state's by one batch, synced, together with their position.
  batches.length = 0;
  const rows = async function* (): AsyncGenerator<RowChange[]> {
    for (const row of log.state.rows()) yield [row];
  };
  await db.replace(at(log.state.index), rows(), () => {});
  t.ok(batches.slice(0, -1).every(({ keys }) => keys.every((key) => key.startsWith("b!") && key !== "b!01")));
  t.same(batches.at(-1), { keys: ["b!01", "00"], sync: true });
});

t.test("what comes while it gathers is one write, and a sync has all of it", async (t) => {
  const path = folder();
  let release = (): void => {};
  let asked = 0;
  const db = await StateDb.open(path, () => {
    asked += 1;
    return new Promise<void>((resolve) => (release = resolve));
  });
  const row = (index: number): RowChange => ({ table: "bench", key: `k${index}`, row: { value: "", index } });
  for (let index = 1; index <= 3; index++) db.write([row(index)], at(index));
  const synced = db.sync(at(3));
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(asked, 1);
  release();
  await synced;
  await db.close();
  const again = await StateDb.open(path);
  const { state, position } = await again.load();
  t.equal(position.index, 3);
  t.same([...state.bench.keys()], ["k1", "k2", "k3"]);
  await again.close();
});
