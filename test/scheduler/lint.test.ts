/** The lint of policies (SCH-5): what it finds, that the set it names is the smallest, and that enabling moves nothing. */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import type { Policy, PolicyTarget } from "../../src/model/policy.ts";
import type { View } from "../../src/model/view.ts";
import { lint, violationsOf } from "../../src/scheduler/lint.ts";
import type { Finding } from "../../src/scheduler/lint.ts";
import { plan } from "../../src/scheduler/plan.ts";
import { testNode, testView, testVm } from "../support/world.ts";

function policy(id: string, members: string[], target: PolicyTarget, strength: Policy["strength"] = "must"): Policy {
  return { id, name: id, enabled: true, members, strength, weight: 1, target, revision: 1 };
}

const on = (...nodeIds: string[]): PolicyTarget => ({ kind: "nodes", nodeIds });
const APART: PolicyTarget = { kind: "vms", rule: "different-nodes" };
const SAME: PolicyTarget = { kind: "vms", rule: "same-node" };

/** n1 and n2 in east, n3 in west; 4096 MiB each; a, b, c of 1024 MiB on n1, n2, n3. */
function world(policies: Policy[] = [], roles: [string, "primary" | "secondary"][] = []): View {
  const nodes = ["n1", "n2", "n3"].map((id, i) => ({ ...testNode(id, {}), zone: i < 2 ? "east" : "west" }));
  const vms = ["a", "b", "c"].map((id, i) => testVm(id, { memoryMib: 1_024 }, { claim: `n${i + 1}` }));
  return { ...testView(nodes, vms), policies: new Map(policies.map((one) => [one.id, one])), zoneRoles: new Map(roles) };
}

function told(findings: readonly Finding[]): string[] {
  return findings.map(
    ({ code, policies, lost }) => `${code} ${policies.map((one) => one.id).join("+")}${lost.length === 0 ? "" : ` (${lost.join(", ")})`}`,
  );
}

t.test("what is found, with the smallest set and what has to be lost", async (t) => {
  const find = (policies: Policy[], roles: [string, "primary" | "secondary"][] = []): string[] =>
    told(lint(world(policies, roles), policies).findings);

  t.same(find([policy("x", ["a"], on("n1", "n3"))]), [], "two nodes in two zones: any one may go");
  // East has n1 and n2: the zone's loss takes both, and HA has nowhere to go.
  t.same(find([policy("x", ["a"], on("n1", "n2"))]), ["one-zone x", "after-loss x (zone east)"]);
  t.same(find([policy("x", ["a"], on("n1"))]), ["one-zone x", "after-loss x (zone east, n1)"]);
  // Three members apart on three nodes: after any loss one is too many. West's loss is n3's, told once for each.
  t.same(find([policy("y", ["a", "b", "c"], APART)]), ["after-loss y (zone east, zone west, n1, n2, n3)"]);
  t.same(find([policy("y", ["a", "b"], APART)]), ["after-loss y (zone east)"], "two apart: only a zone's loss leaves one node");
  t.same(find([policy("z", [], APART)]), ["no-members z"]);
  t.same(find([policy("w", ["a"], { kind: "nodes", nodeIds: [], labels: { disk: "ssd" } })]), ["no-node w"]);
  t.same(
    find(
      [policy("p", ["a"], on("n3"), "prefer")],
      [
        ["east", "primary"],
        ["west", "secondary"],
      ],
    ),
    ["prefer-secondary p"],
  );
  t.same(find([policy("p", ["a"], on("n3"), "prefer")]), [], "without roles there is no secondary zone");
  t.same(find([policy("x", ["a"], on("n1", "n3")), policy("y", ["a"], on("n1", "n3"), "must-not")]), ["impossible y+x"]);
});

t.test("a finding names those that cause it, not those that happen to be on", async (t) => {
  // a and b are bound to n1 and n3, and apart: each alone survives the loss of one of them, both together do not.
  const policies = [
    policy("bound", ["a", "b"], on("n1", "n3")),
    policy("apart", ["a", "b"], APART),
    policy("other", ["c"], on("n2", "n3")),
  ];
  t.same(told(lint(world(policies), policies).findings), ["after-loss apart (zone east)", "after-loss bound+apart (zone west, n1, n3)"]);
  t.same(told(lint(world(policies), [policies[2]!]).findings), [], "linting the other tells nothing of theirs");
});

t.test("what another policy brings about alone is not told of the one that is linted", async (t) => {
  const [pin, wide] = [policy("pin", ["a"], on("n1")), policy("wide", ["a"], on("n1", "n2", "n3"))];
  t.same(told(lint(world([pin, wide]), [wide]).findings), []);
  t.same(told(lint(world([pin, wide]), [pin]).findings), ["one-zone pin", "after-loss pin (zone east, n1)"]);
});

t.test("room counts: a policy that holds on paper and has no memory left", async (t) => {
  // n2 and n3 hold 3584 MiB each; a needs 1024 and may be on n1 and n2.
  const base = world();
  const view: View = {
    ...base,
    vms: new Map([
      ["a", testVm("a", { memoryMib: 1_024 }, { claim: "n1" })],
      ["x", testVm("x", { memoryMib: 3_584 }, { claim: "n2" })],
    ]),
    claimsByNode: new Map([
      ["n1", new Set(["a"])],
      ["n2", new Set(["x"])],
    ]),
  };
  t.same(told(lint(view, [policy("p", ["a"], on("n1", "n2"))]).findings), ["one-zone p", "after-loss p (zone east, n1)"]);
});

t.test("the budget is kept, and said", async (t) => {
  const policies = [policy("y", ["a", "b", "c"], APART)];
  t.equal(lint(world(policies), policies).complete, true);
  t.equal(lint(world(policies), policies, { plans: 3 }).complete, false);
});

t.test("running VMs that a policy does not agree with", async (t) => {
  const ids = (one: Policy): string[] => violationsOf(world(), one).map(({ vm, node }) => `${vm.id}@${node.id}`);
  t.same(ids(policy("x", ["a", "b"], on("n1"))), ["b@n2"]);
  t.same(ids(policy("x", ["a", "b"], on("n1"), "must-not")), ["a@n1"]);
  t.same(ids(policy("x", ["a", "b"], SAME)), ["a@n1", "b@n2"]);
  t.same(ids(policy("x", ["a", "b", "c"], APART)), []);
  t.same(ids(policy("x", ["a", "c"], { kind: "zones", zones: ["east"] })), ["c@n3"]);
});

t.test("random policies: without any one of a finding's set it does not happen", async (t) => {
  const seed = Number(process.env["ROOST_SEED"] ?? 4_711);
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  const some = (list: readonly string[]): string[] => list.filter(() => random.below(2) === 0);
  let checked = 0;
  for (let round = 0; round < 120; round++) {
    const nodeIds = ["n1", "n2", "n3", "n4"];
    const nodes = nodeIds.map((id) => ({ ...testNode(id, {}), zone: random.below(2) === 0 ? "east" : "west" }));
    const vmIds = ["a", "b", "c", "d", "e"];
    const vms = vmIds.map((id, i) => testVm(id, { memoryMib: 512 * (1 + random.below(4)) }, { number: i + 1 }));
    const policies = Array.from({ length: 1 + random.below(5) }, (_, k): Policy => {
      const kind = random.below(3);
      if (kind === 0) return policy(`p${k}`, some(vmIds), random.below(2) === 0 ? SAME : APART);
      if (kind === 1) return policy(`p${k}`, some(vmIds), on(nodeIds[random.below(4)]!), "must-not");
      return policy(`p${k}`, some(vmIds), on(nodeIds[random.below(4)]!, ...some(nodeIds)));
    });
    const view = { ...testView(nodes, vms), policies: new Map(policies.map((one) => [one.id, one])) };
    const { findings } = lint(view, policies, { plans: 2_000 });
    // What is left out of the planning because it is impossible anyway would change what is planned.
    if (findings.some(({ code }) => code === "impossible" || code === "no-node")) continue;
    for (const finding of findings) {
      if (finding.code !== "after-loss" && finding.code !== "no-room") continue;
      checked++;
      const first = finding.lost[0];
      const gone = new Set(nodes.filter((node) => node.name === first || `zone ${node.zone}` === first).map((node) => node.id));
      const rest: View = { ...view, nodes: new Map(nodes.filter((node) => !gone.has(node.id)).map((node) => [node.id, node])) };
      const members = vmIds.filter((id) => policies.some((one) => one.members.includes(id)));
      const waits = (set: readonly Policy[]): boolean =>
        plan(
          { ...rest, policies: new Map(set.map((one) => [one.id, one])) },
          { vms: members, mode: "batch", kind: "recover", scoring: null, manual: true, searchSteps: 2_000 },
          "policy lint",
        ).rejections.some(({ vmId }) => vmId === finding.vmIds[0]);
      if (!waits(finding.policies)) t.fail(`round ${round}: the set does not cause it: ${told([finding])[0]}`);
      for (const one of finding.policies)
        if (waits(finding.policies.filter((other) => other !== one)))
          t.fail(`round ${round}: ${one.id} can be left out of ${told([finding])[0]}`);
    }
  }
  t.ok(checked >= 10, `${checked} findings of plans checked`);
});
