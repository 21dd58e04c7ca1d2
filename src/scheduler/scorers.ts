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
import { CPUS, LIMIT_CPUS, LIMIT_MEMORY, MEMORY, PLACED_CPUS, PLACED_MEMORY, USED_CPUS, USED_MEMORY, WIDTH } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { PlanKind, Scoring } from "./types.ts";

/** Score of a VM of `memory` MiB and `cpus` vCPUs on node `i`, whose own part is not in the arena's sums. */
export type Scorer = (arena: Arena, i: number, memory: number, cpus: number) => number;

/**
 * SCH-6. `arena.totalCpus` counts the VM itself, which is one of the cluster's. Both formulas are written over their common
 * denominator: numerators are whole numbers, so equal loads have equal scores to the last bit and unequal ones have not.
 */
export const scoreRunning: Scorer = (arena, i, memory, cpus) => {
  const at = i * WIDTH;
  const share = arena.totalCpus;
  const physical = arena.cells[at + MEMORY]!;
  return ((arena.cells[at + USED_CPUS]! + cpus) * physical + (arena.cells[at + USED_MEMORY]! + memory) * share) / (2 * share * physical);
};

/** SCH-7. */
export const scoreStopped: Scorer = (arena, i, memory, cpus) => {
  const at = i * WIDTH;
  const logical = arena.cells[at + CPUS]!;
  const physical = arena.cells[at + MEMORY]!;
  return (
    ((arena.cells[at + PLACED_CPUS]! + cpus) * physical + (arena.cells[at + PLACED_MEMORY]! + memory) * logical) / (2 * logical * physical)
  );
};

/** The two parts of SCH-7 (`stopped`) or SCH-6, to be shown: their mean is the score. */
export function partsOf(arena: Arena, i: number, memory: number, cpus: number, stopped: boolean): { cpu: number; memory: number } {
  const cell = (column: number): number => arena.cells[i * WIDTH + column]!;
  return stopped
    ? { cpu: (cell(PLACED_CPUS) + cpus) / cell(CPUS), memory: (cell(PLACED_MEMORY) + memory) / cell(MEMORY) }
    : { cpu: (cell(USED_CPUS) + cpus) / arena.totalCpus, memory: (cell(USED_MEMORY) + memory) / cell(MEMORY) };
}

/**
 * SCH-10, packing: the share of the node's limits that stays free, the mean of memory and vCPUs where vCPUs are limited, so
 * the fullest nodes come first. Where VMs are placed one at a time, `Packing` stands in for it.
 */
export const scoreConsolidate: Scorer = (arena, i, memory, cpus) => {
  const freeMemory = freeMemoryPart(arena, i, memory);
  return arena.cells[i * WIDTH + LIMIT_CPUS] === Number.POSITIVE_INFINITY ? freeMemory : (freeMemory + freeCpusPart(arena, i, cpus)) / 2;
};

/** The same, and how far apart the free parts of memory and vCPUs are: what is left of one without the other serves nobody. */
export const scoreFullEven: Scorer = (arena, i, memory, cpus) => {
  const apart =
    arena.cells[i * WIDTH + LIMIT_CPUS] === Number.POSITIVE_INFINITY
      ? 0
      : Math.abs(freeMemoryPart(arena, i, memory) - freeCpusPart(arena, i, cpus));
  return scoreConsolidate(arena, i, memory, cpus) + apart;
};

function freeMemoryPart(arena: Arena, i: number, memory: number): number {
  return (arena.cells[i * WIDTH + LIMIT_MEMORY]! - arena.cells[i * WIDTH + USED_MEMORY]! - memory) / arena.cells[i * WIDTH + LIMIT_MEMORY]!;
}

function freeCpusPart(arena: Arena, i: number, cpus: number): number {
  return (arena.cells[i * WIDTH + LIMIT_CPUS]! - arena.cells[i * WIDTH + USED_CPUS]! - cpus) / arena.cells[i * WIDTH + LIMIT_CPUS]!;
}

/**
 * `even`: by how much the placement raises the sum of squares of used / physical memory and of vCPUs / logical CPUs over the
 * nodes, and so their variances. `balance` adds both up on a node, so that much of one can stand for little of the other.
 */
const scoreEvenStopped: Scorer = (arena, i, memory, cpus) => growth(arena, i, memory, cpus, PLACED_MEMORY);
const scoreEvenRunning: Scorer = (arena, i, memory, cpus) => growth(arena, i, memory, cpus, USED_MEMORY);

/** @param sums column of the memory that is counted; that of the vCPUs is the next. */
function growth({ cells }: Arena, i: number, memory: number, cpus: number, sums: number): number {
  const at = i * WIDTH;
  const [m, c] = [cells[at + MEMORY]!, cells[at + CPUS]!];
  return (memory * (2 * cells[at + sums]! + memory)) / (m * m) + (cpus * (2 * cells[at + sums + 1]! + cpus)) / (c * c);
}

export function scorerFor(scoring: Exclude<Scoring, "rank">, kind: PlanKind): Scorer {
  if (scoring === "consolidate") return scoreConsolidate;
  if (scoring === "even") return kind === "start" ? scoreEvenStopped : scoreEvenRunning;
  return kind === "start" ? scoreStopped : scoreRunning;
}
