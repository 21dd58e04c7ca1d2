import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { RunLog, type RunLogOptions } from "../../src/agent/run-log.ts";
import type { RunRecord } from "../../src/agent/run-records.ts";
import { silentLogger } from "../../src/base/log.ts";

const record = (generation: number): RunRecord => ({
  op: "begin",
  vmId: "v",
  generation,
  bootId: "b",
  bootMs: generation,
  wallMs: generation,
});
const generations = (records: RunRecord[]): (number | string)[] => records.map((one) => ("generation" in one ? one.generation : one.op));

function setUp(t: { teardown(end: () => void): void }, more: Partial<RunLogOptions> = {}): { path: string; open: () => RunLog } {
  const folder = mkdtempSync(join(tmpdir(), "roost-runs-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "runs", "agent.log");
  return { path, open: () => new RunLog({ path, log: silentLogger, ...more }) };
}

await t.test("what is synced is in the file, in order, and a new log goes on with it", async (t) => {
  const { path, open } = setUp(t);
  const log = open();
  log.note(record(1));
  await Promise.all([log.sync(record(2)), log.sync(record(3))]);
  t.equal(
    readFileSync(path, "utf8")
      .split("\n")
      .filter((line) => line !== "").length,
    3,
  );
  await log.close();
  const next = open();
  await next.sync(record(4));
  t.same(generations(await next.read()), [1, 2, 3, 4]);
  await next.close();
});

await t.test("a line that a crash cut short costs itself alone", async (t) => {
  const { path, open } = setUp(t);
  const log = open();
  await log.sync(record(1));
  await log.close();
  writeFileSync(path, '{"op":"begin","vm', { flag: "a" });
  const next = open();
  await next.sync(record(2));
  t.same(generations(await next.read()), [1, 2]);
  await next.close();
});

await t.test("the older half goes, what still runs is carried over", async (t) => {
  const { open } = setUp(t, { maxBytes: 200, carryOver: () => [record(1)] });
  const log = open();
  for (let generation = 1; generation <= 12; generation++) await log.sync(record(generation));
  const kept = generations(await log.read());
  t.ok(kept.length < 12, `${kept.join(" ")} are kept`);
  t.equal(kept.at(-1), 12);
  t.ok(kept.includes(1), "the run that is not over");
  await log.close();
});

await t.test("a disk that refuses keeps nobody waiting, and what is lost is counted", async (t) => {
  const { path, open } = setUp(t);
  // A file where the folder should be.
  writeFileSync(join(path, "..", "..", "runs"), "");
  const log = open();
  await log.sync(record(1));
  rmSync(join(path, ".."));
  await log.sync(record(2));
  t.same(await log.read(), [record(2), { op: "lost", count: 1, bootId: "b", bootMs: 2, wallMs: 2 }]);
  await log.close();
});
