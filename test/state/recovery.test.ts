/** Going on from one replica (RAFT-6, RAFT-8): what is kept, and what must not start before it is known what others run. */
import t from "tap";
import { startKeeper, step } from "../../src/agent/keeper/machine.ts";
import type { KeeperAnswer, KeeperRequest } from "../../src/agent/keeper/protocol.ts";
import { rebuild } from "../../src/cluster/rebuild.ts";
import { whyNoExpiry } from "../../src/ha/detector.ts";
import type { KillRecipe } from "../../src/hypervisor/driver.ts";
import { leftOutNodes } from "../../src/model/node.ts";
import { CommandLog, expiry, fencing } from "./log.ts";

const G = 2 ** 32;

/** n1 and n2 each run an HA VM, one waits; then the cluster goes on from n1's state. */
function recovered(off: string[] = []): CommandLog {
  const log = CommandLog.withNodes(3);
  log.running("here", "n1");
  log.running("there", "n2");
  log.create("waits");
  const { position, peerId } = rebuild(
    log.state,
    { generation: 2, keepNodeId: "n1", node: null, off, why: "a test" },
    { lastTerm: 7, nowMs: log.nowMs, actor: "user:root" },
  );
  t.same([position.term, position.membership.voters, peerId], [8, [1], 1], "a term above all, one voter");
  log.term = position.term;
  return log;
}

t.test("a hello that overtakes the confirmation costs nobody the vote", (t) => {
  const log = recovered();
  log.hello("n3");
  t.match(log.state.nodes.get("n3"), { state: "ready", role: "none" });
  log.ok({ type: "node.join-confirm", nodeId: "n3" });
  t.equal(log.state.nodes.get("n3")?.role, "follower");
  t.end();
});

t.test("the rest is left out: VMs stay, nothing is placed, and time proves nothing", (t) => {
  const log = recovered();
  t.equal(log.state.cluster?.generation, 2);
  t.same(
    leftOutNodes(log.state).map(({ id }) => id),
    ["n2", "n3"],
  );
  t.match(log.state.nodes.get("n2"), { state: "unreachable", role: "none", leftOut: 2 });
  t.match([log.vm("here").state, log.vm("there").state, log.vm("waits").state], ["running", "unknown", "pending"]);
  t.equal(log.vm("there").claim?.nodeId, "n2", "its claim is not over");
  const placing = {
    type: "vm.place" as const,
    placements: [{ vmId: "waits", nodeId: "n1", generation: log.vm("waits").generation }],
    rejections: [],
  };
  t.match(log.refused(placing), { kind: "precondition", reason: "nothing is placed before it is known what runs on n2, n3" });
  t.match(log.refused(expiry("n2", log.term), { term: log.term }), { kind: "precondition", reason: /time proves nothing/ });
  t.match(whyNoExpiry(log.state.nodes.get("n2")!), /left out/);

  log.suspect("n2");
  log.ok(fencing("n2"));
  t.match(log.vm("there"), { state: "recovering", claim: null }, "somebody's word ends its claims");
  t.match(log.refused(placing), { reason: /runs on n3/ });
  // n3 begins anew: it is confirmed again, and says hello when nothing runs there that no claim covers.
  log.ok({ type: "node.join-confirm", nodeId: "n3" });
  t.equal(log.state.nodes.get("n3")?.role, "follower");
  t.match(log.refused(placing), { reason: /runs on n3/ }, "a confirmation accounts for nothing");
  log.hello("n3");
  t.same(leftOutNodes(log.state), []);
  log.ok(placing);
  t.equal(log.vm("waits").claim?.generation, 2 * G + 1, "above all that a generation of before can have given");
  t.ok(log.expire("n3"), "time proves again");
  t.end();
});

t.test("what has a place is not started either: those of before may have given it to another since", (t) => {
  for (const sent of [false, true]) {
    const log = CommandLog.withNodes(2);
    log.create("placed");
    log.place("placed", "n1");
    log.done("placed", "configure");
    if (sent) log.send("placed");
    const { position } = rebuild(
      log.state,
      { generation: 2, keepNodeId: "n1", node: null, off: [], why: "a test" },
      { lastTerm: 7, nowMs: log.nowMs, actor: "user:root" },
    );
    log.term = position.term;
    const begin = { type: "task.begin" as const, taskId: log.head("placed").id, path: "2", attempt: 1, nodeId: "n1", run: "r" };
    if (sent) t.match(log.refused(begin, { origin: "n1" }), { reason: "nothing starts before it is known what runs on n2" });
    else {
      t.throws(() => log.send("placed"), /nothing of placed can be sent/);
      const { generation } = log.vm("placed");
      const send = { taskId: begin.taskId, path: "2", attempt: 1, undo: false, nodeId: "n1", generation, slot: null };
      const dispatched = log.ok({ type: "task.dispatch", sends: [send] }, { term: log.term });
      t.match(dispatched.unsent, [{ detail: /nothing starts/ }]);
    }
    log.hello("n2");
    if (!sent) log.send("placed");
    log.ok(begin, { origin: "n1" });
    log.answer("placed");
    t.equal(log.vm("placed").state, "running");
  }
  t.end();
});

t.test("nothing that those of before counted looks newer than what comes here", (t) => {
  const log = CommandLog.withNodes(3);
  log.running("here", "n2");
  log.ok({ type: "node.join-confirm", nodeId: "n2" });
  const cutOff = log.state.index;
  const { position } = rebuild(
    log.state,
    { generation: 2, keepNodeId: "n1", node: null, off: [], why: "a test" },
    { lastTerm: 7, nowMs: log.nowMs, actor: "user:root" },
  );
  // A majority behind the cut goes on, and gives n2 claim sets of a million revisions later.
  const theirs = cutOff + 1_000_000;
  t.ok(position.index > theirs, "so many revisions are kept free for them");
  const { claimRevision } = log.state.nodes.get("n2")!;
  t.ok(claimRevision > theirs, "the first acknowledgement here carries n2's claims as they are here");

  const granted = { bootId: "b", nonce: "n", grantedMs: 4_000 };
  let keeper = startKeeper({ bootId: "b", nonce: "n", killLeadMs: 500, feed: null });
  const ask = (request: KeeperRequest): KeeperAnswer | null => {
    const { state, answer } = step(keeper, { kind: "request", request }, 1_000);
    keeper = state;
    return answer;
  };
  const recipe = { kind: "none" } as unknown as KillRecipe;
  ask({ op: "beat" });
  ask({ op: "ack", seq: 1, claimRevision: theirs, claims: [{ vmId: "behind", generation: G + 9 }], ...granted });
  t.ok(ask({ op: "register", vmId: "behind", generation: G + 9, revision: theirs, deadline: true, recipe })?.ok);
  const { generation } = log.vm("here");
  ask({ op: "ack", seq: 1, claimRevision, claims: [{ vmId: "here", generation }], ...granted });
  t.equal(keeper.vms.get("behind")?.phase, "dying", "what only those of before know is ended");
  t.ok(ask({ op: "register", vmId: "here", generation, revision: claimRevision, deadline: true, recipe })?.ok);
  t.end();
});

t.test("nodes that are off by the operator's word: their HA VMs are recovered", (t) => {
  const log = recovered(["n2", "n3"]);
  t.same(leftOutNodes(log.state), []);
  t.match(log.vm("there"), { state: "recovering", failover: { proof: { kind: "operator", user: "root" } } });
  log.place("there", "n1");
  t.equal(log.vm("there").generation, 2 * G + 1);
  t.end();
});

t.test("a restore on a new node, or as one of before; never into a generation that was", (t) => {
  const node = (id: string, name: string) => ({ id, name, zone: "", labels: {}, apiAddress: "x:1", peerAddress: "x:2" });
  const by = { lastTerm: 1, nowMs: 1, actor: "user:root" };
  const fresh = CommandLog.withNodes(2);
  t.throws(() => rebuild(fresh.state, { generation: 1, keepNodeId: "n1", node: null, off: [], why: "" }, by), /generation 1 already/);
  t.throws(
    () => rebuild(fresh.state, { generation: 2, keepNodeId: "n9", node: node("n9", "n2"), off: [], why: "" }, by),
    /"n2" exists already/,
  );
  t.throws(() => rebuild(fresh.state, { generation: 5_000, keepNodeId: "n1", node: null, off: [], why: "" }, by), /at most 4096/);
  t.equal(fresh.state.cluster?.generation, 1, "refused is unchanged");
  const { peerId } = rebuild(fresh.state, { generation: 2, keepNodeId: "n9", node: node("n9", "new"), off: [], why: "" }, by);
  t.same([peerId, fresh.state.cluster?.nextPeerId], [3, 4], "a peer id is never given twice");
  t.same(
    leftOutNodes(fresh.state).map(({ id }) => id),
    ["n1", "n2"],
  );

  const same = CommandLog.withNodes(2);
  same.running("v", "n1");
  t.equal(rebuild(same.state, { generation: 5, keepNodeId: "n1", node: node("n1", "n1"), off: ["n2"], why: "" }, by).peerId, 1);
  t.match(same.state.nodes.get("n1"), { apiAddress: "x:1", role: "voter" });
  t.match(same.vm("v"), { state: "running", claim: { nodeId: "n1" } });
  t.end();
});
