import t from "tap";
import { detect, expiryOf, nextLookMs, waitMs } from "../../src/ha/detector.ts";
import type { DetectorInput, NodeBeat } from "../../src/ha/detector.ts";
import { testNode } from "../support/world.ts";

const guarded = testNode("a", { guardian: "file" });
const beat = (lastBeatMs: number, lastAckMs: number | null): ReadonlyMap<string, NodeBeat> =>
  new Map([["a", { nodeId: "a", lastBeatMs, lastAckMs, grantedMs: 4_000 }]]);
const input = (wish: Partial<DetectorInput>): DetectorInput => ({
  nowMs: 1e5,
  term: 3,
  electedMs: 1e4,
  nodes: [guarded],
  beats: beat(9e4, 90001),
  stopped: new Set<string>(),
  expiring: new Set<string>(),
  parkedSinceMs: new Map<string, number>(),
  accountedMs: new Map<string, number>(),
  deadlineHolders: new Set(["a"]),
  longestGrantedMs: 4e3,
  claimMs: 4e3,
  marginMs: 250,
  suspectMs: 1500,
  graceUntilMs: 0,
  ...wish,
});
const kinds = (wish: Partial<DetectorInput>): string[] => detect(input(wish)).map((decision) => decision.kind);
const stopped = new Set(["a"]);

t.test("an expiry takes two steps, and not before granted + margin", async (t) => {
  // 90001 + 4000 + 250 = 94251
  t.strictSame(kinds({ nowMs: 94_250 }), ["suspect"]);
  t.strictSame(kinds({ nowMs: 94_251 }), ["suspect", "stop-acking"]);
  t.strictSame(kinds({ nowMs: 94_251, stopped }), ["suspect", "expire"]);
  const decision = detect(input({ nowMs: 94_251, stopped })).at(-1);
  t.match(decision, {
    proof: { kind: "expiry", nodeId: "a", term: 3, sinceAckMs: 4_250, grantedMs: 4_000, marginMs: 250 },
    silentMs: 4_251,
  });
});

t.test("an acknowledgement that slipped in before the stop counts", async (t) => {
  t.strictSame(kinds({ nowMs: 94_300, beats: beat(90_000, 90_100), stopped }), ["suspect", "resume-acking"]);
});

t.test("while an expiry is proposed nothing is resumed, whatever is heard", async (t) => {
  t.strictSame(kinds({ nowMs: 94_400, beats: beat(94_390, 90_001), stopped, expiring: stopped }), []);
  t.strictSame(kinds({ nowMs: 94_400, beats: beat(94_390, 90_001), stopped }), ["resume-acking"]);
});

t.test("a new leader waits from its election", async (t) => {
  const silent = { beats: new Map(), electedMs: 10_000, stopped };
  t.strictSame(kinds({ ...silent, nowMs: 14_249 }), ["suspect", "resume-acking"]);
  t.strictSame(kinds({ ...silent, nowMs: 14_250 }), ["suspect", "expire"]);
  t.strictSame(kinds({ ...silent, nowMs: 11_499, stopped: new Set() }), []);
});

t.test("the longest duration that may be in force counts, with its share of the margin", async (t) => {
  t.strictSame(waitMs(4_000, { claimMs: 4_000, marginMs: 250 }), { grantedMs: 4_000, marginMs: 250 });
  t.strictSame(waitMs(60_000, { claimMs: 4_000, marginMs: 250 }), { grantedMs: 60_000, marginMs: 3_750 }); // 60000 × 250 / 4000
  t.equal(expiryOf(guarded, input({ longestGrantedMs: 8_000 })).atMs, 90_001 + 8_000 + 500);
});

t.test("a parked node has its park, from when the leader saw it", async (t) => {
  const parked = { ...guarded, parkedMs: 60_000 };
  const since = { nodes: [parked], parkedSinceMs: new Map([["a", 91_000]]), stopped };
  t.strictSame(kinds({ ...since, nowMs: 91_000 + 63_749 }), ["suspect", "resume-acking"]);
  t.strictSame(kinds({ ...since, nowMs: 91_000 + 63_750 }), ["suspect", "expire"]);
});

t.test("without a guardian, or without anything to expire, a node is only shown as silent", async (t) => {
  t.strictSame(kinds({ nodes: [testNode("a", { guardian: null })] }), ["suspect"]);
  t.strictSame(kinds({ nodes: [{ ...guarded, info: null }] }), ["suspect"]);
  t.strictSame(kinds({ deadlineHolders: new Set() }), ["suspect"]);
});

t.test("node states", async (t) => {
  const silent = (state: Parameters<typeof testNode>[1]["state"] & string): string[] =>
    kinds({ nodes: [{ ...guarded, state }], deadlineHolders: new Set() });
  t.strictSame(silent("ready"), ["suspect"]);
  t.strictSame(silent("disabled"), ["suspect"]);
  for (const state of ["unreachable", "fenced", "removed", "joining"] as const) t.strictSame(silent(state), [], state);
  t.strictSame(kinds({ nodes: [{ ...guarded, state: "unreachable" }], beats: beat(99_900, 99_901) }), ["alive"]);
  t.strictSame(
    kinds({ nodes: [{ ...guarded, state: "unreachable" }], beats: new Map(), electedMs: 99_000 }),
    [],
    "not heard of in this term",
  );
});

t.test("a suspicion says when claims end, and a new leader says it again for its own wait", async (t) => {
  // Elected at 0, last acknowledged at 90_000 + 1: at 91_500 its claims end in 4_250 − 1_499 = 2_751 ms.
  const first = detect(input({ nowMs: 91_500 })).find((one) => one.kind === "suspect");
  t.match(first, { kind: "suspect", claimsEndInMs: nextLookMs(input({ nowMs: 92_000 })) - 91_500 });
  const known = { ...guarded, state: "unreachable" as const, silence: { term: 1, sinceMs: 0, claimsEndMs: 0 } };
  const term = input({}).term;
  t.notOk(kinds({ nodes: [{ ...known, silence: { ...known.silence, term } }], nowMs: 92_000 }).includes("suspect"), "known");
  t.ok(
    kinds({ nodes: [{ ...known, silence: { ...known.silence, term: term - 1 } }], nowMs: 92_000 }).includes("suspect"),
    "of another term",
  );
  const none = detect(input({ nowMs: 91_500, deadlineHolders: new Set() })).find((one) => one.kind === "suspect");
  t.match(none, { claimsEndInMs: null }, "nothing there ends by time");
});

t.test("a leader that stood still suspects nobody for a moment", async (t) => {
  t.strictSame(kinds({ nowMs: 92_000, graceUntilMs: 92_001 }), []);
  t.strictSame(kinds({ nowMs: 92_001, graceUntilMs: 92_001 }), ["suspect"]);
});

t.test("the next look is when something may become true", async (t) => {
  t.equal(nextLookMs(input({ nowMs: 90_500 })), 91_500);
  t.equal(nextLookMs(input({ nowMs: 92_000 })), 94_251);
  t.equal(nextLookMs(input({ nowMs: 100_000 })), Infinity);
});
