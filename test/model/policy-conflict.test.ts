/** Conflicts of must policies: what is called impossible is, and what is named cannot be made smaller. */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { conflictWith, contradiction, minimal } from "../../src/model/policy-conflict.ts";
import { agrees, isBetweenVms, membersOf } from "../../src/model/policy.ts";
import type { Policy, PolicyTarget } from "../../src/model/policy.ts";
import type { View } from "../../src/model/view.ts";
import { testNode, testView, testVm } from "../support/world.ts";

function policy(id: string, members: string[], target: PolicyTarget, strength: Policy["strength"] = "must"): Policy {
  return { id, name: id, enabled: true, members, strength, weight: 1, target, revision: 1 };
}

const NODES = ["n1", "n2", "n3"];
const VMS = ["a", "b", "c", "d"];
const view: View = testView(
  NODES.map((id, i) => ({ ...testNode(id, {}), zone: i < 2 ? "east" : "west" })),
  VMS.map((id) => testVm(id, {})),
);

const on = (...nodeIds: string[]): PolicyTarget => ({ kind: "nodes", nodeIds });
const SAME: PolicyTarget = { kind: "vms", rule: "same-node" };
const APART: PolicyTarget = { kind: "vms", rule: "different-nodes" };

const CASES: { name: string; policies: Policy[]; least: string[] | null }[] = [
  {
    name: "must and must not be on one node",
    policies: [policy("x", ["a"], on("n1")), policy("y", ["a"], on("n1"), "must-not")],
    least: ["x", "y"],
  },
  { name: "two nodes at once", policies: [policy("x", ["a"], on("n1")), policy("y", ["a"], on("n2", "n3"))], least: ["x", "y"] },
  {
    name: "a node outside the zone",
    policies: [policy("x", ["a"], { kind: "zones", zones: ["west"] }), policy("y", ["a"], on("n1"))],
    least: ["x", "y"],
  },
  { name: "together and apart", policies: [policy("x", ["a", "b"], SAME), policy("y", ["b", "a"], APART)], least: ["x", "y"] },
  {
    name: "together through a third VM, and apart",
    policies: [policy("x", ["a", "b"], SAME), policy("z", ["b", "c"], SAME), policy("y", ["a", "c"], APART)],
    least: ["x", "z", "y"],
  },
  {
    name: "together, but each bound to another node; the fourth has nothing to do with it",
    policies: [policy("w", ["d"], on("n3")), policy("x", ["a", "b"], SAME), policy("y", ["a"], on("n1")), policy("z", ["b"], on("n2"))],
    least: ["x", "y", "z"],
  },
  // 3 VMs on 2 nodes: one is left over.
  {
    name: "apart with too few nodes",
    policies: [policy("x", ["a", "b", "c"], on("n1", "n2")), policy("y", ["a", "b", "c"], APART)],
    least: ["x", "y"],
  },
  { name: "four apart on three nodes: one policy alone", policies: [policy("y", VMS, APART)], least: ["y"] },
  { name: "three apart on three nodes", policies: [policy("y", ["a", "b", "c"], APART)], least: null },
  { name: "preferences never conflict", policies: [policy("x", ["a"], on("n1")), policy("y", ["a"], on("n1"), "prefer-not")], least: null },
];

t.test("conflicts and the smallest set of them", async (t) => {
  for (const { name, policies, least } of CASES) {
    const found = conflictWith(view, policies.at(-1)!, policies.slice(0, -1));
    t.same(found?.policies.map((one) => one.id) ?? null, least, name);
  }
});

/** Does any assignment of nodes to VMs satisfy all? By trying every one. */
function satisfiable(policies: readonly Policy[]): boolean {
  const vms = [...view.vms.keys()];
  for (let code = 0; code < NODES.length ** vms.length; code++) {
    const at = new Map(vms.map((id, i) => [id, NODES[Math.floor(code / NODES.length ** i) % NODES.length]!]));
    const good = policies.every((one) =>
      membersOf(view, one).every((id) => {
        const others = new Set(isBetweenVms(one) ? one.members.filter((other) => other !== id).map((other) => at.get(other)!) : []);
        const node = view.nodes.get(at.get(id)!)!;
        // For same-node the others must all be there, not only one of them.
        if (one.target.kind === "vms" && one.target.rule === "same-node") return [...others].every((other) => other === node.id);
        return agrees(view, one, node, others);
      }),
    );
    if (good) return true;
  }
  return false;
}

t.test("random policies: sound against trying everything, and minimal", async (t) => {
  const seed = Number(process.env["ROOST_SEED"] ?? 4_711);
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  const some = (list: readonly string[]): string[] => list.filter(() => random.below(2) === 0);
  let conflicts = 0;
  for (let round = 0; round < 300; round++) {
    const policies = Array.from({ length: 2 + random.below(5) }, (_, k): Policy => {
      const members = some(VMS);
      const kind = random.below(4);
      if (kind === 0) return policy(`p${k}`, members, SAME);
      if (kind === 1) return policy(`p${k}`, members, APART);
      if (kind === 2) return policy(`p${k}`, members, on(...some(NODES)), "must-not");
      return policy(`p${k}`, members, on(NODES[random.below(3)]!, ...some(NODES)));
    });
    if (contradiction(view, policies) === null) continue;
    conflicts++;
    if (satisfiable(policies)) t.fail(`called impossible, but is not: ${JSON.stringify(policies)}`);
    const least = minimal(policies, (set) => contradiction(view, set) !== null);
    if (contradiction(view, least) === null) t.fail("the smallest set does not conflict");
    for (const one of least) {
      if (
        contradiction(
          view,
          least.filter((other) => other !== one),
        ) !== null
      )
        t.fail(`${one.id} can be left out: ${JSON.stringify(least)}`);
    }
  }
  t.ok(conflicts > 50, `${conflicts} of 300 conflicted`);
});
