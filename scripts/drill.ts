/**
 * Drills on a lab with real guests: `npm run drill -- --kind kill|leader|partition|pause|disk-full|libvirtd --trials N [--nodes 3|5] [--vms N]
 * [--seed S] [--set SETTING=VALUE]… [-o json|table]`, or `--kind soak --minutes M`. The last line of -o json is one object. Exit code 1 if a VM ran twice, moved
 * without a reason, or that cannot be judged. Needs root, libvirt and network namespaces.
 */
import { spawn } from "node:child_process";
import { availableParallelism, cpus, loadavg, release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { DrillCluster } from "../test/support/drill/cluster.ts";
import { type DrillResult, percentile, runDrill, runSoak } from "../test/support/drill/drill.ts";
import { KINDS } from "../test/support/drill/faults.ts";
import { Lab } from "./lab/lab.ts";
import { namespacesRefused } from "./lab/namespaces.ts";

const { values } = parseArgs({
  options: {
    kind: { type: "string", default: "kill" },
    trials: { type: "string", default: "10" },
    nodes: { type: "string", default: "3" },
    vms: { type: "string", default: "2" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    minutes: { type: "string", default: "10" },
    set: { type: "string", multiple: true, default: [] },
    output: { type: "string", short: "o", default: "table" },
  },
});

function whole(name: "trials" | "nodes" | "vms" | "seed" | "minutes", min: number, max: number): number {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < min || value > max) throw new Error(`--${name}: expected ${min} to ${max}, not ${values[name]}`);
  return value;
}

const say = (line: string): void => void process.stderr.write(`${line}\n`);

async function main(): Promise<number> {
  const kind = KINDS.find((one) => one === values.kind);
  if (kind === undefined && values.kind !== "soak")
    throw new Error(`--kind: expected one of ${KINDS.join(", ")}, soak, not ${values.kind}`);
  // A marker disk holds 120 runs of its VM, and a third of the trials hits it.
  const trials = whole("trials", 1, 300);
  const refused = await namespacesRefused();
  if (refused !== null) throw new Error(refused);
  const seed = whole("seed", 0, 2 ** 31);
  say(`seed ${seed}; ${availableParallelism()} × ${cpus()[0]?.model ?? "?"}, Linux ${release()}, load ${loadavg()[0]!.toFixed(1)}`);
  const base = join("/tmp", `roost-drill-${process.pid}`);
  const options = {
    base,
    nodes: whole("nodes", 3, 20),
    vmsPerNode: whole("vms", 1, 20),
    smallDisks: kind === "disk-full",
    settings: values.set,
    say,
  };
  // Whoever breaks it off, also while it is being made, gets the lab taken down all the same.
  let cluster: DrillCluster | null = null;
  const breakOff = async (): Promise<void> => {
    await (cluster === null ? Lab.downAt(base) : cluster.down());
    process.exit(130);
  };
  process.once("SIGINT", () => void breakOff());
  process.once("SIGTERM", () => void breakOff());
  cluster = await DrillCluster.up(options);
  const burners =
    kind === undefined ? Array.from({ length: availableParallelism() }, () => spawn("sh", ["-c", "while :; do :; done"])) : [];
  try {
    const result =
      kind === undefined
        ? await runSoak(cluster, { minutes: whole("minutes", 1, 10_000), seed, say })
        : await runDrill(cluster, { kind, trials, seed, say });
    return report(result);
  } finally {
    for (const burner of burners) burner.kill("SIGKILL");
    await cluster.down();
  }
}

function report(result: DrillResult): number {
  const { timesMs, overlaps, falseFailovers, unclear } = result;
  for (const text of overlaps) say(`OVERLAP ${text}`);
  for (const text of falseFailovers) say(`FALSE FAILOVER ${text}`);
  for (const text of unclear) say(`UNCLEAR ${text}`);
  const summary = {
    trials: result.trials,
    p50Ms: percentile(timesMs, 0.5),
    p99Ms: percentile(timesMs, 0.99),
    maxMs: percentile(timesMs, 1),
    overlaps: overlaps.length,
    falseFailovers: falseFailovers.length,
  };
  if (values.output === "json") console.log(JSON.stringify(summary));
  else {
    const seconds = (ms: number | null): string => (ms === null ? "-" : `${(ms / 1_000).toFixed(2)} s`);
    console.log(
      `${result.trials} trials, ${timesMs.length} VMs: median ${seconds(summary.p50Ms)}, 99 % ${seconds(summary.p99Ms)}, longest ${seconds(summary.maxMs)}`,
    );
    console.log(`overlaps ${overlaps.length}, false failovers ${falseFailovers.length}, could not be judged ${unclear.length}`);
  }
  return overlaps.length + falseFailovers.length + unclear.length === 0 ? 0 : 1;
}

process.exitCode = await main();
