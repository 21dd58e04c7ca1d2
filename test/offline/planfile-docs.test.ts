/** The examples of docs/planfile.md are read and planned as they stand there. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { runSchedulerExplain, runSchedulerPlan, runSchedulerReplay, runWhatIf } from "../../src/offline/planfile-run.ts";
import { readCluster, readRequest } from "../../src/offline/planfile-read.ts";

const text = readFileSync(join(import.meta.dirname, "../../docs/planfile.md"), "utf8");
const blocks = [...text.matchAll(/```(\w*)\n([\s\S]*?)```/g)].map(([, form = "", content = ""]) => ({ form, content }));
const [clusterText = "", clusterJson = "", requestText = "", requestJson = "", answer = ""] = blocks.map(({ content }) => content);

t.test("both forms of the example mean what they seem to", async (t) => {
  const [fromText, fromJson] = [readCluster(clusterText), readCluster(clusterJson)];
  t.same(fromJson.nodes, fromText.nodes);
  t.same(fromJson.zones, fromText.zones);
  t.same(fromJson.settings, fromText.settings);
  t.same(readRequest(requestJson), readRequest(requestText));
});

t.test("they can be planned, explained, replayed, and asked what if", async (t) => {
  const { json } = runSchedulerPlan(clusterText, requestText);
  t.same(Object.keys(json).toSorted(), Object.keys(JSON.parse(answer) as object).toSorted(), "the answer has the fields of the example");
  t.same(json.placements, [{ vm: "web1", node: "n1" }]);
  t.equal(json.rejections[0]?.vm, "db", "it has a node already");
  const { verdicts, whyNot } = runSchedulerExplain(clusterText, requestText, "web1", "all").json;
  t.match(verdicts, [{ nodeName: "n1", chosen: true }]);
  t.match(whyNot, [{ node: "n1", fits: true }]);
  t.equal(runSchedulerReplay(clusterText, requestText, JSON.stringify(json)).json.same, true);
  t.match(runWhatIf(clusterText, "fail n1; add 2 db").json, {
    ha: { failed: 1, recovered: 0 },
    stranded: [{ vmName: "db" }, { vmName: "db-1" }, { vmName: "db-2" }],
  });
});

t.test("every field that the table names is known", async (t) => {
  for (const [, thing = "", fields = ""] of text.matchAll(/^\| (node|vm|policy|zone) \| (.*) \|$/gm)) {
    for (const [, field = ""] of fields.matchAll(/`([a-zA-Z]+)`/g)) {
      if (["memory", "reserve", "running", "stopped", "pending", "recovering", "primary", "secondary"].includes(field)) continue;
      const list = { node: "nodes", vm: "vms", policy: "policies", zone: "zones" }[thing] ?? "";
      let message = "";
      try {
        readCluster(JSON.stringify({ [list]: [{ [field]: {} }] }));
      } catch (thrown) {
        message = thrown instanceof Error ? thrown.message : "";
      }
      t.notMatch(message, new RegExp(`${field}: is not known`), `${thing} ${field}`);
    }
  }
});
