import t from "tap";
import { isStillWanted, planCancel, reconcile } from "../../src/agent/reconcile.ts";
import type { Action, ReconcileInput, VmMemory } from "../../src/agent/reconcile.ts";
import type { RegisteredVm } from "../../src/agent/keeper/protocol.ts";
import type { DomainState, DomainStatus } from "../../src/hypervisor/driver.ts";
import type { Vm, VmState } from "../../src/model/vm.ts";
import { testVm } from "../support/world.ts";

const ME = "me";
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
const claimed = (state: VmState, wish: Partial<Vm["desired"]> = {}): Vm => {
  const vm = testVm("v", {}, { claim: ME, state });
  return { ...vm, desired: { ...vm.desired, ...wish } };
};
const memory = (wish: Partial<VmMemory>): VmMemory => ({ generation: 1, gone: null, shutdownAsked: null, notBeforeMs: 0, ...wish });

interface World {
  vm?: Vm | null;
  domain?: DomainStatus;
  kept?: RegisteredVm;
  memory?: VmMemory;
  fresh?: boolean;
  nowMs?: number;
}
function text(action: Action): string {
  if (action.op !== "report") return action.op;
  return action.observed.kind === "gone" ? `report gone:${action.observed.cause}` : `report ${action.observed.kind}`;
}
/** `goal: actions` of the one plan, or "nothing". */
function plan(world: World): string {
  const input: ReconcileInput = {
    clusterId: "c",
    nodeId: ME,
    fresh: world.fresh ?? true,
    nowMs: world.nowMs ?? 1e5,
    shutdownTimeoutMs: 60_000,
    vms: new Map(world.vm === undefined || world.vm === null ? [] : [["v", world.vm]]),
    domains: world.domain === undefined ? [] : [world.domain],
    registered: new Map(world.kept === undefined ? [] : [["v", world.kept]]),
    memory: new Map(world.memory === undefined ? [] : [["v", world.memory]]),
  };
  const plans = reconcile(input);
  t.ok(plans.length <= 1);
  return plans.map(({ goal, actions }) => `${goal}: ${actions.map(text).join(", ")}`)[0] ?? "nothing";
}
const UNDO = "destroy, undefine, unregister";
const START = "start: prepare-disks, register, report starting, define, start-paused, confirm, resume, report running";

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
});

t.test("before the claims were read for certain only what matches is registered", async (t) => {
  t.equal(plan({ fresh: false, domain: domain("running") }), "nothing");
  t.equal(plan({ fresh: false, vm: claimed("prolog") }), "nothing");
  t.equal(plan({ fresh: false, vm: claimed("running") }), "nothing");
  t.equal(plan({ fresh: false, vm: claimed("running"), domain: domain("running") }), "adopt: register");
  t.equal(plan({ fresh: false, vm: claimed("boot"), domain: domain("running"), kept: kept() }), "nothing");
});

t.test("a claim without a domain, state by state", async (t) => {
  const expected: Record<VmState, string> = {
    prolog: START,
    boot: `end: ${UNDO}, report gone:failed`,
    shutdown: `end: ${UNDO}, report gone:shutdown`,
    ...Object.fromEntries(
      (
        [
          "pending",
          "running",
          "paused",
          "suspended",
          "epilog",
          "stopped",
          "migrating",
          "recovering",
          "failed",
          "unknown",
          "deleted",
        ] as const
      ).map((state) => [state, `end: ${UNDO}, report gone:crashed`]),
    ),
  } as Record<VmState, string>;
  for (const state of Object.keys(expected) as VmState[]) {
    t.equal(plan({ vm: claimed(state) }), expected[state], state);
    if (state !== "prolog") t.equal(plan({ vm: claimed(state), domain: domain("defined") }), expected[state], `${state}, defined`);
  }
  t.equal(plan({ vm: claimed("prolog", { power: "off" }) }), `end: ${UNDO}, report gone:never-started`);
  t.equal(plan({ vm: claimed("prolog", { deleted: true }) }), `end: ${UNDO}, report gone:never-started`);
  t.equal(plan({ vm: claimed("running"), kept: kept("gone") }), `end: ${UNDO}, report gone:fenced`);
  t.equal(
    plan({ vm: claimed("running"), memory: memory({ gone: { kind: "gone", cause: "shutdown", detail: "" } }) }),
    `end: ${UNDO}, report gone:shutdown`,
  );
  t.equal(
    plan({ vm: claimed("prolog"), memory: memory({ generation: 0, gone: { kind: "gone", cause: "shutdown", detail: "" } }) }),
    START,
    "an older generation's end",
  );
});

t.test("a claim with its domain, wanted on", async (t) => {
  t.equal(plan({ vm: claimed("running"), domain: domain("running") }), "adopt: register", "agent or keeper are new");
  const states: VmState[] = ["prolog", "boot", "running", "paused", "shutdown", "unknown"];
  const running = states.map((state) => plan({ vm: claimed(state), domain: domain("running"), kept: kept() }));
  t.strictSame(running, [
    "settle: report running",
    "settle: report running",
    "nothing",
    "settle: report running",
    "nothing",
    "settle: report running",
  ]);
  const resume = "start: confirm, resume, report running";
  const paused = states.map((state) => plan({ vm: claimed(state), domain: domain("paused"), kept: kept() }));
  t.strictSame(paused, [resume, resume, "settle: report paused", "nothing", "settle: report paused", resume]);
  t.equal(plan({ vm: claimed("running"), domain: domain("running"), kept: kept("dying") }), "end: destroy");
  t.equal(plan({ vm: claimed("running"), domain: domain("shutting-down"), kept: kept() }), "nothing");
});

t.test("a claim with its domain, wanted off", async (t) => {
  const off = (state: VmState, wish: Partial<Vm["desired"]>, at: DomainState, past?: VmMemory): string =>
    plan({
      vm: claimed(state, { power: "off", ...wish }),
      domain: domain(at),
      kept: kept(),
      ...(past === undefined ? {} : { memory: past }),
    });
  t.equal(off("shutdown", {}, "running"), "shutdown: shutdown");
  t.equal(off("unknown", {}, "running"), "shutdown: report stopping, shutdown");
  t.equal(off("shutdown", {}, "running", memory({ shutdownAsked: { firstMs: 85_001, lastMs: 85_001 } })), "nothing", "14.999 s ago");
  t.equal(
    off("shutdown", {}, "running", memory({ shutdownAsked: { firstMs: 85_000, lastMs: 85_000 } })),
    "shutdown: shutdown",
    "15 s ago: asked again",
  );
  t.equal(off("shutdown", {}, "shutting-down"), "nothing");
  const since = (firstMs: number): VmMemory => memory({ shutdownAsked: { firstMs, lastMs: 99_000 } });
  t.equal(off("shutdown", {}, "running", since(40_001)), "nothing", "59.999 s of 60");
  t.equal(off("shutdown", {}, "running", since(40_000)), "settle: report shutdown-ignored", "60 s: given up");
  t.equal(off("shutdown", {}, "shutting-down", since(40_000)), "settle: report shutdown-ignored");
  t.equal(off("shutdown", {}, "paused"), `end: ${UNDO}, report gone:destroyed`, "a paused guest cannot shut down");
  t.equal(off("shutdown", { how: "force" }, "shutting-down"), `end: ${UNDO}, report gone:destroyed`);
  t.equal(off("shutdown", { how: "graceful", deleted: true }, "running"), `end: ${UNDO}, report gone:destroyed`);
  t.equal(planCancel(claimed("prolog"), ME), null);
  t.equal(planCancel(claimed("prolog", { power: "off" }), "other"), null);
  t.match(planCancel(claimed("boot", { power: "off" }), ME), { goal: "end" });
});

t.test("disks are cleaned by the home node when nobody holds the VM", async (t) => {
  const vm = { ...testVm("v", {}, { home: ME, state: "epilog" }), claim: null };
  t.equal(plan({ vm }), "clean: clean-disks, report cleaned");
  t.equal(plan({ vm: { ...vm, homeNodeId: "other" } }), "nothing");
  t.equal(plan({ vm: { ...vm, state: "stopped" } }), "nothing");
  t.equal(plan({ vm, domain: domain("running") }), `leftover: ${UNDO}`, "first its leftovers");
});

t.test("after a passing failure a VM is left alone for a moment", async (t) => {
  t.equal(plan({ vm: claimed("prolog"), memory: memory({ notBeforeMs: 100_001 }) }), "nothing");
  t.equal(plan({ vm: claimed("prolog"), memory: memory({ notBeforeMs: 100_000 }) }), START);
});

t.test("a definition does not hide what runs, in whatever order they are listed", async (t) => {
  for (const domains of [
    [domain("running"), domain("defined", 2)],
    [domain("defined", 2), domain("running")],
  ]) {
    const plans = reconcile({
      clusterId: "c",
      nodeId: ME,
      fresh: true,
      nowMs: 1e5,
      shutdownTimeoutMs: 60_000,
      vms: new Map([["v", claimed("running")]]),
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
  t.equal(
    plan({ vm: { ...vm, desired: { ...vm.desired, power: "off", how: "force" } }, domain: domain("running"), kept: kept() }),
    `end: ${UNDO}, report gone:destroyed`,
  );
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
  const wanted = (vm: Vm | null, goal: "emigrate" | "immigrate" | "start"): boolean =>
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
  t.ok(wanted(null, "start"));
});
