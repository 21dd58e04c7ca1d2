import { availableParallelism } from "node:os";
import t from "tap";
import { cases } from "./cases.ts";
import { entries, runAll } from "./matrix.ts";

// Other seeds, or one case alone: npm run faults -- --seed S --only TEXT
const SEED = Number(process.env["ROOST_SEED"] ?? 1);

t.setTimeout(600_000);
t.test("every fault at every moment of every task: it goes on or back, nothing is left over, and the same request succeeds", async (t) => {
  t.comment(`seed ${SEED}`);
  const all = await entries(SEED);
  const passed = new Map<string, number>();
  await runAll(SEED, all, Math.min(2, availableParallelism()), ({ text, problem }) => {
    const action = text.slice(0, text.indexOf(":"));
    if (problem === null) passed.set(action, (passed.get(action) ?? 0) + 1);
    else t.fail(`${text}: ${problem}`);
  });
  for (const { action, disks } of cases()) {
    const name = `${action} (${disks} disks)`;
    const wanted = all.filter(({ text }) => text.startsWith(`${name}:`)).length;
    t.ok(wanted >= 40, `${wanted} faults of ${name}`);
    t.equal(passed.get(name), wanted, name);
  }
});
