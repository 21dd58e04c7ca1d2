import t from "tap";
import { planFencing, waitingForFence } from "../../src/ha/fence-plan.ts";
import type { FenceAttempt, Fencing } from "../../src/model/fencing.ts";
import { CommandLog } from "../state/log.ts";

/** n3 is silent for `silentMs` and holds an HA VM (`ha`, deadline) and one that keeps running without quorum (`kept`). */
function setUp(options: { guardian?: string | null; silentMs?: number; mode?: "never" | "needed" | "first"; kept?: boolean } = {}) {
  const log = CommandLog.withNodes(3, { guardian: options.guardian === undefined ? "file" : options.guardian });
  log.running("ha", "n3");
  if (options.kept === true) log.running("kept", "n3", { ha: { enabled: true, priority: 0, onQuorumLoss: "keep" } });
  const device = { name: "bmc", level: 1, agent: "redfish", options: {}, secrets: {}, timeoutMs: 10_000 };
  log.ok({ type: "fencing.set", nodeId: "n3", device });
  log.suspect("n3");
  const now = { ms: 100_000, term: 1, leader: "n1", before: new Set<string>() };
  const plan = (sinceMs = 0) =>
    planFencing({
      nowMs: now.ms,
      term: now.term,
      leaderId: now.leader,
      view: log.state,
      settings: { "ha.fence": options.mode ?? "needed", "ha.fenceAfterMs": 5_000, "ha.suspectMs": 1_500 },
      silentMs: () => options.silentMs ?? 5_000,
      silentBefore: now.before,
      sinceMs: () => now.ms - sinceMs,
    });
  const attempt = (changes: Partial<FenceAttempt>): void => {
    const base: FenceAttempt = {
      id: 7,
      state: "open",
      auto: true,
      actor: "leader",
      why: "",
      beganAtMs: 0,
      tries: 0,
      round: 1,
      tried: [],
      current: null,
      steps: [],
    };
    const row = log.state.fencing.get("n3") as Fencing;
    log.state.fencing.set("n3", { ...row, attempt: { ...base, ...changes } });
  };
  return { log, now, plan, attempt };
}

t.test("needed: only for what time does not free", (t) => {
  t.strictSame(setUp().plan(), [], "a guardian: expiry does it");
  t.match(setUp({ kept: true }).plan(), [{ kind: "begin", nodeId: "n3", why: /^silent for 5000 ms, kept wait/ }]);
  t.match(setUp({ guardian: null }).plan(), [{ kind: "begin", why: /, ha wait/ }]);
  t.match(setUp({ mode: "first" }).plan(), [{ kind: "begin", why: /, ha wait/ }]);
  t.strictSame(setUp({ mode: "never", kept: true, guardian: null }).plan(), []);
  const plain = CommandLog.withNodes(3, { guardian: null });
  plain.running("plain", "n3", { ha: { enabled: false, priority: 0, onQuorumLoss: "stop" } });
  const node = plain.state.nodes.get("n3");
  const settings = { "ha.fence": "first", "ha.fenceAfterMs": 0, "ha.suspectMs": 0 } as const;
  t.strictSame(node === undefined ? null : waitingForFence(node, { view: plain.state, settings }), [], "no HA, no fence");
  t.end();
});

t.test("when: after ha.fenceAfterMs of silence, a park's time, or at once where silence is older than the leader", (t) => {
  t.strictSame(setUp({ kept: true, silentMs: 4_999 }).plan(), []);
  const elected = setUp({ kept: true, silentMs: 1_500 });
  elected.now.before.add("n3");
  t.equal(elected.plan().length, 1, "a new leader looks for itself as long as it takes to suspect, no longer (HA-5)");
  const parked = setUp({ kept: true, silentMs: 60_000 });
  const row = parked.log.state.nodes.get("n3");
  if (row !== undefined) parked.log.state.nodes.set("n3", { ...row, parkedMs: 60_001 });
  t.strictSame(parked.plan(), []);
  const back = setUp({ kept: true });
  back.log.hello("n3");
  t.strictSame(back.plan(), [], "it answers");
  t.end();
});

t.test("who: the leader first, then the others, never the node itself; each once a round", (t) => {
  const { plan, attempt, now, log } = setUp({ kept: true });
  attempt({});
  t.match(plan(), [{ kind: "try", attempt: 7, executorId: "n1", newRound: false, gaveUp: null }]);
  now.leader = "n2";
  t.match(plan(), [{ executorId: "n2" }]);
  attempt({ tried: ["n2"], tries: 1 });
  t.match(plan(), [{ executorId: "n1" }]);
  // One device of 10 s: 2 × 10 s + 15 s.
  attempt({ tried: ["n2", "n1"], tries: 2, current: { number: 2, executorId: "n1", term: 1 } });
  t.strictSame(plan(35_000), []);
  t.match(plan(35_001), [{ kind: "try", executorId: "n2", newRound: true, gaveUp: /within 35000 ms/ }]);
  log.suspect("n1");
  t.match(plan(0), [{ kind: "try", executorId: "n2", newRound: true, gaveUp: "does not answer" }]);
  t.end();
});

t.test("rounds: the next after a back-off that doubles; an order has one", (t) => {
  const { plan, attempt } = setUp({ kept: true });
  attempt({ tried: ["n1", "n2"], tries: 2, round: 1 });
  t.strictSame(plan(4_999), []);
  t.match(plan(5_000), [{ kind: "try", executorId: "n1", newRound: true }]);
  attempt({ tried: ["n1", "n2"], tries: 6, round: 3 });
  t.strictSame(plan(19_999), []); // 5 s × 2^(3 − 1)
  t.equal(plan(20_000).length, 1);
  attempt({ tried: ["n1", "n2"], tries: 40, round: 20 });
  t.strictSame(plan(299_999), []);
  t.equal(plan(300_000).length, 1);
  attempt({ tried: ["n1", "n2"], tries: 2, auto: false, steps: [{ atMs: 0, nodeId: "n2", text: "says on" }] });
  t.match(plan(), [{ kind: "end", state: "failed", why: "all 2 nodes that can have tried; last: says on" }]);
  t.end();
});

t.test("a new leader goes on with the attempt under its own term; one that nothing waits for is dropped", (t) => {
  const { plan, attempt, now, log } = setUp({ kept: true });
  attempt({ tried: ["n2"], tries: 1, current: { number: 1, executorId: "n2", term: 1 } });
  t.strictSame(plan(), []);
  now.term = 2;
  t.match(plan(), [{ kind: "try", executorId: "n2", newRound: false, gaveUp: "the leader changed" }]);
  log.ok({ type: "vm.desire", vmId: "kept", action: "force-shutdown", nodeId: null });
  t.match(plan(), [{ kind: "end", state: "cancelled", why: /nothing waits/ }]);
  attempt({ auto: false });
  t.match(plan(), [{ kind: "try" }], "an order goes on");
  t.end();
});
