/** An audit over three nodes of which one answers with a clock that is 30 s ahead, and one not at all. */
import t from "tap";
import type { CallContext } from "../../src/api/context.ts";
import { auditService } from "../../src/api/services/audit.ts";
import { RoostError } from "../../src/base/errors.ts";
import type { RpcClient } from "../../src/base/rpc-client.ts";
import type { NodeRun } from "../../src/model/run.ts";
import { testCluster } from "../support/api.ts";

const NOW = 1_100_000;
const AHEAD_MS = 30_000;
const VM = "0a0b0c0d-0000-4000-8000-000000000001";

const run = (generation: number, fromMs: number, toMs: number | null): NodeRun => ({
  vmId: VM,
  generation,
  fromMs,
  toMs,
  sureFromMs: fromMs,
  sureToMs: toMs ?? NOW,
  sawBegin: true,
  ended: toMs === null ? "" : "ended by the agent",
  hostWentDown: false,
});

/** Its own runs, and those of n2 by n2's clock. */
async function context(own: NodeRun[], ofN2: NodeRun[]): Promise<CallContext> {
  const cluster = await testCluster(3);
  const { nodeIds } = cluster;
  const base = cluster.as();
  const client = (nodeId: string): Pick<RpcClient, "call" | "close"> => ({
    call: (async (_service: string, _method: string, { clockOnly }: { clockOnly: boolean }) => {
      if (nodeId !== nodeIds[1]) throw new RoostError({ kind: "unavailable", reason: "no way to it" });
      const runs = ofN2.map((one) => ({ ...one, toMs: one.toMs ?? 0 }));
      return clockOnly ? { nowMs: NOW + AHEAD_MS, runs: [] } : { nowMs: NOW + AHEAD_MS, runs, sinceMs: 1, lost: 2 };
    }) as unknown as RpcClient["call"],
    close: () => {},
  });
  return {
    ...base,
    nowMs: () => NOW,
    hooks: {
      ...base.hooks,
      runs: () => Promise.resolve({ runs: own, sinceMs: 5, lost: 0 }),
      nodeClient: (nodeId) => client(nodeId) as RpcClient,
    },
  };
}
const ask = { vms: [], fromMs: 0, toMs: 0 };

await t.test("clocks are told apart, and whoever does not answer is named", async (t) => {
  // By n1's clock: until 1,050,000 here, from 1,052,000 there.
  const answer = await auditService.AuditRuns(ask, await context([run(1, 1_000_000, 1_050_000)], [run(2, 1_082_000, null)]));
  t.match(answer, { node: "n1", nowMs: NOW, overlaps: 0, unsure: 0 });
  t.match(answer.nodes, [
    { node: "n1", problem: "", offsetMs: -0, offsetBoundMs: 0, sinceMs: 5 },
    // No time passes here: the bound is that of whole ms.
    { node: "n2", problem: "", offsetMs: AHEAD_MS, offsetBoundMs: 1, lost: 2 },
    { node: "n3", problem: /no way to it/ },
  ]);
  t.match(answer.vms, [
    {
      vmId: VM,
      runs: [
        { node: "n1", toMs: 1_050_000 },
        { node: "n2", fromMs: 1_052_000, toMs: 0 },
      ],
      gaps: [{ fromMs: 1_050_000, toMs: 1_052_000 }],
    },
  ]);
  t.match(answer.unknown, [
    /node n2 could not write down 2 of its records/,
    /node n3 did not answer, so its runs are not in this: no way to it/,
  ]);
});

await t.test("a VM that ran in two places is found, whatever the clocks say", async (t) => {
  const answer = await auditService.AuditRuns(ask, await context([run(1, 1_000_000, 1_050_000)], [run(2, 1_075_000, null)]));
  t.equal(answer.overlaps, 1, "n2 began at 1,045,000 by n1's clock");
  t.match(answer.vms?.[0]?.meetings, [{ kind: "overlap", earlier: { node: "n1" }, later: { node: "n2" } }]);
});

await t.test("a run that the cluster knows of and no node has on record is not known", async (t) => {
  const calling = await context([], []);
  const view = calling.store.view();
  const [n1] = [...view.nodes.values()];
  const row = { id: VM, definition: { name: "web" }, history: [{ state: "running", atMs: 7, nodeId: n1?.id, generation: 3 }] };
  const store = { ...calling.store, view: () => ({ ...view, vms: new Map([[VM, row]]), vmIdByName: new Map([["web", VM]]) }) };
  const answer = await auditService.AuditRuns(ask, { ...calling, store: store as unknown as CallContext["store"] });
  t.match(answer.unknown?.at(-1), /^web ran on n1 \(generation .*\), which has no record of it$/);
});

await t.test("a node gives only what touches the time asked about, by its own clock", async (t) => {
  const calling = await context([run(1, 1_000, 2_000), run(2, 3_000, 4_000), run(3, 5_000, null)], []);
  const given = async (fromMs: number, toMs: number): Promise<(number | undefined)[]> =>
    ((await auditService.GetRunRecords({ clockOnly: false, fromMs, toMs }, calling)).runs ?? []).map((one) => one.generation);
  t.same(await given(0, 0), [1, 2, 3]);
  t.same(await given(2_500, 4_500), [2]);
  t.same(await given(4_500, 0), [3]);
});

await t.test("times that make no sense are refused", async (t) => {
  await t.rejects(auditService.AuditRuns({ ...ask, fromMs: 10, toMs: 5 }, await context([], [])), /expected a time after from_ms/);
});
