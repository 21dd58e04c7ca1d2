/**
 * Scores; the lowest wins. With `req` the VM placed now, and sums over the VMs on the node without that VM itself:
 *
 * - running (SCH-6): cpu = (vCPUs of running VMs + req) / (vCPUs of all VMs in the cluster + req); mem = (memory of running VMs + req) / physical memory
 * - stopped (SCH-7): cpu = (vCPUs of all VMs + req) / logical CPUs; mem = (memory of all VMs + req) / physical memory
 * - score = (cpu + mem) / 2
 *
 * The denominators differ on purpose (SCH-8): what runs is weighed by its share of the cluster's load, what is to start
 * by the machine it would fill.
 */
import type { Arena } from "./arena.ts";
import type { PlanKind, Scoring } from "./types.ts";

/** Score of a VM of `memory` MiB and `cpus` vCPUs on node `i`, whose own part is not in the arena's sums. */
export type Scorer = (arena: Arena, i: number, memory: number, cpus: number) => number;

/** SCH-6. `arena.totalCpus` counts the VM itself, which is one of the cluster's. */
export const scoreRunning: Scorer = (arena, i, memory, cpus) =>
  ((arena.usedCpus[i]! + cpus) / arena.totalCpus + (arena.usedMemory[i]! + memory) / arena.memory[i]!) / 2;

/** SCH-7. */
export const scoreStopped: Scorer = (arena, i, memory, cpus) =>
  ((arena.placedCpus[i]! + cpus) / arena.cpus[i]! + (arena.placedMemory[i]! + memory) / arena.memory[i]!) / 2;

/** SCH-10, packing: the share of the node's memory that stays free, so the fullest node that still fits wins. */
export const scoreConsolidate: Scorer = (arena, i, memory) => (arena.limitMemory[i]! - arena.usedMemory[i]! - memory) / arena.memory[i]!;

export function scorerFor(scoring: Scoring, kind: PlanKind): Scorer {
  if (scoring === "consolidate") return scoreConsolidate;
  return kind === "start" ? scoreStopped : scoreRunning;
}
