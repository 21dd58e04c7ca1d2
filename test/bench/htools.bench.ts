/**
 * The scheduler beside Ganeti's htools (Debian: ganeti-htools) on the same clusters of 20, 80 and 200 nodes and 1,000 VMs.
 * Arguments: `placing` or `rebalancing` alone, numbers of nodes.
 *
 * Placing: ours decides about all 1,000 VMs in the order of the request, one by one (`scheduler.scoring even`), certificates included; so does
 * hail, one process a VM. Its CPU time is measured for 20 of them, evenly over the fill (at 0 %, 5 %, … of our own placement), and multiplied
 * up; at 20 nodes it also runs all 1,000, each answer written back into its text file. Scores are hbal's own, without its guess of load
 * (--ignore-dynu): of both final placements where hail ran them all, and else the mean over the 20 points of what each one's next choice gives. There
 * hail is at home: of all nodes it takes the one with the best of just this score, so ours is to be within 0.01 %.
 * Rebalancing: hbal for as many steps as fit its time, ours for as many.
 *
 * CPU time of theirs is what the kernel counted for the process (getrusage, by bash's `time`), of ours that of the call in this process after
 * one call to warm up. Start-up is left out of both (of theirs: the same program with `--version`), then counted in both: ours is then the
 * process `roost scheduler plan` on files, one for all VMs.
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

/** Of hail's 1,000 questions, so many are asked. */
const SAMPLES = 20;
const ROOST = join(import.meta.dirname, "..", "..", "src", "main.ts");
/** Ours against theirs in CPU time, by nodes. */
const GOALS = new Map([
  [20, 50],
  [80, 500],
  [200, 1_000],
]);

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
    console.log("nodes  what                           ours CPU s   theirs CPU s      ratio   goal    score ours / theirs     ok");
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

function placement(count: number): void {
  const made = caseOf(count);
  const goal = GOALS.get(count) ?? 50;
  const indexOf = new Map(made.nodes.map(({ name }, i) => [name, i]));
  const nobody: (number | undefined)[] = made.vms.map(() => undefined);
  const view = viewOf(made, nobody);
  const request = { vms: made.vms.map(({ name }) => name), mode: "one-by-one", kind: "start", scoring: "even" } as const;
  const { answer, cpuS } = ours(() => plan(view, request, "htools"));
  const mine = [...nobody];
  for (const { vmId, nodeId } of answer.placements) mine[Number(vmId.slice(2))] = indexOf.get(nodeId);

  const points = Array.from({ length: SAMPLES }, (_, i) => (i * VMS) / SAMPLES);
  const idle = run(HAIL, ["--version"]).cpuS;
  let asked = 0;
  const next = { mine: 0, theirs: 0 };
  for (const k of points) {
    const before = mine.map((node, j) => (j < k ? node : undefined));
    const { node, cpuS: took } = hail(made, before, k, indexOf);
    asked += took;
    next.mine += scoreOf(made, before.with(k, mine[k])) / SAMPLES;
    next.theirs += scoreOf(made, before.with(k, node)) / SAMPLES;
  }
  const each = asked / SAMPLES;
  const all = `placing ${VMS} VMs`;
  const whole = count <= 20 ? hailForAll(made, indexOf) : null;
  const [scoreMine, scoreTheirs] = whole === null ? [next.mine, next.theirs] : [scoreOf(made, mine), scoreOf(made, whole.where)];
  const compared = whole === null ? `next choice at ${SAMPLES} points` : "both final placements";
  const part = whole === null ? 1.0001 : 1;
  report(count, all, cpuS, Math.max(0, each - idle) * VMS, goal, scoreMine, scoreTheirs, part, compared);

  const files = [join(folder, "cluster.txt"), join(folder, "request.txt")] as const;
  writeFileSync(files[0], made.nodes.map(({ name, memoryMib, cpus }) => `node ${name} cpus=${cpus} memory=${memoryMib}\n`).join(""));
  const vms = made.vms.map(({ name, memoryMib, cpus }) => `vm ${name} cpus=${cpus} memory=${memoryMib}\n`).join("");
  writeFileSync(files[1], `scoring even\nseed htools\n${vms}`);
  const ran = run(process.execPath, [ROOST, "scheduler", "plan", "--cluster", files[0], "--request", files[1], "-o", "json"]);
  if ((JSON.parse(ran.out) as { placements: unknown[] }).placements.length !== VMS) throw new Error("ours does not place all");
  report(count, `${all}, with start`, ran.cpuS, each * VMS, null, scoreMine, scoreTheirs, part, compared);
  if (whole !== null) {
    const note = `hail's own run of all ${VMS}: ${whole.cpuS.toFixed(1)} s with start, by the ${SAMPLES} points ${(each * VMS).toFixed(1)} s`;
    console.log(`       ${note}`);
  }
}

/** One VM, asked of hail. */
function hail(
  made: Case,
  where: readonly (number | undefined)[],
  k: number,
  indexOf: ReadonlyMap<string, number>,
): { node: number | undefined; cpuS: number } {
  const [cluster, question] = [join(folder, "hail.data"), join(folder, "hail.json")];
  writeFileSync(cluster, textOf(made, where));
  writeFileSync(question, JSON.stringify(requestOf(made.vms[k]!)));
  // Without its own check of N+1, which ours is not asked for and which takes it most of its time.
  const { out, cpuS } = run(HAIL, ["-t", cluster, "--ignore-dynu", "--no-capacity-checks", question]);
  const node = (JSON.parse(out) as { result: string[] }).result[0];
  if (node === undefined) throw new Error(`hail places nothing: ${out}`);
  return { node: indexOf.get(node), cpuS };
}

function hailForAll(made: Case, indexOf: ReadonlyMap<string, number>): { where: (number | undefined)[]; cpuS: number } {
  const where: (number | undefined)[] = made.vms.map(() => undefined);
  let cpuS = 0;
  for (let k = 0; k < VMS; k++) {
    const answer = hail(made, where, k, indexOf);
    where[k] = answer.node;
    cpuS += answer.cpuS;
  }
  return { where, cpuS };
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
  const most = count <= 20 ? 1_000 : count <= 80 ? 5 : 1;
  const idle = run("hbal", ["--version"]).cpuS;
  const { out, cpuS } = run("hbal", ["-t", file, "--ignore-dynu", "-l", String(most)]);
  const last = /Cluster score improved from ([0-9.]+) to ([0-9.]+)/.exec(out);
  const steps = Number(/Solution length=([0-9]+)/.exec(out)?.[1] ?? most);
  const view = viewOf(made, where);
  const { answer, cpuS: mineS } = ours(() => rebalance(view, { maxSteps: steps, minGain: 0 }));
  const indexOf = new Map(made.nodes.map(({ name }, i) => [name, i]));
  const after: (number | undefined)[] = [...where];
  for (const { vmId, toNodeId } of answer.steps) after[Number(vmId.slice(2))] = indexOf.get(toNodeId);
  report(
    count,
    `rebalancing, ${steps} steps`,
    mineS,
    Math.max(0, cpuS - idle),
    50,
    scoreOf(made, after),
    Number(last?.[2]),
    1.02,
    "after as many steps",
  );
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
  goal: number | null,
  mine: number,
  theirs: number,
  part: number,
  compared: string,
): void {
  const ratio = theirsS / mineS;
  const ok = ratio >= (goal ?? 0) && mine <= theirs * part + 1e-8;
  results.push({ nodes, what, mineS, theirsS, ratio, goal, scoreMine: mine, scoreTheirs: theirs, compared, ok });
  console.log(
    `${String(nodes).padStart(5)}  ${what.padEnd(28)} ${mineS.toFixed(4).padStart(12)} ${theirsS.toFixed(3).padStart(14)} ${Math.round(ratio).toLocaleString("en").padStart(9)}× ${(goal === null ? "-" : `${goal}×`).padStart(7)}    ${mine.toFixed(8)} / ${theirs.toFixed(8)}   ${ok ? "yes" : "NO"}  (${compared})`,
  );
}
