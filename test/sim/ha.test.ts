import t from "tap";
import { HA_MUTATIONS } from "./ha-mutations.ts";
import { runHaSeed } from "./ha.ts";

// A longer run: npm run sim -- --scenario ha --seed S --seeds N
const FIRST_SEED = Number(process.env["ROOST_SEED"] ?? 1);
const SEEDS = Number(process.env["ROOST_SEEDS"] ?? 300);

t.setTimeout(600_000);
t.test("no history runs a VM twice, and all of them heal", async (t) => {
  t.comment(`seeds ${FIRST_SEED} to ${FIRST_SEED + SEEDS - 1}`);
  let expiries = 0;
  let starts = 0;
  let migrations = 0;
  let resets = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const result = runHaSeed(seed);
    if (!result.ok) t.fail(`seed ${seed}: ${result.detail}`);
    expiries += result.expiries;
    starts += result.starts;
    migrations += result.migrations;
    resets += result.resets;
  }
  // Histories in which nothing failed over would prove nothing.
  t.ok(expiries > SEEDS, `${expiries} expiries`);
  t.ok(starts > 10 * SEEDS, `${starts} starts`);
  t.ok(migrations > 2 * SEEDS, `${migrations} migrations`);
  t.ok(resets > SEEDS / 10, `${resets} guardian resets`);
});

t.test("the same seed is the same history", async (t) => {
  t.strictSame(runHaSeed(7), runHaSeed(7));
});

/** The seed that found it last is tried first; a change of the product may have moved it. */
const PATIENCE = 400;

for (const { name, takes, seed: first } of HA_MUTATIONS) {
  t.test(`some seed notices that it lacks ${takes}`, async (t) => {
    let seed: number = first;
    let result = runHaSeed(seed, name);
    while (result.ok && seed < first + PATIENCE) result = runHaSeed(++seed, name);
    t.notOk(result.ok, `${name}: seed ${seed}: ${result.detail}`);
    if (seed !== first) t.comment(`seed ${seed} finds ${name} now, not ${first}`);
  });
}
