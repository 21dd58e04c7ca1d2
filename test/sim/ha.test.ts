import t from "tap";
import { MUTATIONS, runHaSeed } from "./ha.ts";

// A longer run: npm run sim -- --scenario ha --seed S --seeds N
const FIRST_SEED = Number(process.env["ROOST_SEED"] ?? 1);
const SEEDS = Number(process.env["ROOST_SEEDS"] ?? 120);

t.setTimeout(600_000);
t.test("no history runs a VM twice, and all of them heal", async (t) => {
  t.comment(`seeds ${FIRST_SEED} to ${FIRST_SEED + SEEDS - 1}`);
  let expiries = 0;
  let starts = 0;
  let resets = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const result = runHaSeed(seed);
    if (!result.ok) t.fail(`seed ${seed}: ${result.detail}`);
    expiries += result.expiries;
    starts += result.starts;
    resets += result.resets;
  }
  // Histories in which nothing failed over would prove nothing.
  t.ok(expiries > SEEDS, `${expiries} expiries`);
  t.ok(starts > 10 * SEEDS, `${starts} starts`);
  t.ok(resets > SEEDS / 10, `${resets} guardian resets`);
});

t.test("the same seed is the same history", async (t) => {
  t.strictSame(runHaSeed(7), runHaSeed(7));
});

for (const mutation of MUTATIONS) {
  t.test(`without its guard some seed runs a VM twice: ${mutation}`, async (t) => {
    const limit = 400;
    for (let seed = 1; seed <= limit; seed++) {
      const result = runHaSeed(seed, mutation);
      if (result.ok) continue;
      t.pass(`seed ${seed}: ${result.detail}`);
      return;
    }
    t.fail(`none of ${limit} seeds caught it`);
  });
}
