/** Hashes of the replicated tables at one index, compared over all replicas (STA-1). */
import type { View } from "./view.ts";

/**
 * A table's rows as a sum of hashes: 128 bits of each row's SHA-256, added lane by lane (4 × 32 bits), so the order of rows does not
 * matter. Rows that differ by accident give equal sums with a chance of 2⁻¹²⁸; it is no proof against one who makes rows on purpose.
 */
export interface TableDigest {
  table: string;
  rows: number;
  hash: string;
  /** The same by the first character of the key, to say where two differ. */
  ranges: { first: string; rows: number; hash: string }[];
}

export interface DigestAsked {
  kind: "asked";
  /** Index at which the tables are hashed. */
  revision: number;
  atMs: number;
  why: string;
}

export interface DigestReported {
  kind: "reported";
  nodeId: string;
  revision: number;
  tables: TableDigest[];
}

/** Key `asked`: the newest question; else a node's id: its newest answer. */
export type DigestRow = DigestAsked | DigestReported;

export interface Difference {
  nodeId: string;
  table: string;
  /** First range of keys that differs, by their first character; empty if only the table as a whole does. */
  first: string;
  /** The node that it was compared with. */
  otherId: string;
}

/** Where two answers for one index differ; empty if they agree. */
export function differences(report: DigestReported, other: DigestReported): Difference[] {
  const names = new Set([...report.tables, ...other.tables].map(({ table }) => table));
  return [...names].toSorted().flatMap((table) => {
    const mine = report.tables.find((digest) => digest.table === table);
    const theirs = other.tables.find((digest) => digest.table === table);
    if (mine?.hash === theirs?.hash && mine?.rows === theirs?.rows) return [];
    const firsts = [...new Set([...(mine?.ranges ?? []), ...(theirs?.ranges ?? [])].map(({ first }) => first))].toSorted();
    const hashOf = (digest: TableDigest | undefined, first: string): string =>
      digest?.ranges.find((range) => range.first === first)?.hash ?? "";
    const first = firsts.find((one) => hashOf(mine, one) !== hashOf(theirs, one)) ?? "";
    return [{ nodeId: report.nodeId, table, first, otherId: other.nodeId }];
  });
}

export interface Verdict {
  asked: DigestAsked;
  /** The tables as most replicas have them. */
  tables: TableDigest[];
  agreeing: string[];
  differing: Difference[];
  /** Nodes that should have answered and have not. */
  missing: string[];
}

/** What the answers to the newest question say; null before the first. Most agree with the truth: the others differ. */
export function verdict(view: View): Verdict | null {
  const asked = view.digests?.get("asked");
  if (asked?.kind !== "asked") return null;
  const reports = [...(view.digests?.values() ?? [])].filter(
    (row): row is DigestReported => row.kind === "reported" && row.revision === asked.revision,
  );
  const groups = new Map<string, DigestReported[]>();
  for (const report of reports) {
    const mark = report.tables.map(({ table, rows, hash }) => `${table} ${rows} ${hash}`).join();
    groups.set(mark, [...(groups.get(mark) ?? []), report]);
  }
  const [most = [], ...others] = [...groups.values()].toSorted(
    (a, b) => b.length - a.length || ((a[0]?.nodeId ?? "") < (b[0]?.nodeId ?? "") ? -1 : 1),
  );
  const [truth] = most;
  return {
    asked,
    tables: truth?.tables ?? [],
    agreeing: most.map(({ nodeId }) => nodeId),
    differing: truth === undefined ? [] : others.flat().flatMap((report) => differences(report, truth)),
    missing: [...view.nodes.values()]
      .filter((node) => node.state !== "removed" && node.state !== "joining" && !reports.some(({ nodeId }) => nodeId === node.id))
      .map(({ id }) => id),
  };
}
