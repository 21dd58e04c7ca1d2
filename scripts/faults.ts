/**
 * The fault matrix: `node scripts/faults.ts [--seed S] [--samples N] [--only TEXT] [--jobs J] [--verbose]`. Every moment of every task, on
 * the simulated driver whole; with `--samples` also so many seeded points on real libvirt in a lab, with processes killed for good.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { cases, NOT_COVERED } from "../test/faults/cases.ts";
import { entries, runAll } from "../test/faults/matrix.ts";
import { FAULTS, runFault } from "../test/faults/run.ts";
import { runSamples } from "./faults/samples.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    samples: { type: "string", default: "0" },
    only: { type: "string", default: "" },
    jobs: { type: "string", default: "auto" },
    verbose: { type: "boolean", default: false },
  },
});

async function main(): Promise<void> {
  const [seed, samples] = [Number(values.seed), Number(values.samples)];
  const jobs = values.jobs === "auto" ? availableParallelism() : Number(values.jobs);
  if (![seed, samples, jobs].every(Number.isSafeInteger) || jobs < 1 || samples < 0) {
    console.error("usage: faults [--seed S] [--samples N] [--only TEXT] [--jobs N|auto] [--verbose]");
    process.exitCode = 2;
    return;
  }
  console.log(`seed ${seed}`);
  for (const [action, why] of Object.entries(NOT_COVERED)) console.log(`not in it: ${action}: ${why}`);
  const all = await entries(seed, values.only);
  let [passed, failed] = [0, 0];
  const failure = (text: string, problem: string): void => {
    failed++;
    console.log(
      `FAILED ${text}\n       ${problem}\n       again: npm run faults -- --seed ${seed} --only ${JSON.stringify(text)} --verbose`,
    );
  };
  if (values.verbose && all.length === 1) {
    const [entry] = all;
    const one = cases()[entry?.case ?? 0];
    if (entry !== undefined && one !== undefined) {
      const ended = await runFault(one, entry.fault, { seed, verbose: true }).catch((thrown: unknown) =>
        failure(entry.text, (thrown as Error).message),
      );
      if (ended !== undefined) console.log(`its task ended ${ended}`);
      passed += 1 - failed;
    }
  } else {
    const ends = new Map<string, number>();
    await runAll(seed, all, jobs, ({ text, problem, state }) => {
      if (problem !== null) return failure(text, problem);
      passed++;
      const kind = FAULTS.find((fault) => text.includes(`: ${fault} `)) ?? "";
      ends.set(`${kind}: ${state}`, (ends.get(`${kind}: ${state}`) ?? 0) + 1);
    });
    for (const [end, count] of [...ends].toSorted(([a], [b]) => (a < b ? -1 : 1))) console.log(`${String(count).padStart(5)}  ${end}`);
  }
  if (samples > 0) {
    const sampled = await runSamples({ seed, samples, tell: (line) => console.log(line) });
    for (const { text, problem } of sampled) {
      if (problem === null) passed++;
      else failure(`lab: ${text}`, problem);
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

await main();
