/** Proof that the simulation sees: with a rule broken, a seed finds it that raft.test.ts shows to hold otherwise. */
import t from "tap";
import { MUTATIONS, runBroken } from "./mutations.ts";

/** The seed that found it last is tried first; a change of the product may have moved it. */
const PATIENCE = 250;

t.setTimeout(600_000);
for (const mutation of MUTATIONS) {
  t.test(`found: ${mutation.name}`, async (t) => {
    let found: string | null = null;
    let seed = mutation.seed;
    for (let i = 0; i < PATIENCE && found === null; i++) {
      seed = mutation.seed + i;
      found = await runBroken(mutation, seed);
    }
    t.not(found, null, found ?? `not found in ${PATIENCE} seeds`);
    if (seed !== mutation.seed) t.comment(`seed ${seed} finds it now, not ${mutation.seed}`);
  });
}
