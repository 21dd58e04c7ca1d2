/**
 * Domain definitions for libvirt (libvirt.org/formatdomain.html) and the mark read back from them. XML is built and read
 * by fast-xml-parser; no text is ever pasted into it.
 */
import { XMLBuilder, XMLParser } from "fast-xml-parser";
import { RoostError } from "../../base/errors.ts";
import type { CpuDefinition } from "../../model/vm.ts";
import type { DiskAttachment, DomainRef, DomainSpec, NicAttachment } from "../driver.ts";
import { domainName } from "./mark.ts";

const NAMESPACE = "urn:roost:domain:1";
/** Translation cache of an emulated guest: QEMU's default takes a gigabyte of address space each; with 4 MiB a Linux guest translates the same code over and over (7.8 s of CPU to boot, 2.1 s with 16). */
const TCG_CACHE_MIB = 16;

/** What the mark in a domain's metadata says. */
export interface Mark extends DomainRef {
  clusterId: string;
  /** The VM's name as its owner wrote it. */
  name: string;
}

export interface DomainXmlOptions {
  /** A guest really runs on KVM here; otherwise it is emulated (TCG). */
  kvm: boolean;
  emulatorPath: string;
  arch: string;
}

/** libvirt's definition of `spec`; the caller has validated it. Memory in MiB, file paths absolute on the node. */
export function buildDomainXml(spec: DomainSpec, options: DomainXmlOptions): string {
  const features: Record<string, unknown> = { acpi: {}, apic: {} };
  if (!options.kvm) features["tcg"] = { "tb-cache": { "@_unit": "MiB", "#text": String(TCG_CACHE_MIB) } };
  const document = {
    domain: {
      "@_type": options.kvm ? "kvm" : "qemu",
      name: domainName(spec, spec.name),
      uuid: spec.vmId,
      title: spec.name,
      metadata: {
        "roost:domain": {
          "@_xmlns:roost": NAMESPACE,
          "@_cluster": spec.clusterId,
          "@_vm": spec.vmId,
          "@_generation": String(spec.generation),
          "@_name": spec.name,
        },
      },
      memory: { "@_unit": "MiB", "#text": String(spec.memoryMib) },
      ...placementOf(spec),
      os: os(spec, options),
      features,
      cpu: cpuOf(spec.cpu ?? null, options.kvm),
      clock: { "@_offset": "utc" },
      on_poweroff: "destroy",
      on_reboot: "restart",
      // roost decides what happens next, by the VM's restart policy: libvirt must never start anything by itself.
      on_crash: "destroy",
      devices: {
        emulator: options.emulatorPath,
        controller: [{ "@_type": "usb", "@_model": "none" }, ...(spec.disks.some((disk) => disk.bus === "scsi") ? [SCSI_CONTROLLER] : [])],
        disk: spec.disks.map(disk),
        interface: spec.nics.map(nic),
        ...serial(spec.serialLogPath),
        memballoon: { "@_model": "virtio" },
      },
    },
  };
  return builder.build(document);
}

/** `<vcpu>`, and where the vCPUs, QEMU's own threads and the memory may be (formatdomain.html, CPU Tuning and NUMA Node Tuning). */
function placementOf(spec: DomainSpec): Record<string, unknown> {
  const placement = spec.cpuPlacement ?? null;
  if (placement === null) return { vcpu: String(spec.cpus) };
  const cpuset = cpuList(placement.cpus);
  const vcpu = { "@_placement": "static", "@_cpuset": cpuset, "#text": String(spec.cpus) };
  if (placement.kind === "shared") return { vcpu };
  const { cpus, numaNode } = placement;
  return {
    vcpu,
    cputune: {
      vcpupin: cpus.map((cpu, i) => ({ "@_vcpu": String(i), "@_cpuset": String(cpu) })),
      // Else QEMU's own threads would run on CPUs that belong to others.
      emulatorpin: { "@_cpuset": cpuset },
    },
    ...(numaNode === null ? {} : { numatune: { memory: { "@_mode": "strict", "@_nodeset": String(numaNode) } } }),
  };
}

/** `0-3,8` of numbers in any order. */
export function cpuList(cpus: readonly number[]): string {
  const parts: string[] = [];
  const sorted = [...cpus].sort((a, b) => a - b);
  for (let i = 0; i < sorted.length;) {
    let end = i;
    while (end + 1 < sorted.length && sorted[end + 1] === sorted[end]! + 1) end++;
    parts.push(end === i ? String(sorted[i]) : `${sorted[i]}-${sorted[end]}`);
    i = end + 1;
  }
  return parts.join(",");
}

/** Without a wish: on KVM the host's model; emulated the one that TCG gives on every host alike. */
function cpuOf(cpu: CpuDefinition | null, kvm: boolean): Record<string, unknown> {
  const features = (cpu?.features ?? []).map((name) => ({ "@_policy": "require", "@_name": name }));
  const wanted = features.length === 0 ? {} : { feature: features };
  const model = cpu?.model ?? null;
  if (model === "host") return { "@_mode": kvm ? "host-passthrough" : "maximum", ...wanted };
  if (model === null && kvm) return { "@_mode": "host-model", ...wanted };
  // Left to QEMU for its own default model only: what somebody asked for must be there, or the start fails.
  const check = cpu === null ? "none" : "partial";
  const fallback = model === null ? "allow" : "forbid";
  return {
    "@_mode": "custom",
    "@_match": "exact",
    "@_check": check,
    model: { "@_fallback": fallback, "#text": model ?? "qemu64" },
    ...wanted,
  };
}

const SCSI_CONTROLLER = { "@_type": "scsi", "@_index": "0", "@_model": "virtio-scsi" };

function os(spec: DomainSpec, options: DomainXmlOptions): Record<string, unknown> {
  // The i440fx machine boots fastest under emulation and is the one with an IDE bus.
  const type = { type: { "@_arch": options.arch, "@_machine": "pc", "#text": "hvm" } };
  if (spec.boot === null) return type;
  const { kernelPath, initrdPath, cmdline } = spec.boot;
  return { ...type, kernel: kernelPath, ...(initrdPath === null ? {} : { initrd: initrdPath }), ...(cmdline === "" ? {} : { cmdline }) };
}

function disk(attachment: DiskAttachment): Record<string, unknown> {
  const cache = attachment.cache === "default" ? {} : { "@_cache": attachment.cache };
  return {
    "@_type": "file",
    "@_device": attachment.device,
    // A failing or full disk stops the guest, to be seen and resumed, instead of feeding it errors.
    driver: { "@_name": "qemu", "@_type": attachment.source.format, ...cache, "@_error_policy": "stop" },
    source: { "@_file": attachment.source.path },
    target: { "@_dev": attachment.target, "@_bus": attachment.bus },
    ...(attachment.readonly || attachment.device === "cdrom" ? { readonly: {} } : {}),
    ...(attachment.shareable === true ? { shareable: {} } : {}),
  };
}

function nic(attachment: NicAttachment): Record<string, unknown> {
  return {
    "@_type": "bridge",
    mac: { "@_address": attachment.mac },
    source: { "@_bridge": attachment.bridge },
    model: { "@_type": attachment.model },
  };
}

function serial(logPath: string | null): Record<string, unknown> {
  const log = logPath === null ? {} : { log: { "@_file": logPath, "@_append": "on" } };
  return {
    serial: { "@_type": "pty", ...log, target: { "@_port": "0" } },
    console: { "@_type": "pty", target: { "@_type": "serial", "@_port": "0" } },
  };
}

/** The mark in a domain's XML, or null if the domain is not roost's. Throws `damaged` for a mark that cannot be read. */
export function readMark(xml: string): Mark | null {
  const metadata = child(child(parser.parse(xml), "domain"), "metadata");
  if (metadata === null) return null;
  for (const [key, value] of Object.entries(metadata)) {
    const attributes = Array.isArray(value) ? asRecord(value[0]) : asRecord(value);
    const [prefix] = key.includes(":") ? key.split(":") : [""];
    const declaration = prefix === "" ? "@_xmlns" : `@_xmlns:${prefix}`;
    if (attributes === null || attributes[declaration] !== NAMESPACE) continue;
    const text = (name: string): string => {
      const found = attributes[`@_${name}`];
      return typeof found === "string" ? found : "";
    };
    const generation = Number(text("generation"));
    if (text("vm") === "" || text("cluster") === "" || !Number.isSafeInteger(generation) || generation < 0) {
      throw new RoostError({
        kind: "damaged",
        what: `roost's mark in the metadata of domain ${String(child(parser.parse(xml), "domain")?.["name"])}`,
      });
    }
    return { clusterId: text("cluster"), vmId: text("vm"), generation, name: text("name") };
  }
  return null;
}

const builder = new XMLBuilder({ ignoreAttributes: false, format: true, suppressEmptyNode: true, suppressBooleanAttributes: false });
const parser = new XMLParser({ ignoreAttributes: false, parseTagValue: false, parseAttributeValue: false });

function asRecord(value: unknown): Record<string, unknown> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
}

function child(parent: unknown, name: string): Record<string, unknown> | null {
  return asRecord(asRecord(parent)?.[name]);
}
