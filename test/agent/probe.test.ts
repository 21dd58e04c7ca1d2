import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { defaultReserveMib, probeNode } from "../../src/agent/probe.ts";
import { openPool } from "../../src/storage/open.ts";
import { poolRow } from "../storage/support.ts";

await t.test("the machine", async (t) => {
  const probe = await probeNode({ pools: [], reserveMib: null, memoryMib: null });
  t.ok(Number.isInteger(probe.cpus) && probe.cpus > 0);
  t.ok(Number.isInteger(probe.memoryMib) && probe.memoryMib > 0);
  t.match(probe.arch, /^[a-z0-9_]+$/);
  t.ok(probe.cpuModel.length > 0);
  t.equal(probe.reserveMib, defaultReserveMib(probe.memoryMib));
});

await t.test("reserve: a tenth, at most 1 GiB", (t) => {
  t.equal(defaultReserveMib(2048), 204); // 204.8
  t.equal(defaultReserveMib(10_240), 1024);
  t.equal(defaultReserveMib(262_144), 1024);
  t.end();
});

await t.test("settings win: nodes that share one machine's memory", async (t) => {
  t.match(await probeNode({ pools: [], reserveMib: 16, memoryMib: 512 }), { memoryMib: 512, reserveMib: 16 });
  t.match(await probeNode({ pools: [], reserveMib: 0, memoryMib: 512 }), { reserveMib: 0 });
});

await t.test("bridges and pools", async (t) => {
  const root = t.testdir({ good: {}, bad: {} });
  const netFolder = join(root, "net");
  for (const name of ["br1/bridge", "br0/bridge", "eth0/statistics", "lo"]) await mkdir(join(netFolder, name), { recursive: true });
  await writeFile(join(netFolder, "bonding_masters"), "");
  const pools = [
    await openPool(poolRow(join(root, "good")), { nodeId: "a", mayInitialise: true }),
    await openPool(poolRow(join(root, "bad"), { id: "p2" }), { nodeId: "a", mayInitialise: false }),
  ];
  t.match(await probeNode({ pools, reserveMib: null, memoryMib: null, netFolder }), {
    bridges: ["br0", "br1"],
    pools: [
      { poolId: "p1", available: true },
      { poolId: "p2", available: false, problem: /holds no marker/ },
    ],
  });
  t.match(await probeNode({ pools: [], reserveMib: null, memoryMib: null, netFolder: join(root, "none") }), { bridges: [] });
});
