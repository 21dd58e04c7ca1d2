/** The four forms of an answer. Tables are for people and may change; json and yaml are an interface (docs/cli-json.md). */
import { invalid } from "../base/errors.ts";
import type { Io } from "./io.ts";
import { table } from "./table.ts";

export type Format = "table" | "wide" | "json" | "yaml";
export const FORMATS: readonly Format[] = ["table", "wide", "json", "yaml"];

export function parseFormat(text: string): Format {
  const found = FORMATS.find((format) => format === text);
  if (found === undefined) throw invalid("--output", `expected one of ${FORMATS.join(", ")}, not ${JSON.stringify(text)}`);
  return found;
}

export interface Column<T> {
  header: string;
  cell: (row: T) => string;
  right?: boolean;
  /** Shown with -o wide only. */
  wide?: boolean;
}

/** A list: a table, or a JSON array / YAML sequence of `json(row)`. */
export async function printList<T>(io: Io, format: Format, rows: T[], columns: Column<T>[], json: (row: T) => object): Promise<void> {
  if (format === "json" || format === "yaml") return printValue(io, format, rows.map(json));
  const shown = columns.filter((column) => column.wide !== true || format === "wide");
  const right = shown.filter((column) => column.right === true).map((column) => column.header);
  io.out(
    table(
      shown.map((column) => column.header),
      rows.map((row) => shown.map((column) => column.cell(row))),
      right,
    ),
  );
}

export async function printValue(io: Io, format: "json" | "yaml", value: unknown): Promise<void> {
  io.out(format === "json" ? `${JSON.stringify(value, withoutMarks, 2)}\n` : await yamlText(value));
}

export async function yamlText(value: unknown): Promise<string> {
  const { stringify } = await import("yaml");
  return stringify(value, withoutMarks, { lineWidth: 0, aliasDuplicateObjects: false });
}

/** Messages carry a mark beside each optional field that is set, `_score: "score"`: the loader's, no part of the answer. */
function withoutMarks(key: string | number, value: unknown): unknown {
  return typeof value === "string" && key === `_${value}` ? undefined : value;
}

/** Local wall clock is for logs; people compare machines, so times are UTC: `2026-11-20 14:03:05`. */
export function timeText(ms: number): string {
  return ms === 0 ? "" : new Date(ms).toISOString().slice(0, 19).replace("T", " ");
}
