/** The main thread's half alone: what it does with callers, without a consensus thread behind it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { ManualClock } from "../support/manual-clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { type CommittedEntry, type FromConsensus, type ToConsensus, NOBODY_LEADS } from "../../src/cluster/consensus/protocol.ts";
import { Replica } from "../../src/cluster/replica.ts";
import { OWN_KEPT_REVISIONS } from "../../src/state/requests.ts";
import { StateDb } from "../../src/cluster/state-db.ts";
import { firstMembership } from "../../src/model/membership.ts";
import { decodeEnvelope, encodeCheckpointHead, encodeEnvelope } from "../../src/state/codec.ts";
import type { Command } from "../../src/state/commands.ts";

const token = (id: string): Command => ({ type: "token.revoke", id });
const actor = "test";

/** A replica whose thread is the test. */
async function setUp(t: { teardown(run: () => Promise<void>): void }) {
  const folder = await mkdtemp(join(tmpdir(), "roost-waiting-"));
  const db = await StateDb.open(folder);
  t.teardown(async () => {
    await db.close();
    await rm(folder, { recursive: true, force: true });
  });
  const loaded = await db.load();
  loaded.position = { index: 1, term: 1, membership: firstMembership(1) };
  loaded.state.index = 1;
  const posted: ToConsensus[] = [];
  const fatal: unknown[] = [];
  let say: (message: FromConsensus) => void = () => {};
  const clock = new ManualClock();
  const checkpoint: Uint8Array[] = [];
  let ids = 0;
  const worker = {
    postMessage: (message: ToConsensus) => void posted.push(message),
    on: (_event: string, listener: (message: FromConsensus) => void) => void (say = listener),
  };
  const replica = new Replica("n1", loaded, {
    worker: worker as never,
    db,
    readCheckpoint: async function* () {
      yield* checkpoint;
    },
    clock,
    log: silentLogger,
    newId: () => `id-${++ids}`,
    fatal: (error) => void fatal.push(error),
  });
  const starting = replica.start();
  say({ kind: "started", electionMs: 1e9 });
  await starting;
  let index = 1;
  let batch = 0;
  return {
    replica,
    posted,
    fatal,
    say: (message: FromConsensus) => say(message),
    /** Takes over a checkpoint of an empty state. */
    install: async (at: number): Promise<void> => {
      checkpoint.splice(0, 1, encodeCheckpointHead({ index: at, term: 1, membership: firstMembership(1) }));
      const installed = new Promise<void>((resolve) => void replica.subscribe(() => resolve()));
      say({ kind: "install", path: "", index: at } as FromConsensus);
      await installed;
    },
    /** Time goes by, and the sweep looks. */
    later: (ms: number): void => clock.pass(ms),
    /** Commits data, or an entry that says nothing. */
    commit: (...all: (Uint8Array | null)[]): void => {
      const entries: CommittedEntry[] = all.map((data) => ({ index: ++index, term: 1, data, membership: null }));
      say({ kind: "apply", batch: ++batch, entries });
    },
    proposed: () => posted.flatMap((message) => (message.kind === "propose" ? message.data : [])),
  };
}

const settled = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    (value) => `ok ${JSON.stringify(value)}`,
    (error: { fault: { kind: string } }) => error.fault.kind,
  );

t.test("each caller with the same request id gets the answer, whichever proposal was applied", async (t) => {
  const { replica, commit, proposed, later } = await setUp(t);
  const first = settled(replica.propose(token("x"), { actor, requestId: "same@000000000001", timeoutMs: 1_000 }));
  later(500);
  const second = settled(replica.propose(token("x"), { actor, requestId: "same@000000000001", timeoutMs: 10_000 }));
  // The first gives up; that must not forget the second.
  later(600);
  t.equal(await first, "unavailable");
  commit(proposed()[0]!);
  t.equal(await second, "not-found");

  const third = settled(replica.propose(token("y"), { actor, requestId: "both@000000000001" }));
  const fourth = settled(replica.propose(token("y"), { actor, requestId: "both@000000000001" }));
  commit(proposed().at(-1)!);
  t.same(await Promise.all([third, fourth]), ["not-found", "not-found"]);
  t.equal(await settled(replica.propose(token("z"), { actor, requestId: "both@000000000001" })), "not-found", "and later ones at once");
});

t.test("a proposal that nobody applies is proposed again, the same bytes, until its time is over", async (t) => {
  const { replica, later, proposed, posted } = await setUp(t);
  const waiting = settled(replica.propose(token("x"), { actor, timeoutMs: 2_000 }));
  later(199);
  t.equal(proposed().length, 1);
  later(1);
  t.equal(proposed().length, 2, "without a leader after 200 ms");
  later(1_799);
  later(1);
  t.equal(await waiting, "unavailable");
  const count = posted.length;
  later(5_000);
  t.equal(posted.length, count, "it is over");
  for (const data of proposed()) t.match(decodeEnvelope(data).requestId, /^#\d+\.id-1\.\d+$/);
});

t.test("what waits is proposed to a new leader at once", async (t) => {
  const { replica, say, proposed, commit } = await setUp(t);
  const led = (leaderPeerId: number, term: number): void =>
    say({ kind: "status", status: { ...NOBODY_LEADS, term, leaderPeerId, membership: firstMembership(1) } });
  led(2, 1);
  const waiting = settled(replica.propose(token("x"), { actor }));
  const counts = [
    [2, 1, 1],
    // Nobody to propose to.
    [0, 2, 1],
    [3, 2, 2],
    // The same leader in the same term has it already; in another it may have lost it.
    [3, 2, 2],
    [3, 3, 3],
  ] as const;
  for (const [leader, term, count] of counts) {
    led(leader, term);
    t.equal(proposed().length, count, `peer ${leader} leads term ${term}`);
  }
  commit(proposed()[0]!, proposed()[1]!);
  t.equal(await waiting, "not-found", "applied once, answered once");
  led(2, 4);
  t.equal(proposed().length, 3, "and nothing is left to propose");
});

t.test("after a checkpoint in which its answer may have been forgotten, a request is not made again", async (t) => {
  const { replica, install, later, proposed } = await setUp(t);
  const old = settled(replica.propose(token("x"), { actor, timeoutMs: 60_000 }));
  await install(100);
  later(200);
  t.equal(proposed().length, 2, "100 revisions later it is known that it was not applied: it is proposed again");
  await install(OWN_KEPT_REVISIONS + 2);
  t.equal(await old, "unavailable");
  later(1_000);
  t.equal(proposed().length, 2, "it could be done twice");
});

t.test("a read waits until the state has what its round says", async (t) => {
  const { replica, say, commit, later } = await setUp(t);
  const read = replica.read({ timeoutMs: 1_000 });
  say({ kind: "read-ready", id: 1, index: 3 });
  let ended = false;
  void read.then(() => (ended = true));
  commit(null);
  await new Promise((resolve) => setImmediate(resolve));
  t.notOk(ended, "index 2 is not 3");
  commit(null);
  t.equal((await read).index, 3);
  const late = settled(replica.read({ timeoutMs: 1_000 }));
  later(1_000);
  t.equal(await late, "unavailable");
});

t.test("claims go to the thread before the batch that changed them is called applied (HA-2)", async (t) => {
  const { replica, commit, proposed, posted, later } = await setUp(t);
  const node = { id: "n1", name: "n1", zone: "", labels: {}, apiAddress: "a:1", peerAddress: "a:2" };
  const founding = replica.propose({ type: "cluster.init", clusterId: "c", name: "c", caCertificate: "", caKey: "", node }, { actor });
  const data = proposed().at(-1)!;
  posted.length = 0;
  commit(data);
  await founding;
  later(2);
  t.same(
    posted.map((message) => message.kind),
    ["claims", "peers", "applied"],
  );
});

t.test("a replica that stops ends all that waits, and takes nothing new", async (t) => {
  const { replica } = await setUp(t);
  const waiting = [settled(replica.propose(token("x"), { actor })), settled(replica.read({ timeoutMs: 1_000 }))];
  replica.halt();
  t.same(await Promise.all(waiting), ["unavailable", "unavailable"]);
  t.equal(await settled(replica.propose(token("x"), { actor })), "unavailable");
  t.equal(await settled(replica.read({ timeoutMs: 1_000 })), "unavailable");
});

t.test("a gap in the entries is fatal", async (t) => {
  const { say, fatal } = await setUp(t);
  say({ kind: "apply", batch: 1, entries: [{ index: 3, term: 1, data: null, membership: null }] });
  t.match(fatal, [{ message: "entry 3 after 1" }]);
});

t.test("that a batch is applied is told with the next proposals, or after 2 ms; a leader's first entry at once", async (t) => {
  const { replica, commit, later, posted } = await setUp(t);
  const told = (): number[] =>
    posted.splice(0).flatMap((message) => {
      if (message.kind === "applied") return [message.batch];
      return message.kind === "propose" ? [-message.applied] : [];
    });
  const envelope = { origin: "n1", atMs: 0, actor, term: 0, command: token("x") };
  const data = (requestId: string): Uint8Array => encodeEnvelope({ ...envelope, requestId });
  posted.splice(0);
  commit(data("#1.a"));
  commit(data("#1.b"));
  t.same(told(), []);
  later(2);
  t.same(told(), [2], "both in one");
  commit(data("#1.c"));
  const waiting = settled(replica.propose(token("x"), { actor }));
  t.same(told(), [-3]);
  later(2);
  t.same(told(), [], "once");
  commit(null);
  t.same(told(), [4]);
  replica.halt();
  t.equal(await waiting, "unavailable");
});
