/**
 * Every check and test of the repository, in order of price, and a closing line `N passed, N failed` for CI.
 *
 *   scripts/verify                 everything; the real tier needs root, libvirt and network namespaces
 *   scripts/verify --fast          what needs nothing but npm packages
 *   scripts/verify --real          only the real tier
 *   scripts/verify --only PATTERN  checks and test files whose name contains PATTERN
 *
 * The real tier is test/e2e, test/lab and every *.real.test.ts. A check counts as one; a test file counts its assertions.
 */
import { availableParallelism } from "node:os";
import { globSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Outcome, runCommand } from "./tests/command.ts";
import { closingLine, isRealTest, judgeTest, type Tally, worthReading } from "./tests/tally.ts";

const ROOT = join(import.meta.dirname, "..");
const MINUTE_MS = 60_000;
const CHECK_TIMEOUT_MS = 5 * MINUTE_MS;
/** A minute at most on an idle machine; but two slow cores may be busy. */
const FAST_TEST_TIMEOUT_MS = 10 * MINUTE_MS;
const REAL_TEST_TIMEOUT_MS = 10 * MINUTE_MS;

interface Check {
  name: string;
  command: string[];
}

const SOURCES = ["src", "scripts", "test"];

const CHECKS: Check[] = [
  { name: "generated code", command: ["node", "scripts/gen.ts", "--check"] },
  { name: "types", command: ["tsc", "--noEmit"] },
  { name: "lint", command: ["oxlint", "--type-aware", ...SOURCES] },
  { name: "format", command: ["oxfmt", "--check", ...SOURCES] },
  { name: "unused code", command: ["knip"] },
];

const REAL_CHECKS: Check[] = [
  { name: "packages", command: ["node", "scripts/packages.ts"] },
  { name: "build", command: ["node", "scripts/bundle.ts"] },
];

/** One failed step, told again in full at the end. */
interface Failure {
  name: string;
  text: string;
}

const failures: Failure[] = [];
const tally: Tally = { passed: 0, failed: 0 };

function report(name: string, outcome: Outcome, counted: Tally, reason: string | undefined): void {
  tally.passed += counted.passed;
  tally.failed += counted.failed;
  const seconds = `${(outcome.tookMs / 1000).toFixed(1)} s`.padStart(8);
  const count = reason === undefined ? `${counted.passed}` : reason;
  process.stdout.write(`${counted.failed === 0 ? "ok  " : "FAIL"} ${seconds}  ${name}  (${count})\n`);
  if (counted.failed > 0) failures.push({ name, text: `${reason ?? ""}\n${worthReading(outcome.stdout)}\n${outcome.stderr}`.trim() });
}

async function runCheck(check: Check): Promise<boolean> {
  const outcome = await runCommand(check.command, { cwd: ROOT, env: process.env, timeoutMs: CHECK_TIMEOUT_MS });
  const bad = outcome.ending === "exit 0" ? undefined : outcome.ending;
  report(check.name, outcome, bad === undefined ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 }, bad);
  return bad === undefined;
}

async function runTest(file: string, timeoutMs: number): Promise<void> {
  const outcome = await runCommand(["node", file], { cwd: ROOT, env: { ...process.env, TAP: "1" }, timeoutMs });
  const judged = judgeTest(outcome);
  report(file, outcome, judged.tally, judged.reason);
}

/** Runs the files, `lanes` at a time; the order of starting is theirs. */
async function runTests(files: readonly string[], lanes: number, timeoutMs: number): Promise<void> {
  const queue = [...files];
  const lane = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) await runTest(file, timeoutMs);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { fast: { type: "boolean" }, real: { type: "boolean" }, only: { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help === true) {
    process.stdout.write("scripts/verify [--fast | --real] [--only PATTERN]   see the top of scripts/verify.ts\n");
    return;
  }
  const startedMs = performance.now();
  const wanted = (name: string): boolean => values.only === undefined || name.includes(values.only);
  const tests = globSync("test/**/*.test.ts", { cwd: ROOT })
    .filter((file) => wanted(file))
    .toSorted();
  const realTests = tests.filter((file) => isRealTest(file));

  if (values.real !== true) {
    for (const check of CHECKS.filter(({ name }) => wanted(name))) await runCheck(check);
    const fastTests = tests.filter((file) => !isRealTest(file));
    await runTests(fastTests, Math.max(1, availableParallelism()), FAST_TEST_TIMEOUT_MS);
  }
  if (values.fast !== true && (values.only === undefined || realTests.length > 0 || REAL_CHECKS.some(({ name }) => wanted(name)))) {
    await realTier(realTests);
  }

  for (const { name, text } of failures) process.stdout.write(`\n==== ${name}\n${text}\n`);
  if (tally.passed + tally.failed === 0) {
    tally.failed += 1;
    process.stdout.write("nothing ran: no check or test has such a name\n");
  }
  process.stdout.write(`\n${((performance.now() - startedMs) / 1000).toFixed(0)} s\n${closingLine(tally)}\n`);
  process.exitCode = tally.failed === 0 ? 0 : 1;
}

/** Needs root. What it needs and cannot get is a failure: a tier left out in silence would look like a passed one. */
async function realTier(tests: readonly string[]): Promise<void> {
  if (process.getuid?.() !== 0) {
    const text = "the real tier makes network namespaces and runs libvirt, which needs root: run it with sudo, or leave it out with --fast";
    report("real tier", { ending: "not root", stdout: text, stderr: "", tookMs: 0 }, { passed: 0, failed: 1 }, "not root");
    return;
  }
  for (const check of REAL_CHECKS) {
    if (await runCheck(check)) continue;
    // Not on an older binary: its failures and its passes would both mislead.
    failures.push({ name: `${tests.length} test files of the real tier did not run`, text: `they need: ${check.name}` });
    return;
  }
  // One at a time: they share the machine's CPUs, and failover times are part of what they look at.
  await runTests(tests, 1, REAL_TEST_TIMEOUT_MS);
}

await main(process.argv.slice(2));
