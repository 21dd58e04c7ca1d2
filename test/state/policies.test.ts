/** Policies, zones' roles, edits of nodes, settings of a vdc, cold migration: rows that name rows. */
import t from "tap";
import type { Policy } from "../../src/model/policy.ts";
import { CommandLog } from "./log.ts";

type Draft = Omit<Policy, "revision">;

function policy(id: string, changes: Partial<Draft> = {}): Draft {
  return {
    id,
    name: id,
    enabled: true,
    members: ["a"],
    strength: "must",
    weight: 1,
    target: { kind: "nodes", nodeIds: ["n1"] },
    ...changes,
  };
}

const REFUSED: { name: string; policy: Partial<Draft>; field: string }[] = [
  { name: "an unknown VM", policy: { members: ["a", "nobody"] }, field: "members[1]" },
  { name: "an unknown node", policy: { target: { kind: "nodes", nodeIds: ["n9"] } }, field: "nodes[0]" },
  { name: "no node at all", policy: { target: { kind: "nodes", nodeIds: [] } }, field: "nodes" },
  { name: "an unknown zone", policy: { target: { kind: "zones", zones: ["nowhere"] } }, field: "zones[0]" },
  { name: "must-not with zones", policy: { strength: "must-not", target: { kind: "zones", zones: ["primary"] } }, field: "rule" },
  { name: "prefer-not with VMs", policy: { strength: "prefer-not", target: { kind: "vms", rule: "same-node" } }, field: "rule" },
  { name: "a weight out of range", policy: { weight: 1_001 }, field: "weight" },
  { name: "a bad name", policy: { name: "Not A Name" }, field: "name" },
];

t.test("a policy that names what is not there is refused, field by field", async (t) => {
  const log = CommandLog.withNodes(2);
  log.create("a");
  for (const { name, policy: changes, field } of REFUSED) {
    const fault = log.refused({ type: "policy.create", policy: policy("p", changes) });
    t.match(fault, { kind: "invalid", violations: [{ field }] }, name);
  }
});

t.test("a policy is made, switched, changed and deleted; a replay gives the same", async (t) => {
  const log = CommandLog.withNodes(2);
  log.create("a");
  log.ok({ type: "policy.create", policy: policy("p") });
  t.match(log.refused({ type: "policy.create", policy: policy("q", { name: "p" }) }), { kind: "exists", what: "policy" });
  log.ok({ type: "policy.enable", policyId: "p", enabled: false });
  t.equal(log.state.policies.get("p")?.enabled, false);
  const { enabled: _on, ...draft } = policy("p", { name: "other", strength: "prefer" });
  log.ok({ type: "policy.update", policy: draft });
  t.match(log.state.policies.get("p"), { name: "other", enabled: false, strength: "prefer" });
  t.equal(log.state.policyIdByName.get("other"), "p");
  t.notOk(log.state.policyIdByName.has("p"), "its old name is free");
  t.match(log.refused({ type: "policy.delete", policyId: "nobody" }), { kind: "not-found" });
  t.same([...log.replayed().policies], [...log.state.policies]);
  log.ok({ type: "policy.delete", policyId: "p" });
  t.equal(log.state.policies.size, 0);
});

t.test("what cannot all be satisfied is refused when it is switched on, not while it is off", async (t) => {
  const log = CommandLog.withNodes(2);
  for (const id of ["a", "b"]) log.create(id);
  log.ok({ type: "policy.create", policy: policy("on-one") });
  const against = policy("not-one", { strength: "must-not" });
  t.match(log.refused({ type: "policy.create", policy: against }), {
    kind: "precondition",
    reason: /on-one, not-one.*no node is left for a/,
  });
  log.ok({ type: "policy.create", policy: { ...against, enabled: false } });
  t.match(log.refused({ type: "policy.enable", policyId: "not-one", enabled: true }), { kind: "precondition" });
  const both = ["a", "b"];
  log.ok({ type: "policy.create", policy: policy("same", { members: both, target: { kind: "vms", rule: "same-node" } }) });
  t.match(
    log.refused({ type: "policy.create", policy: policy("apart", { members: both, target: { kind: "vms", rule: "different-nodes" } }) }),
    {
      kind: "precondition",
      reason: /same, apart.*on one node and on different ones/,
    },
  );
});

t.test("one policy alone that nothing satisfies yet is let in: its nodes may come", async (t) => {
  const log = CommandLog.withNodes(2);
  log.create("a");
  log.ok({ type: "policy.create", policy: policy("ssd", { target: { kind: "nodes", nodeIds: [], labels: { disk: "ssd" } } }) });
  t.match(
    log.apply({ type: "vm.place", placements: [{ vmId: "a", nodeId: "n2", generation: log.vm("a").generation }], rejections: [] }).outcome,
    {
      ok: true,
      result: { refused: [{ code: "policy", detail: "n2: policy ssd: must be on nodes with disk=ssd" }] },
    },
  );
  log.ok({ type: "node.edit", nodeId: "n2", labels: { disk: "ssd" }, zone: null, partition: null });
  t.same(log.place("a", "n2").ids, ["a"], "the label changed what the policy means, live");
});

t.test("members by label are those that carry it, and a VM that goes leaves the policies that name it", async (t) => {
  const log = CommandLog.withNodes(3);
  log.ok({
    type: "policy.create",
    policy: policy("apart", { members: [], memberLabels: { app: "web" }, target: { kind: "vms", rule: "different-nodes" } }),
  });
  log.running("a", "n1", { labels: { app: "web" } });
  log.create("b", { labels: { app: "web" } });
  log.create("c", { labels: { app: "db" } });
  t.match(log.place("b", "n1").refused, [{ code: "vm-policy" }]);
  t.same(log.place("c", "n1").ids, ["c"]);
  log.ok({ type: "policy.create", policy: policy("named", { members: ["b", "c"], strength: "prefer" }) });
  log.ok({ type: "vm.desire", vmId: "b", action: "delete", nodeId: null });
  t.same(log.state.policies.get("named")?.members, ["c"]);
});

t.test("zones get roles and lose them", async (t) => {
  const log = CommandLog.withNodes(1);
  log.ok({ type: "zone.set", zone: "east", role: "primary" });
  t.equal(log.state.zoneRoles.get("east"), "primary");
  t.match(log.refused({ type: "zone.set", zone: "No Zone", role: "primary" }), { kind: "invalid" });
  log.ok({ type: "zone.set", zone: "east", role: null });
  t.equal(log.state.zoneRoles.size, 0);
});

t.test("a node's labels, zone and partition change live, but not under the VMs of another partition", async (t) => {
  const log = CommandLog.withNodes(2);
  log.ok({ type: "node.edit", nodeId: "n1", labels: { rack: "r1", disk: "ssd" }, zone: "east", partition: null });
  log.ok({ type: "node.edit", nodeId: "n1", labels: { rack: null }, zone: null, partition: "gold" });
  t.match(log.state.nodes.get("n1"), { labels: { disk: "ssd" }, zone: "east", partition: "gold" });
  t.notOk(Object.hasOwn(log.state.nodes.get("n1")?.labels ?? {}, "rack"));
  t.match(log.refused({ type: "node.edit", nodeId: "n1", labels: { "Bad Key": "x" }, zone: "Bad Zone", partition: null }), {
    kind: "invalid",
    violations: [{ field: "labels.Bad Key" }, { field: "zone" }],
  });
  log.running("a", "n1", { partition: "gold" });
  t.match(log.refused({ type: "node.edit", nodeId: "n1", labels: {}, zone: null, partition: "" }), {
    kind: "precondition",
    reason: /another partition: a/,
  });
});

t.test("a vdc has its own scoring until it is reset; what is the cluster's stays the cluster's", async (t) => {
  const log = CommandLog.withNodes(1);
  log.ok({ type: "setting.update", key: "scheduler.scoring", value: "consolidate", vdc: "web" });
  t.same(log.state.cluster?.vdcSettings, { web: { "scheduler.scoring": "consolidate" } });
  t.equal(log.state.cluster?.settings["scheduler.scoring"], "balance");
  t.match(log.refused({ type: "setting.update", key: "ha.claimMs", value: 4_000, vdc: "web" }), {
    kind: "invalid",
    violations: [{ field: "key" }],
  });
  t.match(log.refused({ type: "setting.update", key: "scheduler.rank", value: "cpus >" }), { kind: "invalid" });
  log.ok({ type: "setting.reset", key: "scheduler.scoring", vdc: "web" });
  t.same(log.state.cluster?.vdcSettings, {});
});

t.test("a stopped VM moves home where its filters let it; one that runs does not", async (t) => {
  const log = CommandLog.withNodes(2);
  log.create("a", {}, "off");
  log.ok({ type: "vm.rehome", vmId: "a", nodeId: "n2" });
  t.equal(log.vm("a").homeNodeId, "n2");
  log.ok({ type: "policy.create", policy: policy("stays", { target: { kind: "nodes", nodeIds: ["n2"] } }) });
  t.match(log.refused({ type: "vm.rehome", vmId: "a", nodeId: "n1" }), { kind: "precondition", reason: /policy stays/ });
  log.running("b", "n1");
  t.match(log.refused({ type: "vm.rehome", vmId: "b", nodeId: "n2" }), { kind: "precondition", reason: /running/ });
});

t.test("what a placement says of CPUs is in the claim", async (t) => {
  const log = CommandLog.withNodes(1, {
    cpuTopology: { sockets: 1, coresPerSocket: 4, threadsPerCore: 1, numa: [{ id: 0, cpus: [0, 1, 2, 3], memoryMib: 4_096 }] },
  });
  log.create("a", { cpus: 2, cpuPinning: { numa: "one" } });
  log.ok({ type: "vm.place", placements: [{ vmId: "a", nodeId: "n1", generation: log.vm("a").generation, cpus: [2, 3] }], rejections: [] });
  t.same(log.vm("a").claim?.cpus, [2, 3]);
});
