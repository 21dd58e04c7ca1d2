/** `roost ha forecast` says what what-if, which plays the death with the production's commands, then brings about (HA-17). */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { whyNoExpiry } from "../../src/ha/detector.ts";
import { forecast } from "../../src/placing/forecast.ts";
import { parseWhatIf } from "../../src/placing/what-if-script.ts";
import { whatIf } from "../../src/placing/what-if.ts";
import { placingCluster } from "../support/placing.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 77);
t.comment(`seed ${seed}`);

t.test("who recovers, and how many do not, as in a what-if", async (t) => {
  let recovered = 0;
  let stayed = 0;
  for (let round = 0; round < 12; round++) {
    const random = seededRandom(seed + round);
    const { store, create, run } = await placingCluster(3 + random.below(3));
    const { state } = store;
    for (const node of state.nodes.values()) state.write({ table: "nodes", key: node.id, row: { ...node, role: "voter" } });
    for (let i = 0; i < 12; i++) {
      const onQuorumLoss = random.below(8) === 0 ? "keep" : "stop";
      const ha = { enabled: random.below(5) > 0, priority: random.below(3), onQuorumLoss } as const;
      await create(`v${i}`, { memoryMib: 256 * (1 + random.below(5)), ha });
    }
    await run();
    for (const id of [...state.nodes.keys()].slice(0, 2)) {
      const { fates, quorum } = forecast(state, [id], { zone: null, leaderId: null, whyNoExpiry });
      const played = whatIf(state, parseWhatIf(`fail ${id}`), []);
      const really = played.steps[0]!.moves.filter(({ from, to }) => from === id && to !== null).map(({ vmId }) => vmId);
      const said = fates.filter(({ fate }) => fate === "recovers").map(({ vmId }) => vmId);
      t.ok(quorum);
      t.same(said.toSorted(), really.toSorted(), `round ${round}: ${id}`);
      t.equal(fates.length, state.claimsByNode.get(id)?.size ?? 0, "every VM of the node has a fate");
      recovered += said.length;
      stayed += fates.length - said.length;
    }
  }
  t.ok(recovered > 50 && stayed > 10, `${recovered} recover, ${stayed} do not`);
});

t.test("why not: no room with numbers, no guardian, keep, not under HA, no quorum", async (t) => {
  const { store, create, run, as, hello } = await placingCluster(1);
  const { state } = store;
  await create("a", { memoryMib: 1_024 });
  await create("b", { memoryMib: 512, ha: { enabled: false, priority: 0, onQuorumLoss: "stop" } });
  await create("c", { memoryMib: 256, ha: { enabled: true, priority: 0, onQuorumLoss: "keep" } });
  await run();
  const about = { zone: null, leaderId: "n1", whyNoExpiry };
  const why = () => forecast(state, ["n1"], about).fates.map(({ vmId, fate, why }) => `${vmId} ${fate}: ${why}`);
  state.write({ table: "nodes", key: "n1", row: { ...state.nodes.get("n1")!, role: "voter" } });
  t.match(why()[0], /^a waits: no quorum is left/);
  // Its vote does not count: the quorum is elsewhere.
  state.write({ table: "nodes", key: "n1", row: { ...state.nodes.get("n1")!, role: "follower" } });
  await as("n1", { type: "token.create", id: "t", secretHash: "h", ttlMs: 60_000, uses: 1 });
  await as("n1", {
    type: "node.join",
    tokenId: "t",
    secretHash: "h",
    node: { id: "n2", name: "n2", zone: "", labels: {}, apiAddress: "n2:1", peerAddress: "n2:2" },
  });
  await hello("n2", { memoryMib: 512 });
  state.write({ table: "nodes", key: "n2", row: { ...state.nodes.get("n2")!, role: "voter" } });
  t.same(why(), [
    "a waits: no room",
    "b stays-down: not under HA",
    "c waits: on-quorum-loss is keep: only a release, a fence or an operator frees it",
  ]);
  t.match(forecast(state, ["n1"], about), {
    leader: true,
    quorum: true,
    fates: [{ reasons: [{ detail: /n2: needs 1024 MiB, 512 MiB free of 512/ }] }],
  });
  await hello("n1", { guardian: null });
  t.match(why()[0], /^a waits: it has no guardian/);
});
