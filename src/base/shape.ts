/**
 * Shapes of what people write (YAML or JSON, read into plain objects): known keys, types, units, each fault with its
 * field. What values mean is judged elsewhere.
 */
import type { Violation } from "./errors.ts";
import { didYouMean } from "./suggest.ts";
import { parseBytes, parseMib } from "./units.ts";

export type Reader = (value: unknown, field: string, faults: Violation[]) => unknown;
interface Key {
  read: Reader;
  /** Name in the result, if another. */
  to?: string;
  /** Also accepted: the spelling of `-o json` and of the proto, with a bare number. */
  numeric?: string[];
  aliases?: string[];
}
export type Keys = Record<string, Key>;

export const text: Reader = (value, field, faults) => {
  if (typeof value === "string") return value;
  // YAML reads `name: 42` as a number, and people mean the text.
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  faults.push({ field, message: `expected a text, not ${kindOf(value)}` });
  return undefined;
};

export const integer: Reader = (value, field, faults) => {
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  faults.push({ field, message: `expected a whole number, not ${kindOf(value)}` });
  return undefined;
};

export const boolean: Reader = (value, field, faults) => {
  if (typeof value === "boolean") return value;
  faults.push({ field, message: `expected true or false, not ${kindOf(value)}` });
  return undefined;
};

export const memory: Reader = (value, field, faults) => {
  const parsed = typeof value === "string" && /[A-Za-z]/.test(value) ? parseMib(value) : null;
  if (parsed?.ok === true) return parsed.value;
  const expected = parsed === null ? "an amount with its unit, such as 512MiB or 2GiB" : parsed.expected;
  faults.push({ field, message: `expected ${expected}, not ${kindOf(value)}` });
  return undefined;
};

export const bytes: Reader = (value, field, faults) => {
  const parsed = typeof value === "string" ? parseBytes(value) : null;
  if (parsed?.ok === true) return parsed.value;
  faults.push({ field, message: `expected ${parsed?.expected ?? "a size with its unit, such as 512MiB or 10GiB"}, not ${kindOf(value)}` });
  return undefined;
};

export const labels: Reader = (value, field, faults) => {
  if (!isObject(value)) {
    faults.push({ field, message: `expected key: value pairs, not ${kindOf(value)}` });
    return undefined;
  }
  const out: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(value)) out[key] = text(entry, `${field}.${key}`, faults) ?? "";
  return out;
};

export function object(keys: Keys): Reader {
  return (value, field, faults) => readObject(value, keys, field, faults);
}

/** A list of texts; one text alone is a list of one. */
export const texts: Reader = (value, field, faults) => {
  if (typeof value === "string" || typeof value === "number") return [String(value)];
  if (Array.isArray(value)) return value.map((entry, i) => text(entry, `${field}[${i}]`, faults) ?? "");
  faults.push({ field, message: `expected a list of texts, not ${kindOf(value)}` });
  return undefined;
};

export function list(read: Reader): Reader {
  return (value, field, faults) => {
    if (Array.isArray(value)) return value.map((entry, i) => read(entry, `${field}[${i}]`, faults) ?? {});
    faults.push({ field, message: `expected a list, not ${kindOf(value)}` });
    return undefined;
  };
}

export function readObject(value: unknown, keys: Keys, field: string, faults: Violation[]): Record<string, unknown> | undefined {
  if (!isObject(value)) {
    faults.push({ field, message: `expected ${Object.keys(keys).slice(0, 3).join(", ")}, … as key: value pairs, not ${kindOf(value)}` });
    return undefined;
  }
  const out: Record<string, unknown> = {};
  for (const [written, entry] of Object.entries(value)) {
    const at = field === "" ? written : `${field}.${written}`;
    const found = findKey(keys, written);
    if (found === null) {
      faults.push({ field: at, message: `unknown key${didYouMean(written, Object.keys(keys))}; known: ${Object.keys(keys).join(", ")}` });
      continue;
    }
    // An empty value in YAML is null: the same as leaving the key out.
    if (entry === null || entry === undefined) continue;
    const target = found.key.to ?? found.name;
    if (Object.hasOwn(out, target)) {
      faults.push({ field: at, message: `${found.name} is given twice, in two spellings` });
      continue;
    }
    const read = found.bare ? integer : found.key.read;
    const result = read(entry, at, faults);
    if (result !== undefined) out[target] = result;
  }
  return out;
}

function findKey(keys: Keys, written: string): { name: string; key: Key; bare: boolean } | null {
  for (const [name, key] of Object.entries(keys)) {
    if (written === name || key.aliases?.includes(written) === true) return { name, key, bare: false };
    if (key.numeric?.includes(written) === true) return { name, key, bare: true };
  }
  return null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "key: value pairs";
  return JSON.stringify(value).slice(0, 60);
}

/** Without what is empty. */
export function compact(row: Record<string, unknown>): Record<string, unknown> {
  const empty = (value: unknown): boolean =>
    value === undefined || value === null || value === "" || (typeof value === "object" && Object.keys(value).length === 0);
  return Object.fromEntries(Object.entries(row).filter(([, value]) => !empty(value)));
}
