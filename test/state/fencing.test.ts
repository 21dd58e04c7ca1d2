import t from "tap";
import type { FenceDevice } from "../../src/model/fencing.ts";
import type { Command } from "../../src/state/commands.ts";
import { CommandLog, expiry } from "./log.ts";

const SECRET = "not-for-anybody";
const device = (name: string, level = 1): FenceDevice => ({
  name,
  level,
  agent: "fence_fake",
  options: { ip: "10.0.0.5" },
  secrets: { password: SECRET },
  timeoutMs: 10_000,
});

/** n3 holds an HA VM, one that keeps running without quorum, and one without HA; it is silent, and has a device. */
function silent(): CommandLog {
  const log = CommandLog.withNodes(3);
  log.running("ha", "n3");
  log.running("kept", "n3", { ha: { enabled: true, priority: 0, onQuorumLoss: "keep" } });
  log.running("plain", "n3", { ha: { enabled: false, priority: 0, onQuorumLoss: "stop" } });
  log.ok({ type: "fencing.set", nodeId: "n3", device: device("bmc") });
  log.suspect("n3");
  return log;
}

const order: Command = { type: "fence.begin", nodeId: "n3", why: "test", auto: false };
const begin = (log: CommandLog): number => Number(log.ok(order).ids?.[0]);
const trying = (attempt: number, executorId = "n1"): Command => ({
  type: "fence.try",
  nodeId: "n3",
  attempt,
  executorId,
  newRound: false,
  gaveUp: null,
});
const seenOff = (attempt: number, number = 1, executorId = "n1"): Command => ({
  type: "fence.report",
  nodeId: "n3",
  attempt,
  try: number,
  executorId,
  outcome: { off: true, device: "fence_fake 10.0.0.5" },
});

t.test("intent, try, seen off: every claim of the node ends, with the proof in each row", (t) => {
  const log = silent();
  const attempt = begin(log);
  t.equal(begin(log), attempt, "one at a time: asked again, it is the same attempt");
  log.ok(trying(attempt, "n2"), { term: 1 });
  log.ok(seenOff(attempt, 1, "n2"), { origin: "n2" });
  t.equal(log.state.nodes.get("n3")?.state, "fenced");
  const proof = { kind: "fence", nodeId: "n3", by: "power", device: "fence_fake 10.0.0.5", observerId: "n2", attempt };
  for (const id of ["ha", "kept", "plain"]) t.match(log.vm(id), { state: "recovering", claim: null, failover: { proof } }, id);
  t.match(log.state.fencing.get("n3")?.attempt, { state: "done", current: null });
  t.strictSame(
    log.events.filter(({ kind }) => kind.startsWith("fence.")).map(({ kind }) => kind),
    ["fence.began", "fence.try", "fence.off"],
  );
  t.match(log.refused(seenOff(attempt, 1, "n2"), { origin: "n2" }), { kind: "conflict" }, "an attempt gives one proof");
  t.end();
});

t.test("what was seen counts only for the try that is on, by whose turn it is, in its term", (t) => {
  const log = silent();
  const attempt = begin(log);
  t.match(log.refused(seenOff(attempt)), { kind: "conflict", reason: /try 1 .* is over/ }, "nobody was told to");
  t.match(log.refused(trying(attempt), { term: 0 }), { kind: "conflict", reason: /decided in term 0/ });
  t.match(log.refused(trying(attempt, "n3"), { term: 1 }), { kind: "conflict", reason: /cannot switch itself off/ });
  log.ok(trying(attempt), { term: 1 });
  t.match(log.refused(seenOff(attempt), { origin: "n2" }), { kind: "denied" });
  t.match(log.refused(seenOff(attempt + 1)), { kind: "conflict" });
  log.ok(trying(attempt, "n2"), { term: 1 });
  t.match(log.refused(seenOff(attempt)), { kind: "conflict" }, "n1 is late, n2 has taken over");
  log.term = 2;
  t.match(log.refused(seenOff(attempt, 2, "n2"), { origin: "n2" }), { kind: "conflict", reason: /decided in term 1, not in 2/ });
  log.ok(trying(attempt, "n2"), { term: 2 });
  log.ok(seenOff(attempt, 3, "n2"), { origin: "n2" });
  t.equal(log.state.nodes.get("n3")?.state, "fenced", "the new leader's try of the same attempt");
  t.end();
});

t.test("a sign of life between intent and proof: what was seen before proves nothing", (t) => {
  const signs: [string, (log: CommandLog) => void][] = [
    ["heartbeats", (log) => void log.ok({ type: "node.alive", nodeId: "n3" }, { term: 1 })],
    ["hello", (log) => log.hello("n3")],
    ["a report of a VM", (log) => log.report("plain", { kind: "running" })],
    ["anything it proposes", (log) => void log.ok({ type: "vm.retry", vmId: "ha" }, { origin: "n3" })],
  ];
  for (const [name, sign] of signs) {
    const log = silent();
    const attempt = begin(log);
    log.ok(trying(attempt), { term: 1 });
    sign(log);
    t.match(log.state.fencing.get("n3")?.attempt, { state: "cancelled" }, name);
    t.match(log.refused(seenOff(attempt)), { kind: "conflict", reason: /is over/ }, name);
    t.match(log.vm("plain").claim, { nodeId: "n3" }, name);
  }
  t.end();
});

t.test("refused: a node that answers, one without a device, a leader of before", (t) => {
  const log = CommandLog.withNodes(3);
  t.match(log.refused(order), { kind: "precondition", reason: /is alive/ });
  log.suspect("n3");
  t.match(log.refused(order), { kind: "precondition", reason: /no fence device/ });
  log.ok({ type: "fencing.set", nodeId: "n3", device: device("bmc") });
  t.match(log.refused({ ...order, auto: true }, { term: 0 }), { kind: "conflict", reason: /decided in term 0/ });
  log.ok({ ...order, auto: true }, { term: 1 });
  t.end();
});

t.test("failures are kept, an end is an end, and another attempt may follow", (t) => {
  const log = silent();
  const attempt = begin(log);
  log.ok(trying(attempt), { term: 1 });
  const failed = { ...seenOff(attempt), outcome: { off: false, reason: "says on" } } as Command;
  log.ok(failed);
  t.match(log.state.fencing.get("n3")?.attempt, {
    state: "open",
    current: null,
    tried: ["n1"],
    steps: [{ nodeId: "n1", text: "says on" }],
  });
  t.match(log.vm("ha").claim, { nodeId: "n3" }, "a failure frees nothing");
  log.ok({ type: "fence.end", nodeId: "n3", attempt, state: "failed", why: "all have tried" }, { term: 1 });
  t.match(log.refused(trying(attempt), { term: 1 }), { kind: "conflict" });
  const next = begin(log);
  t.ok(next > attempt);
  // Meanwhile time freed what it frees; the fence frees the rest.
  log.ok(expiry("n3", 1), { term: 1 });
  t.match(log.vm("kept").claim, { nodeId: "n3" });
  log.ok(trying(next), { term: 1 });
  log.ok(seenOff(next));
  t.equal(log.vm("kept").claim, null);
  t.match(log.vm("ha").failover?.proof, { kind: "expiry" });
  t.end();
});

t.test("devices: by level, in the place of the one of the name, without a trace of secrets", (t) => {
  const log = CommandLog.withNodes(2);
  const set = (one: FenceDevice): Command => ({ type: "fencing.set", nodeId: "n2", device: one });
  log.ok(set(device("pdu-b", 2)));
  log.ok(set(device("pdu-a", 2)));
  log.ok(set(device("bmc")));
  log.ok(set({ ...device("bmc"), timeoutMs: 5_000 }));
  t.strictSame(
    log.state.fencing.get("n2")?.devices.map(({ name, timeoutMs }) => `${name} ${timeoutMs}`),
    ["bmc 5000", "pdu-a 10000", "pdu-b 10000"],
  );
  const wrong = { ...device("Bad Name", 0), agent: "/bin/sh", options: { action: "on", passwd: "x", "a b": "" }, timeoutMs: 1 };
  t.strictSame(
    (log.refused(set(wrong)) as { violations: { field: string }[] }).violations.map(({ field }) => field),
    ["device", "level", "agent", "timeout_ms", "options.action", "options.a b", "options.passwd"],
  );
  const script = { ...device("x"), options: { password_script: "/tmp/x" }, secrets: { password: "two\nlines" } };
  t.match(log.refused(set(script)), { kind: "invalid" });
  t.notMatch(JSON.stringify(log.events), SECRET);
  t.notMatch(JSON.stringify([...log.state.history.values(), ...log.state.nodes.values()]), SECRET);
  log.ok({ type: "fencing.unset", nodeId: "n2", device: "pdu-a" });
  t.equal(log.state.fencing.get("n2")?.devices.length, 2);
  t.match(log.refused({ type: "fencing.unset", nodeId: "n2", device: "pdu-a" }), { kind: "not-found" });
  log.ok({ type: "fencing.unset", nodeId: "n2", device: null });
  t.equal(log.state.fencing.size, 0);
  t.end();
});
