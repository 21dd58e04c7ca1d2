/**
 * Through the whole system: API → Raft → placed, on three processes, with simulated nodes. VMs, batch, simulated nodes.
 *
 * `npm run bench -- placing [VMS] [BATCH] [NODES]`. Three processes run the production replica (consensus thread, log with
 * fsync, tables), the scheduler's loop and the API over a unix socket; the simulated nodes are rows, and no agent starts
 * anything: a VM counts when its placement is applied on the node that was asked.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newSecret } from "../../src/base/ids.ts";
import { createClient } from "../../src/base/rpc-client.ts";
import { chainOf, createCa, createKeyAndRequest, issue } from "../../src/cluster/certificates.ts";
import type { BenchNode, FromNode, ToNode } from "./placing/node.ts";

const [vms = 20_000, batch = 500, nodes = 1_000] = process.argv.slice(2).map(Number);
const AT_ONCE = 4;

interface Running {
  name: string;
  socket: string;
  process: ChildProcess;
  leading: boolean;
  placed: number;
  measured: Promise<FromNode & { kind: "measured" }>;
}

const folder = await mkdtemp(join(tmpdir(), "roost-bench-placing-"));
const running: Running[] = [];
const ready = new Set<string>();
let wake: () => void = () => {};
try {
  await main();
} finally {
  for (const node of running) node.process.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
}

async function main(): Promise<void> {
  await start();
  const leader = await leaderOf();
  const client = createClient({ endpoints: [leader.socket] });
  const create = async (prefix: string, first: number, count: number): Promise<void> => {
    const definitions = Array.from({ length: count }, (_, i) => ({
      name: `${prefix}${first + i}`,
      cpus: 1 + ((first + i) % 4),
      memoryMib: 256 * (1 + ((first + i) % 8)),
      arch: "x86_64",
    }));
    await client.call(
      "VmService",
      "CreateVm",
      { definitions, hold: false, stopped: false, plan: false, node: "", requestId: "" },
      { timeoutMs: 60_000 },
    );
  };
  // Warm: what is measured is code that has been compiled.
  await create("warm", 0, 500);
  await until(() => leader.placed >= 500);

  for (const node of running) say(node, { kind: "begin" });
  const began = performance.now();
  let next = 0;
  let accepted = 0;
  const calls = Array.from({ length: AT_ONCE }, async () => {
    for (let first = next; first < vms; first = next) {
      next += batch;
      await create("v", first, Math.min(batch, vms - first));
    }
  });
  await Promise.all(calls);
  accepted = performance.now() - began;
  await until(() => leader.placed >= 500 + vms);
  const seconds = (performance.now() - began) / 1_000;
  for (const node of running) say(node, { kind: "measure" });
  const measured = await Promise.all(running.map((node) => node.measured));

  console.log(`${vms} VMs in calls of ${batch}, ${AT_ONCE} at once; ${nodes} nodes; 3 voters`);
  console.log(
    `placed      ${Math.round(vms / seconds)} VMs/s (${seconds.toFixed(2)} s; accepted after ${(accepted / 1_000).toFixed(2)} s)`,
  );
  for (const [i, node] of running.entries()) {
    const { cpuMs, proposals, profile } = measured[i]!;
    const role = node === leader ? "leader" : "follower";
    console.log(`\n${node.name} (${role}): ${((cpuMs / vms) * 1_000).toFixed(1)} µs CPU a VM, all threads`);
    if (proposals.count > 0)
      console.log(
        `  ${proposals.count} plans of ${Math.round(proposals.vms / proposals.count)} VMs, ${(proposals.ms / proposals.count).toFixed(1)} ms from proposed to applied`,
      );
    for (const [room, ms] of profile.slice(0, node === leader ? 16 : 6))
      console.log(`  ${((ms / vms) * 1_000).toFixed(1).padStart(7)} µs  ${room}`);
  }
  client.close();
}

async function start(): Promise<void> {
  const ca = await createCa({ clusterId: "bench", nowMs: Date.now(), serial: newSecret(16) });
  const ids = ["n1", "n2", "n3"];
  const peers = await Promise.all(ids.map(async (nodeId, i) => ({ nodeId, peerId: i + 1, address: `127.0.0.1:${await freePort()}` })));
  const memoryMib = 1024 * Math.ceil((vms * 1_152 * 2) / nodes / 1024);
  for (const peer of peers) {
    const { keyPem, requestPem } = await createKeyAndRequest();
    const subject = { kind: "node", nodeId: peer.nodeId } as const;
    const leaf = await issue(ca, requestPem, {
      subject,
      names: ["127.0.0.1"],
      nowMs: Date.now(),
      ttlMs: 86_400_000,
      serial: newSecret(16),
    });
    const config: BenchNode = {
      id: peer.nodeId,
      peerId: peer.peerId,
      address: peer.address,
      folder: join(folder, peer.nodeId),
      socket: join(folder, `${peer.nodeId}.sock`),
      identity: { ca: ca.certificatePem, cert: chainOf(leaf, ca.certificatePem), key: keyPem },
      peers,
      simulated: { nodes, cpus: 64, memoryMib: Math.max(16_384, memoryMib) },
    };
    running.push(launch(config));
  }
  await until(() => running.every((node) => ready.has(node.name)));
}

function launch(config: BenchNode): Running {
  const child = fork(join(import.meta.dirname, "placing", "node.ts"), [JSON.stringify(config)], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  let resolveMeasured: (measured: FromNode & { kind: "measured" }) => void = () => {};
  const node: Running = {
    name: config.id,
    socket: config.socket,
    process: child,
    leading: false,
    placed: 0,
    measured: new Promise((resolve) => (resolveMeasured = resolve)),
  };
  child.on("message", (message: FromNode) => {
    if (message.kind === "ready") ready.add(node.name);
    if (message.kind === "leading") node.leading = message.leading;
    if (message.kind === "placed") node.placed = message.vms;
    if (message.kind === "measured") resolveMeasured(message);
    wake();
  });
  child.on("exit", (code) => {
    if (code !== null && code !== 0) throw new Error(`${config.id} ended with code ${code}`);
  });
  return node;
}

async function leaderOf(): Promise<Running> {
  await until(() => running.some((node) => node.leading));
  return running.find((node) => node.leading)!;
}

function say(node: Running, message: ToNode): void {
  node.process.send(message);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise<void>((resolve) => (wake = resolve));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
