/** A short run of the simulation, and proof that it sees: every broken rule is found within a few seeds. */
import t from "tap";
import { MUTATIONS } from "./core-mutations.ts";
import { simulateCore } from "./core.ts";

const first = Number(process.env["ROOST_SEED"] ?? 1);
const seeds = Number(process.env["ROOST_SEEDS"] ?? 40);
/** A mutation that is not found by then is not found. */
const PATIENCE = 250;
console.log(`# seed ${first}`);

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

/** Seeds that hold when nothing is broken: only what fails there was caused by the mutation. */
const sound = new Map<number, boolean>();
function holds(seed: number): boolean {
  let result = sound.get(seed);
  if (result === undefined) {
    try {
      simulateCore(seed);
      result = true;
    } catch {
      result = false;
    }
    sound.set(seed, result);
  }
  return result;
}

for (const mutation of MUTATIONS) {
  t.test(`found: ${mutation.name}`, async (t) => {
    let repair = (): void => undefined;
    let found: string | null = null;
    try {
      for (let seed = first; seed < first + PATIENCE && found === null; seed++) {
        try {
          repair = mutation.break?.() ?? repair;
          simulateCore(seed, mutation.faults);
          repair();
        } catch (error) {
          repair();
          if (holds(seed)) found = `seed ${seed}: ${error instanceof Error ? error.message : String(error)}`;
        }
      }
    } finally {
      repair();
    }
    t.ok(found !== null, found ?? `not found in ${PATIENCE} seeds`);
  });
}
