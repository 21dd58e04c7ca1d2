/** Which heartbeats are acknowledged, and when (HA-2, HA-4, HA-5): rule 2 and 6 of docs/never-twice.md. */
import t from "tap";
import { Acks } from "../../../src/cluster/consensus/acks.ts";
import type { Acknowledgement, Heartbeat } from "../../../src/model/heartbeat.ts";

function setUp() {
  const world = { nowMs: 1_000, may: true, term: 5 };
  const sent: { nodeId: string; ack: Acknowledgement }[] = [];
  /** Callers of rounds not begun yet, and of the round under way. */
  let waiting: (() => void)[] = [];
  let underWay: (() => void)[] = [];
  const acks = new Acks({
    nowMs: () => world.nowMs,
    mayAcknowledge: () => world.may,
    term: () => world.term,
    afterQuorumRound: (end) => void waiting.push(end),
    send: (nodeId, ack) => void sent.push({ nodeId, ack }),
  });
  return {
    world,
    acks,
    sent,
    beginRound: (): void => {
      underWay = waiting;
      waiting = [];
    },
    endRound: (): void => {
      for (const end of underWay) end();
      underWay = [];
    },
    askers: () => waiting.length,
    beat: (nodeId: string, changes: Partial<Heartbeat> = {}) =>
      acks.beat(nodeId, { bootId: "b", nonce: "x", seq: 1, claimRevision: 0, ...changes }),
  };
}

t.test("an acknowledgement leaves after a round that began when the heartbeat was here", (t) => {
  const { world, sent, acks, beat, beginRound, endRound } = setUp();
  beat("n2", { bootId: "boot", nonce: "nonce", seq: 41 });
  t.same(sent, []);
  beginRound();
  beat("n3", { seq: 42 });
  world.nowMs = 1_080;
  endRound();
  t.same(
    sent,
    [{ nodeId: "n2", ack: { bootId: "boot", nonce: "nonce", seq: 41, grantedMs: 4_000, claimRevision: 0, claims: null } }],
    "n3 came later",
  );
  t.same(acks.beats(), [
    { nodeId: "n2", lastBeatMs: 1_000, lastAckMs: 1_080, grantedMs: 4_000 },
    { nodeId: "n3", lastBeatMs: 1_000, lastAckMs: null, grantedMs: 0 },
  ]);
  world.nowMs = 1_100;
  beginRound();
  endRound();
  t.equal(sent[1]?.ack.seq, 42);
  t.end();
});

t.test("none by who does not lead or has not applied an entry of its own term; it is seen all the same", (t) => {
  const { world, sent, acks, beat, askers, beginRound, endRound } = setUp();
  world.may = false;
  beat("n2");
  t.equal(askers(), 0, "not even a round");
  t.match(acks.beats(), [{ nodeId: "n2", lastBeatMs: 1_000, lastAckMs: null }]);
  world.may = true;
  beat("n2");
  beginRound();
  world.may = false;
  endRound();
  t.same(sent, [], "a transfer or a step down came during the round");
  t.end();
});

t.test("none across terms, and a new term knows no history (HA-5)", (t) => {
  const { world, sent, acks, beat, beginRound, endRound } = setUp();
  beat("n2");
  beginRound();
  endRound();
  beat("n2");
  beginRound();
  t.same(acks.stop("n3", 5), { ok: true, lastAckMs: null });
  world.term = 6;
  endRound();
  t.equal(sent.length, 1);
  t.same(acks.beats(), [], "nobody was seen in this term");
  beat("n3");
  beginRound();
  endRound();
  t.equal(sent[1]?.nodeId, "n3", "who was stopped in another term is not in this one");
  t.match(acks.beats(), [{ nodeId: "n3" }]);
  t.end();
});

t.test("stopped: nothing leaves any more, not even what is in a round; the time given is of the last that left", (t) => {
  const { world, sent, acks, beat, askers, beginRound, endRound } = setUp();
  beat("n2");
  beginRound();
  world.nowMs = 1_500;
  endRound();
  beat("n2");
  beat("n3");
  beginRound();
  world.nowMs = 2_000;
  t.same(acks.stop("n2", 5), { ok: true, lastAckMs: 1_500 });
  endRound();
  t.same(
    sent.map((one) => one.nodeId),
    ["n2", "n3"],
  );
  beat("n2");
  t.equal(askers(), 0);
  t.match(acks.beats()[0], { nodeId: "n2", lastBeatMs: 2_000, lastAckMs: 1_500 }, "it is still heard of");
  t.same(acks.stop("n2", 4), { ok: false }, "asked in another term");
  t.same(acks.stop("n2", 6), { ok: false });

  acks.resume("n2");
  beat("n2");
  beginRound();
  endRound();
  t.equal(sent.at(-1)?.nodeId, "n2");
  t.end();
});

t.test("what is granted and for which claims", (t) => {
  const { sent, acks, beat, beginRound, endRound } = setUp();
  const items = [{ vmId: "v", generation: 9 }];
  acks.updateClaims([{ nodeId: "n2", set: { revision: 40, items } }], { heartbeatMs: 500, claimMs: 6_000, checkpointMbps: 400 });
  const answer = (nodeId: string, claimRevision: number): Acknowledgement | undefined => {
    beat(nodeId, { claimRevision });
    beginRound();
    endRound();
    return sent.at(-1)?.ack;
  };
  t.match(answer("n2", 39), { grantedMs: 6_000, claimRevision: 40, claims: items }, "an older set: the whole new one");
  t.match(answer("n2", 40), { claimRevision: 40, claims: null }, "it has it");
  t.match(answer("n3", 0), { claimRevision: 0, claims: null }, "of a node without claims nothing is known");
  t.equal(acks.claimRevision("n2"), 40);

  // The longest grant of this term is what an expiry must wait for (rule 7).
  acks.updateClaims([], { heartbeatMs: 500, claimMs: 2_000, checkpointMbps: 400 });
  t.match(answer("n2", 40), { grantedMs: 2_000 });
  t.match(
    acks.beats().find((one) => one.nodeId === "n2"),
    { grantedMs: 6_000 },
  );

  // Claims that change while a round is under way are those of its end.
  beat("n2", { claimRevision: 40 });
  beginRound();
  acks.updateClaims([{ nodeId: "n2", set: { revision: 50, items: [] } }], { heartbeatMs: 500, claimMs: 2_000, checkpointMbps: 400 });
  endRound();
  t.match(sent.at(-1)?.ack, { claimRevision: 50, claims: [] });
  t.end();
});

t.test("a longer duration than now counts until it is certainly over, and no longer", (t) => {
  const { world, acks, beat, beginRound, endRound } = setUp();
  const settings = { heartbeatMs: 500, checkpointMbps: 400 };
  const grantedAt = (nowMs: number): number | undefined => {
    world.nowMs = nowMs;
    beat("n2");
    beginRound();
    endRound();
    return acks.beats()[0]?.grantedMs;
  };
  acks.updateClaims([], { ...settings, claimMs: 4_000 });
  t.equal(grantedAt(1_000), 4_000);
  t.equal(grantedAt(1_500), 4_000);
  acks.updateClaims([], { ...settings, claimMs: 1_800 });
  t.equal(grantedAt(2_000), 4_000, "the one of 1,500 is in force");
  t.equal(grantedAt(9_499), 4_000);
  t.equal(grantedAt(9_500), 1_800, "8,000 ms later not any more, by any clock");
  acks.updateClaims([], { ...settings, claimMs: 3_000 });
  t.equal(grantedAt(9_600), 3_000, "longer ones count at once");
  t.end();
});
