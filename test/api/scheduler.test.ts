/** The scheduler's questions over a store in memory: explained, why not, replayed, what if, exported. */
import t from "tap";
import { RoostError } from "../../src/base/errors.ts";
import { createClient } from "../../src/base/rpc-client.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { CallContext } from "../../src/api/context.ts";
import { schedulerService } from "../../src/api/services/scheduler.ts";
import { runSchedulerPlan } from "../../src/offline/planfile-run.ts";
import { runRecordingReplay } from "../../src/offline/recording.ts";
import { definition } from "../state/log.ts";
import { placingCluster } from "../support/placing.ts";

type Cluster = Awaited<ReturnType<typeof placingCluster>>;

function contextOf(cluster: Cluster): CallContext {
  return {
    store: cluster.store,
    nodeId: "n1",
    arch: "x86_64",
    nowMs: () => cluster.store.nowMs,
    newId: () => "id",
    newSecret: () => new Uint8Array(),
    log: silentLogger,
    hooks: {
      stopAgent: async () => {},
      lastEntry: () => Promise.resolve({ lastIndex: 0, lastTerm: 0 }),
      leftOut: () => null,
      fencing: { faults: () => Promise.resolve([]), power: () => Promise.resolve("on" as const) },
      runs: () => Promise.resolve({ runs: [], sinceMs: 0, lost: 0 }),
      nodeClient: () => createClient({ endpoints: ["/nowhere.sock"] }),
      freeze: () => [],
      inspect: () => Promise.reject(new Error("not here")),
      inspectOther: () => Promise.reject(new Error("not here")),
      immigrate: () => {},
    },
    identity: { kind: "user", name: "root" },
    deadlineMs: Infinity,
    signal: new AbortController().signal,
  };
}

/** a and b run, big waits: two nodes of 4096 MiB. */
async function small(): Promise<{ cluster: Cluster; context: CallContext }> {
  const cluster = await placingCluster(2);
  await cluster.create("a", { memoryMib: 3_072 });
  await cluster.create("b", { memoryMib: 2_048 });
  await cluster.run();
  await cluster.create("big", { memoryMib: 3_000 });
  await cluster.run();
  return { cluster, context: contextOf(cluster) };
}

const CONSISTENCY = "CONSISTENCY_LINEARIZABLE" as const;

t.test("a decision is regenerated at the view it was made on, whatever happened since", async (t) => {
  const { cluster, context } = await small();
  const explain = (vm: string, revision = 0, whyNot = "") =>
    schedulerService.ExplainVm({ vm, revision, whyNot, consistency: CONSISTENCY }, context);
  const first = await explain("b");
  // a was placed first, on the node that the tie's hash chose; b scores (1/4 + 2048/4096)/2 on the other.
  t.match(first, { same: true, problem: "", state: "prolog", decision: { score: 0.375, vms: 2, placedBalanced: 2, proven: true } });
  t.match(first.verdicts, [
    { chosen: true, score: 0.375, cpuScore: 0.25, memoryScore: 0.5, refusals: [] },
    { chosen: false, refusals: [{ code: "memory", numbers: { askedMib: 2_048, freeMib: 1_024 } }] },
  ]);
  await cluster.as("n1", { type: "node.enable", nodeId: "n2", enabled: false });
  await cluster.as("n1", { type: "setting.update", key: "scheduler.scoring", value: "consolidate" });
  await cluster.as("n1", { type: "vm.desire", vmId: "a", action: "delete", nodeId: null });
  t.same((await explain("b")).verdicts, first.verdicts);
  t.equal((await explain("b")).same, true);
  const waiting = await explain("big");
  t.match(waiting, { state: "pending", node: "", decision: { node: "" }, same: true });
  t.equal(waiting.verdicts?.length, 2);
  t.match(
    waiting.verdictsNow?.map((one) => one.refusals?.map(({ code }) => code)),
    [[], ["node-not-ready", "memory"]],
    "as things are now: a is gone at once, as nothing of it had begun, and n2 is disabled",
  );
  await t.rejects(explain("nobody"), RoostError);
  t.match(await explain("b", 3), { decision: null, verdicts: [], problem: /has not decided/ });
});

t.test("past retention, what is kept with the VM is shown, and why there is no more", async (t) => {
  const { cluster, context } = await small();
  await cluster.as("n1", { type: "setting.update", key: "scheduler.historyMib", value: 0 });
  await cluster.create("c", {}, true);
  const answer = await schedulerService.ExplainVm({ vm: "b", revision: 0, whyNot: "", consistency: CONSISTENCY }, context);
  t.match(answer, { verdicts: [], same: false, problem: /out of retention/, decision: { score: 0.375, refused: { memory: 1 } } });
});

t.test("why not", async (t) => {
  const { context } = await small();
  const answer = await schedulerService.ExplainVm({ vm: "big", revision: 0, whyNot: "all", consistency: CONSISTENCY }, context);
  t.equal(answer.whyNot?.length, 2);
  t.match(answer.whyNot?.[0], { fits: false, possible: true, exact: true });
  t.ok(answer.whyNot?.every((one) => one.changes?.length === 1));
});

t.test("the recorded stretch again: the same, or a diff under other settings", async (t) => {
  const { context } = await small();
  const replay = (settings: Record<string, string>) =>
    schedulerService.ReplayPlans({ fromRevision: 0, toRevision: 0, settings, consistency: CONSISTENCY }, context);
  t.match(await replay({}), {
    plans: [
      { same: true, placed: 2, placedAgain: 2, differences: [] },
      { same: true, placed: 0 },
    ],
  });
  const { plans } = await replay({ "scheduler.memoryRatio": "0.5" });
  t.equal(plans?.[0]?.placedAgain, 1, "2048 MiB a node: only b");
  t.match(
    plans?.[0]?.differences?.find(({ vm }) => vm === "a"),
    { after: "", reasons: [{ code: "memory", nodes: 2 }] },
  );
  await t.rejects(replay({ "scheduler.memoryRatio": "x" }), { message: /settings.scheduler.memoryRatio: expected a number/ });
});

t.test("what if", async (t) => {
  const { cluster, context } = await small();
  const before = JSON.stringify([...cluster.store.state.rows()]);
  const node = cluster.vm("b").claim?.nodeId ?? "";
  const answer = await schedulerService.WhatIf({ script: `fail ${node}; add 1 b`, definitions: [], consistency: CONSISTENCY }, context);
  t.match(answer, { haFailed: 1, haRecovered: 0, steps: [{ text: `fail ${node}` }, { text: "add 1 b" }] });
  t.match(
    answer.stranded?.map(({ vm }) => vm),
    ["b", "big", "b-1"],
  );
  t.equal(JSON.stringify([...cluster.store.state.rows()]), before);
});

t.test("a plan of rebalancing, each step with its proof", async (t) => {
  const cluster = await placingCluster(2);
  const context = contextOf(cluster);
  const plan = (limits: { maxMib?: number; maxSteps?: number; minGain?: number }) =>
    schedulerService.PlanRebalance({ ...limits, consistency: CONSISTENCY }, context);
  for (const [id, memoryMib, cpus] of [
    ["a", 1_024, 1],
    ["b", 2_048, 1],
  ] as const) {
    const one = { id, definition: definition(id, { memoryMib, cpus }), hold: false, nodeId: "n1", power: "on" as const };
    await cluster.as("n1", { type: "vm.create", vms: [one] });
  }
  await cluster.run();
  t.match(await plan({}), { scoreBefore: 0.625, steps: [] }, "VMs that are starting stay where they are");
  await cluster.work();
  // Nodes of 4096 MiB and 4 CPUs, n1 with 3072 MiB and 2 vCPUs: (3/4 - 0)/2 + (2/4 - 0)/2 = 0.625. b moves: (2/4 - 1/4)/2 + 0 = 0.125; a: the same
  // spread the other way round, and it has the lower number.
  t.match(await plan({}), {
    viewRevision: cluster.store.state.index,
    scoreBefore: 0.625,
    scoreAfter: 0.125,
    movedMib: 1_024,
    stopped: "min-gain",
    steps: [
      {
        vm: "a",
        from: "n1",
        to: "n2",
        memoryMib: 1_024,
        vcpus: 1,
        usedMib: 0,
        limitMib: 4_096,
        usedVcpus: 0,
        limitVcpus: undefined,
        cpus: [],
      },
    ],
  });
  t.match(await plan({ maxMib: 1_000 }), { steps: [], stopped: "max-mib", scoreAfter: 0.625 });
  t.match(await plan({ maxSteps: 0 }), { steps: [], stopped: "max-steps" });
  t.match(await plan({ minGain: 0.6 }), { steps: [], stopped: "min-gain" });
  await cluster.as("n1", { type: "setting.update", key: "scheduler.cpuRatio", value: 2 });
  t.match((await plan({})).steps?.[0], { limitVcpus: 8 });
  await cluster.as("n1", { type: "setting.update", key: "scheduler.cpuRatio", value: 0 });
  await t.rejects(plan({ maxMib: -1, minGain: Number.NaN }), {
    message: "max_mib: expected a number from 0, not -1; min_gain: expected a number from 0, not NaN",
  });
  t.same(
    [...cluster.store.state.vms.values()].map(({ claim }) => claim?.nodeId),
    ["n1", "n1"],
    "nothing has moved",
  );
});

t.test("the export is a plan file, and with its history it replays", async (t) => {
  const { cluster, context } = await small();
  const { text = "" } = await schedulerService.ExportPlanFile({ history: true, consistency: CONSISTENCY }, context);
  t.notMatch(text, /caKey": *"[^"]/, "no secret");
  const { json } = runRecordingReplay(text, { from: 0, to: Infinity, settings: {} });
  t.same(
    json.plans.map(({ same, placed, placedAgain }) => [same, placed, placedAgain]),
    [
      [true, 2, 2],
      [true, 0, 0],
    ],
  );
  const plain = await schedulerService.ExportPlanFile({ history: false, consistency: CONSISTENCY }, context);
  const planned = runSchedulerPlan(plain.text ?? "", "vm big\nvm new cpus=1 memory=1024\n").json;
  t.match(planned.rejections, [{ vm: "big", reasons: [{ code: "memory", nodes: 2 }] }]);
  t.equal(planned.placements[0]?.node, cluster.vm("b").claim?.nodeId, "(2/4 + 3072/4096)/2 against (2/4 + 4096/4096)/2");
  t.throws(() => runRecordingReplay(plain.text ?? "", { from: 0, to: 1, settings: {} }), { message: /no recording/ });
});
