/** VMs that move while they run, with real guests: one at a time, and all of a node. */
import t from "tap";
import { clusterForTest, guestDefinition, SOON_MS, type VmRow } from "../support/e2e.ts";
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
});
