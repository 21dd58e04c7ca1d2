/** `roost ha` word for word. ROOST_GOLDEN=write rewrites test/golden/cli/ha.txt; read the difference before it is committed. */
import t from "tap";
import { placingService } from "../../src/placing/loop.ts";
import { cliHost } from "../support/cli.ts";
import { golden, transcript } from "../support/golden.ts";

t.test("ha: what may fail, who would go where, who waits", async (t) => {
  const host = await cliHost(3);
  t.teardown(() => host.close());
  const { store, nodeIds, server } = host.cluster;
  server.nowMs = () => store.nowMs + 600;
  for (const id of nodeIds) store.state.write({ table: "nodes", key: id, row: { ...store.state.nodes.get(id)!, role: "voter" } });
  let seeds = 0;
  const clock = { monotonicMs: () => 0, wallMs: () => store.nowMs, after: () => () => {} };
  const scheduler = placingService(store, { clock, newId: () => `seed-${++seeds}` });
  host.files.set("three.yaml", `vms:\n${["a", "b", "c"].map((name) => `  - {name: ${name}, cpus: 1, memory: 700MiB}\n`).join("")}`);
  host.files.set(
    "more.yaml",
    "vms:\n  - {name: first, cpus: 1, memory: 1000MiB}\n  - {name: second, cpus: 1, memory: 1000MiB, ha: {enabled: false}}\n",
  );
  const empty = await transcript(host, ["ha show", "ha forecast n9", "ha forecast n1 --kill n2", "vm create -f three.yaml"]);
  await scheduler.run(store.term);
  const asked = await transcript(host, [
    "ha show",
    "ha forecast",
    "ha forecast n1",
    "ha forecast --kill n1,n2",
    "ha show --tolerate 2",
    "ha show --disable n3",
    "ha show --tolerate 7",
    "settings set ha.tolerate 2",
    "settings set ha.tolerate 1",
    "node disable n3",
    "node enable n3",
    "vm create -f more.yaml",
  ]);
  await scheduler.run(store.term);
  const held = await transcript(host, ["vm list", "vm show second"]);
  const [, n2 = ""] = nodeIds;
  await store.propose({ type: "node.suspect", nodeId: n2, silentMs: 1_500, claimsEndInMs: 2_750 }, { actor: "leader" });
  const silent = await transcript(host, ["node show n2", "ha show", "ha show -o json"]);
  golden(t, "ha", empty + asked + held + silent);
});
