/** Events in the replicated state (STA-3): exact, whole revisions, the same on each replica, bounded. */
import t from "tap";
import { applyMembership } from "../../src/state/apply.ts";
import { EventRing } from "../../src/state/events.ts";
import type { Event } from "../../src/state/outcome.ts";
import { State } from "../../src/state/state.ts";
import { NO_MEMBERSHIP } from "../../src/model/membership.ts";
import { checkpointText, CommandLog, decodeCheckpoint, encodeCheckpoint, faultOf } from "./log.ts";

t.test("every event is kept in the order of the log, and what is dropped is refused with the oldest that is kept", (t) => {
  const log = CommandLog.withNodes(2);
  log.ok({ type: "setting.update", key: "state.eventsKept", value: 100 });
  for (let i = 0; i < 150; i++) log.ok({ type: "token.create", id: `t${i}`, secretHash: "", ttlMs: 1, uses: 1 });
  const { events } = log.state;
  t.same(events.since(0, Infinity), log.events.slice(-events.count));
  // One event a command: exactly as many as asked for.
  t.equal(events.count, 100);
  t.same(events.since(events.from, Infinity), events.since(0, Infinity));
  t.match(
    faultOf(() => events.since(events.from - 1, Infinity)),
    {
      kind: "precondition",
      reason: new RegExp(`revision ${events.from - 1} is compacted: events are kept from revision ${events.from} on`),
    },
  );
  t.same(events.since(log.state.index + 1, Infinity), []);
  const rebuilt = new State();
  for (const row of decodeCheckpoint(encodeCheckpoint(log.state, { index: log.state.index, term: 1, membership: NO_MEMBERSHIP })).rows)
    rebuilt.write(row);
  rebuilt.moveTo(log.state);
  t.equal(rebuilt.events.from, events.from, "after a checkpoint too");
  t.same(rebuilt.events.since(0, Infinity), events.since(0, Infinity));
  t.equal(checkpointText(log.replayed()), checkpointText(log.state));
  t.end();
});

t.test("pages are whole revisions, and one follows the other without a gap", (t) => {
  const ring = new EventRing();
  const all: Event[] = [];
  let previous = 0;
  for (let revision = 3; revision < 400; revision += 1 + (revision % 3)) {
    const events = Array.from({ length: revision % 7 }, (_, position) => ({ revision, position }) as Event);
    if (events.length === 0) continue;
    ring.append({ revision, previous, events });
    previous = revision;
    all.push(...events);
  }
  const read: Event[] = [];
  for (let next = 1; ;) {
    const page = ring.since(next, 10);
    if (page.length === 0) break;
    read.push(...page);
    next = (page.at(-1)?.revision ?? 0) + 1;
  }
  t.same(read, all);
  const whole = all.filter(({ revision }) => revision >= 200);
  const surplus = Array.from(ring.surplus(whole.length, 0));
  for (const row of surplus) ring.drop(String(row.revision).padStart(16, "0"));
  t.ok(ring.count >= whole.length && ring.count < whole.length + 7, "no more is dropped than must be");
  t.same(ring.since(ring.from, Infinity), all.slice(-ring.count));
  t.end();
});

t.test("what a change of membership tells does not depend on the order in which a replica came to know its nodes (STA-1)", (t) => {
  const { state } = CommandLog.withNodes(5);
  const shuffled = new State();
  const rows = [...state.rows()];
  for (const row of rows.toReversed()) if (row.table === "nodes") shuffled.write(row);
  for (const row of rows) if (row.table !== "nodes") shuffled.write(row);
  shuffled.moveTo(state);
  const membership = { ...NO_MEMBERSHIP, voters: [3, 1, 5, 2, 4] };
  const index = state.index + 1;
  const tell = (of: State): Event[] => applyMembership(of, membership, { index, term: 1 }).events;
  const events = tell(state);
  t.ok(events.length > 1);
  t.same(tell(shuffled), events);
  t.end();
});
