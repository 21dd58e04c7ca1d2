/** VMs that move while they run, with real guests: one at a time, and all of a node. */
import t from "tap";
import { clusterForTest, guestDefinition, readSerial, SOON_MS, type VmRow } from "../support/e2e.ts";
import { answering } from "../../scripts/lab/cluster.ts";
import { waitFor } from "../../scripts/lab/lab.ts";
import { labRefused } from "../support/lab.ts";

t.setTimeout(300_000);
t.test("live migration", { skip: await labRefused() }, async (t) => {
  const cluster = await clusterForTest(t, "migrate");
  await cluster.layButtonImage();
  const lines = (node: string, name: string): Promise<string> => cluster.lab.node(node).serialLog(name);
  const beats = async (node: string, name: string): Promise<void> => {
    const before = (await lines(node, name)).length;
    await waitFor(`${name} going on on ${node}`, async () => (await lines(node, name)).length > before, SOON_MS);
  };
  const other = (row: VmRow): string => cluster.lab.nodes.map(({ name }) => name).find((name) => name !== row.node) ?? "";

  await t.test("a guest goes on elsewhere", async (t) => {
    await cluster.must(["vm", "create", "-f", "-", "--wait"], { input: guestDefinition("wander", "shared/button.img") });
    let before = await cluster.vm("wander");
    await waitFor("the guest", async () => (await lines(before.node ?? "", "wander")).includes("guest up"), SOON_MS);
    for (const to of [other(before), ""]) {
      before = await cluster.vm("wander");
      const fromMs = Date.now();
      await cluster.must(["vm", "migrate", "wander", ...(to === "" ? [] : ["--node", to]), "--wait"]);
      const tookMs = Date.now() - fromMs;
      const after = await cluster.vm("wander");
      t.comment(`${before.node} → ${after.node} in ${tookMs} ms`);
      t.equal(after.state, "running");
      t.not(after.node, before.node);
      if (to !== "") t.equal(after.node, to);
      t.ok(after.generation > before.generation);
      await waitFor("one copy", () => cluster.lab.nodesRunning(before.id).length === 1, SOON_MS);
      t.same(
        cluster.lab.nodesRunning(before.id).map(({ name }) => name),
        [after.node],
        "and nowhere else",
      );
      await beats(after.node ?? "", "wander");
      const log = await lines(after.node ?? "", "wander");
      if (to !== "") t.notMatch(log, /guest up/, "it went on, it did not boot");
      t.notMatch(log, /!/, "all it wrote went through");
    }
    const stays = await cluster.roost(["vm", "migrate", "wander", "--cold", "--node", other(await cluster.vm("wander"))]);
    t.not(stays.code, 0);
    t.match(stays.stderr, /only a stopped VM moves cold/);
    await cluster.must(["vm", "delete", "wander", "--wait"]);
  });

  await t.test("a node is emptied, and taken back", async (t) => {
    const names = ["d1", "d2", "d3", "d4"];
    const file = names.map((name) => guestDefinition(name, "shared/button.img")).join("---\n");
    await cluster.must(["vm", "create", "-f", "-", "--wait"], { input: file });
    const before = await cluster.vms();
    const victim = before[0]?.node ?? "";
    const hit = before.filter((row) => row.node === victim).map(({ name }) => name);
    const stay = cluster.pids(before.filter((row) => row.node !== victim));
    const preview = await cluster.must(["node", "drain", victim, "--preview"]);
    for (const name of hit) t.match(preview, new RegExp(`${name} +migrate +n`));
    t.same(await cluster.vms(), before, "a preview does nothing");
    const fromMs = Date.now();
    await cluster.must(["node", "drain", victim, "--deadline", "5m", "--wait"]);
    t.comment(`${hit.length} VMs left ${victim} in ${Date.now() - fromMs} ms`);
    const after = await cluster.vms();
    t.ok(after.every((row) => row.state === "running" && row.node !== victim));
    t.same(cluster.pids(after.filter(({ name }) => name in stay)), stay, "the others were left alone");
    for (const row of after) {
      await waitFor("one copy", () => cluster.lab.nodesRunning(row.id).length === 1, SOON_MS);
      t.notOk(hit.includes(row.name) && /guest up/.test(await lines(row.node ?? "", row.name)), `${row.name} did not boot`);
    }
    const states = async (): Promise<string> =>
      (await cluster.json<{ name: string; state: string }[]>(["node", "list"])).find(({ name }) => name === victim)?.state ?? "";
    t.equal(await states(), "maintenance");
    await cluster.must(["node", "undrain", victim]);
    t.equal(await states(), "ready");
    await cluster.must(["cluster", "rebalance", "--execute", "--max-steps", "1"]);
    const evened = await cluster.vms();
    t.ok(evened.every((row) => row.state === "running"));
    t.equal(evened.filter((row) => row.node === victim).length, 1, "the one step that evens it out most fills the empty node");
    await cluster.must(["vm", "delete", ...names, "--wait"]);
  });

  await t.test("agents are replaced one after the other, under load, and no guest notices", async (t) => {
    const names = ["u1", "u2", "u3"];
    const guests = await cluster.createGuests(names);
    const before = cluster.pids(guests);
    let isOver = false;
    const lives: number[] = [];
    // VMs come, move and go all the time; a call that meets the agent that is going down may fail, the guests may not.
    const load = (async () => {
      for (let i = 1; !isOver; i++) {
        const name = `load${i}`;
        const input = guestDefinition(name, "shared/button.img");
        const born = await cluster.roost(["vm", "create", "-f", "-", "--wait"], { input });
        await cluster.roost(["vm", "migrate", name, "--wait"]);
        await cluster.roost(["vm", "delete", name, "--wait"]);
        lives.push(born.code);
      }
    })();
    for (const node of cluster.lab.nodes) {
      const down = await cluster.roostOn(node, ["down"]);
      t.equal(down.code, 0, `${node.name} goes down${down.code === 0 ? "" : `: ${down.stderr}`}`);
      await waitFor(`the end of the agent on ${node.name}`, () => node.processes("agent").length === 0, SOON_MS);
      await node.startAgent();
      await answering(node);
      await cluster.untilNodes("ready", [node.name], (row) => row.state === "ready");
    }
    isOver = true;
    await load;
    t.comment(`${lives.filter((code) => code === 0).length} of ${lives.length} VMs came, moved and went meanwhile`);
    t.same(cluster.pids((await cluster.vms()).filter(({ name }) => names.includes(name))), before, "the same processes run on");
    for (const guest of guests) {
      const node = cluster.lab.node(guest.node ?? "");
      await cluster.untilItTicks(node, guest.name);
      const serial = await readSerial(node, guest.name);
      t.match(serial, { boots: 1, marks: (serial?.lastN ?? 0) - (serial?.foundN ?? 0) }, `${guest.name}: one boot, and no mark is missing`);
    }
    t.same(await cluster.failovers(), [], "nothing was recovered");
  });
});
