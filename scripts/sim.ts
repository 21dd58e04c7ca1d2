/**
 * Runs simulations: `node scripts/sim.ts [--seed S] [--seeds N] [--scenario raft|core|ha] [--long] [--jobs J] [--trace]`. Every run
 * follows from its seed alone, so a failure is repeated by giving it again. With `--mutation NAME` (or `all`) it breaks a rule and
 * looks for the first seed that notices.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { simulateCore } from "../test/sim/core.ts";
import { runHaSeed } from "../test/sim/ha.ts";
import { MUTATIONS, runBroken } from "../test/sim/mutations.ts";
import { SimFailure, simulateRaft } from "../test/sim/raft.ts";

interface Run {
  scenario: string;
  long: boolean;
  trace: boolean;
}

/** Each throws when an invariant does not hold. */
const SCENARIOS: Record<string, (seed: number, run: Run) => object | Promise<object>> = {
  raft: (seed, { long, trace }) => simulateRaft(seed, { long, ...(trace ? { print: (line) => console.log(line) } : {}) }),
  core: (seed) => simulateCore(seed),
  ha: (seed) => {
    const result = runHaSeed(seed);
    if (!result.ok) throw new Error(result.detail);
    return result;
  },
};

interface Done {
  seed: number;
  /** null: it held. */
  failure: string | null;
  result: object | null;
}

async function runSeed(seed: number, run: Run): Promise<Done> {
  try {
    return { seed, failure: null, result: await SCENARIOS[run.scenario]!(seed, run) };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const replay = `replay it, with every line: npm run sim -- --scenario ${run.scenario}${run.long ? " --long" : ""} --seed ${seed} --trace`;
    const tail = error instanceof SimFailure ? `\nthe end of its trace:\n${error.tail.join("\n")}\n${replay}` : "";
    return { seed, failure: `seed ${seed} failed: ${text}${tail}`, result: null };
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
      seeds: { type: "string", default: "1" },
      scenario: { type: "string", default: "raft" },
      jobs: { type: "string", default: "1" },
      long: { type: "boolean", default: false },
      trace: { type: "boolean", default: false },
      mutation: { type: "string", default: "" },
    },
  });
  const first = Number(values.seed);
  const count = Number(values.seeds);
  const jobs = Math.min(values.jobs === "auto" ? availableParallelism() : Number(values.jobs), count);
  if (![first, count, jobs].every(Number.isSafeInteger) || count < 1 || jobs < 1 || SCENARIOS[values.scenario] === undefined) {
    console.error(`usage: sim [--seed S] [--seeds N] [--scenario ${Object.keys(SCENARIOS).join("|")}] [--long] [--jobs N|auto] [--trace]`);
    process.exitCode = 2;
    return;
  }
  if (values.mutation !== "") return await findMutations(values.mutation, first, Math.max(count, 500));
  const run: Run = { scenario: values.scenario, long: values.long, trace: values.trace };
  console.log(`seed ${first}, ${count} of scenario ${values.scenario}${values.long ? ", long" : ""}`);
  let failed = 0;
  const tell = ({ failure, result }: Done): void => {
    if (failure !== null) failed++;
    if (failure !== null) console.log(failure);
    else if (count === 1) console.log(JSON.stringify(result));
  };
  let next = first;
  if (jobs === 1) while (next < first + count) tell(await runSeed(next++, run));
  else await Promise.all(Array.from({ length: jobs }, () => inThread(run, () => (next < first + count ? next++ : null), tell)));
  console.log(`${count - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

/** How many seeds each mutation needs to be found, and what finds it. */
async function findMutations(name: string, first: number, patience: number): Promise<void> {
  const wanted = MUTATIONS.filter((mutation) => name === "all" || mutation.name.includes(name));
  let missed = 0;
  for (const mutation of wanted) {
    let found: string | null = null;
    let seed = first;
    for (; seed < first + patience && found === null; seed++) found = await runBroken(mutation, seed);
    if (found === null) missed++;
    console.log(`${mutation.name}: ${found === null ? `not found in ${patience} seeds` : `after ${seed - first} seeds: ${found}`}`);
  }
  console.log(`${wanted.length - missed} found, ${missed} not`);
  process.exitCode = missed === 0 && wanted.length > 0 ? 0 : 1;
}

/** A thread that asks for one seed after the other. */
function inThread(run: Run, seed: () => number | null, tell: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: run });
    const give = (): void => worker.postMessage(seed());
    worker.on("message", (done: Done) => {
      tell(done);
      give();
    });
    worker.on("error", reject);
    worker.on("exit", () => resolve());
    give();
  });
}

if (isMainThread) await main();
else
  parentPort!.on("message", (seed: number | null) => {
    if (seed === null) parentPort!.close();
    else void runSeed(seed, workerData as Run).then((done) => parentPort!.postMessage(done));
  });
