/** Real agents on loopback with simulated VMs, put under load through roost.v1.Bench. */
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

const run = promisify(execFile);

interface BenchClient {
  put(key: string, value: Buffer): Promise<void>;
  has(key: string): Promise<boolean>;
}

/** How a row of puts went: times between two that were acknowledged, ms. */
export interface Gaps {
  count: number;
  longestMs: number;
  p99Ms: number;
}

export class BenchAgents {
  readonly root: string;
  readonly #agents = new Map<string, ChildProcess>();
  readonly #env: (name: string) => Record<string, string>;

  private constructor(root: string, extra: (name: string) => Record<string, string>) {
    this.root = root;
    this.#env = extra;
  }

  /** Three voters, with the Bench service switched on. `extra`: environment of an agent. */
  static async create(extra: (name: string) => Record<string, string> = () => ({})): Promise<BenchAgents> {
    const agents = new BenchAgents(await mkdtemp(join(tmpdir(), "roost-bench-agents-")), extra);
    try {
      agents.start("n1", "up", "--name", "n1", "--listen", `127.0.0.1:${await freePort()}`);
      await waitFor("n1", async () => (await agents.cli("n1", "node", "list").catch(() => "")).includes("ready"), 90_000);
      await agents.cli("n1", "settings", "set", "bench.enabled", "true");
      for (const name of ["n2", "n3"]) {
        const { token } = JSON.parse(await agents.cli("n1", "token", "create", "-o", "json")) as { token: string };
        agents.start(name, "join", token, "--name", name, "--listen", `127.0.0.1:${await freePort()}`);
      }
      const voters = async (): Promise<boolean> => (await agents.cli("n1", "node", "list")).match(/ready.*(leader|voter)/g)?.length === 3;
      await waitFor("three voters", voters, 120_000);
      return agents;
    } catch (thrown) {
      await agents.close();
      throw thrown;
    }
  }

  dataOf(name: string): string {
    return join(this.root, name);
  }

  pidOf(name: string): number {
    return this.#agents.get(name)?.pid ?? 0;
  }

  async logOf(name: string): Promise<string> {
    return await readFile(join(this.root, `${name}.log`), "utf8");
  }

  start(name: string, ...args: string[]): void {
    const [command = "", ...words] = roostCommand();
    words.push(...args, "--data", this.dataOf(name), "--foreground");
    const log = openSync(join(this.root, `${name}.log`), "a");
    this.#agents.set(name, spawn(command, words, { stdio: ["ignore", log, log], env: { ...this.#envOf(name), ...this.#env(name) } }));
  }

  kill(name: string): void {
    this.#agents.get(name)?.kill("SIGKILL");
  }

  async cli(name: string, ...args: string[]): Promise<string> {
    const [command = "", ...words] = roostCommand();
    words.push(...args);
    return (await run(command, words, { env: this.#envOf(name) })).stdout;
  }

  bench(name: string): BenchClient {
    const client = new services.v1.Bench(`unix:${join(this.dataOf(name), "roost.sock")}`, grpc.credentials.createInsecure());
    const deadline = (): { deadline: Date } => ({ deadline: new Date(Date.now() + 20_000) });
    return {
      put: (key, value) =>
        new Promise((resolve, reject) => {
          client.Put({ key, value }, deadline(), (error) => (error === null ? resolve() : reject(error)));
        }),
      has: (key) =>
        new Promise((resolve) => {
          client.Get({ key, stale: true }, deadline(), (error, got) => resolve(error === null && got?.found === true));
        }),
    };
  }

  /** Puts 100 bytes at a time through a node until `over`. */
  async puts(name: string, over: () => boolean): Promise<Gaps> {
    const bench = this.bench(name);
    const gaps: number[] = [];
    let lastMs = performance.now();
    for (let i = 0; !over(); i++) {
      await bench.put(`small-${i % 100}`, Buffer.alloc(100, i));
      const nowMs = performance.now();
      gaps.push(nowMs - lastMs);
      lastMs = nowMs;
    }
    gaps.sort((a, b) => a - b);
    return { count: gaps.length, longestMs: gaps.at(-1) ?? NaN, p99Ms: gaps[Math.floor(gaps.length * 0.99)] ?? NaN };
  }

  async close(): Promise<void> {
    for (const name of this.#agents.keys()) {
      for (const { pid } of processesOfFolder(this.dataOf(name))) process.kill(pid, "SIGKILL");
    }
    for (const agent of this.#agents.values()) agent.kill("SIGKILL");
    await rm(this.root, { recursive: true, force: true });
  }

  #envOf(name: string): NodeJS.ProcessEnv {
    return { ...process.env, ROOST_DATA: this.dataOf(name), ROOST_DRIVER: "simulated", ROOST_GUARDIAN: "none" };
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
