/** A main thread that stands still (garbage collection, a long plan) costs no election and no acknowledgement: the consensus thread goes on. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import t from "tap";
import { systemClock } from "../../src/base/clock.ts";
import type { FromConsensus } from "../../src/cluster/consensus/protocol.ts";
import { TestCluster, type TestNode, until } from "../support/replicas.ts";

const PAUSE_MS = 2_000;

/** A keeper of its own thread, as the real one is a process of its own: mints heartbeats and takes acknowledgements. */
const KEEPER = `
const { createServer } = require("node:net");
const { mkdirSync } = require("node:fs");
const { join } = require("node:path");
const { parentPort, workerData } = require("node:worker_threads");
mkdirSync(join(workerData, "run"), { recursive: true });
let seq = 0;
createServer((socket) => {
  let rest = "";
  socket.on("data", (data) => {
    const lines = (rest + data).split("\\n");
    rest = lines.pop();
    for (const line of lines) {
      const { id, request } = JSON.parse(line);
      const answer = request.op === "beat" ? { ok: true, beat: { bootId: "b", nonce: "n", seq: ++seq, claimRevision: 0 } } : { ok: true, deadlineMs: 0 };
      socket.write(JSON.stringify({ id, answer }) + "\\n");
    }
  });
}).listen(join(workerData, "run", "keeper.sock"), () => parentPort.postMessage("listens"));
`;

t.test("a leader whose main thread is paused", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "roost-pause-"));
  const keeper = new Worker(KEEPER, { eval: true, workerData: folder });
  await new Promise((resolve) => keeper.once("message", resolve));
  const cluster = await TestCluster.create(3, { keeperDataDir: folder });
  t.teardown(async () => {
    await cluster.close();
    await keeper.terminate();
    await rm(folder, { recursive: true, force: true });
  });
  const [n1] = cluster.nodes as [TestNode];
  await until(
    n1.replica,
    () => n1.replica.leadership().leading && n1.replica.membership().voters.length === 3 && n1.replica.membership().outgoing.length === 0,
  );
  await until(n1.replica, () => n1.replica.beats().some((beat) => beat.nodeId === n1.id && beat.lastAckMs !== null), 20_000);
  const { term } = n1.replica.leadership();

  const ackTimesMs = new Set<number>();
  n1.worker.on("message", (message: FromConsensus) => {
    if (message.kind !== "beats") return;
    for (const beat of message.beats) if (beat.nodeId === n1.id && beat.lastAckMs !== null) ackTimesMs.add(beat.lastAckMs);
  });
  const beganMs = systemClock.monotonicMs();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
  const endedMs = systemClock.monotonicMs();

  await n1.replica.propose({ type: "token.create", id: "after", secretHash: "x", ttlMs: 60_000, uses: 1 }, { actor: "test" });
  await n1.replica.read({ timeoutMs: 10_000 });
  for (const node of cluster.nodes) t.equal(node.replica.leadership().term, term, `${node.name} saw no election`);
  t.equal(n1.replica.leadership().leading, true);
  const within = [...ackTimesMs].filter((atMs) => atMs > beganMs && atMs < endedMs);
  // A heartbeat each 500 ms: four in two seconds, of which a busy machine may delay some.
  t.ok(within.length >= 2, `${within.length} acknowledgements while the main thread stood still`);
});
