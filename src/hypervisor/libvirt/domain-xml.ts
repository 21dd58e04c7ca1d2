/**
 * Domain definitions for libvirt (libvirt.org/formatdomain.html) and the mark read back from them. XML is built and read
 * by fast-xml-parser; no text is ever pasted into it.
 */
import { XMLBuilder, XMLParser } from "fast-xml-parser";
import { RoostError } from "../../base/errors.ts";
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
      vcpu: String(spec.cpus),
      os: os(spec, options),
      features,
      // qemu64 is what TCG emulates on every host alike; on KVM the guest gets the host's model.
      cpu: options.kvm
        ? { "@_mode": "host-model" }
        : { "@_mode": "custom", "@_match": "exact", "@_check": "none", model: { "@_fallback": "allow", "#text": "qemu64" } },
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

/** What the host's capabilities XML says about its CPU. */
export function readHostCpu(xml: string): { arch: string; model: string } {
  const cpu = child(child(child(parser.parse(xml), "capabilities"), "host"), "cpu");
  const text = (value: unknown): string => (typeof value === "string" ? value : "unknown");
  return { arch: text(cpu?.["arch"]), model: text(cpu?.["model"]) };
}

const builder = new XMLBuilder({ ignoreAttributes: false, format: true, suppressEmptyNode: true, suppressBooleanAttributes: false });
const parser = new XMLParser({ ignoreAttributes: false, parseTagValue: false, parseAttributeValue: false });

function asRecord(value: unknown): Record<string, unknown> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
}

function child(parent: unknown, name: string): Record<string, unknown> | null {
  return asRecord(asRecord(parent)?.[name]);
}
