/** Rows of roost.v1.Bench: a key-value store for measuring and for tests of consistency, nothing else. */
export interface BenchRow {
  /** Base64, as rows and commands are JSON. */
  value: string;
  /** Index of the command that wrote it. */
  index: number;
}

export const BENCH_LIMITS = { keyBytes: 256, valueBytes: 2 ** 20 } as const;
