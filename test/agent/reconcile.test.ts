import t from "tap";
import { isStillWanted, planBlind, planCancel, reconcile } from "../../src/agent/reconcile.ts";
import type { Action, JobMemory, ReconcileInput, SentJob, VmMemory } from "../../src/agent/reconcile.ts";
import type { RegisteredVm } from "../../src/agent/keeper/protocol.ts";
import type { DomainState, DomainStatus } from "../../src/hypervisor/driver.ts";
import type { JobName } from "../../src/model/task.ts";
import type { Vm, VmState } from "../../src/model/vm.ts";
import { testVm } from "../support/world.ts";

const ME = "me";
const NOW = 100_000;
const domain = (state: DomainState, generation = 1, clusterId = "c"): DomainStatus => ({
  vmId: "v",
  generation,
  clusterId,
  name: "v",
  state,
});
const kept = (phase: RegisteredVm["phase"] = "live", generation = 1, why: RegisteredVm["why"] = "deadline"): RegisteredVm => ({
  vmId: "v",
  generation,
  deadline: true,
  phase,
  why: phase === "live" ? "" : why,
});
const claimed = (state: VmState): Vm => testVm("v", {}, { claim: ME, state });
const memory = (wish: Partial<VmMemory>): VmMemory => ({
  generation: 1,
  gone: null,
  shutdownAskedMs: null,
  resumed: false,
  job: null,
  notBeforeMs: 0,
  ...wish,
});
const job = (name: JobName, wish: Partial<SentJob> = {}): SentJob => ({
  key: { taskId: "t1", path: "0", attempt: 1 },
  name,
  undo: false,
  generation: 1,
  begunBy: null,
  cancel: false,
  limitMs: 60_000,
  setting: "vm.someTimeoutMs",
  ...wish,
});
/** As it is remembered of the job above. */
const worked = (wish: Partial<JobMemory> = {}): VmMemory =>
  memory({ job: { id: "t1 0 1", sinceMs: NOW - 1_000, acted: false, failed: null, lastProblem: "", ...wish } });
const OVERDUE = worked({ sinceMs: NOW - 60_000 });

interface World {
  vm?: Vm | null;
  job?: SentJob;
  domain?: DomainStatus;
  kept?: RegisteredVm;
  memory?: VmMemory;
  fresh?: boolean;
}
function text(action: Action): string {
  if (action.op === "answer") return `answer ${action.error?.code ?? "ok"}`;
  if (action.op !== "report") return action.op;
  return action.observed.kind === "gone" ? `report gone:${action.observed.cause}` : `report ${action.observed.kind}`;
}
const one = <T>(value: T | null | undefined): [string, T][] => (value === undefined || value === null ? [] : [["v", value]]);
/** `goal: actions` of the one plan, or "nothing". */
function plan(world: World): string {
  const input: ReconcileInput = {
    clusterId: "c",
    nodeId: ME,
    run: "this run",
    fresh: world.fresh ?? true,
    nowMs: NOW,
    vms: new Map(one(world.vm)),
    jobs: new Map(one(world.job)),
    domains: world.domain === undefined ? [] : [world.domain],
    registered: new Map(one(world.kept)),
    memory: new Map(one(world.memory)),
  };
  const plans = reconcile(input);
  t.ok(plans.length <= 1);
  return plans.map(({ goal, actions }) => `${goal}: ${actions.map(text).join(", ")}`)[0] ?? "nothing";
}
const UNDO = "destroy, undefine, unregister";
const START = "job: prepare-disks, register, begin, define, start-paused, confirm, resume, answer ok";
const START_AGAIN = START.replace(" begin,", "");
const ALL_STATES: VmState[] = [
  "pending",
  "prolog",
  "boot",
  "running",
  "paused",
  "suspended",
  "shutdown",
  "epilog",
  "stopped",
  "migrating",
  "recovering",
  "failed",
  "unknown",
  "deleted",
];

t.test("domains without a matching claim are destroyed, others' never", async (t) => {
  t.equal(plan({ domain: domain("running") }), `leftover: ${UNDO}`, "unknown VM");
  t.equal(plan({ vm: testVm("v", {}, { claim: "other" }), domain: domain("running") }), `leftover: ${UNDO}`, "another node's");
  t.equal(plan({ vm: claimed("prolog"), domain: domain("running", 0) }), `leftover: ${UNDO}`, "older generation");
  t.equal(plan({ vm: claimed("prolog"), domain: domain("paused", 2) }), `leftover: ${UNDO}`, "generation of no claim");
  t.equal(plan({ domain: domain("running", 1, "another cluster") }), "nothing");
  t.equal(
    plan({ vm: claimed("running"), domain: domain("running", 1, "another cluster"), kept: kept() }),
    `end: ${UNDO}, report gone:crashed`,
    "not taken for ours",
  );
  t.equal(plan({ kept: kept("gone", 0), vm: claimed("prolog") }), `leftover: ${UNDO}`, "registered only");
  t.equal(plan({ vm: claimed("boot"), job: job("power-on"), domain: domain("running", 0) }), `leftover: ${UNDO}`, "before any job");
});

t.test("before the claims were read for certain only what matches is registered", async (t) => {
  t.equal(plan({ fresh: false, domain: domain("running") }), "nothing");
  t.equal(plan({ fresh: false, vm: claimed("boot"), job: job("power-on") }), "nothing");
  t.equal(plan({ fresh: false, vm: claimed("running") }), "nothing");
  t.equal(plan({ fresh: false, vm: claimed("running"), domain: domain("running") }), "adopt: register");
  t.equal(plan({ fresh: false, vm: claimed("boot"), job: job("power-on"), domain: domain("running"), kept: kept() }), "nothing");
  const epilog = { ...testVm("v", {}, { home: ME, state: "epilog" }), claim: null };
  t.equal(plan({ fresh: false, vm: epilog, job: job("unconfigure") }), "nothing");
});

t.test("without a job: a claim without a domain, state by state", async (t) => {
  for (const state of ALL_STATES) {
    const expected =
      state === "prolog" || state === "boot" ? "nothing" : `end: ${UNDO}, report gone:${state === "shutdown" ? "shutdown" : "crashed"}`;
    t.equal(plan({ vm: claimed(state) }), expected, state);
    t.equal(plan({ vm: claimed(state), domain: domain("defined") }), expected, `${state}, defined`);
    t.equal(plan({ vm: claimed(state), kept: kept("gone") }), `end: ${UNDO}, report gone:fenced`, `${state}, ended by the keeper`);
  }
  const destroyed = memory({ gone: { kind: "gone", cause: "destroyed", detail: "" } });
  t.equal(plan({ vm: claimed("running"), memory: destroyed }), `end: ${UNDO}, report gone:destroyed`, "the driver said how");
  t.equal(plan({ vm: claimed("boot"), memory: destroyed }), "nothing", "its undo comes");
  t.equal(
    plan({ vm: claimed("running"), memory: { ...destroyed, generation: 0 } }),
    `end: ${UNDO}, report gone:crashed`,
    "an older generation's end",
  );
  t.equal(
    plan({ vm: claimed("running"), job: job("pause", { generation: 0 }) }),
    `end: ${UNDO}, report gone:crashed`,
    "another claim's job",
  );
});

t.test("without a job: a claim with its domain", async (t) => {
  t.equal(plan({ vm: claimed("running"), domain: domain("running") }), "adopt: register", "agent or keeper are new");
  t.equal(plan({ vm: claimed("running"), domain: domain("running"), kept: kept("live", 0) }), "adopt: register");
  const seen = (at: DomainState): Partial<Record<VmState, string>> =>
    Object.fromEntries(
      ALL_STATES.map((state) => [state, plan({ vm: claimed(state), domain: domain(at), kept: kept() })]).filter(
        ([, did]) => did !== "nothing",
      ),
    );
  t.strictSame(seen("running"), {
    paused: "settle: report running",
    migrating: "settle: report running",
    unknown: "settle: report running",
  });
  const goesOn = "settle: confirm, resume, report running";
  t.strictSame(seen("paused"), { running: "settle: report paused", migrating: goesOn, unknown: "settle: report paused" });
  const away = { ...claimed("unknown"), history: [{ state: "migrating" as const, atMs: 0, nodeId: ME, generation: 1, why: "" }] };
  t.equal(plan({ vm: away, domain: domain("paused"), kept: kept() }), goesOn, "handed over, and out of sight since");
  t.strictSame(seen("shutting-down"), {});
  t.equal(plan({ vm: claimed("running"), domain: domain("running"), kept: kept("dying") }), "end: destroy");
});

t.test("jobs without a domain", async (t) => {
  const none = (name: JobName, state: VmState, wish: Partial<SentJob> = {}, past?: VmMemory): string =>
    plan({ vm: claimed(state), job: job(name, wish), ...(past === undefined ? {} : { memory: past }) });
  t.equal(none("configure", "prolog"), "job: prepare-disks, answer ok");
  t.equal(none("configure", "prolog", { undo: true }), "job: clean-made, answer ok");
  t.equal(none("power-on", "boot"), START);
  t.equal(none("power-on", "unknown"), START, "its node was away in between");
  t.equal(none("power-on", "boot", { begunBy: "this run" }), START_AGAIN, "nothing of it ran: once more");
  const interrupted = `end: ${UNDO}, report gone:failed`;
  t.equal(none("power-on", "boot", { begunBy: "another run" }), interrupted, "it may have run: not twice under one generation");
  t.equal(none("power-on", "boot", { begunBy: "this run" }, memory({ resumed: true })), interrupted);
  const crashed = memory({ resumed: true, gone: { kind: "gone", cause: "crashed", detail: "" } });
  t.equal(none("power-on", "boot", { begunBy: "this run" }, crashed), `end: ${UNDO}, report gone:crashed`);
  t.equal(none("power-on", "boot", { undo: true }), `job: ${UNDO}, answer ok`);
  for (const name of ["shutdown", "wait-for-power-off", "power-off"] as const) {
    t.equal(none(name, "shutdown"), `job: ${UNDO}, answer ok`, name);
    t.equal(none(name, "shutdown", {}, OVERDUE), `job: ${UNDO}, answer ok`, `${name}, late but so`);
  }
  for (const name of ["pause", "unpause", "reboot", "reset"] as const)
    t.equal(none(name, "running"), `end: ${UNDO}, report gone:crashed`, name);
  for (const name of ["pause", "unpause"] as const)
    t.equal(none(name, "running", { undo: true }), `end: ${UNDO}, report gone:crashed`, `undo of ${name}`);
  for (const name of ["migrate", "place", "unconfigure", "configure-device"] as const)
    t.equal(none(name, "running"), "job: answer unsupported");
  t.equal(plan({ vm: claimed("boot"), job: job("power-on"), kept: kept("gone") }), `end: ${UNDO}, report gone:fenced`);
});

t.test("jobs with their domain", async (t) => {
  const on = (name: JobName, at: DomainState, wish: Partial<SentJob> = {}, past?: VmMemory): string =>
    plan({
      vm: claimed("running"),
      job: job(name, wish),
      domain: domain(at),
      kept: kept(),
      ...(past === undefined ? {} : { memory: past }),
    });
  const rows: [JobName, Partial<SentJob>, running: string, paused: string, shuttingDown: string][] = [
    ["configure", {}, "answer ok", "answer ok", "answer ok"],
    ["configure", { undo: true }, ...same(`${UNDO}, clean-made, answer ok`)],
    ["power-on", {}, "answer ok", "confirm, resume, answer ok", "answer ok"],
    ["power-on", { undo: true }, ...same(`${UNDO}, answer ok`)],
    ["power-off", {}, ...same(`${UNDO}, answer ok`)],
    ["shutdown", {}, "shutdown, answer ok", "answer precondition", "answer ok"],
    ["pause", {}, "pause, answer ok", "answer ok", "answer precondition"],
    ["pause", { undo: true }, "answer ok", "confirm, resume, answer ok", "answer ok"],
    ["unpause", {}, "answer ok", "confirm, resume, answer ok", "answer ok"],
    ["unpause", { undo: true }, "pause, answer ok", "answer ok", "answer precondition"],
    ["reboot", {}, ...same("begin, reboot, answer ok")],
    ["reset", {}, ...same("begin, reset, answer ok")],
    ["reset", { begunBy: "this run" }, ...same("reset, answer ok")],
    ["reset", { begunBy: "another run" }, ...same("answer unknown")],
    ["migrate", {}, ...same("answer unsupported")],
  ];
  for (const [name, wish, running, paused, shuttingDown] of rows) {
    const label = `${wish.undo === true ? "undo of " : ""}${name}`;
    t.equal(on(name, "running", wish), `job: ${running}`, `${label}, running`);
    t.equal(on(name, "paused", wish), `job: ${paused}`, `${label}, paused`);
    t.equal(on(name, "shutting-down", wish), `job: ${shuttingDown}`, `${label}, shutting down`);
    t.equal(
      plan({ vm: claimed("running"), job: job(name, wish), domain: domain("running") }),
      "adopt: register",
      `${label}, not registered`,
    );
    t.equal(
      plan({ vm: claimed("running"), job: job(name, wish), domain: domain("running"), kept: kept("dying") }),
      "end: destroy",
      `${label}, ended by the keeper`,
    );
  }
  t.equal(on("reset", "running", { begunBy: "this run" }, worked({ acted: true })), "job: answer unknown", "whether it reset nobody knows");
});

function same(actions: string): [string, string, string] {
  return [actions, actions, actions];
}

t.test("a guest is asked to power off until its time is up", async (t) => {
  const wait = (at: DomainState, past: Partial<VmMemory>, wish: Partial<SentJob> = {}): string =>
    plan({
      vm: claimed("shutdown"),
      job: job("wait-for-power-off", wish),
      domain: domain(at),
      kept: kept(),
      memory: { ...worked(), ...past },
    });
  t.equal(wait("running", {}), "job: shutdown", "nobody knows whether it was asked");
  t.equal(wait("running", { shutdownAskedMs: 85_001 }), "nothing", "14.999 s ago");
  t.equal(wait("running", { shutdownAskedMs: 85_000 }), "job: shutdown", "15 s ago: asked again");
  t.equal(wait("shutting-down", { shutdownAskedMs: 85_000 }), "nothing");
  t.equal(wait("running", OVERDUE), "job: answer timeout", "60 s of 60");
  t.equal(wait("shutting-down", OVERDUE), "job: answer timeout");
  t.equal(wait("running", { shutdownAskedMs: 99_000 }, { cancel: true }), "job: answer cancelled");
});

t.test("what failed for good is only answered, what took too long names its setting", async (t) => {
  const failed = worked({ failed: { code: "internal", message: "no", hint: "" } });
  t.equal(plan({ vm: claimed("boot"), job: job("power-on"), memory: failed }), "job: answer internal");
  t.equal(
    plan({ vm: claimed("boot"), job: job("power-on"), domain: domain("paused"), kept: kept(), memory: failed }),
    "job: answer internal",
    "nothing is resumed any more",
  );
  t.equal(
    plan({ vm: claimed("prolog"), job: job("configure", { key: { taskId: "t2", path: "1", attempt: 1 } }), memory: failed }),
    "job: prepare-disks, answer ok",
    "another job's",
  );
  const answerOf = (past: VmMemory): Action | undefined =>
    reconcile({
      clusterId: "c",
      nodeId: ME,
      run: "this run",
      fresh: true,
      nowMs: NOW,
      vms: new Map([["v", claimed("boot")]]),
      jobs: new Map([["v", job("power-on", { setting: "vm.bootTimeoutMs" })]]),
      domains: [],
      registered: new Map(),
      memory: new Map([["v", past]]),
    })[0]?.actions[0];
  t.match(answerOf(worked({ sinceMs: NOW - 60_000, lastProblem: "libvirt is away" })), {
    op: "answer",
    error: { code: "timeout", message: "power-on took longer than 60000 ms (setting vm.bootTimeoutMs); at last: libvirt is away" },
  });
  t.match(answerOf(worked({ sinceMs: NOW - 59_999 })), { op: "prepare-disks" });
});

t.test("a cancelled job ends where it stands, if it has a way back", async (t) => {
  t.equal(plan({ vm: claimed("prolog"), job: job("configure", { cancel: true }) }), "job: answer cancelled");
  t.equal(
    plan({ vm: claimed("prolog"), job: job("configure", { cancel: true, undo: true }) }),
    "job: clean-made, answer ok",
    "its undo goes on",
  );
  t.equal(
    plan({ vm: claimed("boot"), job: job("power-on", { cancel: true }), domain: domain("paused"), kept: kept() }),
    "job: answer cancelled",
  );
  t.equal(
    plan({ vm: claimed("boot"), job: job("power-on", { cancel: true }), domain: domain("running"), kept: kept() }),
    "job: answer ok",
    "it runs already",
  );
  t.equal(
    plan({ vm: claimed("running"), job: job("power-off", { cancel: true }), domain: domain("running"), kept: kept() }),
    `job: ${UNDO}, answer ok`,
  );
  t.match(planCancel("v", job("power-on", { cancel: true })), { goal: "cancel", generation: 1 });
  t.equal(planCancel("v", job("power-on")), null);
  for (const name of ["power-off", "unconfigure", "reset", "reboot"] as const)
    t.equal(planCancel("v", job(name, { cancel: true })), null, name);
});

t.test("disks are cleaned by the node that was told to, when nobody holds the VM", async (t) => {
  const vm = { ...testVm("v", {}, { home: ME, state: "epilog" }), claim: null };
  t.equal(plan({ vm }), "nothing");
  t.equal(plan({ vm, job: job("unconfigure") }), "job: clean-disks, answer ok");
  t.equal(plan({ vm, job: job("unconfigure", { generation: 0 }) }), "nothing");
  t.equal(plan({ vm: testVm("v", {}, { claim: "other", state: "running" }), job: job("unconfigure") }), "nothing");
  t.equal(plan({ vm, job: job("unconfigure"), domain: domain("running") }), `leftover: ${UNDO}`, "first its leftovers");
  t.equal(plan({ vm, job: job("unconfigure"), memory: OVERDUE }), "job: answer timeout");
});

t.test("after a passing failure a VM is left alone for a moment", async (t) => {
  t.equal(plan({ vm: claimed("boot"), job: job("power-on"), memory: memory({ notBeforeMs: NOW + 1 }) }), "nothing");
  t.equal(plan({ vm: claimed("boot"), job: job("power-on"), memory: memory({ notBeforeMs: NOW }) }), START);
});

t.test("where the hypervisor does not answer, only what needs no look at it is done", async (t) => {
  const blind = (state: VmState, sent: SentJob, untouched = true, past: VmMemory | null = null): string =>
    planBlind(claimed(state), sent, past, untouched, NOW)?.actions.map(text).join(", ") ?? "nothing";
  t.equal(blind("prolog", job("configure")), "prepare-disks, answer ok");
  t.equal(blind("boot", job("configure", { undo: true })), "clean-made, answer ok", "power-on is undone by then");
  t.equal(blind("boot", job("configure")), "nothing");
  t.equal(blind("boot", job("power-on")), "nothing");
  t.equal(blind("boot", job("power-on"), true, OVERDUE), "answer timeout");
  t.equal(blind("boot", job("power-on", { begunBy: "this run" }), true, OVERDUE), "answer timeout", "it had not come to its start");
  t.equal(blind("boot", job("power-on", { begunBy: "this run" }), false, OVERDUE), "nothing", "its guest may run, and write");
  t.equal(blind("boot", job("power-on", { undo: true })), "answer ok", "nothing of it was ever started");
  t.equal(blind("boot", job("power-on", { undo: true }), false), "nothing", "something may run");
  for (const name of ["power-off", "shutdown", "wait-for-power-off", "pause", "reset"] as const)
    t.equal(blind("running", job(name)), "nothing");
  t.equal(blind("prolog", job("configure"), true, memory({ notBeforeMs: NOW + 1 })), "nothing");
});

t.test("a definition does not hide what runs, in whatever order they are listed", async (t) => {
  for (const domains of [
    [domain("running"), domain("defined", 2)],
    [domain("defined", 2), domain("running")],
  ]) {
    const plans = reconcile({
      clusterId: "c",
      nodeId: ME,
      run: "this run",
      fresh: true,
      nowMs: NOW,
      vms: new Map([["v", claimed("running")]]),
      jobs: new Map(),
      domains,
      registered: new Map([["v", kept()]]),
      memory: new Map(),
    });
    t.strictSame(plans, []);
  }
});

/** In flight: from me (generation 1) to another (2), or the other way round. */
function migrating(side: "source" | "target", phase: "incoming" | "aborting" = "incoming"): Vm {
  const claim = { nodeId: side === "source" ? ME : "other", generation: 1, deadline: true, sinceMs: 0 };
  const incoming = { ...claim, nodeId: side === "source" ? "other" : ME, generation: 2 };
  return { ...claimed("migrating"), claim, migration: { phase, claim: incoming, why: null } };
}
/** Handed over to me, or given up and gone at the other side. */
const landed = claimed("migrating");

t.test("the source of a migration pushes what runs, and takes back only what was given up", async (t) => {
  const vm = migrating("source");
  const push = `emigrate: push, report handed-over, ${UNDO}`;
  t.equal(plan({ vm, domain: domain("running"), kept: kept() }), push);
  t.equal(plan({ vm, domain: domain("running"), kept: kept(), fresh: false }), "nothing");
  t.equal(plan({ vm, domain: domain("running") }), "adopt: register", "what runs is registered first");
  t.equal(plan({ vm, domain: domain("paused"), kept: kept() }), "settle: report not-migrated", "nobody here knows how far it came");
  const back = "settle: confirm, resume, report running";
  t.equal(plan({ vm: migrating("source", "aborting"), domain: domain("paused"), kept: kept() }), back);
  t.equal(plan({ vm: migrating("source", "aborting"), domain: domain("running"), kept: kept() }), "settle: report running");
  t.equal(plan({ vm: landed, domain: domain("paused"), kept: kept() }), back);
  t.equal(plan({ vm, kept: kept() }), `end: ${UNDO}, report gone:crashed`);
  t.equal(plan({ vm, job: job("power-off"), domain: domain("running"), kept: kept() }), `job: ${UNDO}, answer ok`);
  const reset = { ...landed, claim: { ...landed.claim!, nodeId: "other", generation: 2 } };
  t.equal(plan({ vm: reset, job: job("reset") }), "job: answer lost", "it moved before");
  t.equal(plan({ vm: reset, job: job("reset", { begunBy: "this run" }) }), "job: answer unknown");
  const gone = { ...landed, claim: { ...landed.claim!, nodeId: "other", generation: 2 } };
  t.equal(plan({ vm: gone, domain: domain("paused"), kept: kept() }), `leftover: ${UNDO}`, "handed over");
});

t.test("the target of a migration destroys nothing before the cluster has given it up", async (t) => {
  const vm = migrating("target");
  t.equal(plan({ vm }), "nothing", "the source has not come yet");
  t.equal(plan({ vm, domain: domain("paused", 2), kept: kept("live", 2) }), "settle: report not-migrated", "its source is gone");
  t.equal(plan({ vm, kept: kept("live", 2) }), "settle: report not-migrated");
  t.equal(plan({ vm, domain: domain("paused", 2) }), "adopt: register");
  t.equal(plan({ vm, domain: domain("paused", 2), kept: kept("live", 2), fresh: false }), "nothing");
  t.equal(plan({ vm, kept: kept("gone", 2) }), `end: ${UNDO}, report incoming-gone`);
  const aborting = migrating("target", "aborting");
  for (const world of [{}, { domain: domain("paused", 2), kept: kept("live", 2) }, { kept: kept("live", 2) }])
    t.equal(plan({ vm: aborting, ...world }).replace(/^adopt.*/, ""), `end: ${UNDO}, report incoming-gone`);
  t.equal(plan({ vm: { ...aborting, claim: null, state: "recovering" } }), `end: ${UNDO}, report incoming-gone`, "the source is dead");
  t.equal(
    plan({ vm: { ...aborting, claim: null, state: "epilog", homeNodeId: ME } }),
    `end: ${UNDO}, report incoming-gone`,
    "before its disks",
  );
  t.equal(plan({ vm, domain: domain("paused", 1), kept: kept("live", 1) }), `leftover: ${UNDO}`, "of an older generation");
});

t.test("what is under way ends when it is not wanted any more", async (t) => {
  const wanted = (vm: Vm | null, goal: "emigrate" | "immigrate" | "job"): boolean =>
    isStillWanted(vm, ME, { goal, generation: goal === "immigrate" ? 2 : 1 });
  t.ok(wanted(migrating("source"), "emigrate"));
  t.notOk(wanted(migrating("source", "aborting"), "emigrate"));
  t.notOk(wanted({ ...migrating("source"), desired: { ...landed.desired, power: "off", how: "force" } }, "emigrate"));
  t.ok(wanted({ ...landed, claim: { ...landed.claim!, nodeId: "other" } }, "emigrate"), "handed over: what is here is to be ended");
  t.notOk(wanted({ ...landed, claim: null, state: "recovering" }, "emigrate"));
  t.notOk(wanted(null, "emigrate"));
  t.ok(wanted(migrating("target"), "immigrate"));
  t.notOk(wanted(migrating("target", "aborting"), "immigrate"));
  t.notOk(wanted(landed, "immigrate"), "handed over: it is to run");
  t.ok(wanted(null, "job"));
});
