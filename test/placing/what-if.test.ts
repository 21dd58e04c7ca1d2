import t from "tap";
import { asRoostError } from "../../src/base/errors.ts";
import { runWhatIf } from "../../src/offline/planfile-run.ts";
import { parseWhatIf } from "../../src/placing/what-if-script.ts";
import { whatIf } from "../../src/placing/what-if.ts";
import { clusterFrom } from "../../src/offline/planfile.ts";
import { parseClusterText } from "../../src/offline/planfile-text.ts";
import { stateFrom } from "../../src/offline/planfile-view.ts";

const CLUSTER = `
node n1 cpus=8 memory=4096 zone=a
node n2 cpus=8 memory=4096 zone=a
node n3 cpus=8 memory=4096 zone=b
vm db cpus=2 memory=2048 node=n1
vm web cpus=1 memory=512 node=n1
vm lone cpus=1 memory=512 node=n1 ha=false
vm big cpus=1 memory=3072 node=n2
policy apart vms=db,big rule=must place=different-nodes
`;

const faults = (run: () => unknown): string[] => {
  try {
    run();
    return [];
  } catch (thrown) {
    const { fault, hint } = asRoostError(thrown);
    return fault.kind === "invalid"
      ? [...fault.violations.map(({ field, message }) => `${field}: ${message}`), ...(hint === undefined ? [] : [hint])]
      : [fault.kind];
  }
};

t.test("what the statements do, one after the other", async (t) => {
  const { json } = runWhatIf(CLUSTER, "fail n1; add 2 web; drain n2");
  t.same(
    json.steps.map(({ text, moves }) => [text, moves.map(({ vmName, from, to }) => `${vmName} ${from ?? "-"}>${to ?? "-"}`)]),
    [
      // HA recovers db on n3 (apart from big, and 2048 + 3072 > 4096 on n2 anyway) and web; lone has no deadline: nobody may take it over.
      ["fail n1", ["db n1>n3", "web n1>n3", "lone n1>-"]],
      // n2 scores ((1 + 1)/8 + (3072 + 512)/4096)/2 = 0.5625, n3 ((3 + 1)/8 + (2560 + 512)/4096)/2 = 0.625; then n2 0.6875.
      ["add 2 web", ["web-1 ->n2", "web-2 ->n3"]],
      // big is too large for n3: 2048 + 2 × 512 are taken there.
      ["drain n2", ["web-1 n2>n3"]],
    ],
  );
  t.match(json.steps[2]?.notes, [/^big stays: .*n3: needs 3072 MiB/, "n2: 1 of 2 VMs cannot leave"]);
  t.match(json.stranded, [{ vmName: "lone", state: "unknown", underHa: false, from: "n1" }]);
  t.same(json.ha, { failed: 2, recovered: 2 });
  t.match(
    json.nodes.map(({ before, after }) => [after.nodeName, after.state, before.memoryMib, after.memoryMib]),
    [
      ["n1", "fenced", 3_072, 512],
      ["n2", "disabled", 3_072, 3_072],
      ["n3", "ready", 0, 3_584],
    ],
  );
});

t.test("HA that would not hold is said with its reasons", async (t) => {
  const { json } = runWhatIf(CLUSTER, "fail zone a");
  t.same(json.ha, { failed: 3, recovered: 2 });
  t.match(json.stranded, [
    { vmName: "lone" },
    { vmName: "big", state: "recovering", underHa: true, from: "n2", reasons: [{ code: "node-not-ready" }, { code: "memory" }] },
  ]);
});

t.test("each statement", async (t) => {
  const moves = (script: string): string[] =>
    runWhatIf(CLUSTER, script).json.steps.flatMap((step) => [
      ...step.moves.map(({ vmName, from, to }) => `${vmName} ${from ?? "-"}>${to ?? "-"}`),
      ...step.notes,
    ]);
  t.same(moves("remove db"), []);
  t.equal(runWhatIf(CLUSTER, "remove db").json.nodes[0]?.after.memoryMib, 1_024);
  t.same(moves("stop web; start web"), ["web n1>-", "web ->n3"], "(0 + 1)/8 and 512/4096 are the least on n3");
  t.same(moves("resize web memory=2GiB"), ["web n1>n3"], "n1 has 4096 − 3072 + 512 = 1536 for it");
  t.same(moves("resize web cpus=2"), []);
  t.same(moves("disable n3; add 1 db"), []);
  t.match(runWhatIf(CLUSTER, "disable n3; add 1 db").json.stranded, [
    { vmName: "db-1", from: null, reasons: [{ code: "node-not-ready" }, { code: "memory" }] },
  ]);
  t.same(moves("disable n3; add 1 db; enable n3"), ["db-1 ->n3"]);
  t.same(moves("set scheduler.memoryRatio 2; disable n3; add 1 db"), ["db-1 ->n2"], "by balance");
  // big cannot join db on n1 while both must be apart.
  t.match(moves("set scheduler.memoryRatio 4; disable n3; drain n2"), [/^big stays/, /1 of 1/]);
  t.same(moves("set scheduler.memoryRatio 4; disable policy apart; disable n3; drain n2"), ["big n2>n1"]);
});

t.test("the state asked is left alone", async (t) => {
  const { state } = stateFrom(clusterFrom(parseClusterText(CLUSTER)), null);
  const before = JSON.stringify([...state.rows()]);
  whatIf(state, parseWhatIf("fail n1; drain n2; set scheduler.cpuRatio 1; remove web"), []);
  t.equal(JSON.stringify([...state.rows()]), before);
  t.equal(state.index, 1);
});

t.test("a definition of a file is a model, too", async (t) => {
  const { state } = stateFrom(clusterFrom(parseClusterText(CLUSTER)), null);
  const model = { ...state.vms.get("web")!.definition, name: "cache", memoryMib: 64 };
  const { steps } = whatIf(state, parseWhatIf("add 2 cache"), [model]);
  t.same(
    steps[0]?.moves.map(({ vmName }) => vmName),
    ["cache-1", "cache-2"],
  );
});

t.test("errors say where", async (t) => {
  t.same(
    faults(() => parseWhatIf("fail n1; ad 20 web; add x web\nresize v; set a")),
    [
      'column 10: "ad" is no statement (did you mean "add"?); expected one of fail, drain, disable, enable, add, remove, stop, start, resize, set',
      'column 21: "add x web": expected add COUNT VM: so many more like this VM, or like a definition of the file, COUNT from 1 to 10000',
      'column 31: "resize v": expected resize VM cpus=N memory=SIZE',
      'column 41: "set a": expected set KEY VALUE',
      "a question is such as 'fail n1; add 20 web; drain n2'",
    ],
  );
  t.same(
    faults(() => runWhatIf(CLUSTER, "drain n2; fail n9")),
    ['column 11: "fail n9": there is no node n9', "did you mean n1?"],
  );
  t.match(
    faults(() => runWhatIf(CLUSTER, " set scheduler.cpuRato 1")),
    [/^column 2: scheduler.cpuRato: expected one of/],
  );
  t.match(
    faults(() => runWhatIf(CLUSTER, "fail zone x")),
    [/^column 1: "fail zone x": there is no zone x/],
  );
});
