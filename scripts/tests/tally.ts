/** Judges what a test file printed and how it ended; the totals CI reads. */
import type { Outcome } from "./command.ts";

/** Counts of assertions, or of checks. */
export interface Tally {
  passed: number;
  failed: number;
}

export interface Judgement {
  tally: Tally;
  /** Why it is not simply good; undefined if it is. */
  reason: string | undefined;
}

/** Tests of the real tier: by folder, or by name where they lie beside others. */
export function isRealTest(file: string): boolean {
  return /^test\/(e2e|lab)\//.test(file) || file.endsWith(".real.test.ts");
}

/**
 * The totals of one test file from tap's last comment, `# { total: 9, pass: 8, fail: 1 }`. A file that ends badly, or without totals, or
 * with nothing asserted counts as failed even if all it said was "ok": it did not get to say the rest.
 */
export function judgeTest(outcome: Outcome): Judgement {
  const totals = totalsOf(outcome.stdout);
  const passed = totals?.passed ?? 0;
  const failed = totals?.failed ?? 0;
  if (failed > 0)
    return {
      tally: { passed, failed },
      reason: `${failed} of ${passed + failed} failed${outcome.ending === "exit 1" ? "" : `, ${outcome.ending}`}`,
    };
  if (outcome.ending !== "exit 0") return { tally: { passed, failed: 1 }, reason: outcome.ending };
  if (totals === undefined) return { tally: { passed: 0, failed: 1 }, reason: "ended without totals" };
  // A file skipped whole, by a condition it names, has a plan of nothing; one with assertions lost has neither.
  if (passed === 0 && totals.skipped === 0) return { tally: { passed: 0, failed: 1 }, reason: "asserted nothing" };
  return { tally: { passed, failed: 0 }, reason: undefined };
}

function totalsOf(stdout: string): (Tally & { skipped: number }) | undefined {
  const line = stdout.split("\n").findLast((candidate) => /^# \{ total: \d+/.test(candidate));
  if (line === undefined) return undefined;
  const value = (key: string): number => Number(new RegExp(`\\b${key}: (\\d+)`).exec(line)?.[1] ?? 0);
  return { passed: value("pass"), failed: value("fail"), skipped: value("skip") + value("todo") };
}

/** A failed test's output without its passed assertions. */
export function worthReading(stdout: string): string {
  return stdout
    .split("\n")
    .filter((line) => !/^\s*ok \d+/.test(line) && !/^\s*1\.\.\d+/.test(line))
    .join("\n")
    .replace(/\n\s*\n+/g, "\n");
}

/** What CI looks for on the last line. */
export function closingLine(tally: Tally): string {
  return `${tally.passed} passed, ${tally.failed} failed`;
}
