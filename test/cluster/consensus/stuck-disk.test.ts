/** Disks that do not answer (hashicorp/raft 503 and 612): who leads must not outlive its writes, and who follows must not campaign. */
import t from "tap";
import { decodeFrame } from "../../../src/cluster/consensus/frames.ts";
import { Group, type GroupPeer, until } from "./group.ts";

/** Election time of a group's peers, ms (10 ticks of 10 ms). */
const ELECTION_MS = 100;

async function threeOf(t: { teardown(run: () => Promise<void>): void }): Promise<Group> {
  const group = await Group.create(3);
  t.teardown(() => group.close());
  return group;
}

function hold(peer: GroupPeer): () => void {
  let release = (): void => {};
  peer.diskStuck = new Promise((resolve) => (release = resolve));
  return () => {
    peer.diskStuck = null;
    release();
  };
}

function typeOf(payload: Uint8Array): string {
  const frame = decodeFrame(payload);
  return frame.kind === "raft" ? frame.message.type : "";
}

const leads = (peer: GroupPeer): boolean => peer.status?.leading === true;
const diskPosts = (peer: GroupPeer): boolean[] => peer.posted.flatMap((post) => (post.kind === "disk" ? [post.stuck] : []));

t.test("hashicorp/raft 503: a leader whose write hangs hands over, and comes back as a follower", async (t) => {
  const group = await threeOf(t);
  const old = group.leader()!;
  const term = old.status!.term;
  const release = hold(old);
  old.propose("held up");
  await until(() => group.leader() !== old && group.leader() !== undefined, "another leads");
  const next = group.leader()!;
  t.equal(next.status!.term, term + 1, "handed over, not voted out");
  // Its followers had the entry before its own disk did, so the next leader has it too.
  await until(() => group.peers.every((peer) => peer === old || peer.applied.includes("held up")), "nothing is lost");
  next.propose("goes on");
  await until(() => group.peers.every((peer) => peer === old || peer.applied.includes("goes on")), "the rest goes on");
  await until(() => diskPosts(old).at(-1) === true, "it says why");
  t.notOk(leads(old));
  t.notOk(old.applied.includes("goes on"), "what is not written is not applied");

  release();
  await until(() => old.applied.includes("goes on"), "it is back");
  await until(() => diskPosts(old).at(-1) === false, "and says so");
  t.same(old.applied, next.applied);
  t.same(
    group.peers.flatMap((peer) => peer.fatal),
    [],
  );
});

t.test("hashicorp/raft 612: heartbeats do not outlive the disk where nobody can take over at once", async (t) => {
  const group = await threeOf(t);
  const old = group.leader()!;
  const term = old.status!.term;
  // The word to take over never arrives.
  group.drop = (from, _to, payload) => from === old && typeOf(payload) === "timeout-now";
  const release = hold(old);
  old.propose("held up");
  await until(() => group.peers.some((peer) => peer !== old && leads(peer) && peer.status!.term > term), "the others elect by themselves");
  group.drop = null;
  release();
  await until(() => !leads(old) && old.applied.includes("held up"), "the old one follows");
  t.same(
    group.peers.flatMap((peer) => peer.fatal),
    [],
  );
});

t.test("a stuck follower does not campaign, does not take a leadership that it is offered, and holds up nobody", async (t) => {
  const group = await threeOf(t);
  const leader = group.leader()!;
  const stuck = group.peers.find((peer) => peer !== leader)!;
  const release = hold(stuck);
  leader.propose("a");
  await until(() => diskPosts(stuck).at(-1) === true, "it has noticed");
  for (let i = 0; i < 20; i++) leader.propose(`more-${i}`);
  await until(() => group.peers.every((peer) => peer === stuck || peer.applied.includes("more-19")), "the others go on");

  // Without word from the leader it would ask for votes after at most two election times; ten go by.
  const term = leader.status!.term;
  let asked = 0;
  group.cut.add(`${leader.peer.peerId}>${stuck.peer.peerId}`);
  group.drop = (from, _to, payload) => {
    if (from === stuck && typeOf(payload) === "pre-vote") asked++;
    return false;
  };
  const beganMs = Date.now();
  await until(() => Date.now() - beganMs > 10 * ELECTION_MS, "ten election times");
  t.equal(asked, 0, "it asks for no votes");
  t.notOk(leads(stuck));
  t.equal(stuck.status!.term, term);
  group.drop = null;
  group.cut.clear();
  leader.propose("still");
  await until(() => leader.applied.includes("still"), "it has disturbed nobody");
  t.equal(leader.status!.term, term);
  t.ok(leads(leader));

  release();
  await until(() => stuck.applied.includes("still"), "it is back");
  t.same(stuck.applied, leader.applied);
  t.same(
    group.peers.flatMap((peer) => peer.fatal),
    [],
  );
});

t.test("alone, a leader with a stuck disk waits for it", async (t) => {
  const group = await Group.create(1);
  t.teardown(() => group.close());
  const [peer] = group.peers as [GroupPeer];
  const release = hold(peer);
  peer.propose("held up");
  await until(() => diskPosts(peer).at(-1) === true, "it says so");
  const beganMs = Date.now();
  await until(() => Date.now() - beganMs > 5 * ELECTION_MS, "five election times");
  t.ok(leads(peer));
  t.notOk(peer.applied.includes("held up"));
  release();
  await until(() => peer.applied.includes("held up"), "and goes on");
});
