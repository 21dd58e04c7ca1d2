/** When a call is refused at once (RAFT-6): a table of what the node knows. */
import t from "tap";
import { Availability } from "../../src/cluster/availability.ts";
import type { Clock } from "../../src/base/clock.ts";
import { firstMembership } from "../../src/model/membership.ts";
import type { Node } from "../../src/model/node.ts";

const ELECTION_MS = 1_000;

function started(): { availability: Availability; time: { nowMs: number } } {
  const time = { nowMs: 5_000 };
  const clock = { monotonicMs: () => time.nowMs } as Clock;
  const availability = new Availability("n1", clock);
  availability.started(ELECTION_MS);
  return { availability, time };
}

function nodes(states: Record<string, string> = {}): Map<string, Node> {
  const row = (id: string, peerId: number): [string, Node] => [
    id,
    { id, name: id, peerId, state: states[id] ?? "ready", stateWhy: "removed by anna" } as Node,
  ];
  return new Map([row("n1", 1), row("n2", 2), row("n3", 3)]);
}

const membership = { ...firstMembership(1), voters: [1, 2, 3] };

t.test("elections are waited for, anything longer is refused", (t) => {
  const { availability, time } = started();
  t.equal(availability.refusal(nodes(), membership), null, "it has just started");
  time.nowMs += 4 * ELECTION_MS;
  t.equal(availability.refusal(nodes(), membership), null);
  time.nowMs += 1;
  availability.heard([2]);
  const refusal = availability.refusal(nodes(), membership);
  t.match(refusal?.fault, { kind: "unavailable", reason: /no leader for 4 s: nothing was changed/ });
  t.match(refusal?.hint, /reachable: n1, n2; not: n3/);
  availability.leaderIs(true);
  t.equal(availability.refusal(nodes(), membership), null);
  time.nowMs += 60_000;
  availability.leaderIs(false);
  t.equal(availability.refusal(nodes(), membership), null, "its time begins when the leader is lost");
  availability.leaderIs(false);
  time.nowMs += 4 * ELECTION_MS + 1;
  t.not(availability.refusal(nodes(), membership), null, "and does not begin anew");
  t.end();
});

t.test("a removed node says so, whoever told it", (t) => {
  const { availability } = started();
  t.ok(availability.removedBy("n2"));
  t.notOk(availability.removedBy("n3"), "said once");
  const refusal = availability.refusal(nodes(), membership);
  t.match(refusal?.fault, { kind: "precondition", reason: /node n1 was removed from the cluster/ });
  t.match(refusal?.hint, /move its data folder away/);
  availability.leaderIs(true);
  t.equal(availability.refusal(nodes(), membership), null, "one that hears a leader is not removed");
  t.match(availability.refusal(nodes({ n1: "removed" }), membership)?.fault, { reason: /removed by anna/ }, "its own row says so");
  t.end();
});
