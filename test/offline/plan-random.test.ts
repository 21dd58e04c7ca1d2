/** Random clusters, policies and requests through plan files, in both forms, against a checker that shares no code with the scheduler. */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { runSchedulerPlan } from "../../src/offline/planfile-run.ts";
import { PlanChecker } from "../support/plan-check.ts";
import type { CheckCluster, CheckNode, CheckPolicy, CheckVm, Meanings } from "../support/plan-check.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 8_101);
const rounds = Number(process.env["ROOST_ROUNDS"] ?? 25);
t.comment(`seed ${seed}, ${rounds} rounds`);

const MEANINGS: Meanings = new Map([
  ["label.disk = 'ssd'", (node: CheckNode) => node.labels?.["disk"] === "ssd"],
  ["cpus >= 4 & !(zone = 'z0')", (node: CheckNode) => node.cpus >= 4 && node.zone !== "z0"],
  ["memoryMib / cpus > 300 | name = 'n1'", (node: CheckNode) => node.memoryMib / node.cpus > 300 || node.name === "n1"],
]);

t.test("every answer keeps every rule", async (t) => {
  const random = seededRandom(seed);
  let placed = 0;
  let rejected = 0;
  for (let round = 0; round < rounds; round++) {
    const { cluster, asked } = situation(random, 12, 30);
    for (const mode of ["one-by-one", "batch"] as const) {
      for (const scoring of ["balance", "even", "consolidate"] as const) {
        const { json } = runSchedulerPlan(JSON.stringify(cluster), JSON.stringify({ vms: asked, mode, scoring, seed: `${round}` }));
        const faults = new PlanChecker(cluster, asked, MEANINGS).faults(json, mode === "one-by-one");
        if (!t.same(faults, [], `round ${round} ${mode} ${scoring}`)) return t.comment(JSON.stringify({ cluster, asked, json }));
        placed += json.placements.length;
        rejected += json.rejections.length;
      }
    }
  }
  t.ok(placed > 3 * rounds && rejected > 3 * rounds, `both happened: ${placed} placed, ${rejected} rejected`);
});

t.test("what is called proven is", async (t) => {
  const random = seededRandom(seed + 1);
  let proven = 0;
  let partly = 0;
  for (let round = 0; round < rounds; round++) {
    const { cluster, asked } = situation(random, 3, 6);
    const most = new PlanChecker(cluster, asked, MEANINGS).most();
    for (const mode of ["one-by-one", "batch"] as const) {
      for (const scoring of ["balance", "consolidate"] as const) {
        const { json } = runSchedulerPlan(JSON.stringify(cluster), JSON.stringify({ vms: asked, mode, scoring, seed: `${round}` }));
        const where = `round ${round} ${mode} ${scoring}: ${json.placements.length} of ${asked.length}, at most ${most}`;
        if (!t.ok(json.placements.length <= most, where)) return t.comment(JSON.stringify({ cluster, asked, json }));
        if (json.proven && !t.equal(json.placements.length, most, where)) return t.comment(JSON.stringify({ cluster, asked, json }));
        if (json.proven) proven++;
        if (json.proven && most < asked.length) partly++;
      }
    }
  }
  t.ok(proven > rounds && partly > rounds / 3, `there were proofs: ${proven}, ${partly} of them where not all fit`);
});

t.test("where far too much is asked for, a batch takes the many", async (t) => {
  const random = seededRandom(seed + 2);
  const nodes = Array.from({ length: 20 }, (_, i): CheckNode => ({ name: `n${i}`, cpus: 27, memoryMib: 110_000 }));
  const sizes = (): Pick<CheckVm, "cpus" | "memoryMib"> => ({
    cpus: 2 ** random.below(4),
    memoryMib: 1_024 * [1, 2, 8, 16][random.below(4)]!,
  });
  const asked = Array.from({ length: 1_000 }, (_, i): CheckVm => ({ name: `v${i}`, ...sizes() }));
  const cluster = { nodes, vms: [], policies: [], zones: [], settings: { memoryRatio: 1, cpuRatio: 2, reserveMib: 0 } };
  // By the larger part of a node, smallest first, into the cluster's room as if it were one node: about what can be had.
  const part = (vm: CheckVm): number => Math.max(vm.cpus / 54, vm.memoryMib / 110_000);
  let [cpus, memory, most] = [20 * 54, 20 * 110_000, 0];
  for (const vm of asked.toSorted((a, b) => part(a) - part(b))) {
    if ((cpus -= vm.cpus) < 0 || (memory -= vm.memoryMib) < 0) break;
    most++;
  }
  for (const scoring of ["balance", "even", "consolidate"]) {
    const { json } = runSchedulerPlan(JSON.stringify(cluster), JSON.stringify({ vms: asked, mode: "batch", scoring }));
    t.ok(json.placements.length >= 0.97 * most, `${scoring}: ${json.placements.length} of about ${most}`);
  }
});

function situation(random: Random, maxNodes: number, maxVms: number): { cluster: CheckCluster; asked: CheckVm[] } {
  const one = <T>(...of: T[]): T => of[random.below(of.length)]!;
  const often = (times: number): boolean => random.below(times) > 0;
  const nodes = Array.from({ length: 1 + random.below(maxNodes) }, (_, i): CheckNode => ({
    name: `n${i}`,
    cpus: 1 + random.below(8),
    memoryMib: 500 + 250 * random.below(6),
    zone: one("z0", "z1"),
    ...(often(4) ? {} : { reserveMib: 100 * random.below(4) }),
    ...(often(8) ? {} : { state: one("disabled", "draining", "maintenance", "unreachable", "fenced") }),
    ...(often(8) ? {} : { arch: "aarch64" }),
    ...(often(6) ? {} : { partition: "gold" }),
    ...(often(2) ? {} : { labels: { disk: one("ssd", "hdd") } }),
    ...(often(4) ? {} : { bridges: ["br0"] }),
    ...(often(4) ? {} : { pools: ["p0"] }),
  }));
  const vm = (name: string): CheckVm => ({
    name,
    cpus: 1 + random.below(3),
    memoryMib: 50 * (1 + random.below(12)),
    ...(often(3) ? {} : { labels: { app: one("web", "db") } }),
    ...(often(8) ? {} : { partition: "gold" }),
    ...(often(12) ? {} : { arch: "aarch64" }),
    ...(often(6) ? {} : { bridges: [one("br0", "br1")] }),
    ...(often(6) ? {} : { pools: [one("p0", "p1")] }),
    ...(often(6) ? {} : { requirements: one(...MEANINGS.keys()) }),
  });
  // What runs already may stand against a rule: policies move nothing, and ratios can be lowered.
  const vms = Array.from({ length: random.below(maxVms) }, (_, i): CheckVm => ({ ...vm(`old${i}`), node: one(...nodes).name }));
  const asked = Array.from({ length: 1 + random.below(maxVms) }, (_, i): CheckVm => ({
    ...vm(`new${i}`),
    ...(often(15) ? {} : { requestedNode: one(...nodes).name }),
  }));
  const names = [...vms, ...asked].map(({ name }) => name);
  const policies = Array.from({ length: random.below(5) }, (_, i): CheckPolicy => {
    const base = {
      name: `p${i}`,
      vms: names.filter(() => random.below(5) === 0),
      ...(often(3) ? {} : { vmLabels: { app: one("web", "db") } }),
      enabled: often(6),
      weight: random.below(3),
    };
    const about = random.below(3);
    if (about === 0) return { ...base, rule: one("must", "prefer"), zones: [one("z0", "z1", "primary", "nowhere")] };
    if (about === 1) return { ...base, rule: one("must", "prefer"), place: one("same-node", "different-nodes") };
    return {
      ...base,
      rule: one("must", "must-not", "prefer", "prefer-not"),
      nodes: nodes.filter(() => random.below(2) === 0).map(({ name }) => name),
      ...(often(2) ? {} : { nodeLabels: { disk: "ssd" } }),
    };
  });
  const zones = often(3)
    ? []
    : [
        { name: "z0", role: "primary" as const },
        { name: "z1", role: "secondary" as const },
      ];
  const settings = { memoryRatio: one(1, 1, 1.5), cpuRatio: one(0, 1, 2), reserveMib: one(0, 100) };
  return { cluster: { nodes, vms, policies, zones, settings }, asked };
}
