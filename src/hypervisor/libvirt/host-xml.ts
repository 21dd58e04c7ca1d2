/** What libvirt says of the host: capabilities (formatcaps.html) and domain capabilities (formatdomaincaps.html). */
import { XMLBuilder, XMLParser } from "fast-xml-parser";
import type { CpuTopology } from "../../model/node.ts";

/** Lists even where there is one element of them. */
const LISTS = new Set(["cell", "mode", "model", "feature"]);
const parser = new XMLParser({
  ignoreAttributes: false,
  parseTagValue: false,
  parseAttributeValue: false,
  isArray: (name, path) => LISTS.has(name) || (name === "cpu" && String(path).endsWith("cpus.cpu")),
});
const builder = new XMLBuilder({ ignoreAttributes: false, suppressEmptyNode: true, suppressBooleanAttributes: false });

type Element = Record<string, unknown>;

function asElement(value: unknown): Element | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Element) : null;
}

function child(parent: unknown, ...names: string[]): Element | null {
  let at = asElement(parent);
  for (const name of names) at = asElement(at?.[name]);
  return at;
}

function list(parent: Element | null, name: string): Element[] {
  const value = parent?.[name];
  return Array.isArray(value) ? value.map((one) => asElement(one) ?? { "#text": String(one) }) : [];
}

function attribute(element: Element, name: string): string {
  const value = element[`@_${name}`];
  return typeof value === "string" ? value : "";
}

/** Architecture and model of the host's CPU. */
export function readHostCpu(xml: string): { arch: string; model: string } {
  const cpu = child(parser.parse(xml), "capabilities", "host", "cpu");
  const model: unknown = Array.isArray(cpu?.["model"]) ? cpu["model"][0] : cpu?.["model"];
  const text = (value: unknown): string => (typeof value === "string" ? value : "unknown");
  return { arch: text(cpu?.["arch"]), model: text(model) };
}

/** Null where libvirt does not say, or says something that does not add up: then nothing is pinned on this host. */
export function readTopology(xml: string): CpuTopology | null {
  const cells = list(child(parser.parse(xml), "capabilities", "host", "topology", "cells"), "cell");
  const numa: CpuTopology["numa"] = [];
  const sockets = new Set<string>();
  const cores = new Set<string>();
  let threads = 0;
  for (const cell of cells) {
    const cpus = list(child(cell, "cpus"), "cpu").map((cpu) => {
      const socket = attribute(cpu, "socket_id");
      const core = `${socket}/${attribute(cpu, "die_id")}/${attribute(cpu, "core_id")}`;
      return { id: Number(attribute(cpu, "id")), socket, core };
    });
    // A cell with memory alone, or with CPUs that are offline and say nothing of where they are.
    const placed = cpus.filter((cpu) => cpu.socket !== "" && Number.isSafeInteger(cpu.id));
    const byCore = new Map<string, number[]>();
    for (const { id, socket, core } of placed) {
      sockets.add(socket);
      cores.add(core);
      threads++;
      byCore.set(core, [...(byCore.get(core) ?? []), id]);
    }
    const order = [...byCore.values()].map((ids) => ids.toSorted((a, b) => a - b)).toSorted((a, b) => (a[0] ?? 0) - (b[0] ?? 0));
    if (placed.length > 0) numa.push({ id: Number(attribute(cell, "id")), cpus: order.flat(), memoryMib: memoryMib(cell) });
  }
  if (numa.length === 0 || numa.some((node) => !Number.isSafeInteger(node.id))) return null;
  return {
    sockets: sockets.size,
    coresPerSocket: Math.floor(cores.size / sockets.size),
    threadsPerCore: Math.floor(threads / cores.size),
    numa: numa.toSorted((a, b) => a.id - b.id),
  };
}

function memoryMib(cell: Element): number {
  const memory = asElement(cell["memory"]);
  const amount = Number(memory?.["#text"]);
  if (!Number.isFinite(amount)) return 0;
  return Math.floor(memory?.["@_unit"] === "MiB" ? amount : amount / 1024);
}

/** CPU models that guests can have here, sorted, and the CPU element that stands for all the host can give; nulls where libvirt does not say. */
export function readGuestCpus(xml: string): { models: string[] | null; hostCpu: string | null } {
  const modes = list(child(parser.parse(xml), "domainCapabilities", "cpu"), "mode");
  const supported = (name: string): Element | undefined =>
    modes.find((mode) => attribute(mode, "name") === name && attribute(mode, "supported") === "yes");
  const custom = supported("custom");
  const models = custom === undefined ? null : list(custom, "model").filter((model) => attribute(model, "usable") !== "no");
  const host = supported("host-model");
  return {
    models: models === null ? null : models.map((model) => String(model["#text"])).toSorted(),
    hostCpu:
      host === undefined
        ? null
        : builder.build({
            cpu: { "@_mode": "custom", "@_match": "exact", model: host["model"], vendor: host["vendor"], feature: host["feature"] },
          }),
  };
}

/** Names of the features that a CPU element requires, sorted. */
export function readFeatures(xml: string): string[] {
  const features = list(child(parser.parse(xml), "cpu"), "feature").filter((feature) => attribute(feature, "policy") === "require");
  return features.map((feature) => attribute(feature, "name")).toSorted();
}

/** Whom QEMU runs as, from libvirt's DAC security model; null where it says nothing of it: then as the daemon itself. */
export function readDacOwner(xml: string): { uid: number; gid: number } | null {
  const label = /<model>dac<\/model>[\s\S]*?<baselabel[^>]*>\+(\d+):\+(\d+)<\/baselabel>/.exec(xml);
  return label === null ? null : { uid: Number(label[1]), gid: Number(label[2]) };
}
