// What a planner keeps from plan to plan must not show: on a changing cluster every plan is the fresh one, byte for byte.
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { usageOf } from "../../src/model/capacity.ts";
import type { Cluster } from "../../src/model/cluster.ts";
import type { Node } from "../../src/model/node.ts";
import type { Vm } from "../../src/model/vm.ts";
import { Kept } from "../../src/scheduler/kept.ts";
import { plan } from "../../src/scheduler/plan.ts";
import type { PlanRequest } from "../../src/scheduler/types.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 1_234);
t.comment(`seed ${seed}`);

for (const count of [12, 240]) {
  t.test(`${count} nodes`, async (t) => {
    const random = seededRandom(seed + count);
    const nodes = new Map<string, Node>();
    const node = (id: string): Node => ({
      ...testNode(id, { memoryMib: 4096 * (1 + random.below(2)), cpus: 16 }),
      zone: `z${random.below(2)}`,
    });
    for (let i = 0; i < count; i++) nodes.set(`n${i}`, node(`n${i}`));
    const vms = new Map<string, Vm>();
    const settings = { "scheduler.cpuRatio": 2 };
    const clusters = new Map<number, Cluster | null>();
    const kept = new Kept();
    let next = 0;
    for (let round = 0; round < 40; round++) {
      // Nodes come, go, change their state, their zone and what they have; VMs come and go.
      const some = [...nodes.keys()][random.below(nodes.size)]!;
      const now = nodes.get(some)!;
      const change = random.below(8);
      if (change === 0) nodes.set(`m${round}`, node(`m${round}`));
      if (change === 1) nodes.delete(some);
      if (change === 2) nodes.set(some, { ...now, state: now.state === "ready" ? "draining" : "ready" });
      if (change === 3) nodes.set(some, { ...now, info: { ...now.info!, memoryMib: 6144 } });
      if (change === 4 && round % 3 === 0) settings["scheduler.cpuRatio"] = 1 + random.below(3);
      for (const vm of vms.values()) {
        if (random.below(10) === 0 || (vm.claim !== null && !nodes.has(vm.claim.nodeId))) vms.delete(vm.id);
      }
      const asked = Array.from({ length: 1 + random.below(30) }, () => {
        const id = `v${next++}`;
        const requirements = random.below(4) === 0 ? 'zone = "z1"' : null;
        vms.set(id, testVm(id, { memoryMib: 256 * (1 + random.below(4)), cpus: 1 + random.below(3), requirements }, { number: next }));
        return id;
      });
      const fresh = testView([...nodes.values()], [...vms.values()], [], settings);
      // The state keeps a row as it is until it is written anew.
      const cluster = clusters.get(settings["scheduler.cpuRatio"]) ?? fresh.cluster;
      clusters.set(settings["scheduler.cpuRatio"], cluster);
      const view = { ...fresh, cluster };
      const request: PlanRequest = {
        vms: asked,
        mode: random.below(2) === 0 ? "batch" : "one-by-one",
        kind: "start",
        scoring: random.below(4) === 0 ? "consolidate" : null,
        searchSteps: 2_000,
        inFlight: new Map(random.below(3) === 0 ? [[some, { memoryMib: 512, cpus: 1 }]] : []),
      };
      const usage = usageOf(view);
      const found = plan(view, request, `${round}`, usage, kept);
      if (!t.equal(JSON.stringify(found), JSON.stringify(plan(view, request, `${round}`)), `round ${round}`)) return;
      for (const { vmId, nodeId } of found.placements) {
        const vm = vms.get(vmId)!;
        vms.set(vmId, { ...vm, state: "running", claim: { nodeId, generation: 2, deadline: true, sinceMs: 0 } });
      }
    }
  });
}
