/** Creating, placing, retrying, cleaning: the VM commands that are no single move. Moves by action and report: tables.test.ts. */
import t from "tap";
import type { Command, VmCreate } from "../../src/state/commands.ts";
import { CommandLog, definition, diskIn, pool } from "./log.ts";
import { seededRandom } from "../../src/base/random.ts";

const create = (vms: Partial<VmCreate["vms"][number]>[]): Command => ({
  type: "vm.create",
  vms: vms.map((vm, i) => ({ id: `id${i}`, definition: definition(`v${i}`), hold: false, nodeId: null, power: "on", ...vm })),
});

t.test("vm.create: all or none", (t) => {
  const log = CommandLog.withNodes(1);
  log.ok(pool("shared", true));
  log.ok(pool("local", false));
  t.same(log.ok(create([{}, { power: "off" }, { hold: true }])), {
    ids: ["id0", "id1", "id2"],
    taskIds: ["t1", "t2"],
  });
  // Cluster generation 1: 1 × 2^32.
  t.match(log.vm("id0"), {
    number: 1,
    state: "pending",
    claim: null,
    generation: 4_294_967_296,
    underHa: true,
    warnings: [],
    homeNodeId: null,
  });
  t.match(log.vm("id1"), { number: 2, state: "stopped", desired: { power: "off" } });
  t.match(log.vm("id2"), { number: 3, state: "pending", desired: { hold: true }, reason: /^held/ });
  t.equal(log.state.cluster?.nextVmNumber, 4);
  t.match(
    log.refused(
      create([
        { id: "x", definition: definition("x") },
        { id: "y", definition: definition("v1") },
      ]),
    ),
    { kind: "exists", name: "v1" },
  );
  t.match(
    log.refused(
      create([
        { id: "x", definition: definition("x") },
        { id: "y", definition: definition("x") },
      ]),
    ),
    { kind: "exists", name: "x" },
  );
  t.match(log.refused(create([{ id: "x", definition: definition("x"), nodeId: "n9" }])), { kind: "not-found", what: "node" });
  t.match(log.refused(create([{ id: "x", definition: definition("x", { disks: [diskIn("none")] }) }])), {
    kind: "invalid",
    violations: [{ field: "disks" }],
  });
  t.end();
});

t.test("HA holds where the volumes can be recovered, unless said otherwise (HA-13)", (t) => {
  const cases = [
    // pool, ha.enabled → under HA, warned
    ["shared", null, true, 0],
    ["shared", false, false, 0],
    ["local", null, false, 1],
    ["local", true, true, 1],
    ["local", false, false, 0],
  ] as const;
  for (const [name, enabled, underHa, warnings] of cases) {
    const log = CommandLog.withNodes(1);
    log.ok(pool("shared", true));
    log.ok(pool("local", false));
    log.create("v", { disks: [diskIn(name)], ha: { enabled, priority: 0, onQuorumLoss: "stop" } });
    t.same([log.vm("v").underHa, log.vm("v").warnings.length], [underHa, warnings], `${name}, ${enabled}`);
  }
  t.end();
});

t.test("vm.place", (t) => {
  const log = CommandLog.withNodes(2);
  log.create("a");
  const { generation } = log.vm("a");
  const place = (vmId: string, nodeId: string, at: number): Command => ({
    type: "vm.place",
    placements: [{ vmId, nodeId, generation: at }],
    rejections: [],
  });
  const refusal = (command: Command): unknown => log.ok(command).refused?.map((one) => one.code);

  t.same(refusal(place("a", "n9", generation)), ["node-unknown"]);
  t.same(refusal(place("none", "n1", generation)), ["not-waiting"]);
  t.same(refusal(place("a", "n1", generation - 1)), ["not-waiting"], "a plan of an older generation");
  t.same(refusal(place("a", "n1", generation + 1)), ["not-waiting"], "of no generation yet");
  log.ok({ type: "node.enable", nodeId: "n1", enabled: false });
  t.same(refusal(place("a", "n1", generation)), ["node-not-ready"]);

  t.same(log.ok(place("a", "n2", generation)), { ids: ["a"], refused: [] });
  t.match(log.vm("a"), {
    state: "prolog",
    generation: generation + 1,
    claim: { nodeId: "n2", generation: generation + 1, deadline: true, sinceMs: log.nowMs },
    homeNodeId: "n2",
  });
  t.equal(log.state.nodes.get("n2")?.claimRevision, log.state.index);
  t.same(refusal(place("a", "n2", generation)), ["not-waiting"], "the same plan twice");
  t.same(refusal(place("a", "n1", generation + 1)), ["not-waiting"], "it has a claim");

  log.create("off", {}, "off");
  t.same(refusal(place("off", "n2", log.vm("off").generation)), ["not-waiting"]);

  t.test("reasons of what waits are kept, unless the VM changed since", (t) => {
    log.create("b");
    const reasons = [{ code: "memory", nodes: 2, detail: "n1: needs 1024 MiB, 0 MiB free of 4096" }];
    const reject = (vmId: string, at: number): Command => ({
      type: "vm.place",
      placements: [],
      rejections: [{ vmId, generation: at, reasons }],
    });
    log.ok(reject("b", log.vm("b").generation));
    t.same(log.vm("b").pendingReasons, reasons);
    const before = log.vm("a");
    log.ok(reject("a", log.vm("a").generation));
    log.ok(reject("b", log.vm("b").generation - 1));
    log.ok(reject("none", 0));
    t.same(log.vm("a"), before, "a runs");
    log.place("b", "n2");
    t.same(log.vm("b").pendingReasons, []);
    t.end();
  });

  t.test("a node asked for by name is asked for once", (t) => {
    log.ok(create([{ id: "c", definition: definition("c"), nodeId: "n2" }]));
    log.ok({ type: "node.enable", nodeId: "n1", enabled: true });
    t.same(refusal(place("c", "n1", log.vm("c").generation)), ["requested-node"]);
    log.place("c", "n2");
    t.equal(log.vm("c").desired.nodeId, null);
    t.end();
  });
  t.end();
});

t.test("a claim has a deadline under HA, unless the VM is to be kept without quorum (HA-1)", (t) => {
  for (const [enabled, onQuorumLoss, deadline] of [
    [true, "stop", true],
    [true, "keep", false],
    [false, "stop", false],
  ] as const) {
    const log = CommandLog.withNodes(1);
    log.create("v", { ha: { enabled, priority: 0, onQuorumLoss } });
    log.place("v", "n1");
    t.equal(log.vm("v").claim?.deadline, deadline, `${enabled} ${onQuorumLoss}`);
  }
  t.end();
});

t.test("no number of plans made on the same view overbooks a node (SCH-20)", (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = seededRandom(seed);
    const log = CommandLog.withNodes(3);
    log.ok({ type: "setting.update", key: "scheduler.cpuRatio", value: 2 });
    const ids = Array.from({ length: 24 }, (_, i) => `v${i}`);
    // 3 nodes of 4096 MiB and 4 × 2 = 8 vCPUs.
    for (const id of ids) log.create(id, { memoryMib: 256 * (1 + random.below(8)), cpus: 1 + random.below(4) });
    const view = new Map(ids.map((id) => [id, log.vm(id).generation]));
    const plans = Array.from({ length: 6 }, (): Command => ({
      type: "vm.place",
      placements: Array.from({ length: 8 }, () => {
        const vmId = ids[random.below(ids.length)]!;
        return { vmId, nodeId: `n${1 + random.below(3)}`, generation: view.get(vmId)! };
      }),
      rejections: [],
    }));
    let placed = 0;
    for (const plan of plans) placed += log.ok(plan).ids?.length ?? 0;
    const claimed = [...log.state.vms.values()].filter((vm) => vm.claim !== null);
    if (placed !== claimed.length) t.fail(`seed ${seed}: ${placed} answered, ${claimed.length} placed`);
    for (const node of log.state.nodes.values()) {
      const on = claimed.filter((vm) => vm.claim?.nodeId === node.id);
      const memoryMib = on.reduce((sum, vm) => sum + vm.definition.memoryMib, 0);
      const cpus = on.reduce((sum, vm) => sum + vm.definition.cpus, 0);
      if (memoryMib > 4_096 || cpus > 8) t.fail(`seed ${seed}: ${node.id} has ${memoryMib} MiB and ${cpus} vCPUs`);
    }
    if (placed < 5) t.fail(`seed ${seed}: only ${placed} placed, the test shows nothing`);
  }
  t.pass("60 seeds");
  t.end();
});

t.test("what an earlier run of the agent saw end is not what the present one started", (t) => {
  const log = CommandLog.withNodes(2);
  const gone = (run: string): Parameters<CommandLog["ok"]>[0] => {
    const { generation } = log.vm("v");
    return { type: "vm.report", vmId: "v", nodeId: "n2", generation, run, observed: { kind: "gone", cause: "fenced", detail: "" } };
  };
  const said = { origin: "n2" };
  const beginBy = (run: string): Parameters<CommandLog["ok"]>[0] => {
    const task = log.head("v");
    const { path, attempt } = task.jobs.find(({ state }) => state === "sent")!;
    return { type: "task.begin", taskId: task.id, path, attempt, nodeId: "n2", run };
  };
  const hello = (run: string): Parameters<CommandLog["ok"]>[0] => {
    const { info, parkRevision } = log.state.nodes.get("n2")!;
    return { type: "node.hello", nodeId: "n2", run, info: info!, parkRevision, apiAddress: "n2:1", peerAddress: "n2:2" };
  };
  log.ok(hello("first"), said);
  log.create("v");
  log.place("v", "n2");
  log.done("v", "configure");
  t.equal(log.sent("v"), "power-on");
  // The second run begins the start; what the first one still has on its way may be as late as it likes.
  log.ok(beginBy("second"), said);
  t.match(log.refused(gone("first"), said), { kind: "precondition", reason: /run first of the agent on node n2 is over/ });
  t.match(log.refused(hello("first"), said), { kind: "precondition" });
  t.match(log.refused(beginBy("first"), said), { kind: "precondition" });
  t.equal(log.state.nodes.get("n2")?.run, "second");
  log.ok(gone("second"), said);
  t.equal(log.vm("v").claim, null);
  for (let i = 0; i < 12; i++) log.ok(hello(`run ${i}`), said);
  t.same(log.state.nodes.get("n2")?.formerRuns, ["run 3", "run 4", "run 5", "run 6", "run 7", "run 8", "run 9", "run 10"]);
  t.end();
});

t.test("vm.retry ends the back-off", (t) => {
  const log = CommandLog.withNodes(1);
  log.create("v");
  log.place("v", "n1");
  log.report("v", { kind: "gone", cause: "failed", detail: "" });
  log.place("v", "n1");
  log.report("v", { kind: "gone", cause: "failed", detail: "" });
  t.equal(log.vm("v").retryAtMs, log.nowMs + 1_000);
  log.ok({ type: "vm.retry", vmId: "v" });
  t.equal(log.vm("v").retryAtMs, 0);
  t.match(log.refused({ type: "vm.retry", vmId: "none" }), { kind: "not-found" });
  t.match(log.refused({ type: "vm.desire", vmId: "none", action: "start", nodeId: null }), { kind: "not-found" });
  t.end();
});

t.test("reports count for the present claim only", (t) => {
  const log = CommandLog.withNodes(2);
  log.running("v", "n2");
  const old = log.vm("v").generation;
  const running = (nodeId: string, generation: number): Command => ({
    type: "vm.report",
    vmId: "v",
    nodeId,
    generation,
    observed: { kind: "running" },
  });
  t.match(log.refused(running("n2", old - 1), { origin: "n2" }), { kind: "precondition" });
  log.suspect("n2");
  log.expire("n2");
  t.match(log.refused(running("n2", old), { origin: "n2" }), { kind: "precondition" }, "its claim has ended");
  log.place("v", "n1");
  t.equal(log.vm("v").generation, old + 1);
  t.match(log.refused(running("n2", old), { origin: "n2" }), { kind: "precondition" }, "the VM is elsewhere");
  t.match(log.refused(running("n2", old + 1), { origin: "n2" }), { kind: "precondition" }, "another's generation");
  const gone: Command = {
    type: "vm.report",
    vmId: "v",
    nodeId: "n2",
    generation: old,
    observed: { kind: "gone", cause: "fenced", detail: "" },
  };
  t.match(log.refused(gone, { origin: "n2" }), { kind: "precondition" }, "and its leftovers say nothing about the new one");
  t.same(log.ok({ ...running("n1", 1), vmId: "long-deleted" } as Command), { ids: [] });
  t.end();
});

t.test("a failover's time line: proof, planned, started, running, each once (HA-17)", (t) => {
  const log = CommandLog.withNodes(2);
  log.running("v", "n2");
  log.suspect("n2");
  log.nowMs += 10;
  const provenMs = log.nowMs;
  log.expire("n2");
  log.nowMs += 10;
  log.place("v", "n1");
  log.done("v", "configure");
  log.nowMs += 10;
  log.send("v");
  log.nowMs += 10;
  log.answer("v");
  log.nowMs += 10;
  log.report("v", { kind: "running" });
  t.match(log.vm("v").failover, {
    fromNodeId: "n2",
    toNodeId: "n1",
    proofMs: provenMs,
    plannedMs: provenMs + 10,
    startedMs: provenMs + 20,
    runningMs: provenMs + 30,
  });
  t.same(
    log.events.filter((event) => event.kind.startsWith("failover.")).map((event) => event.kind),
    ["failover.proof", "failover.planned", "failover.started", "failover.running"],
  );
  t.end();
});

t.test("deleting: by the home's agent, or by another that reaches the pools when the home is gone", (t) => {
  const start = (name: string): CommandLog => {
    const log = CommandLog.withNodes(3);
    log.ok(pool("shared", true));
    log.ok(pool("local", false));
    log.running("v", "n3", { disks: [diskIn(name)] });
    return log;
  };
  const remove: Command = { type: "vm.desire", vmId: "v", action: "delete", nodeId: null };
  const cleaned = (log: CommandLog, nodeId: string): Command => {
    log.sent("v");
    const { id, jobs } = log.head("v");
    const { path, attempt, generation } = jobs[1]!;
    return { type: "task.answer", taskId: id, path, attempt, nodeId, generation, outcome: { ok: true }, steps: [] };
  };

  const usual = start("shared");
  usual.ok(remove);
  usual.report("v", { kind: "gone", cause: "destroyed", detail: "" });
  t.match(usual.vm("v"), { state: "epilog", claim: null, homeNodeId: "n3" });
  t.match(usual.refused(cleaned(usual, "n1"), { origin: "n1" }), { kind: "precondition" });
  usual.ok(cleaned(usual, "n3"), { origin: "n3" });
  t.notOk(usual.state.vms.has("v"));
  t.notOk(usual.state.vmIdByName.has("v"));

  const dead = start("shared");
  dead.hello("n1", { pools: [] });
  dead.ok(remove);
  dead.suspect("n3");
  dead.ok({ type: "node.fence", nodeId: "n3", proof: { kind: "operator", nodeId: "n3", user: "root" } });
  t.match(dead.vm("v"), { state: "epilog", homeNodeId: "n2" }, "n1 does not reach the pool");
  dead.ok(cleaned(dead, "n2"), { origin: "n2" });
  t.notOk(dead.state.vms.has("v"));
  t.match(dead.state.tasks.get("t2"), { action: "delete", state: "done" });

  const local = start("local");
  local.ok(remove);
  local.suspect("n3");
  local.ok({ type: "node.fence", nodeId: "n3", proof: { kind: "operator", nodeId: "n3", user: "root" } });
  t.match(local.vm("v"), { state: "epilog", homeNodeId: "n3" }, "its volumes are where nobody else can reach");
  t.end();
});

t.test("volumes whose home is away are cleaned by the first node that comes back", (t) => {
  for (const back of ["hello", "heartbeat"] as const) {
    const log = CommandLog.withNodes(2);
    log.ok(pool("shared", true));
    log.running("v", "n2", { disks: [diskIn("shared")] });
    log.suspect("n1");
    log.ok({ type: "vm.desire", vmId: "v", action: "delete", nodeId: null });
    log.suspect("n2");
    log.ok({ type: "node.fence", nodeId: "n2", proof: { kind: "operator", nodeId: "n2", user: "root" } });
    t.match(log.vm("v"), { state: "epilog", homeNodeId: "n2" }, "nobody else is there");
    if (back === "hello") log.hello("n1");
    else log.ok({ type: "node.alive", nodeId: "n1" });
    t.match(log.vm("v"), { state: "epilog", homeNodeId: "n1" }, back);
    log.done("v", "unconfigure");
    t.notOk(log.state.vms.has("v"));
  }
  t.end();
});

t.test("a start that is called off long after its guest began to run keeps the disks", (t) => {
  for (const [untoldMs, disks] of [
    [3_600_000, "done"],
    [1_000, "undone"],
  ] as const) {
    const log = CommandLog.withNodes(1);
    log.create("v");
    log.place("v", "n1");
    log.done("v", "configure");
    log.send("v");
    const { id } = log.head("v");
    log.ok({ type: "task.begin", taskId: id, path: "2", attempt: 1, nodeId: "n1", run: "r" }, { origin: "n1" });
    // The agent dies after it let the guest run; then, before another one says so:
    log.nowMs += untoldMs;
    log.ok({ type: "vm.desire", vmId: "v", action: "force-shutdown", nodeId: null });
    log.answer("v");
    t.equal(log.sent("v"), "power-on", "its undo");
    log.answer("v");
    if (disks === "undone") log.done("v", "configure");
    t.match(log.state.tasks.get(id), {
      state: "cancelled",
      jobs: [{ state: "undone" }, { name: "configure", state: disks }, { state: "undone" }],
    });
    t.match(log.vm("v"), { state: "stopped", claim: null });
  }
  t.end();
});

t.test("history is bounded", (t) => {
  const log = CommandLog.withNodes(1);
  log.ok({ type: "setting.update", key: "ha.maxFailures", value: 1_000 });
  log.create("v");
  for (let i = 0; i < 50; i++) {
    log.place("v", "n1");
    log.report("v", { kind: "gone", cause: "failed", detail: "" });
  }
  t.equal(log.vm("v").history.length, 64);
  t.equal(log.vm("v").history.at(-1)?.state, "pending");
  t.end();
});
