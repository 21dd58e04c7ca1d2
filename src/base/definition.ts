/**
 * A VM definition as people write it (YAML or JSON, read into plain objects) to the shape that the API takes, and back.
 * Only shape is judged here: unknown keys, wrong types, units. What values mean is checked in src/model/definition.ts,
 * on the server; both answer with the same field names, so that all faults can be shown at once (VM-5).
 */
import type { Violation } from "./errors.ts";
import { didYouMean } from "./suggest.ts";
import { formatBytesExact, formatMib, parseBytes, parseMib } from "./units.ts";

/** Same fields as roost.v1.VmDefinition; absent, null, empty and 0 all mean "not said". */
export interface DefinitionInput {
  name?: string | undefined;
  cpus?: number | undefined;
  memoryMib?: number | undefined;
  arch?: string | undefined;
  boot?: BootInput | null | undefined;
  disks?: DiskInput[] | undefined;
  nics?: NicInput[] | undefined;
  labels?: Record<string, string> | undefined;
  restart?: string | undefined;
  ha?: HaInput | null | undefined;
}

export interface BootInput {
  kernel?: string | undefined;
  initrd?: string | undefined;
  cmdline?: string | undefined;
}

export interface DiskInput {
  pool?: string | undefined;
  source?: string | undefined;
  sizeBytes?: number | undefined;
  clone?: boolean | undefined;
  format?: string | undefined;
  target?: string | undefined;
  bus?: string | undefined;
  device?: string | undefined;
  readonly?: boolean | undefined;
  cache?: string | undefined;
}

export interface NicInput {
  bridge?: string | undefined;
  mac?: string | undefined;
  model?: string | undefined;
}

export interface HaInput {
  enabled?: boolean | undefined;
  priority?: number | undefined;
  onQuorumLoss?: string | undefined;
}

type Reader = (value: unknown, field: string, faults: Violation[]) => unknown;
interface Key {
  read: Reader;
  /** Name in the result, if another. */
  to?: string;
  /** Also accepted: the spelling of `-o json` and of the proto, with a bare number. */
  numeric?: string[];
  aliases?: string[];
}
type Keys = Record<string, Key>;

const text: Reader = (value, field, faults) => {
  if (typeof value === "string") return value;
  // YAML reads `name: 42` as a number, and people mean the text.
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  faults.push({ field, message: `expected a text, not ${kindOf(value)}` });
  return undefined;
};

const integer: Reader = (value, field, faults) => {
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  faults.push({ field, message: `expected a whole number, not ${kindOf(value)}` });
  return undefined;
};

const boolean: Reader = (value, field, faults) => {
  if (typeof value === "boolean") return value;
  faults.push({ field, message: `expected true or false, not ${kindOf(value)}` });
  return undefined;
};

const memory: Reader = (value, field, faults) => {
  const parsed = typeof value === "string" && /[A-Za-z]/.test(value) ? parseMib(value) : null;
  if (parsed?.ok === true) return parsed.value;
  const expected = parsed === null ? "an amount with its unit, such as 512MiB or 2GiB" : parsed.expected;
  faults.push({ field, message: `expected ${expected}, not ${kindOf(value)}` });
  return undefined;
};

const bytes: Reader = (value, field, faults) => {
  const parsed = typeof value === "string" ? parseBytes(value) : null;
  if (parsed?.ok === true) return parsed.value;
  faults.push({ field, message: `expected ${parsed?.expected ?? "a size with its unit, such as 512MiB or 10GiB"}, not ${kindOf(value)}` });
  return undefined;
};

const labels: Reader = (value, field, faults) => {
  if (!isObject(value)) {
    faults.push({ field, message: `expected key: value pairs, not ${kindOf(value)}` });
    return undefined;
  }
  const out: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(value)) out[key] = text(entry, `${field}.${key}`, faults) ?? "";
  return out;
};

function object(keys: Keys): Reader {
  return (value, field, faults) => readObject(value, keys, field, faults);
}

function list(read: Reader): Reader {
  return (value, field, faults) => {
    if (Array.isArray(value)) return value.map((entry, i) => read(entry, `${field}[${i}]`, faults) ?? {});
    faults.push({ field, message: `expected a list, not ${kindOf(value)}` });
    return undefined;
  };
}

const BOOT: Keys = { kernel: { read: text }, initrd: { read: text }, cmdline: { read: text } };

const DISK: Keys = {
  pool: { read: text },
  source: { read: text },
  size: { read: bytes, to: "sizeBytes", numeric: ["sizeBytes", "size_bytes"] },
  clone: { read: boolean },
  format: { read: text },
  target: { read: text },
  bus: { read: text },
  device: { read: text },
  readonly: { read: boolean },
  cache: { read: text },
};

const NIC: Keys = { bridge: { read: text }, mac: { read: text }, model: { read: text } };

const HA: Keys = {
  enabled: { read: boolean },
  priority: { read: integer },
  "on-quorum-loss": { read: text, to: "onQuorumLoss", aliases: ["onQuorumLoss", "on_quorum_loss"] },
};

const DEFINITION: Keys = {
  name: { read: text },
  cpus: { read: integer },
  memory: { read: memory, to: "memoryMib", numeric: ["memoryMib", "memory_mib"] },
  arch: { read: text },
  boot: { read: object(BOOT) },
  disks: { read: list(object(DISK)) },
  nics: { read: list(object(NIC)) },
  labels: { read: labels },
  restart: { read: text },
  ha: { read: object(HA) },
};

/** Reads one definition; what could be read is answered even when there are faults, so that the rest can be checked too. */
export function readDefinition(plain: unknown): { input: DefinitionInput; violations: Violation[] } {
  const violations: Violation[] = [];
  const input = (readObject(plain, DEFINITION, "", violations) ?? {}) as DefinitionInput;
  return { input, violations };
}

function readObject(value: unknown, keys: Keys, field: string, faults: Violation[]): Record<string, unknown> | undefined {
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

/** The definition as people write it, nothing lost: reading it back gives the same definition. Empty parts are left out. */
export function writeDefinition(input: DefinitionInput): Record<string, unknown> {
  return compact({
    name: input.name,
    cpus: input.cpus,
    memory: input.memoryMib === undefined ? undefined : formatMib(input.memoryMib),
    arch: input.arch,
    boot: input.boot === null || input.boot === undefined ? undefined : compact({ ...input.boot }),
    disks: (input.disks ?? []).map((disk) =>
      compact({
        pool: disk.pool,
        source: disk.source,
        size: disk.sizeBytes === undefined || disk.sizeBytes === 0 ? undefined : formatBytesExact(disk.sizeBytes),
        clone: disk.clone,
        format: disk.format,
        target: disk.target,
        bus: disk.bus,
        device: disk.device,
        readonly: disk.readonly,
        cache: disk.cache,
      }),
    ),
    nics: (input.nics ?? []).map((nic) => compact({ bridge: nic.bridge, mac: nic.mac, model: nic.model })),
    labels: { ...input.labels },
    restart: input.restart,
    ha:
      input.ha === null || input.ha === undefined
        ? undefined
        : compact({ enabled: input.ha.enabled, priority: input.ha.priority, "on-quorum-loss": input.ha.onQuorumLoss }),
  });
}

function compact(row: Record<string, unknown>): Record<string, unknown> {
  const empty = (value: unknown): boolean =>
    value === undefined || value === null || value === "" || (typeof value === "object" && Object.keys(value).length === 0);
  return Object.fromEntries(Object.entries(row).filter(([, value]) => !empty(value)));
}
