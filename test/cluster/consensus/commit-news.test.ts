/** Appends that only tell how far the log is committed: they wait a little for entries to go along with. */
import t from "tap";
import { CommitNews } from "../../../src/cluster/consensus/commit-news.ts";
import { Lifetime } from "../../../src/cluster/consensus/effects.ts";
import { message, NO_DATA } from "../../../src/raft/core/message.ts";
import type { Message } from "../../../src/raft/core/types.ts";
import { ManualClock } from "../../support/manual-clock.ts";

function append(to: number, commit: number, entries = 0): Message {
  const m = message("append", to, 1);
  m.commit = commit;
  m.entries = Array.from({ length: entries }, (_, i) => ({ index: i + 1, term: 1, kind: "normal" as const, data: NO_DATA }));
  return m;
}

function room(): { clock: ManualClock; news: CommitNews; sent: string[]; lifetime: Lifetime } {
  const clock = new ManualClock();
  const lifetime = new Lifetime(clock);
  const sent: string[] = [];
  const send = ({ to, commit }: Message): void => void sent.push(`${to}: ${commit}`);
  return { clock, lifetime, sent, news: new CommitNews({ lifetime, nowMs: () => clock.monotonicMs(), send }) };
}

t.test("one goes with the next entries, or by itself after 5 ms, the newest only", (t) => {
  const { clock, news, sent } = room();
  t.equal(news.holds(append(2, 7)), true);
  t.equal(news.holds(append(3, 7)), true);
  t.equal(news.holds(append(2, 8, 1)), false, "entries do not wait, and say it all");
  clock.pass(4);
  t.equal(news.holds(append(3, 9)), true);
  t.same(sent, []);
  clock.pass(1);
  t.same(sent, ["3: 9"]);
  clock.pass(100);
  t.same(sent, ["3: 9"]);
  t.end();
});

t.test("none waits while another node asks, and what waited goes at once", (t) => {
  const { clock, news, sent } = room();
  t.equal(news.holds(append(2, 7)), true);
  news.asked();
  t.same(sent, ["2: 7"]);
  clock.pass(49);
  t.equal(news.holds(append(2, 8)), false);
  clock.pass(1);
  t.equal(news.holds(append(2, 9)), true);
  t.end();
});

t.test("a room that is over sends nothing", (t) => {
  const { clock, lifetime, news, sent } = room();
  news.holds(append(2, 7));
  lifetime.end();
  clock.pass(10);
  t.same(sent, []);
  t.end();
});
