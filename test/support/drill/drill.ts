/**
 * Failures done to a lab's nodes, one trial after the other on one cluster: how long until their VMs run elsewhere, whether any ran
 * twice by its guests' own records (runs.ts), whether any moved that had no reason to.
 */
import { loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { waitFor } from "../../../scripts/lab/lab.ts";
import type { LabNode } from "../../../scripts/lab/node.ts";
import { type Random, seededRandom } from "../../../src/base/random.ts";
import type { DrillCluster, DrillFailover, Sight } from "./cluster.ts";
import { type Fault, faultOf, heal, type Kind, wasReset } from "./faults.ts";

export interface DrillOptions {
  kind: Kind;
  trials: number;
  seed: number;
  say: (line: string) => void;
}

export interface DrillResult {
  trials: number;
  /** From the fault to each VM observed running elsewhere. */
  timesMs: number[];
  /** In words. */
  overlaps: string[];
  /** VMs that were moved or started again without a reason, in words. */
  falseFailovers: string[];
  /** Why the absence of overlaps proves less than it should. */
  unclear: string[];
}

/** Far above the budget: what takes longer will not come. */
const RECOVERY_MS = 90_000;

export async function runDrill(cluster: DrillCluster, options: DrillOptions): Promise<DrillResult> {
  const random = seededRandom(options.seed);
  const result: DrillResult = { trials: 0, timesMs: [], overlaps: [], falseFailovers: [], unclear: [] };
  for (let trial = 1; trial <= options.trials; trial++) {
    const fault = faultOf(options.kind, random);
    const before = await cluster.whole();
    const leader = await cluster.leader();
    const victim = chooseVictim(cluster.lab.nodes, leader, fault, before, random);
    const took = await oneTrial(cluster, fault, victim, before, result);
    result.trials = trial;
    result.timesMs.push(...took.timesMs);
    await look(cluster, result);
    const times = took.timesMs.length === 0 ? "" : `: ${took.timesMs.map((ms) => `${(ms / 1_000).toFixed(2)}`).join(" ")} s`;
    options.say(
      `${String(trial).padStart(4)}  load ${loadavg()[0]!.toFixed(1)}  ${victim.name}${victim.name === leader.name ? ", the leader," : ""} ${fault.what}${took.reset ? ", reset by its guardian" : ""}${times}` +
        `  (overlaps ${result.overlaps.length}, false failovers ${result.falseFailovers.length})`,
    );
    for (const text of took.waiting) options.say(`      meanwhile ${text}`);
  }
  await cluster.whole();
  await look(cluster, result);
  await compareAudit(cluster, result);
  return result;
}

/** The product's own audit, which shares nothing with the judge, must come to the same, and know of every run that left a mark. */
async function compareAudit(cluster: DrillCluster, result: DrillResult): Promise<void> {
  const audit = await cluster.audit();
  if (audit.overlaps > 0) result.overlaps.push(`roost audit runs found ${audit.overlaps}`);
  if (audit.unsure > 0) result.unclear.push(`roost audit runs is unsure of ${audit.unsure} pairs of runs`);
  result.unclear.push(...audit.unknown.map((text) => `roost audit runs does not know: ${text}`));
  for (const [name, { runs }] of await cluster.judge())
    if ((audit.runs.get(name) ?? 0) < runs)
      result.unclear.push(`${name}: its guests began ${runs} times, the nodes have ${audit.runs.get(name)} on record`);
}

/** Stalls of 2 s, one after the other, under load: nothing may move. */
export async function runSoak(
  cluster: DrillCluster,
  options: { minutes: number; seed: number; say: (line: string) => void },
): Promise<DrillResult> {
  const random = seededRandom(options.seed);
  const result: DrillResult = { trials: 0, timesMs: [], overlaps: [], falseFailovers: [], unclear: [] };
  const before = await cluster.whole();
  const endMs = performance.now() + options.minutes * 60_000;
  while (performance.now() < endMs) {
    const node = cluster.lab.nodes[random.below(cluster.lab.nodes.length)]!;
    const target = random.below(3) === 0 ? "keeper" : "agent";
    await node.pause(target);
    await sleep(2_000);
    await node.resume(target);
    await sleep(1_000 + random.below(4_000));
    result.trials++;
    const moved = result.falseFailovers.length;
    noteMoved(result, before, await cluster.whole(), new Set());
    if (result.trials % 10 === 0 || result.falseFailovers.length > moved)
      options.say(`${result.trials} stalls, load ${loadavg()[0]!.toFixed(1)}, false failovers ${result.falseFailovers.length}`);
  }
  await look(cluster, result);
  await compareAudit(cluster, result);
  return result;
}

function chooseVictim(
  nodes: readonly LabNode[],
  leader: LabNode,
  fault: Fault,
  sights: ReadonlyMap<string, Sight>,
  random: Random,
): LabNode {
  const runs = (node: LabNode): number => [...sights.values()].filter((sight) => sight.node === node.name).length;
  const able = nodes.filter((node) => (fault.victim === "leader") === (node.name === leader.name) && runs(node) > 0);
  // The leader of now may have come back empty from the trial before: then another with VMs has to do.
  const among = able.length > 0 ? able : nodes.filter((node) => runs(node) > 0);
  return among[random.below(among.length)]!;
}

async function oneTrial(
  cluster: DrillCluster,
  fault: Fault,
  victim: LabNode,
  before: ReadonlyMap<string, Sight>,
  result: DrillResult,
): Promise<{ timesMs: number[]; reset: boolean; waiting: string[] }> {
  const hit = new Set([...before].filter(([, sight]) => sight.node === victim.name).map(([name]) => name));
  const struckMs = Date.now();
  await fault.strike(victim);
  let timesMs: number[] = [];
  let waiting: string[] = [];
  try {
    if (fault.expect === "failover") {
      const moved = await recovered(cluster, hit, victim.name, struckMs);
      timesMs = moved.map((failover) => failover.runningMs - struckMs);
    } else {
      await sleep(fault.holdMs);
      waiting = await waitingOf(cluster, hit);
    }
  } finally {
    // The power note is gone once it is on again.
    if (victim.isOn()) await victim.heal();
  }
  const reset = wasReset(victim);
  await heal(victim);
  noteMoved(result, before, await cluster.whole(), fault.expect === "nothing" ? new Set() : hit);
  return { timesMs, reset, waiting };
}

/** What the cluster says of the VMs that run nowhere just before the fault ends. */
async function waitingOf(cluster: DrillCluster, names: ReadonlySet<string>): Promise<string[]> {
  const vms = await cluster.vms().catch(() => []);
  return vms.filter((vm) => names.has(vm.name) && vm.state !== "running").map((vm) => `${vm.name} ${vm.state}: ${vm.reason}`);
}

/** Until each VM of the dead node has its failover, finished. */
async function recovered(cluster: DrillCluster, names: ReadonlySet<string>, from: string, sinceMs: number): Promise<DrillFailover[]> {
  return await waitFor(
    `${[...names].join(", ")} to run elsewhere than on ${from}`,
    async (saw) => {
      const mine = (await cluster.failovers()).filter(
        (one) => names.has(one.vmName) && one.fromNode === from && one.proofMs >= sinceMs && one.runningMs > 0,
      );
      saw(mine);
      return mine.length === names.size ? mine : null;
    },
    RECOVERY_MS,
    { everyMs: 200 },
  );
}

function noteMoved(
  result: DrillResult,
  before: ReadonlyMap<string, Sight>,
  after: ReadonlyMap<string, Sight>,
  excused: ReadonlySet<string>,
): void {
  for (const [name, was] of before) {
    const now = after.get(name);
    if (excused.has(name) || now === undefined || (now.pid === was.pid && now.generation === was.generation)) continue;
    result.falseFailovers.push(
      `${name} ran on ${was.node} (generation ${was.generation}), now on ${now.node} (generation ${now.generation})`,
    );
  }
}

/** What the guests and the process table say now; of the whole time, so it replaces what was said before. */
async function look(cluster: DrillCluster, result: DrillResult): Promise<void> {
  result.overlaps = [...cluster.sampler.violations];
  result.unclear = [];
  for (const [name, verdict] of await cluster.judge()) {
    result.overlaps.push(...verdict.overlaps.map((text) => `${name}: ${text}`));
    result.unclear.push(...verdict.unclear.map((text) => `${name}: ${text}`));
  }
}

/** Nearest rank; null of nothing. */
export function percentile(values: readonly number[], share: number): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? null;
}
