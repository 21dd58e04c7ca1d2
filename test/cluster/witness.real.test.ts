/** Two nodes and a witness, six nodes of which five vote: agents as processes, killed with -9 (RAFT-1). */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test as Tap } from "tap";
import { Hosts, type Host } from "../support/hosts.ts";

t.setTimeout(180_000);

interface NodeRow {
  name: string;
  state: string;
  role: string;
  leader: boolean;
}
interface VmRow {
  name: string;
  state: string;
  node: string | null;
}

// The node's silence must prove something: its keeper kills, and somebody would reset the host if the keeper were gone.
const PLACE = ["--guardian", "file"];

async function hostsFor(t: Tap): Promise<Hosts> {
  const hosts = await Hosts.create();
  t.teardown(() => hosts.close());
  return hosts;
}

const nodesAt = async (host: Host): Promise<NodeRow[]> => JSON.parse(await host.must("node", "list", "-o", "json")) as NodeRow[];
const vmsAt = async (host: Host): Promise<VmRow[]> => JSON.parse(await host.must("vm", "list", "-o", "json")) as VmRow[];
const rolesAt = async (host: Host): Promise<string> => (await nodesAt(host)).map(({ role }) => role).join(" ");

/** Created through this very node, and seen to run. */
async function create(hosts: Hosts, host: Host, name: string): Promise<void> {
  const file = join(hosts.root, `${name}.yaml`);
  await writeFile(file, `name: ${name}\ncpus: 1\nmemory: 64MiB\ndisks: []\n`);
  await host.must("vm", "create", "-f", file, "--wait");
}

t.test("two nodes and a witness outlive the death of either node", async (t) => {
  const hosts = await hostsFor(t);
  const n1 = await hosts.add("n1");
  await n1.up(...PLACE);
  const n2 = await hosts.add("n2");
  await n2.join(n1, ...PLACE);
  const w = await hosts.add("w");
  await w.join(n1, "--witness");
  await n1.until("three voters", async () => (await rolesAt(n1)) === "voter voter witness");

  for (const name of ["a", "b", "c", "d"]) await create(hosts, n1, name);
  const before = await vmsAt(n1);
  t.strictSame(new Set(before.map(({ node }) => node)), new Set(["n1", "n2"]), "on both nodes, and none on the witness");
  t.match(await n1.must("explain", "a"), /w .*witness/i, "it is said why");

  await n1.kill();
  await n2.until("the home of all", async () => (await vmsAt(n2)).every(({ node, state }) => node === "n2" && state === "running"));
  await create(hosts, n2, "after-n1");

  await n1.up(...PLACE);
  await n2.until("ready again", async () => (await nodesAt(n2)).every(({ state }) => state === "ready"));
  await n2.kill();
  await n1.until("the home of all", async () => (await vmsAt(n1)).every(({ node, state }) => node === "n1" && state === "running"));
  await create(hosts, n1, "after-n2");
  t.equal((await vmsAt(n1)).length, 6);
});

t.test("followers take VMs and the place of a dead voter", async (t) => {
  const hosts = await hostsFor(t);
  const [n1, n2, , , , n6] = (await hosts.form(6)) as [Host, Host, Host, Host, Host, Host];
  await n1.until("five voters", async () => (await rolesAt(n6)) === "voter voter voter voter voter follower");
  await create(hosts, n6, "through-n6");
  t.same(
    (await vmsAt(n2)).map(({ name }) => name),
    ["through-n6"],
  );

  await n6.must("settings", "set", "bench.enabled", "true");
  for (const kind of [[], ["--reads"]]) {
    const answer = JSON.parse(await n6.must("cluster", "bench", "--clients", "4", "--seconds", "1", ...kind, "-o", "json"));
    t.ok((answer as { requests: number }).requests > 0, `roost.v1.Bench through a follower ${kind.join(" ")}`);
  }

  await n6.must("settings", "set", "raft.replaceVoterMs", "1s");
  const { name } = (await nodesAt(n6)).find(({ leader, role }) => !leader && role === "voter")!;
  await hosts.all.find((host) => host.name === name)!.kill();
  await n6.until("one of five voters again", async () => {
    const rows = await nodesAt(n6);
    return rows.filter(({ role }) => role === "voter").length === 5 && rows.find((row) => row.name === name)?.role === "follower";
  });
  await create(hosts, n6, "with-another-voter");
});
