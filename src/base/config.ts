/**
 * Options of one node, as one registry: each can be in the config file, the environment and a flag, in that order of
 * strength rising (IF-10). What the whole cluster shares are settings (src/model/settings.ts), not options.
 */
import { RoostError } from "./errors.ts";
import type { Violation } from "./errors.ts";
import { didYouMean } from "./suggest.ts";

export interface NodeConfig {
  data: string;
  name: string;
  listen: string;
  advertise: string;
  zone: string;
  labels: string;
  driver: string;
  libvirtUri: string;
  guardian: string;
  memory: string;
  simulatedCpus: string;
  raftTickMs: string;
  logLevel: string;
}

export type ConfigKey = keyof NodeConfig;

export interface ConfigRule {
  flag: string;
  env: string;
  /** Empty: decided by the node itself, see `about`. */
  initial: string;
  expected: string;
  about: string;
  valid: (text: string) => boolean;
}

const label = (text: string): boolean => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text);
const oneOf =
  (...choices: string[]) =>
  (text: string): boolean =>
    choices.includes(text);
const host = (text: string): boolean => /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?$/.test(text);

export const DEFAULT_API_PORT = 7710;

export const CONFIG_RULES: Record<ConfigKey, ConfigRule> = {
  data: {
    flag: "--data <dir>",
    env: "ROOST_DATA",
    initial: "/var/lib/roost",
    expected: "an absolute path",
    about: "Folder for everything that the node writes: identity, state, logs, the local socket.",
    valid: (text) => text.startsWith("/"),
  },
  name: {
    flag: "--name <name>",
    env: "ROOST_NAME",
    initial: "",
    expected: "lower-case letters, digits and dashes",
    about: "Name of the node; the host's name if not given. Kept from the first start on.",
    valid: label,
  },
  listen: {
    flag: "--listen <ip[:port]>",
    env: "ROOST_LISTEN",
    initial: `0.0.0.0:${DEFAULT_API_PORT}`,
    expected: "an address, with or without a port",
    about: `Address of the API (TLS); other nodes use the port after it. Default port ${DEFAULT_API_PORT}.`,
    valid: host,
  },
  advertise: {
    flag: "--advertise <ip[:port]>",
    env: "ROOST_ADVERTISE",
    initial: "",
    expected: "an address, with or without a port",
    about: "Address under which other nodes reach this one; that of listen if not given, or the host's main address if that is 0.0.0.0.",
    valid: host,
  },
  zone: {
    flag: "--zone <zone>",
    env: "ROOST_ZONE",
    initial: "",
    expected: "lower-case letters, digits and dashes",
    about: "Availability zone that the node is in. Taken when it joins.",
    valid: (text) => text === "" || label(text),
  },
  labels: {
    flag: "--labels <k=v,...>",
    env: "ROOST_LABELS",
    initial: "",
    expected: "key=value pairs with commas between them",
    about: "Labels of the node. Taken when it joins.",
    valid: (text) => text === "" || text.split(",").every((pair) => /^[a-z0-9][a-z0-9._/-]*=[^,=]*$/.test(pair)),
  },
  driver: {
    flag: "--driver <kind>",
    env: "ROOST_DRIVER",
    initial: "auto",
    expected: "auto, libvirt or simulated",
    about: "What runs the VMs. auto takes libvirt where it answers, else the simulated driver, and says so.",
    valid: oneOf("auto", "libvirt", "simulated"),
  },
  libvirtUri: {
    flag: "--libvirt-uri <uri>",
    env: "ROOST_LIBVIRT_URI",
    initial: "qemu:///system",
    expected: "a libvirt URI",
    about: "Which of the host's hypervisors libvirt shall speak to.",
    valid: (text) => /^[a-z+]+:\/\//.test(text),
  },
  guardian: {
    flag: "--guardian <kind>",
    env: "ROOST_GUARDIAN",
    initial: "auto",
    expected: "auto, file, watchdog, watchdog:/dev/NAME or none",
    about:
      "What resets the host when agent and keeper are both gone: a watchdog device, or an init or service manager that polls <data>/run/guardian (file). " +
      "auto takes /dev/watchdog where there is one. Without a guardian the node's silence proves nothing, and its VMs are recovered only after `roost node fence`.",
    valid: (text) => /^(?:auto|file|none|watchdog(?::\/dev\/[A-Za-z0-9_-]+)?)$/.test(text),
  },
  memory: {
    flag: "--memory <MiB>",
    env: "ROOST_MEMORY",
    initial: "",
    expected: "a whole number of MiB",
    about: "Memory that VMs may have on this node, instead of what the host has.",
    valid: (text) => /^[1-9]\d{0,8}$/.test(text),
  },
  raftTickMs: {
    flag: "--raft-tick-ms <ms>",
    env: "ROOST_RAFT_TICK_MS",
    initial: "100",
    expected: "10 to 1000",
    about: "Raft's clock: the leader is heard once a tick, and missed after 10 to 20 of them. The same on all nodes.",
    valid: (text) => /^\d{2,4}$/.test(text) && Number(text) >= 10 && Number(text) <= 1_000,
  },
  simulatedCpus: {
    flag: "--simulated-cpus <n[/numa]>",
    env: "ROOST_SIMULATED_CPUS",
    initial: "",
    expected: "a number of CPUs, and of NUMA nodes after a slash, such as 8/2",
    about: "CPUs that a node with the simulated driver says it has, and over how many NUMA nodes; default: what the host has, in one.",
    valid: (text) => /^[1-9]\d{0,3}(?:\/[1-9]\d{0,2})?$/.test(text),
  },
  logLevel: {
    flag: "--log-level <level>",
    env: "ROOST_LOG_LEVEL",
    initial: "info",
    expected: "debug, info, warn or error",
    about: "Least severe log lines that are written.",
    valid: oneOf("debug", "info", "warn", "error"),
  },
};

export const CONFIG_KEYS = Object.keys(CONFIG_RULES) as ConfigKey[];

export interface Resolved {
  values: NodeConfig;
  /** Where each value comes from, for `roost config explain`. */
  sources: Record<ConfigKey, "default" | "file" | "environment" | "flag">;
}

/** The three sources, weakest first. `file` is the parsed config file, its keys as in NodeConfig. */
export interface ConfigSources {
  file?: Record<string, unknown>;
  env: Record<string, string | undefined>;
  flags: Partial<Record<ConfigKey, string>>;
}

/** Throws `invalid` with every fault: unknown keys of the file, and values that are not what is expected. */
export function resolveConfig({ file = {}, env, flags }: ConfigSources): Resolved {
  const violations: Violation[] = [];
  for (const key of Object.keys(file)) {
    if (Object.hasOwn(CONFIG_RULES, key)) continue;
    violations.push({
      field: `config file: ${key}`,
      message: `unknown key${didYouMean(key, CONFIG_KEYS)}; known: ${CONFIG_KEYS.join(", ")}`,
    });
  }
  const values: Partial<NodeConfig> = {};
  const sources: Partial<Resolved["sources"]> = {};
  for (const key of CONFIG_KEYS) {
    const rule = CONFIG_RULES[key];
    values[key] = rule.initial;
    sources[key] = "default";
    const take = (text: unknown, source: Resolved["sources"][ConfigKey], field: string): void => {
      if (text === undefined || text === null || text === "") return;
      const value = typeof text === "string" ? text : JSON.stringify(text);
      if (!rule.valid(value)) violations.push({ field, message: `expected ${rule.expected}, not ${JSON.stringify(value)}` });
      values[key] = value;
      sources[key] = source;
    };
    take(Object.hasOwn(file, key) ? file[key] : undefined, "file", `config file: ${key}`);
    take(env[rule.env], "environment", rule.env);
    take(flags[key], "flag", rule.flag.split(" ")[0] ?? "");
  }
  if (violations.length > 0) throw new RoostError({ kind: "invalid", violations }, "roost config explain lists all options");
  return { values: values as NodeConfig, sources: sources as Resolved["sources"] };
}

/** The local socket of the daemon that uses a data folder. */
export function socketPath(data: string): string {
  return `${data}/roost.sock`;
}

/** Host and API port of a `listen` or `advertise` text; other nodes use port + 1. */
export function splitListen(text: string): { host: string; port: number } {
  const match = /^(\[[^\]]+\]|[^:]+)(?::(\d+))?$/.exec(text);
  return { host: (match?.[1] ?? text).replace(/^\[|\]$/g, ""), port: match?.[2] === undefined ? DEFAULT_API_PORT : Number(match[2]) };
}
