import t from "tap";
import { Rounds } from "../../../src/cluster/consensus/rounds.ts";
import { faultOf } from "../../state/log.ts";

/** Rounds whose contexts are kept, as Raft would get them. */
function setUp(salt = 7) {
  const begun: Uint8Array[] = [];
  const ended: string[] = [];
  const rounds = new Rounds((context) => void begun.push(context), salt);
  const join = (name: string, nowMs = 0): void => rounds.join(nowMs, (index) => void ended.push(`${name}@${index}`));
  const confirm = (at: number, index: number, nowMs = 0): void => rounds.confirmed(nowMs, begun[at]!, index);
  return { rounds, begun, ended, join, confirm };
}

t.test("one round at a time; who comes while one is under way is in the next", (t) => {
  const { begun, ended, join, confirm } = setUp();
  join("a");
  t.equal(begun.length, 1, "the first begins at once");
  join("b");
  join("c");
  t.equal(begun.length, 1);
  confirm(0, 10);
  t.same(ended, ["a@10"], "b and c came after the round had begun: it proves nothing for them");
  t.equal(begun.length, 2, "theirs begins when the one before has ended");
  confirm(1, 12);
  t.same(ended, ["a@10", "b@12", "c@12"]);
  t.equal(begun.length, 2, "nobody waits: no round");
  join("d");
  confirm(2, 13);
  t.same(ended.at(-1), "d@13");
  t.end();
});

t.test("an answer counts once, and for its own round only", (t) => {
  const { rounds, ended, join, confirm } = setUp();
  join("a");
  confirm(0, 10);
  join("b");
  confirm(0, 10);
  rounds.confirmed(0, new Uint8Array(8), 11);
  rounds.confirmed(0, new Uint8Array(3), 11);
  rounds.confirmed(0, new Uint8Array(), 11);
  t.same(ended, ["a@10"]);
  confirm(1, 12);
  confirm(1, 12);
  t.same(ended, ["a@10", "b@12"]);
  t.end();
});

t.test("a round without an answer is begun again with everybody, and loses nobody", (t) => {
  const { rounds, begun, ended, join, confirm } = setUp();
  join("a", 0);
  join("b", 100);
  rounds.tick(400);
  t.equal(begun.length, 1, "400 ms are not too long");
  rounds.tick(401);
  t.equal(begun.length, 2);
  rounds.tick(402);
  t.equal(begun.length, 2, "the new one has its own time");
  join("c", 500);
  confirm(0, 10, 600);
  t.same(ended, [], "the first round's answer comes too late: b was not in it");
  confirm(1, 11, 700);
  t.same(ended, ["a@11", "b@11"]);
  t.equal(begun.length, 3);
  confirm(2, 12, 800);
  t.same(ended.at(-1), "c@12");
  rounds.tick(10_000);
  t.equal(begun.length, 3, "nothing is under way");
  t.end();
});

t.test("a caller that asks again from within its own end is in the next round", (t) => {
  const { rounds, begun, ended, join, confirm } = setUp();
  rounds.join(0, () => join("again"));
  confirm(0, 10);
  t.equal(begun.length, 2);
  t.same(ended, []);
  confirm(1, 11);
  t.same(ended, ["again@11"]);
  t.end();
});

t.test("after a restart an answer to what was asked before is not taken", (t) => {
  const before = setUp(7);
  before.join("a");
  const after = setUp(8);
  after.join("b");
  after.rounds.confirmed(0, before.begun[0]!, 10);
  t.same(after.ended, []);
  t.end();
});

t.test("its number is limited", (t) => {
  const { rounds } = setUp();
  rounds.join(0, () => {});
  for (let i = 0; i < 100_000; i++) rounds.join(0, () => {});
  t.match(
    faultOf(() => rounds.join(0, () => {})),
    { kind: "exhausted" },
  );
  t.end();
});
