// How much of clusters that can be filled to the last unit a batch fills; fixed seeds, so a fall is a change of the scheduler.
import t from "tap";
import type { Policy } from "../../src/model/policy.ts";
import { plan } from "../../src/scheduler/plan.ts";
import type { PlanRequest } from "../../src/scheduler/types.ts";
import { fragmented, plantedFlavours, plantedMemory, plantedPerfect, verify, viewOf } from "../bench/scheduler/instances.ts";
import type { Instance } from "../bench/scheduler/instances.ts";

const rows: [instance: Instance, options: Pick<PlanRequest, "mode" | "scoring">, placed: number, memory: number][] = [
  [plantedPerfect(1, 100, 10), { mode: "batch", scoring: "balance" }, 0.99, 0.99],
  [plantedMemory(1, 100, 10), { mode: "batch", scoring: "balance" }, 0.99, 0.99],
  [plantedFlavours(1, 50), { mode: "batch", scoring: "balance" }, 0.99, 0.99],
  [fragmented(1, 100, 1_000), { mode: "batch", scoring: "balance" }, 0.99, 0.99],
  [plantedPerfect(2, 100, 10, 0.02), { mode: "batch", scoring: "balance" }, 1, 1],
  [plantedPerfect(1, 100, 10), { mode: "one-by-one", scoring: "consolidate" }, 0.96, 0.95],
];

for (const [instance, options, placed, memory] of rows) {
  t.test(`${instance.name}, ${options.mode}, ${options.scoring}`, async (t) => {
    const view = viewOf(instance);
    const found = plan(view, { vms: [...view.vms.keys()], kind: "start", ...options }, "q");
    const worth = verify(instance, found.placements);
    t.ok(worth.placed >= placed, `${worth.placed} of the VMs, at least ${placed}`);
    t.ok(worth.memory >= memory, `${worth.memory} of the memory, at least ${memory}`);
    t.equal(found.placements.length + found.rejections.length, instance.vms.length);
    t.ok(found.proven === (worth.placed === 1) || !found.proven, "nothing is called proven that is not: all would fit");
  });
}

t.test("exchanges leave policies between VMs alone", async (t) => {
  const instance = plantedPerfect(3, 20, 10);
  const bare = viewOf(instance);
  const ids = [...bare.vms.keys()];
  // Five groups of ten that must be apart.
  const groups = Array.from({ length: 5 }, (_, g) => ids.slice(g * 10, g * 10 + 10));
  const policies = new Map<string, Policy>(
    groups.map((members, g) => [
      `apart${g}`,
      {
        id: `apart${g}`,
        name: `apart${g}`,
        enabled: true,
        members,
        strength: "must",
        weight: 1,
        target: { kind: "vms", rule: "different-nodes" },
        revision: 1,
      },
    ]),
  );
  const view = { ...bare, policies };
  const request = { vms: ids, kind: "start", mode: "batch", scoring: "balance" } as const;
  const found = plan(view, request, "p");
  t.equal(found.method, "compact", "there was something to exchange");
  verify(instance, found.placements);
  const nodeOf = new Map(found.placements.map(({ vmId, nodeId }) => [vmId, nodeId]));
  for (const members of groups) {
    const nodes = members.map((id) => nodeOf.get(id)).filter((node) => node !== undefined);
    t.equal(new Set(nodes).size, nodes.length, "apart");
  }
});
