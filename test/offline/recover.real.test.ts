/** Lost quorum, backups and watchers, with agents as processes that are killed (RAFT-6, RAFT-8, STA-1, STA-3). */
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { Hosts, type Host } from "../support/hosts.ts";

t.setTimeout(300_000);

const VM = "name: a\ncpus: 1\nmemory: 64MiB\ndisks: []\n";

async function names(host: Host): Promise<string[]> {
  return (JSON.parse(await host.must("vm", "list", "-o", "json")) as { name: string }[]).map(({ name }) => name);
}

t.test(
  "three nodes, two die for good: the third goes on, and who comes back is refused until it rejoins",
  { timeout: 240_000 },
  async (t) => {
    const hosts = await Hosts.create();
    t.teardown(() => hosts.close());
    const [n1, n2, n3] = (await hosts.form(3)) as [Host, Host, Host];
    const file = join(hosts.root, "vm.yaml");
    await writeFile(file, VM);
    await n1.must("vm", "create", "-f", file);

    const followed: { revision: number; position: number }[] = [];
    const stopFollowing = n3.follow(1, followed);
    t.teardown(stopFollowing);

    const verified = JSON.parse(await n2.must("cluster", "verify", "-o", "json")) as { nodes: { node: string; result: string }[] };
    t.same(
      verified.nodes.map(({ node, result }) => `${node} ${result}`),
      ["n1 same", "n2 same", "n3 same"],
    );

    const backup = join(hosts.root, "backup");
    await n3.must("cluster", "backup", backup);
    t.equal((await stat(backup)).mode & 0o777, 0o600, "it holds the CA's key");
    t.match((await n3.roost("cluster", "backup", backup)).err, /exists already/);

    await t.test("while there is a quorum it is refused", async (t) => {
      await n3.kill();
      t.match((await n3.roost("cluster", "recover", "--yes")).err, /sees a leader: the quorum is not lost/);
      await n3.up();
    });

    await n1.kill();
    await n2.kill();
    t.match((await n3.roost("token", "create", "--timeout", "3s")).err, /no leader|majority/);
    t.match((await n3.roost("cluster", "recover", "--yes")).err, /in use by another process/, "not beside a running agent");
    await n3.kill();

    await t.test("it says first what would be, and changes nothing", async (t) => {
      const said = JSON.parse(await n3.must("cluster", "recover", "-o", "json")) as {
        done: boolean;
        nodes: { name: string; fate: string }[];
      };
      t.match(said, {
        done: false,
        nodes: [
          { name: "n3", fate: "goes on" },
          { name: "n1", fate: "unknown" },
          { name: "n2", fate: "unknown" },
        ],
      });
    });
    t.match(JSON.parse(await n3.must("cluster", "recover", "--off", "n1", "--yes", "-o", "json")), { done: true, generation: 2 });
    await n3.up();
    await n3.until("able to change things", async () => (await n3.roost("token", "create", "--timeout", "3s")).code === 0);
    t.same(await names(n3), ["a"]);
    const shown = JSON.parse(await n3.must("cluster", "show", "-o", "json")) as { generation: number; voters: number; alarms: string[] };
    t.match(shown, { generation: 2, voters: 1, alarms: [/nothing is placed until each of n2/] });

    await t.test("the dead come back as they were: refused, and they know", async (t) => {
      await n2.up();
      await n2.until("told that it was left out", async () => n2.log.includes("left out of a recovered cluster"));
      const refused = await n2.roost("token", "create", "--timeout", "3s");
      t.match(refused.err, /recovered without this node \(generation 2\)/);
      t.match(refused.err, /roost cluster rejoin/);
      await n2.kill();
    });

    await t.test("by rejoining they come back under their own name", async (t) => {
      t.match(await n2.must("cluster", "rejoin", n3.api), /With --yes n2 goes from generation 1 to 2/);
      await n2.must("cluster", "rejoin", n3.api, "--yes");
      await n2.up();
      await n2.until(
        "ready",
        async () => (await n2.must("node", "list")).includes("n2  ready") || /n2\s+ready/.test(await n2.must("node", "list")),
      );
      const after = JSON.parse(await n2.must("cluster", "show", "-o", "json")) as { alarms: string[] };
      t.same(after.alarms, [], "n1 is off by the operator's word, n2 is here");
    });

    await t.test("who followed on n3 over all this saw each event of the log once", async (t) => {
      const all = JSON.parse(await n3.must("events", "--from", "1", "-o", "json")) as { revision: number; position: number }[];
      const mark = ({ revision, position }: { revision: number; position: number }): string => `${revision}.${position}`;
      await n3.until("told everything", async () => followed.length >= all.length);
      t.same(followed.slice(0, all.length).map(mark), all.map(mark));
    });

    await t.test("the backup founds the cluster anew elsewhere; a damaged one does not", async (t) => {
      const bytes = await readFile(backup);
      const bad = join(hosts.root, "bad");
      const at = bytes.length >> 1;
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      await writeFile(bad, bytes);
      const other = await hosts.add("n9");
      t.match((await other.roost("cluster", "restore", bad, ...other.place, "--yes")).err, /at byte \d+/);
      t.match(await other.must("cluster", "restore", backup, ...other.place), /Nothing was changed/);
      await other.must("cluster", "restore", backup, ...other.place, "--generation", "7", "--off", "n1,n2", "--yes");
      await other.up();
      await other.until("serving", async () => (await other.roost("token", "create", "--timeout", "3s")).code === 0);
      t.same(await names(other), ["a"]);
      t.match(JSON.parse(await other.must("cluster", "show", "-o", "json")), { generation: 7, alarms: [/until each of n3 has rejoined/] });
      t.match((await other.roost("cluster", "restore", backup, ...other.place, "--yes")).err, /holds a node already/);
    });
  },
);

t.test("five nodes, two survive: the one with more goes on, the other follows it", async (t) => {
  t.setTimeout(300_000);
  const hosts = await Hosts.create();
  t.teardown(() => hosts.close());
  const [n1, n2, n3, n4, n5] = (await hosts.form(5)) as [Host, Host, Host, Host, Host];
  await n1.until(
    "five voters",
    async () => (JSON.parse(await n1.must("cluster", "show", "-o", "json")) as { voters: number }).voters === 5,
  );
  await n4.kill();
  const file = join(hosts.root, "vm.yaml");
  await writeFile(file, VM);
  await n1.must("vm", "create", "-f", file);
  await n5.until("caught up", async () => (await n5.must("--stale", "vm", "list")).includes("a"));
  await Promise.all([n1.kill(), n2.kill(), n3.kill()]);

  let said = await n4.roost("cluster", "recover", "--yes");
  // For an election time-out n5 still believes in the leader that it heard last.
  await n4.until("sure that there is no leader", async () => {
    if (!said.err.includes("sees a leader")) return true;
    said = await n4.roost("cluster", "recover", "--yes");
    return false;
  });
  t.match(said.err, /n5 has more: its log ends at \d+ of term \d+, this one at \d+/);
  t.match(said.err, /run it on n5/);
  await n4.up();
  await n5.kill();
  const answer = JSON.parse(await n5.must("cluster", "recover", "--off", "n1,n2,n3", "--yes", "-o", "json")) as {
    nodes: { name: string; fate: string }[];
  };
  t.same(
    answer.nodes.map(({ name, fate }) => `${name} ${fate}`),
    ["n5 goes on", "n1 off", "n2 off", "n3 off", "n4 survives"],
  );
  await n5.up();
  await n5.until("able to change things", async () => (await n5.roost("token", "create", "--timeout", "3s")).code === 0);
  await n4.kill();
  await n4.must("cluster", "rejoin", n5.api, "--yes");
  await n4.up();
  await n4.until("ready", async () => /n4\s+ready/.test(await n4.must("node", "list")));
  t.same(await names(n4), ["a"]);
  t.same((JSON.parse(await n4.must("cluster", "show", "-o", "json")) as { alarms: string[] }).alarms, []);
});
