/** The state in slices for others, and the file that they come in. */
import { appendFile, mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { StateDb } from "../../src/cluster/state-db.ts";
import { firstMembership } from "../../src/model/membership.ts";
import { checkpointInbox, readCheckpointFile } from "../../src/raft/transport/checkpoint-file.ts";
import { apply } from "../../src/state/apply.ts";
import { decodeCheckpointHead, decodeCheckpointRows, decodeEnvelope } from "../../src/state/codec.ts";
import { type Position, type RowChange, State } from "../../src/state/state.ts";
import { checkpointText, CommandLog } from "../state/log.ts";

const seed = Number(process.env["ROOST_SEED"] ?? Date.now() % 1_000_000);
console.log(`# seed ${seed}`);

const root = await mkdtemp(join(tmpdir(), "roost-frozen-"));
t.teardown(() => rm(root, { recursive: true, force: true }));
let folders = 0;
const folder = (): string => join(root, `${++folders}`);
const at = (index: number): Position => ({ index, term: 1, membership: firstMembership(1) });

/** So many tokens of about 2 KiB: several chunks. */
function longLog(tokens: number): CommandLog {
  const log = CommandLog.withNodes(2);
  log.running("v", "n2");
  for (let i = 0; i < tokens; i++) log.ok({ type: "token.create", id: `t${i}`, secretHash: "x".repeat(2_000), ttlMs: 1, uses: 1 });
  return log;
}

function play(db: StateDb, state: State, log: CommandLog): void {
  for (const entry of log.entries.filter(({ index }) => index > state.index)) {
    db.write(apply(state, decodeEnvelope(entry.data), entry).changes, at(entry.index));
  }
}

async function opened(log: CommandLog): Promise<{ db: StateDb; state: State; path: string }> {
  const path = folder();
  const db = await StateDb.open(path);
  const { state } = await db.load();
  play(db, state, log);
  return { db, state, path };
}

async function* slicesOf(path: string, state: State): AsyncGenerator<RowChange[]> {
  let first = true;
  for await (const chunk of readCheckpointFile(path)) {
    if (first) {
      first = false;
      continue;
    }
    const rows = decodeCheckpointRows(chunk);
    for (const row of rows) state.write(row);
    yield rows;
  }
}

t.test("what was frozen is read as it was, whatever is written meanwhile, and any chunk again", async (t) => {
  const log = longLog(400);
  const { db, state } = await opened(log);
  const frozen = await db.freeze();
  const text = checkpointText(log.state);
  const index = log.state.index;

  const chunks: Uint8Array[] = [];
  for (let number = 0; ; number++) {
    const chunk = await frozen.chunk(number);
    if (chunk === null) break;
    chunks.push(chunk.bytes);
    // The state goes on between any two slices.
    log.ok({ type: "token.revoke", id: `t${number}` });
    play(db, state, log);
    await db.sync(at(log.state.index));
  }
  t.ok(chunks.length >= 4, `${chunks.length} chunks`);
  t.same(decodeCheckpointHead(chunks[0]!), at(index));
  const rebuilt = new State();
  for (const chunk of chunks.slice(1)) for (const row of decodeCheckpointRows(chunk)) rebuilt.write(row);
  rebuilt.index = index;
  rebuilt.term = 1;
  t.equal(checkpointText(rebuilt), text);
  t.ok(rebuilt.tokens.has("t0") && !log.state.tokens.has("t0"));
  const again = await frozen.chunk(2);
  t.same(again?.bytes, chunks[2], "the same bytes");
  await frozen.close();
  t.match(await frozen.chunk(1).catch((error: unknown) => error), { fault: { kind: "unavailable" } });
  await db.close();
});

t.test("a row that is not what was written does not spread", async (t) => {
  const { db, path } = await opened(longLog(3));
  await db.sync(at(1_000));
  await db.close();
  const raw = new Level<string, string>(path);
  await raw.put("a!14!t1", (await raw.get("a!14!t1"))!.replace("x", "y"));
  await raw.close();
  const again = await StateDb.open(path);
  const frozen = await again.freeze();
  await frozen.chunk(0);
  t.match(await frozen.chunk(1).catch((error: unknown) => error), {
    fault: { kind: "damaged" },
    message: /14!t1/,
    hint: /move the data folder/,
  });
  await frozen.close();
  await again.close();
});

t.test("received, broken off, gone on with after a restart, taken over", async (t) => {
  const log = longLog(600);
  const { db } = await opened(log);
  const frozen = await db.freeze();
  const inboxPath = folder();
  let partial = await checkpointInbox(inboxPath).open("one");
  for (let number = 0; ; number++) {
    const chunk = await frozen.chunk(number);
    if (chunk === null) break;
    await partial.append(chunk);
    if (number !== 2) continue;
    t.match(await partial.append(chunk).catch((error: unknown) => error), { fault: { kind: "damaged" } }, "a chunk twice");
    await partial.close();
    // What the last write left of a fourth chunk is not one.
    await appendFile(join(inboxPath, "one.part"), Buffer.alloc(100, 7));
    partial = await checkpointInbox(inboxPath).open("one");
    t.equal(partial.chunks, 3);
  }
  t.match(await partial.finish(partial.crc ^ 1).catch((error: unknown) => error), { fault: { kind: "damaged" } }, "another checksum");
  const path = await partial.finish(partial.crc);
  t.same(await readdir(inboxPath), ["one"]);
  await frozen.close();

  const other = await opened(longLog(20));
  const state = new State();
  let taken = false;
  await other.db.replace(at(log.state.index), slicesOf(path, state), () => {
    taken = true;
  });
  t.ok(taken);
  await other.db.close();
  const loaded = await (await StateDb.open(other.path)).load();
  t.equal(checkpointText(loaded.state), checkpointText(log.state));
  await checkpointInbox(inboxPath).open("two");
  t.same(await readdir(inboxPath), ["two.part"], "what is not needed any more is deleted");
  await db.close();
});

t.test("a checkpoint's file with any bit changed, or cut anywhere, is refused", async (t) => {
  const { db } = await opened(longLog(3));
  const frozen = await db.freeze();
  const inboxPath = folder();
  const partial = await checkpointInbox(inboxPath).open("c");
  for (let number = 0; ; number++) {
    const chunk = await frozen.chunk(number);
    if (chunk === null) break;
    await partial.append(chunk);
  }
  const path = await partial.finish(partial.crc);
  await db.close();
  const read = async (): Promise<unknown> => {
    try {
      for await (const _chunk of readCheckpointFile(path));
    } catch (thrown) {
      return thrown;
    }
    return null;
  };
  t.equal(await read(), null);
  const good = await readFile(path);
  const random = seededRandom(seed);
  for (let i = 0; i < 200; i++) {
    const bad = Buffer.from(good);
    const place = random.below(good.length);
    bad[place] = bad[place]! ^ (1 << random.below(8));
    await writeFile(path, bad);
    const error = await read();
    // The end mark's own checksum says nothing that the last chunk's did not: but it, too, is looked at.
    if ((error as { fault?: { kind: string } } | null)?.fault?.kind !== "damaged") t.fail(`byte ${place} of ${good.length}`);
  }
  for (let i = 0; i < 50; i++) {
    await writeFile(path, good);
    const length = random.below(good.length);
    await truncate(path, length);
    if (((await read()) as { fault?: { kind: string } } | null)?.fault?.kind !== "damaged") t.fail(`cut at ${length} of ${good.length}`);
  }
  t.pass("200 flips, 50 cuts");
});

t.test("a replacement that ends anywhere leaves the old state or the new one", async (t) => {
  const before = longLog(30);
  const after = longLog(60);
  const rows = [...after.state.rows()];
  for (const stopAfter of [0, 1, 40, rows.length]) {
    const { db, path } = await opened(before);
    await db.sync(at(before.state.index));
    const slices = async function* (): AsyncGenerator<RowChange[]> {
      for (const [i, row] of rows.entries()) {
        if (i === stopAfter) throw new Error("the process dies here");
        yield [row];
      }
      if (stopAfter === rows.length) throw new Error("or here");
    };
    t.match(await db.replace(at(after.state.index), slices(), () => t.fail("not whole")).catch(String), /here/);
    // Goes on with the old one, and a second attempt does not trip over what the first has left.
    before.ok({ type: "token.create", id: `more-${stopAfter}`, secretHash: "", ttlMs: 1, uses: 1 });
    await db.close();
    let again = await StateDb.open(path);
    const loaded = await again.load();
    play(again, loaded.state, before);
    await again.sync(at(before.state.index));
    await again.close();
    again = await StateDb.open(path);
    t.equal(checkpointText((await again.load()).state), checkpointText(before.state), `stopped after ${stopAfter} rows`);
    const whole = async function* (): AsyncGenerator<RowChange[]> {
      yield rows;
    };
    await again.replace(at(after.state.index), whole(), () => {});
    await again.close();
    again = await StateDb.open(path);
    t.equal(checkpointText((await again.load()).state), checkpointText(after.state));
    await again.close();
  }
});

t.test("a whole file needs its end mark to be read: one that is still being written is none", async (t) => {
  const path = folder();
  const file = await open(path, "w");
  await file.close();
  const error = await readCheckpointFile(path)
    .next()
    .catch((thrown: unknown) => thrown);
  t.match(error, { fault: { kind: "damaged" }, message: new RegExp(path) });
});
