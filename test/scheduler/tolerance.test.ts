/**
 * N+k (HA-16) against trying everything, on small random clusters: nothing is called safe that is not, nothing refused that could be,
 * every proof passes the small checker, and a proof that was tampered with does not. The rules of the brute force are its own.
 */
import t, { type Test } from "tap";
import { seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import type { Policy } from "../../src/model/policy.ts";
import type { ToleranceGoal } from "../../src/model/tolerance.ts";
import { faultsOfProof } from "../../src/model/tolerance-check.ts";
import { describeImpossible } from "../../src/model/tolerance-text.ts";
import type { View } from "../../src/model/view.ts";
import type { Vm } from "../../src/model/vm.ts";
import { toleranceOf } from "../../src/scheduler/tolerance.ts";
import { seenPool, testNode, testPool, testView, testVm } from "../support/world.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 20_260);
const rounds = Number(process.env["ROOST_ROUNDS"] ?? 800);
t.comment(`seed ${seed}, ${rounds} rounds`);

interface Case {
  view: View;
  goal: ToleranceGoal;
}

function randomCase(random: Random): Case {
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)]!;
  const count = 2 + random.below(4);
  const zones = random.below(3) === 0;
  const nodes = Array.from({ length: count }, (_, i) => ({
    ...testNode(`n${i}`, {
      memoryMib: 4 + random.below(9),
      cpus: 2 + random.below(4),
      pools: [seenPool("local", true), seenPool("shared", random.below(12) > 0)],
      state: random.below(10) === 0 ? pick(["disabled", "unreachable", "fenced", "maintenance"] as const) : "ready",
    }),
    zone: zones ? pick(["east", "west"]) : "",
    ...(random.below(15) === 0 ? { witness: true } : {}),
  }));
  const ratio = random.below(3) === 0 ? 1 + random.below(2) : 0;
  const free = new Map(nodes.map((node) => [node.id, { memory: node.info!.memoryMib, cpus: ratio === 0 ? 1e9 : node.info!.cpus * ratio }]));
  const vms: Vm[] = [];
  const full = random.below(3);
  for (let i = random.below(10 + 4 * full); i > 0; i--) {
    const [memoryMib, cpus] = [1 + random.below(pick([2, 5])), 1 + random.below(2)];
    const node = pick(nodes);
    const room = free.get(node.id)!;
    const homeless = random.below(20) === 0;
    if (!homeless && (room.memory < memoryMib || room.cpus < cpus || node.witness === true)) continue;
    const disk = { source: null, sizeBytes: 1, clone: false, format: "raw", target: "vda", bus: "virtio", device: "disk" } as const;
    const disks = random.below(4) === 0 ? [{ ...disk, pool: pick(["local", "shared"]), readonly: false, cache: "default" as const }] : [];
    const vm = testVm(`v${i}`, { memoryMib, cpus, disks }, homeless ? { state: "recovering" } : { claim: node.id, home: node.id });
    vms.push({ ...vm, number: i, underHa: random.below(5) > 0 });
    if (homeless) continue;
    room.memory -= memoryMib;
    room.cpus -= cpus;
  }
  const view = testView(nodes, vms, [testPool("local", false), testPool("shared", true)], { "scheduler.cpuRatio": ratio });
  const policies: Policy[] = [];
  for (let i = random.below(4) === 0 ? 1 + random.below(2) : 0; i > 0 && vms.length > 1; i--) {
    const members = vms.filter(() => random.below(3) === 0).map(({ id }) => id);
    const target = pick([
      { kind: "nodes", nodeIds: nodes.filter(() => random.below(2) === 0).map(({ id }) => id) },
      { kind: "vms", rule: "different-nodes" },
      { kind: "vms", rule: "same-node" },
    ] as const);
    if (target.kind === "nodes" && target.nodeIds.length === 0) continue;
    const strength = target.kind === "nodes" ? pick(["must", "must-not"] as const) : "must";
    const whole = target.kind === "nodes" ? { ...target, nodeIds: [...target.nodeIds] } : target;
    policies.push({ id: `p${i}`, name: `p${i}`, enabled: true, members, strength, weight: 1, target: whole, revision: 1 });
  }
  return {
    view: { ...view, policies: new Map(policies.map((policy) => [policy.id, policy])) },
    goal: { nodes: random.below(3), zones: zones && random.below(2) === 0 },
  };
}

// The brute force. Its rules are written again, from docs/admission.md and docs/policies.md.

const isDead = (state: string): boolean => state === "unreachable" || state === "fenced";

function protects(vm: Vm): boolean {
  return vm.underHa && vm.definition.disks.every(({ pool }) => pool !== "local");
}

function losses({ view, goal }: Case): string[][] {
  const mortal = [...view.nodes.values()].filter(
    (node) =>
      !isDead(node.state) &&
      ((node.state === "ready" && node.witness !== true) ||
        [...view.vms.values()].some((vm) => vm.claim?.nodeId === node.id && protects(vm))),
  );
  const sets = [...Array(2 ** mortal.length).keys()].map((bits) => mortal.filter((_, i) => (bits & (1 << i)) !== 0).map(({ id }) => id));
  const found = sets.filter((set) => set.length > 0 && set.length <= goal.nodes);
  for (const zone of goal.zones ? ["east", "west"] : []) {
    const set = mortal.filter((node) => node.zone === zone).map(({ id }) => id);
    if (set.length > 0) found.push(set);
  }
  return found;
}

/** Can all that is lost be placed, one after the other, in some order and somewhere? */
function survives(view: View, lost: readonly string[]): boolean {
  const where = new Map<string, string>();
  const waiting: Vm[] = [];
  for (const vm of view.vms.values()) {
    const node = vm.claim === null ? null : view.nodes.get(vm.claim.nodeId)!;
    const gone = node === null || isDead(node.state) || lost.includes(node.id);
    if (gone && protects(vm)) waiting.push(vm);
    else if (node !== null && !gone) where.set(vm.id, node.id);
  }
  const ratio = view.cluster!.settings["scheduler.cpuRatio"];
  const living = [...view.nodes.values()].filter((node) => node.state === "ready" && node.witness !== true && !lost.includes(node.id));
  const fits = (vm: Vm, node: (typeof living)[number]): boolean => {
    const info = node.info!;
    const here = [...where].filter(([, id]) => id === node.id).map(([id]) => view.vms.get(id)!.definition);
    const memory = here.reduce((sum, one) => sum + one.memoryMib, vm.definition.memoryMib);
    const cpus = here.reduce((sum, one) => sum + one.cpus, vm.definition.cpus);
    if (memory > info.memoryMib || (ratio > 0 && cpus > info.cpus * ratio)) return false;
    if (vm.definition.disks.some(({ pool }) => info.pools.find(({ poolId }) => poolId === `p-${pool}`)?.available !== true)) return false;
    return [...view.policies.values()].every(({ members, strength, target }) => {
      if (!members.includes(vm.id)) return true;
      if (target.kind === "nodes") return target.nodeIds.includes(node.id) === (strength === "must");
      if (target.kind === "zones") return true;
      // Members on nodes that are not ready count for nothing.
      const others = members
        .flatMap((id) => (id === vm.id ? [] : (where.get(id) ?? [])))
        .filter((id) => view.nodes.get(id)!.state === "ready");
      return target.rule === "same-node" ? others.length === 0 || others.includes(node.id) : !others.includes(node.id);
    });
  };
  // With policies between VMs the order may matter; without, it does not.
  const anyOrder = [...view.policies.values()].some(({ target }) => target.kind === "vms");
  const visit = (left: readonly Vm[]): boolean => {
    if (left.length === 0) return true;
    for (const vm of anyOrder ? left : left.slice(0, 1)) {
      for (const node of living) {
        if (!fits(vm, node)) continue;
        where.set(vm.id, node.id);
        const all = visit(left.filter((other) => other !== vm));
        where.delete(vm.id);
        if (all) return true;
      }
    }
    return false;
  };
  return visit(waiting);
}

t.test("against trying everything: no false safe, no false refused", async (t) => {
  const random = seededRandom(seed);
  const verdicts = { protected: 0, unproven: 0, overcommitted: 0 };
  const kinds = new Map<string, number>();
  for (let round = 0; round < rounds; round++) {
    const made = randomCase(random);
    const { view, goal } = made;
    const answer = toleranceOf(view, goal);
    verdicts[answer.verdict]++;
    const all = losses(made);
    const dead = all.filter((lost) => !survives(view, lost));
    const about = `round ${round}: ${JSON.stringify(answer)}`;
    if (answer.verdict === "protected" && !t.same(dead, [], `protected, really; ${about}`)) return;
    for (const { lost, kind } of answer.impossible) {
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      if (!t.notOk(survives(view, lost), `impossible, really: ${lost.join()} by ${kind}; ${about}`)) return;
    }
    if (dead.length === 0 && !t.not(answer.verdict, "overcommitted", about)) return;
    for (const one of answer.evidence) kinds.set(one.kind, (kinds.get(one.kind) ?? 0) + 1);
    if (answer.verdict !== "protected") continue;
    const proof = { viewIndex: view.index, goal, evidence: answer.evidence };
    if (!t.same(faultsOfProof(view, proof), [], `the checker agrees; ${about}`)) return;
    if (!tampered(t, view, proof, random)) return;
  }
  t.comment(JSON.stringify({ ...verdicts, kinds: Object.fromEntries(kinds) }));
  t.ok(verdicts.protected > rounds / 10 && verdicts.overcommitted > rounds / 10, "both are met often");
  t.ok(verdicts.unproven < rounds / 20, `few stay open: ${verdicts.unproven}`);
  for (const kind of ["room", "places", "node", "vm", "sum", "search"]) t.ok(kinds.has(kind), `some by ${kind}`);
});

/** Takes something away or puts it wrong: the checker must notice. */
function tampered(t: Test, view: View, proof: Parameters<typeof faultsOfProof>[1], random: Random): boolean {
  const k = random.below(Math.max(1, proof.evidence.length));
  const one = proof.evidence[k];
  if (one === undefined) return true;
  const without = { ...proof, evidence: proof.evidence.filter((_, i) => i !== k) };
  const about = `${JSON.stringify(proof)} without ${k}`;
  // Another arithmetic may cover the same loss; a place list never does by chance.
  if (one.kind === "places" && !t.not(faultsOfProof(view, without).length, 0, about)) return false;
  if (one.kind !== "places" || one.moves.length === 0) return true;
  const [[vmId]] = [one.moves[0]!];
  const onDead = { ...one, moves: [[vmId, one.lost[0]!] as const, ...one.moves.slice(1)] };
  const fewer = { ...one, moves: one.moves.slice(1) };
  return [onDead, fewer].every((wrong) =>
    t.not(faultsOfProof(view, { ...proof, evidence: proof.evidence.with(k, wrong) }).length, 0, `tampered: ${about}`),
  );
}

t.test("arithmetic that is one MiB short is no evidence", async (t) => {
  // Three nodes of 10 MiB, each with one VM of 4 under HA. Lost: 4. A survivor has 6 free, and takes one more of 4 unless 6 − 4 + 1 = 3 are
  // taken: two survivors hold out against 6 > 4, so any order fits. With 5 instead of 4: 10 − 5 = 5 free, 5 − 5 + 1 = 1 each: 2 < 5.
  const world = (memoryMib: number): View =>
    testView(
      ["n1", "n2", "n3"].map((id) => testNode(id, { memoryMib: 10 })),
      ["n1", "n2", "n3"].map((id) => testVm(`v-${id}`, { memoryMib }, { claim: id })),
    );
  const goal = { nodes: 1, zones: false };
  const room = { kind: "room", losses: { all: [], among: ["n1", "n2", "n3"], more: 1 } } as const;
  t.same(toleranceOf(world(4), goal).evidence, [room]);
  t.same(faultsOfProof(world(4), { viewIndex: 7, goal, evidence: [room] }), []);
  t.same(faultsOfProof(world(5), { viewIndex: 7, goal, evidence: [room] }), [
    "room after the loss of 1 of 3 nodes: not enough for VMs such as v-n1",
  ]);
  t.same(
    toleranceOf(world(5), goal).evidence.map(({ kind }) => kind),
    ["places", "places", "places"],
    "they fit all the same: 5 + 5 = 10",
  );
  // 6 + 6 > 10 on either survivor.
  const { verdict, impossible } = toleranceOf(world(6), goal);
  t.equal(verdict, "overcommitted");
  t.same(impossible[0], {
    lost: ["n1"],
    zone: null,
    kind: "vm",
    vmIds: ["v-n1"],
    resource: "memory",
    needed: 6,
    available: 4,
    size: 0,
  });
});

t.test("a loss that is impossible by slots: enough in all, and not in any place", async (t) => {
  // n1's four VMs of 3 MiB: 12 ≤ 3 × 5 free, but ⌊5 / 3⌋ = 1 a node.
  const nodes = [testNode("n1", { memoryMib: 12 }), ...["n2", "n3", "n4"].map((id) => testNode(id, { memoryMib: 5 }))];
  const vms = Array.from({ length: 4 }, (_, i) => testVm(`v${i}`, { memoryMib: 3 }, { claim: "n1" }));
  const { impossible } = toleranceOf(testView(nodes, vms), { nodes: 1, zones: false });
  t.match(impossible, [{ lost: ["n1"], kind: "slots", resource: "memory", needed: 4, available: 3, size: 3 }]);
  t.equal(
    describeImpossible(testView(nodes, vms), impossible[0]!),
    "if n1 died, 4 VMs (v0, v1, v2, …) would need 3 MiB or more each, with room for 3 of them",
  );
});

t.test("beyond the budget nothing is called safe", async (t) => {
  const nodes = Array.from({ length: 6 }, (_, i) => testNode(`n${i}`, { memoryMib: 10 }));
  const vms = nodes.map(({ id }, i) => testVm(`v${i}`, { memoryMib: 5 }, { claim: id }));
  const { verdict, openCount, planned } = toleranceOf(testView(nodes, vms), { nodes: 2, zones: false }, { plans: 4 });
  // C(6, 2) = 15 losses, 4 of them planned.
  t.same({ verdict, openCount, planned }, { verdict: "unproven", openCount: 11, planned: 4 });
});
