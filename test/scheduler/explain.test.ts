import t from "tap";
import { runSchedulerExplain, readPlanFiles, runSchedulerPlan } from "../../src/offline/planfile-run.ts";
import { explain } from "../../src/scheduler/explain.ts";
import { plan } from "../../src/scheduler/plan.ts";
import { MIXED_CLUSTER as CLUSTER } from "../support/mixed-cluster.ts";

t.test("every node's verdict at the moment of the decision", async (t) => {
  const request = "vm x cpus=1 memory=512\nvm y cpus=2 memory=512 bridges=br1\n";
  const cluster = CLUSTER.replace("node n1 cpus=4 memory=4096", "node n1 cpus=4 memory=4096 bridges=br0,br1");
  const { json } = runSchedulerExplain(cluster, request, "y", null);
  t.equal(json.position, 1);
  // x: n1 (1+1+1)/4 = 0.75, (3584+512)/4096 = 1 → 0.875; n2 (1+1)/4 = 0.5, 4096/4096 = 1 → 0.75: n2. So n1 keeps its 512 for y.
  t.equal(json.node, "n1");
  t.same(
    json.verdicts.map(({ nodeName, chosen, score, refusals }) => [nodeName, chosen, score, refusals.map(({ code }) => code)]),
    [
      ["n1", true, 1, []], // (1+1+2)/4 = 1 and (3584+512)/4096 = 1
      ["n2", false, null, ["bridge", "memory"]],
      ["n3", false, null, ["node-not-ready"]],
      ["n4", false, null, ["architecture"]],
    ],
  );
});

t.test("explanations agree with the plan's certificate", async (t) => {
  const files = readPlanFiles(
    CLUSTER,
    "mode batch\nvm x cpus=1 memory=512\nvm y cpus=1 memory=512\nvm z cpus=1 memory=4096\nvm w cpus=9 memory=1\n",
  );
  const found = plan(files.view, files.request, files.seed);
  for (const decision of found.certificate.decisions) {
    const told = explain(files.view, files.request, files.seed, decision.vmId);
    t.equal(told.nodeId, decision.nodeId, decision.vmId);
    const passed = told.verdicts.filter(({ score }) => score !== null).map(({ nodeId, score }) => ({ nodeId, score }));
    t.same(passed.slice(0, 5), decision.top);
    const counts: Record<string, number> = {};
    for (const { refusals } of told.verdicts) if (refusals[0] !== undefined) counts[refusals[0].code] = (counts[refusals[0].code] ?? 0) + 1;
    t.same(counts, decision.refused);
  }
});

t.test("names that are not there", async (t) => {
  t.throws(() => runSchedulerExplain(CLUSTER, "vm x cpus=1 memory=1\n", "q", null), { message: /no VM named q/ });
  t.throws(() => runSchedulerExplain(CLUSTER, "vm x cpus=1 memory=1\n", "x", "n9"), { message: /no node is named n9/ });
  t.throws(() => runSchedulerPlan(CLUSTER, "vm q\n"), { message: /no VM of the cluster is named q/ });
});
