/** Short runs of the whole replica under faults, with every check: none may fail, and each must be repeatable from its seed. */
import t from "tap";
import { type RaftResult, simulateRaft } from "./raft.ts";

const first = Number(process.env["ROOST_SEED"] ?? 1);
const seeds = Number(process.env["ROOST_SEEDS"] ?? 500);
console.log(`# seed ${first}`);

t.setTimeout(600_000);
t.test(`${seeds} seeds hold`, async (t) => {
  const results: RaftResult[] = [];
  for (let seed = first; seed < first + seeds; seed++) {
    if ((seed - first) % 100 === 0) console.log(`# ${seed - first} seeds done`);
    try {
      results.push(await simulateRaft(seed));
    } catch (error) {
      t.fail(`${String(error)}\nreplay it: npm run sim -- --scenario raft --seed ${seed} --trace`);
    }
  }
  // A run in which nothing happens proves nothing.
  const sum = (of: (result: RaftResult) => number): number => results.reduce((total, result) => total + of(result), 0);
  t.ok(sum((result) => result.operations) > 50 * seeds, "clients' operations");
  t.ok(sum((result) => result.terms) > 3 * seeds, "elections");
  t.ok(sum((result) => result.crashes) > 3 * seeds, "crashes");
  t.ok(sum((result) => result.checkpoints) > seeds / 10, "checkpoints taken over");
  t.ok(sum((result) => result.joined) > seeds / 10, "nodes that joined");
  t.ok(sum((result) => result.removed) > seeds / 10, "nodes removed for good");
  t.ok(sum((result) => result.followers) > seeds / 20, "nodes that follow");
  t.ok(sum((result) => result.refusals) > seeds / 50, "damaged disks refused");
});

t.test("the same seed runs the same, another does not", async (t) => {
  for (const seed of [first, first + 1, first + 2]) {
    const once = await simulateRaft(seed);
    t.strictSame(await simulateRaft(seed), once);
    t.strictSame(
      await simulateRaft(seed, { print: () => {} }).then(({ traceHash }) => traceHash),
      once.traceHash,
      "also when it is printed",
    );
    t.not((await simulateRaft(seed + 1_000_000)).traceHash, once.traceHash);
  }
});
