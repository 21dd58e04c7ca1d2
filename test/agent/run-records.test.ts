/** Runs read back from what agent and keeper wrote down. Boot clocks and wall clocks differ by 1,000,000 in boot a, 2,000,000 in boot b. */
import t from "tap";
import { parseRecord, type RunRecord, runsOf, type Stamp } from "../../src/agent/run-records.ts";

const OFFSET: Record<string, number> = { a: 1_000_000, b: 2_000_000 };
const at = (bootMs: number, bootId = "b"): Stamp => ({ bootId, bootMs, wallMs: bootMs + OFFSET[bootId]! });
const of = (op: "begin" | "runs" | "paused", bootMs: number, generation = 1, bootId = "b"): RunRecord => ({
  op,
  vmId: "v",
  generation,
  ...at(bootMs, bootId),
});
const end = (bootMs: number, how: string, seenMs?: number, generation = 1): RunRecord => ({
  op: "end",
  vmId: "v",
  generation,
  how,
  ...(seenMs === undefined ? {} : { seenMs }),
  ...at(bootMs),
});
const NOBODY = new Map<string, number>();
const wall = (bootMs: number): number => bootMs + 2_000_000;

await t.test("begun, seen, ended", async (t) => {
  const { runs, sinceMs } = runsOf(
    [[{ op: "agent", ...at(5) }, of("begin", 10), of("runs", 30), end(100, "ended by the agent", 90)]],
    at(500),
    NOBODY,
  );
  t.same(runs, [
    {
      vmId: "v",
      generation: 1,
      sawBegin: true,
      fromMs: wall(10),
      sureFromMs: wall(30),
      sureToMs: wall(90),
      // A hundredth of a second more than the clock said.
      toMs: wall(110),
      ended: "ended by the agent",
      hostWentDown: false,
    },
  ]);
  t.equal(sinceMs, wall(5));
});

await t.test("it runs: until when it was last seen, for certain", async (t) => {
  const [run] = runsOf([[of("begin", 10), of("runs", 30)]], at(500), new Map([["v 1", 480]])).runs;
  t.match(run, { toMs: null, sureToMs: wall(480), ended: "" });
});

await t.test("the keeper saw the end while the agent stood still", async (t) => {
  const agent = [of("begin", 10), of("runs", 30), end(900, "found gone", 30)];
  const [run] = runsOf([agent, [end(400, "ended by the keeper")]], at(1_000), NOBODY).runs;
  t.match(run, { toMs: wall(410), ended: "ended by the keeper", sureToMs: wall(30) });
  const [wrong] = runsOf([[...agent, of("runs", 600)], [end(400, "ended by the keeper")]], at(1_000), NOBODY).runs;
  t.match(wrong, { toMs: wall(910), ended: "found gone" }, "whoever still saw it later was right");
});

await t.test("ended while it was paused: nothing executed since", async (t) => {
  const [run] = runsOf([[of("begin", 10), of("runs", 30), of("paused", 50), end(900, "ended by the agent", 30)]], at(1_000), NOBODY).runs;
  t.equal(run?.toMs, wall(60));
  const [on] = runsOf([[of("begin", 10), of("runs", 30), of("paused", 50), of("runs", 70), end(900, "ended")]], at(1_000), NOBODY).runs;
  t.equal(on?.toMs, wall(910), "it went on");
});

await t.test("its host went down: over at the latest when the next boot began", async (t) => {
  // Boot a's clock ends somewhere after 40; boot b's first record is of wall time 2,000,005.
  const [run] = runsOf([[of("begin", 10, 1, "a"), of("runs", 40, 1, "a"), { op: "agent", ...at(5) }]], at(500), NOBODY).runs;
  t.match(run, { fromMs: 1_000_010, sureToMs: 1_000_040, toMs: 2_000_005, ended: "its host went down", hostWentDown: true });
});

await t.test("a run whose beginning nobody wrote down says so", async (t) => {
  t.match(runsOf([[of("runs", 30)]], at(500), NOBODY).runs, [{ sawBegin: false, fromMs: wall(30) }]);
  t.same(runsOf([[end(30, "found gone")]], at(500), NOBODY).runs, [], "and the end of what is not known is none");
});

await t.test("by the boot's own clock, however often the wall clock was set", async (t) => {
  const early: RunRecord = { ...of("begin", 10), wallMs: 77 };
  t.equal(runsOf([[early]], at(500), NOBODY).runs[0]?.fromMs, wall(10));
});

await t.test("lost records are counted, and lines that were cut short are none", async (t) => {
  t.equal(runsOf([[{ op: "lost", count: 3, ...at(1) }]], at(2), NOBODY).lost, 3);
  t.equal(parseRecord('{"op":"begin","vmId":"v","gen'), null);
  t.equal(parseRecord("{}"), null);
  t.same(parseRecord(JSON.stringify(of("begin", 1))), of("begin", 1));
});
