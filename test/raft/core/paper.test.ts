/**
 * The Raft paper (Ongaro, Ousterhout: In Search of an Understandable Consensus Algorithm, extended version) and Ongaro's thesis,
 * section by section. Each name says the section and the rule.
 */
import t from "tap";
import type { Message } from "../../../src/raft/core/types.ts";
import { Cluster, confState, inner, member, receive, start, turn } from "./cluster.ts";

const of = (messages: readonly Message[], type: Message["type"]): Message[] => messages.filter((m) => m.type === type);

t.test("5.1 a peer that sees a higher term takes it and follows", async (t) => {
  for (const role of ["follower", "candidate", "leader"] as const) {
    const peer = member(1, [1, 2, 3]);
    if (role !== "follower") peer.node.campaign();
    turn(peer);
    if (role === "leader") receive(peer, "vote-reply", 2, { term: 1 });
    t.equal(peer.node.soft.role, role);
    receive(peer, "append", 2, { term: 9 });
    t.equal(peer.node.term, 9);
    t.strictSame(peer.node.soft, { role: "follower", lead: 2 });
    t.equal(peer.disk.initialState().hardState.term, 9, "and stores it");
  }
});

t.test("5.1 a message of an old term is refused", async (t) => {
  const peer = member(1, [1, 2, 3], [1, 2]);
  const out = receive(peer, "append", 2, {
    term: 1,
    index: 2,
    logTerm: 2,
    entries: [{ term: 1, index: 3, kind: "normal", data: new Uint8Array() }],
  });
  t.strictSame(out, []);
  t.equal(peer.disk.lastIndex(), 2);
  t.strictSame(receive(peer, "vote", 2, { term: 1, index: 9, logTerm: 9 }), [], "no vote either");
});

t.test("5.2 peers start as followers", async (t) => {
  t.strictSame(member(1, [1, 2, 3]).node.soft, { role: "follower", lead: 0 });
});

t.test("5.2 a leader sends heartbeats to all at every interval", async (t) => {
  const cluster = new Cluster(3);
  cluster.elect(1);
  const leader = cluster.at(1);
  leader.node.tick();
  t.strictSame(
    of(turn(leader), "heartbeat").map(({ to, term }) => [to, term]),
    [
      [2, 1],
      [3, 1],
    ],
  );
});

t.test("5.2 without a leader's sign for an election time a follower campaigns: new term, its own vote, requests to all", async (t) => {
  const peer = member(1, [1, 2, 3], [1, 1]);
  for (let i = 0; i < 10; i++) peer.node.tick();
  const out = turn(peer);
  t.equal(peer.node.soft.role, "candidate");
  t.equal(peer.node.term, 2);
  t.equal(peer.disk.initialState().hardState.vote, 1);
  t.strictSame(
    of(out, "vote").map(({ to, term, index, logTerm }) => [to, term, index, logTerm]),
    [
      [2, 2, 2, 1],
      [3, 2, 2, 1],
    ],
  );
});

t.test("5.2 a candidate wins with a majority, loses with one against, waits otherwise", async (t) => {
  // [voters, votes for, votes against] including its own.
  const table: [number, number, number, string][] = [
    [1, 1, 0, "leader"],
    [3, 2, 0, "leader"],
    [3, 2, 1, "leader"],
    [3, 1, 0, "candidate"],
    [3, 1, 1, "candidate"],
    [3, 1, 2, "follower"],
    [5, 3, 0, "leader"],
    [5, 3, 2, "leader"],
    [5, 2, 2, "candidate"],
    [5, 2, 3, "follower"],
  ];
  for (const [size, yes, no, role] of table) {
    const voters = Array.from({ length: size }, (_, i) => i + 1);
    const peer = member(1, voters);
    peer.node.campaign();
    turn(peer);
    let from = 2;
    for (let i = 1; i < yes; i++) receive(peer, "vote-reply", from++, { term: 1 });
    for (let i = 0; i < no; i++) receive(peer, "vote-reply", from++, { term: 1, reject: true });
    t.equal(peer.node.soft.role, role, `${size} voters, ${yes} for, ${no} against`);
  }
});

t.test("5.2 one vote a term, first come first served, also after a restart", async (t) => {
  const peer = member(1, [1, 2, 3]);
  t.equal(of(receive(peer, "vote", 2, { term: 1 }), "vote-reply")[0]!.reject, false);
  t.equal(of(receive(peer, "vote", 3, { term: 1 }), "vote-reply")[0]!.reject, true);
  t.equal(of(receive(peer, "vote", 2, { term: 1 }), "vote-reply")[0]!.reject, false, "the same may ask again");
  peer.node = start(1, peer.disk);
  t.equal(of(receive(peer, "vote", 3, { term: 1 }), "vote-reply")[0]!.reject, true);
});

t.test("5.2 a vote leaves only after it is durable", async (t) => {
  const peer = member(1, [1, 2, 3], [], { asyncStorageWrites: true });
  peer.node.step(voteFor(2));
  const { messages, mustSync } = peer.node.ready();
  t.equal(mustSync, true);
  t.strictSame(
    messages.map((m) => [m.type, m.vote, m.responses.map(({ type, to }) => [type, to])]),
    [["storage-append", 2, [["vote-reply", 2]]]],
  );
});

t.test("5.2 a candidate that hears from a leader of its term follows", async (t) => {
  for (const type of ["append", "heartbeat"] as const) {
    const peer = member(1, [1, 2, 3]);
    peer.node.campaign();
    turn(peer);
    receive(peer, type, 2, { term: 1 });
    t.strictSame(peer.node.soft, { role: "follower", lead: 2 });
  }
});

t.test("5.2 election times are random in [electionTicks, 2·electionTicks)", async (t) => {
  for (const extra of [0, 4, 9]) {
    const peer = member(1, [1, 2, 3], [], { random: () => extra });
    for (let i = 1; i < 10 + extra; i++) peer.node.tick();
    t.equal(peer.node.soft.role, "follower");
    peer.node.tick();
    t.equal(peer.node.soft.role, "candidate", `after ${10 + extra} ticks`);
  }
});

t.test("5.3 a leader appends a proposal, sends it, and commits and applies it once a majority has it", async (t) => {
  const cluster = new Cluster(3);
  cluster.elect(1);
  cluster.propose(1, "x");
  for (const peer of cluster.members) t.strictSame(peer.applied, ["x"]);
  t.equal(cluster.at(1).node.committed, 2);
});

t.test("5.3 committed needs a majority, for every size", async (t) => {
  // [size, acknowledgements besides the leader's own, committed]
  const table: [number, number, boolean][] = [
    [1, 0, true],
    [3, 0, false],
    [3, 1, true],
    [5, 1, false],
    [5, 2, true],
  ];
  for (const [size, others, committed] of table) {
    const cluster = new Cluster(size);
    cluster.elect(1);
    cluster.lose = (m) => m.to > others + 1;
    cluster.propose(1, "x");
    t.equal(cluster.at(1).node.committed === 2, committed, `${others} of ${size - 1} followers`);
  }
});

t.test("5.3 followers learn the commit index and apply in log order", async (t) => {
  const cluster = new Cluster(3);
  cluster.elect(1);
  for (const text of ["a", "b", "c", "d"]) cluster.propose(1, text);
  for (const peer of cluster.members) t.strictSame(peer.applied, ["a", "b", "c", "d"]);
});

t.test("5.3 an append that does not fit the log is refused with a hint", async (t) => {
  // Our log: terms 1, 2. [previous index, previous term, reject, hint index, hint term]
  const table: [number, number, boolean, number, number][] = [
    [0, 0, false, 0, 0],
    [1, 1, false, 0, 0],
    [2, 2, false, 0, 0],
    [1, 2, true, 1, 1],
    [2, 3, true, 2, 2],
    [3, 3, true, 2, 2],
  ];
  for (const [index, logTerm, reject, hint, hintTerm] of table) {
    const peer = member(1, [1, 2, 3], [1, 2]);
    const [reply] = of(receive(peer, "append", 2, { term: 3, index, logTerm }), "append-reply");
    t.strictSame(
      [reply!.reject, reply!.rejectHint, reply!.logTerm],
      [reject, reject ? hint : 0, reject ? hintTerm : 0],
      `${logTerm}/${index}`,
    );
  }
});

t.test("5.3 conflicting entries are replaced, matching ones are kept", async (t) => {
  const entry = (term: number, index: number) => ({ term, index, kind: "normal" as const, data: new Uint8Array() });
  // Our log: terms 1, 2, 2 at 1, 2, 3.
  const table: [number, number, ReturnType<typeof entry>[], number[]][] = [
    [3, 2, [entry(3, 4)], [1, 2, 2, 3]],
    [1, 1, [entry(3, 2)], [1, 3]],
    [0, 0, [entry(1, 1)], [1, 2, 2]],
    [0, 0, [entry(3, 1)], [3]],
    [1, 1, [entry(2, 2), entry(2, 3), entry(3, 4)], [1, 2, 2, 3]],
  ];
  for (const [index, logTerm, entries, terms] of table) {
    const peer = member(1, [1, 2, 3], [1, 2, 2]);
    receive(peer, "append", 2, { term: 3, index, logTerm, entries });
    t.strictSame(
      Array.from({ length: peer.disk.lastIndex() }, (_, i) => peer.disk.term(i + 1)),
      terms,
    );
  }
});

t.test("5.3 figure 7: a leader brings every kind of follower log to its own", async (t) => {
  const leaderTerms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
  const logs = [
    [1, 1, 1, 4, 4, 5, 5, 6, 6],
    [1, 1, 1, 4],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    [1, 1, 1, 4, 4, 4, 4],
    [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
  ];
  for (const terms of logs) {
    const cluster = new Cluster(3);
    cluster.members[0] = member(1, [1, 2, 3], leaderTerms);
    cluster.members[1] = member(2, [1, 2, 3], terms);
    cluster.members[0].disk.setHardState({ term: 8, vote: 0, commit: 0 });
    cluster.members[0].node = start(1, cluster.members[0].disk);
    cluster.elect(1);
    t.strictSame(cluster.leaders(), [1]);
    const read = (i: number): unknown[] => Array.from({ length: 11 }, (_, at) => cluster.members[i]!.disk.term(at + 1));
    t.strictSame(read(1), [...leaderTerms, 9], terms.join(" "));
    t.equal(cluster.members[1].disk.lastIndex(), 11);
  }
});

t.test("5.3 back-off skips whole terms, it does not step entry by entry", async (t) => {
  const cluster = new Cluster(2);
  const ours = [1, ...Array.from({ length: 50 }, () => 3)];
  const theirs = [1, ...Array.from({ length: 60 }, () => 2)];
  cluster.members[0] = member(1, [1, 2], ours);
  cluster.members[1] = member(2, [1, 2], theirs);
  let refused = 0;
  cluster.lose = (m) => {
    if (m.type === "append-reply" && m.reject) refused++;
    return false;
  };
  cluster.elect(1);
  t.equal(cluster.at(2).disk.lastIndex(), 52);
  t.ok(refused <= 2, `${refused} refusals`);
});

t.test("5.4.1 no vote for a log that is less complete", async (t) => {
  // Ours: terms 1, 2. [last term, last index, granted]
  const table: [number, number, boolean][] = [
    [2, 2, true],
    [2, 3, true],
    [3, 1, true],
    [2, 1, false],
    [1, 9, false],
  ];
  for (const [logTerm, index, granted] of table) {
    const peer = member(1, [1, 2, 3], [1, 2]);
    const [reply] = of(receive(peer, "vote", 2, { term: 3, logTerm, index }), "vote-reply");
    t.equal(!reply!.reject, granted, `${logTerm}/${index}`);
  }
});

t.test("5.4.2 figure 8: an entry of an old term is not committed by counting, only with one of the leader's own", async (t) => {
  const peer = member(1, [1, 2, 3], [1, 2]);
  peer.node.campaign();
  turn(peer);
  receive(peer, "vote-reply", 2, { term: 3 });
  t.equal(peer.node.soft.role, "leader");
  receive(peer, "append-reply", 2, { term: 3, index: 2 });
  t.equal(peer.node.committed, 0, "a majority has entry 2, but it is of term 2");
  receive(peer, "append-reply", 2, { term: 3, index: 3 });
  t.equal(peer.node.committed, 3, "with entry 3 of term 3 both are");
});

t.test("5.5 lost followers are tried again for ever, and repeated messages do no harm", async (t) => {
  const cluster = new Cluster(3);
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "a");
  cluster.heal();
  cluster.tick(1, 2);
  t.strictSame(cluster.at(3).applied, ["a"]);
  const again: Partial<Message> = {
    term: 1,
    index: 1,
    logTerm: 1,
    entries: [{ term: 1, index: 2, kind: "normal", data: new TextEncoder().encode("a") }],
  };
  receive(cluster.at(3), "append", 1, again);
  receive(cluster.at(3), "append", 1, again);
  t.strictSame(cluster.at(3).applied, ["a"]);
});

t.test("6, thesis 4.3 joint consensus needs both majorities, and is left by itself", async (t) => {
  const cluster = new Cluster(3);
  cluster.elect(1);
  cluster.members.push(member(4, [1, 2, 3]), member(5, [1, 2, 3]));
  const refusal = cluster.at(1).node.proposeConfChange({
    v1: false,
    transition: "implicit",
    changes: [
      { kind: "remove", peer: 2 },
      { kind: "remove", peer: 3 },
      { kind: "voter", peer: 4 },
      { kind: "voter", peer: 5 },
    ],
    context: null,
  });
  t.equal(refusal, null);
  // Both old ones gone: the new half alone (1, 4, 5) must not be enough to leave.
  cluster.lose = (m) => m.from !== 1 && (m.from === 4 || m.from === 5);
  cluster.settle();
  t.strictSame(cluster.at(1).node.status().confState.outgoing, [1, 2, 3]);
  cluster.heal();
  cluster.tick(1, 3);
  t.strictSame(cluster.at(1).node.status().confState, confState([1, 4, 5]));
});

t.test("thesis 4.2.1 learners get everything and count for nothing", async (t) => {
  const cluster = new Cluster(1);
  cluster.elect(1);
  cluster.members.push(member(2, [1]));
  cluster.at(1).node.proposeConfChange({ v1: false, transition: "auto", changes: [{ kind: "learner", peer: 2 }], context: null });
  cluster.settle();
  cluster.propose(1, "x");
  t.strictSame(cluster.at(2).applied, ["x"]);
  cluster.isolate(2);
  cluster.propose(1, "y");
  t.strictSame(cluster.at(1).applied, ["x", "y"], "commits without it");
  for (let i = 0; i < 50; i++) cluster.at(2).node.tick();
  t.equal(cluster.at(2).node.soft.role, "follower", "never campaigns");
});

t.test("thesis 4.2.3 while followers hear from a leader, candidates do not disturb them", async (t) => {
  const cluster = new Cluster(3, { checkQuorum: true });
  cluster.elect(1);
  t.strictSame(receive(cluster.at(2), "vote", 3, { term: 9, index: 99, logTerm: 9 }), []);
  t.equal(cluster.at(2).node.term, 1);
  for (let i = 0; i < 9; i++) cluster.at(2).node.tick();
  t.strictSame(receive(cluster.at(2), "vote", 3, { term: 9, index: 99, logTerm: 9 }), [], "not before an election time");
  cluster.at(2).node.setRandomizedElectionTicks(15);
  cluster.at(2).node.tick();
  t.equal(of(receive(cluster.at(2), "vote", 3, { term: 9, index: 99, logTerm: 9 }), "vote-reply").length, 1);
});

t.test("thesis 3.10 leadership transfer: the target catches up, then campaigns at once; proposals wait", async (t) => {
  const cluster = new Cluster(3, { checkQuorum: true, preVote: true });
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "x");
  cluster.heal();
  cluster.at(1).node.transferLeader(3);
  t.equal(cluster.at(1).node.propose(new Uint8Array(1)), "proposal-dropped");
  cluster.settle();
  cluster.tick(1, 2);
  t.strictSame(cluster.leaders(), [3]);
  t.strictSame(cluster.at(3).applied, ["x"]);
});

t.test("thesis 3.10 a transfer that takes longer than an election is given up", async (t) => {
  const cluster = new Cluster(3);
  cluster.elect(1);
  cluster.isolate(3);
  cluster.at(1).node.transferLeader(3);
  cluster.settle();
  cluster.tick(1, 10);
  t.equal(cluster.propose(1, "x"), null);
  t.strictSame(cluster.at(1).applied, ["x"]);
});

t.test("7 a follower that is too far behind gets a checkpoint, and then entries", async (t) => {
  const cluster = new Cluster(3);
  cluster.elect(1);
  cluster.isolate(3);
  for (let i = 0; i < 10; i++) cluster.propose(1, `${i}`);
  const { disk } = cluster.at(1);
  disk.createCheckpoint(8, confState([1, 2, 3]), new Uint8Array(0));
  disk.compact(8);
  cluster.heal();
  cluster.tick(1, 2);
  t.equal(cluster.at(3).disk.lastIndex(), 11);
  t.equal(cluster.at(3).disk.firstIndex(), 9);
  t.equal(inner(cluster.at(1)).tracker.progress.get(3)!.state, "replicate");
});

t.test("thesis 6.2 a leader that hears from no quorum for an election time steps down", async (t) => {
  const cluster = new Cluster(3, { checkQuorum: true });
  cluster.elect(1);
  cluster.isolate(1);
  cluster.tick(1, 10);
  cluster.tick(1, 10);
  t.equal(cluster.at(1).node.soft.role, "follower");
});

t.test("thesis 6.4 a read is answered after a quorum has confirmed the leader, not before", async (t) => {
  const cluster = new Cluster(3);
  cluster.elect(1);
  cluster.propose(1, "x");
  cluster.isolate(1);
  const leader = cluster.at(1);
  leader.node.readIndex(Uint8Array.of(7));
  cluster.settle();
  t.strictSame(inner(leader).readStates, []);
  leader.node.tick();
  const beats = of(turn(leader), "heartbeat");
  t.equal(beats.length, 2, "the round goes with the next heartbeats again");
  leader.node.step(of(receive(cluster.at(2), "heartbeat", 1, beats[0]!), "heartbeat-reply")[0]!);
  const { readStates } = leader.node.ready();
  t.strictSame(readStates, [{ index: 2, context: Uint8Array.of(7) }]);
});

t.test("thesis 9.6 pre-vote: a peer that cannot win raises no term", async (t) => {
  const cluster = new Cluster(3, { preVote: true });
  cluster.elect(1);
  cluster.isolate(3);
  for (let i = 0; i < 100; i++) cluster.tick(3, 1);
  t.equal(cluster.at(3).node.term, 1);
  t.equal(cluster.at(3).node.soft.role, "pre-candidate");
  cluster.heal();
  cluster.tick(1, 1);
  t.strictSame(cluster.leaders(), [1], "the leader stays");
  t.equal(cluster.at(1).node.term, 1);
});

function voteFor(candidate: number): Message {
  const peer = member(candidate, [1, 2, 3]);
  peer.node.campaign();
  return of(turn(peer), "vote")[0]!;
}
