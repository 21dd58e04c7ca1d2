/** A short run of the simulation, and proof that it sees: with a rule broken, a seed that holds otherwise finds it. */
import t from "tap";
import { MUTATIONS } from "./core-mutations.ts";
import { simulateCore } from "./core.ts";

const first = Number(process.env["ROOST_SEED"] ?? 1);
const seeds = Number(process.env["ROOST_SEEDS"] ?? 40);
console.log(`# seed ${first}`);

t.setTimeout(600_000);
t.test(`${seeds} seeds hold`, async (t) => {
  let applied = 0;
  for (let seed = first; seed < first + seeds; seed++) {
    try {
      applied += simulateCore(seed).applied;
    } catch (error) {
      t.fail(`seed ${seed}: ${String(error)}`);
    }
  }
  t.ok(applied > seeds * 100, `${applied} entries were applied`);
});

t.test("the same seed runs the same", async (t) => {
  t.strictSame(simulateCore(first), simulateCore(first));
});

for (const mutation of MUTATIONS) {
  t.test(`found: ${mutation.name}`, async (t) => {
    simulateCore(mutation.seed);
    const repair = mutation.break?.() ?? ((): void => undefined);
    try {
      simulateCore(mutation.seed, mutation.faults);
      t.fail(`seed ${mutation.seed} does not find it any more`);
    } catch (error) {
      t.pass(`seed ${mutation.seed}: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      repair();
    }
  });
}
