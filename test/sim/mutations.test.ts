/** Proof that the simulation sees: with a rule broken, the seed that found it finds it again. raft.test.ts shows that these seeds hold otherwise. */
import t from "tap";
import { MUTATIONS, runBroken } from "./mutations.ts";

for (const mutation of MUTATIONS) {
  t.test(`found: ${mutation.name}`, async (t) => {
    const found = await runBroken(mutation, mutation.seed);
    t.not(found, null, found ?? `seed ${mutation.seed} does not find it any more: npm run sim -- --mutation "${mutation.name}"`);
  });
}
