/**
 * How long until all VMs of a dead node run elsewhere: three real agents with simulated VMs. VMs, follower or leader.
 *
 * `npm run bench -- recovery [VMS] [follower|leader]`. Agents on loopback, from dist/roost if it is there; kill -9 of all processes of the node that has
 * all VMs. Its guardian would be somebody who reads a file: here whoever kills is sure. Times are by the recovery's own time lines
 * (`roost ha show`), on one machine's wall clock.
 */
import { loadavg } from "node:os";
import { join } from "node:path";
import { processesOfFolder } from "../../scripts/lab/processes.ts";
import { waitFor } from "../../scripts/lab/wait.ts";
import { createClient, type RpcClient } from "../../src/base/rpc-client.ts";
import type { Failover__Output } from "../../src/gen/types/roost/v1/Failover.ts";
import { BenchAgents } from "../support/bench-agents.ts";

const vms = Number(process.argv[2] ?? 500);
const leaderDies = process.argv[3] === "leader";
const LIMIT_MS = 180_000;
const CALL = { timeoutMs: 10_000 };

const STEPS: [string, (one: Failover__Output) => number][] = [
  ["planned", (one) => one.plannedMs],
  ["being started", (one) => one.startedMs],
  ["observed running", (one) => one.runningMs],
];

const agents = await BenchAgents.create(() => ({ ROOST_GUARDIAN: "file" }));
try {
  await main();
} finally {
  await agents.close();
}

async function main(): Promise<void> {
  const client = createClient({ endpoints: ["n1", "n2", "n3"].map((name) => join(agents.dataOf(name), "roost.sock")), connectMs: 500 });
  const { nodes } = await client.call("NodeService", "ListNodes", {}, CALL);
  const victim = nodes.find((node) => node.leader === leaderDies)!.name;
  // All VMs go to the one node that is enabled.
  const others = nodes.filter((node) => node.name !== victim).map((node) => node.name);
  for (const node of others) await client.call("NodeService", "DisableNode", { node, requestId: "" }, CALL);
  const definitions = Array.from({ length: vms }, (_, i) => ({ name: `v${i}`, cpus: 1, memoryMib: 16 }));
  const began = performance.now();
  await client.call("VmService", "CreateVm", { definitions, requestId: "" }, { timeoutMs: 60_000 });
  await waitFor("all VMs to run", async (saw) => (saw(await running(client)), (await running(client)) === vms), LIMIT_MS, { everyMs: 500 });
  console.log(
    `${vms} VMs run on ${victim} (${leaderDies ? "leader" : "follower"}); created and started in ${seconds(performance.now() - began)}`,
  );
  for (const node of others) await client.call("NodeService", "EnableNode", { node, requestId: "" }, CALL);

  const killedMs = Date.now();
  for (const { pid } of processesOfFolder(agents.dataOf(victim))) process.kill(pid, "SIGKILL");
  const moved = await waitFor(
    "all VMs to run elsewhere",
    async (saw) => {
      const over = (await failovers(client)).filter((one) => one.fromNode === victim && one.proofMs >= killedMs && one.runningMs > 0);
      saw(over.length);
      return over.length === vms ? over : null;
    },
    LIMIT_MS,
    { everyMs: 500 },
  );
  client.close();
  const proofMs = Math.min(...moved.map((one) => one.proofMs));
  console.log(`load ${loadavg()[0]!.toFixed(1)}; kill to proof ${seconds(proofMs - killedMs)}`);
  for (const [what, of] of STEPS) {
    const times = moved.map(of).toSorted((a, b) => a - b);
    const at = (share: number): string => seconds(times[Math.ceil(share * times.length) - 1]! - proofMs);
    console.log(
      `proof to ${what.padEnd(30)} first ${at(1e-9)}, half ${at(0.5)}, all ${at(1)}; all after the kill: ${seconds(times.at(-1)! - killedMs)}`,
    );
  }
}

async function failovers(client: RpcClient): Promise<Failover__Output[]> {
  return (await client.call("ClusterService", "ListFailovers", {}, CALL)).failovers;
}

async function running(client: RpcClient): Promise<number> {
  let count = 0;
  let pageToken = "";
  do {
    const page = await client.call("VmService", "ListVms", { pageToken }, CALL);
    count += page.vms.filter((vm) => vm.state === "running").length;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return count;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`;
}
