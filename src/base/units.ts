/** Sizes and durations as people write them. Binary units are 1024-based; `M`, `G` alone are refused because they mean both. */

export type Parsed = { ok: true; value: number } | { ok: false; expected: string };

const SIZE_UNITS: Record<string, number> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

const SIZE_EXPECTED = "a size with its unit, such as 512MiB or 10GiB";

/** Bytes of `10GiB`, `1.5 GiB`, `500MB`. A bare number is refused: its unit would be a guess. */
export function parseBytes(text: string): Parsed {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*$/.exec(text);
  if (match === null) return { ok: false, expected: SIZE_EXPECTED };
  const unit = Object.entries(SIZE_UNITS).find(([name]) => name.toLowerCase() === (match[2] ?? "").toLowerCase());
  if (unit === undefined) return { ok: false, expected: `${SIZE_EXPECTED} (units: ${Object.keys(SIZE_UNITS).join(", ")})` };
  const value = Number(match[1]) * unit[1];
  if (!Number.isSafeInteger(Math.round(value))) return { ok: false, expected: `${SIZE_EXPECTED}, below 8 PiB` };
  return { ok: true, value: Math.round(value) };
}

/** MiB of `512MiB`, `2GiB`; a size that is no whole number of MiB is refused. A bare number is MiB. */
export function parseMib(text: string): Parsed {
  if (/^\s*\d+\s*$/.test(text)) return { ok: true, value: Number(text) };
  const bytes = parseBytes(text);
  if (!bytes.ok) return { ok: false, expected: "an amount of memory such as 512MiB or 2GiB" };
  const mib = bytes.value / 2 ** 20;
  return Number.isInteger(mib) ? { ok: true, value: mib } : { ok: false, expected: "a whole number of MiB" };
}

/** The largest binary unit that shows the size exactly, else two digits of the largest that fits: `10GiB`, `1.50GiB`. */
export function formatBytes(bytes: number): string {
  let shown = `${bytes}B`;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    const size = SIZE_UNITS[unit] ?? 1;
    if (bytes < size) break;
    shown = Number.isInteger(bytes / size) ? `${bytes / size}${unit}` : `${(bytes / size).toFixed(2)}${unit}`;
  }
  return shown;
}

/** Like formatBytes, but never loses a byte: what `vm export` writes. */
export function formatBytesExact(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"]) {
    const size = SIZE_UNITS[unit] ?? 1;
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return `${bytes}B`;
}

export function formatMib(mib: number): string {
  return mib >= 1024 && mib % 1024 === 0 ? `${mib / 1024}GiB` : `${mib}MiB`;
}

/** A VM's generation for people: the cluster's generation, a dot, and the count of its placements. */
export function formatGeneration(generation: number): string {
  const per = 2 ** 32;
  return `${Math.floor(generation / per)}.${generation % per}`;
}

const DURATION_UNITS: Record<string, number> = { ms: 1, s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7 };

/** Milliseconds of `500ms`, `30s`, `5m`, `1h30m`, `2d`. A bare number is refused. */
export function parseDuration(text: string): Parsed {
  const expected = "a duration such as 500ms, 30s, 5m, 1h30m or 2d";
  const trimmed = text.trim();
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/.test(trimmed)) return { ok: false, expected };
  let value = 0;
  for (const match of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) value += Number(match[1]) * (DURATION_UNITS[match[2] ?? ""] ?? 0);
  return { ok: true, value: Math.round(value) };
}

/** One or two units, rounded down: `850ms`, `42s`, `5m10s`, `3h`, `12d4h`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.floor(ms))}ms`;
  const seconds = Math.floor(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join("");
}
