/**
 * A VM definition as people write it (YAML or JSON, read into plain objects) to the shape that the API takes, and back.
 * Only shape is judged here: unknown keys, wrong types, units. What values mean is checked in src/model/definition.ts,
 * on the server; both answer with the same field names, so that all faults can be shown at once (VM-5).
 */
import type { Violation } from "./errors.ts";
import { boolean, bytes, compact, integer, labels, list, memory, object, readObject, text, texts } from "./shape.ts";
import type { Keys } from "./shape.ts";
import { formatBytesExact, formatMib } from "./units.ts";

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
  vdc?: string | undefined;
  partition?: string | undefined;
  requirements?: string | undefined;
  rank?: string | undefined;
  cpuPinning?: CpuPinningInput | null | undefined;
  cpu?: CpuInput | null | undefined;
}

export interface CpuPinningInput {
  numa?: string | undefined;
}

export interface CpuInput {
  model?: string | undefined;
  features?: string[] | undefined;
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
  shareable?: boolean | undefined;
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
  shareable: { read: boolean },
  cache: { read: text },
};

const NIC: Keys = { bridge: { read: text }, mac: { read: text }, model: { read: text } };

const HA: Keys = {
  enabled: { read: boolean },
  priority: { read: integer },
  "on-quorum-loss": { read: text, to: "onQuorumLoss", aliases: ["onQuorumLoss", "on_quorum_loss"] },
};

const CPU_PINNING: Keys = { numa: { read: text } };

const CPU: Keys = { model: { read: text }, features: { read: texts } };

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
  vdc: { read: text },
  partition: { read: text },
  requirements: { read: text },
  rank: { read: text },
  "cpu-pinning": { read: object(CPU_PINNING), to: "cpuPinning", aliases: ["cpuPinning", "cpu_pinning"] },
  cpu: { read: object(CPU) },
};

/** Reads one definition; what could be read is answered even when there are faults, so that the rest can be checked too. */
export function readDefinition(plain: unknown): { input: DefinitionInput; violations: Violation[] } {
  const violations: Violation[] = [];
  const input = (readObject(plain, DEFINITION, "", violations) ?? {}) as DefinitionInput;
  return { input, violations };
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
        shareable: disk.shareable === true ? true : undefined,
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
    vdc: input.vdc,
    partition: input.partition,
    requirements: input.requirements,
    rank: input.rank,
    // Its mere presence asks for pinning: nothing empty may be left out of it.
    "cpu-pinning": input.cpuPinning === null || input.cpuPinning === undefined ? undefined : { numa: input.cpuPinning.numa ?? "any" },
    cpu: input.cpu === null || input.cpu === undefined ? undefined : compact({ model: input.cpu.model, features: input.cpu.features }),
  });
}
