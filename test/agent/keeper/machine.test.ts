import t from "tap";
import { deadlineMs, startKeeper, step, wakeAtMs } from "../../../src/agent/keeper/machine.ts";
import type { Feed, KeeperEffect, KeeperInput, KeeperState } from "../../../src/agent/keeper/machine.ts";
import type { KeeperAnswer, KeeperRequest } from "../../../src/agent/keeper/protocol.ts";

/** A keeper that is talked to at chosen times; killLead 500. */
class Talk {
  state: KeeperState;
  effects: KeeperEffect[] = [];
  constructor(feed: Feed | null = null) {
    this.state = startKeeper({ bootId: "b", nonce: "n", killLeadMs: 500, feed });
  }
  at(nowMs: number, input: KeeperInput = { kind: "tick" }): KeeperAnswer | null {
    const result = step(this.state, input, nowMs);
    this.state = result.state;
    this.effects = result.effects;
    return result.answer;
  }
  ask(nowMs: number, request: KeeperRequest): KeeperAnswer {
    return this.at(nowMs, { kind: "request", request }) ?? { ok: true };
  }
  beat(nowMs: number): number {
    const answer = this.ask(nowMs, { op: "beat" });
    return "beat" in answer ? answer.beat.seq : -1;
  }
  ack(nowMs: number, seq: number, claims: [string, number][] | null = null, claimRevision = 0, grantedMs = 4_000): KeeperAnswer {
    const items = claims?.map(([vmId, generation]) => ({ vmId, generation })) ?? null;
    return this.ask(nowMs, { op: "ack", bootId: "b", nonce: "n", seq, grantedMs, claimRevision, claims: items });
  }
  register(nowMs: number, vmId: string, generation = 1, revision = 1, deadline = true): KeeperAnswer {
    return this.ask(nowMs, {
      op: "register",
      vmId,
      generation,
      revision,
      deadline,
      recipe: { kind: "file", path: "/x", vmId, generation },
    });
  }
  kinds(): string[] {
    return this.effects.map((effect) =>
      effect.kind === "feed" ? (effect.feed.armed ? `armed ${effect.feed.deadlineMs}` : "disarmed") : effect.kind,
    );
  }
}
const reason = (answer: KeeperAnswer): string => (answer.ok ? "ok" : answer.reason);

t.test("a deadline counts from the heartbeat's mint, never from its acknowledgement", async (t) => {
  const k = new Talk();
  const seq = k.beat(1_000);
  t.strictSame(k.ack(3_000, seq), { ok: true, deadlineMs: 5_000 }); // 1000 + 4000, not 3000 + 4000
  t.strictSame(k.ack(3_100, seq), { ok: true, deadlineMs: 5_000 }, "twice changes nothing");
  const later = k.beat(3_200);
  k.ack(3_300, later);
  t.strictSame(k.ack(3_400, seq), { ok: true, deadlineMs: 7_200 }, "an older one never shortens");
});

t.test("acknowledgements that are not this keeper's are refused", async (t) => {
  const k = new Talk();
  const seq = k.beat(1_000);
  const ack = { op: "ack" as const, bootId: "b", nonce: "n", seq, grantedMs: 4_000, claimRevision: 0, claims: null };
  t.equal(reason(k.ask(1_001, { ...ack, bootId: "b2" })), "stranger");
  t.equal(reason(k.ask(1_001, { ...ack, nonce: "n2" })), "stranger");
  t.equal(reason(k.ask(1_001, { ...ack, seq: seq + 1 })), "unknown-seq");
  t.equal(reason(k.ask(1_001, { ...ack, grantedMs: 600_001 })), "invalid");
  t.equal(reason(k.ask(1_001, { ...ack, claimRevision: 3 })), "claims-missing");
  t.equal(deadlineMs(k.state), 0);
});

t.test("killing begins so early that all is gone by the deadline, and goes on until it is", async (t) => {
  const k = new Talk();
  k.ack(1_000, k.beat(1_000));
  t.equal(reason(k.register(1_010, "a")), "ok");
  t.strictSame(k.kinds(), ["armed 5000"]);
  t.equal(wakeAtMs(k.state), 4_500);
  k.at(4_499);
  t.strictSame(k.kinds(), []);
  k.at(4_500);
  t.strictSame(k.kinds(), ["fenced", "kill"]);
  t.equal(reason(k.ask(4_510, { op: "confirm", vmId: "a", generation: 1 })), "dead");
  t.equal(reason(k.ask(4_510, { op: "unregister", vmId: "a", generation: 1 })), "not-gone");
  k.at(4_600, { kind: "killed", vmId: "a", generation: 1, gone: false });
  t.strictSame(k.kinds(), []);
  k.at(4_700); // 4600 + 100
  t.strictSame(k.kinds(), ["kill"]);
  k.at(5_000);
  t.strictSame(k.kinds(), ["overdue"], "still armed: the guardian resets the host now");
  k.at(5_050, { kind: "killed", vmId: "a", generation: 1, gone: true });
  t.strictSame(k.kinds(), ["disarmed"]);
  k.at(6_050); // looked for again a second later
  t.strictSame(k.kinds(), ["kill"]);
});

t.test("what ran out stays dead: a late acknowledgement revives nothing", async (t) => {
  const k = new Talk();
  const seq = k.beat(1_000);
  k.ack(1_001, seq);
  k.register(1_002, "a");
  const late = k.beat(4_400);
  // The process was stopped from 4400 to 9000; the first thing it sees is a perfectly good acknowledgement.
  t.strictSame(k.ack(8_000, late), { ok: true, deadlineMs: 8_400 });
  t.ok(k.kinds().includes("kill"));
  t.equal(k.state.vms.get("a")?.phase, "dying");
  t.equal(k.state.fed.armed && k.state.fed.deadlineMs, 5_000, "the guardian gets no new time while it is dying");
  k.at(8_010, { kind: "killed", vmId: "a", generation: 1, gone: true });
  k.ask(8_020, { op: "unregister", vmId: "a", generation: 1 });
  k.ack(8_050, k.beat(8_040));
  t.equal(reason(k.register(8_060, "a", 1)), "dead");
  t.equal(reason(k.register(8_060, "a", 2)), "ok", "a new generation may run");
});

t.test("a VM left out of the claim set is ended, also one without a deadline", async (t) => {
  const k = new Talk();
  k.ack(1_000, k.beat(1_000));
  for (const [vmId, deadline] of [
    ["a", true],
    ["b", false],
    ["c", true],
  ] as const)
    k.register(1_000, vmId, 1, 5, deadline);
  k.register(1_000, "new", 1, 9);
  // Set 7 has a in another generation and not b; `new` is newer than the set.
  k.ack(
    1_100,
    k.beat(1_050),
    [
      ["a", 2],
      ["c", 1],
    ],
    7,
  );
  t.strictSame(
    [...k.state.vms.values()].filter((vm) => vm.phase === "dying").map((vm) => [vm.vmId, vm.why]),
    [
      ["a", "left-out"],
      ["b", "left-out"],
    ],
  );
  t.equal(reason(k.register(1_200, "d", 1, 7)), "left-out");
  t.equal(reason(k.register(1_200, "d", 1, 8)), "ok");
  k.ack(1_300, k.beat(1_250), [], 6);
  t.equal(k.state.vms.get("c")?.phase, "live", "an older set says nothing");
});

t.test("no acknowledged time, no VM with a deadline; others may run", async (t) => {
  const k = new Talk();
  t.equal(reason(k.register(1_000, "a")), "expired");
  t.equal(reason(k.register(1_000, "b", 1, 1, false)), "ok");
  t.equal(k.state.fed.armed, false);
  k.ack(1_000, k.beat(1_000));
  t.equal(reason(k.register(4_500, "a")), "expired", "too near");
  t.equal(k.state.vms.get("b")?.phase, "live");
  t.equal(reason(k.register(1_000, "b", 2)), "busy");
});

t.test("a park counts from a heartbeat before its proposal, and unpark falls back to acknowledged time", async (t) => {
  const k = new Talk();
  k.ack(1_000, k.beat(1_000));
  k.register(1_000, "a");
  const seq = k.beat(2_000);
  t.strictSame(k.ask(3_500, { op: "park", seq, durationMs: 60_000 }), { ok: true, deadlineMs: 62_000 });
  t.equal(reason(k.ask(10_000, { op: "unpark" })), "expired", "nothing to fall back to: acknowledged until 5000");
  k.ack(20_000, k.beat(20_000));
  t.strictSame(k.ask(20_001, { op: "unpark" }), { ok: true, deadlineMs: 24_000 });
  t.strictSame(k.kinds(), ["armed 24000"]);
});

t.test("a new keeper inherits the deadline, and feeds no more than it until the agent has registered all", async (t) => {
  const k = new Talk({ armed: true, deadlineMs: 5_000 });
  t.equal(reason(k.register(1_000, "a")), "ok", "the older keeper's time still counts");
  k.ack(2_000, k.beat(2_000));
  t.strictSame(k.state.fed, { armed: true, deadlineMs: 5_000 });
  k.ask(2_100, { op: "settled" });
  t.strictSame(k.state.fed, { armed: true, deadlineMs: 6_000 });

  const lost = new Talk({ armed: true, deadlineMs: 5_000 });
  lost.at(6_000);
  t.strictSame(lost.kinds(), [], "stays armed for what it does not know: the guardian acts");
  t.equal(reason(lost.register(6_000, "a")), "expired");
});

t.test("it leaves only when nothing is registered", async (t) => {
  const k = new Talk();
  k.register(1_000, "b", 1, 1, false);
  t.equal(reason(k.ask(1_000, { op: "shutdown" })), "busy");
  k.ask(1_000, { op: "unregister", vmId: "b", generation: 1 });
  k.ask(1_000, { op: "shutdown" });
  t.strictSame(k.kinds(), ["exit"]);
});
