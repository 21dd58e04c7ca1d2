/** One VM's life: what users ask for, what happens behind roost's back, and what is refused with nothing done. */
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test as Tap } from "tap";
import { type Cluster, clusterForTest, guestDefinition, SOON_MS, type VmRow } from "../support/e2e.ts";
import type { RunResult } from "../../scripts/lab/run.ts";
import { agentCommand } from "../../scripts/lab/agent.ts";
import { answering } from "../../scripts/lab/cluster.ts";
import { type LabNode, waitFor } from "../../scripts/lab/lab.ts";
import { labRefused } from "../support/lab.ts";

t.setTimeout(300_000);
t.test("VMs", { skip: await labRefused() }, async (t) => {
  const cluster = await clusterForTest(t, "vms");
  await cluster.layButtonImage();

  await t.test("a life by the command line", async (t) => {
    await cluster.must(["vm", "create", "-f", "-", "--wait"], { input: guestDefinition("life", "shared/button.img") });
    const born = await cluster.vm("life");
    t.equal(born.state, "running");
    const node = cluster.lab.node(born.node ?? "");
    await untilPrinted(node, "life", "guest up");
    t.equal((await volumesOf(cluster, born)).length, 1, "its disk is a copy in the shared folder");

    t.equal((await cluster.roost(["vm", "start", "life"])).code, 0, "starting what runs is no error");
    t.equal((await cluster.vm("life")).generation, born.generation, "and does nothing");

    t.equal((await cluster.roost(["vm", "shutdown", "life", "--wait"])).code, 0, "shutdown");
    t.match(await node.serialLog("life"), /guest off/, "the guest was asked, and went by itself");
    const off = await cluster.vm("life");
    t.match(off, { state: "stopped", node: null });
    t.same(cluster.lab.nodesRunning(born.id), []);

    t.equal((await cluster.roost(["vm", "start", "life", "--wait"])).code, 0, "start");
    const again = await cluster.vm("life");
    t.match(again, { state: "running" });
    t.ok(again.generation > born.generation, "a new start has a new generation");
    t.equal((await cluster.roost(["vm", "force-shutdown", "life", "--wait"])).code, 0, "force-shutdown");
    t.match(await cluster.vm("life"), { state: "stopped" });
    t.same(cluster.lab.nodesRunning(born.id), []);

    await cluster.must(["vm", "start", "life", "--wait"]);
    t.equal((await cluster.roost(["vm", "delete", "life", "--wait"])).code, 0, "delete, while it runs");
    t.same(await cluster.vms(), [], "it is gone from the list");
    t.same(cluster.lab.nodesRunning(born.id), [], "and from the nodes");
    t.same(await volumesOf(cluster, born), [], "and its volume from the shared folder");
    t.ok((await readdir(cluster.lab.sharedDir)).includes("button.img"), "the image it was made from stays");
  });

  await t.test("behind roost's back", async (t) => {
    const hit = async (name: string, strike: (vm: VmRow, node: LabNode) => Promise<void>): Promise<VmRow> => {
      const vm = await cluster.vm(name);
      await strike(vm, cluster.lab.node(vm.node ?? ""));
      return vm;
    };
    const kill = async (vm: VmRow): Promise<void> => void process.kill(cluster.qemu(vm.id).pid, "SIGKILL");
    const virsh = async (vm: VmRow, node: LabNode, verb: string): Promise<void> => void (await node.must(["virsh", "-q", verb, vm.id]));
    const restarted = async (before: VmRow, how: string): Promise<void> => {
      const fromMs = Date.now();
      const [after] = await cluster.until(
        "running again",
        [before.name],
        (vm) => vm.state === "running" && vm.generation > before.generation,
      );
      t.comment(`${how} → running again: ${Date.now() - fromMs} ms`);
      t.equal(cluster.qemu(before.id).node.name, after?.node, `${how}: it runs again, once`);
    };
    const stopped = async (before: VmRow, how: string): Promise<void> => {
      const [after] = await cluster.until("stopped", [before.name], (vm) => vm.state === "stopped");
      t.equal(after?.state, "stopped", `${how}: stopped`);
      t.same(cluster.lab.nodesRunning(before.id), []);
    };

    const all = ["often", "never", "always"];
    const file = all.map((name) => guestDefinition(name, "shared/button.img", name === "often" ? "" : `restart: ${name}\n`)).join("---\n");
    await cluster.must(["vm", "create", "-f", "-", "--wait"], { input: file });
    for (const vm of await cluster.vms()) await untilPrinted(cluster.lab.node(vm.node ?? ""), vm.name, "guest up");

    await restarted(await hit("often", kill), "kill -9 of QEMU");
    await restarted(await hit("often", (vm, node) => virsh(vm, node, "destroy")), "virsh destroy");
    await stopped(await hit("never", kill), "restart: never, kill -9 of QEMU");
    await untilPrinted(cluster.qemu((await cluster.vm("often")).id).node, "often", "guest up");
    // To roost a guest that answers a button it did not press has powered off by itself.
    await stopped(await hit("often", (vm, node) => virsh(vm, node, "shutdown")), "the guest powers off, restart: on-failure");
    await restarted(await hit("always", (vm, node) => virsh(vm, node, "shutdown")), "the guest powers off, restart: always");
    const domainsBefore = (await cluster.vms()).length;
    await cluster.must(["vm", "delete", ...all, "--wait"]);
    t.equal(domainsBefore, 3);
  });

  await t.test("faults are refused, and nothing is done", async (t) => {
    const refused = async (input: string, code: number, said: RegExp[], words: string[] = ["vm", "create", "-f", "-"]): Promise<void> => {
      const result = await cluster.roost(words, input === "" ? {} : { input });
      t.equal(result.code, code, `exit code ${code}: ${result.stderr.trim().split("\n")[0] ?? ""}`);
      for (const pattern of said) t.match(result.stderr, pattern);
    };
    await refused("name: [unclosed\n", 2, [/stdin:\d/]);
    await refused("name: x1\ncpus: 1\nmemroy: 16MiB\ndisks:\n  - {pool: shared, sorce: a/b}\n", 2, [
      /memroy: .*did you mean "memory"/,
      /sorce: .*did you mean "source"/,
    ]);
    await refused("name: Bad_Name\ncpus: 0\nmemory: 16MiB\n", 2, [/name/, /cpus/]);
    await refused(guestDefinition("x1", "nopool/a.img"), 2, [/nopool/]);
    await refused("", 3, [/n9/], ["vm", "create", "--node", "n9", "-f", await definitionFile(cluster, "x2")]);
    await refused("", 3, [/nosuch/], ["vm", "start", "nosuch"]);
    await refused("", 3, [/nosuch/], ["vm", "show", "nosuch"]);
    await refused(`${guestDefinition("same", "shared/button.img")}---\n${guestDefinition("same", "shared/button.img")}`, 2, [/same/]);
    t.same(await cluster.vms(), [], "nothing was created");

    await cluster.must(["vm", "create", "-f", "-", "--wait"], { input: guestDefinition("one", "shared/button.img") });
    await refused(guestDefinition("one", "shared/button.img"), 4, [/one/]);
    await refused(`${guestDefinition("two", "shared/button.img")}---\n${guestDefinition("one", "shared/button.img")}`, 4, [/one/]);
    t.same(
      (await cluster.vms()).map((vm) => vm.name),
      ["one"],
      "of a file with one bad name, nothing is created",
    );

    await refused("name: giant\ncpus: 1\nmemory: 8TiB\n", 2, [
      /stdin:3:1: memory: 8388608 MiB can never fit: the largest node, n\d, has \d+ MiB/,
    ]);
    t.same(
      (await cluster.vms()).map((vm) => vm.name),
      ["one"],
      "and no giant",
    );
    await cluster.must(["vm", "delete", "one", "--wait"]);
  });

  await t.test("a VM on a local disk", (t) => localDisk(t, cluster));
  await t.test("tokens that are no good", (t) => joining(t, cluster));
  t.same(cluster.sampler.violations, [], cluster.sampler.summary());
});

/** A host tries to join with what it should not have: neither it nor the cluster is changed. */
async function joining(t: Tap, cluster: Cluster): Promise<void> {
  const host = cluster.lab.node(1);
  const members = async (): Promise<string[]> => (await cluster.nodes()).map((node) => node.name).toSorted();
  // A further agent on the first node's host, on a port of its own; detached once it is ready, as by hand.
  const joinAs = async (name: string, port: number, token: string): Promise<RunResult> => {
    const command = agentCommand({ name, ip: host.ip, port, dataDir: join(cluster.lab.base, name) }, { kind: "join", token });
    const env = Object.entries(command.env).map(([name, value]) => `${name}=${value}`);
    return await host.exec(["env", ...env, ...command.argv.filter((word) => word !== "--foreground")], { timeoutMs: SOON_MS });
  };
  const attempt = async (token: string, said: RegExp): Promise<void> => {
    const before = await members();
    const result = await joinAs("stranger", 7800, token);
    t.not(result.code, 0, result.stderr.trim().split("\n")[0] ?? "");
    t.match(result.stderr, said);
    t.same(await members(), before, "the cluster is as before");
    // What the binary unpacks for itself is no part of a node.
    const left = (await readdir(join(cluster.lab.base, "stranger")).catch(() => [])).filter((name) => name !== "addons");
    t.same(left, [], "and so is the host");
  };
  const token = async (...words: string[]): Promise<string> =>
    (await cluster.must(["token", "create", ...words])).trim().split("\n").at(-1) ?? "";

  await attempt("nonsense", /no join token/);
  const good = await token();
  await attempt(`${good.slice(0, -4)}${good.endsWith("AAAA") ? "BBBB" : "AAAA"}`, /damaged/);
  const revoked = await token();
  const tokens = await cluster.json<{ id: string; createdAtMs: number }[]>(["token", "list"]);
  const last = tokens.toSorted((a, b) => a.createdAtMs - b.createdAtMs).at(-1);
  await cluster.must(["token", "revoke", last?.id ?? ""]);
  await attempt(revoked, /not known/);
  const short = await token("--ttl", "1s");
  const shortId = (await cluster.json<{ id: string; expiresAtMs: number }[]>(["token", "list"])).find(
    (one) => one.expiresAtMs - Date.now() < 5_000,
  );
  await waitFor("the token's end", () => Date.now() > (shortId?.expiresAtMs ?? 0) + 100, 10_000);
  await attempt(short, /expired/);

  const once = await token();
  const joined = await joinAs("fourth", 7900, once);
  t.equal(joined.code, 0, `a good token: ${joined.stdout}${joined.stderr}`.trim());
  t.ok((await members()).includes("fourth"), "lets a fourth node in");
  await attempt(once, /used|not known/);
}

async function localDisk(t: Tap, cluster: Cluster): Promise<void> {
  const local = "/var/lib/libvirt/local";
  for (const node of cluster.lab.nodes) {
    await mkdir(join(node.place.dir, "host", "lib", "local"), { recursive: true });
  }
  await cluster.must(["pool", "create", "local", "--path", local]);
  await waitFor(
    "the local pool on all nodes",
    async (saw) => {
      const pool = (await cluster.json<{ name: string; nodes: { available: boolean; problem: string | null }[] }[]>(["pool", "list"])).find(
        (one) => one.name === "local",
      );
      saw(pool);
      return pool?.nodes.length === 3 && pool.nodes.every((node) => node.available);
    },
    SOON_MS,
    { everyMs: 200 },
  );
  const text = "name: home\ncpus: 1\nmemory: 16MiB\ndisks:\n  - {pool: local, source: shared/button.img, format: raw, bus: ide}\n";
  const created = await cluster.roost(["vm", "create", "-f", "-", "--wait"], { input: text });
  t.equal(created.code, 0, created.stderr);
  const vm = await cluster.vm("home");
  t.match(vm, { state: "running", underHa: false });
  t.match(vm.warnings.join(" "), /local/, "it is said that it cannot be recovered");

  const node = cluster.lab.node(vm.node ?? "");
  await untilPrinted(node, "home", "guest up");
  await node.kill("all");
  const [lost] = await cluster.until("unknown", ["home"], (row) => row.state === "unknown");
  t.equal(lost?.node, node.name, "with its node it is unknown, and nobody takes it over");
  t.same(cluster.lab.nodesRunning(vm.id), []);
  const illegal = await cluster.roost(["vm", "shutdown", "home"]);
  t.equal(illegal.code, 4, `a guest that nobody can ask cannot be shut down: ${illegal.stderr.trim()}`);
  t.match(illegal.stderr, /force-shutdown.*delete/, "and the legal actions are named");
  await cluster.powerOn(node);
  const [back] = await cluster.until("running again", ["home"], (row) => row.state === "running" && row.generation > vm.generation);
  t.equal(back?.node, node.name, "when the node returns, it runs there again");
  await answering(node);
  await cluster.must(["vm", "delete", "home", "--wait"]);
}

async function untilPrinted(node: LabNode, name: string, text: string): Promise<void> {
  await waitFor(
    `"${text}" from ${name} on ${node.name}`,
    async () => {
      const serial = await node.serialLog(name);
      return serial.lastIndexOf(text) > serial.lastIndexOf("guest off");
    },
    SOON_MS,
  );
}

/** Files in the shared folder, at any depth, that are named after a VM. */
async function volumesOf(cluster: Cluster, vm: VmRow): Promise<string[]> {
  const files = await readdir(cluster.lab.sharedDir, { recursive: true });
  return files.filter((file) => file.includes(vm.id) && file.endsWith(".raw"));
}

async function definitionFile(cluster: Cluster, name: string): Promise<string> {
  const path = join(cluster.lab.base, `${name}.yaml`);
  await writeFile(path, guestDefinition(name, "shared/button.img"));
  return path;
}
