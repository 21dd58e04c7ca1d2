/**
 * The definition of a domain that comes from another node: the source's own, device by device (QEMU must find the same machine), with
 * what belongs to this node put in its place: mark, file paths, where its CPUs may run.
 */
import { XMLBuilder, XMLParser } from "fast-xml-parser";
import { RoostError } from "../../base/errors.ts";
import type { DomainSpec } from "../driver.ts";
import { buildDomainXml } from "./domain-xml.ts";
import type { DomainXmlOptions } from "./domain-xml.ts";

/** One element as the parser gives it when order matters: its name as the only key beside the attributes. */
type Element = { ":@"?: Record<string, string> } & Record<string, unknown>;

const PRESERVE = { preserveOrder: true, ignoreAttributes: false, parseTagValue: false, parseAttributeValue: false } as const;
const parser = new XMLParser({ ...PRESERVE, trimValues: true });
const builder = new XMLBuilder({ ...PRESERVE, format: true, suppressEmptyNode: true, suppressBooleanAttributes: false });

/** Elements of `<domain>` that are this node's. */
const OURS = ["metadata", "vcpu", "cputune", "numatune"];

/** Throws `invalid` if source and spec are not of one VM: other disks, other memory. */
export function migratedXml(source: string, spec: DomainSpec, options: DomainXmlOptions): string {
  const own = childrenOf(domainOf(buildDomainXml(spec, options)));
  const document = parser.parse(source) as Element[];
  const domain = rootOf(document);
  const theirs = childrenOf(domain).filter((child) => !OURS.includes(nameOf(child)));
  const named = (name: string): Element[] => own.filter((child) => nameOf(child) === name);
  const at = theirs.findIndex((child) => nameOf(child) === "os");
  theirs.splice(at < 0 ? theirs.length : at, 0, ...OURS.flatMap(named));
  domain["domain"] = theirs;
  const uuid = textOf(theirs.find((child) => nameOf(child) === "uuid"));
  if (uuid !== spec.vmId) throw mismatch("uuid", `comes as ${uuid}, is ${spec.vmId}`);
  const boot = theirs.find((child) => nameOf(child) === "os");
  if (boot !== undefined && spec.boot !== null) {
    for (const child of childrenOf(boot)) {
      if (nameOf(child) === "kernel") child["kernel"] = [{ "#text": spec.boot.kernelPath }];
      if (nameOf(child) === "initrd" && spec.boot.initrdPath !== null) child["initrd"] = [{ "#text": spec.boot.initrdPath }];
    }
  }
  const devices = theirs.find((child) => nameOf(child) === "devices");
  const disks = new Map(spec.disks.map((disk) => [disk.target, disk]));
  for (const device of childrenOf(devices)) {
    if (nameOf(device) === "disk") {
      const target = attributesOf(find(device, "target"))["@_dev"] ?? "";
      const disk = disks.get(target);
      if (disk === undefined) throw mismatch("disks", `the source has a disk ${target} that is not defined here`);
      disks.delete(target);
      const file = find(device, "source");
      if (file !== undefined) file[":@"] = { "@_file": disk.source.path };
      // Of the backing chain libvirt finds out here again, by the paths of this node.
      device["disk"] = childrenOf(device).filter((child) => nameOf(child) !== "backingStore");
    }
    if (nameOf(device) === "serial" || nameOf(device) === "console") {
      const name = nameOf(device);
      const rest = childrenOf(device).filter((child) => nameOf(child) !== "log");
      const log: Element[] = spec.serialLogPath === null ? [] : [{ log: [], ":@": { "@_file": spec.serialLogPath, "@_append": "on" } }];
      // Its place is before the target, wherever libvirt prints it.
      const before = rest.findIndex((child) => nameOf(child) === "target");
      rest.splice(before < 0 ? rest.length : before, 0, ...log);
      device[name] = rest;
    }
  }
  const missing = [...disks.keys()];
  if (missing.length > 0) throw mismatch("disks", `the source has no disk ${missing.join(", ")}`);
  return builder.build(document);
}

function mismatch(field: string, message: string): RoostError {
  return new RoostError(
    { kind: "invalid", violations: [{ field, message }] },
    "the VM was changed since it started: restart it, then migrate",
  );
}

function domainOf(xml: string): Element {
  return rootOf(parser.parse(xml) as Element[]);
}

function rootOf(document: Element[]): Element {
  const domain = document.find((element) => nameOf(element) === "domain");
  if (domain === undefined) throw new RoostError({ kind: "damaged", what: "the definition that came with a migration" });
  return domain;
}

function nameOf(element: Element): string {
  return Object.keys(element).find((key) => key !== ":@") ?? "";
}

function childrenOf(element: Element | undefined): Element[] {
  const value = element === undefined ? [] : element[nameOf(element)];
  return Array.isArray(value) ? (value as Element[]) : [];
}

function find(element: Element, name: string): Element | undefined {
  return childrenOf(element).find((child) => nameOf(child) === name);
}

function attributesOf(element: Element | undefined): Record<string, string> {
  return element?.[":@"] ?? {};
}

function textOf(element: Element | undefined): string {
  const [child] = childrenOf(element);
  const text = child?.["#text"];
  return typeof text === "string" ? text : "";
}
