/** The loop around the Raft core, several in one process (group.ts). The core itself: test/raft and test/sim. */
import t from "tap";
import { message } from "../../../src/raft/core/message.ts";
import type { Message } from "../../../src/raft/core/types.ts";
import { decodeFrame } from "../../../src/cluster/consensus/frames.ts";
import { envelope, Group, type GroupPeer, until } from "./group.ts";

const group = await Group.create(3);
t.teardown(() => group.close());

const leader = (): GroupPeer => {
  const found = group.leader();
  if (found === undefined) throw new Error("no leader");
  return found;
};
const followers = (): GroupPeer[] => group.peers.filter((peer) => peer !== leader());
const allHave = (id: string) => (): boolean => group.peers.every((peer) => peer.applied.includes(id));
const noneFatal = (test: Pick<typeof t, "same">): void => {
  test.same(
    group.peers.flatMap((peer) => peer.fatal),
    [],
  );
};

t.test("proposals of leader and followers are applied everywhere, in one order", async (t) => {
  // Who knows no leader drops a proposal; the main thread would make it again.
  await until(() => group.peers.every((peer) => peer.status?.leaderPeerId === group.leader()?.peer.peerId), "all know the leader");
  for (const peer of group.peers) for (let i = 0; i < 10; i++) peer.propose(`${peer.peer.nodeId}-${i}`);
  await until(() => group.peers.every((peer) => peer.applied.length >= 30), "all applied");
  t.same(group.peers[1]!.applied, group.peers[0]!.applied);
  t.same(group.peers[2]!.applied, group.peers[0]!.applied);
  noneFatal(t);
});

t.test("a peer proposes for itself only, sends under its own name only, and its rubbish is dropped (SEC-3)", async (t) => {
  const [from] = followers() as [GroupPeer];
  const to = leader();
  const proposal = (data: Uint8Array, kind: "normal" | "conf" = "normal", as = from.peer.peerId): Message => ({
    ...message("propose", to.peer.peerId, as),
    entries: [{ term: 0, index: 0, kind, data }],
  });
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  from.say(to, { kind: "raft", message: proposal(envelope("forged", to.peer.nodeId)) });
  from.say(to, { kind: "raft", message: proposal(envelope("other-name", from.peer.nodeId), "normal", to.peer.peerId) });
  const suspicion = { type: "node.suspect" as const, nodeId: to.peer.nodeId, silentMs: 1 };
  from.say(to, { kind: "raft", message: proposal(envelope("not-its-own", from.peer.nodeId, suspicion)) });
  from.say(to, { kind: "raft", message: proposal(new Uint8Array(), "conf") });
  for (const text of ["null", "{}", "x", '{"origin":"n2"}', `{"origin":"${from.peer.nodeId}","requestId":"half"}`]) {
    from.say(to, { kind: "raft", message: proposal(bytes(text)) });
  }
  from.say(to, bytes("\u0001rubbish"));
  from.say(to, bytes("\u0002null"));
  from.say(to, new Uint8Array());
  from.say(to, { kind: "raft", message: proposal(envelope("honest", from.peer.nodeId)) });
  await until(allHave("honest"), "the honest one");
  for (const id of ["forged", "other-name", "half", "not-its-own"]) t.notOk(to.applied.includes(id), id);
  t.equal(leader(), to);
  noneFatal(t);
});

t.test("heartbeats are acknowledged to each node's own keeper, by the leader", async (t) => {
  for (const peer of group.peers)
    peer.send({ kind: "claims", sets: [], settings: { heartbeatMs: 20, claimMs: 4_000, checkpointMbps: 400 } });
  for (const peer of group.peers) peer.acks.length = 0;
  await until(() => group.peers.every((peer) => peer.acks.length >= 3), "acknowledgements");
  for (const peer of group.peers) {
    t.same([...new Set(peer.acks.map((ack) => ack.nonce))], [peer.peer.nodeId]);
    t.same([...new Set(peer.acks.map((ack) => ack.grantedMs))], [4_000]);
  }
  noneFatal(t);
});

t.test("who is cut off from the others acknowledges nobody, and nothing is lost", async (t) => {
  const old = leader();
  const oldTerm = old.status!.term;
  group.isolate(old, true);
  const others = group.peers.filter((peer) => peer !== old);
  old.propose("lost?");
  await until(() => others.some((peer) => peer.status?.leading === true && peer.status.term > oldTerm), "another leader");
  await until(() => old.status?.leading !== true, "it steps down by itself (CheckQuorum)");
  const before = old.acks.length;
  for (const peer of others) peer.acks.length = 0;
  others[0]!.propose("meanwhile");
  await until(() => others.every((peer) => peer.applied.includes("meanwhile") && peer.acks.length >= 3), "the rest goes on");
  t.equal(old.acks.length, before, "no quorum, no acknowledgement");
  t.notOk(old.applied.includes("meanwhile"));
  group.isolate(old, false);
  await until(() => old.applied.includes("meanwhile") && old.acks.length > before, "it is back");
  t.same(old.applied, others[0]!.applied);
  noneFatal(t);
});

t.test("a follower whose log is behind the leader's first entry gets a checkpoint, and goes on from there", async (t) => {
  const [late] = followers() as [GroupPeer];
  group.isolate(late, true);
  const rest = group.peers.filter((peer) => peer !== late);
  for (let i = 0; i < 50; i++) leader().propose(`gap-${i}`);
  await until(() => rest.every((peer) => peer.applied.includes("gap-49")), "the others have them");
  for (const peer of rest) {
    await peer.log.saveCheckpoint(peer.index, peer.membership);
    await peer.log.compact(peer.index);
  }
  const before = late.installs;
  group.isolate(late, false);
  await until(() => late.applied.includes("gap-49"), "it has them");
  t.equal(late.installs, before + 1);
  late.propose("after the checkpoint");
  await until(allHave("after the checkpoint"), "and writes");
  t.same(late.applied, leader().applied);
  noneFatal(t);
});

t.test(
  "a checkpoint whose link breaks goes on from the last chunk, and a broken-off one of a leader that is gone is begun anew",
  async (t) => {
    const [late] = followers() as [GroupPeer];
    group.isolate(late, true);
    const rest = group.peers.filter((peer) => peer !== late);
    for (let i = 0; i < 20; i++) leader().propose(`resume-${i}`);
    await until(() => rest.every((peer) => peer.applied.includes("resume-19")), "the others have them");
    for (const peer of rest) {
      await peer.log.saveCheckpoint(peer.index, peer.membership);
      await peer.log.compact(peer.index);
    }
    const chunks = leader().applied.length;
    group.fetches.length = 0;
    group.breakAfter = 30;
    const before = late.installs;
    group.isolate(late, false);
    await until(() => late.applied.includes("resume-19"), "it has them");
    group.breakAfter = null;
    t.equal(late.installs, before + 1);
    const from = group.fetches.map((one) => one.fromChunk);
    // 30 chunks each time: 0, 30, 60 …, the last one brings the rest and the end mark.
    t.same(
      from,
      from.map((_, i) => i * 30),
    );
    t.equal(from.length, Math.floor(chunks / 30) + 1);
    t.same(late.applied, leader().applied);

    group.isolate(late, true);
    const old = leader();
    for (let i = 0; i < 20; i++) old.propose(`anew-${i}`);
    await until(() => rest.every((peer) => peer.applied.includes("anew-19")), "the others have them again");
    for (const peer of rest) {
      await peer.log.saveCheckpoint(peer.index, peer.membership);
      await peer.log.compact(peer.index);
    }
    group.fetches.length = 0;
    group.breakAfter = 1;
    group.isolate(late, false);
    await until(() => group.fetches.length > 1, "the transfer has begun");
    group.isolate(old, true);
    await until(() => group.leader() !== old && group.leader() !== undefined, "another leader");
    group.breakAfter = null;
    await until(() => late.applied.includes("anew-19"), "from the new leader", 40_000);
    group.isolate(old, false);
    late.propose("all again");
    await until(allHave("all again"), "and all go on");
    noneFatal(t);
  },
);

t.test("a leader whose state lags behind its own term's first entry acknowledges nobody (HA-2)", async (t) => {
  const [next] = followers() as [GroupPeer];
  next.stalled = [];
  const old = leader();
  // Only `next` can win: the others do not hear of each other.
  const third = group.peers.find((peer) => peer !== old && peer !== next)!;
  group.isolate(old, true);
  group.drop = (from, _to, payload) => {
    if (from !== third) return false;
    const frame = decodeFrame(payload);
    return frame.kind === "raft" && (frame.message.type === "pre-vote" || frame.message.type === "vote");
  };
  await until(() => next.status?.leading === true, "the next leader");
  third.acks.length = 0;
  const reads: number[] = [];
  next.send({ kind: "read", id: 77 });
  // Longer than a lost round takes to be begun again (400 ms): the leader says two things each 50 ms.
  const said = next.posted.length;
  await until(() => next.posted.length > said + 36, "time goes by");
  for (const post of next.posted) if (post.kind === "read-ready" && post.id === 77) reads.push(post.index);
  t.equal(third.acks.length, 0, "it does not know the claims as of its own term");
  t.ok(next.stalled.length > 0, "its state is behind");
  next.release();
  await until(() => third.acks.length > 0, "now it does");
  group.drop = null;
  group.isolate(old, false);
  await until(() => old.status?.term === next.status?.term, "one term");
  t.ok(reads.every((index) => index > 0));
  noneFatal(t);
});

t.test("stop-acking holds in its term only, and resume ends it", async (t) => {
  const by = leader();
  const [node] = followers() as [GroupPeer];
  const acked = node.acks.length;
  await until(() => node.acks.length > acked + 1, "it is acknowledged before");
  by.send({ kind: "stop-acking", id: 5, nodeId: node.peer.nodeId, term: by.status!.term });
  by.send({ kind: "stop-acking", id: 6, nodeId: node.peer.nodeId, term: by.status!.term - 1 });
  await until(() => by.posted.some((post) => post.kind === "acking-stopped" && post.id === 6), "both answers");
  const answers = by.posted.filter((post) => post.kind === "acking-stopped");
  t.match(answers.find((post) => post.id === 5)?.stopped, { ok: true, lastAckMs: Number });
  t.same(answers.find((post) => post.id === 6)?.stopped, { ok: false });
  // What was on its way arrives; after that none, however many beats come.
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
  const count = node.acks.length;
  const other = group.peers.find((peer) => peer !== by && peer !== node)!;
  const otherCount = other.acks.length;
  await until(() => other.acks.length > otherCount + 3, "others are still acknowledged");
  t.equal(node.acks.length, count);
  by.send({ kind: "resume-acking", nodeId: node.peer.nodeId });
  await until(() => node.acks.length > count, "again");
  noneFatal(t);
});

t.test("leadership is handed over on demand", async (t) => {
  const old = leader();
  const moved = (): boolean => group.leader() !== undefined && group.leader() !== old && old.status?.leading === false;
  // A wish, no order: without a peer that was heard of just now nothing happens, and it is wished again.
  for (let i = 0; i < 50 && !moved(); i++) {
    old.send({ kind: "transfer-leadership", among: null });
    await until(moved, "another leads", 300).catch(() => {});
  }
  t.ok(moved());
  leader().propose("after transfer");
  await until(allHave("after transfer"), "and takes writes");
  noneFatal(t);
});

t.test("stopped and opened again, a peer goes on where its state was", async (t) => {
  const [peer] = followers() as [GroupPeer];
  await peer.driver.stop();
  leader().propose("while it was off");
  await until(() => group.peers.every((one) => one === peer || one.applied.includes("while it was off")), "the others");
  peer.status = null;
  await peer.open(false);
  await until(() => peer.applied.includes("while it was off"), "it catches up");
  t.same(peer.applied, leader().applied);
  t.equal(new Set(peer.applied).size, peer.applied.length, "and applies nothing twice");
  noneFatal(t);
});
