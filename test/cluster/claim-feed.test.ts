import t from "tap";
import { ClaimFeed } from "../../src/cluster/claim-feed.ts";
import { CommandLog } from "../state/log.ts";

const NOTHING = { sets: [], settings: null, peers: null, removed: [] };

t.test("first everything, then only what changed", (t) => {
  const log = CommandLog.withNodes(2);
  const feed = new ClaimFeed();
  const first = feed.changes(log.state);
  t.same(first.sets, [
    { nodeId: "n1", set: { revision: 0, items: [] } },
    { nodeId: "n2", set: { revision: 0, items: [] } },
  ]);
  t.same(first.settings, { heartbeatMs: 500, claimMs: 4_000, checkpointMbps: 400 });
  t.same(first.peers, [
    { peerId: 1, nodeId: "n1", address: "n1:2", zone: "" },
    { peerId: 2, nodeId: "n2", address: "n2:2", zone: "" },
  ]);
  t.same(feed.changes(log.state), NOTHING);

  log.create("v");
  t.same(feed.changes(log.state), NOTHING, "a VM without a claim is no node's matter");
  log.place("v", "n2");
  const generation = log.vm("v").generation;
  t.same(feed.changes(log.state), {
    ...NOTHING,
    sets: [{ nodeId: "n2", set: { revision: log.state.index, items: [{ vmId: "v", generation }] } }],
  });
  log.done("v", "power-on");
  log.ok({ type: "vm.desire", vmId: "v", action: "shutdown", nodeId: null });
  log.hello("n2");
  log.suspect("n2");
  t.same(feed.changes(log.state), NOTHING, "none of these changes a claim");
  log.report("v", { kind: "gone", cause: "shutdown", detail: "" });
  t.same(feed.changes(log.state).sets, [{ nodeId: "n2", set: { revision: log.state.index, items: [] } }], "an empty set is said too");

  log.running("w", "n1");
  feed.changes(log.state);
  log.suspect("n1");
  log.expire("n1");
  t.same(feed.changes(log.state).sets, [{ nodeId: "n1", set: { revision: log.state.index, items: [] } }]);
  t.end();
});

t.test("settings and peers", (t) => {
  const log = CommandLog.withNodes(1);
  const feed = new ClaimFeed();
  feed.changes(log.state);
  log.ok({ type: "setting.update", key: "ha.marginMs", value: 300 });
  t.same(feed.changes(log.state), NOTHING, "not one that the thread needs");
  log.ok({ type: "setting.update", key: "ha.claimMs", value: 6_000 });
  t.same(feed.changes(log.state), { ...NOTHING, settings: { heartbeatMs: 500, claimMs: 6_000, checkpointMbps: 400 } });

  log.ok({ type: "token.create", id: "t", secretHash: "h", ttlMs: 1_000, uses: 1 });
  const node = { id: "n2", name: "n2", zone: "", labels: {}, apiAddress: "n2:1", peerAddress: "n2:2" };
  log.ok({ type: "node.join", tokenId: "t", secretHash: "h", node });
  t.equal(feed.changes(log.state).peers, null, "not confirmed: no peer yet");
  log.ok({ type: "node.join-confirm", nodeId: "n2" });
  t.same(
    feed.changes(log.state).peers?.map((peer) => peer.nodeId),
    ["n1", "n2"],
  );
  log.ok(
    { type: "node.hello", nodeId: "n2", info: log.state.nodes.get("n1")!.info!, parkRevision: 0, apiAddress: "x:1", peerAddress: "x:2" },
    { origin: "n2" },
  );
  t.same(feed.changes(log.state).peers?.[1], { peerId: 2, nodeId: "n2", address: "x:2", zone: "" }, "it moved");
  t.end();
});
