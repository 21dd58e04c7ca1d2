/**
 * Roost's consensus and API side by side with etcd's: the same machine, the same Go client, interleaved pairs.
 *
 *   npm run bench -- etcd [--only load,failover,elections,memory,checkpoint,join,core] [--pairs 5] [--seconds 4] [--conns 1]
 *                         [--case NAME-PART] [--json FILE] [--prof FOLDER]
 *
 * Both sides: three members on loopback, a data folder each on one disk, mutual TLS between peers and with clients. Both clusters
 * stand at once, only one is under load. CPU is that of all its members; for roost agents and keepers.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { coreEntriesPerSecond } from "./etcd/core.ts";
import { cpuMs, failover, load, type Load, median, prepare, rssMb } from "./etcd/measure.ts";
import { type Members, type RoostMembers, startEtcd, startRoost, type Timing } from "./etcd/members.ts";

const SECTIONS = ["load", "failover", "elections", "memory", "checkpoint", "join", "core"] as const;
type Section = (typeof SECTIONS)[number];

const { values } = parseArgs({
  options: {
    only: { type: "string", default: SECTIONS.join(",") },
    pairs: { type: "string", default: "5" },
    trials: { type: "string", default: "10" },
    seconds: { type: "string", default: "4" },
    conns: { type: "string", default: "1" },
    case: { type: "string", default: "" },
    json: { type: "string" },
    prof: { type: "string" },
  },
});

const PAIRS = Number(values.pairs);
const TRIALS = Number(values.trials);
const SLOW: Timing = { heartbeatMs: 100, electionMs: 1_000 };
const FAST: Timing = { heartbeatMs: 10, electionMs: 100 };
const SMALL_BYTES = 100;

/** One line of the result: what was wanted, what each side did. */
interface Line {
  what: string;
  unit: string;
  etcd: number | null;
  roost: number;
  /** roost / etcd where there is an etcd. */
  ratio: number | null;
  goal: string;
  met: boolean;
}

const lines: Line[] = [];
const runs: object[] = [];

function record(
  what: string,
  unit: string,
  etcd: number | null,
  roost: number,
  goal: { ratio?: [">=" | "<=", number]; value?: [">=" | "<=", number] },
): void {
  const ratio = etcd === null ? null : roost / etcd;
  const [sign, limit] = goal.ratio ?? goal.value ?? [">=", 0];
  const measured = goal.ratio === undefined ? roost : (ratio ?? NaN);
  const met = sign === ">=" ? measured >= limit : measured <= limit;
  const text = goal.ratio === undefined ? `${sign === ">=" ? "≥" : "≤"} ${limit} ${unit}` : `${sign === ">=" ? "≥" : "≤"} ${limit}×`;
  const line = { what, unit, etcd, roost, ratio, goal: text, met };
  lines.push(line);
  print(line);
}

function print({ what, unit, etcd, roost, ratio, goal, met }: Line): void {
  const number = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3));
  const cells = [
    what.padEnd(40),
    (etcd === null ? "" : number(etcd)).padStart(9),
    number(roost).padStart(9),
    unit.padEnd(6),
    (ratio === null ? "" : `${ratio.toFixed(2)}×`).padStart(7),
    goal.padStart(16),
    met ? "met" : "MISSED",
  ];
  process.stdout.write(`${cells.join("  ")}\n`);
}

interface Case {
  name: string;
  plan: Load;
  goal: number;
}

/** Goals from the project's own list: puts and reads as parts of etcd's. */
function cases(): Case[] {
  const base = { conns: Number(values.conns), seconds: Number(values.seconds), warm: 1 };
  const put = (clients: number, size: number, goal: number): Case => ({
    name: `puts of ${size} B, ${clients} clients`,
    plan: { ...base, mode: "put", clients, size, conns: Math.min(clients, base.conns) },
    goal,
  });
  const get = (clients: number, goal: number): Case => ({
    name: `linearizable reads, ${clients} clients`,
    plan: { ...base, mode: "get", clients, size: SMALL_BYTES, conns: Math.min(clients, base.conns) },
    goal,
  });
  const all = [
    put(1, SMALL_BYTES, 1),
    put(64, SMALL_BYTES, 1.2),
    put(256, SMALL_BYTES, 1.1),
    put(64, 1_024, 1.1),
    put(256, 1_024, 1),
    get(1, 1),
    get(64, 0.9),
    get(256, 0.9),
  ];
  return all.filter(({ name }) => name.includes(values.case));
}

async function measureLoad(binary: string, root: string): Promise<void> {
  const both = [
    await startEtcd(root, SLOW),
    await startRoost(root, SLOW, values.prof === undefined ? {} : { nodeFlags: ["--cpu-prof", `--cpu-prof-dir=${values.prof}`] }),
  ] as const;
  try {
    // A server that has just started is not what is compared: Node compiles what is hot, both open their files.
    for (const members of both) {
      await load(binary, members, [await members.leader()], { mode: "put", clients: 64, conns: 1, seconds: 5, warm: 0, size: SMALL_BYTES });
      await load(binary, members, [await members.leader()], { mode: "get", clients: 64, conns: 1, seconds: 3, warm: 0, size: SMALL_BYTES });
    }
    for (const { name, plan, goal } of cases()) {
      const results = { etcd: [] as Sample[], roost: [] as Sample[] };
      for (let pair = 0; pair < PAIRS; pair++) {
        for (const members of pair % 2 === 0 ? both : both.toReversed()) {
          const leader = await members.leader();
          // Reads find something under each key.
          if (plan.mode === "get" && pair === 0)
            await load(binary, members, [leader], { ...plan, mode: "put", clients: 16, seconds: 1, warm: 0.2 });
          const sample = await sampled(binary, members, plan);
          results[members.kind].push(sample);
          runs.push({ case: name, pair, kind: members.kind, ...sample });
        }
      }
      const of = (kind: "etcd" | "roost", pick: (sample: Sample) => number): number => median(results[kind].map(pick));
      const compare = (what: string, unit: string, pick: (sample: Sample) => number, ratio: [">=" | "<=", number]): void =>
        record(`${name}${what}`, unit, of("etcd", pick), of("roost", pick), { ratio });
      compare("", "/s", ({ perSecond }) => perSecond, [">=", goal]);
      compare(", p99", "ms", ({ p99Ms }) => p99Ms, ["<=", 1.2]);
      compare(", CPU each", "ms", ({ cpuEachMs }) => cpuEachMs, ["<=", plan.mode === "put" ? 0.8 : Infinity]);
    }
  } finally {
    await Promise.all(both.map((members) => members.close()));
  }
}

interface Sample {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  errors: number;
  cpuEachMs: number;
}

async function sampled(binary: string, members: Members, plan: Load): Promise<Sample> {
  const leader = await members.leader();
  const beforeMs = cpuMs(members);
  const { perSecond, p50Ms, p99Ms, maxMs, errors, ops } = await load(binary, members, [leader], plan);
  // What ran to warm up has cost, too.
  const all = ops * (1 + plan.warm / plan.seconds);
  return { perSecond, p50Ms, p99Ms, maxMs, errors, cpuEachMs: (cpuMs(members) - beforeMs) / all };
}

async function measureFailover(binary: string, root: string): Promise<void> {
  for (const timing of [SLOW, FAST]) {
    const name = `${timing.heartbeatMs}/${timing.electionMs} ms`;
    const results = { etcd: [] as number[], roost: [] as number[] };
    const both = [await startEtcd(mkdtempSync(join(root, "f")), timing), await startRoost(mkdtempSync(join(root, "f")), timing)] as const;
    try {
      for (let trial = 0; trial < TRIALS; trial++) {
        for (const members of both) {
          const ms = await failover(binary, members);
          results[members.kind].push(ms);
          runs.push({ case: `failover ${name}`, trial, kind: members.kind, ms });
        }
      }
    } finally {
      await Promise.all(both.map((members) => members.close()));
    }
    record(`leader killed → next put, ${name}`, "ms", median(results.etcd), median(results.roost), { ratio: ["<=", 1] });
    process.stdout.write(`  longest: etcd ${Math.max(...results.etcd).toFixed(0)} ms, roost ${Math.max(...results.roost).toFixed(0)} ms\n`);
  }
}

/** 60 s of 64 writers at 10/100 ms: no leader may change. */
async function measureElections(binary: string, root: string): Promise<void> {
  const members = await startRoost(root, FAST);
  try {
    const before = await members.term();
    const { maxGapMs } = await load(binary, members, [await members.leader()], {
      mode: "put",
      clients: 64,
      conns: 1,
      seconds: 60,
      warm: 1,
      size: SMALL_BYTES,
    });
    record("elections in 60 s of 64 clients at 10/100", "", null, (await members.term()) - before, { value: ["<=", 0] });
    record("longest gap between acknowledged puts there", "ms", null, maxGapMs, { value: ["<=", 100] });
  } finally {
    await members.close();
  }
}

const ROWS = 100_000;

async function measureMemory(binary: string, root: string): Promise<void> {
  const members = await startRoost(root, SLOW);
  try {
    const largest = (): number => Math.max(...members.members.map((member) => rssMb(member.pid())));
    await sleep(10_000);
    record("RSS of an idle voter", "MB", null, largest(), { value: ["<=", 110] });
    await fill(binary, members, ROWS, SMALL_BYTES);
    await sleep(10_000);
    record(`RSS with ${ROWS} rows of ${SMALL_BYTES} B`, "MB", null, largest(), { value: ["<=", 200] });
  } finally {
    await members.close();
  }
}

const STATE_BYTES = 200e6;
const ROW_BYTES = 10_000;

/** Writes go on while a node joins a cluster whose state has 200 MB: it needs a checkpoint. */
async function measureCheckpoint(binary: string, root: string): Promise<void> {
  const members = await startRoost(root, SLOW);
  try {
    await fill(binary, members, STATE_BYTES / ROW_BYTES, ROW_BYTES);
    const { writing, joinedMs } = await joinUnderLoad(binary, members);
    const { maxGapMs } = await writing;
    record("longest commit gap, checkpoint of 200 MB", "ms", null, maxGapMs, { value: ["<=", 100] });
    process.stdout.write(`  the node that took it was ready after ${(joinedMs / 1_000).toFixed(1)} s\n`);
  } finally {
    await members.close();
  }
}

async function measureJoin(binary: string, root: string): Promise<void> {
  const members = await startRoost(root, SLOW, { members: 4 });
  try {
    const { writing, joinedMs } = await joinUnderLoad(binary, members);
    await writing;
    record("fifth node joins under 64 clients", "s", null, joinedMs / 1_000, { value: ["<=", 20] });
  } finally {
    await members.close();
  }
}

async function joinUnderLoad(binary: string, members: RoostMembers): Promise<{ writing: ReturnType<typeof load>; joinedMs: number }> {
  const leader = await members.leader();
  const writing = load(binary, members, [leader], { mode: "put", clients: 64, conns: 1, seconds: 30, warm: 1, size: SMALL_BYTES });
  await sleep(3_000);
  const beganMs = performance.now();
  await members.join();
  return { writing, joinedMs: performance.now() - beganMs };
}

/** At least so many rows, each under its own key. */
async function fill(binary: string, members: Members, rows: number, size: number): Promise<void> {
  let written = 0;
  while (written < rows) {
    const { ops } = await load(binary, members, [await members.leader()], {
      mode: "put",
      clients: 64,
      conns: 1,
      seconds: 5,
      warm: 0,
      size,
      keys: rows,
      prefix: `fill${written}/`,
    });
    written += ops;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function main(): Promise<void> {
  const wanted = new Set(values.only.split(","));
  const binary = await prepare();
  const measures: Record<Section, (root: string) => Promise<void>> = {
    load: (root) => measureLoad(binary, root),
    failover: (root) => measureFailover(binary, root),
    elections: (root) => measureElections(binary, root),
    memory: (root) => measureMemory(binary, root),
    checkpoint: (root) => measureCheckpoint(binary, root),
    join: (root) => measureJoin(binary, root),
    core: async () => {
      const best = (batch: number): number => median(Array.from({ length: PAIRS }, () => coreEntriesPerSecond(batch, 100_000)));
      record("core alone, three nodes, batches of 1", "/s", null, best(1), { value: [">=", 150_000] });
      record("core alone, three nodes, batches of 64", "/s", null, best(64), { value: [">=", 250_000] });
    },
  };
  process.stdout.write(`${"".padEnd(40)}  ${"etcd".padStart(9)}  ${"roost".padStart(9)}\n`);
  for (const section of SECTIONS) {
    if (!wanted.has(section)) continue;
    const root = mkdtempSync(join(tmpdir(), "roost-bench-etcd-"));
    await measures[section](root);
    rmSync(root, { recursive: true, force: true });
  }
  process.stdout.write(
    `${lines.filter(({ met }) => met).length} of ${lines.length} goals met; etcd is Debian's, mutual TLS on all connections of both\n`,
  );
  if (values.json !== undefined) writeFileSync(values.json, JSON.stringify({ lines, runs }, null, 2));
}

await main();
