/**
 * Commits go on while a checkpoint of a large state is given away: three agents, one of which was away until the log no longer
 * reached back to it. Prints the longest time without a commit before and during its return.
 *   npm run bench -- checkpoint [MB of state, default 200]
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { openSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { roostCommand } from "../../scripts/lab/agent.ts";
import { processesOfFolder } from "../../scripts/lab/processes.ts";
import { waitFor } from "../../scripts/lab/wait.ts";
import { services } from "../../src/base/rpc.ts";

const MB = Number(process.argv[2] ?? 200);
const ROW_BYTES = 48 * 1024;
const QUIET_MS = 5_000;
const run = promisify(execFile);
const root = await mkdtemp(join(tmpdir(), "roost-checkpoint-bench-"));
const agents = new Map<string, ChildProcess>();

const dataOf = (name: string): string => join(root, name);
const env = (name: string): NodeJS.ProcessEnv => ({
  ...process.env,
  ROOST_DATA: dataOf(name),
  ROOST_DRIVER: "simulated",
  ROOST_GUARDIAN: "none",
});

async function cli(name: string, ...args: string[]): Promise<string> {
  const [command = "", ...words] = roostCommand();
  words.push(...args);
  return (await run(command, words, { env: env(name) })).stdout;
}

function start(name: string, ...args: string[]): void {
  const [command = "", ...words] = roostCommand();
  words.push(...args, "--foreground");
  const log = openSync(join(root, `${name}.log`), "a");
  agents.set(name, spawn(command, words, { stdio: ["ignore", log, log], env: env(name) }));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

function benchOf(name: string): { put(key: string, value: Buffer): Promise<void>; has(key: string): Promise<boolean> } {
  const client = new services.v1.Bench(`unix:${join(dataOf(name), "roost.sock")}`, grpc.credentials.createInsecure());
  const deadline = (): { deadline: Date } => ({ deadline: new Date(Date.now() + 20_000) });
  return {
    put: (key, value) =>
      new Promise((resolve, reject) => client.Put({ key, value }, deadline(), (error) => (error === null ? resolve() : reject(error)))),
    has: (key) =>
      new Promise((resolve) =>
        client.Get({ key, stale: true }, deadline(), (error, got) => resolve(error === null && got?.found === true)),
      ),
  };
}

/** Puts one after the other until `over`; the longest time between two that were acknowledged, and how many. */
async function puts(name: string, over: () => boolean): Promise<{ gapMs: number; count: number; p99Ms: number }> {
  const bench = benchOf(name);
  const gaps: number[] = [];
  let lastMs = performance.now();
  for (let i = 0; !over(); i++) {
    await bench.put(`small-${i % 100}`, Buffer.alloc(100, i));
    const nowMs = performance.now();
    gaps.push(nowMs - lastMs);
    lastMs = nowMs;
  }
  gaps.sort((a, b) => a - b);
  return { gapMs: gaps.at(-1) ?? NaN, count: gaps.length, p99Ms: gaps[Math.floor(gaps.length * 0.99)] ?? NaN };
}

try {
  start("n1", "up", "--name", "n1", "--listen", `127.0.0.1:${await freePort()}`, "--data", dataOf("n1"));
  await waitFor("n1", async () => (await cli("n1", "node", "list").catch(() => "")).includes("ready"), 30_000);
  await cli("n1", "settings", "set", "bench.enabled", "true");
  for (const name of ["n2", "n3"]) {
    const token = (await cli("n1", "token", "create", "-o", "json").then((text) => JSON.parse(text) as { token: string })).token;
    start(name, "join", token, "--name", name, "--listen", `127.0.0.1:${await freePort()}`, "--data", dataOf(name));
  }
  await waitFor("three voters", async () => (await cli("n1", "node", "list")).match(/ready.*(leader|voter)/g)?.length === 3, 60_000);

  agents.get("n3")?.kill("SIGKILL");
  const filledMs = performance.now();
  const bench = benchOf("n1");
  let next = 0;
  const rows = Math.ceil((MB * 1e6) / ((ROW_BYTES * 4) / 3));
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      while (next < rows) await bench.put(`large-${next++}`, Buffer.alloc(ROW_BYTES, next));
    }),
  );
  process.stdout.write(`${rows} rows, ${MB} MB of state, in ${((performance.now() - filledMs) / 1000).toFixed(1)} s\n`);

  const quietEndMs = performance.now() + QUIET_MS;
  const before = await puts("n1", () => performance.now() > quietEndMs);
  process.stdout.write(`before: ${before.count} puts, p99 ${before.p99Ms.toFixed(1)} ms, longest gap ${before.gapMs.toFixed(1)} ms\n`);

  const beganMs = performance.now();
  let back = false;
  start("n3", "up", "--data", dataOf("n3"));
  const away = benchOf("n3");
  const watching = waitFor("n3 has all", async () => await away.has(`large-${rows - 1}`), 120_000, { everyMs: 100 }).then(
    () => (back = true),
  );
  const during = await puts("n1", () => back);
  await watching;
  process.stdout.write(
    `during: ${during.count} puts, p99 ${during.p99Ms.toFixed(1)} ms, longest gap ${during.gapMs.toFixed(1)} ms; n3 back after ${((performance.now() - beganMs) / 1000).toFixed(1)} s\n`,
  );
  const log = await readFile(join(root, "n3.log"), "utf8");
  process.stdout.write(
    `${log
      .split("\n")
      .filter((line) => /checkpoint/.test(line))
      .join("\n")}\n`,
  );
  for (const name of ["n1", "n3"]) {
    const pid = agents.get(name)?.pid;
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    process.stdout.write(`${name}: ${/VmHWM:.*/.exec(status)?.[0]}, ${/VmRSS:.*/.exec(status)?.[0]}\n`);
  }
} finally {
  for (const name of ["n1", "n2", "n3"]) for (const { pid } of processesOfFolder(dataOf(name))) process.kill(pid, "SIGKILL");
  for (const agent of agents.values()) agent.kill("SIGKILL");
  if (process.env["ROOST_KEEP"] === undefined) await rm(root, { recursive: true, force: true });
}
