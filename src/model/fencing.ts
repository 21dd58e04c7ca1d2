/** How a node is switched off from outside (HA-4), and how far that has come. Never a part of the node's row: that one goes into histories and exports. */
import type { Violation } from "../base/errors.ts";

/** One power device of a node, as an operator configured it. */
export interface FenceDevice {
  /** Unique among the node's devices. */
  name: string;
  /** All devices of a level must be off together (two power supplies); the next level is tried when one of them is not. */
  level: number;
  /** `redfish`, or a program that speaks the fence-agents' contract: `fence_ipmilan`. */
  agent: string;
  options: Record<string, string>;
  /** Options that only agents read: in no answer, log, event or export. */
  secrets: Record<string, string>;
  /** From the request to the observed off, ms. */
  timeoutMs: number;
}

export interface Fencing {
  nodeId: string;
  /** By level, then name. */
  devices: FenceDevice[];
  /** The one under way, or the last. */
  attempt: FenceAttempt | null;
  /** Raft index of the last change of this row. */
  revision: number;
}

/**
 * `cancelled`: a sign of life of the node came first, or nothing waits for it any more. Only `done` was a proof.
 */
export type FenceAttemptState = "open" | "done" | "failed" | "cancelled";

/** Committed before anything is done: an intent that survives the leader (docs/design/012-fencing.md). */
export interface FenceAttempt {
  /** Raft index of the command that began it. */
  id: number;
  state: FenceAttemptState;
  /** The leader began it by itself; else `actor` ordered it, and one round of all nodes that could do it is all it gets. */
  auto: boolean;
  actor: string;
  why: string;
  /** Wall clock, ms. */
  beganAtMs: number;
  /** Tries so far, and of the present round, the nodes that made one. */
  tries: number;
  round: number;
  tried: string[];
  /** Who is at it now; null between two tries. */
  current: { number: number; executorId: string; term: number } | null;
  /** The last few failures and the end, in words. */
  steps: FenceStep[];
}

export interface FenceStep {
  atMs: number;
  /** Node that tried; null for what concerns none. */
  nodeId: string | null;
  text: string;
}

export const FENCING_LIMITS = {
  devices: 8,
  levels: 9,
  options: 64,
  optionLength: 16_384,
  steps: 16,
  stepLength: 500,
  timeoutMinMs: 500,
  timeoutMaxMs: 300_000,
  timeoutDefaultMs: 30_000,
} as const;

/** Within roost; everything else is a program. */
export const REDFISH = "redfish";

const AGENT = /^fence_[a-z0-9][a-z0-9_]{0,40}$/;
const OPTION = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;
/** Names of fence-agents' options that are secrets: password, passwd, snmp_priv_passwd, identity_file is a path and none. */
const SECRET = /pass|secret|token/i;
/** What roost says itself. */
const RESERVED = new Set(["action", "option"]);

export function isSecretOption(name: string): boolean {
  // `password_script` names a program that would be run as root.
  return SECRET.test(name);
}

/** Everything wrong with a device that can be told without its agent. */
export function deviceFaults(device: FenceDevice): Violation[] {
  const faults: Violation[] = [];
  const { name, level, agent, options, secrets, timeoutMs } = device;
  if (!/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    faults.push({ field: "device", message: "expected 1 to 63 lower-case letters, digits and dashes, with no dash at either end" });
  if (!Number.isInteger(level) || level < 1 || level > FENCING_LIMITS.levels)
    faults.push({ field: "level", message: `expected 1 to ${FENCING_LIMITS.levels}` });
  if (agent !== REDFISH && !AGENT.test(agent))
    faults.push({
      field: "agent",
      message: `expected redfish or the name of a fence agent such as fence_ipmilan, not ${JSON.stringify(agent)}`,
    });
  if (timeoutMs < FENCING_LIMITS.timeoutMinMs || timeoutMs > FENCING_LIMITS.timeoutMaxMs)
    faults.push({
      field: "timeout_ms",
      message: `expected ${FENCING_LIMITS.timeoutMinMs} to ${FENCING_LIMITS.timeoutMaxMs} ms, not ${timeoutMs}`,
    });
  const all = [...Object.entries(options), ...Object.entries(secrets)];
  if (all.length > FENCING_LIMITS.options) faults.push({ field: "options", message: `expected at most ${FENCING_LIMITS.options}` });
  for (const [key, value] of all) {
    const field = `options.${key.slice(0, 64)}`;
    if (!OPTION.test(key)) faults.push({ field, message: "expected a name of letters, digits, dashes and underscores" });
    else if (RESERVED.has(key)) faults.push({ field, message: "is what roost says itself" });
    else if (key.endsWith("_script")) faults.push({ field, message: "would run a program of the node's: not supported" });
    else if (value.length > FENCING_LIMITS.optionLength)
      faults.push({ field, message: `is longer than ${FENCING_LIMITS.optionLength} characters` });
    // The contract is one option a line.
    else if (/[\0\r\n]/.test(value) && agent !== REDFISH) faults.push({ field, message: "expected one line" });
  }
  for (const key of Object.keys(options)) {
    if (Object.hasOwn(secrets, key)) faults.push({ field: `options.${key}`, message: "is given as a secret, too" });
    else if (isSecretOption(key) && !key.endsWith("_script"))
      faults.push({ field: `options.${key}`, message: "is a secret: command lines are seen by others; it goes into --secret-file" });
  }
  return faults;
}

/** A fencing attempt that may still switch the node off. */
export function openAttempt(fencing: Fencing | undefined): FenceAttempt | null {
  return fencing?.attempt?.state === "open" ? fencing.attempt : null;
}
