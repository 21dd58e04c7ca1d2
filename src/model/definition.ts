/**
 * The check of a VM definition (VM-1, VM-5): from what a user wrote to the complete VmDefinition, defaults filled in, or
 * every fault of it, field by field. Pure; existence of pools and nodes is checked in definition-view.ts.
 */
import type { DefinitionInput, DiskInput } from "../base/definition.ts";
import type { Violation } from "../base/errors.ts";
import { didYouMean } from "../base/suggest.ts";
import { hash32 } from "./hash.ts";
import { checkRank, checkRequirements, printFault } from "./expression/check.ts";
import { DEFAULT_VDC, VM_LIMITS } from "./vm.ts";
import type { BootDefinition, DiskDefinition, HaDefinition, NicDefinition, VmDefinition } from "./vm.ts";

export interface DefinitionContext {
  /** Id of the VM to be: MAC addresses that are not given come from it. */
  vmId: string;
  /** Taken where the definition says none. */
  arch: string;
}

/** `partial` has whatever was said well and something legal for the rest: good for finding more faults, for nothing else. */
export type Checked = { ok: true; definition: VmDefinition } | { ok: false; violations: Violation[]; partial: VmDefinition };

const ARCHS = ["x86_64", "aarch64", "riscv64", "ppc64le", "s390x"] as const;
const RESTARTS = ["never", "on-failure", "always"] as const;
const FORMATS = ["qcow2", "raw"] as const;
const BUSES = ["virtio", "sata", "scsi", "ide"] as const;
const DEVICES = ["disk", "cdrom"] as const;
const CACHES = ["default", "none", "writeback", "writethrough"] as const;
const MODELS = ["virtio", "e1000"] as const;
const QUORUM = ["stop", "keep"] as const;

const NUMA = ["any", "one"] as const;

/** `Skylake-Server-noTSX-IBRS`, `sse4.1`, `xsaveerptr`. */
const CPU_WORD = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/;
const MIN_MEMORY_MIB = 16;
const MAX_CMDLINE = 2_048;
const MAX_DISK_BYTES = 2 ** 50;
const MAX_PRIORITY = 1_000;
const TARGET_PREFIX: Record<DiskDefinition["bus"], string> = { virtio: "vd", sata: "sd", scsi: "sd", ide: "hd" };

/** Checks everything before it answers, so a user sees all faults at once. Field names are those of the YAML form. */
export function checkDefinition(input: DefinitionInput, context: DefinitionContext): Checked {
  const faults = new Faults();
  const definition: VmDefinition = {
    name: faults.name("name", input.name ?? ""),
    cpus: faults.integer("cpus", input.cpus, 1, VM_LIMITS.cpus, "a number of CPUs"),
    memoryMib: faults.integer("memory", input.memoryMib, MIN_MEMORY_MIB, VM_LIMITS.memoryMib, "an amount of memory in MiB"),
    arch: faults.choice("arch", input.arch, ARCHS, context.arch),
    boot: checkBoot(input, faults),
    disks: checkDisks(input.disks ?? [], faults),
    nics: checkNics(input.nics ?? [], context.vmId, faults),
    labels: checkLabels(input.labels ?? {}, faults),
    ...checkWhere(input, faults),
    ...checkCpu(input, faults),
    restart: faults.choice("restart", input.restart, RESTARTS, "on-failure"),
    ha: checkHa(input, faults),
  };
  return faults.all.length === 0 ? { ok: true, definition } : { ok: false, violations: faults.all, partial: definition };
}

/**
 * A name that is also a DNS label (RFC 1123): lower-case letters, digits, dashes inside. Nothing that could be an id: ids
 * are names in node certificates, and a row called like another's id could never be found.
 */
export function isName(text: string): boolean {
  return text.length <= VM_LIMITS.nameLength && /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/.test(text) && !isUuid(text);
}

function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);
}

export const NAME_RULE = `1 to ${VM_LIMITS.nameLength} lower-case letters, digits and dashes, with no dash at either end`;

/** `POOL/FILE` where FILE stays inside its pool (SEC-4); null if it is anything else. */
export function splitReference(reference: string): { pool: string; file: string } | null {
  const slash = reference.indexOf("/");
  if (slash < 1) return null;
  const pool = reference.slice(0, slash);
  const file = reference.slice(slash + 1);
  const parts = file.split("/");
  // The same rule as the storage drivers': no leading dot, nothing that QEMU reads as a protocol or an option.
  const good = parts.length <= 4 && parts.every((part) => /^[A-Za-z0-9_][A-Za-z0-9._+@=-]{0,199}$/.test(part));
  return isName(pool) && good ? { pool, file } : null;
}

class Faults {
  readonly all: Violation[] = [];

  add(field: string, message: string): void {
    this.all.push({ field, message });
  }

  name(field: string, value: string): string {
    if (!isName(value)) this.add(field, `expected ${NAME_RULE}${value === "" ? "" : `, not ${quote(value)}`}`);
    return value;
  }

  integer(field: string, value: number | undefined, min: number, max: number, what: string): number {
    if (value === undefined || value === 0 || !Number.isSafeInteger(value) || value < min || value > max) {
      const got = value === undefined || value === 0 ? "" : `, not ${value}`;
      this.add(field, `expected ${what} from ${min} to ${max}${got}`);
      return min;
    }
    return value;
  }

  choice<const T extends string>(field: string, value: string | undefined, choices: readonly T[], initial: string): T {
    if (value === undefined || value === "") return initial as T;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) this.add(field, `expected one of ${choices.join(", ")}, not ${quote(value)}${didYouMean(value, choices)}`);
    return found ?? (initial as T);
  }

  reference(field: string, value: string): string {
    if (splitReference(value) === null) {
      this.add(field, `expected POOL/FILE, a file of a pool, with no \`..\` and no path outside it, not ${quote(value)}`);
    }
    return value;
  }
}

function quote(value: string): string {
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}…` : value);
}

/** What is not said is not in the row: definitions of before stay the same bytes. */
function checkWhere(input: DefinitionInput, faults: Faults): Pick<VmDefinition, "vdc" | "partition" | "requirements" | "rank"> {
  const said = (value: string | null | undefined): value is string => value !== undefined && value !== null && value !== "";
  const found: Pick<VmDefinition, "vdc" | "partition" | "requirements" | "rank"> = {};
  if (said(input.vdc) && input.vdc !== DEFAULT_VDC) found.vdc = faults.name("vdc", input.vdc);
  if (said(input.partition)) found.partition = faults.name("partition", input.partition);
  for (const [field, check] of [
    ["requirements", checkRequirements],
    ["rank", checkRank],
  ] as const) {
    const text = input[field];
    if (!said(text)) continue;
    const checked = check(text);
    if (checked.ok) found[field] = text;
    else faults.add(field, printFault(text, checked.fault));
  }
  return found;
}

function checkCpu(input: DefinitionInput, faults: Faults): Pick<VmDefinition, "cpuPinning" | "cpu"> {
  const found: Pick<VmDefinition, "cpuPinning" | "cpu"> = {};
  const { cpuPinning, cpu } = input;
  if (cpuPinning !== null && cpuPinning !== undefined) {
    found.cpuPinning = { numa: faults.choice("cpu-pinning.numa", cpuPinning.numa, NUMA, "any") };
  }
  if (cpu === null || cpu === undefined) return found;
  const model = cpu.model ?? "";
  if (model !== "" && !CPU_WORD.test(model))
    faults.add("cpu.model", `expected a CPU model as libvirt names it, or host, not ${quote(model)}`);
  const features = cpu.features ?? [];
  if (features.length > VM_LIMITS.cpuFeatures)
    faults.add("cpu.features", `expected at most ${VM_LIMITS.cpuFeatures} features, not ${features.length}`);
  features.forEach((feature, i) => {
    if (!CPU_WORD.test(feature))
      faults.add(`cpu.features[${i}]`, `expected a CPU feature as libvirt names it, such as avx2, not ${quote(feature)}`);
  });
  if (model !== "" || features.length > 0) found.cpu = { model: model === "" ? null : model, features: [...new Set(features)].toSorted() };
  return found;
}

function checkBoot(input: DefinitionInput, faults: Faults): BootDefinition | null {
  const boot = input.boot;
  if (boot === null || boot === undefined) return null;
  const kernel = boot.kernel ?? "";
  const initrd = boot.initrd ?? "";
  const cmdline = boot.cmdline ?? "";
  if (kernel === "") faults.add("boot.kernel", "expected POOL/FILE of a kernel; leave out boot to boot from the first disk");
  else faults.reference("boot.kernel", kernel);
  if (initrd !== "") faults.reference("boot.initrd", initrd);
  if (cmdline.length > MAX_CMDLINE) faults.add("boot.cmdline", `expected at most ${MAX_CMDLINE} characters, not ${cmdline.length}`);
  if (hasControl(cmdline)) faults.add("boot.cmdline", "expected one line without control characters");
  return { kernel, initrd: initrd === "" ? null : initrd, cmdline };
}

function checkDisks(disks: DiskInput[], faults: Faults): DiskDefinition[] {
  if (disks.length > VM_LIMITS.disks) faults.add("disks", `expected at most ${VM_LIMITS.disks} disks, not ${disks.length}`);
  const taken = new Map<string, number>();
  disks.forEach((disk, i) => {
    if (disk.target === undefined || disk.target === "") return;
    const other = taken.get(disk.target);
    if (other === undefined) taken.set(disk.target, i);
    else faults.add(`disks[${i}].target`, `${quote(disk.target)} is the target of disks[${other}] already`);
  });
  return disks.map((disk, i) => checkDisk(disk, `disks[${i}]`, taken, faults));
}

function checkDisk(disk: DiskInput, field: string, taken: Map<string, number>, faults: Faults): DiskDefinition {
  const device = faults.choice(`${field}.device`, disk.device, DEVICES, "disk");
  const cdrom = device === "cdrom";
  const source = disk.source ?? "";
  const size = disk.sizeBytes ?? 0;
  if (source !== "") faults.reference(`${field}.source`, source);
  const pool = disk.pool !== undefined && disk.pool !== "" ? disk.pool : (splitReference(source)?.pool ?? "");
  if (pool === "") faults.add(`${field}.pool`, "expected the name of a pool");
  else if (!isName(pool)) faults.add(`${field}.pool`, `expected the name of a pool, not ${quote(pool)}`);
  // A medium that cannot be written needs no copy of its own.
  const clone = disk.clone ?? !cdrom;
  if (source === "" && cdrom) faults.add(`${field}.source`, "expected POOL/FILE of an image; a cdrom cannot be empty");
  if (source === "" && !cdrom && disk.clone === false) faults.add(`${field}.source`, "expected POOL/FILE, because clone is false");
  if (source === "" && !cdrom && size === 0) faults.add(`${field}.size`, "expected a size, because the disk has no source");
  if (source !== "" && !clone && size !== 0)
    faults.add(`${field}.size`, "cannot be given for a source that is used as it is (clone: false)");
  if (size < 0 || size > MAX_DISK_BYTES || !Number.isSafeInteger(size)) faults.add(`${field}.size`, "expected a size up to 1024TiB");
  const bus = faults.choice(`${field}.bus`, disk.bus, BUSES, cdrom ? "sata" : "virtio");
  if (cdrom && bus === "virtio") faults.add(`${field}.bus`, "expected sata, scsi or ide for a cdrom");
  const format = faults.choice(`${field}.format`, disk.format, FORMATS, cdrom ? "raw" : "qcow2");
  if (disk.shareable === true) {
    if (clone || source === "")
      faults.add(`${field}.shareable`, "expected a source with clone: false: a disk of the VM's own is nobody else's");
    if (format !== "raw") faults.add(`${field}.shareable`, "expected format: raw: qcow2 keeps tables that two writers would break");
    if (cdrom || disk.readonly === true) faults.add(`${field}.shareable`, "is for disks that are written: what is only read needs it not");
  }
  return {
    pool,
    source: source === "" ? null : source,
    sizeBytes: size === 0 ? null : size,
    clone,
    format,
    target: checkTarget(disk.target ?? "", bus, `${field}.target`, taken, faults),
    bus,
    device,
    readonly: cdrom || disk.readonly === true,
    ...(disk.shareable === true ? { shareable: true as const } : {}),
    cache: faults.choice(`${field}.cache`, disk.cache, CACHES, "default"),
  };
}

function checkTarget(target: string, bus: DiskDefinition["bus"], field: string, taken: Map<string, number>, faults: Faults): string {
  const prefix = TARGET_PREFIX[bus];
  if (target !== "") {
    if (!/^(?:vd|sd|hd)[a-z]$/.test(target)) faults.add(field, `expected a name such as ${prefix}a, not ${quote(target)}`);
    else if (!target.startsWith(prefix)) faults.add(field, `expected ${prefix}a to ${prefix}z for bus ${bus}, not ${quote(target)}`);
    return target;
  }
  for (let letter = 0; letter < 26; letter++) {
    const free = prefix + String.fromCharCode(97 + letter);
    if (taken.has(free)) continue;
    taken.set(free, -1);
    return free;
  }
  faults.add(field, `expected at most 26 disks on bus ${bus}`);
  return `${prefix}a`;
}

function checkNics(nics: NonNullable<DefinitionInput["nics"]>, vmId: string, faults: Faults): NicDefinition[] {
  if (nics.length > VM_LIMITS.nics) faults.add("nics", `expected at most ${VM_LIMITS.nics} nics, not ${nics.length}`);
  const seen = new Map<string, number>();
  return nics.map((nic, i) => {
    const bridge = nic.bridge ?? "";
    // Linux: IFNAMSIZ is 16 with the closing zero.
    if (!/^[A-Za-z0-9_.-]{1,15}$/.test(bridge) || /^\.+$/.test(bridge)) {
      faults.add(`nics[${i}].bridge`, `expected the name of a bridge on the node${bridge === "" ? "" : `, not ${quote(bridge)}`}`);
    }
    const mac = nic.mac === undefined || nic.mac === "" ? generatedMac(vmId, i) : nic.mac.toLowerCase();
    if (!isUnicastMac(mac)) faults.add(`nics[${i}].mac`, `expected a unicast MAC address such as 52:54:00:12:34:56, not ${quote(mac)}`);
    const other = seen.get(mac);
    if (other !== undefined) faults.add(`nics[${i}].mac`, `${quote(mac)} is the address of nics[${other}] already`);
    seen.set(mac, i);
    return { bridge, mac, model: faults.choice(`nics[${i}].model`, nic.model, MODELS, "virtio") };
  });
}

/** Locally administered, 40 bits from the VM's id: among 10,000 VMs two collide with a chance of 5·10⁻⁵. */
export function generatedMac(vmId: string, index: number): string {
  const low = hash32(`${vmId}/${index}`);
  const high = hash32(`${index}/${vmId}`) & 0xff;
  const hex = high.toString(16).padStart(2, "0") + low.toString(16).padStart(8, "0");
  return `02:${hex.match(/../g)?.join(":") ?? ""}`;
}

function isUnicastMac(mac: string): boolean {
  if (!/^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) return false;
  // Lowest bit of the first byte: group addresses (IEEE 802).
  return (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 && mac !== "00:00:00:00:00:00";
}

/** Also for nodes: the same rule holds wherever there are labels. */
export function labelFaults(labels: Record<string, string>, field: string): Violation[] {
  const faults: Violation[] = [];
  const entries = Object.entries(labels);
  if (entries.length > VM_LIMITS.labels)
    faults.push({ field, message: `expected at most ${VM_LIMITS.labels} labels, not ${entries.length}` });
  for (const [key, value] of entries) {
    if (!/^[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?$/.test(key)) {
      faults.push({
        field: `${field}.${key.slice(0, 80)}`,
        message: "expected a key of 1 to 63 lower-case letters, digits, dots, slashes and dashes",
      });
    }
    if (value.length > 255 || hasControl(value)) {
      faults.push({ field: `${field}.${key.slice(0, 80)}`, message: "expected a value of at most 255 characters on one line" });
    }
  }
  return faults;
}

function checkLabels(labels: Record<string, string>, faults: Faults): Record<string, string> {
  faults.all.push(...labelFaults(labels, "labels"));
  // Sorted, so that the same labels are the same bytes in the replicated state.
  return Object.fromEntries(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function checkHa(input: DefinitionInput, faults: Faults): HaDefinition {
  const priority = input.ha?.priority ?? 0;
  if (!Number.isSafeInteger(priority) || priority < 0 || priority > MAX_PRIORITY) {
    faults.add("ha.priority", `expected a whole number from 0 to ${MAX_PRIORITY}, not ${priority}`);
  }
  return {
    enabled: input.ha?.enabled ?? null,
    priority,
    onQuorumLoss: faults.choice("ha.on-quorum-loss", input.ha?.onQuorumLoss, QUORUM, "stop"),
  };
}

function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) < 0x20 || text.charCodeAt(i) === 0x7f) return true;
  return false;
}
