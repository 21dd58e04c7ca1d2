/** Borderless tables: columns as wide as their widest cell, two spaces between them, nothing after the last. */
import Table from "cli-table3";

const NO_BORDERS = Object.fromEntries(
  ["top", "top-mid", "top-left", "top-right", "bottom", "bottom-mid", "bottom-left", "bottom-right", "left", "left-mid"]
    .concat(["mid", "mid-mid", "right", "right-mid"])
    .map((place) => [place, ""]),
);

/** `alignRight`: headers of columns with numbers. An empty list of rows gives the header alone. */
export function table(headers: string[], rows: string[][], alignRight: readonly string[] = []): string {
  const drawn = new Table({
    chars: { ...NO_BORDERS, middle: "  " },
    style: { "padding-left": 0, "padding-right": 0, head: [], border: [] },
    colAligns: headers.map((header) => (alignRight.includes(header) ? "right" : "left")),
  });
  for (const cells of [headers, ...rows]) drawn.push(headers.map((_, i) => cells[i] || "-"));
  return `${drawn
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n")}\n`;
}

/** `key: value` lines with the values in one column; empty values are left out. */
export function facts(rows: [string, string][]): string {
  const shown = rows.filter(([, value]) => value !== "");
  const most = shown.reduce((longest, [key]) => Math.max(longest, key.length), 0);
  return shown.map(([key, value]) => `${`${key}:`.padEnd(most + 2)}${value}\n`).join("");
}
