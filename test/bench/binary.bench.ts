/** Size, start-up and memory of dist/roost (or of the binary given as argument). */
import { execFileSync, spawnSync } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { performance } from "node:perf_hooks";
import { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { KeeperClient } from "../../src/agent/keeper/client.ts";
import { ensureKeeper } from "../../src/agent/keeper/process.ts";
import { silentLogger } from "../../src/base/log.ts";

const RUNS = 21;
const KEPT_VMS = 50;
const KEEPER_BEATS = 400;
const BINARY = resolve(process.argv[2] ?? join(import.meta.dirname, "../../dist/roost"));

interface Run {
  wallMs: number;
  cpuMs: number;
  /** Peak resident memory, file pages shared with other processes included. */
  peakMb: number;
}

/** GNU time tells the kernel's account of one ended child; Node tells it of itself only. */
const HAS_TIME = spawnSync("/usr/bin/time", ["--version"]).error === undefined;

function run(args: string[]): Run {
  const command = HAS_TIME ? ["/usr/bin/time", "-f", "%U %S %M", BINARY, ...args] : [BINARY, ...args];
  const beforeMs = performance.now();
  const { status, stderr, error } = spawnSync(command[0] ?? "", command.slice(1), { encoding: "utf8" });
  const wallMs = performance.now() - beforeMs;
  if (error !== undefined || status !== 0) throw error ?? new Error(`${command.join(" ")}: exit ${status}: ${stderr}`);
  const [user, system, peak] = HAS_TIME ? (stderr.trim().split("\n").at(-1) ?? "").split(" ").map(Number) : [];
  return { wallMs, cpuMs: ((user ?? NaN) + (system ?? NaN)) * 1000, peakMb: (peak ?? NaN) / 1024 };
}

/** A keeper that answers for some VMs for a while: the process that must stay small. */
async function keeperMemory(): Promise<string> {
  const dataDir = mkdtempSync(join(tmpdir(), "roost-bench-"));
  const log = silentLogger;
  await ensureKeeper({ dataDir, command: [BINARY, "keeper", "--data", dataDir, "--guardian", "file"], limitMs: 10_000, log });
  const keeper = new KeeperClient({ dataDir });
  const claims = Array.from({ length: KEPT_VMS }, (_, i) => ({ vmId: `vm-${i}`, generation: 1 }));
  const recipe = { kind: "libvirt", socketPath: "/nowhere", uri: "qemu:///system", uuid: "00000000", processMark: "none" } as const;
  const { pid } = await keeper.list();
  for (let i = 0; i < KEEPER_BEATS; i++) {
    const beat = await keeper.beat();
    await keeper.ack({ ...beat, grantedMs: 4_000, claimRevision: 1, claims: i === 0 ? claims : null });
    if (i === 0) for (const claim of claims) await keeper.register({ ...claim, revision: 1, deadline: false, recipe });
    await keeper.list();
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const mib = (name: string): string => (Number(new RegExp(`^${name}: +(\\d+) kB`, "m").exec(rollup)?.[1]) / 1024).toFixed(1);
  const text = `resident ${mib("Rss")} MiB, its share ${mib("Pss")} MiB, anonymous ${mib("Anonymous")} MiB; ${KEPT_VMS} VMs, ${KEEPER_BEATS} heartbeats`;
  keeper.close();
  process.kill(pid, "SIGKILL");
  rmSync(dataDir, { recursive: true });
  return text;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

async function gzippedBytes(path: string): Promise<number> {
  let total = 0;
  const count = new Writable({
    write(chunk: Uint8Array, _encoding, done): void {
      total += chunk.length;
      done();
    },
  });
  await pipeline(createReadStream(path), createGzip({ level: 6 }), count);
  return total;
}

if (!existsSync(BINARY)) throw new Error(`${BINARY} does not exist: run \`npm run build\``);
const startedMs = performance.now();
process.stdout.write(`${execFileSync(BINARY, ["--version"], { encoding: "utf8" })}`);
process.stdout.write(
  `size             ${(statSync(BINARY).size / 1e6).toFixed(1)} MB, gzip ${((await gzippedBytes(BINARY)) / 1e6).toFixed(1)} MB\n`,
);
for (const args of [["--version"], ["--help"]]) {
  const runs = Array.from({ length: RUNS }, () => run(args));
  const wall = runs.map(({ wallMs }) => wallMs);
  const line = [
    `median ${median(wall).toFixed(0)} ms (${Math.min(...wall).toFixed(0)} to ${Math.max(...wall).toFixed(0)})`,
    ...(HAS_TIME
      ? [
          `CPU ${median(runs.map(({ cpuMs }) => cpuMs)).toFixed(0)} ms`,
          `peak resident ${median(runs.map(({ peakMb }) => peakMb)).toFixed(0)} MB`,
        ]
      : ["CPU and memory need /usr/bin/time (package time)"]),
  ];
  process.stdout.write(`${args.join(" ").padEnd(16)} ${line.join(", ")}; ${RUNS} runs\n`);
}
process.stdout.write(`keeper           ${await keeperMemory()}\n`);
process.stdout.write(`took ${((performance.now() - startedMs) / 1000).toFixed(0)} s\n`);
