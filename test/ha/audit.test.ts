/** Two nodes' records and what they prove. Node b's clock is 50 ms ahead (offset −50), known to ±5; drift is 1e-4 of the age. */
import t from "tap";
import { auditRuns, type NodeRecords, type VmAudit } from "../../src/ha/audit.ts";
import type { NodeRun } from "../../src/model/run.ts";

const NOW = 100_000;
const ALL = { fromMs: 0, toMs: Infinity, nowMs: NOW };

/** Inner bounds 10 ms within the outer ones. */
function run(generation: number, fromMs: number, toMs: number | null, more: Partial<NodeRun> = {}): NodeRun {
  const sureToMs = toMs === null ? NOW - 10 : toMs - 10;
  return {
    vmId: "v",
    generation,
    fromMs,
    toMs,
    sureFromMs: fromMs + 10,
    sureToMs,
    sawBegin: true,
    ended: "x",
    hostWentDown: false,
    ...more,
  };
}
const node = (nodeId: string, runs: NodeRun[], more: Partial<NodeRecords> = {}): NodeRecords => ({
  nodeId,
  runs,
  sinceMs: 1,
  lost: 0,
  offsetMs: 0,
  offsetBoundMs: 0,
  ...more,
});
const B = { offsetMs: -50, offsetBoundMs: 5 };
const audit = (a: NodeRun[], b: NodeRun[]): VmAudit => auditRuns([node("a", a), node("b", b, B)], ALL)[0]!;

await t.test("one after the other, by more than the clocks may be wrong", async (t) => {
  // Bounds: a's is 90,000 × 1e-4 = 9 ms; b began at 20,100 − 50 by a's clock, 5 + 79,950 × 1e-4 = 13 ms. 20,050 − 20,000 > 9 + 13.
  const { meetings, runs, gaps } = audit([run(1, 10_000, 20_000)], [run(2, 20_100, null)]);
  t.same(meetings, []);
  t.match(runs, [
    { nodeId: "a", boundMs: 9 },
    { nodeId: "b", fromMs: 20_050, boundMs: 5 + 79_950e-4, toMs: null },
  ]);
  t.same(gaps, [{ fromMs: 20_000, toMs: 20_050 }]);
});

await t.test("nearer than that is not told apart", async (t) => {
  // Began at 20,010 by a's clock, 10 ms after the other's end: 22 ms of doubt.
  const { meetings } = audit([run(1, 10_000, 20_000)], [run(2, 20_060, null)]);
  t.match(meetings, [{ kind: "unsure", atLeastMs: 0 }]);
  t.ok(Math.abs(meetings[0]!.atMostMs - (9 + 5 + 79_990e-4 - 10)) < 1e-6, `${meetings[0]?.atMostMs}`);
});

await t.test("both seen at one time is an overlap", async (t) => {
  // Inner bounds by a's clock: 10,010 to 19,990, and from 15,010 on: 4,980 ms, less the doubt.
  const { meetings } = audit([run(1, 10_000, 20_000)], [run(2, 15_050, null)]);
  t.match(meetings, [{ kind: "overlap", earlier: { nodeId: "a" }, later: { nodeId: "b" } }]);
  t.ok(Math.abs(meetings[0]!.atLeastMs - (4_980 - (9 + 5 + 85_000e-4))) < 1e-6, `${meetings[0]?.atLeastMs}`);
  t.match(audit([run(1, 10_000, null)], [run(2, 15_050, null)]).meetings, [{ kind: "overlap" }], "and if both still run");
});

await t.test("on one node there is one clock", async (t) => {
  t.same(audit([run(1, 10_000, 20_000), run(2, 20_001, null)], []).meetings, []);
});

await t.test("a host that went down with its VM: its claim tells, the records do not", async (t) => {
  const down = run(1, 10_000, 60_000, { sureToMs: 12_000, hostWentDown: true });
  t.match(audit([down], [run(2, 20_100, null)]).meetings, [{ kind: "by-claim", atLeastMs: 0 }]);
  t.match(audit([{ ...down, sureToMs: 30_000 }], [run(2, 20_100, null)]).meetings, [{ kind: "overlap" }], "but not against what was seen");
});

await t.test("a beginning that nobody saw leaves doubt", async (t) => {
  t.match(audit([run(1, 10_000, 20_000)], [run(2, 50_000, null, { sawBegin: false })]).meetings, [{ kind: "unsure" }]);
});

await t.test("only runs that touch the time asked about", async (t) => {
  const nodes = [node("a", [run(1, 10_000, 20_000), run(2, 30_000, 40_000), run(3, 50_000, null)])];
  const generations = (fromMs: number, toMs: number): number[] =>
    (auditRuns(nodes, { ...ALL, fromMs, toMs })[0]?.runs ?? []).map((one) => one.generation);
  t.same(generations(25_000, 45_000), [2]);
  t.same(generations(45_000, Infinity), [3]);
  t.same(generations(0, 15_000), [1]);
});
