/** Who votes (RAFT-1): the rule as a table of who is there, who votes, who has caught up → the next step. */
import t from "tap";
import { nextMembershipStep } from "../../src/cluster/membership.ts";
import type { Membership } from "../../src/model/membership.ts";
import type { NodeState } from "../../src/model/node.ts";

interface Case {
  what: string;
  /** Peers 1 to this number are nodes; peer 1 leads unless `self` says otherwise. */
  nodes: number;
  voters: number[];
  learners?: number[];
  caughtUp?: number[];
  states?: Record<number, NodeState>;
  /** One letter a node: its zone. */
  zones?: string;
  witnesses?: number[];
  removing?: number[];
  unconfirmed?: number[];
  silentMs?: Record<number, number>;
  votersMax?: number;
  self?: number;
  joint?: Partial<Membership>;
  next: string;
}

const REPLACE_AFTER_MS = 60_000;

const CASES: Case[] = [
  { what: "alone", nodes: 1, voters: [1], next: "" },
  { what: "two nodes: one votes, else either's death would stop both", nodes: 2, voters: [1], next: "" },
  { what: "three: both others on the way", nodes: 3, voters: [1], next: "learner 2, learner 3" },
  { what: "not before it has confirmed", nodes: 3, voters: [1], unconfirmed: [3], next: "" },
  {
    what: "nor while it joins, or is unreachable, or drains",
    nodes: 5,
    voters: [1],
    states: { 2: "joining", 3: "unreachable", 4: "draining" },
    next: "",
  },
  { what: "three: both become voters together", nodes: 3, voters: [1], learners: [2, 3], caughtUp: [2, 3], next: "voter 2, voter 3" },
  { what: "three, one lags: two voters never", nodes: 3, voters: [1], learners: [2, 3], caughtUp: [2], next: "" },
  { what: "a disabled node votes as well as others", nodes: 3, voters: [1], states: { 3: "disabled" }, next: "learner 2, learner 3" },
  {
    what: "a learner that became unreachable is let go",
    nodes: 3,
    voters: [1],
    learners: [2, 3],
    caughtUp: [2],
    states: { 3: "unreachable" },
    next: "remove 2, remove 3",
  },
  { what: "four: three vote, the last follows", nodes: 4, voters: [1, 2, 3], next: "" },
  { what: "five", nodes: 5, voters: [1, 2, 3], learners: [4, 5], caughtUp: [4, 5], next: "voter 4, voter 5" },
  {
    what: "five at once, one lags: three vote meanwhile",
    nodes: 5,
    voters: [1],
    learners: [2, 3, 4, 5],
    caughtUp: [2, 4, 5],
    next: "voter 2, voter 4",
  },
  { what: "a thousand: the first five", nodes: 1_000, voters: [1], next: "learner 2, learner 3, learner 4, learner 5" },
  { what: "seven by the setting", nodes: 7, voters: [1, 2, 3, 4, 5], votersMax: 7, next: "learner 6, learner 7" },
  {
    what: "three by the setting: the last two go in one change",
    nodes: 7,
    voters: [1, 2, 3, 4, 5],
    votersMax: 3,
    next: "remove 4, remove 5",
  },
  { what: "even voters of old get odd again", nodes: 3, voters: [1, 2], learners: [3], caughtUp: [3], next: "voter 3" },
  { what: "a change is under way: nothing", nodes: 5, voters: [1, 2, 3], joint: { outgoing: [1] }, next: "" },

  // Death.
  { what: "a voter is silent, but not for long", nodes: 4, voters: [1, 2, 3], silentMs: { 3: 59_000 }, next: "" },
  { what: "for too long: its replacement learns first", nodes: 4, voters: [1, 2, 3], silentMs: { 3: 61_000 }, next: "learner 4" },
  {
    what: "then one change swaps them",
    nodes: 4,
    voters: [1, 2, 3],
    learners: [4],
    caughtUp: [4],
    silentMs: { 3: 61_000 },
    next: "voter 4, remove 3",
  },
  { what: "not before it has caught up", nodes: 4, voters: [1, 2, 3], learners: [4], silentMs: { 3: 61_000 }, next: "" },
  { what: "nobody can take its place: it stays", nodes: 3, voters: [1, 2, 3], silentMs: { 3: 61_000 }, next: "" },
  {
    what: "two of five, one replacement: one is swapped",
    nodes: 6,
    voters: [1, 2, 3, 4, 5],
    silentMs: { 4: 61_000, 5: 61_000 },
    next: "learner 6",
  },
  { what: "it spoke again: the learner is let go", nodes: 4, voters: [1, 2, 3], learners: [4], caughtUp: [4], next: "remove 4" },
  // Two of three are needed and only one is heard of: the joint change could not be committed.
  {
    what: "most of the voters are silent: no change can be committed",
    nodes: 5,
    voters: [1, 2, 3],
    learners: [4, 5],
    caughtUp: [4, 5],
    silentMs: { 2: 61_000, 3: 61_000 },
    next: "",
  },

  // Zones.
  {
    what: "newcomers come from zones that have no voter",
    nodes: 6,
    zones: "aaabbc",
    voters: [1],
    votersMax: 3,
    next: "learner 4, learner 6",
  },
  {
    what: "a more even spread is reached by one change",
    nodes: 6,
    zones: "aaabbc",
    voters: [1, 2, 3],
    votersMax: 3,
    learners: [4, 6],
    caughtUp: [4, 6],
    next: "voter 4, voter 6, remove 2, remove 3",
  },
  { what: "but not while a voter is silent", nodes: 6, zones: "aaabbc", voters: [1, 2, 3], votersMax: 3, silentMs: { 2: 5_000 }, next: "" },
  { what: "an equal spread changes nothing", nodes: 6, zones: "aabbcc", voters: [2, 4, 6], votersMax: 3, next: "" },
  { what: "two zones, five voters: three and two, as they are", nodes: 8, zones: "aaaabbbb", voters: [1, 2, 3, 5, 6], next: "" },
  {
    what: "a dead voter's zone is filled first",
    nodes: 5,
    zones: "abcac",
    voters: [1, 2, 3],
    votersMax: 3,
    silentMs: { 3: 61_000 },
    next: "learner 5",
  },
  {
    what: "the leader does not take itself out: it hands over",
    nodes: 6,
    self: 2,
    zones: "aaabbc",
    voters: [1, 2, 3],
    votersMax: 3,
    learners: [4, 6],
    caughtUp: [4, 6],
    next: "hand-over 1",
  },

  // Witnesses and removal.
  { what: "two nodes and a witness: three votes", nodes: 3, witnesses: [3], voters: [1], next: "learner 2, learner 3" },
  { what: "a witness goes before older nodes", nodes: 5, witnesses: [5], voters: [1], votersMax: 3, next: "learner 2, learner 5" },
  {
    what: "a removed voter is replaced",
    nodes: 4,
    removing: [2],
    voters: [1, 2, 3],
    learners: [4],
    caughtUp: [4],
    next: "voter 4, remove 2",
  },
  { what: "a removed voter without replacement: one votes", nodes: 3, removing: [2], voters: [1, 2, 3], next: "remove 2, remove 3" },
  {
    what: "and not the one that is silent: the change would wait for it",
    nodes: 3,
    self: 3,
    removing: [2],
    voters: [1, 2, 3],
    silentMs: { 1: 4_000 },
    next: "remove 1, remove 2",
  },
  {
    what: "a removed leader hands over first",
    nodes: 4,
    removing: [1],
    voters: [1, 2, 3],
    learners: [4],
    caughtUp: [4],
    next: "hand-over 2 3",
  },
  { what: "the only voter goes when there is another", nodes: 2, removing: [1], voters: [1], next: "learner 2" },
  { what: "which votes beside it for a moment", nodes: 2, removing: [1], voters: [1], learners: [2], caughtUp: [2], next: "voter 2" },
  { what: "and takes over", nodes: 2, removing: [1], voters: [1, 2], next: "hand-over 2" },
  { what: "and lets it go", nodes: 2, self: 2, removing: [1], voters: [1, 2], next: "remove 1" },
  { what: "the last node of all stays", nodes: 1, removing: [1], voters: [1], next: "" },
  {
    what: "a row that is removed is no voter",
    nodes: 4,
    states: { 2: "removed" },
    voters: [1, 2, 3],
    learners: [4],
    caughtUp: [4],
    next: "voter 4, remove 2",
  },
];

for (const one of CASES) {
  const { voters, learners = [], zones = "", silentMs = {} } = one;
  const has = (peers: number[] | undefined, peerId: number): boolean => peers?.includes(peerId) === true;
  const nodes = Array.from({ length: one.nodes }, (_, i) => {
    const peerId = i + 1;
    const role = has(voters, peerId) ? ("voter" as const) : has(one.unconfirmed, peerId) ? ("none" as const) : ("follower" as const);
    return {
      peerId,
      role,
      state: one.states?.[peerId] ?? ("ready" as const),
      zone: zones[i] ?? "",
      ...(has(one.witnesses, peerId) ? { witness: true } : {}),
      ...(has(one.removing, peerId) ? { removing: { atMs: 0, actor: "somebody" } } : {}),
    };
  });
  const step = nextMembershipStep({
    nodes,
    membership: { voters, outgoing: [], learners, learnersNext: [], autoLeave: false, ...one.joint },
    self: one.self ?? 1,
    caughtUp: one.caughtUp ?? [],
    silentMs: new Map(Object.entries(silentMs).map(([peerId, ms]) => [Number(peerId), ms])),
    votersMax: one.votersMax ?? 5,
    replaceAfterMs: REPLACE_AFTER_MS,
  });
  const text =
    step.kind === "none"
      ? ""
      : step.kind === "hand-over"
        ? `hand-over ${step.to.join(" ")}`
        : step.changes.map(({ kind, peerId }) => `${kind} ${peerId}`).join(", ");
  t.equal(text, one.next, one.what);
}
