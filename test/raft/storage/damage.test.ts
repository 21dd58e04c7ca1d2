/**
 * Damage of every kind to both databases of a node, as files: whatever happened to them, what is read is what was written, or
 * it is refused with where and what to do. A torn end is cut without a word only where nobody was promised it.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import t, { type Test } from "tap";
import { type Fault, RoostError } from "../../../src/base/errors.ts";
import { seededRandom } from "../../../src/base/random.ts";
import { alignLog } from "../../../src/cluster/consensus/open-log.ts";
import { StateDb } from "../../../src/cluster/state-db.ts";
import { firstMembership } from "../../../src/model/membership.ts";
import type { Entry } from "../../../src/raft/core/types.ts";
import { LevelLog } from "../../../src/raft/storage/level.ts";
import { apply } from "../../../src/state/apply.ts";
import { decodeEnvelope } from "../../../src/state/codec.ts";
import type { Position } from "../../../src/state/state.ts";
import { checkpointText, CommandLog } from "../../state/log.ts";

const seed = Number(process.env["ROOST_SEED"] ?? Date.now() % 1_000_000);
console.log(`# seed ${seed}`);
const random = seededRandom(seed);
const at = (index: number): Position => ({ index, term: 1, membership: firstMembership(1) });

/** The state's folder, closed; rows in sorted tables as well as in the journal. */
async function stateFolder(path: string): Promise<CommandLog> {
  const log = CommandLog.withNodes(2);
  log.running("v", "n2");
  const db = await StateDb.open(path);
  const { state } = await db.load();
  const write = async (): Promise<void> => {
    for (const entry of log.entries.filter(({ index }) => index > state.index)) {
      db.write(apply(state, decodeEnvelope(entry.data), entry).changes, at(entry.index));
    }
    await db.sync(at(log.state.index));
  };
  for (let i = 0; i < 40; i++) log.ok({ type: "token.create", id: `t${i}`, secretHash: "x".repeat(500), ttlMs: 1, uses: 1 });
  await write();
  await db.close();
  // Opened again LevelDB sorts its journal into a table; what follows is in a new journal, deletions too.
  const again = await StateDb.open(path);
  const loaded = await again.load();
  // More than one of its blocks of 32 KiB: of a damaged one LevelDB skips the rest, and reads on in the next without a word.
  for (let i = 0; i < 20; i++) {
    log.ok({ type: "token.create", id: `u${i}`, secretHash: "y".repeat(6_000), ttlMs: 1, uses: 1 });
    log.ok({ type: "token.revoke", id: `t${i}` });
  }
  for (const entry of log.entries.filter(({ index }) => index > loaded.state.index)) {
    again.write(apply(loaded.state, decodeEnvelope(entry.data), entry).changes, at(entry.index));
    await again.sync(at(entry.index));
  }
  await again.close();
  return log;
}

function entries(from: number, to: number): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => ({
    term: 1,
    index: from + i,
    kind: "normal" as const,
    data: new Uint8Array(200).fill(from + i),
  }));
}

async function logFolder(path: string, owner = "n1"): Promise<void> {
  let log = await LevelLog.open(path, { owner, bootstrap: { index: 1, term: 1, confState: firstMembership(1) } });
  for (let i = 2; i <= 20; i++)
    await log.append({ entries: entries(i, i), hardState: { term: 1, vote: 1, commit: i - 1 }, checkpoint: null }, true);
  await log.close();
  log = await LevelLog.open(path, { owner });
  for (let i = 21; i <= 40; i++)
    await log.append({ entries: entries(i, i), hardState: { term: 1, vote: 1, commit: i - 1 }, checkpoint: null }, true);
  await log.close();
}

/** Null: opened, with everything as it was. */
async function stateFault(path: string, expected: string, indexAtLeast: number): Promise<RoostError | null> {
  let db: StateDb | null = null;
  try {
    db = await StateDb.open(path);
    const { state, position } = await db.load();
    if (position.index < indexAtLeast) throw new Error(`the state went back to ${position.index} of ${indexAtLeast}`);
    if (position.index === indexAtLeast && checkpointText(state) !== expected) throw new Error("the state is not what was written");
    return null;
  } catch (thrown) {
    if (thrown instanceof RoostError) return thrown;
    throw thrown;
  } finally {
    await db?.close();
  }
}

async function logFault(path: string, owner = "n1"): Promise<RoostError | null> {
  try {
    const log = await LevelLog.open(path, { owner });
    const found = [log.lastIndex(), log.initialState().hardState.vote];
    await log.close();
    if (found.join() !== "40,1") throw new Error(`the log is not what was written: ${found.join()}`);
    return null;
  } catch (thrown) {
    if (thrown instanceof RoostError) return thrown;
    throw thrown;
  }
}

/** Sorted tables are looked at in processes of their own, which take time. */
const flipsOf = (name: string): number => (name.endsWith(".ldb") ? 5 : 25);
const DATA_FILE = /\.(log|ldb)$|^MANIFEST|^CURRENT$/;
const copyTo = (from: string, to: string): string => {
  cpSync(from, to, { recursive: true });
  if (existsSync(`${from}.acked`)) cpSync(`${from}.acked`, `${to}.acked`);
  return to;
};

function saysWhatToDo(t: Test, error: RoostError | null, path: string, what: string): void {
  if (error === null) {
    t.fail(`${what}: was opened`);
    return;
  }
  if (!error.message.includes(path) || error.hint === undefined) t.fail(`${what}: ${error.message} (${error.hint})`);
}

/**
 * The same in a process of its own: LevelDB ends the process with an assertion for some damage to its sorted tables, whose
 * checksums it does not look at. That is no reading as truth; but it does not say what to do.
 */
function faultElsewhere(kind: "state" | "log", path: string): RoostError | null {
  const code = `
    const { LevelLog } = await import(${JSON.stringify(join(import.meta.dirname, "../../../src/raft/storage/level.ts"))});
    const { StateDb } = await import(${JSON.stringify(join(import.meta.dirname, "../../../src/cluster/state-db.ts"))});
    const path = ${JSON.stringify(path)};
    let db;
    try {
      if (${JSON.stringify(kind)} === "log") { const log = await LevelLog.open(path, { owner: "n1" }); console.log("OPENED " + log.lastIndex() + "," + log.initialState().hardState.vote); await log.close(); }
      else { db = await StateDb.open(path); const { position } = await db.load(); console.log("OPENED " + position.index); await db.close(); }
    } catch (error) {
      console.log("REFUSED " + JSON.stringify({ fault: error.fault, hint: error.hint, message: error.message }));
    }
  `;
  const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "--eval", code], { encoding: "utf8" });
  if (status !== 0 && !/Assertion/.test(stderr)) throw new Error(stderr);
  if (status !== 0) return new RoostError({ kind: "damaged", what: path }, "LevelDB has ended the process by itself");
  if (stdout.startsWith("OPENED")) return null;
  const { fault, hint } = JSON.parse(stdout.slice("REFUSED ".length)) as { fault: Fault; hint?: string };
  return new RoostError(fault, hint);
}

/** Flips bits in copies of each data file, one at a time; `faultOf` opens the copy and says how it was refused, or null. */
async function flipBits(t: Test, good: string, faultOf: (path: string, name: string) => Promise<RoostError | null>): Promise<void> {
  let refused = 0;
  for (const name of readdirSync(good).filter((one) => DATA_FILE.test(one))) {
    const bytes = readFileSync(join(good, name));
    for (let i = 0; i < flipsOf(name); i++) {
      const path = copyTo(good, join(dirname(good), `flip-${name}-${i}`));
      const bad = Buffer.from(bytes);
      const place = random.below(bad.length);
      bad[place] = bad[place]! ^ (1 << random.below(8));
      writeFileSync(join(path, name), bad);
      const error = await faultOf(path, name);
      if (error !== null) {
        refused++;
        saysWhatToDo(t, error, path, `${name} byte ${place}`);
      }
      rmSync(path, { recursive: true });
    }
  }
  t.ok(refused > 5, `${refused} refused`);
}

t.test("bits of any file of the state: refused, or read as it was", async (t) => {
  const good = join(t.testdir(), "good");
  const log = await stateFolder(good);
  const expected = checkpointText(log.state);
  await flipBits(t, good, async (path, name) =>
    // The journal's end may go: the Raft log has it. What must not be is an index with other rows than that index had.
    name.endsWith(".ldb") ? faultElsewhere("state", path) : await stateFault(path, expected, name.endsWith(".log") ? 0 : log.state.index),
  );
});

t.test("bits of any file of the log: refused, or read as it was", async (t) => {
  const good = join(t.testdir(), "good");
  await logFolder(good);
  await flipBits(t, good, async (path, name) => (name.endsWith(".ldb") ? faultElsewhere("log", path) : await logFault(path)));
});

t.test("files that are gone", async (t) => {
  const dir = t.testdir();
  const [state, raft] = [join(dir, "state"), join(dir, "raft")];
  const log = await stateFolder(state);
  await logFolder(raft);
  for (const name of readdirSync(raft).filter((one) => DATA_FILE.test(one))) {
    const path = copyTo(raft, join(dir, `raft-without-${name}`));
    rmSync(join(path, name));
    saysWhatToDo(t, await logFault(path), path, name);
  }
  for (const name of readdirSync(state).filter((one) => DATA_FILE.test(one) && !one.endsWith(".log"))) {
    const path = copyTo(state, join(dir, `state-without-${name}`));
    rmSync(join(path, name));
    const error = await stateFault(path, checkpointText(log.state), 0);
    // Without its list of files LevelDB begins an empty database: the log then says that there must be more.
    if (error !== null) saysWhatToDo(t, error, path, name);
    else t.match(name, /^MANIFEST|^CURRENT/);
  }
  const gone = copyTo(raft, join(dir, "raft-gone"));
  rmSync(gone, { recursive: true });
  saysWhatToDo(t, await logFault(gone), gone, "the whole folder");
});

t.test("a state that lags behind the beginning of its log, or is of another node's log, is refused", async (t) => {
  const path = join(t.testdir(), "raft");
  await logFolder(path);
  const log = await LevelLog.open(path);
  await log.saveCheckpoint(30, firstMembership(1));
  await log.compact(30);
  t.match(await alignLog(log, at(20)).catch((error: unknown) => error), {
    fault: { kind: "damaged", what: /state at index 20 of term 1, log from 31 to 40/ },
    hint: /move the data folder away/,
  });
  t.match(await alignLog(log, { ...at(35), term: 9 }).catch((error: unknown) => error), { fault: { kind: "damaged" } });
  await alignLog(log, at(35));
  await log.close();
});

t.test("swapped folders: a log of another node is refused, its votes are not this one's", async (t) => {
  const dir = t.testdir();
  await logFolder(join(dir, "a"), "n1");
  await logFolder(join(dir, "b"), "n2");
  renameSync(join(dir, "a"), join(dir, "x"));
  renameSync(join(dir, "b"), join(dir, "a"));
  const error = await logFault(join(dir, "a"), "n1");
  t.match(error, { fault: { kind: "damaged", what: /it is of node n2, this is n1/ } });
  saysWhatToDo(t, error, join(dir, "a"), basename(dir));
  t.equal(await logFault(join(dir, "a"), "n2"), null);
});

t.test("a torn end: cut without a word where it was promised to nobody, refused where it was", async (t) => {
  const dir = t.testdir();
  const good = join(dir, "good");
  await logFolder(good);
  const journal = readdirSync(good).find((name) => name.endsWith(".log"))!;
  const size = readFileSync(join(good, journal)).length;
  for (let i = 0; i < 30; i++) {
    const path = copyTo(good, join(dir, `torn-${i}`));
    truncateSync(join(path, journal), random.below(size));
    // Acknowledged: the mark beside the log says so.
    saysWhatToDo(t, await logFault(path), path, "acknowledged");
    // Not acknowledged: as a crash in the middle of a write leaves it.
    rmSync(`${path}.acked`);
    const log = await LevelLog.open(path, { owner: "n1" });
    const last = log.lastIndex();
    t.ok(last >= 20 && last < 41);
    for (let index = 21; index <= last; index++) {
      const [entry] = log.entries(index, index + 1, Infinity) as Entry[];
      if (entry?.data[0] !== index) t.fail(`entry ${index} is another`);
    }
    await log.close();
  }
});
