/** Every command that does not move VMs about: what it does, and each way it is refused. */
import t from "tap";
import { applyMembership } from "../../src/state/apply.ts";
import { defaultSettings, SETTING_PROFILES, type Settings, settingsConflict } from "../../src/model/settings.ts";
import type { Command } from "../../src/state/commands.ts";
import { CommandLog, definition, diskIn, expiry, fencing, INFO, joining, pool } from "./log.ts";

const token = (id: string, uses = 1): Command => ({ type: "token.create", id, secretHash: "hash", ttlMs: 60_000, uses });
const join = (tokenId: string, node: ReturnType<typeof joining>, secretHash = "hash"): Command => ({
  type: "node.join",
  tokenId,
  secretHash,
  node,
});

t.test("nothing but cluster.init works before it", (t) => {
  const early: Command[] = [
    { type: "setting.update", key: "ha.claimMs", value: 5_000 },
    token("t"),
    join("t", joining("n2")),
    pool("shared", true),
    { type: "vm.create", vms: [{ id: "v", definition: definition("v"), hold: false, nodeId: null, power: "on" }] },
  ];
  for (const command of early) t.match(new CommandLog().refused(command), { kind: "precondition" }, command.type);
  for (const command of [
    { type: "node.enable", nodeId: "n1", enabled: true },
    { type: "vm.retry", vmId: "v" },
  ] as const) {
    t.match(new CommandLog().refused(command), { kind: "not-found" }, command.type);
  }
  t.end();
});

t.test("cluster.init", (t) => {
  const log = new CommandLog();
  const init: Command = { type: "cluster.init", clusterId: "c", name: "lab", caCertificate: "cert", caKey: "key", node: joining("n1") };
  t.same(log.ok(init), { ids: ["c"], peerId: 1 });
  t.match(log.state.cluster, { id: "c", generation: 1, nextPeerId: 2, nextVmNumber: 1, createdAtMs: log.nowMs });
  t.match(log.state.nodes.get("n1"), { peerId: 1, role: "voter", state: "joining", tokenId: null });
  t.match(log.refused({ ...init, clusterId: "d" }), { kind: "exists", what: "cluster", name: "lab" });
  t.end();
});

t.test("setting.update", (t) => {
  const log = CommandLog.withNodes(1);
  const update = (key: string, value: string | number): Command => ({ type: "setting.update", key, value }) as Command;
  log.ok(update("ha.claimMs", 6_000));
  t.equal(log.state.cluster?.settings["ha.claimMs"], 6_000);
  log.ok(update("ha.claimMs", "5000"));
  t.equal(log.state.cluster?.settings["ha.claimMs"], 5_000, "text is read as the setting's type");
  t.match(log.events.at(-1), { kind: "cluster.setting", message: "ha.claimMs: 6000 → 5000" });
  t.match(log.refused(update("ha.claimMs", "soon")), { kind: "invalid", violations: [{ field: "ha.claimMs" }] });
  t.match(log.refused(update("ha.claimMs", 999)), { kind: "invalid" }, "the minimum is 1000");
  t.match(log.refused(update("no.such", 1)), { kind: "invalid", violations: [{ message: /one of ha\./ }] });
  // 4 × 500 = 2000 > 1999.
  t.match(log.refused(update("ha.claimMs", 1_999)), { kind: "invalid", violations: [{ message: /at least 4 × ha\.heartbeatMs/ }] });
  t.end();
});

t.test("settings.profile: all at once, checked together", (t) => {
  const log = CommandLog.withNodes(1);
  for (const [profile, { values }] of Object.entries(SETTING_PROFILES)) {
    const settings: Settings = { ...defaultSettings(), ...values };
    t.equal(settingsConflict(settings), null, profile);
    // A guardian that looks every 50 ms: the bound on clock rates stays above 3.5 %.
    t.ok((settings["ha.marginMs"] - 50) / settings["ha.claimMs"] > 0.035, `${profile}: its margin bounds clock rates`);
  }
  const aggressive = SETTING_PROFILES["aggressive"]?.values ?? {};
  const apply = (values: Partial<Settings>): Command => ({ type: "settings.profile", profile: "aggressive", values });
  // A claim of 20 s with heartbeats of 5 s: 2000 < 4 × 5000.
  log.ok({ type: "setting.update", key: "ha.claimMs", value: 20_000 });
  log.ok({ type: "setting.update", key: "ha.heartbeatMs", value: 5_000 });
  t.match(log.refused({ type: "setting.update", key: "ha.claimMs", value: 2_000 }), { kind: "invalid" }, "not one by one");
  t.match(log.refused(apply({ "ha.claimMs": 2_000 })), { kind: "invalid", violations: [{ field: "profile" }] });
  t.match(log.refused(apply({ "ha.claimMs": 1 })), { kind: "invalid", violations: [{ field: "ha.claimMs" }] });
  t.same(log.ok(apply(aggressive)).ids, Object.keys(aggressive));
  t.match(log.state.cluster?.settings, aggressive);
  t.equal(log.state.cluster?.longestClaimMs, 20_000, "longer ones stay in force until the leader forgets them");
  t.match(log.events.at(-1), { kind: "cluster.setting", subjectName: "profile aggressive", message: /ha\.claimMs: 20000 → 2000/ });
  t.end();
});

t.test("tokens", (t) => {
  const log = CommandLog.withNodes(1);
  log.ok(token("t", 2), { actor: "user:alice" });
  t.same(log.state.tokens.get("t"), {
    id: "t",
    secretHash: "hash",
    createdAtMs: log.nowMs,
    expiresAtMs: log.nowMs + 60_000,
    usesLeft: 2,
    createdBy: "user:alice",
  });
  log.ok({ type: "token.revoke", id: "t" });
  t.equal(log.state.tokens.size, 0);
  t.match(log.refused({ type: "token.revoke", id: "t" }), { kind: "not-found", what: "token" });

  t.test("dead ones go when a new one is made, and do not count against the limit", (t) => {
    for (let i = 0; i < 1_000; i++) log.ok(token(`t${i}`));
    t.match(log.refused(token("more")), { kind: "exhausted" });
    log.nowMs += 60_001;
    log.ok(token("fresh"));
    t.same([...log.state.tokens.keys()], ["fresh"]);
    t.end();
  });
  t.end();
});

t.test("node.join, its confirmation, its undoing", (t) => {
  const log = CommandLog.withNodes(1);
  log.ok(token("t", 2));
  t.same(log.ok(join("t", joining("n2"))), { ids: ["n2"], peerId: 2 });
  t.match(log.state.nodes.get("n2"), { state: "joining", role: "none", peerId: 2, tokenId: "t", info: null });
  t.equal(log.state.tokens.get("t")?.usesLeft, 1);

  t.match(log.refused(join("t", joining("n2"))), { kind: "exists", what: "node", name: "n2" });
  t.match(log.refused(join("t", { ...joining("n3"), peerAddress: "n2:2" })), {
    kind: "precondition",
    reason: "n2:2 is the address of node n2 already",
  });
  const unknown = log.refused(join("none", joining("n3")));
  t.same(unknown, log.refused(join("t", joining("n3"), "wrong")), "unknown and wrong look the same from outside");
  t.match(unknown, { kind: "denied", reason: /not known/ });

  log.ok(join("t", joining("n3")));
  t.match(log.refused(join("t", joining("n4"))), { kind: "denied", reason: /has been used/ });

  t.same(log.ok({ type: "node.join-confirm", nodeId: "n2" }), { ids: ["n2"], peerId: 2 });
  t.equal(log.state.nodes.get("n2")?.role, "follower");
  t.same(log.ok({ type: "node.join-confirm", nodeId: "n2" }), { ids: ["n2"], peerId: 2 }, "again");
  t.match(log.refused({ type: "node.join-confirm", nodeId: "none" }), { kind: "not-found" });
  t.match(log.refused({ type: "node.join-abort", nodeId: "n2" }), { kind: "precondition", reason: /has joined/ });

  log.ok({ type: "node.join-abort", nodeId: "n3" });
  t.notOk(log.state.nodes.has("n3"));
  t.notOk(log.state.nodeIdByName.has("n3"));
  t.equal(log.state.tokens.get("t")?.usesLeft, 1, "the use is given back");
  t.same(log.ok({ type: "node.join-abort", nodeId: "n3" }), { ids: [] }, "again");
  t.equal(log.state.tokens.get("t")?.usesLeft, 1, "and given back once");
  t.same(log.ok(join("t", joining("n3"))).peerId, 4, "a peer id is never given twice");

  log.ok(token("old"));
  log.nowMs += 60_001;
  t.match(log.refused(join("old", joining("n5"))), { kind: "denied", reason: /expired/ });
  t.end();
});

t.test("a node speaks for itself only (SEC-3)", (t) => {
  const log = CommandLog.withNodes(2);
  log.running("v", "n2");
  const generation = log.vm("v").generation;
  const own: Command[] = [
    { type: "node.hello", nodeId: "n2", info: INFO, parkRevision: 0, apiAddress: "x:1", peerAddress: "x:2" },
    { type: "node.info", nodeId: "n2", info: INFO },
    { type: "node.park", nodeId: "n2", durationMs: 1 },
    { type: "vm.report", vmId: "v", nodeId: "n2", generation, observed: { kind: "running" } },
    { type: "task.begin", taskId: "t1", path: "2", attempt: 1, nodeId: "n2", run: "r" },
    { type: "task.progress", taskId: "t1", path: "2", attempt: 1, nodeId: "n2", steps: [], progress: null },
    { type: "task.answer", taskId: "t1", path: "2", attempt: 1, nodeId: "n2", generation, outcome: { ok: true }, steps: [] },
    { type: "vm.report", vmId: "none", nodeId: "n2", generation, observed: { kind: "gone", cause: "crashed", detail: "" } },
  ];
  for (const command of own) t.match(log.refused(command, { origin: "n1" }), { kind: "denied", reason: /node n1 cannot/ }, command.type);
  // n1 cannot report under its own name what n2 holds either.
  t.match(log.refused({ type: "vm.report", vmId: "v", nodeId: "n1", generation, observed: { kind: "running" } }), { kind: "precondition" });
  t.end();
});

t.test("node.hello, info, park", (t) => {
  const log = CommandLog.withNodes(1);
  t.match(log.state.nodes.get("n1"), { state: "ready", info: { memoryMib: 4_096 }, parkedMs: 0 });
  log.ok({ type: "node.park", nodeId: "n1", durationMs: 30_000 });
  t.equal(log.state.nodes.get("n1")?.parkedMs, 30_000);
  log.ok({ type: "node.info", nodeId: "n1", info: { ...INFO, memoryMib: 8_192 } });
  t.match(log.state.nodes.get("n1"), { info: { memoryMib: 8_192 }, parkedMs: 30_000 }, "a report does not unpark");
  log.hello("n1");
  t.match(log.state.nodes.get("n1"), { parkedMs: 0, apiAddress: "n1:1" });
  t.match(log.refused({ type: "node.hello", nodeId: "none", info: INFO, parkRevision: 0, apiAddress: "", peerAddress: "" }), {
    kind: "not-found",
  });
  t.match(log.refused({ type: "node.info", nodeId: "none", info: INFO }), { kind: "not-found" });
  t.match(log.refused({ type: "node.park", nodeId: "none", durationMs: 1 }), { kind: "not-found" });
  t.end();
});

t.test("node.enable: disabled is the operator's word, and silence does not undo it", (t) => {
  const log = CommandLog.withNodes(2);
  const enable = (enabled: boolean): Command => ({ type: "node.enable", nodeId: "n2", enabled });
  const state = (): string | undefined => log.state.nodes.get("n2")?.state;
  t.same(log.ok(enable(true)), { ids: ["n2"] }, "is already");
  log.ok(enable(false));
  t.equal(state(), "disabled");
  log.ok(enable(false));
  log.hello("n2");
  t.equal(state(), "disabled", "a restarted agent is still disabled");
  log.suspect("n2");
  t.equal(state(), "unreachable");
  t.match(log.refused(enable(true)), { kind: "precondition", reason: "node n2 is unreachable" });
  log.ok({ type: "node.alive", nodeId: "n2" });
  t.equal(state(), "disabled", "heard of again");
  log.suspect("n2");
  log.expire("n2");
  t.equal(state(), "fenced");
  log.hello("n2");
  t.equal(state(), "disabled", "back from the dead");
  log.ok(enable(true));
  log.suspect("n2");
  log.ok({ type: "node.alive", nodeId: "n2" });
  t.equal(state(), "ready");
  t.match(log.refused({ type: "node.enable", nodeId: "none", enabled: true }), { kind: "not-found" });
  t.end();
});

t.test("node.suspect and alive take no right away", (t) => {
  const log = CommandLog.withNodes(2);
  log.running("v", "n2");
  log.suspect("n2");
  t.match(log.state.nodes.get("n2"), { state: "unreachable" });
  t.match(log.vm("v"), { state: "unknown", claim: { nodeId: "n2" }, reason: "node n2 is unreachable" });
  const { claimRevision } = log.state.nodes.get("n2")!;
  t.same(log.ok({ type: "node.suspect", nodeId: "n2", silentMs: 9 }), { ids: [] }, "again");
  log.ok({ type: "node.alive", nodeId: "n2" });
  t.match(log.state.nodes.get("n2"), { state: "ready", claimRevision });
  t.equal(log.vm("v").state, "unknown", "until its node says what it sees");
  log.report("v", { kind: "running" });
  t.match(log.vm("v"), { state: "running", reason: null });
  log.ok({ type: "node.alive", nodeId: "n2" });
  t.match(log.refused({ type: "node.suspect", nodeId: "none", silentMs: 1 }), { kind: "not-found" });
  t.match(log.refused({ type: "node.alive", nodeId: "none" }), { kind: "not-found" });
  t.end();
});

t.test("node.expire: this term, a guardian, and claims with a deadline only (HA-4)", (t) => {
  const log = CommandLog.withNodes(2);
  log.term = 7;
  log.running("ha", "n2");
  log.running("keep", "n2", { ha: { enabled: true, priority: 0, onQuorumLoss: "keep" } });
  log.running("plain", "n2", { ha: { enabled: false, priority: 0, onQuorumLoss: "stop" } });
  log.suspect("n2");
  t.match(log.refused(expiry("n2", 6), { term: 6 }), { kind: "conflict" }, "decided in an older term");
  t.match(log.refused(expiry("n2", 6), { term: 7 }), { kind: "conflict" }, "a proof of an older term");
  t.match(log.refused(expiry("n2", 7), { term: 6 }), { kind: "conflict" }, "proposed in an older term");
  t.match(log.refused(expiry("n2", 7)), { kind: "conflict" }, "bound to no term");
  t.match(log.refused(expiry("none", 7), { term: 7 }), { kind: "not-found" });
  log.expire("n2");
  t.match(log.state.nodes.get("n2"), { state: "fenced", claimRevision: log.state.index });
  t.match(log.vm("ha"), {
    state: "recovering",
    claim: null,
    failover: {
      fromNodeId: "n2",
      toNodeId: null,
      proof: { kind: "expiry" },
      lastHeartbeatMs: 900_000,
      suspectMs: 901_500,
      plannedMs: null,
    },
  });
  for (const id of ["keep", "plain"]) t.match(log.vm(id), { state: "unknown", claim: { nodeId: "n2", deadline: false } }, id);

  t.test("without a guardian it proves nothing", (t) => {
    const bare = CommandLog.withNodes(2, { guardian: null });
    bare.running("ha", "n2");
    bare.suspect("n2");
    t.match(bare.refused(expiry("n2", 1), { term: 1 }), { kind: "precondition", reason: /has no guardian/ });
    t.match(bare.vm("ha").claim, { nodeId: "n2" });
    t.end();
  });
  t.end();
});

t.test("node.fence: everything the node held, but never a node that answers", (t) => {
  const log = CommandLog.withNodes(2);
  log.running("ha", "n2");
  log.running("plain", "n2", { ha: { enabled: false, priority: 0, onQuorumLoss: "stop" } });
  t.match(log.refused(fencing("n2")), { kind: "precondition", reason: /is alive/ });
  log.ok({ type: "node.enable", nodeId: "n2", enabled: false });
  t.match(log.refused(fencing("n2")), { kind: "precondition", reason: /is alive/ }, "a disabled node answers, and its VMs run");
  log.suspect("n2");
  log.ok(fencing("n2"));
  t.equal(log.state.nodes.get("n2")?.state, "fenced");
  for (const id of ["ha", "plain"])
    t.match(log.vm(id), { state: "recovering", claim: null, failover: { proof: { kind: "operator", user: "root" } } }, id);
  t.same(log.ok(fencing("n2")), { ids: ["n2"] }, "again");
  t.match(log.refused(fencing("none")), { kind: "not-found" });
  t.end();
});

t.test("a node fenced by expiry keeps what had no deadline until somebody vouches", (t) => {
  const log = CommandLog.withNodes(2);
  log.running("plain", "n2", { ha: { enabled: false, priority: 0, onQuorumLoss: "stop" } });
  log.suspect("n2");
  log.expire("n2");
  t.match(log.vm("plain"), { state: "unknown", claim: { nodeId: "n2" } });
  log.ok(fencing("n2"));
  t.match(log.vm("plain"), { state: "recovering", claim: null });
  t.end();
});

t.test("pools", (t) => {
  const log = CommandLog.withNodes(1);
  t.same(log.ok(pool("shared", true)), { ids: ["p-shared"] });
  t.match(log.state.pools.get("p-shared"), { name: "shared", createdAtMs: log.nowMs, revision: log.state.index });
  t.match(log.refused(pool("shared", true)), { kind: "exists", what: "pool" });
  t.match(log.refused({ type: "pool.create", pool: { ...pool("b", true).pool, path: "/shared" } }), {
    kind: "precondition",
    reason: /is the folder of pool/,
  });
  t.match(log.refused({ type: "pool.delete", name: "none" }), { kind: "not-found" });
  log.create("v", { disks: [diskIn("shared")] });
  t.match(log.refused({ type: "pool.delete", name: "shared" }), { kind: "precondition", reason: /used by v/ });
  log.ok({ type: "vm.desire", vmId: "v", action: "delete", nodeId: null });
  log.ok({ type: "pool.delete", name: "shared" });
  t.equal(log.state.pools.size + log.state.poolIdByName.size, 0);
  t.end();
});

t.test("Raft's membership is mirrored into the rows", (t) => {
  const log = CommandLog.withNodes(3);
  const at = (): { index: number; term: number } => ({ index: log.state.index + 1, term: 1 });
  const roles = (): unknown[] => [...log.state.nodes.values()].map((node) => node.role);
  t.same(roles(), ["voter", "follower", "follower"], "confirmed nodes follow");
  const one = applyMembership(log.state, { voters: [1], outgoing: [], learners: [2], learnersNext: [], autoLeave: false }, at());
  t.same([roles(), one.events.map((event) => event.message)], [["voter", "learner", "follower"], ["follower → learner"]]);
  const two = applyMembership(log.state, { voters: [1, 2, 3], outgoing: [1], learners: [], learnersNext: [], autoLeave: true }, at());
  t.same(roles(), ["voter", "voter", "voter"]);
  t.same(
    two.events.map((event) => [event.kind, event.subjectName, event.message, event.revision]),
    [
      ["node.role", "n2", "learner → voter", log.state.index],
      ["node.role", "n3", "follower → voter", log.state.index],
    ],
  );
  applyMembership(log.state, { voters: [2], outgoing: [2, 3], learners: [], learnersNext: [3], autoLeave: true }, at());
  t.same(roles(), ["follower", "voter", "voter"], "who is in the outgoing half still votes");
  applyMembership(log.state, { voters: [2], outgoing: [], learners: [3], learnersNext: [], autoLeave: false }, at());
  t.same(roles(), ["follower", "voter", "learner"]);
  t.end();
});

t.test("claims.shorten: bound to its term and to the setting it was decided for", (t) => {
  const log = CommandLog.withNodes(1);
  log.ok({ type: "setting.update", key: "ha.claimMs", value: 8_000 });
  log.ok({ type: "setting.update", key: "ha.claimMs", value: 5_000 });
  t.equal(log.state.cluster?.longestClaimMs, 8_000);
  t.match(log.refused({ type: "claims.shorten", claimMs: 5_000 }, { term: log.term + 1 }), { kind: "conflict", reason: /term/ });
  t.match(log.refused({ type: "claims.shorten", claimMs: 4_000 }, { term: log.term }), { kind: "conflict", reason: /changed/ });
  log.ok({ type: "claims.shorten", claimMs: 5_000 }, { term: log.term });
  t.equal(log.state.cluster?.longestClaimMs, 5_000);
  t.end();
});

t.test("node.hello: ends the park that it knows, no later one (HA-9)", (t) => {
  const log = CommandLog.withNodes(1);
  const { parkRevision: before, info } = log.state.nodes.get("n1")!;
  const hello = (parkRevision: number): void => {
    log.ok({ type: "node.hello", nodeId: "n1", info: info!, parkRevision, apiAddress: "n1:1", peerAddress: "n1:2" }, { origin: "n1" });
  };
  log.ok({ type: "node.park", nodeId: "n1", durationMs: 60_000 }, { origin: "n1" });
  hello(before);
  t.equal(log.state.nodes.get("n1")?.parkedMs, 60_000, "sent before the park, applied after it");
  hello(log.state.nodes.get("n1")!.parkRevision);
  t.equal(log.state.nodes.get("n1")?.parkedMs, 0);
  t.match(log.refused({ type: "node.park", nodeId: "n1", durationMs: 3_600_001 }, { origin: "n1" }), { kind: "invalid" });
  t.end();
});
