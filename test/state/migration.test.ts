/** Live migration: two words decide it, and whichever is first in the log makes the other void (docs/design/014-live-migration.md). */
import t from "tap";
import type { Command, VmObservation } from "../../src/state/commands.ts";
import { sentJobs } from "../../src/agent/sent-jobs.ts";
import type { Task } from "../../src/model/task.ts";
import { PROGRAM_LEVEL } from "../../src/state/levels.ts";
import { CommandLog } from "./log.ts";

/** Cluster generation 1: 1 × 2^32, then one for each placement. */
const FIRST = 4_294_967_297;

/** v runs on n1, of `nodes` nodes that can migrate. */
function cluster(nodes = 3): CommandLog {
  const log = CommandLog.withNodes(nodes, { actions: ["migrate"], level: PROGRAM_LEVEL });
  log.ok({ type: "level.raise", level: PROGRAM_LEVEL }, { term: 1 });
  log.running("v", "n1");
  return log;
}

const migrate = (nodeId: string, generation = FIRST): Command => ({ type: "vm.migrate", vmId: "v", nodeId, generation, why: "" });
const says = (nodeId: string, generation: number, observed: VmObservation): [Command, { origin: string }] => [
  { type: "vm.report", vmId: "v", nodeId, generation, observed },
  { origin: nodeId },
];
const handedOver = says("n1", FIRST, { kind: "handed-over", generation: FIRST + 1 });
const claims = (log: CommandLog): Record<string, string[]> =>
  Object.fromEntries([...log.state.claimsByNode].map(([nodeId, vms]) => [nodeId, [...vms]]));
const expire = (log: CommandLog, nodeId: string): void => {
  const proof = { kind: "expiry" as const, nodeId, term: log.term, sinceAckMs: 4_300, grantedMs: 4_000, marginMs: 250 };
  log.ok({ type: "node.expire", nodeId, proof, lastHeartbeatMs: 0, leaderChanged: false, suspectMs: 0 }, { term: log.term });
};

t.test("begun, handed over, running: the claim moves once, and room is kept on both nodes until then", (t) => {
  const log = cluster();
  const memoryMib = log.vm("v").definition.memoryMib;
  const used = (nodeId: string): number => log.state.usage.nodes.get(nodeId)?.memoryMib ?? 0;
  t.same(log.ok(migrate("n2")), { ids: ["v"], taskIds: ["t2"] });
  t.match(log.vm("v"), {
    state: "migrating",
    generation: FIRST + 1,
    claim: { nodeId: "n1", generation: FIRST },
    migration: { phase: "incoming", claim: { nodeId: "n2", generation: FIRST + 1, deadline: true } },
  });
  t.same(claims(log), { n1: ["v"], n2: ["v"] });
  t.same([used("n1"), used("n2")], [memoryMib, memoryMib]);
  t.same(log.ok(migrate("n2")), { ids: ["v"], taskIds: ["t2"] }, "asked again for what is under way");
  t.match(log.refused(migrate("n3")), { reason: /migrates to n2 already/ });
  const revision = log.state.nodes.get("n1")?.claimRevision ?? 0;
  log.ok(...handedOver);
  t.match(log.vm("v"), { state: "migrating", claim: { nodeId: "n2", generation: FIRST + 1 }, homeNodeId: "n2", migration: undefined });
  t.same(claims(log), { n2: ["v"] });
  t.same([used("n1"), used("n2")], [0, memoryMib]);
  t.ok((log.state.nodes.get("n1")?.claimRevision ?? 0) > revision, "the source's claim set is a new one");
  log.report("v", { kind: "running" });
  t.match(log.vm("v"), { state: "running" });
  t.same(log.ok(migrate("n2", FIRST + 1)), { ids: ["v"], taskIds: [] }, "asked again for what is done");
  t.end();
});

t.test("given up first: a late hand-over is void, and the source goes on", (t) => {
  for (const word of [
    { type: "vm.migrate-abort", vmId: "v", why: "cancelled" } as Command,
    says("n1", FIRST, { kind: "not-migrated", detail: "cut" })[0],
    says("n2", FIRST + 1, { kind: "not-migrated", detail: "cut" })[0],
  ]) {
    const log = cluster();
    log.ok(migrate("n2"));
    log.ok(word, { origin: word.type === "vm.report" ? word.nodeId : "n1" });
    t.match(log.vm("v"), { state: "migrating", claim: { nodeId: "n1" }, migration: { phase: "aborting" } });
    t.match(log.refused(...handedOver), { reason: /given up before/ });
    t.match(log.refused(migrate("n3")), { reason: /not gone yet/ });
    log.report("v", { kind: "running" });
    t.match(log.vm("v"), { state: "running", claim: { nodeId: "n1", generation: FIRST } });
    t.same(claims(log), { n1: ["v"], n2: ["v"] }, "the target has not said that nothing is left");
    log.ok(...says("n2", FIRST + 1, { kind: "incoming-gone", detail: "" }));
    t.equal(log.vm("v").migration, undefined);
    t.same(claims(log), { n1: ["v"] });
    log.ok(migrate("n2"));
    t.equal(log.vm("v").migration?.claim.generation, FIRST + 2, "a generation is never given twice");
    t.match(log.refused(...handedOver), { reason: /given up before/ }, "nor does the old word count for the new one");
  }
  t.end();
});

t.test("handed over first: giving up is void", (t) => {
  const log = cluster();
  log.ok(migrate("n2"));
  log.ok(...handedOver);
  log.refused(...says("n1", FIRST, { kind: "not-migrated", detail: "" }));
  log.refused(...says("n2", FIRST + 1, { kind: "incoming-gone", detail: "" }));
  log.ok({ type: "vm.migrate-abort", vmId: "v", why: "" });
  log.ok(...says("n2", FIRST + 1, { kind: "not-migrated", detail: "" }));
  t.match(log.vm("v"), { claim: { nodeId: "n2" }, migration: undefined });
  t.end();
});

t.test("handed over under a task that goes back: its undo is the target's, and the queue moves on", (t) => {
  for (const answered of [false, true]) {
    const log = cluster();
    log.ok({ type: "vm.desire", vmId: "v", action: "pause", nodeId: null });
    log.ok(migrate("n2"));
    t.equal(log.sent("v"), "pause");
    const { id } = log.head("v");
    log.ok({ type: "task.cancel", taskId: id });
    if (answered) {
      log.answer("v");
      t.equal(log.sent("v"), "pause", "its undo");
    }
    log.ok(...handedOver);
    t.match(log.state.tasksByNode.get("n1"), undefined, "nothing waits for the source");
    log.send("v");
    t.match(log.head("v").jobs[0], { state: "undo-sent", nodeId: "n2" });
    log.answer("v");
    t.equal(log.state.tasks.get(id)?.state, "cancelled");
  }
  t.end();
});

t.test("handed over with a reset that was sent: it ends at once, as the source may never answer", (t) => {
  for (const begun of [false, true]) {
    const log = cluster();
    log.ok({ type: "vm.desire", vmId: "v", action: "force-restart", nodeId: null });
    log.ok(migrate("n2"));
    t.equal(log.sent("v"), "reset");
    const { id } = log.head("v");
    if (begun) log.ok({ type: "task.begin", taskId: id, path: "0", attempt: 1, nodeId: "n1", run: "r" }, { origin: "n1" });
    log.ok(...handedOver);
    expire(log, "n1");
    t.match(log.state.tasks.get(id), { state: begun ? "unknown" : "failed", error: { code: "lost" } });
    log.ok({ type: "vm.desire", vmId: "v", action: "force-shutdown", nodeId: null });
    log.done("v", "power-off");
    t.equal(log.vm("v").state, "stopped");
  }
  t.end();
});

t.test("the target cannot run by itself", (t) => {
  const log = cluster();
  log.ok(migrate("n2"));
  for (const observed of [{ kind: "running" }, { kind: "paused" }, { kind: "handed-over", generation: FIRST + 1 }] as const)
    log.refused(...says("n2", FIRST + 1, observed));
  log.report("v", { kind: "running" });
  t.match(log.vm("v"), { state: "migrating" }, "the source runs all the time: that changes nothing");
  t.end();
});

t.test("the source dies first: recovery waits for the proof of the target, too", (t) => {
  const ends: [string, (log: CommandLog) => void, object][] = [
    ["release", (log) => void log.ok(...says("n2", FIRST + 1, { kind: "incoming-gone", detail: "" })), { kind: "release", nodeId: "n2" }],
    ["expiry", (log) => expire(log, "n2"), { kind: "expiry", nodeId: "n2" }],
  ];
  for (const [name, end, incomingProof] of ends) {
    const log = cluster();
    log.ok(migrate("n2"));
    expire(log, "n1");
    t.match(log.vm("v"), { state: "recovering", claim: null, reason: /waits for n2/, migration: { phase: "aborting" } }, name);
    t.match(log.place("v", "n3").refused, [{ code: "not-waiting" }]);
    log.refused(...handedOver);
    end(log);
    t.match(log.vm("v"), { state: "recovering", failover: { proof: { kind: "expiry", nodeId: "n1" }, incomingProof } }, name);
    log.place("v", "n3");
    t.equal(log.vm("v").claim?.generation, FIRST + 2);
  }
  t.end();
});

t.test("the target dies: before the hand-over the source keeps it, after it one proof is enough", (t) => {
  const before = cluster();
  before.ok(migrate("n2"));
  expire(before, "n2");
  t.match(before.vm("v"), { state: "migrating", claim: { nodeId: "n1" }, migration: undefined });
  before.refused(...handedOver);
  before.report("v", { kind: "running" });
  t.match(before.vm("v"), { state: "running", claim: { nodeId: "n1" } });
  const after = cluster();
  after.ok(migrate("n2"));
  after.ok(...handedOver);
  expire(after, "n2");
  t.match(after.vm("v"), { state: "recovering", claim: null, migration: undefined, failover: { proof: { nodeId: "n2" } } });
  after.place("v", "n3");
  t.match(after.vm("v"), { state: "prolog", claim: { nodeId: "n3" } });
  t.end();
});

t.test("what the user wants comes first, and the guest's own end, too", (t) => {
  for (const action of ["force-shutdown", "delete"] as const) {
    const log = cluster();
    log.ok(migrate("n2"));
    log.ok({ type: "vm.desire", vmId: "v", action, nodeId: null });
    log.report("v", { kind: "gone", cause: "destroyed", detail: "" });
    t.match(log.vm("v"), { claim: null, migration: { phase: "aborting" } });
    log.ok(...says("n2", FIRST + 1, { kind: "incoming-gone", detail: "" }));
    t.match(log.vm("v"), { state: action === "delete" ? "epilog" : "stopped", migration: undefined });
  }
  const log = cluster();
  log.ok(migrate("n2"));
  log.report("v", { kind: "gone", cause: "crashed", detail: "" });
  t.match(log.vm("v"), { state: "pending", claim: null, migration: { phase: "aborting" } });
  t.match(log.place("v", "n3").refused, [{ code: "not-waiting" }]);
  t.end();
});

t.test("what stands in the way is named before anything begins", (t) => {
  const log = cluster();
  t.match(log.refused(migrate("n9")), { kind: "not-found" });
  t.match(log.refused(migrate("n2", FIRST + 5)), { reason: /placed anew/ });
  log.ok({ type: "node.enable", nodeId: "n2", enabled: false });
  t.match(log.refused(migrate("n2")), { reason: /n2: is disabled/ });
  log.create("idle", {}, "off");
  t.match(log.refused({ type: "vm.migrate", vmId: "idle", nodeId: "n3", generation: 0, why: "" }), { reason: /is stopped/ });
  const without = CommandLog.withNodes(2, { level: PROGRAM_LEVEL });
  without.ok({ type: "level.raise", level: PROGRAM_LEVEL }, { term: 1 });
  without.running("v", "n1");
  t.match(without.refused(migrate("n2")), { reason: /driver \(simulated\) cannot migrate/ });
  const other = CommandLog.withNodes(2, { actions: ["migrate"], level: PROGRAM_LEVEL });
  other.ok({ type: "level.raise", level: PROGRAM_LEVEL }, { term: 1 });
  other.running("v", "n1");
  other.hello("n2", { actions: ["migrate"], level: PROGRAM_LEVEL, hardwareAccelerated: false });
  t.match(other.refused(migrate("n2")), { reason: /n2 emulates them, n1 runs guests on the processor/ });
  const old = CommandLog.withNodes(2, { actions: ["migrate"] });
  old.running("v", "n1");
  t.match(old.refused(migrate("n2")), { reason: /vm.migrate needs level/ });
  t.end();
});

t.test("all replicas come to the same", (t) => {
  const log = cluster();
  log.ok(migrate("n2"));
  expire(log, "n1");
  expire(log, "n2");
  log.place("v", "n3");
  t.same([...log.replayed(2).vms], [...log.state.vms]);
  t.same([...log.replayed(2).claimsByNode], [...log.state.claimsByNode]);
  t.end();
});

/** Of the last migration. */
const task = (log: CommandLog): Task | undefined => [...log.state.tasks.values()].findLast(({ action }) => action === "migrate");

t.test("its task: sent with the row, handed over, done when the target is heard of it", (t) => {
  for (const seen of ["running", "paused"] as const) {
    const log = cluster();
    log.ok(migrate("n2"));
    t.match(task(log), {
      state: "running",
      cause: "asked",
      targetNodeId: "n2",
      jobs: [{ state: "sent", attempt: 1, nodeId: "n1", slot: null }],
    });
    t.same(sentJobs(log.state, "n1").size, 0, "no agent is sent it");
    const { id, jobs } = task(log) as Task;
    const answer = { taskId: id, path: "0", attempt: 1, nodeId: "n1", generation: jobs[0]?.generation ?? 0, steps: [] };
    t.match(log.refused({ type: "task.answer", ...answer, outcome: { ok: true } }, { origin: "n1" }), { reason: /was not sent to/ });
    log.report("v", { kind: "running" });
    t.match(task(log), { state: "running" }, "the source runs it all the time");
    log.ok(...handedOver);
    t.match(task(log), {
      state: "running",
      jobs: [{ nodeId: "n2", generation: FIRST + 1, steps: [{ name: "handed over", detail: /by n1 to n2/ }] }],
    });
    t.match(log.refused({ type: "task.cancel", taskId: id }), { reason: /no way back/ });
    log.ok({ type: "vm.migrate-abort", vmId: "v", why: "" });
    if (seen === "paused") log.suspect("n2");
    log.report("v", { kind: seen });
    t.match(task(log), { state: "done", error: null, jobs: [{ state: "done", nodeId: "n2" }] });
    t.same(log.state.tasksByObject.get("v"), undefined);
  }
  t.end();
});

t.test("its task fails with the reason, or is cancelled: at once, whatever the target has yet to destroy", (t) => {
  const ends: [string, (log: CommandLog) => void, object][] = [
    ["the source's word", (log) => void log.ok(...says("n1", FIRST, { kind: "not-migrated", detail: "cut" })), { state: "failed" }],
    ["the target's word", (log) => void log.ok(...says("n2", FIRST + 1, { kind: "not-migrated", detail: "cut" })), { state: "failed" }],
    ["gone at the target", (log) => void log.ok(...says("n2", FIRST + 1, { kind: "incoming-gone", detail: "cut" })), { state: "failed" }],
    ["expiry of the target", (log) => expire(log, "n2"), { state: "failed" }],
    ["expiry of the source", (log) => expire(log, "n1"), { state: "failed" }],
    ["vm migrate --abort", (log) => void log.ok({ type: "vm.migrate-abort", vmId: "v", why: "" }), { state: "cancelled" }],
    ["task cancel", (log) => void log.ok({ type: "task.cancel", taskId: task(log)?.id ?? "" }), { state: "cancelled" }],
    ["delete", (log) => void log.ok({ type: "vm.desire", vmId: "v", action: "delete", nodeId: null }), { state: "cancelled" }],
    [
      "force-shutdown",
      (log) => void log.ok({ type: "vm.desire", vmId: "v", action: "force-shutdown", nodeId: null }),
      { state: "cancelled" },
    ],
  ];
  for (const [name, end, expected] of ends) {
    const log = cluster();
    log.ok(migrate("n2"));
    end(log);
    t.match(task(log), { ...expected, jobs: [{ state: "failed", slot: null }] }, name);
    if (/word|gone/.test(name)) t.match(task(log)?.error, { code: "not-migrated", message: "not migrated to n2: cut" }, name);
    if (/migrate|cancel|word/.test(name)) t.equal(log.vm("v").migration?.phase, "aborting", name);
    if (name === "delete" || name === "force-shutdown") t.equal(log.sent("v"), "power-off", name);
    t.notOk(log.state.tasksByNode.get("n1")?.has(task(log)?.id ?? ""), name);
  }
  t.end();
});

t.test("its task ends also when the target dies, or the VM does, after the hand-over", (t) => {
  const ends: [string, (log: CommandLog) => void, object][] = [
    ["expiry", (log) => expire(log, "n2"), { state: "failed", error: { code: "lost" } }],
    ["crash", (log) => log.report("v", { kind: "gone", cause: "crashed", detail: "" }), { state: "failed", error: { code: "lost" } }],
    ["delete", (log) => void log.ok({ type: "vm.desire", vmId: "v", action: "delete", nodeId: null }), { state: "cancelled" }],
  ];
  for (const [name, end, expected] of ends) {
    const log = cluster();
    log.ok(migrate("n2"));
    log.ok(...handedOver);
    end(log);
    t.match(task(log), expected, name);
    t.not(log.head("v").action, "migrate", name);
  }
  t.end();
});

t.test("what was asked before it comes first, and it does not wait for that", (t) => {
  const log = cluster();
  log.ok({ type: "vm.desire", vmId: "v", action: "pause", nodeId: null });
  log.ok(migrate("n2"));
  t.equal(log.sent("v"), "pause");
  t.match(task(log)?.jobs[0], { state: "sent" });
  log.ok(...handedOver);
  log.send("v");
  log.answer("v");
  t.equal(log.head("v").action, "migrate");
  log.report("v", { kind: "running" });
  t.same(log.state.tasksByObject.get("v"), undefined);
  t.end();
});
