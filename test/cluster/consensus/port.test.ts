/** What one thread posts is what the other gets, whatever the bytes are views of. */
import { MessageChannel } from "node:worker_threads";
import { once } from "node:events";
import t from "tap";
import { consensusPort, mainPort } from "../../../src/cluster/consensus/port.ts";
import type { CommittedEntry, FromConsensus, ToConsensus } from "../../../src/cluster/consensus/protocol.ts";
import { firstMembership } from "../../../src/model/membership.ts";

function channel(test: Pick<typeof t, "teardown">): {
  main: ReturnType<typeof consensusPort>;
  thread: ReturnType<typeof mainPort>;
  ends: MessageChannel;
} {
  const ends = new MessageChannel();
  test.teardown(() => ends.port1.close());
  return { main: consensusPort(ends.port1), thread: mainPort(ends.port2), ends };
}

t.test("committed entries arrive whole and in order", async (t) => {
  const { main, thread, ends } = channel(t);
  const got: FromConsensus[] = [];
  main.on("message", (message) => got.push(message));
  const slab = Uint8Array.from({ length: 100 }, (_, i) => i);
  const entries: CommittedEntry[] = [
    { index: 7, term: 2, data: slab.subarray(10, 20), membership: null },
    { index: 8, term: 3, data: null, membership: null },
    { index: 9, term: 3, data: new Uint8Array(0), membership: null },
    { index: 10, term: 3, data: null, membership: firstMembership(4) },
    { index: 11, term: 3, data: slab.subarray(99), membership: null },
  ];
  thread.post({ kind: "apply", batch: 5, entries });
  thread.post({ kind: "apply", batch: 6, entries: [] });
  thread.post({ kind: "started", electionMs: 100 });
  await once(ends.port1, "message");
  while (got.length < 3) await once(ends.port1, "message");
  t.same(got, [
    { kind: "apply", batch: 5, entries },
    { kind: "apply", batch: 6, entries: [] },
    { kind: "started", electionMs: 100 },
  ]);
  t.equal(slab.length, 100, "what the sender keeps is its own still");
});

t.test("proposals arrive whole, beside other messages", async (t) => {
  const { main, thread, ends } = channel(t);
  const got: ToConsensus[] = [];
  thread.onMessage((message) => got.push(message));
  const data = [Uint8Array.of(1, 2), new Uint8Array(0), Uint8Array.of(3)];
  main.postMessage({ kind: "propose", data, applied: 7 });
  main.postMessage({ kind: "read", id: 3 });
  await once(ends.port2, "message");
  while (got.length < 2) await once(ends.port2, "message");
  t.same(got, [
    { kind: "propose", data, applied: 7 },
    { kind: "read", id: 3 },
  ]);
});
