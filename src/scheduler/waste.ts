/**
 * What room is worth to the VMs that come: the part of it that will be left over when a node with so much room closes.
 *
 * A node that can choose among the next `looks` VMs takes the one that leaves the least waste, and so on until nothing
 * fits: W(r) = E[min over `looks` VMs of W(r − size)], W(r) = size of r where a VM does not fit. Sizes are drawn from the
 * cluster's own VMs. Solved on a grid from small room to large, as in the dynamic programs for stochastic knapsacks
 * (Dean, Goemans and Vondrák 2008); placing by the difference it makes is Bertsekas' one-step look-ahead.
 */

/** VMs of one size. */
export interface SizeCount {
  readonly memory: number;
  readonly cpus: number;
  readonly count: number;
}

export function sizeKey(memory: number, cpus: number): string {
  return `${memory} ${cpus}`;
}

const CELLS = 32;
/** With memory alone the grid has one dimension and can be finer. */
const CELLS_OF_ONE = 256;
const SAMPLE = 64;
/** Room beyond so many mean VMs is as good as so much. */
const MEAN_VMS = 24;

export interface WasteTable {
  /** Part of the table's whole room that is wasted of `memory` MiB and `cpus` vCPUs, 0 to 1; interpolated. */
  at(memory: number, cpus: number): number;
}

/** @param limit largest room of a node, MiB and vCPUs; Infinity vCPUs: they do not count. @param looks at least 1. Sizes in any order. */
export function wasteTable(sizes: readonly SizeCount[], limit: { memory: number; cpus: number }, looks: number): WasteTable {
  const sample = sampleOf(sizes);
  const mean = (which: "memory" | "cpus"): number => sample.reduce((sum, size) => sum + size[which], 0) / sample.length;
  const flat = limit.cpus === Number.POSITIVE_INFINITY;
  const rows = flat ? CELLS_OF_ONE : CELLS;
  const columns = flat ? 0 : CELLS;
  const memoryUnit = Math.max(1, Math.min(limit.memory, MEAN_VMS * mean("memory"))) / rows;
  const cpuUnit = flat ? 1 : Math.max(1, Math.min(limit.cpus, MEAN_VMS * mean("cpus"))) / columns;
  const width = columns + 1;
  const table = new Float64Array((rows + 1) * width);

  const at = (down: number, across: number): number => {
    const a = Math.min(rows, Math.floor(down));
    const a1 = Math.min(rows, a + 1);
    const f = Math.min(rows, down) - a;
    if (flat) return table[a]! * (1 - f) + table[a1]! * f;
    const b = Math.min(columns, Math.floor(across));
    const b1 = Math.min(columns, b + 1);
    const g = Math.min(columns, across) - b;
    return (
      (table[a * width + b]! * (1 - g) + table[a * width + b1]! * g) * (1 - f) +
      (table[a1 * width + b]! * (1 - g) + table[a1 * width + b1]! * g) * f
    );
  };

  // P(the best of `looks` draws is the j-th of n or worse) = ((n − j) / n) ^ looks.
  const n = sample.length;
  const chance = Float64Array.from({ length: n }, (_, j) => ((n - j) / n) ** looks - ((n - j - 1) / n) ** looks);
  const downs = Float64Array.from(sample, (size) => size.memory / memoryUnit);
  const acrosses = Float64Array.from(sample, (size) => (flat ? 0 : size.cpus / cpuUnit));
  const after = new Float64Array(n);
  for (let a = 0; a <= rows; a++) {
    for (let b = 0; b < width; b++) {
      const own = flat ? a / rows : (a / rows + b / columns) / 2;
      for (let j = 0; j < n; j++) {
        const down = a - downs[j]!;
        const across = b - acrosses[j]!;
        // A cell stands for room around it: what misses by less than half a cell may fit.
        after[j] = down < -0.5 || across < -0.5 ? own : at(Math.max(0, down), Math.max(0, across));
      }
      after.sort();
      let expected = 0;
      for (let j = 0; j < n; j++) expected += after[j]! * chance[j]!;
      table[a * width + b] = Math.min(own, expected);
    }
  }
  return { at: (memory, cpus) => at(memory / memoryUnit, flat ? 0 : cpus / cpuUnit) };
}

/** At most `SAMPLE` sizes at even steps through all of them in order: the same for the same VMs, in whatever order they came. */
function sampleOf(sizes: readonly SizeCount[]): { memory: number; cpus: number }[] {
  const sorted = sizes.toSorted((a, b) => a.memory - b.memory || a.cpus - b.cpus);
  const total = sorted.reduce((sum, size) => sum + size.count, 0);
  const n = Math.min(SAMPLE, total);
  const sample: { memory: number; cpus: number }[] = [];
  let seen = 0;
  for (const { memory, cpus, count } of sorted) {
    seen += count;
    while (sample.length < n && ((sample.length + 0.5) * total) / n < seen) sample.push({ memory, cpus });
  }
  return sample;
}
