/** A drain is a wish on the node's row: what it changes, and that the node is left as it was found (HA-15). */
import t from "tap";
import type { Command } from "../../src/state/commands.ts";
import { PROGRAM_LEVEL } from "../../src/state/levels.ts";
import { CommandLog } from "./log.ts";

function cluster(): CommandLog {
  const log = CommandLog.withNodes(3, { actions: ["migrate"], level: PROGRAM_LEVEL });
  log.ok({ type: "level.raise", level: PROGRAM_LEVEL }, { term: 1 });
  log.running("v", "n1");
  return log;
}

const drain = (nodeId: string, limitMs = 0): Command => ({ type: "node.drain", nodeId, limitMs, allowRestart: false, parallel: 2 });
const report = (done: boolean, restarting: string[] = []): Command => ({
  type: "node.drain-report",
  nodeId: "n1",
  done,
  blocked: done ? [] : [{ vmId: "v", name: "v", reasons: ["n2: full"] }],
  restarting,
});
const undrain: Command = { type: "node.undrain", nodeId: "n1", why: "ended by alice" };

t.test("nothing lands on a node that is drained; ended, it is as it was", (t) => {
  for (const disabled of [false, true]) {
    const log = cluster();
    if (disabled) log.ok({ type: "node.enable", nodeId: "n1", enabled: false });
    log.ok(drain("n1"));
    t.match(log.state.nodes.get("n1"), { state: "draining", drain: { parallel: 2, done: false } });
    log.create("w");
    t.match(log.place("w", "n1").refused, [{ code: "node-not-ready" }]);
    t.match(log.refused({ type: "node.enable", nodeId: "n1", enabled: true }), { reason: /is draining/ });
    log.ok(report(false));
    t.match(log.state.nodes.get("n1")?.drain?.blocked, [{ name: "v" }]);
    log.ok(report(true));
    t.equal(log.state.nodes.get("n1")?.state, "maintenance");
    log.hello("n1", { actions: ["migrate"], level: PROGRAM_LEVEL });
    t.equal(log.state.nodes.get("n1")?.state, "maintenance", "a restart of its agent changes nothing");
    log.ok(undrain);
    t.match(log.state.nodes.get("n1"), { state: disabled ? "disabled" : "ready", drain: undefined, restarting: undefined });
    t.same(log.ok(undrain), { ids: ["n1"] });
  }
  t.end();
});

t.test("silence and return, in the middle of it", (t) => {
  const log = cluster();
  log.ok(drain("n1"));
  log.ok({ type: "node.suspect", nodeId: "n1", silentMs: 1_500 });
  t.equal(log.state.nodes.get("n1")?.state, "unreachable");
  log.ok({ type: "node.alive", nodeId: "n1" });
  t.equal(log.state.nodes.get("n1")?.state, "draining");
  log.ok({ type: "node.suspect", nodeId: "n1", silentMs: 1_500 });
  log.ok(undrain);
  t.equal(log.state.nodes.get("n1")?.state, "unreachable", "the end of a drain makes nobody alive");
  t.match(log.refused(drain("n1")), { reason: /is unreachable/ });
  t.end();
});

t.test("its end gives up what is on its way, and forgets nobody that was shut down for it", (t) => {
  const log = cluster();
  log.ok(drain("n1"));
  log.ok({ type: "vm.migrate", vmId: "v", nodeId: "n2", generation: log.vm("v").claim?.generation ?? 0, why: "drain of n1" });
  log.ok(report(false, ["w"]));
  log.ok(undrain);
  t.match(log.vm("v"), { state: "migrating", claim: { nodeId: "n1" }, migration: { phase: "aborting" } });
  t.same(log.state.nodes.get("n1")?.restarting, ["w"]);
  log.ok(report(false, []));
  t.equal(log.state.nodes.get("n1")?.restarting, undefined);
  t.end();
});

t.test("what is no wish is refused", (t) => {
  const log = cluster();
  t.match(log.refused({ ...drain("n1"), parallel: 0 } as Command), { kind: "invalid" });
  t.match(log.refused(drain("n1", -1)), { kind: "invalid" });
  log.ok({ type: "node.enable", nodeId: "n2", enabled: false });
  log.ok({ type: "node.enable", nodeId: "n3", enabled: false });
  t.match(log.refused(drain("n1")), { reason: /no other node is ready/ });
  t.end();
});
