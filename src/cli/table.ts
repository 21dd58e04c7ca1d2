/** Borderless tables: columns as wide as their widest cell, two spaces between them, nothing after the last. */

/** Width on screen, without colour codes. Names are ASCII; anything wider comes only from texts at the line's end. */
function width(text: string): number {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/\u001b\[\d+m/g, "").length;
}

/** `alignRight`: headers of columns with numbers. An empty list of rows gives the header alone. */
export function table(headers: string[], rows: string[][], alignRight: readonly string[] = []): string {
  const widths = headers.map((header, i) => rows.reduce((most, row) => Math.max(most, width(row[i] ?? "")), width(header)));
  const line = (cells: string[]): string =>
    cells
      .map((cell, i) => {
        const fill = " ".repeat(Math.max(0, (widths[i] ?? 0) - width(cell)));
        return alignRight.includes(headers[i] ?? "") ? fill + cell : cell + fill;
      })
      .join("  ")
      .trimEnd();
  return [headers, ...rows].map((cells) => `${line(cells.map((cell) => (cell === "" ? "-" : cell)))}\n`).join("");
}

/** `key: value` lines with the values in one column; empty values are left out. */
export function facts(rows: [string, string][]): string {
  const shown = rows.filter(([, value]) => value !== "");
  const most = shown.reduce((longest, [key]) => Math.max(longest, key.length), 0);
  return shown.map(([key, value]) => `${`${key}:`.padEnd(most + 2)}${value}\n`).join("");
}
