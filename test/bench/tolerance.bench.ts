/** N+k (HA-16) for 100 nodes and 10,000 VMs: the answer, its check, a create in the loop, a forecast; roomy and tight. CPU time, the best of three. */
import { seededRandom } from "../../src/base/random.ts";
import { usageOf } from "../../src/model/capacity.ts";
import { faultsOfProof } from "../../src/model/tolerance-check.ts";
import type { View } from "../../src/model/view.ts";
import { planWithReserve } from "../../src/placing/admission.ts";
import { forecast } from "../../src/placing/forecast.ts";
import { toleranceOf } from "../../src/scheduler/tolerance.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const NODES = 100;
const PER_NODE = 100;

/** Memory in use as a part of the cluster's; VMs of 1 to 8 GiB. */
function cluster(full: number, tolerate: number): View {
  const random = seededRandom(1);
  const vms = [];
  const nodes = [];
  for (let n = 0; n < NODES; n++) {
    let used = 0;
    for (let i = 0; i < PER_NODE; i++) {
      const memoryMib = 1_024 * (1 + random.below(8));
      used += memoryMib;
      vms.push(testVm(`v${n}-${i}`, { memoryMib, cpus: 1 + random.below(4) }, { claim: `n${n}`, number: vms.length }));
    }
    nodes.push(testNode(`n${n}`, { memoryMib: Math.ceil(used / full), cpus: 64 }));
  }
  const waiting = Array.from({ length: 500 }, (_, i) => testVm(`w${i}`, { memoryMib: 1_024 }));
  const view = testView(nodes, [...vms, ...waiting], [], { "ha.tolerate": tolerate });
  return { ...view, usage: usageOf(view) };
}

function ms<T>(run: () => T): [T, string] {
  const runs = 3;
  let result = run();
  let best = Infinity;
  for (let i = 0; i < runs; i++) {
    const began = process.cpuUsage();
    result = run();
    const { user, system } = process.cpuUsage(began);
    best = Math.min(best, (user + system) / 1e3);
  }
  return [result, `${best.toFixed(1)} ms`.padStart(11)];
}

const rows = [];
console.log("full   k  losses  verdict        by room  by places  planned      answer       check   +1 VM in a plan   +500 VMs");
for (const full of [0.5, 0.97, 0.985, 0.995]) {
  for (const nodes of [1, 2, 3]) {
    const view = cluster(full, nodes);
    const goal = { nodes, zones: false };
    const [answer, answerMs] = ms(() => toleranceOf(view, goal));
    const proof = { viewIndex: view.index, goal, evidence: answer.evidence };
    const [, checkMs] = answer.verdict === "protected" && nodes < 3 ? ms(() => faultsOfProof(view, proof)) : [null, "-".padStart(11)];
    const plan = (count: number): string => {
      const vms = Array.from({ length: count }, (_, i) => `w${i}`);
      return ms(() => planWithReserve(view, { vms, mode: "batch", kind: "start", scoring: null }, "s"))[1];
    };
    const losses = [1, NODES, (NODES * 99) / 2, (NODES * 99 * 98) / 6][nodes]!;
    const count = (kind: string): number => answer.evidence.filter((one) => one.kind === kind).length;
    console.log(
      `${(full * 100).toFixed(1).padStart(5)}% ${nodes} ${String(losses).padStart(7)}  ${answer.verdict.padEnd(13)} ${String(count("room")).padStart(8)} ${String(count("places")).padStart(10)} ${String(answer.planned).padStart(8)} ${answerMs} ${checkMs} ${plan(1).padStart(17)} ${plan(500)}`,
    );
    rows.push({ full, nodes, losses, verdict: answer.verdict, answer: answerMs.trim(), check: checkMs.trim() });
  }
}
const roomy = cluster(0.9, 1);
const [, forecastMs] = ms(() => forecast(roomy, ["n0"], { zone: null, leaderId: null, whyNoExpiry: () => null }));
console.log(`forecast of one node's loss, 100 VMs: ${forecastMs.trim()}`);
console.log(`JSON ${JSON.stringify({ rows, forecast: forecastMs.trim() })}`);
