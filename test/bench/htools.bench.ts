/**
 * The scheduler beside Ganeti's htools (Debian: ganeti-htools) on the same clusters of 20, 80 and 200 nodes and 1,000 VMs.
 * Arguments: `placing` or `rebalancing` alone, `quick` (fewer of hail's and hbal's runs), numbers of nodes.
 *
 * Placing: `scheduler.scoring even` as one batch; hail for one VM after the other, each answer written back into its text file.
 * Rebalancing: hbal for as many steps as fit its time, ours for as many. CPU time of theirs is what the kernel counted for the process (getrusage, by bash's `time`) less that of the
 * same program with nothing to do (`--version`), so that start-up does not count against them.
 * Ours is the time of the one call in this process that answers all, certificates included, after one call to warm up.
 * Scores are hbal's own, of both answers, without its guess of load (--ignore-dynu).
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "../../src/base/random.ts";
import { plan } from "../../src/scheduler/plan.ts";
import { rebalance } from "../../src/scheduler/rebalance.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const HAIL = "/usr/lib/ganeti/iallocators/hail";
const VMS = 1_000;
const CPUS = 64;

interface Row {
  name: string;
  memoryMib: number;
  cpus: number;
}

interface Case {
  nodes: Row[];
  vms: Row[];
}

const quick = process.argv.includes("quick");
const counts = process.argv
  .slice(2)
  .map(Number)
  .filter((count) => count > 0);
const folder = mkdtempSync(join(tmpdir(), "roost-htools-"));
const results: Record<string, unknown>[] = [];

if (!existsSync(HAIL)) {
  console.log("ganeti-htools is not installed: apt-get install ganeti-htools");
  process.exitCode = 1;
} else {
  try {
    console.log("nodes  what                       ours CPU s   theirs CPU s      ratio   goal    score ours / theirs     ok");
    for (const nodes of counts.length > 0 ? counts : [20, 80, 200]) {
      if (!process.argv.includes("rebalancing")) placement(nodes);
      if (!process.argv.includes("placing")) rebalancing(nodes);
    }
    console.log(`JSON ${JSON.stringify(results)}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** VMs of flavours; nodes that they fill by some 60 %. */
function caseOf(count: number): Case {
  const random = seededRandom(count);
  const vms = Array.from({ length: VMS }, (_, k): Row => ({
    name: `vm${k}`,
    memoryMib: 1024 * 2 ** random.below(5),
    cpus: 2 ** random.below(4),
  }));
  const memoryMib = 1024 * Math.ceil(vms.reduce((sum, vm) => sum + vm.memoryMib, 0) / 0.6 / count / 1024);
  return { nodes: Array.from({ length: count }, (_, i) => ({ name: `node${i}`, memoryMib, cpus: CPUS * Math.ceil(60 / count) })), vms };
}

/** Ganeti's text form: groups, nodes, instances, tags. */
function textOf({ nodes, vms }: Case, where: readonly (number | undefined)[]): string {
  const used = nodes.map(() => 0);
  for (const [k, i] of where.entries()) if (i !== undefined) used[i]! += vms[k]!.memoryMib;
  const lines = nodes.map(
    ({ name, memoryMib, cpus }, i) =>
      `${name}|${memoryMib}|0|${memoryMib - used[i]!}|1000000|1000000|${cpus}|${i === 0 ? "M" : "N"}|g|1||N|1|0|1.0`,
  );
  const instances = vms.flatMap(({ name, memoryMib, cpus }, k) =>
    where[k] === undefined ? [] : [`${name}|${memoryMib}|0|${cpus}|running|Y|${nodes[where[k]!]!.name}||ext||1|-`],
  );
  return `default|g|preferred||\n\n${lines.join("\n")}\n\n${instances.join("\n")}\n\n\n\n`;
}

/** Runs a program and gives its output and the CPU seconds the kernel counted for it, to the millisecond. */
function run(program: string, args: readonly string[], seconds = 600): { out: string; cpuS: number } {
  const script = 'TIMEFORMAT="%U %S"; time timeout "$0" "$@" 2>/dev/null';
  const { stdout, stderr } = spawnSync("bash", ["-c", script, String(seconds), program, ...args], { encoding: "utf8", maxBuffer: 2 ** 28 });
  const [user, system] = (stderr.trim().split("\n").at(-1) ?? "").split(" ").map(Number);
  return { out: stdout, cpuS: (user ?? 0) + (system ?? 0) };
}

function ours<T>(call: () => T): { answer: T; cpuS: number } {
  call();
  const before = process.cpuUsage();
  const answer = call();
  const { user, system } = process.cpuUsage(before);
  return { answer, cpuS: (user + system) / 1e6 };
}

function viewOf({ nodes, vms }: Case, where: readonly (number | undefined)[]): ReturnType<typeof testView> {
  return testView(
    nodes.map(({ name, ...info }) => testNode(name, info)),
    vms.map(({ name, ...size }, k) => testVm(name, size, { number: k + 1, claim: where[k] === undefined ? null : nodes[where[k]!]!.name })),
  );
}

/** As hbal reports it. */
function scoreOf(made: Case, where: readonly (number | undefined)[]): number {
  const file = join(folder, "score.data");
  writeFileSync(file, textOf(made, where));
  const { out } = run("hbal", ["-t", file, "--ignore-dynu", "-l", "0", "-v"]);
  return Number(/Initial score: ([0-9.]+)/.exec(out)?.[1] ?? Number.NaN);
}

/** All 1,000 VMs on the empty cluster, or in `quick` the last 50 on the filled one: one batch of `even` scoring; hail VM after VM, for it has no other way. */
function placement(count: number): void {
  const made = caseOf(count);
  const from = quick ? VMS - 50 : 0;
  const indexOf = new Map(made.nodes.map(({ name }, i) => [name, i]));
  const begin: (number | undefined)[] = made.vms.map(() => undefined);
  const place = (first: number, to: number, where: (number | undefined)[]): { cpuS: number } => {
    const view = viewOf(made, where);
    const request = {
      vms: made.vms.slice(first, to).map(({ name }) => name),
      mode: "batch",
      kind: "start",
      scoring: "even",
    } as const;
    const { answer, cpuS } = ours(() => plan(view, request, "htools"));
    for (const { vmId, nodeId } of answer.placements) where[Number(vmId.slice(2))] = indexOf.get(nodeId);
    return { cpuS };
  };
  if (from > 0) place(0, from, begin);
  const mine = [...begin];
  const { cpuS } = place(from, VMS, mine);

  const theirs = [...begin];
  const [cluster, question] = [join(folder, "hail.data"), join(folder, "hail.json")];
  const idle = run(HAIL, ["--version"]).cpuS;
  let hail = 0;
  for (let k = from; k < VMS; k++) {
    writeFileSync(cluster, textOf(made, theirs));
    writeFileSync(question, JSON.stringify(requestOf(made.vms[k]!)));
    // Without its own check of N+1, which ours is not asked for and which takes it most of its time.
    const { out, cpuS: took } = run(HAIL, ["-t", cluster, "--ignore-dynu", "--no-capacity-checks", question]);
    hail += took;
    const node = (JSON.parse(out) as { result: string[] }).result[0];
    if (node === undefined) throw new Error(`hail places nothing: ${out}`);
    theirs[k] = indexOf.get(node);
  }
  const placed = VMS - from;
  const goal = new Map([
    [20, 50],
    [80, 500],
    [200, 1_000],
  ]).get(count);
  report(
    count,
    `placing ${placed} VMs`,
    cpuS,
    Math.max(0, hail - idle * placed),
    goal ?? 50,
    scoreOf(made, mine),
    scoreOf(made, theirs),
    1,
  );
  results.at(-1)!["wholeTheirsS"] = hail;
}

function rebalancing(count: number): void {
  const made = caseOf(count);
  const random = seededRandom(count + 1);
  const left = made.nodes.map(({ memoryMib }) => memoryMib);
  const where = made.vms.map(({ memoryMib }) => {
    for (;;) {
      const i = random.below(count);
      if (left[i]! < memoryMib) continue;
      left[i]! -= memoryMib;
      return i;
    }
  });
  const file = join(folder, "hbal.data");
  writeFileSync(file, textOf(made, where));
  // hbal's steps take it seconds on many nodes: as many as fit, and ours as many.
  const most = count <= 20 ? 1_000 : count <= 80 ? (quick ? 3 : 10) : quick ? 1 : 3;
  const idle = run("hbal", ["--version"]).cpuS;
  const { out, cpuS } = run("hbal", ["-t", file, "--ignore-dynu", "-l", String(most)]);
  const last = /Cluster score improved from ([0-9.]+) to ([0-9.]+)/.exec(out);
  const steps = Number(/Solution length=([0-9]+)/.exec(out)?.[1] ?? most);
  const view = viewOf(made, where);
  const { answer, cpuS: mineS } = ours(() => rebalance(view, { maxSteps: steps, minGain: 0 }));
  const indexOf = new Map(made.nodes.map(({ name }, i) => [name, i]));
  const after: (number | undefined)[] = [...where];
  for (const { vmId, toNodeId } of answer.steps) after[Number(vmId.slice(2))] = indexOf.get(toNodeId);
  report(count, `rebalancing, ${steps} steps`, mineS, Math.max(0, cpuS - idle), 50, scoreOf(made, after), Number(last?.[2]), 1.02);
}

function requestOf({ name, memoryMib, cpus }: Row): unknown {
  const spec = (memory: number, cores: number, disks: number): unknown => ({
    "memory-size": memory,
    "cpu-count": cores,
    "disk-size": 0,
    "disk-count": disks,
    "nic-count": disks,
    "spindle-use": disks,
  });
  const ipolicy = {
    minmax: [{ min: spec(128, 1, 0), max: spec(2 ** 20, 64, 16) }],
    std: spec(128, 1, 0),
    "disk-templates": ["ext", "diskless"],
    "vcpu-ratio": 64,
    "spindle-ratio": 1_000,
  };
  return {
    cluster_tags: [],
    enabled_hypervisors: ["kvm"],
    ipolicy,
    nodegroups: { g: { name: "default", alloc_policy: "preferred", tags: [], networks: [], ipolicy } },
    nodes: {},
    instances: {},
    request: {
      type: "allocate",
      name,
      memory: memoryMib,
      vcpus: cpus,
      disk_space_total: 0,
      disks: [],
      disk_template: "diskless",
      os: "x",
      tags: [],
      nics: [],
      required_nodes: 1,
      spindle_use: 1,
      hypervisor: "kvm",
    },
  };
}

function report(
  nodes: number,
  what: string,
  mineS: number,
  theirsS: number,
  goal: number,
  mine: number,
  theirs: number,
  part: number,
): void {
  const ratio = theirsS / mineS;
  const ok = ratio >= goal && mine <= theirs * part + 1e-8;
  results.push({ nodes, what, mineS, theirsS, ratio, goal, scoreMine: mine, scoreTheirs: theirs, ok });
  console.log(
    `${String(nodes).padStart(5)}  ${what.padEnd(24)} ${mineS.toFixed(4).padStart(12)} ${theirsS.toFixed(3).padStart(14)} ${Math.round(ratio).toLocaleString("en").padStart(9)}× ${`${goal}×`.padStart(7)}    ${mine.toFixed(8)} / ${theirs.toFixed(8)}   ${ok ? "yes" : "NO"}`,
  );
}
