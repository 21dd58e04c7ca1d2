// SCH-20 on random clusters: what the scheduler answers passes the state's own check, placement by placement; the same
// inputs give the same bytes; what it refuses does not fit.
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { emptyUsage, limitsOf, nodeUsage, replaceVm, usageOf } from "../../src/model/capacity.ts";
import { checkPlacement, settingsOf } from "../../src/model/placement.ts";
import type { Node } from "../../src/model/node.ts";
import type { Policy, PolicyTarget } from "../../src/model/policy.ts";
import type { View } from "../../src/model/view.ts";
import type { Vm } from "../../src/model/vm.ts";
import type { Reservation } from "../../src/model/capacity.ts";
import { plan, solve } from "../../src/scheduler/plan.ts";
import { reasonsOf } from "../../src/scheduler/reasons.ts";
import type { PlanRequest } from "../../src/scheduler/types.ts";
import { seenPool, testNode, testPool, testView, testVm } from "../support/world.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 4_711);
const rounds = Number(process.env["ROOST_ROUNDS"] ?? 400);
t.comment(`seed ${seed}, ${rounds} rounds`);

t.test("never overbooked, and the same again", async (t) => {
  const random = seededRandom(seed);
  for (let round = 0; round < rounds; round++) {
    const { view, request } = situation(random);
    const found = plan(view, request, `r${round}`);
    const where = `round ${round}`;
    const again = plan(shuffled(random, view), request, `r${round}`, usageOf(view));
    if (!t.equal(JSON.stringify(again), JSON.stringify(found), `${where}: same bytes, whatever the order of rows`)) return;

    const answered = [...found.placements, ...found.rejections].map(({ vmId }) => vmId).sort();
    if (!t.same(answered, [...request.vms].sort(), `${where}: every VM is answered once`)) return;
    if (
      !t.ok(
        found.rejections.every(({ reasons }) => reasons.length > 0),
        `${where}: with reasons`,
      )
    )
      return;

    // The short cut for many gives what asking every node gives.
    const solved = solve(view, request, `r${round}`);
    for (const { vmId, reasons } of found.rejections) {
      const item = solved.items.find((one) => one.vm.id === vmId);
      if (item === undefined || item.vm.claim !== null) continue;
      const inFlight = new Map<string, Reservation>();
      const where = new Map<string, string>();
      for (const [nodeId, sum] of request.inFlight ?? []) inFlight.set(nodeId, { ...sum });
      if (found.placements.some((one) => view.vms.get(one.vmId)?.claim !== null)) continue;
      for (const placement of found.placements) {
        const { memoryMib, cpus } = view.vms.get(placement.vmId)!.definition;
        const sum = inFlight.get(placement.nodeId) ?? { memoryMib: 0, cpus: 0 };
        inFlight.set(placement.nodeId, { memoryMib: sum.memoryMib + memoryMib, cpus: sum.cpus + cpus });
        where.set(placement.vmId, placement.nodeId);
      }
      if (!t.same(reasonsOf({ ...solved.context, inFlight, where }, item.vm), reasons, `round ${round}: reasons of ${vmId}`)) return;
    }

    // As apply does it: row after row, each checked against the sums as they are then.
    const after = new Map(view.vms);
    const now: View = { ...view, vms: after };
    const usage = usageOf(view);
    for (const { vmId, nodeId } of found.placements) {
      const vm = after.get(vmId)!;
      const refusal = checkPlacement(now, vm, view.nodes.get(nodeId)!, { usage, inFlight: request.inFlight });
      if (!t.equal(refusal, null, `${where}: ${vmId} on ${nodeId}`)) return;
      const placed: Vm = { ...vm, claim: { nodeId, generation: vm.generation + 1, deadline: true, sinceMs: 0 }, state: "prolog" };
      after.set(vmId, placed);
      replaceVm(usage, vm, placed);
    }
    for (const node of view.nodes.values()) {
      const limits = limitsOf(node, settingsOf(view));
      const took = found.placements.some(({ nodeId }) => nodeId === node.id);
      const memoryMib = nodeUsage(usage, node.id).memoryMib + (request.inFlight?.get(node.id)?.memoryMib ?? 0);
      if (took && !t.ok(memoryMib <= limits.memoryMib, `${where}: ${node.id} holds ${memoryMib} of ${limits.memoryMib}`)) return;
    }
    // A VM that moves away frees room for those decided before it, and the search lets none have the room it holds itself:
    // such VMs find their room at the next try.
    if (request.vms.some((vmId) => request.kind !== "start" && view.vms.get(vmId)?.claim !== null)) continue;
    for (const { vmId } of found.rejections) {
      const vm = after.get(vmId)!;
      if (vm.desired.hold || (request.kind === "start" && vm.claim !== null) || (request.kind === "migrate" && vm.claim === null)) continue;
      const left = [...view.nodes.values()].filter(
        (node) =>
          checkPlacement(now, vm, node, { usage, inFlight: request.inFlight }) === null &&
          !(request.kind === "migrate" && vm.claim?.nodeId === node.id),
      );
      if (
        !t.same(
          left.map((node) => node.id),
          [],
          `${where}: nothing is left for ${vmId}`,
        )
      )
        return;
    }
  }
});

t.test("a batch places no fewer than one by one, and proofs hold against trying everything", async (t) => {
  const random = seededRandom(seed + 1);
  let searched = 0;
  for (let round = 0; round < rounds; round++) {
    const nodes = Array.from({ length: 1 + random.below(3) }, (_, i) =>
      testNode(`n${i}`, { memoryMib: 5 + random.below(10), cpus: 2 + random.below(5) }),
    );
    const vms = Array.from({ length: 1 + random.below(6) }, (_, i) =>
      testVm(
        `v${i}`,
        {
          memoryMib: 1 + random.below(8),
          cpus: 1 + random.below(3),
          ha: { enabled: true, priority: random.below(2), onQuorumLoss: "stop" },
        },
        { number: i + 1 },
      ),
    );
    const view = testView(nodes, vms, [], { "scheduler.cpuRatio": random.below(2) });
    const kind = random.below(2) === 0 ? "start" : "recover";
    const request: PlanRequest = { vms: vms.map((vm) => vm.id), mode: "batch", kind, scoring: null };
    const found = plan(view, request, `b${round}`);
    const single = plan(view, { ...request, mode: "one-by-one" }, `b${round}`);
    const best = bestByTryingAll(view, vms, kind === "recover");
    const mine = worth(vms, new Set(found.placements.map(({ vmId }) => vmId)), kind === "recover");
    if (found.method === "search") searched++;
    if (
      !t.ok(
        mine >= worth(vms, new Set(single.placements.map(({ vmId }) => vmId)), kind === "recover"),
        `round ${round}: no worse than one by one`,
      )
    )
      return;
    if (!t.equal(found.proven, true, `round ${round}: small enough to be proven`)) return;
    if (!t.equal(mine, best, `round ${round}: optimal`)) return;
    if (
      single.proven &&
      !t.equal(
        worth(vms, new Set(single.placements.map(({ vmId }) => vmId)), kind === "recover"),
        best,
        `round ${round}: one by one's proof`,
      )
    )
      return;
  }
  t.ok(rounds < 400 || searched > 3, `the search had work: ${searched}`);
});

t.test("planners that know nothing of each other never overbook, and nothing is lost", async (t) => {
  const random = seededRandom(seed + 2);
  let conflicts = 0;
  for (let round = 0; round < rounds; round++) {
    const nodes = Array.from({ length: 2 + random.below(4) }, (_, i) => testNode(`n${i}`, { memoryMib: 10 + random.below(10), cpus: 8 }));
    const vms = Array.from({ length: 12 }, (_, i) => testVm(`v${i}`, { memoryMib: 1 + random.below(6), cpus: 1 }, { number: i + 1 }));
    let view = testView(nodes, vms);
    const usage = usageOf(view);
    // Leaders of old and new terms plan on views of different age; their plans are applied in any order.
    const planned = [0, 1, 2].map((k) => {
      const some = vms.filter(() => random.below(3) > 0).map((vm) => vm.id);
      return plan(view, { vms: some, mode: random.below(2) === 0 ? "batch" : "one-by-one", kind: "start", scoring: null }, `${round}/${k}`);
    });
    for (const { placements } of planned) {
      for (const { vmId, nodeId } of placements) {
        const vm = view.vms.get(vmId)!;
        // A generation that is no longer the plan's is refused before anything else.
        if (vm.generation !== 1 || checkPlacement(view, vm, view.nodes.get(nodeId)!, { usage }) !== null) {
          conflicts++;
          continue;
        }
        const placed: Vm = { ...vm, generation: 2, claim: { nodeId, generation: 2, deadline: true, sinceMs: 0 }, state: "prolog" };
        replaceVm(usage, vm, placed);
        view = testView(nodes, [...new Map(view.vms).set(vmId, placed).values()]);
      }
    }
    for (const node of nodes) {
      const held = nodeUsage(usage, node.id).memoryMib;
      if (!t.ok(held <= limitsOf(node, settingsOf(view)).memoryMib, `round ${round}: ${node.id} holds ${held}`)) return;
    }
    const left = [...view.vms.values()].filter((vm) => vm.claim === null);
    const again = plan(view, { vms: left.map((vm) => vm.id), mode: "batch", kind: "start", scoring: null }, `${round}/again`, usage);
    if (!t.equal(again.placements.length + again.rejections.length, left.length, `round ${round}: what lost is planned again`)) return;
  }
  t.ok(conflicts > rounds, `plans did conflict: ${conflicts} times`);
});

/** Higher priority counts above any number of lower ones. */
function worth(vms: readonly Vm[], placed: ReadonlySet<string>, byPriority: boolean): number {
  return vms.reduce((sum, vm) => sum + (placed.has(vm.id) ? (byPriority && vm.definition.ha.priority > 0 ? 100 : 1) : 0), 0);
}

function bestByTryingAll(view: View, vms: readonly Vm[], byPriority: boolean): number {
  const settings = settingsOf(view);
  const free = [...view.nodes.values()].map((node) => limitsOf(node, settings));
  const visit = (k: number): number => {
    const vm = vms[k];
    if (vm === undefined) return 0;
    let best = visit(k + 1);
    for (const room of free) {
      if (room.memoryMib < vm.definition.memoryMib || room.cpus < vm.definition.cpus) continue;
      room.memoryMib -= vm.definition.memoryMib;
      room.cpus -= vm.definition.cpus;
      best = Math.max(best, (byPriority && vm.definition.ha.priority > 0 ? 100 : 1) + visit(k + 1));
      room.memoryMib += vm.definition.memoryMib;
      room.cpus += vm.definition.cpus;
    }
    return best;
  };
  return visit(0);
}

function situation(random: Random): { view: View; request: PlanRequest } {
  const pools = [testPool("s", true), testPool("l", false)];
  const nodes = Array.from({ length: 1 + random.below(12) }, (_, i) =>
    testNode(`n${i}`, {
      state: random.below(6) === 0 ? "draining" : "ready",
      arch: random.below(8) === 0 ? "aarch64" : "x86_64",
      memoryMib: 1000 + 500 * random.below(6),
      reserveMib: 100 * random.below(3),
      cpus: 1 + random.below(8),
      pools: [seenPool("s", random.below(5) > 0), seenPool("l", true)],
      bridges: random.below(3) === 0 ? ["br0"] : ["br0", "br1"],
    }),
  );
  for (const node of nodes) {
    node.zone = `z${random.below(2)}`;
    if (random.below(6) === 0) node.partition = "far";
    if (random.below(2) === 0) node.labels = { disk: "ssd" };
  }
  const anyNode = (): string => nodes[random.below(nodes.length)]!.id;
  const kind = (["start", "recover", "migrate"] as const)[random.below(3)]!;
  const usage = emptyUsage();
  const settings = { "scheduler.cpuRatio": random.below(3), "scheduler.memoryRatio": 1 + random.below(3) * 0.15 };
  const empty = testView(nodes, [], pools, settings);
  const vms = Array.from({ length: random.below(40) }, (_, i): Vm => {
    const definition = {
      memoryMib: 50 * (1 + random.below(20)),
      cpus: 1 + random.below(4),
      ha: { enabled: true, priority: random.below(3), onQuorumLoss: "stop" as const },
      nics: random.below(3) === 0 ? [{ bridge: `br${random.below(2)}`, mac: "", model: "virtio" as const }] : [],
      ...(random.below(8) === 0 ? { partition: "far" } : {}),
      ...(random.below(8) === 0 ? { requirements: 'label.disk = "ssd" | cpus > 4' } : {}),
      ...(random.below(8) === 0 ? { rank: "freeMemoryMib - 100 * usedCpus" } : {}),
      boot: random.below(3) === 0 ? { kernel: random.below(2) === 0 ? "s/k" : "l/k", initrd: null, cmdline: "" } : null,
    };
    const wish = {
      number: i + 1,
      hold: random.below(15) === 0,
      ...(random.below(10) === 0 ? { wanted: anyNode() } : {}),
      ...(random.below(2) === 0 ? { home: anyNode() } : {}),
    };
    const loose = testVm(`v${i}`, definition, wish);
    if (random.below(2) === 0) return loose;
    // Claims the state would have granted, so that the cluster begins within its limits.
    const nodeId = anyNode();
    if (checkPlacement(empty, loose, empty.nodes.get(nodeId)!, { usage }) !== null) return loose;
    const claimed = testVm(`v${i}`, definition, { ...wish, claim: nodeId });
    replaceVm(usage, null, claimed);
    return claimed;
  });
  const asked = vms.filter(() => random.below(3) > 0).map((vm) => vm.id);
  const inFlight = new Map(random.below(3) === 0 ? [[anyNode(), { memoryMib: 300, cpus: 1 }]] : []);
  const request: PlanRequest = {
    vms: shuffle(random, asked),
    mode: random.below(2) === 0 ? "batch" : "one-by-one",
    kind,
    scoring: random.below(3) === 0 ? "consolidate" : null,
    inFlight,
    avoid: new Map(asked.slice(0, 2).map((id) => [id, [anyNode()]])),
    searchSteps: 20_000,
  };
  const view: View = {
    ...testView(nodes, vms, pools, settings),
    ...(random.below(2) === 0 ? { policies: somePolicies(random, vms, nodes) } : {}),
  };
  return {
    view:
      random.below(4) === 0
        ? {
            ...view,
            zoneRoles: new Map([
              ["z0", "primary"],
              ["z1", "secondary"],
            ]),
          }
        : view,
    request,
  };
}

function somePolicies(random: Random, vms: readonly Vm[], nodes: readonly Node[]): Map<string, Policy> {
  const targets = (): PolicyTarget[] => [
    { kind: "nodes", nodeIds: nodes.filter(() => random.below(2) === 0).map((node) => node.id) },
    { kind: "zones", zones: ["z0"] },
    { kind: "vms", rule: "same-node" },
    { kind: "vms", rule: "different-nodes" },
  ];
  return new Map(
    Array.from({ length: random.below(5) }, (_, i): [string, Policy] => {
      const target = targets()[random.below(4)]!;
      const strength = (["must", "prefer", "must-not", "prefer-not"] as const)[random.below(target.kind === "nodes" ? 4 : 2)]!;
      const members = vms.filter(() => random.below(6) === 0).map((vm) => vm.id);
      return [
        `p${i}`,
        { id: `p${i}`, name: `p${i}`, enabled: random.below(5) > 0, members, strength, weight: random.below(3), target, revision: 1 },
      ];
    }),
  );
}

function shuffled(random: Random, view: View): View {
  return { ...view, nodes: new Map(shuffle(random, [...view.nodes])), vms: new Map(shuffle(random, [...view.vms])) };
}

function shuffle<T>(random: Random, list: readonly T[]): T[] {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}
