import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Level } from "level";
import { seededRandom } from "../../../src/base/random.ts";
import { RoostError } from "../../../src/base/errors.ts";
import type { ConfState, Entry, HardState } from "../../../src/raft/core/types.ts";
import { LevelLog } from "../../../src/raft/storage/level.ts";
import { MemoryLog } from "../../../src/raft/storage/memory.ts";
import { recordKey, STATE_KEY } from "../../../src/raft/storage/records.ts";

const seed = Number(process.env["ROOST_SEED"] ?? Date.now() % 1_000_000);
console.log(`# seed ${seed}`);

const peers: ConfState = { voters: [1, 2, 3], outgoing: [], learners: [], learnersNext: [], autoLeave: false };

function entry(term: number, index: number, text = `${term}/${index}`): Entry {
  return { term, index, kind: "normal", data: new TextEncoder().encode(text) };
}

function run(term: number, from: number, to: number): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => entry(term, from + i));
}

function all(log: LevelLog | MemoryLog): string[] {
  const found = log.lastIndex() < log.firstIndex() ? [] : log.entries(log.firstIndex(), log.lastIndex() + 1, Infinity);
  if (typeof found === "string") throw new Error(found);
  return found.map(({ term, index, kind, data }) => `${term}/${index} ${kind} ${new TextDecoder().decode(data)}`);
}

async function put(log: LevelLog, entries: Entry[], hardState: HardState | null = null): Promise<void> {
  await log.append({ entries, hardState, checkpoint: null }, true);
}

async function refused(t: Test, path: string, pattern: RegExp): Promise<void> {
  try {
    const log = await LevelLog.open(path);
    await log.close();
    t.fail("a damaged log was opened");
  } catch (error) {
    if (!(error instanceof RoostError)) throw error;
    t.equal(error.fault.kind, "damaged");
    t.match(error.message, pattern);
    t.match(error.hint, /remove the node|restore a backup/, "says what to do");
    t.match(error.message, path, "says where");
  }
}

async function faultOf(promise: Promise<unknown>): Promise<RoostError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof RoostError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

t.test("a new log is empty, or begins with the bootstrap", async (t) => {
  const dir = t.testdir();
  const empty = await LevelLog.open(join(dir, "a"));
  t.strictSame([empty.firstIndex(), empty.lastIndex(), empty.term(0), empty.checkpoint()], [1, 0, 0, null]);
  await empty.close();
  const bootstrap = { index: 1, term: 1, confState: peers };
  const first = await LevelLog.open(join(dir, "b"), { bootstrap });
  t.strictSame([first.firstIndex(), first.lastIndex(), first.term(1)], [2, 1, 1]);
  t.strictSame(first.initialState(), { hardState: { term: 1, vote: 0, commit: 1 }, confState: peers });
  await put(first, run(1, 2, 3), { term: 1, vote: 1, commit: 2 });
  await first.close();
  const again = await LevelLog.open(join(dir, "b"), { bootstrap: { index: 9, term: 9, confState: peers } });
  t.strictSame([again.firstIndex(), again.lastIndex()], [2, 3], "the bootstrap of an existing log is ignored");
  await again.close();
});

t.test("entries, hard state and replaced tails survive a restart", async (t) => {
  const path = join(t.testdir(), "log");
  let log = await LevelLog.open(path);
  await put(log, run(1, 1, 5), { term: 1, vote: 2, commit: 3 });
  await put(log, run(2, 4, 4), { term: 2, vote: 0, commit: 3 });
  await put(log, run(2, 5, 5));
  await log.close();
  log = await LevelLog.open(path);
  t.strictSame(all(log), ["1/1 normal 1/1", "1/2 normal 1/2", "1/3 normal 1/3", "2/4 normal 2/4", "2/5 normal 2/5"]);
  t.strictSame(log.initialState().hardState, { term: 2, vote: 0, commit: 3 });
  t.strictSame([log.term(4), log.term(6), log.entries(6, 6, 0)], [2, "unavailable", []]);
  await log.close();
});

t.test("calls during a write share the next one, in order", async (t) => {
  const path = join(t.testdir(), "log");
  let log = await LevelLog.open(path);
  const order: number[] = [];
  const writes = Array.from({ length: 50 }, (_, i) =>
    put(log, [entry(1, i + 1)], { term: 1, vote: 1, commit: i }).then(() => order.push(i)),
  );
  await Promise.all(writes);
  t.strictSame(
    order,
    [...order].toSorted((a, b) => a - b),
  );
  await log.close();
  log = await LevelLog.open(path);
  t.equal(log.lastIndex(), 50);
  t.equal(log.initialState().hardState.commit, 49, "the last hard state wins");
  await log.close();
});

t.test("compaction keeps what follows, also over a replaced tail", async (t) => {
  const path = join(t.testdir(), "log");
  let log = await LevelLog.open(path);
  await put(log, run(1, 1, 10));
  await put(log, run(2, 5, 7), { term: 2, vote: 1, commit: 7 });
  await log.saveCheckpoint(7, peers);
  await log.compact(7);
  t.strictSame([log.firstIndex(), log.lastIndex(), log.term(7), log.term(6)], [8, 7, 2, "compacted"]);
  await log.close();
  // The first record still holds 8 to 10 of term 1; only the second, whose entries are all compacted, cuts them off.
  log = await LevelLog.open(path);
  t.strictSame([log.firstIndex(), log.lastIndex(), log.term(7)], [8, 7, 2]);
  t.strictSame(log.checkpointMeta, { index: 7, term: 2, confState: peers });
  await put(log, run(2, 8, 20), { term: 2, vote: 1, commit: 20 });
  await log.saveCheckpoint(15, peers);
  await log.compact(12);
  await log.close();
  log = await LevelLog.open(path);
  t.strictSame([log.firstIndex(), log.lastIndex(), log.checkpointMeta.index], [13, 20, 15]);
  t.strictSame(log.checkpoint(), { index: 15, term: 2, confState: peers, data: new Uint8Array(0) });
  await log.close();
});

t.test("commit indexes that something rests on are kept, whatever is written after them", async (t) => {
  const path = join(t.testdir(), "log");
  let log = await LevelLog.open(path);
  await put(log, run(1, 1, 10), { term: 1, vote: 1, commit: 2 });
  await log.commitTo(5);
  await put(log, [], { term: 1, vote: 1, commit: 3 });
  await log.close();
  log = await LevelLog.open(path);
  t.equal(log.initialState().hardState.commit, 5);
  await log.saveCheckpoint(8, peers);
  await log.close();
  log = await LevelLog.open(path);
  t.equal(log.initialState().hardState.commit, 8, "a checkpoint is of what is committed");
  await log.close();
});

t.test("a checkpoint from the leader replaces everything", async (t) => {
  const path = join(t.testdir(), "log");
  let log = await LevelLog.open(path);
  await put(log, run(1, 1, 10), { term: 1, vote: 1, commit: 4 });
  const checkpoint = { index: 100, term: 3, confState: peers, data: new Uint8Array(5) };
  await Promise.all([
    log.append({ entries: [], hardState: { term: 3, vote: 0, commit: 100 }, checkpoint }, true),
    put(log, run(3, 101, 102)),
  ]);
  await log.close();
  log = await LevelLog.open(path);
  t.strictSame([log.firstIndex(), log.lastIndex(), log.term(100), log.checkpointMeta.index], [101, 102, 3, 100]);
  t.strictSame(log.initialState(), { hardState: { term: 3, vote: 0, commit: 100 }, confState: peers });
  await log.close();
});

t.test("random histories read back as a log in memory has them", async (t) => {
  const random = seededRandom(seed);
  const dir = t.testdir();
  for (let round = 0; round < 20; round++) {
    const path = join(dir, `log-${round}`);
    let log = await LevelLog.open(path);
    const model = new MemoryLog();
    let commit = 0;
    let term = 1;
    for (let i = 0; i < 40; i++) {
      const kind = random.below(10);
      if (kind < 6) {
        if (random.below(3) === 0) term++;
        const from = commit + 1 + random.below(model.lastIndex() - commit + 1);
        const entries = run(term, from, from + random.below(6));
        commit += random.below(entries.at(-1)!.index - commit + 1);
        model.append(entries);
        await put(log, entries, { term, vote: 1, commit });
      } else if (kind < 8 && commit > log.checkpointMeta.index) {
        await log.saveCheckpoint(commit, peers);
        const to = model.firstIndex() + random.below(commit - model.firstIndex() + 1);
        model.compact(to);
        await log.compact(to);
      } else if (kind === 8 && random.below(3) === 0) {
        const checkpoint = { index: model.lastIndex() + 1 + random.below(5), term, confState: peers, data: new Uint8Array(0) };
        model.applyCheckpoint(checkpoint);
        commit = checkpoint.index;
        await log.append({ entries: [], hardState: { term, vote: 1, commit }, checkpoint }, true);
      } else if (kind === 9) {
        await log.close();
        log = await LevelLog.open(path);
      }
      if (JSON.stringify(all(log)) !== JSON.stringify(all(model))) t.fail(`round ${round} step ${i}`);
      if (log.firstIndex() !== model.firstIndex() || log.term(log.firstIndex() - 1) !== model.term(model.firstIndex() - 1)) {
        t.fail(`round ${round} step ${i}: start`);
      }
    }
    await log.close();
  }
  t.pass("20 histories");
});

t.test("a killed process loses nothing that was acknowledged", async (t) => {
  const dir = t.testdir();
  const path = join(dir, "log");
  const log = await LevelLog.open(path);
  await put(log, run(1, 1, 3), { term: 1, vote: 1, commit: 1 });
  await put(log, run(1, 4, 6));
  // What the disk holds at this moment, without a close.
  cpSync(path, join(dir, "copy"), { recursive: true });
  await log.close();
  const copy = await LevelLog.open(join(dir, "copy"));
  t.equal(copy.lastIndex(), 6);
  await copy.close();
});

async function journalOf(path: string): Promise<string> {
  const log = await LevelLog.open(path);
  for (let i = 1; i <= 20; i++) await put(log, [entry(1, i, "x".repeat(200))], { term: 1, vote: 1, commit: i - 1 });
  await log.close();
  const journal = readdirSync(path).find((name) => name.endsWith(".log"))!;
  return join(path, journal);
}

t.test("a write that a crash cut short is as if it had not begun", async (t) => {
  const path = join(t.testdir(), "log");
  const journal = await journalOf(path);
  truncateSync(journal, readFileSync(journal).length - 50);
  // It was not acknowledged then: the file that says so is older.
  rmSync(`${path}.acked`);
  const log = await LevelLog.open(path);
  t.equal(log.lastIndex(), 19);
  await log.close();
});

t.test("a journal that has lost its end after it was acknowledged is refused", async (t) => {
  const path = join(t.testdir(), "log");
  const journal = await journalOf(path);
  truncateSync(journal, readFileSync(journal).length - 50);
  await refused(t, path, /acknowledged/);
});

t.test("a flipped bit anywhere in the journal is refused, never read as truth", async (t) => {
  const random = seededRandom(seed + 1);
  const dir = t.testdir();
  const path = join(dir, "log");
  const journal = await journalOf(path);
  const good = readFileSync(journal);
  const name = journal.slice(path.length + 1);
  for (let i = 0; i < 60; i++) {
    const copy = join(dir, `copy-${i}`);
    cpSync(path, copy, { recursive: true });
    cpSync(`${path}.acked`, `${copy}.acked`);
    const bad = Buffer.from(good);
    const at = random.below(bad.length);
    bad[at] = bad[at]! ^ (1 << random.below(8));
    writeFileSync(join(copy, name), bad);
    try {
      const log = await LevelLog.open(copy);
      // LevelDB itself may not look at every byte (e.g. of its file trailer); then nothing may be missing.
      t.equal(log.lastIndex(), 20, `bit at ${at} of ${bad.length}`);
      await log.close();
    } catch (error) {
      if (!(error instanceof RoostError) || error.fault.kind !== "damaged") throw error;
    }
    rmSync(copy, { recursive: true });
  }
  t.pass("60 flips");
});

t.test("records and marks that do not fit together are refused", async (t) => {
  const dir = t.testdir();
  const damage = async (name: string, change: (db: Level<Uint8Array, Uint8Array>) => Promise<void>, pattern: RegExp): Promise<void> => {
    const path = join(dir, name);
    await journalOf(path);
    const db = new Level<Uint8Array, Uint8Array>(path, { keyEncoding: "view", valueEncoding: "view" });
    await db.open();
    await change(db);
    await db.close();
    await refused(t, path, pattern);
  };
  await damage("lost record", (db) => db.del(recordKey(7)), /records 7 to 7 are missing/);
  await damage("lost end", (db) => db.del(recordKey(20)), /last record is 19, should be 20/);
  await damage("lost state", (db) => db.del(STATE_KEY), /hard state or one of its marks is missing/);
  await damage("all records lost", (db) => db.clear({ gte: recordKey(0), lte: recordKey(100) }), /last entry is 0, should be 20/);
  await damage("changed value", (db) => db.put(recordKey(3), new Uint8Array(40)), /record 3 \(its checksum is wrong\)/);
  await damage(
    "moved value",
    async (db) => {
      const value = await db.get(recordKey(4));
      await db.put(recordKey(3), value!);
    },
    /record 3 \(it belongs elsewhere\)/,
  );
  await damage("unknown key", (db) => db.put(Uint8Array.of(99), new Uint8Array(1)), /unknown kind 99/);
  const path = join(dir, "emptied");
  await journalOf(path);
  rmSync(path, { recursive: true });
  await refused(t, path, /empty, but was not before/);
});

t.test("two processes cannot share a log, and a closed one takes no writes", async (t) => {
  const path = join(t.testdir(), "log");
  const log = await LevelLog.open(path);
  const inUse = await faultOf(LevelLog.open(path));
  t.equal(inUse.fault.kind, "unavailable");
  t.match(inUse.hint, /another agent/);
  await log.close();
  t.equal((await faultOf(put(log, run(1, 1, 1)))).fault.kind, "unavailable");
});

t.test("a gap in what is appended is a bug, and poisons the log, but not the disk", async (t) => {
  const path = join(t.testdir(), "log");
  let log = await LevelLog.open(path);
  await put(log, run(1, 1, 2));
  await t.rejects(put(log, run(1, 4, 4)));
  await t.rejects(put(log, run(1, 3, 3)), "nothing more is written");
  await log.close();
  log = await LevelLog.open(path);
  t.equal(log.lastIndex(), 2);
  await log.close();
});
