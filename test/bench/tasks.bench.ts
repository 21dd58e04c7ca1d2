/**
 * Tasks through the whole engine: three real agents with simulated VMs. openSession.
 *
 * `npm run bench -- tasks [SESSIONS]`. API → Raft → scheduler → orchestrator → worker → answers, with logs that are fsynced; the simulated
 * driver takes no time, so what is measured is the engine. All of it shares the CPUs of one machine.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { createClient, type RpcClient } from "../../src/base/rpc-client.ts";
import type { Task } from "../../src/model/task.ts";
import { State } from "../../src/state/state.ts";
import { BenchAgents } from "../support/bench-agents.ts";
import { CommandLog } from "../state/log.ts";

const [sessions = 16] = process.argv.slice(2).map(Number);
const LIMIT_MS = 120_000;

const agents = await BenchAgents.create(() => ({ ROOST_SIMULATED_CPUS: "64", ROOST_MEMORY: "262144" }));
try {
  await main();
} finally {
  await agents.close();
}
memory();

async function main(): Promise<void> {
  const client = createClient({ endpoints: [join(agents.dataOf("n1"), "roost.sock")] });
  await agents.cli("n1", "settings", "set", "openSession", String(sessions));
  await rate(client, "warm", 50, false);
  for (const count of [1, 100, 1_000]) await rate(client, `vm${count}`, count, true);
  await createWhileBusy(client);
  client.close();
}

/** Deploys, then deletes. */
async function rate(client: RpcClient, prefix: string, count: number, tell: boolean): Promise<void> {
  const names = Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
  for (const action of ["deploy", "delete"] as const) {
    const fromMs = performance.now();
    if (action === "deploy") await create(client, names);
    else for (const name of names) await client.call("VmService", "DeleteVm", { vm: name, requestId: "" }, { timeoutMs: LIMIT_MS });
    await until(client, 0);
    const seconds = (performance.now() - fromMs) / 1_000;
    if (tell)
      process.stdout.write(
        `${action} of ${count}: ${seconds.toFixed(2)} s, ${(count / seconds).toFixed(0)} tasks/s (openSession ${sessions}, 3 nodes)\n`,
      );
  }
}

async function create(client: RpcClient, names: readonly string[]): Promise<void> {
  for (let i = 0; i < names.length; i += 500) {
    const definitions = names
      .slice(i, i + 500)
      .map((name) => ({ name, cpus: 1, memoryMib: 64, arch: process.arch === "arm64" ? "aarch64" : "x86_64" }));
    await client.call("VmService", "CreateVm", { definitions, requestId: "" }, { timeoutMs: LIMIT_MS });
  }
}

async function openTasks(client: RpcClient, limit: number): Promise<number> {
  const { tasks } = await client.call("TaskService", "ListTasks", { states: ["open"], pageSize: limit }, { timeoutMs: LIMIT_MS });
  return tasks.length;
}

async function until(client: RpcClient, left: number): Promise<void> {
  const deadlineMs = performance.now() + LIMIT_MS;
  while ((await openTasks(client, left + 1)) > left) {
    if (performance.now() > deadlineMs) throw new Error("the tasks did not end in time");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** How long `Create` takes while others' tasks are under way. */
async function createWhileBusy(client: RpcClient): Promise<void> {
  await agents.cli("n1", "settings", "set", "openSession", "1");
  await create(
    client,
    Array.from({ length: 1_000 }, (_, i) => `busy-${i}`),
  );
  const times: number[] = [];
  let open = await openTasks(client, 1_000);
  const before = open;
  for (let i = 0; i < 400 && open >= 200; i++) {
    const fromMs = performance.now();
    await create(client, [`one-${i}`]);
    times.push(performance.now() - fromMs);
    if (i % 20 === 19) open = await openTasks(client, 1_000);
  }
  times.sort((a, b) => a - b);
  const at = (part: number): string => (times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? NaN).toFixed(1);
  process.stdout.write(
    `Create with ${open} to ${before} tasks under way, one after the other, ${times.length} calls: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms\n`,
  );
}

/** What finished tasks take in a node's memory. */
function memory(): void {
  setFlagsFromString("--expose_gc");
  const gc = runInNewContext("gc") as () => void;
  const log = CommandLog.withNodes(1);
  log.running("v", "n1");
  const row = [...log.state.tasks.values()][0];
  if (row === undefined) throw new Error("no task");
  const steps = [
    "disk copy started",
    "disk copy finished",
    "disk made",
    "registered with the keeper",
    "domain defined",
    "claim confirmed",
    "CPUs resumed",
  ];
  const text = JSON.stringify({
    ...row,
    jobs: row.jobs.map((job) => ({ ...job, steps: steps.map((name) => ({ atMs: 1_700_000_000_000, name, detail: "" })) })),
  } satisfies Task);
  const state = new State();
  gc();
  const before = process.memoryUsage().heapUsed;
  const COUNT = 10_000;
  // As they come from the log or the database: parsed, nothing shared.
  for (let number = 1; number <= COUNT; number++) {
    const task = JSON.parse(text) as Task;
    state.write({ table: "tasks", key: `t${number}`, row: { ...task, id: `t${number}`, number, endedRevision: number } });
  }
  gc();
  const mib = (process.memoryUsage().heapUsed - before) / 2 ** 20;
  process.stdout.write(
    `${COUNT} finished tasks (3 jobs, 7 steps each): ${mib.toFixed(1)} MiB of heap, ${((text.length * COUNT) / 2 ** 20).toFixed(1)} MiB as JSON\n`,
  );
  if (state.tasks.size !== COUNT) throw new Error("rows are missing");
}
