/**
 * Placement through the whole system: three agents with simulated hypervisors on the loopback, driven by the command line. Each
 * step changes something live and looks at where the next VM goes, and why another waits.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import t from "tap";
import { waitFor } from "../../scripts/lab/lab.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");
const SOON_MS = 60_000;

interface VmRow {
  name: string;
  state: string;
  node: string | null;
  homeNode: string | null;
  pinnedCpus: number[];
  pendingReasons: { code: string; nodes: number; detail: string }[];
}

interface Ran {
  code: number;
  out: string;
  err: string;
}

const folder = await mkdtemp("/tmp/roost-policies-");
const agents: ChildProcess[] = [];
t.setTimeout(240_000);
t.teardown(async () => {
  for (const agent of agents) agent.kill("SIGKILL");
  // A keeper outlives its agent on purpose; here nobody comes back.
  for (const node of ["n1", "n2", "n3"]) {
    const pid = Number.parseInt(await readFile(join(folder, node, "run", "keeper.pid"), "utf8").catch(() => ""), 10);
    if (pid > 0) process.kill(pid, "SIGKILL");
  }
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

function run(words: string[], input = "", node = "n1"): Promise<Ran> {
  return new Promise((resolve) => {
    const env = { ...process.env, ROOST_SOCKET: join(folder, node, "roost.sock") };
    const child = spawn(process.execPath, [MAIN, ...words], { env, stdio: ["pipe", "pipe", "pipe"], timeout: SOON_MS });
    const ran: Ran = { code: -1, out: "", err: "" };
    child.stdout.on("data", (chunk: Buffer) => (ran.out += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (ran.err += chunk.toString()));
    child.once("close", (code) => resolve({ ...ran, code: code ?? -1 }));
    child.stdin.end(input);
  });
}

async function must(words: string[], input = ""): Promise<string> {
  const ran = await run(words, input);
  if (ran.code !== 0) throw new Error(`roost ${words.join(" ")}: exit code ${ran.code}\n${ran.err}${ran.out}`);
  return ran.out;
}

const vm = async (name: string): Promise<VmRow> => JSON.parse(await must(["vm", "show", name, "-o", "json"])) as VmRow;

/** A VM of 64 MiB that runs; answers its node. */
async function placed(name: string, more = ""): Promise<string | null> {
  await must(["vm", "create", "-f", "-", "--wait", "--timeout", "30s"], `name: ${name}\ncpus: 1\nmemory: 64MiB\n${more}`);
  return (await vm(name)).node;
}

/** Two ports beside each other that nobody has: the API's and the peers'. */
async function freePort(): Promise<number> {
  for (;;) {
    const servers = [createServer(), createServer()];
    const listen = (server: (typeof servers)[number], port: number): Promise<number> =>
      new Promise((resolve, reject) =>
        server.once("error", reject).listen(port, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)),
      );
    try {
      const port = await listen(servers[0]!, 0);
      await listen(servers[1]!, port + 1);
      return port;
    } catch {
      // The one after it is taken: another pair.
    } finally {
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    }
  }
}

async function startNode(name: string, zone: string, token: string | null): Promise<void> {
  const data = join(folder, name);
  const port = await freePort();
  const options = ["--data", data, "--name", name, "--zone", zone, "--listen", `127.0.0.1:${port}`, "--driver", "simulated"];
  const shape = ["--guardian", "none", "--memory", "2048", "--simulated-cpus", "8/2", "--foreground"];
  const agent = spawn(process.execPath, [MAIN, ...(token === null ? ["up"] : ["join", token]), ...options, ...shape], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  agent.stderr?.on("data", (chunk: Buffer) => (log = `${log}${chunk.toString()}`.slice(-4_000)));
  agents.push(agent);
  await waitFor(
    `${name} to be ready`,
    async (saw) => {
      const ran = await run(["node", "list", "-o", "json"], "", token === null ? name : "n1");
      saw(`${ran.err} ${log}`);
      return (
        ran.code === 0 &&
        (JSON.parse(ran.out) as { name: string; state: string }[]).some((row) => row.name === name && row.state === "ready")
      );
    },
    SOON_MS,
    { everyMs: 300 },
  );
}

t.test("placement, live", async (t) => {
  await mkdir(join(folder, "n2", "probes"), { recursive: true });
  await writeFile(join(folder, "n2", "probes", "gpu"), "#!/bin/sh\necho GPUS=2\necho nonsense\n");
  await chmod(join(folder, "n2", "probes", "gpu"), 0o755);
  await startNode("n1", "east", null);
  const token = (await must(["token", "create", "--uses", "2"])).trim();
  await startNode("n2", "east", token);
  await startNode("n3", "west", token);

  await t.test("topology, and what probes print, are known; requirements and rank go by them", async (t) => {
    const node = await waitFor(
      "the probe's values",
      async (saw) => {
        const row = JSON.parse(await must(["node", "show", "n2", "-o", "json"])) as Record<string, unknown>;
        saw(row);
        return Object.hasOwn(row["values"] as object, "GPUS") ? row : null;
      },
      SOON_MS,
      { everyMs: 300 },
    );
    t.match(node, { values: { GPUS: "2" }, cpuTopology: { numa: [{ cpus: [0, 1, 2, 3] }, { cpus: [4, 5, 6, 7] }] } });
    t.match(node["probeProblems"], [/^gpu: .*nonsense/]);
    t.equal(await placed("gpu", "requirements: probe.GPUS > 1\n"), "n2");
    t.equal(await placed("ranked", 'rank: 0 - (1 + cpus) / 1 * 1 + memoryMib * 0\nrequirements: name = "n3" | zone = "west"\n'), "n3");
    const bad = await run(["vm", "create", "-f", "-"], "name: bad\ncpus: 1\nmemory: 64MiB\nrequirements: probe.GPU > 1\n");
    t.match(bad, { code: 2, err: /stdin:4:1: requirements: .*no node's probes print GPU \(did you mean "GPUS"\?\)/ });
  });

  await t.test("a must policy steers, and says why a VM waits until a label changes", async (t) => {
    await must(["policy", "create", "west", "--rule", "must", "--label", "app=db", "--zones", "west"]);
    t.equal(await placed("db", "labels: {app: db}\n"), "n3");
    await must(["policy", "create", "nvme", "--rule", "must", "--label", "app=fast", "--node-label", "disk=nvme"]);
    await must(["vm", "create", "-f", "-"], "name: fast\ncpus: 1\nmemory: 64MiB\nlabels: {app: fast}\n");
    const waits = await waitFor(
      "reasons",
      async () => {
        const row = await vm("fast");
        return row.pendingReasons.length > 0 ? row : null;
      },
      SOON_MS,
    );
    t.match(waits.pendingReasons, [{ code: "policy", nodes: 3, detail: /policy nvme: must be on nodes with disk=nvme/ }]);
    await must(["node", "label", "n1", "disk=nvme"]);
    await waitFor("fast to run on n1", async () => (await vm("fast")).node === "n1", SOON_MS);
  });

  await t.test("a running VM that violates a policy is listed, and stays", async (t) => {
    const said = await must(["policy", "create", "east", "--rule", "must", "--vms", "ranked", "--nodes", "n1,n2"]);
    t.match(said, /ranked on n3: must be on n1, n2 \(east\)/);
    t.equal((await vm("ranked")).node, "n3");
    const refused = await run(["policy", "create", "not", "--rule", "must-not", "--vms", "ranked", "--nodes", "n1,n2"]);
    t.match(refused, { code: 4, err: /policies east, not cannot all be satisfied: no node is left for ranked/ });
  });

  await t.test("scoring changes the next placement, of the cluster and of one vdc", async (t) => {
    await must(["settings", "set", "scheduler.scoring", "rank"]);
    await must(["settings", "set", "scheduler.rank", "0 - usedMemoryMib"]);
    await must(["vm", "create", "-f", "-", "--wait"], 'name: heavy\ncpus: 1\nmemory: 1024MiB\nrequirements: name = "n2"\n');
    const spread = await placed("spread");
    t.not(spread, "n2", "the emptiest by rank");
    await must(["settings", "set", "scheduler.rank", "usedMemoryMib", "--vdc", "packed"]);
    t.equal(await placed("full", "vdc: packed\n"), "n2", "the fullest, for this vdc alone");
    t.not(await placed("spread2"), "n2");
    await must(["settings", "set", "scheduler.scoring", "consolidate"]);
    t.equal(await placed("packed"), "n2");
  });

  await t.test("placement by hand: held, forced past a preference only, moved live and cold", async (t) => {
    await must(["policy", "create", "rather-n3", "--rule", "prefer", "--label", "app=soft", "--nodes", "n3"]);
    await must(["vm", "create", "-f", "-", "--hold"], "name: soft\ncpus: 1\nmemory: 64MiB\nlabels: {app: soft}\n");
    const refused = await run(["vm", "deploy", "soft", "--node", "n1"]);
    t.match(refused, { code: 4, err: /n1 is not what vm soft prefers: policy rather-n3: should be on n3, and there is room on n3/ });
    await must(["vm", "deploy", "soft", "--node", "n1", "--force", "--wait"]);
    t.equal((await vm("soft")).node, "n1");
    await must(["vm", "migrate", "soft", "--node", "n3", "--wait"]);
    t.match(await vm("soft"), { state: "running", node: "n3" });
    await must(["vm", "shutdown", "soft", "--wait"]);
    await must(["vm", "migrate", "soft", "--node", "n2", "--force"]);
    t.match(await vm("soft"), { state: "stopped", homeNode: "n2" });
  });

  await t.test("a pinned VM has CPUs of its own, of one NUMA node, and beside it only what is left", async (t) => {
    const pinned = (name: string, cpus: number): string =>
      `name: ${name}\ncpus: ${cpus}\nmemory: 64MiB\ncpu-pinning: {numa: one}\nrequirements: name = "n3"\n`;
    await must(["vm", "create", "-f", "-", "--wait"], pinned("own", 3));
    const { node, pinnedCpus } = await vm("own");
    t.equal(node, "n3");
    t.equal(pinnedCpus.length, 3);
    t.equal(new Set(pinnedCpus.map((cpu) => Math.floor(cpu / 4))).size, 1, "four CPUs a NUMA node: all three of one");
    await must(["vm", "create", "-f", "-"], pinned("wide", 5));
    const waits = await waitFor("reasons", async () => ((await vm("wide")).pendingReasons.length > 0 ? vm("wide") : null), SOON_MS);
    t.ok(
      waits.pendingReasons.some(({ code }) => code === "pinning"),
      `five CPUs of one NUMA node there never were: ${JSON.stringify(waits.pendingReasons)}`,
    );
    const bad = await run(["vm", "create", "-f", "-"], "name: x\ncpus: 1\nmemory: 64MiB\ncpu: {model: Snowridge}\n");
    t.equal(bad.code, 0, "a model that no node has now may come: it waits");
    const row = await waitFor("reasons", async () => ((await vm("x")).pendingReasons.length > 0 ? vm("x") : null), SOON_MS);
    t.match(row.pendingReasons, [{ code: "cpu", nodes: 3 }]);
  });

  await t.test("with the scheduler off, VMs wait for whoever deploys them", async (t) => {
    await must(["settings", "set", "scheduler.enabled", "off"]);
    await must(["vm", "create", "-f", "-"], "name: outside\ncpus: 1\nmemory: 64MiB\n");
    await must(["vm", "deploy", "outside", "--node", "n3", "--wait"]);
    t.equal((await vm("outside")).node, "n3");
    await must(["settings", "set", "scheduler.enabled", "on"]);
  });
});
