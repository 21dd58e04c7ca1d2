/** The smallest change that would make a VM fit (SCH-18): by example, and on random clusters by trying. ROOST_SEED, ROOST_ROUNDS. */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { limitsOf, nodeUsage } from "../../src/model/capacity.ts";
import { settingsOf } from "../../src/model/placement.ts";
import type { Vm } from "../../src/model/vm.ts";
import { readPlanFiles, runSchedulerExplain } from "../../src/offline/planfile-run.ts";
import { whyNot } from "../../src/placing/why-not.ts";
import type { Change } from "../../src/placing/why-not.ts";
import { plan } from "../../src/scheduler/plan.ts";
import type { State } from "../../src/state/state.ts";
import { scratchOf } from "../../src/state/history.ts";
import { MIXED_CLUSTER as CLUSTER } from "../support/mixed-cluster.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 1_812);
const rounds = Number(process.env["ROOST_ROUNDS"] ?? 60);
t.comment(`seed ${seed}, ${rounds} rounds`);

t.test("by example", async (t) => {
  const why = (vm: string, node: string, cluster = CLUSTER): [string, boolean, boolean, string[]][] =>
    runSchedulerExplain(cluster, `vm ${vm}\n`, "x", node).json.whyNot.map((one) => [
      one.node,
      one.fits,
      one.possible,
      one.changes.map(({ text }) => text),
    ]);
  // 1024 MiB: n1 has 512 free and b (512) could go to n2 (512 free); n2 has 512 free and c cannot go anywhere.
  t.same(why("x cpus=1 memory=1024", "all"), [
    ["n3", false, true, ["end the maintenance of n3"]],
    ["n1", false, true, ["move b (512 MiB, 1 vCPUs) from n1 to n2"]],
    ["n2", false, true, ["stop c (3584 MiB, 1 vCPUs) on n2"]],
    ["n4", false, false, []],
  ]);
  t.same(why("x cpus=1 memory=512", "n2"), [["n2", true, true, []]]);
  t.same(why("x cpus=1 memory=4096 bridges=br9 requestedNode=n1", "n2"), [
    ["n2", false, true, ["ask for n2 or for no node", "give n2 the bridge br9", "stop c (3584 MiB, 1 vCPUs) on n2"]],
  ]);
  t.same(why("x cpus=1 memory=64 requirements=\"label.disk = 'ssd' & cpus > 2\"", "n1"), [["n1", false, true, ["label n1 disk=ssd"]]]);
  t.same(why('x cpus=1 memory=64 requirements="cpus > 8"', "n1"), [
    ["n1", false, true, ["change the VM's requirements: cpus > 8 does not hold"]],
  ]);
  t.same(why("x", "n1", `${CLUSTER}vm x cpus=1 memory=64\npolicy apart vms=x,a rule=must place=different-nodes\n`), [
    ["n1", false, true, ["disable policy apart: must be on different nodes"]],
  ]);
});

t.test("two at once where one is not enough, and what else would do", async (t) => {
  const cluster =
    "node n1 cpus=8 memory=1000\nnode n2 cpus=8 memory=650\nvm a cpus=1 memory=300 node=n1\nvm b cpus=1 memory=300 node=n1\nvm c cpus=1 memory=300 node=n1\n";
  const [one] = runSchedulerExplain(cluster, "vm x cpus=1 memory=700\n", "x", "n1").json.whyNot;
  // 100 MiB are free. Shrinking by 600 is one change; else two of three VMs have to go to n2, which takes two.
  t.same(one?.changes, [{ kind: "shrink", text: "give the VM at most 100 MiB, 600 MiB less" }]);
  const [whole] = runSchedulerExplain(cluster, "vm x cpus=1 memory=1000\n", "x", "n1").json.whyNot;
  t.equal(whole?.changes.length, 1);
  const full = cluster.replace("memory=1000", "memory=900");
  const [two] = runSchedulerExplain(full, "vm x cpus=1 memory=600\n", "x", "n1").json.whyNot;
  t.same(
    two?.changes.map(({ text }) => text),
    ["move a (300 MiB, 1 vCPUs) from n1 to n2", "move b (300 MiB, 1 vCPUs) from n1 to n2"],
  );
  t.same(
    two?.alternatives.map((set) => set.map(({ kind }) => kind)),
    [
      ["move", "stop"],
      ["move", "shrink"],
      ["stop", "stop"],
    ],
  );
});

function randomCluster(random: Random): { state: State; vm: Vm } {
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)]!;
  const nodes = Array.from(
    { length: 2 + random.below(3) },
    (_, i) =>
      `node n${i} cpus=${2 + random.below(6)} memory=${1_024 * (1 + random.below(4))} bridges=${pick(["br0", "br1", "br0,br1"])} state=${pick(["ready", "ready", "ready", "disabled"])} label.disk=${pick(["ssd", "hdd"])}`,
  );
  const vms = Array.from(
    { length: random.below(10) },
    (_, i) => `vm v${i} cpus=${1 + random.below(2)} memory=${256 * (1 + random.below(5))} node=n${random.below(nodes.length)}`,
  );
  const asked = `vm x cpus=${1 + random.below(4)} memory=${256 * (1 + random.below(12))} bridges=${pick(["br0", "br1"])}${pick(["", " requirements=\"label.disk = 'ssd'\""])}${pick(["", "", ` requestedNode=n${random.below(nodes.length)}`])}`;
  const policy = random.below(3) === 0 ? "policy p vms=x,v0,v1 rule=must place=different-nodes" : "";
  const cluster = ["setting cpuRatio=1", ...nodes, ...vms, asked, vms.length > 1 ? policy : ""].join("\n");
  const { view } = readPlanFiles(cluster, "vm x\n");
  return { state: view, vm: view.vms.get("x")! };
}

/** The production planner's answer for this node, after the edits. */
function fitsAfter(state: State, edits: Change["edit"][], nodeId: string): boolean {
  const copy = scratchOf(state);
  for (const edit of edits) copy.write(edit(copy));
  const vm = copy.vms.get("x")!;
  copy.write({ table: "vms", key: "x", row: { ...vm, desired: { ...vm.desired, nodeId } } });
  return plan(copy, { vms: ["x"], mode: "one-by-one", kind: "start", scoring: null, manual: true }, "s").placements[0]?.nodeId === nodeId;
}

t.test("what is answered makes it fit, and no less of it does", async (t) => {
  const random = seededRandom(seed);
  let answers = 0;
  for (let round = 0; round < rounds; round++) {
    const { state, vm } = randomCluster(random);
    const before = JSON.stringify([...state.rows()]);
    for (const one of whyNot(state, "x", null)) {
      const where = `round ${round}, ${one.nodeName}`;
      // A node asked for by name counts as a refusal of the others; where it is the one meant, planning for it is no change.
      const requested = vm.desired.nodeId === null || vm.desired.nodeId === one.nodeId;
      if (one.fits) {
        if (!t.ok(fitsAfter(state, [], one.nodeId), `${where}: fits`)) return;
        continue;
      }
      if (requested && !t.notOk(fitsAfter(state, [], one.nodeId), `${where}: does not fit as it is`)) return;
      for (const set of [one.changes, ...one.alternatives]) {
        if (set.length === 0) continue;
        answers++;
        if (
          !t.ok(
            fitsAfter(
              state,
              set.map(({ edit }) => edit),
              one.nodeId,
            ),
            `${where}: ${set.map(({ text }) => text).join(" and ")}`,
          )
        )
          return;
        // Without any one of them it does not fit: none is idle. The request is asked for this node in any case here.
        for (const left of set) {
          if (left.kind === "request") continue;
          const rest = set.filter((other) => other !== left).map(({ edit }) => edit);
          if (!t.notOk(fitsAfter(state, rest, one.nodeId), `${where}: not without "${left.text}"`)) return;
        }
        for (const { kind, memoryMib } of set) {
          // One MiB or vCPU more does not fit.
          if (kind === "shrink") {
            const larger: Change["edit"] = (now) => {
              const row = now.vms.get("x")!;
              const { definition } = row;
              const more = memoryMib > 0 ? { memoryMib: definition.memoryMib + 1 } : { cpus: definition.cpus + 1 };
              return { table: "vms", key: "x", row: { ...row, definition: { ...definition, ...more } } };
            };
            const all = [...set.map((other) => other.edit), larger];
            if (!t.notOk(fitsAfter(state, all, one.nodeId), `${where}: nothing larger`)) return;
          }
          // No smaller VM of the node, moved or stopped alone, would do.
          if (set.length === 1 && kind === "stop") {
            const node = state.nodes.get(one.nodeId)!;
            const free = limitsOf(node, settingsOf(state)).memoryMib - nodeUsage(state.usage, node.id).memoryMib;
            for (const id of state.claimsByNode.get(node.id) ?? []) {
              const other = state.vms.get(id)!;
              if (other.definition.memoryMib >= memoryMib || free + other.definition.memoryMib < vm.definition.memoryMib) continue;
              const gone: Change["edit"] = () => ({ table: "vms", key: id, row: { ...other, claim: null, state: "stopped" } });
              if (!t.notOk(fitsAfter(state, [gone], one.nodeId), `${where}: not by stopping ${id}`)) return;
            }
          }
        }
      }
    }
    if (!t.equal(JSON.stringify([...state.rows()]), before, `round ${round}: nothing was touched`)) return;
  }
  t.ok(answers > rounds, `${answers} answers`);
});
