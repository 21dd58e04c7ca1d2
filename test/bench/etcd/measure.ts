/** The load generator, and what /proc tells of the members while it runs. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { run } from "../../../scripts/lab/run.ts";
import { flags, type Member, type Members } from "./members.ts";

const execute = promisify(execFile);

/** What the comparison needs from Debian: etcd itself (3.4.23 in Debian 12), and a Go compiler with gRPC for the load generator. */
const PACKAGES = ["etcd-server", "etcd-client", "golang-go", "golang-google-grpc-dev"];

const MS_PER_TICK = 10;

export interface Load {
  mode: "put" | "get";
  clients: number;
  /** Connections that the clients share. */
  conns: number;
  seconds: number;
  warm: number;
  size: number;
  keys?: number;
  prefix?: string;
}

export interface LoadResult {
  ops: number;
  errors: number;
  lastError?: string;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  maxGapMs: number;
}

/** Installs what is missing (as root) and builds the load generator; gives its path. */
export async function prepare(): Promise<string> {
  const asked = await execute("dpkg-query", ["-W", "-f=${Package} ${db:Status-Status}\n", ...PACKAGES]).catch((thrown: unknown) => ({
    stdout: String((thrown as { stdout?: string }).stdout ?? ""),
  }));
  const missing = PACKAGES.filter((name) => !asked.stdout.includes(`${name} installed`));
  if (missing.length > 0) {
    process.stdout.write(`installing ${missing.join(" ")}\n`);
    const install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", ...missing];
    const options = { timeoutMs: 600_000, env: { DEBIAN_FRONTEND: "noninteractive" } };
    await run(install, options).catch(async () => {
      await run(["apt-get", "update", "-q"], options);
      await run(install, options);
    });
  }
  const folder = join(tmpdir(), "roost-bench-etcd-build");
  mkdirSync(folder, { recursive: true });
  const binary = join(folder, "load");
  const env = { GO111MODULE: "off", GOPATH: "/usr/share/gocode", GOCACHE: join(folder, "cache"), GOFLAGS: "" };
  await run(["go", "build", "-o", binary, join(import.meta.dirname, "main.go")], { timeoutMs: 300_000, env });
  return binary;
}

export async function load(binary: string, members: Members, targets: readonly Member[], plan: Load): Promise<LoadResult> {
  const { mode, clients, conns, seconds, warm, size, keys = 1_000, prefix = "bench/" } = plan;
  const targetList = targets.map(({ target }) => target).join(",");
  const words = [...members.clientArgs, ...flags({ targets: targetList, mode, clients, conns, seconds, warm, size, keys, prefix })];
  const { stdout } = await execute(binary, words, { timeout: (plan.seconds + plan.warm + 60) * 1_000 });
  const result = JSON.parse(stdout) as LoadResult;
  if (result.ops === 0) throw new Error(`${members.kind}: nothing was acknowledged: ${result.lastError ?? "no error either"}`);
  return result;
}

/** kill -9 of the leader by the load generator itself; ms until a survivor acknowledges a put that began after it. */
export async function failover(binary: string, members: Members): Promise<number> {
  const leader = await members.leader();
  const survivors = members.members.filter((member) => member !== leader);
  const targets = survivors.map(({ target }) => target).join(",");
  const words = [...members.clientArgs, ...flags({ targets, mode: "failover", kill: leader.pid() })];
  const { stdout } = await execute(binary, words, { timeout: 60_000 });
  await leader.restart();
  return (JSON.parse(stdout) as { ms: number }).ms;
}

/** CPU time that all members have used so far, user and system, ms. */
export function cpuMs(members: Members): number {
  let ticks = 0;
  for (const member of members.members) {
    for (const pid of member.pids()) {
      // After the command's name in brackets, which may hold anything: field 14 and 15 of the line are 11 and 12 from there.
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
      ticks += Number(fields[11]) + Number(fields[12]);
    }
  }
  return ticks * MS_PER_TICK;
}

/** Resident memory of one process, MB. */
export function rssMb(pid: number): number {
  if (!existsSync(`/proc/${pid}`)) return NaN;
  const kb = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kb) / 1_024;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] ?? NaN) : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}
