import t from "tap";
import { EventLog } from "../../src/cluster/event-log.ts";
import type { Event } from "../../src/state/outcome.ts";
import { faultOf } from "../state/log.ts";

function event(revision: number, message = ""): Event {
  return { revision, atMs: 0, kind: "vm.state", subjectId: "", subjectName: "", nodeId: "", message, actor: "" };
}
const revisions = (log: EventLog, from: number): number[] => log.since(from).map((one) => one.revision);

t.test("from a revision on, that one included; gaps in the numbers are no gaps in the events", (t) => {
  const log = new EventLog();
  log.append([event(3, "a"), event(3, "b"), event(7)]);
  log.append([event(9)]);
  t.same(revisions(log, 0), [3, 3, 7, 9]);
  for (const [from, expected] of [
    [1, [3, 3, 7, 9]],
    [3, [3, 3, 7, 9]],
    [4, [7, 9]],
    [7, [7, 9]],
    [9, [9]],
    [10, []],
    [99, []],
  ] as const) {
    t.same(revisions(log, from), expected, `from ${from}`);
  }
  t.same(
    log.since(3).map((one) => one.message),
    ["a", "b", "", ""],
  );
  t.end();
});

t.test("a state that begins anew forgets, and says so", (t) => {
  const log = new EventLog();
  log.append([event(3)]);
  log.beginAfter(10);
  t.same(revisions(log, 0), []);
  t.match(
    faultOf(() => log.since(10)),
    { kind: "precondition", reason: "events of revision 10 are not held any more: the oldest is 11" },
  );
  t.same(revisions(log, 11), []);
  log.append([event(11)]);
  t.same(revisions(log, 11), [11]);
  t.end();
});

t.test("at every cut each revision is whole or refused, never a gap", (t) => {
  // Revisions of 1 to 70 events each, so that a cut falls within some.
  const log = new EventLog();
  const made: Event[] = [];
  let cuts = 0;
  let oldest = 1;
  for (let revision = 1; made.length < 100_000; revision++) {
    const events = Array.from({ length: 1 + (revision % 70) }, (_, i) => event(revision, `${i}`));
    made.push(...events);
    log.append(events);
    const held = log.since(0);
    if (held.length > 25_000) t.fail(`${held.length} events are held`);
    const first = held[0]!.revision;
    if (first === oldest) continue;
    cuts += 1;
    oldest = first;
    const expected = made.filter((one) => one.revision >= first);
    t.equal(JSON.stringify(log.since(first)) === JSON.stringify(expected), true, `whole from ${first} on`);
    t.match(
      faultOf(() => log.since(first - 1)),
      { kind: "precondition" },
    );
    t.equal(log.since(first + 1)[0]?.revision, first + 1);
    t.ok(held.length >= 20_000 - 70, "no more is cut than must be");
  }
  // From 25,001 on back to 20,000: (100,000 − 25,000) ÷ 5,000.
  t.ok(cuts >= 14 && cuts <= 16, `${cuts} cuts`);
  t.end();
});

t.test("a caller's list is its own", (t) => {
  const log = new EventLog();
  log.append([event(1)]);
  log.since(0).pop();
  log.since(1).pop();
  t.same(revisions(log, 0), [1]);
  t.end();
});
