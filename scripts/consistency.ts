/** Linearizability on a lab: `node scripts/consistency.ts [--seed S] [--seconds N] [--nodes N]`; the test in test/e2e with other numbers. */
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    seconds: { type: "string", default: "60" },
    nodes: { type: "string", default: "3" },
  },
});
const env = { ...process.env, ROOST_SEED: values.seed, ROOST_SECONDS: values.seconds, ROOST_NODES: values.nodes };
const test = new URL("../test/e2e/linearizable.test.ts", import.meta.url).pathname;
process.exitCode = spawnSync(process.execPath, [test], { env, stdio: "inherit" }).status ?? 1;
