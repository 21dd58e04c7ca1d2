/** A node's way out (CLU-9), as commands: what stands in the way, whose word frees what, and that it never comes back. */
import t from "tap";
import { applyMembership } from "../../src/state/apply.ts";
import { rebuild } from "../../src/cluster/rebuild.ts";
import { leftOutNodes } from "../../src/model/node.ts";
import { CommandLog, diskIn, joining, pool } from "./log.ts";

const NOBODY = { outgoing: [], learners: [], learnersNext: [], autoLeave: false };
const word = { kind: "operator", nodeId: "n2", user: "user:anna" } as const;

t.test("alive", (t) => {
  const log = CommandLog.withNodes(3);
  const remove = { type: "node.remove", nodeId: "n2", dead: false, proof: null } as const;
  log.create("v");
  log.place("v", "n2");
  t.match(log.refused(remove), { kind: "precondition", reason: "node n2 holds v" });
  t.match(log.refused({ ...remove, dead: true }), { kind: "precondition", reason: /is alive/ });
  t.equal(log.state.nodes.get("n2")?.state, "ready", "a refusal changes nothing");

  const free = { type: "node.remove", nodeId: "n3", dead: false, proof: null } as const;
  applyMembership(log.state, { voters: [1, 2, 3], ...NOBODY }, { index: log.state.index + 1, term: 1 });
  log.ok(free);
  t.match(log.state.nodes.get("n3"), { state: "disabled", disabled: true, stateWhy: /being removed by/, removing: { actor: String } });
  t.match(log.refused({ type: "node.enable", nodeId: "n3", enabled: true }), { kind: "precondition", reason: /is being removed/ });
  log.ok(free);
  t.match(log.refused({ type: "node.removed", nodeId: "n3" }), { reason: /still a Raft peer/ });
  t.match(log.refused({ type: "node.removed", nodeId: "n2" }), { reason: /nobody has asked/ });
  applyMembership(log.state, { voters: [1], ...NOBODY }, { index: log.state.index + 1, term: 1 });
  log.ok({ type: "node.removed", nodeId: "n3" });
  t.match(log.state.nodes.get("n3"), { state: "removed", role: "none", peerId: 3, stateWhy: /removed by/ });
  log.ok({ type: "node.removed", nodeId: "n3" });
  t.match(log.refused({ type: "node.info", nodeId: "n3", info: log.state.nodes.get("n1")!.info! }, { origin: "n3" }), { kind: "denied" });

  t.test("its name is free, its ids are not", (t) => {
    log.ok({ type: "token.create", id: "again", secretHash: "h", ttlMs: 60_000, uses: 2 });
    t.match(log.refused({ type: "node.join", tokenId: "again", secretHash: "h", node: joining("n3") }), { kind: "exists" });
    t.match(log.ok({ type: "node.join", tokenId: "again", secretHash: "h", node: { ...joining("n3"), id: "other" } }), { peerId: 4 });
    t.equal(log.state.nodeIdByName.get("n3"), "other");
    t.equal(log.state.nodes.get("n3")?.state, "removed");
    t.end();
  });
  t.end();
});

t.test("dead: only what is certain frees its VMs", (t) => {
  const log = CommandLog.withNodes(2);
  const dead = { type: "node.remove", nodeId: "n2", dead: true, proof: null } as const;
  log.create("v");
  log.place("v", "n2");
  log.ok({ type: "node.suspect", nodeId: "n2", silentMs: 2_000 });
  t.match(log.refused({ ...dead, dead: false }), { kind: "precondition", reason: /does not answer/ });
  t.match(log.refused(dead), { kind: "precondition", reason: "node n2 may still run v" });
  const { generation } = log.state.vms.get("v")!;
  log.ok({ ...dead, proof: word });
  t.match(log.state.vms.get("v"), { claim: null, state: "recovering", failover: { proof: word }, generation });
  t.match(log.state.nodes.get("n2"), { state: "fenced", removing: {} });
  log.ok({ type: "node.removed", nodeId: "n2" });
  t.equal(log.state.nodes.get("n2")?.state, "removed");
  t.end();
});

t.test("the only disks of a VM are given up by word only, and then the VM can be deleted", (t) => {
  const log = CommandLog.withNodes(2);
  log.ok(pool("local", false));
  log.create("v", { disks: [diskIn("local")] });
  const vm = log.state.vms.get("v")!;
  log.state.write({ table: "vms", key: "v", row: { ...vm, homeNodeId: "n2" } });
  t.match(log.refused({ type: "node.remove", nodeId: "n2", dead: false, proof: null }), { reason: "node n2 has the only disks of v" });
  log.ok({ type: "node.suspect", nodeId: "n2", silentMs: 2_000 });
  t.match(log.refused({ type: "node.remove", nodeId: "n2", dead: true, proof: null }), { reason: "node n2 has the only disks of v" });
  log.ok({ type: "node.remove", nodeId: "n2", dead: true, proof: word });
  log.ok({ type: "node.removed", nodeId: "n2" });
  log.ok({ type: "vm.desire", vmId: "v", action: "delete", nodeId: null });
  t.notOk(log.state.vms.has("v"));
  t.end();
});

t.test("left out by a recover: what it runs is not known, so only a word lets it go", (t) => {
  const log = CommandLog.withNodes(3);
  // n3 was on its way out already, with nothing on it.
  log.ok({ type: "node.remove", nodeId: "n3", dead: false, proof: null });
  const command = { generation: 2, keepNodeId: "n1", node: null, off: [], why: "a test" };
  log.term = rebuild(log.state, command, { lastTerm: 7, nowMs: log.nowMs, actor: "user:root" }).position.term;
  const dead = { type: "node.remove", nodeId: "n2", dead: true, proof: null } as const;
  t.match(log.refused({ ...dead, dead: false }), { kind: "precondition", reason: /does not answer/ });
  t.match(log.refused(dead), { kind: "precondition", reason: /left out in generation 2: it may run/ });
  t.match(log.refused({ type: "node.removed", nodeId: "n3" }), { kind: "precondition", reason: /left out in generation 2/ });
  t.same(
    leftOutNodes(log.state).map(({ id }) => id),
    ["n2", "n3"],
    "and nothing is placed",
  );
  for (const nodeId of ["n2", "n3"]) {
    log.ok({ ...dead, nodeId, proof: { ...word, nodeId } });
    log.ok({ type: "node.removed", nodeId });
    t.match(log.state.nodes.get(nodeId), { state: "removed", leftOut: undefined });
  }
  t.end();
});

t.test("the last node stays", (t) => {
  const log = CommandLog.withNodes(1);
  t.match(log.refused({ type: "node.remove", nodeId: "n1", dead: false, proof: null }), { reason: /the last one/ });
  t.end();
});
