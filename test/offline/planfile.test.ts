import t from "tap";
import { asRoostError } from "../../src/base/errors.ts";
import { readCluster } from "../../src/offline/planfile-read.ts";
import { runSchedulerPlan, runSchedulerReplay } from "../../src/offline/planfile-run.ts";
import { parseClusterText, parseRequestText } from "../../src/offline/planfile-text.ts";
import { stateFrom } from "../../src/offline/planfile-view.ts";
import { clusterFrom, requestFrom } from "../../src/offline/planfile.ts";

const TEXT = `
# two nodes
setting memoryRatio=1.5 cpuRatio=2 reserveMib=128
zone a role=primary
node n1 cpus=8 memory=4096 zone=a label.rack=r1 label.disk="fast ssd"   # the first
node n2 cpus=8 memoryMib=4096 reserve=0 bridges=br0,br1 state=draining
vm v1 cpus=2 memory=1024 node=n1
vm v2 cpus=2 memory=1024 node=n1 state=stopped requirements="label.rack = 'r1' & cpus > 2"
policy apart vms=v1,v2 rule=must place=different-nodes enabled=false weight=3
`;
const JSON_FORM = {
  settings: { memoryRatio: 1.5, cpuRatio: 2, reserveMib: 128 },
  zones: [{ name: "a", role: "primary" }],
  nodes: [
    { name: "n1", cpus: 8, memoryMib: 4096, zone: "a", labels: { rack: "r1", disk: "fast ssd" } },
    { name: "n2", cpus: 8, memoryMib: 4096, reserveMib: 0, bridges: ["br0", "br1"], state: "draining" },
  ],
  vms: [
    { name: "v1", cpus: 2, memoryMib: 1024, node: "n1" },
    { name: "v2", cpus: 2, memoryMib: 1024, node: "n1", state: "stopped", requirements: "label.rack = 'r1' & cpus > 2" },
  ],
  policies: [{ name: "apart", vms: ["v1", "v2"], rule: "must", place: "different-nodes", enabled: false, weight: 3 }],
};

t.test("text and JSON are the same thing", async (t) => {
  t.same(clusterFrom(parseClusterText(TEXT)), clusterFrom(parseClusterText(JSON.stringify(JSON_FORM))));
  t.same(
    requestFrom(parseRequestText("mode batch\nscoring consolidate\nseed 7\nvm v1\nvm new cpus=1 memory=2\n")),
    requestFrom({ mode: "batch", scoring: "consolidate", seed: "7", vms: ["v1", { name: "new", cpus: 1, memoryMib: 2 }] }),
  );
});

t.test("the smallest of both", async (t) => {
  const answer = runSchedulerPlan(
    '{"nodes":[{"name":"n1","cpus":4,"memoryMib":2048}],"vms":[]}',
    '{"vms":[{"name":"a","cpus":1,"memoryMib":2048},{"name":"b","cpus":1,"memoryMib":1}]}',
  );
  t.same(answer.json, {
    placements: [{ vm: "a", node: "n1" }],
    rejections: [{ vm: "b", reasons: [{ code: "memory", nodes: 1, detail: "n1: needs 1 MiB, 0 MiB free of 2048" }] }],
    // Placing b alone is one VM too; both do not fit 2048.
    proven: true,
    method: "balanced",
  });
  t.same(answer.table.rows, [
    ["a", "n1", ""],
    ["b", "-", "memory on 1: n1: needs 1 MiB, 0 MiB free of 2048"],
  ]);
});

t.test("null is as good as absent", async (t) => {
  const node = { name: "n1", cpus: 4, memoryMib: 2048 };
  t.same(clusterFrom({ nodes: [{ ...node, zone: null, labels: null }] }), clusterFrom({ nodes: [node] }));
  t.throws(() => clusterFrom({ nodes: [{ ...node, cpus: null }] }), { message: "nodes[0].cpus: is missing" });
});

t.test("as editors and programs write them: byte order mark, CRLF, null lists, names of any script", async (t) => {
  const json = '{"nodes":[{"name":"knötchen","cpus":4,"memoryMib":2048}],\r\n"vms":null,"policies":null,"zones":null,"settings":null}\r\n';
  const text = "node knötchen cpus=4 memory=2048\r\n";
  const request = '\uFEFF{"vms":[{"name":"a","cpus":1,"memoryMib":1}],"mode":null}';
  for (const cluster of [json, `\uFEFF${json}`, text, `\uFEFF${text}`])
    t.same(runSchedulerPlan(cluster, request).json.placements, [{ vm: "a", node: "knötchen" }], JSON.stringify(cluster.slice(0, 5)));
});

t.test("a request is asked of its cluster", async (t) => {
  const cluster = "node n1 cpus=4 memory=2048\nvm a cpus=1 memory=1\n";
  const said = (request: string): string => {
    try {
      runSchedulerPlan(cluster, request);
      return "";
    } catch (problem) {
      return asRoostError(problem).message;
    }
  };
  t.match(said("vm a\nvm a\n"), /vms\[1\]: a is there twice/);
  t.match(said("vm b cpus=1 memory=1\nvm b cpus=1 memory=1\n"), /vms\[1\].name: b is there twice/);
  t.match(said("vm a cpus=1 memory=1\n"), /a is a VM already/);
  t.match(said("vm c\n"), /no VM of the cluster is named c/);
  t.match(said("vm b cpus=1 memory=1 requestedNode=n9\n"), /vms\[0\].requestedNode: no node is named n9/);
  t.match(said("vm b cpus=1 memory=1 node=n9\n"), /vms\[0\].node: no node is named n9/);
  t.match(said('{"vms":[],"modus":1}'), /^1:11 modus: is not known/, "once");
  t.match(said('[{"vms":[]}]'), /must be an object/);
  t.match(said('{"vms":[{"name":"b","cpus":1,"memoryMib":1e300}]}'), /memoryMib: must be a whole number from 1 to 1099511627776/);
});

t.test("all faults at once, each with its place", async (t) => {
  const faults = (run: () => unknown): string[] => {
    try {
      run();
      return [];
    } catch (problem) {
      const { fault } = asRoostError(problem);
      return fault.kind === "invalid" ? fault.violations.map(({ field, message }) => `${field}: ${message}`) : [fault.kind];
    }
  };
  t.same(
    faults(() =>
      clusterFrom({
        nodes: [
          { name: "n 1", cpus: 0, memoryMib: "4096" },
          { name: "n2", cpus: 1, memoryMib: 1, ram: 3 },
          { name: "n2", cpus: 1, memoryMib: 1.5 },
        ],
        vms: [
          { name: "v", cpus: 1, memoryMib: 1, node: "n9" },
          { name: "w", cpus: 1, memoryMib: 1, state: "stopped", requirements: "cpu > 1" },
        ],
        policies: [
          { name: "p", vms: ["v"], rule: "must", nodes: ["n2"], zones: ["a"] },
          { name: "q", vms: ["v"], rule: "must-not", place: "same-node" },
        ],
        settings: { cpuRatio: -1 },
        extra: 1,
      }),
    ).map((line) => line.replace(/(expected one of|there are) .*/, "$1 …")),
    [
      "extra: is not known; expected one of …",
      "nodes[0].name: must be a name without blanks, commas, = and #",
      "nodes[0].cpus: must be a whole number from 1",
      "nodes[0].memoryMib: must be a whole number from 1",
      "nodes[1].ram: is not known; expected one of …",
      "nodes[2].memoryMib: must be a whole number from 1",
      'vms[1].requirements: "cpu > 1" at 1: nothing is named cpu (did you mean "cpus"?); there are …',
      "settings.cpuRatio: must be a number from 0",
      "nodes[2].name: n2 is there twice",
      "vms[0].node: no node is named n9",
      "vms[1].state: means something only with a node",
      "policies[0]: names exactly one of nodes (or nodeLabels), zones and place",
      "policies[1].rule: must-not and prefer-not go with nodes; zones and place take must or prefer",
    ],
  );
  t.same(
    faults(() => parseClusterText("nodes n1\nnode cpus=1\nvm v cpus\n")),
    [
      "line 1: begins with nodes; expected one of node, vm, policy, zone, setting",
      "line 2: needs a name first",
      "line 3: cpus is not KEY=VALUE",
    ],
  );
  t.match(
    faults(() => parseClusterText("{ nope")),
    [/^cluster: is not JSON/],
  );
  t.same(
    faults(() => requestFrom({ vms: "all", mode: "some" })),
    ["vms: must be a list of names or VMs", "mode: must be one of one-by-one, batch"],
  );
  t.match(
    faults(() => clusterFrom([])),
    ["must be an object"].map((text) => new RegExp(text)),
  );
});

t.test("what is wrong is told with line and column, in both forms", async (t) => {
  const places = (text: string): string[] => {
    try {
      readCluster(text);
      return [];
    } catch (problem) {
      const { fault } = asRoostError(problem);
      return fault.kind === "invalid" ? fault.violations.map(({ field }) => field) : [fault.kind];
    }
  };
  const json = `{
  "nodes": [
    { "name": "n1", "cpus": 4, "memoryMib": 2048, "labels": { "a": "},]" } },
    { "name": "n2", "cpus": 4,
      "ram": 3, "memoryMib": 1 }
  ],
  "vms": [{ "name": "v", "cpus": 1, "memoryMib": 0, "node": "n9" }],
  "settings": { "cpuRatio": -1 }
}`;
  // In the order of the checks: unknown names and wrong values by list, then names that do not exist.
  t.same(places(json), ["5:7 nodes[1].ram", "7:37 vms[0].memoryMib", "8:17 settings.cpuRatio", "7:53 vms[0].node"]);
  const text =
    "# one\nnode n1 cpus=4 memory=2048\n\nnode n2 cpus=4 ram=3 memory=1\nvm v cpus=1 memory=0 node=n9\nsetting memoryRatio=1\nsetting cpuRatio=-1\n";
  t.same(places(text), ["4:16 nodes[1].ram", "5:13 vms[0].memoryMib", "7:9 settings.cpuRatio", "5:22 vms[0].node"]);
});

t.test("of a thousand faults the first hundred, and how many more", async (t) => {
  const text = Array.from({ length: 1_000 }, (_, i) => `vm v${i} cpus=1\n`).join("");
  try {
    readCluster(text);
    t.fail("no memory anywhere");
  } catch (thrown) {
    const { fault } = asRoostError(thrown);
    const violations = fault.kind === "invalid" ? fault.violations : [];
    t.equal(violations.length, 101);
    t.match(violations[99], { field: "100:1 vms[99].memoryMib", message: "is missing" });
    t.same(violations[100], { field: "", message: "and 900 more" });
  }
});

t.test("every field there is, and what is not said has its default", async (t) => {
  const cluster = `setting memoryRatio=1 scoring=rank rank=freeMemoryMib
zone a role=primary
zone b role=secondary
node n1 cpus=8 memory=16384 zone=a numa=2 threadsPerCore=2 cpuModel=EPYC cpuModels=EPYC,qemu64 cpuFeatures=aes,avx2 value.GPU=1 label.disk=ssd partition=p
node n2 cpus=8 memory=8192 zone=b partition=p guardian=false
vm a cpus=2 memory=1024 node=n1 pinning=one pinned=0,1 ha=false partition=p label.tier=db
vm b cpus=2 memory=1024 state=recovering node=n2 priority=3 partition=p cpuModel=qemu64 cpuFeatures=aes vdc=red
policy hot vmLabel.tier=db rule=prefer nodeLabel.disk=ssd weight=5
policy near vms=a,b rule=must zones=primary
`;
  const state = stateFrom(readCluster(cluster), null).state;
  t.match(state.nodes.get("n1")?.info, {
    cpuTopology: { sockets: 2, threadsPerCore: 2, numa: [{ cpus: [0, 1, 2, 3], memoryMib: 8_192 }, { cpus: [4, 5, 6, 7] }] },
    cpuModels: ["EPYC", "qemu64"],
    values: { GPU: "1" },
  });
  t.equal(state.nodes.get("n2")?.info?.guardian, null);
  t.match(state.vms.get("a"), { underHa: false, claim: { cpus: [0, 1], deadline: false }, definition: { cpuPinning: { numa: "one" } } });
  t.match(state.vms.get("b"), {
    state: "recovering",
    claim: null,
    definition: { cpu: { model: "qemu64", features: ["aes"] }, vdc: "red" },
  });
  t.match(state.policies.get("hot"), {
    memberLabels: { tier: "db" },
    target: { kind: "nodes", nodeIds: [], labels: { disk: "ssd" } },
    weight: 5,
  });
  t.same(
    [...state.zoneRoles],
    [
      ["a", "primary"],
      ["b", "secondary"],
    ],
  );
  t.equal(state.cluster?.settings["scheduler.scoring"], "rank");
  // b may be in the primary zone only, which is n1's.
  t.same(runSchedulerPlan(cluster, "kind recover\nvm b\n").json.placements, [{ vm: "b", node: "n1" }]);
});

t.test("replayed against an answer of before", async (t) => {
  const cluster = "node n1 cpus=4 memory=2048\nnode n2 cpus=4 memory=2048\n";
  const request = "vm x cpus=1 memory=1024\nvm y cpus=1 memory=1024\n";
  const answer = JSON.stringify(runSchedulerPlan(cluster, request).json);
  t.match(runSchedulerReplay(cluster, request, answer).json, { same: true, differences: [] });
  t.match(runSchedulerReplay(cluster, request, null).json, { same: true });
  const { same, differences } = runSchedulerReplay(cluster, `scoring consolidate\n${request}`, answer).json;
  t.equal(same, false);
  t.equal(differences.length, 1, "packed: both on one node");
  t.throws(() => runSchedulerReplay(cluster, request, "[]"), { message: /not what/ });
});
