/**
 * What ends a node's VMs when time alone does not: its power, seen off; the guardian, where agent and keeper stand still; the keeper, where
 * libvirtd hangs; and the image's lock, where the whole host stood still and goes on.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test as Tap } from "tap";
import { type LabNode, waitFor } from "../../scripts/lab/lab.ts";
import { type Cluster, clusterForTest, readSerial, SOON_MS, type VmRow } from "../support/e2e.ts";
import { labRefused } from "../support/lab.ts";

const AGENT = join(import.meta.dirname, "..", "fencing", "fixtures", "fence_lab");

t.setTimeout(240_000);
t.test("what ends a node's VMs", { skip: await labRefused() }, async (t) => {
  const cluster = await clusterForTest(t, "fencing");
  await cluster.createGuests(["f1", "f2", "f3"]);

  await t.test("cut off with a VM that no time frees: its power is, after an order that was not obeyed", async (t) => {
    await cluster.createGuests(["kept"], "ha: {on-quorum-loss: keep}\n");
    const home = cluster.lab.node((await cluster.vm("kept")).node ?? "");
    t.comment(`kept runs on ${home.name}, ${(await cluster.leader()).name} leads`);
    const bmc = new LabBmc(cluster, home);
    t.teardown(() => bmc.stop());
    const device = ["--agent", "fence_lab", "--option", `plug=${bmc.folder}`, "--time-limit", "3s"];
    t.match(await cluster.must(["node", "fencing", "set", home.name, ...device]), /fence-lab \(level 1\)/);
    bmc.ignoreOrders = 1;

    await home.cut();
    const after = await cluster.until("running elsewhere", ["kept"], (vm) => vm.state === "running" && vm.node !== home.name);
    t.notOk(home.isOn(), "it is off");
    t.same(bmc.obeyedAtMs.length, 1);
    t.ok(bmc.orders >= 2, `the first order was not obeyed and proved nothing: ${bmc.orders} orders`);
    const [failover] = (await cluster.failovers()).filter((one) => one.vmName === "kept");
    t.match(failover, { proofKind: "fence", fromNode: home.name });
    t.ok((failover?.proofMs ?? 0) >= (bmc.obeyedAtMs[0] ?? Infinity), "the proof came after it was off");
    await takenOver(t, cluster, home, after);
    const [row] = await cluster.json<{ attempt: { state: string; auto: boolean; steps: { text: string }[] } }[]>([
      "node",
      "fencing",
      "list",
      home.name,
    ]);
    t.match(row?.attempt, { state: "done", auto: true });
    t.match(row?.attempt.steps[0]?.text, /was not seen off within 3000 ms: says on/);

    await home.heal();
    bmc.on();
    await cluster.powerOn(home);
    await cluster.untilNodes("ready", [home.name], (node) => node.state === "ready");
    t.same(home.qemuProcesses(), [], "it comes back by its hello, with no leftovers");
    await cluster.must(["node", "fencing", "unset", home.name]);
    await cluster.must(["vm", "delete", "kept", "--wait"]);
  });

  await t.test("agent and keeper stand still: the guardian resets the host", async (t) => {
    const victim = await followerWithVm(cluster);
    const hit = (await cluster.vms()).filter((vm) => vm.node === victim.name);
    await victim.pause("all");
    await waitFor("the guardian to act", () => !victim.isOn(), SOON_MS, { everyMs: 20 });
    t.match(victim.powerNote(), /guardian|deadline/);
    await takenOver(t, cluster, victim, await elsewhere(cluster, victim, hit));
    await cluster.powerOn(victim);
    await cluster.untilNodes("ready", [victim.name], (node) => node.state === "ready");
  });

  await t.test("libvirtd hangs and the node is cut off: the keeper ends all of its VMs by the deadline", async (t) => {
    const victim = await followerWithVm(cluster);
    const hit = (await cluster.vms()).filter((vm) => vm.node === victim.name);
    await victim.pause("libvirtd");
    await victim.cut();
    const cutAtMs = Date.now();
    await waitFor("the end of its HA VMs", () => hit.every((vm) => !runs(victim, vm)), SOON_MS, { everyMs: 20 });
    t.comment(`cut off → none of ${hit.map((vm) => vm.name).join(", ")} left: ${Date.now() - cutAtMs} ms`);
    t.ok(victim.isOn(), "it was the keeper: the guardian had nothing to do");
    for (const vm of hit) t.same(cluster.lab.nodesRunning(vm.id), [], `${vm.name} is gone before anybody else starts it`);
    await takenOver(t, cluster, victim, await elsewhere(cluster, victim, hit));
    await victim.resume("libvirtd");
    await victim.heal();
    await cluster.untilNodes("ready", [victim.name], (node) => node.state === "ready");
  });

  await t.test("the whole host stands still and goes on: only the image's lock protects, and what holds it is shown", async (t) => {
    const victim = await followerWithVm(cluster);
    const hit = (await cluster.vms()).filter((vm) => vm.node === victim.name);
    const [vm] = hit;
    if (vm === undefined) throw new Error(`${victim.name} runs no VM`);
    const old = cluster.qemu(vm.id).pid;
    await victim.pause("host");
    const shown = await waitFor(
      "who holds the disk to be shown",
      async () => {
        const words = await cluster.roost(["vm", "show", vm.name, "-o", "json"]);
        const tasks = await cluster.roost(["events", "-o", "json"]);
        return /is held/.exec(`${words.stdout}${tasks.stdout}`) === null ? null : words.stdout;
      },
      SOON_MS,
      { everyMs: 300 },
    );
    t.notMatch(JSON.parse(shown), { state: "running" });
    t.same(
      cluster.lab.nodes.filter((node) => node.qemuProcesses().some((qemu) => qemu.uuid === vm.id && qemu.pid !== old)),
      [],
      "nobody else runs it while the disk is held",
    );
    await victim.resume("host");
    await waitFor("the old process to end", () => !victim.isOn() || !runs(victim, vm), SOON_MS, { everyMs: 20 });
    // Agent, keeper and init all wake up past the deadline: whoever is first.
    await waitFor(
      `${victim.name} to be ready again`,
      async () => {
        if (!victim.isOn()) await cluster.powerOn(victim);
        return (await cluster.nodes()).some((node) => node.name === victim.name && node.state === "ready");
      },
      SOON_MS,
      { everyMs: 500 },
    );
    const names = hit.map(({ name }) => name);
    // It may have been given up while the disk was held.
    for (const name of names) if ((await cluster.vm(name)).state === "failed") await cluster.must(["vm", "start", name]);
    const rows = await cluster.until("running again", names, (row) => row.state === "running");
    for (const row of rows) await cluster.untilItTicks(cluster.lab.node(row.node ?? ""), row.name);
  });
  t.same(cluster.sampler.violations, [], cluster.sampler.summary());
});

const runs = (node: LabNode, vm: VmRow): boolean => node.qemuProcesses().some((qemu) => qemu.uuid === vm.id);

async function followerWithVm(cluster: Cluster): Promise<LabNode> {
  const leader = await cluster.leader();
  const rows = await cluster.vms();
  const found = cluster.lab.nodes.find((node) => node.name !== leader.name && rows.some((vm) => vm.node === node.name));
  if (found === undefined) throw new Error("no follower runs a VM");
  return found;
}

function elsewhere(cluster: Cluster, victim: LabNode, hit: VmRow[]): Promise<VmRow[]> {
  const names = hit.map((vm) => vm.name);
  return cluster.until("running elsewhere", names, (vm) => vm.state === "running" && vm.node !== victim.name);
}

async function takenOver(t: Tap, cluster: Cluster, from: LabNode, after: VmRow[]): Promise<void> {
  for (const vm of after) {
    const old = await readSerial(from, vm.name);
    const now = await cluster.marksOn(cluster.lab.node(vm.node ?? ""), vm.name);
    t.ok((old?.lastMs ?? Infinity) < now.firstMs, `${vm.name}: its last mark here is before its first there`);
    t.ok(now.foundN >= (old?.lastN ?? Infinity), `${vm.name}: its disk has all that it wrote`);
  }
}

/** A management controller whose orders this process carries out: nodes of a lab cannot reach each other's power. */
class LabBmc {
  readonly folder: string;
  readonly obeyedAtMs: number[] = [];
  ignoreOrders = 0;
  orders = 0;
  readonly #node: LabNode;
  readonly #timer: NodeJS.Timeout;

  constructor(cluster: Cluster, node: LabNode) {
    this.#node = node;
    this.folder = join(cluster.lab.sharedDir, `bmc-${node.name}`);
    mkdirSync(this.folder);
    this.on();
    for (const one of cluster.lab.nodes) {
      const path = join(one.dataDir, "fence-agents");
      mkdirSync(path, { recursive: true });
      copyFileSync(AGENT, join(path, "fence_lab"));
      chmodSync(join(path, "fence_lab"), 0o755);
    }
    this.#timer = setInterval(() => void this.#look(), 50);
  }

  on(): void {
    writeFileSync(join(this.folder, "power"), "on\n");
  }

  stop(): Promise<void> {
    clearInterval(this.#timer);
    return Promise.resolve();
  }

  async #look(): Promise<void> {
    const path = join(this.folder, "orders");
    const orders = existsSync(path) ? readFileSync(path, "utf8").split("\n").length - 1 : 0;
    if (orders <= this.orders) return;
    this.orders = orders;
    if (orders <= this.ignoreOrders || this.obeyedAtMs.length > 0) return;
    await this.#node.kill("all");
    writeFileSync(join(this.folder, "power"), "off\n");
    this.obeyedAtMs.push(Date.now());
  }
}
