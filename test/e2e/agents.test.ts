/** Agents and keepers are stopped, killed, paused and restarted: VMs run on, or die by the keeper's hand before others start them. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test as Tap } from "tap";
import { type Cluster, clusterForTest, readSerial, SOON_MS, type VmRow } from "../support/e2e.ts";
import { answering } from "../../scripts/lab/cluster.ts";
import { type LabNode, waitFor } from "../../scripts/lab/lab.ts";
import { labRefused } from "../support/lab.ts";

const NAMES = ["g1", "g2", "g3"];

t.setTimeout(300_000);
t.test("agents and keepers", { skip: await labRefused() }, async (t) => {
  const cluster = await clusterForTest(t, "agents");
  const { nodes } = cluster.lab;
  const nodeNames = nodes.map((node) => node.name);
  const created = await cluster.createGuests(NAMES);
  t.equal(new Set(created.map((vm) => vm.node)).size, 3, "one VM on each node");

  await t.test("an agent stands still for 2 s, on each node, the leader too", async (t) => {
    const before = await sights(cluster);
    for (const node of nodes) {
      const leads = (await cluster.leader()).name === node.name;
      await node.pause("agent");
      await sleep(2_000);
      await node.resume("agent");
      t.comment(`${node.name} ${leads ? "(the leader) " : ""}stood still`);
      await cluster.untilNodes("ready", nodeNames, (row) => row.state === "ready");
      await sameAs(t, cluster, before, `after the pause of ${node.name}`);
    }
    // What a pause has brought about shows within a claim and its margin.
    await sleep(4_500);
    await sameAs(t, cluster, before, "and a claim's time later");
    t.same(await cluster.failovers(), [], "nothing was recovered");
    t.same(await fences(cluster), [], "nobody was fenced");
  });

  await t.test("a keeper is killed", async (t) => {
    const before = await sights(cluster);
    for (const node of nodes) {
      const old = node.processes("keeper").map((one) => one.pid);
      t.equal(old.length, 1, `${node.name} has one keeper`);
      await node.kill("keeper");
      const now = await waitFor(`another keeper on ${node.name}`, () => node.processes("keeper")[0], SOON_MS);
      t.not(now.pid, old[0], `${node.name} has another keeper`);
    }
    // Without acknowledgements to the new keepers, all would be over by now.
    await sleep(4_500);
    await sameAs(t, cluster, before, "with new keepers");
    t.ok(
      nodes.every((node) => node.isOn() && node.processes("keeper").length === 1),
      "one keeper on each node, and no guardian acted",
    );
  });

  await t.test("an agent is killed and comes back in time", async (t) => {
    const before = await sights(cluster);
    for (const node of nodes) {
      await node.kill("agent");
      const killedAtMs = Date.now();
      await node.startAgent();
      await answering(node);
      t.comment(`${node.name}: killed → ready again: ${Date.now() - killedAtMs} ms`);
      await sameAs(t, cluster, before, `after the return of the agent on ${node.name}`);
    }
    t.same(await cluster.failovers(), [], "nothing was recovered");
  });

  await t.test("all agents go down and come back", async (t) => {
    const before = await sights(cluster);
    const downs = await Promise.all(nodes.map((node) => cluster.roostOn(node, ["down"])));
    for (const down of downs) t.equal(down.code, 0, `${down.stdout}${down.stderr}`.split("\n")[0] ?? "");
    for (const node of nodes) await waitFor(`the end of the agent on ${node.name}`, () => node.processes("agent").length === 0, SOON_MS);
    // Longer than a claim: only the parked claims keep them alive.
    await sleep(5_000);
    t.same(cluster.pids(Object.values(before)), pidsOf(before), "the VMs run on without agents");
    await Promise.all(nodes.map((node) => node.startAgent()));
    await Promise.all(nodes.map((node) => answering(node)));
    await sameAs(t, cluster, before, "after all were down");
  });

  await t.test("all agents are killed at once and started again at once", async (t) => {
    const before = await sights(cluster);
    await Promise.all(nodes.map((node) => node.kill("agent")));
    const killedAtMs = Date.now();
    await Promise.all(nodes.map((node) => node.startAgent()));
    await Promise.all(nodes.map((node) => answering(node)));
    const servedMs = Math.max(...(await Promise.all(nodes.map((node) => servingAtMs(node))))) - killedAtMs;
    t.comment(`all killed → all serve: ${servedMs} ms, all ready: ${Date.now() - killedAtMs} ms`);
    if (servedMs <= START_MS) return await sameAs(t, cluster, before, "after all were killed");
    // Then keepers may have had to act, rightly; that nothing ran twice is seen by the sampler.
    t.comment("this machine is too busy to start three agents within a claim: only that all run again is looked at");
    const after = await sights(cluster);
    t.comment(`outlived it all the same: ${NAMES.filter((name) => after[name]?.pid === before[name]?.pid).join(", ") || "none"}`);
    t.ok(
      NAMES.every((name) => (after[name]?.generation ?? 0) >= (before[name]?.generation ?? Infinity)),
      "all run again",
    );
  });

  await t.test("an agent is killed and never comes back", async (t) => {
    const leader = await cluster.leader();
    for (const node of [...nodes.filter((one) => one.name !== leader.name).slice(0, 1), leader]) await neverBack(t, cluster, node);
  });
  t.same(cluster.sampler.violations, [], cluster.sampler.summary());
});

/**
 * Of a claim of 4 s, killing begins at 3.5, counted from a heartbeat that is up to 0.5 s old when the agents die; an early election
 * takes up to 1.1 s, and the heartbeat after it 0.05 s.
 */
const START_MS = 1_500;

/** When the node's agent said last that it serves, ms since 1970. */
async function servingAtMs(node: LabNode): Promise<number> {
  const lines = (await readFile(node.agentLogPath, "utf8")).split("\n").filter((line) => line.includes('"message":"serving"'));
  return Date.parse((JSON.parse(lines.at(-1) ?? "{}") as { time?: string }).time ?? "");
}

interface Sight extends VmRow {
  pid: number;
}

/** The VMs by name, with the process that runs each. */
async function sights(cluster: Cluster): Promise<Record<string, Sight>> {
  // A keeper's act is known only once its agent has said so: what is called running must have a process, too.
  const rows = await cluster.until("running", NAMES, (vm) => vm.state === "running" && cluster.lab.nodesRunning(vm.id).length === 1);
  return Object.fromEntries(rows.map((vm) => [vm.name, { ...vm, pid: cluster.qemu(vm.id).pid }]));
}

function pidsOf(all: Record<string, Sight>): Record<string, number> {
  return Object.fromEntries(Object.values(all).map((vm) => [vm.name, vm.pid]));
}

/** Same processes, nodes and generations, called running, and the guests print on. */
async function sameAs(t: Tap, cluster: Cluster, before: Record<string, Sight>, when: string): Promise<void> {
  const plain = (all: Record<string, Sight>): string[] =>
    NAMES.map((name) => `${name} ${all[name]?.node} generation ${all[name]?.generation} pid ${all[name]?.pid}`);
  t.same(plain(await sights(cluster)), plain(before), `the same VMs run in the same processes ${when}`);
  for (const vm of Object.values(before)) await cluster.untilItTicks(cluster.lab.node(vm.node ?? ""), vm.name);
}

async function fences(cluster: Cluster): Promise<unknown[]> {
  const events = await cluster.json<{ kind: string; message: string }[]>(["events"]);
  return events.filter((event) => /fenc|expire/.test(`${event.kind} ${event.message}`));
}

async function neverBack(t: Tap, cluster: Cluster, node: LabNode): Promise<void> {
  const hit = Object.values(await sights(cluster)).filter((vm) => vm.node === node.name);
  t.ok(hit.length > 0, `${node.name} runs ${hit.map((vm) => vm.name).join(", ")}`);
  await node.kill("agent");
  const killedAtMs = Date.now();
  await waitFor(`the keeper to end the VMs of ${node.name}`, () => node.qemuProcesses().length === 0, SOON_MS, { everyMs: 20 });
  t.comment(`agent of ${node.name} killed → no QEMU there: ${Date.now() - killedAtMs} ms`);
  for (const vm of hit) t.same(cluster.lab.nodesRunning(vm.id), [], `${vm.name}: gone before anybody else starts it`);
  t.ok(node.isOn(), "it was the keeper: the guardian did nothing");
  const names = hit.map((vm) => vm.name);
  const after = await cluster.until("running elsewhere", names, (vm) => vm.state === "running" && vm.node !== node.name);
  t.comment(`agent of ${node.name} killed → running elsewhere: ${Date.now() - killedAtMs} ms`);
  for (const vm of after) {
    const old = await readSerial(node, vm.name);
    const now = await cluster.marksOn(cluster.lab.node(vm.node ?? ""), vm.name);
    t.ok((old?.lastMs ?? Infinity) < now.firstMs, `${vm.name}: its last mark here is before its first there`);
  }
  await node.startAgent();
  await answering(node);
  t.same(node.qemuProcesses(), [], `${node.name} is back, with no leftovers`);
}
