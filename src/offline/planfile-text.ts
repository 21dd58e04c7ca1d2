/**
 * The readable form of plan files, one thing a line:
 *
 *     # comment
 *     setting memoryRatio=1 cpuRatio=0 reserveMib=512
 *     node n1 cpus=8 memory=16384 zone=a label.rack=r1
 *     vm web1 cpus=2 memory=2048 node=n1
 *     policy apart vms=web1,web2 rule=must place=different-nodes
 *
 * and for a request: `mode batch`, `scoring balance`, `kind start`, `seed 7`, `vm web1` (a VM of the cluster) or
 * `vm new1 cpus=2 memory=2048` (a new one). A text that begins with `{` (or `[`) is JSON.
 */
import { RoostError } from "../base/errors.ts";
import type { Violation } from "../base/errors.ts";

const NUMBERS = new Set(["cpus", "memoryMib", "reserveMib", "memoryRatio", "cpuRatio", "priority", "weight", "numa", "threadsPerCore"]);
const LISTS = new Set(["vms", "nodes", "zones", "bridges", "pools", "cpuModels", "cpuFeatures"]);
const TRUTHS = new Set(["enabled", "hold", "ha", "guardian"]);
/** `label.disk=ssd`: one entry of an object a word. */
const MAPS: Readonly<Record<string, string>> = { label: "labels", value: "values", vmLabel: "vmLabels", nodeLabel: "nodeLabels" };
const SHORT: Readonly<Record<string, string>> = { memory: "memoryMib", reserve: "reserveMib" };
/** Blank-separated words; a value in double quotes may hold blanks. */
const WORD = /(?:[^\s"]+|"[^"]*")+/g;

export function parseClusterText(text: string): unknown {
  if (isJson(text)) return parseJson(text, "cluster");
  const cluster: Record<string, unknown[]> & { settings?: unknown[] } = {};
  const settings: Record<string, unknown> = {};
  const places: Readonly<Record<string, string>> = { node: "nodes", vm: "vms", policy: "policies", zone: "zones" };
  eachLine(text, [...Object.keys(places), "setting"], (word, rest, fault) => {
    if (word === "setting") return void Object.assign(settings, pairs(rest, fault));
    const list = places[word]!;
    (cluster[list] ??= []).push(named(rest, fault));
  });
  return { ...cluster, settings };
}

export function parseRequestText(text: string): unknown {
  if (isJson(text)) return parseJson(text, "request");
  const request: Record<string, unknown> = {};
  const vms: unknown[] = [];
  eachLine(text, ["vm", "mode", "scoring", "kind", "seed"], (word, rest, fault) => {
    if (word !== "vm") request[word] = rest[0] ?? "";
    else vms.push(rest.length === 1 ? rest[0] : named(rest, fault));
  });
  return { ...request, vms };
}

export function isJson(text: string): boolean {
  return /^[{[]/.test(text.trimStart());
}

export function parseJson(text: string, what: string): unknown {
  try {
    // trimStart takes a byte order mark, too, which editors write and JSON does not know.
    return JSON.parse(text.trimStart()) as unknown;
  } catch (problem) {
    const message = problem instanceof Error ? problem.message : String(problem);
    throw new RoostError({ kind: "invalid", violations: [{ field: what, message: `is not JSON: ${message}` }] }, undefined, {
      cause: problem,
    });
  }
}

function eachLine(
  text: string,
  words: readonly string[],
  take: (word: string, rest: string[], fault: (message: string) => void) => void,
): void {
  const faults: Violation[] = [];
  for (const [at, line] of text.split("\n").entries()) {
    const [word, ...rest] = line.replace(/(^|\s)#.*$/, "").match(WORD) ?? [];
    if (word === undefined) continue;
    const fault = (message: string): void => void faults.push({ field: `line ${at + 1}`, message });
    if (words.includes(word)) take(word, rest, fault);
    else fault(`begins with ${word}; expected one of ${words.join(", ")}`);
  }
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
}

function named(words: string[], fault: (message: string) => void): Record<string, unknown> {
  const [name, ...rest] = words;
  if (name === undefined || name.includes("=")) fault("needs a name first");
  return { name, ...pairs(rest, fault) };
}

function pairs(words: readonly string[], fault: (message: string) => void): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const word of words) {
    const equals = word.indexOf("=");
    if (equals < 1) {
      fault(`${word} is not KEY=VALUE`);
      continue;
    }
    const key = word.slice(0, equals);
    const value = word.slice(equals + 1).replaceAll('"', "");
    const name = SHORT[key] ?? key;
    const dot = key.indexOf(".");
    const map = dot === -1 ? undefined : MAPS[key.slice(0, dot)];
    if (map !== undefined) found[map] = { ...(found[map] as Record<string, string> | undefined), [key.slice(dot + 1)]: value };
    else if (NUMBERS.has(name)) found[name] = value === "" ? Number.NaN : Number(value);
    else if (LISTS.has(name)) found[name] = value.split(",").filter((entry) => entry !== "");
    else if (name === "pinned")
      found[name] = value
        .split(",")
        .filter((entry) => entry !== "")
        .map(Number);
    else if (TRUTHS.has(name)) found[name] = value === "true" ? true : value === "false" ? false : value;
    else found[name] = value;
  }
  return found;
}
