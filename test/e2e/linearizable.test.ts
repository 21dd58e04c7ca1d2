/** What real clients of a real cluster are told fits one order, whatever happens to its nodes; and the judge would see it if not. */
import { join } from "node:path";
import { rm } from "node:fs/promises";
import t from "tap";
import { Lab } from "../../scripts/lab/lab.ts";
import { consistencyLab, runConsistency } from "../support/consistency.ts";
import { labRefused } from "../support/lab.ts";

const seed = Number(process.env["ROOST_SEED"] ?? Date.now() % 1_000_000);
const seconds = Number(process.env["ROOST_SECONDS"] ?? 20);
const nodes = Number(process.env["ROOST_NODES"] ?? 3);
console.log(`# seed ${seed}`);

t.setTimeout((seconds + 240) * 1_000);
t.test(`${nodes} nodes`, { skip: await labRefused() }, async (t) => {
  const base = join("/tmp", `roost-e2e-linear-${process.pid}`);
  t.teardown(async () => {
    await Lab.downAt(base);
    await rm(base, { recursive: true, force: true });
  });
  const lab = await consistencyLab(base, nodes);
  const say = (line: string): void => t.comment(line);

  await t.test(`${seconds} s of faults`, async (t) => {
    const result = await runConsistency(lab, { seed, seconds, faults: true, staleReads: false, say });
    t.comment(`${result.done} operations, ${result.unknown} with an unknown end, ${result.faults.length} faults`);
    t.ok(result.done > seconds * 10, "clients were served");
    t.ok(result.faults.length > seconds / 10, "things broke");
    t.same(result.verdict, { ok: true, bad: null });
  });

  await t.test("stale reads that call themselves linearizable are found", async (t) => {
    const { verdict, done } = await runConsistency(lab, { seed, seconds: 4, faults: false, staleReads: true, say });
    t.ok(done > 40);
    t.notOk(verdict.ok);
  });
});
