/** A node dies with all that is on it, then the leader does: their VMs run elsewhere, each exactly once, with their disks. */
import t, { type Test as Tap } from "tap";
import { type Cluster, clusterForTest, readSerial, type VmRow } from "../support/e2e.ts";
import type { LabNode } from "../../scripts/lab/lab.ts";
import { labRefused } from "../support/lab.ts";

const NAMES = ["a1", "a2", "a3", "a4", "a5", "a6"];
/** Not the budget, which is for a quiet machine: beyond this something waited for what it need not wait for. */
const LOOSE_BUDGET_MS = 20_000;

t.setTimeout(240_000);
t.test("dead nodes", { skip: await labRefused() }, async (t) => {
  const cluster = await clusterForTest(t, "failover");
  const rows = await cluster.createGuests(NAMES);
  const spread = new Map<string, number>();
  for (const vm of rows) spread.set(vm.node ?? "", (spread.get(vm.node ?? "") ?? 0) + 1);
  t.same([...spread.values()], [2, 2, 2], "six VMs are spread over three nodes");
  t.ok(
    rows.every((vm) => vm.underHa && vm.warnings.length === 0),
    "all on shared disks are under HA, without warnings",
  );

  const leader = await cluster.leader();
  const follower = cluster.lab.nodes.find((node) => node.name !== leader.name);
  if (follower === undefined) throw new Error("no follower");
  await dies(t, cluster, follower, "a follower");
  await dies(t, cluster, leader, "the leader");
  t.same(cluster.sampler.violations, [], cluster.sampler.summary());
});

async function dies(t: Tap, cluster: Cluster, victim: LabNode, who: string): Promise<void> {
  const before = await cluster.vms();
  const hit = before.filter((vm) => vm.node === victim.name);
  const names = hit.map((vm) => vm.name);
  t.ok(hit.length > 0, `${who} (${victim.name}) runs ${names.join(", ")}`);
  const others = cluster.pids(before.filter((vm) => vm.node !== victim.name));
  const killedAtMs = Date.now();
  await victim.kill("all");

  const after = await cluster.until(
    `running elsewhere than on ${victim.name}`,
    names,
    (vm) => vm.state === "running" && vm.node !== victim.name,
  );
  t.comment(`${who} killed → all of ${names.join(", ")} listed as running elsewhere: ${Date.now() - killedAtMs} ms`);
  for (const vm of after)
    await takenOver(
      t,
      cluster,
      victim,
      vm,
      hit.find((one) => one.name === vm.name),
      killedAtMs,
    );
  t.same(cluster.pids((await cluster.vms()).filter((vm) => vm.name in others)), others, "the other VMs run on as before");

  const failovers = (await cluster.failovers()).filter((one) => names.includes(one.vmName) && one.fromNode === victim.name);
  t.same(failovers.map((one) => one.vmName).toSorted(), names.toSorted(), "each has its failover record");
  for (const one of failovers) {
    const tookMs = (one.startedMs ?? NaN) - one.lastHeartbeatMs;
    t.comment(
      `${one.vmName}: last heartbeat → suspect ${one.suspectMs - one.lastHeartbeatMs}, proof ${one.proofMs - one.lastHeartbeatMs}, planned ${(one.plannedMs ?? NaN) - one.lastHeartbeatMs}, started ${tookMs}, running ${(one.runningMs ?? NaN) - one.lastHeartbeatMs} ms; budget ${one.budgetMs}`,
    );
    t.equal(one.proofKind, "expiry", `${one.vmName}: the proof is that its node's claims ran out`);
    t.ok(tookMs > 0 && tookMs <= LOOSE_BUDGET_MS, `${one.vmName}: started ${tookMs} ms after the last heartbeat`);
  }

  const beforeReturn = cluster.pids(after);
  await cluster.powerOn(victim);
  const nodes = await cluster.nodes();
  t.ok(
    nodes.every((node) => node.state === "ready"),
    "powered on again, it is ready",
  );
  t.same(victim.qemuProcesses(), [], "nothing of what it ran is there");
  t.same(cluster.pids(after), beforeReturn, "what was taken over stays where it is");
}

/** The guest itself: it runs on one node, began after the old one was dead, and finds on its disk what was last written. */
async function takenOver(t: Tap, cluster: Cluster, from: LabNode, vm: VmRow, was: VmRow | undefined, killedAtMs: number): Promise<void> {
  const to = cluster.lab.node(vm.node ?? "");
  t.same(
    cluster.lab.nodesRunning(vm.id).map((node) => node.name),
    [to.name],
    `${vm.name} runs on ${to.name} alone`,
  );
  t.ok(vm.generation > (was?.generation ?? Infinity), `${vm.name} has a higher generation`);
  const old = await readSerial(from, vm.name);
  const now = await cluster.marksOn(to, vm.name);
  t.ok(old !== null && old.lastMs > 0 && old.lastMs < now.firstMs, `${vm.name}: last mark on ${from.name} before the first on ${to.name}`);
  t.comment(
    `${vm.name} by its own marks: silent for ${(now.firstMs - (old?.lastMs ?? NaN)).toFixed(0)} ms, first mark ${(now.firstMs - killedAtMs).toFixed(0)} ms after the kill`,
  );
  t.ok(now.foundN >= (old?.lastN ?? Infinity), `${vm.name} found ${now.foundN} on its disk, the last mark was ${old?.lastN}`);
}
