/** Who votes (RAFT-1): the rule as a table of who is there, who votes, who has caught up → the next change. */
import t from "tap";
import { nextMembershipChange } from "../../src/cluster/membership.ts";
import type { Membership } from "../../src/model/membership.ts";
import type { NodeState } from "../../src/model/node.ts";

interface Case {
  what: string;
  /** Peers 1 to this number are confirmed nodes. */
  nodes: number;
  voters: number[];
  learners?: number[];
  caughtUp?: number[];
  states?: Record<number, NodeState>;
  /** Peers that have not been confirmed. */
  unconfirmed?: number[];
  votersMax?: number;
  joint?: Partial<Membership>;
  next: string;
}

const CASES: Case[] = [
  { what: "alone", nodes: 1, voters: [1], next: "" },
  { what: "a newcomer becomes a learner", nodes: 2, voters: [1], next: "learner 2" },
  { what: "several at once", nodes: 4, voters: [1], next: "learner 2, learner 3, learner 4" },
  { what: "not before it has confirmed", nodes: 2, voters: [1], unconfirmed: [2], next: "" },
  { what: "nor when it was removed", nodes: 2, voters: [1], states: { 2: "removed" }, next: "" },
  { what: "two nodes: one votes, else either's death would stop both", nodes: 2, voters: [1], learners: [2], caughtUp: [2], next: "" },
  {
    what: "three: both learners become voters together",
    nodes: 3,
    voters: [1],
    learners: [2, 3],
    caughtUp: [2, 3],
    next: "voter 2, voter 3",
  },
  { what: "three, one lags: two voters never", nodes: 3, voters: [1], learners: [2, 3], caughtUp: [2], next: "" },
  { what: "three, one is unreachable", nodes: 3, voters: [1], learners: [2, 3], caughtUp: [2, 3], states: { 3: "unreachable" }, next: "" },
  {
    what: "a disabled node votes as well as others",
    nodes: 3,
    voters: [1],
    learners: [2, 3],
    caughtUp: [2, 3],
    states: { 3: "disabled" },
    next: "voter 2, voter 3",
  },
  {
    what: "one that joins is not healthy yet",
    nodes: 3,
    voters: [1],
    learners: [2, 3],
    caughtUp: [2, 3],
    states: { 3: "joining" },
    next: "",
  },
  { what: "four: three vote", nodes: 4, voters: [1, 2, 3], learners: [4], caughtUp: [4], next: "" },
  { what: "four at once: the first three", nodes: 4, voters: [1], learners: [4, 3, 2], caughtUp: [2, 3, 4], next: "voter 2, voter 3" },
  { what: "five", nodes: 5, voters: [1, 2, 3], learners: [4, 5], caughtUp: [4, 5], next: "voter 4, voter 5" },
  {
    what: "five at once",
    nodes: 5,
    voters: [1],
    learners: [2, 3, 4, 5],
    caughtUp: [5, 4, 3, 2],
    next: "voter 2, voter 3, voter 4, voter 5",
  },
  { what: "six: five vote", nodes: 6, voters: [1, 2, 3, 4, 5], learners: [6], caughtUp: [6], next: "" },
  {
    what: "six at once: five vote",
    nodes: 6,
    voters: [1],
    learners: [2, 3, 4, 5, 6],
    caughtUp: [2, 3, 4, 5, 6],
    next: "voter 2, voter 3, voter 4, voter 5",
  },
  {
    what: "seven where seven may",
    nodes: 7,
    voters: [1, 2, 3, 4, 5],
    learners: [6, 7],
    caughtUp: [6, 7],
    votersMax: 7,
    next: "voter 6, voter 7",
  },
  { what: "an even maximum counts as the odd below", nodes: 4, voters: [1, 2, 3], learners: [4], caughtUp: [4], votersMax: 4, next: "" },
  { what: "a change is under way: nothing", nodes: 4, voters: [1, 2, 3], learners: [], joint: { outgoing: [1] }, next: "" },
  {
    what: "a change is under way, newcomers wait too",
    nodes: 5,
    voters: [1, 2, 3],
    joint: { outgoing: [1, 2], learnersNext: [4] },
    next: "",
  },
  { what: "newcomers first, voters after", nodes: 4, voters: [1], learners: [2, 3], caughtUp: [2, 3], next: "learner 4" },
  { what: "even voters of old get odd again", nodes: 3, voters: [1, 2], learners: [3], caughtUp: [3], next: "voter 3" },
  {
    what: "one who is not caught up is not waited for",
    nodes: 4,
    voters: [1],
    learners: [2, 3, 4],
    caughtUp: [3, 4],
    next: "voter 3, voter 4",
  },
];

for (const { what, next, nodes, voters, learners = [], caughtUp = [], states = {}, unconfirmed = [], votersMax = 5, joint = {} } of CASES) {
  const rows = Array.from({ length: nodes }, (_, i) => {
    const peerId = i + 1;
    const role = voters.includes(peerId) ? ("voter" as const) : unconfirmed.includes(peerId) ? ("none" as const) : ("learner" as const);
    return { peerId, state: states[peerId] ?? ("ready" as const), role };
  });
  const membership: Membership = { voters, outgoing: [], learners, learnersNext: [], autoLeave: false, ...joint };
  const changes = nextMembershipChange({ nodes: rows, membership, caughtUp, votersMax });
  t.equal(changes.map((change) => `${change.kind} ${change.peerId}`).join(", "), next, what);
}
