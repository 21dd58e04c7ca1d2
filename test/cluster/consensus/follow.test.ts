/** Nodes that are no Raft peers, how they become peers and how they cease to be (docs/design/006-who-follows.md). */
import t from "tap";
import { decodeFrame } from "../../../src/cluster/consensus/frames.ts";
import { message } from "../../../src/raft/core/message.ts";
import { Group, type GroupPeer, until } from "./group.ts";

const VOTERS = 3;

async function groupOf(test: Pick<typeof t, "teardown">, followers: number): Promise<Group> {
  const group = await Group.create(VOTERS, followers);
  test.teardown(() => group.close());
  await until(() => group.peers.every((peer) => peer.status?.leaderPeerId === leaderOf(group).peer.peerId), "all know the leader");
  return group;
}

function leaderOf(group: Group): GroupPeer {
  const found = group.leader();
  if (found === undefined) throw new Error("no leader");
  return found;
}

function has(peers: readonly GroupPeer[], id: string): () => boolean {
  return () => peers.every((peer) => peer.applied.includes(id));
}

/** Whom the follower says where it is. */
function sourcesOf(group: Group, follower: GroupPeer): () => string | undefined {
  let last: string | undefined;
  group.drop = (from, to, payload) => {
    if (from === follower && decodeFrame(payload).kind === "follow") last = to.peer.nodeId;
    return false;
  };
  return () => last;
}

function whole(test: Pick<typeof t, "same">, group: Group): void {
  test.same(
    group.peers.flatMap((peer) => peer.fatal),
    [],
    "nothing broke",
  );
}

let reads = 1_000;
async function read(peer: GroupPeer): Promise<number> {
  const id = ++reads;
  peer.send({ kind: "read", id });
  const answer = (): number | undefined => {
    for (const post of peer.posted) if (post.kind === "read-ready" && post.id === id) return post.index;
    return undefined;
  };
  await until(() => answer() !== undefined, "a read");
  return answer()!;
}

t.test("followers apply, propose, read and are acknowledged as voters are", async (t) => {
  const group = await groupOf(t, 2);
  const followers = group.peers.slice(VOTERS);
  for (const peer of followers) {
    t.same(peer.membership.voters, [1, 2, 3]);
    t.same(peer.log.lastIndex(), 0, "it keeps no log");
    peer.propose(`by ${peer.peer.nodeId}`);
    await until(has(group.peers, `by ${peer.peer.nodeId}`), "applied everywhere");
    t.ok((await read(peer)) >= leaderOf(group).index, "a linearizable read");
    peer.send({ kind: "claims", sets: [], settings: { heartbeatMs: 20, claimMs: 4_000, checkpointMbps: 400 } });
  }
  await until(() => followers.every((peer) => peer.acks.length > 3), "acknowledgements from the leader");
  t.same([...new Set(followers.map((peer) => peer.acks.at(-1)?.nonce))], ["n4", "n5"]);
  whole(t, group);
});

t.test("a follower proposes for itself only (SEC-3)", async (t) => {
  const group = await groupOf(t, 1);
  const [follower] = group.peers.slice(VOTERS) as [GroupPeer];
  follower.propose("forged", "n1");
  follower.propose("honest");
  await until(has(group.peers, "honest"), "the honest one");
  t.notOk(leaderOf(group).applied.includes("forged"));
});

t.test("its source is cut off from it, or from the leader: it follows another", async (t) => {
  const group = await groupOf(t, 1);
  const [follower] = group.peers.slice(VOTERS) as [GroupPeer];
  const source = sourcesOf(group, follower);
  await until(() => ![undefined, leaderOf(group).peer.nodeId].includes(source()), "not the leader, which has enough to do");
  const first = group.peers.find((peer) => peer.peer.nodeId === source())!;
  group.cut.add(`${first.peer.peerId}>4`);
  await until(() => source() !== first.peer.nodeId, "another source");
  leaderOf(group).propose("after the cut");
  await until(has([follower], "after the cut"), "it goes on");
  group.cut.clear();

  const second = group.peers.find((peer) => peer.peer.nodeId === source())!;
  // It serves the follower still, but hears of nothing new.
  for (const other of group.peers.slice(0, VOTERS)) {
    if (other === second) continue;
    group.cut.add(`${other.peer.peerId}>${second.peer.peerId}`);
    group.cut.add(`${second.peer.peerId}>${other.peer.peerId}`);
  }
  await until(() => source() !== second.peer.nodeId, "a source that hears a leader");
  const rest = group.peers.filter((peer) => peer !== second);
  await until(() => rest.some((peer) => peer.status?.leading === true), "a leader among the rest");
  rest.find((peer) => peer.status?.leading === true)!.propose("without the stale one");
  await until(has([follower], "without the stale one"), "it goes on");
  whole(t, group);
});

t.test("a voter that is none any more, and nobody else in reach, is not asked without a pause", async (t) => {
  const group = await groupOf(t, 1);
  const [follower] = group.peers.slice(VOTERS) as [GroupPeer];
  const source = sourcesOf(group, follower);
  await until(() => ![undefined, leaderOf(group).peer.nodeId].includes(source()), "not the leader");
  const gone = group.peers.find((peer) => peer.peer.nodeId === source())!;
  group.isolate(follower, true);
  await group.change([{ kind: "remove", peerId: gone.peer.peerId }]);
  await until(() => !gone.membership.voters.includes(gone.peer.peerId), "it knows; the follower does not");
  let asked = 0;
  group.drop = (from, _to, payload) => {
    if (from === follower && decodeFrame(payload).kind === "follow") asked++;
    return false;
  };
  group.cut.delete(`4>${gone.peer.peerId}`);
  group.cut.delete(`${gone.peer.peerId}>4`);
  await until(() => asked > 0, "it asks");
  // Two in 100 ms, in which it looks four times and asks twice at most each time.
  const told = (): number => follower.posted.filter((post) => post.kind === "heard").length;
  const before = { asked, told: told() };
  await until(() => told() - before.told > 30, "time goes by");
  t.ok(asked - before.asked <= 4 * (told() - before.told) + 4, `asked ${asked - before.asked} times`);
  group.isolate(follower, false);
  leaderOf(group).propose("healed");
  await until(has([follower, gone], "healed"), "both follow voters again");
  whole(t, group);
});

t.test("lost frames are asked for again, in order and once", async (t) => {
  const group = await groupOf(t, 1);
  const [follower] = group.peers.slice(VOTERS) as [GroupPeer];
  let n = 0;
  group.drop = (_from, to, payload) => to === follower && decodeFrame(payload).kind === "feed" && n++ % 3 === 0;
  for (let i = 0; i < 40; i++) {
    leaderOf(group).propose(`lossy-${i}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until(has(group.peers, "lossy-39"), "all of them");
  t.same(follower.applied, leaderOf(group).applied);
  whole(t, group);
});

t.test("a cursor that was cut off the log gets a checkpoint; a stuck follower holds nobody up", async (t) => {
  const group = await groupOf(t, 1);
  const [follower] = group.peers.slice(VOTERS) as [GroupPeer];
  const voters = group.peers.slice(0, VOTERS);
  follower.stalled = [];
  for (let i = 0; i < 50; i++) leaderOf(group).propose(`gap-${i}`);
  await until(has(voters, "gap-49"), "the voters go on");
  await follower.driver.stop();
  for (const peer of voters) {
    await peer.log.saveCheckpoint(peer.index, peer.membership);
    await peer.log.compact(peer.index);
  }
  const before = follower.installs;
  follower.stalled = null;
  await follower.open(false);
  await until(has([follower], "gap-49"), "it has them");
  t.equal(follower.installs, before + 1);
  follower.propose("after");
  await until(has(group.peers, "after"), "and goes on");
  t.same(follower.applied, leaderOf(group).applied);
  whole(t, group);
});

t.test("another history is not gone on with", async (t) => {
  const group = await groupOf(t, 1);
  const [follower] = group.peers.slice(VOTERS) as [GroupPeer];
  leaderOf(group).propose("one");
  await until(has(group.peers, "one"), "applied");
  await follower.driver.stop();
  follower.term += 1;
  await follower.open(false);
  await until(() => follower.fatal.length > 0, "it stops");
  t.match(follower.fatal[0], { message: /not of the history/, hint: /move its data folder away/ });
});

t.test("a follower becomes a voter, killed at each step of the way", async (t) => {
  const group = await groupOf(t, 1);
  const [node] = group.peers.slice(VOTERS) as [GroupPeer];
  for (let i = 0; i < 20; i++) leaderOf(group).propose(`before-${i}`);
  await until(has(group.peers, "before-19"), "applied");
  const again = async (): Promise<void> => {
    await node.driver.stop();
    node.status = null;
    await node.open(false);
  };

  // Chosen, its state says so, and no log yet.
  const change = group.change([{ kind: "learner", peerId: 4 }]);
  await until(() => node.membership.learners.includes(4), "it knows");
  await again();
  await change;
  leaderOf(group).propose("as learner");
  await until(has([node], "as learner"), "it follows by Raft");
  t.ok(node.log.firstIndex() > 1, "its log begins with a checkpoint");
  t.equal(node.log.lastIndex(), leaderOf(group).log.lastIndex());
  await again();

  await group.change([
    { kind: "voter", peerId: 4 },
    { kind: "remove", peerId: followerOf(group).peer.peerId },
  ]);
  await until(() => node.membership.voters.includes(4) && node.membership.outgoing.length === 0, "it votes");
  await again();
  const { hardState } = node.log.initialState();
  t.ok(hardState.term >= leaderOf(group).status!.term);
  leaderOf(group).propose("as voter");
  await until(has(group.peers, "as voter"), "all apply, the demoted one too");
  whole(t, group);
});

t.test("a demoted voter follows, keeps its log and vote, and can come back", async (t) => {
  const group = await groupOf(t, 0);
  const gone = followerOf(group);
  const { peerId } = gone.peer;
  await group.change([{ kind: "remove", peerId }]);
  await until(() => !gone.membership.voters.includes(peerId) && gone.membership.voters.length === 2, "it knows");
  for (let i = 0; i < 10; i++) leaderOf(group).propose(`without-${i}`);
  await until(has(group.peers, "without-9"), "it follows");
  const { hardState } = gone.log.initialState();
  t.ok(gone.log.lastIndex() < gone.index, "without a log of its own");
  await group.change([{ kind: "learner", peerId }]);
  await group.change([{ kind: "voter", peerId }]);
  await until(() => gone.membership.voters.includes(peerId) && gone.status?.leaderPeerId === leaderOf(group).peer.peerId, "it votes");
  gone.propose("back");
  await until(has(group.peers, "back"), "it is back");
  t.ok(gone.log.initialState().hardState.term >= hardState.term);
  whole(t, group);
});

t.test("reads under way when a voter becomes a follower, or a follower a voter, are answered from the new seat", async (t) => {
  const group = await groupOf(t, 0);
  const moved = followerOf(group);
  const { peerId } = moved.peer;
  const lead = leaderOf(group).peer.peerId;
  let asking = true;
  // Its question to the leader is lost for as long as it sits where it is.
  group.drop = (from, to, payload) => {
    const frame = decodeFrame(payload);
    return asking && from === moved && to.peer.peerId === lead && frame.kind === "raft" && frame.message.type === "read-index";
  };
  const left = read(moved);
  await group.change([{ kind: "remove", peerId }]);
  await until(() => !moved.membership.voters.includes(peerId), "it follows");
  asking = false;
  t.ok((await left) > 0, "asked again as a follower");

  asking = true;
  const joined = read(moved);
  await group.change([{ kind: "learner", peerId }]);
  await group.change([{ kind: "voter", peerId }]);
  await until(() => moved.membership.voters.includes(peerId), "it votes");
  asking = false;
  t.ok((await joined) > 0, "asked again as a voter");
  whole(t, group);
});

t.test("a follower whose voters are all gone does not believe in their leader for ever (RAFT-6)", async (t) => {
  const group = await groupOf(t, 1);
  const [follower] = group.peers.slice(VOTERS) as [GroupPeer];
  group.isolate(follower, true);
  await until(() => follower.status?.leaderPeerId === 0, "no leader any more");
  group.isolate(follower, false);
  await until(() => follower.status?.leaderPeerId === leaderOf(group).peer.peerId, "it is back");
  whole(t, group);
});

t.test("who is no peer cannot raise the term, vote or lead (SEC-3)", async (t) => {
  const group = await groupOf(t, 1);
  const [stranger] = group.peers.slice(VOTERS) as [GroupPeer];
  const lead = leaderOf(group);
  const { term } = lead.status!;
  const types = ["append", "heartbeat", "vote", "append-reply", "heartbeat-reply", "vote-reply", "pre-vote-reply", "timeout-now"] as const;
  for (const to of group.peers.slice(0, VOTERS)) {
    for (const type of types) {
      const forged = {
        ...message(type, to.peer.peerId, stranger.peer.peerId),
        term: term + 1_000,
        logTerm: term + 1_000,
        index: 1_000_000,
      };
      stranger.say(to, { kind: "raft", message: forged });
    }
  }
  lead.propose("after all that");
  await until(has(group.peers, "after all that"), "the group goes on");
  t.same(
    group.peers.map((peer) => peer.status?.term),
    [term, term, term, term],
  );
  t.equal(leaderOf(group), lead);
  whole(t, group);
});

t.test("a voter that missed how all others were replaced finds out who leads it", async (t) => {
  const group = await groupOf(t, 2);
  const late = followerOf(group);
  const { peerId } = late.peer;
  group.isolate(late, true);
  for (const id of [4, 5]) await group.change([{ kind: "learner", peerId: id }]);
  await group.change([4, 5].map((id) => ({ kind: "voter" as const, peerId: id })));
  const joined = group.peers.slice(VOTERS);
  const settled = ({ membership, peer }: GroupPeer): boolean => membership.voters.includes(peer.peerId) && membership.outgoing.length === 0;
  await until(() => joined.every(settled), "they vote");
  leaderOf(group).send({ kind: "transfer-leadership", among: [4, 5] });
  await until(() => [4, 5].includes(group.leader()?.peer.peerId ?? 0), "one of the new ones leads");
  await group.change([1, 2, 3].filter((id) => id !== peerId).map((id) => ({ kind: "remove" as const, peerId: id })));
  group.isolate(late, false);
  leaderOf(group).propose("by a stranger");
  await until(has([late], "by a stranger"), "it follows the leader that it did not know");
  whole(t, group);
});

t.test("a voter that was replaced while it was cut off finds out by asking", async (t) => {
  const group = await groupOf(t, 1);
  const old = followerOf(group);
  group.isolate(old, true);
  await group.change([{ kind: "learner", peerId: 4 }]);
  await group.change([
    { kind: "voter", peerId: 4 },
    { kind: "remove", peerId: old.peer.peerId },
  ]);
  leaderOf(group).propose("meanwhile");
  t.ok(old.membership.voters.includes(old.peer.peerId), "nobody told it");
  group.isolate(old, false);
  await until(has([old], "meanwhile"), "it follows");
  t.notOk(old.membership.voters.includes(old.peer.peerId));
  t.equal(leaderOf(group).status?.leading, true);
  whole(t, group);
});

t.test("a learner that was taken out while it was cut off finds out by asking, though it never campaigns", async (t) => {
  const group = await groupOf(t, 1);
  const [learner] = group.peers.slice(VOTERS) as [GroupPeer];
  await group.change([{ kind: "learner", peerId: 4 }]);
  await until(() => learner.membership.learners.includes(4) && learner.log.lastIndex() > 0, "a peer");
  leaderOf(group).propose("as learner");
  await until(has([learner], "as learner"), "it has heard the leader");
  group.isolate(learner, true);
  await group.change([{ kind: "remove", peerId: 4 }]);
  leaderOf(group).propose("meanwhile");
  t.ok(learner.membership.learners.includes(4), "nobody told it");
  group.isolate(learner, false);
  await until(has([learner], "meanwhile"), "it follows");
  t.notOk(learner.membership.learners.includes(4));
  learner.propose("by a follower");
  await until(has(group.peers, "by a follower"), "and proposes");
  whole(t, group);
});

function followerOf(group: Group): GroupPeer {
  return group.peers.slice(0, VOTERS).find((peer) => peer !== leaderOf(group))!;
}
