/**
 * Runs simulations: `node scripts/sim.ts --seed S [--seeds N] [--scenario raft|ha]`. Every run follows from its seed alone, so a
 * failure is repeated by giving it again.
 */
import { parseArgs } from "node:util";
import { runHaSeed } from "../test/sim/ha.ts";
import { simulateRaft } from "../test/sim/raft.ts";

/** Each throws when an invariant does not hold. */
const SCENARIOS: Record<string, (seed: number) => object> = {
  raft: (seed) => simulateRaft(seed),
  ha: (seed) => {
    const result = runHaSeed(seed);
    if (!result.ok) throw new Error(result.detail);
    return result;
  },
};

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
    seeds: { type: "string", default: "1" },
    scenario: { type: "string", default: "raft" },
  },
});
const first = Number(values.seed);
const count = Number(values.seeds);
const scenario = SCENARIOS[values.scenario];
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count < 1 || scenario === undefined) {
  console.error(`usage: sim [--seed NUMBER] [--seeds COUNT] [--scenario ${Object.keys(SCENARIOS).join("|")}]`);
  process.exit(2);
}

console.log(`seed ${first}, ${count} of scenario ${values.scenario}`);
let failed = 0;
for (let seed = first; seed < first + count; seed++) {
  try {
    const result = scenario(seed);
    if (count === 1) console.log(JSON.stringify(result));
  } catch (error) {
    failed++;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    console.log(`seed ${seed} failed: ${text}`);
  }
}
console.log(`${count - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
