/** Proof that the matrix sees: with a rule broken, a fault of it finds what it must. */
import t from "tap";
import { cases } from "./cases.ts";
import { entries } from "./matrix.ts";
import { runFault } from "./run.ts";
import type { Mutation } from "./world.ts";

const SEED = 1;

/** Where to look, and what is found there. */
const FOUND: Record<Mutation, { in: string; as: RegExp }> = {
  "forget to end what was started": {
    in: "deploy (shared disks): cancelled after power-on driver.start",
    as: /orphan-domain|domains, not|runs on/,
  },
  "forget to delete what was made": {
    in: "deploy (shared disks): cancelled after configure pool.clone",
    as: /is left of a start that was undone/,
  },
  "take a deposed leader's dispatch": {
    in: "deploy (shared disks): leader deposed",
    as: /what the leader of term \d+ sent counts in term/,
  },
  "repeat what cannot be repeated": {
    in: "force-restart (shared disks): agent killed after reset driver.reset",
    as: /it was reset 2 times/,
  },
  "take a failed undo for done": {
    in: "deploy (shared disks): cancelled, undo fails after configure pool.clone",
    as: /is left of a start that was undone/,
  },
  "leave sessions open": { in: "pause (shared disks): leader killed", as: /sessions/ },
};

t.setTimeout(120_000);
for (const [mutation, { in: where, as }] of Object.entries(FOUND)) {
  t.test(`found: ${mutation}`, async (t) => {
    const all = await entries(SEED, where);
    t.ok(all.length > 0, `${all.length} faults: ${where}`);
    const problems: string[] = [];
    for (const { case: i, fault } of all) {
      const one = cases()[i];
      if (one === undefined || problems.some((problem) => as.test(problem))) continue;
      await runFault(one, fault, { seed: SEED, mutation: mutation as Mutation }).catch((thrown: unknown) =>
        problems.push((thrown as Error).message),
      );
    }
    t.ok(
      problems.some((problem) => as.test(problem)),
      problems[0] ?? "nothing was found",
    );
  });
}
