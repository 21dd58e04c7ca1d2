/**
 * What agent and keeper say to each other: JSON lines on a unix socket. All times are CLOCK_BOOTTIME of the node, ms.
 * The agent only relays heartbeats and acknowledgements; everything that a right to run depends on (the nonce, the
 * times at which heartbeats were minted, the deadline) is the keeper's own (HA-3).
 */
import type { KillRecipe } from "../../hypervisor/driver.ts";
import type { Acknowledgement, Heartbeat, VmGeneration } from "../../model/heartbeat.ts";

/** A line longer than this closes the connection, on both sides. 1,000 claims are about 100 KiB. */
export const MAX_LINE_BYTES = 4 * 1024 * 1024;
/** Deadline VMs, others, and dead ones not yet unregistered, together. */
export const MAX_REGISTERED = 4_096;
/** No acknowledgement may grant more; also the upper bound of the setting `ha.claimMs`. */
export const MAX_GRANTED_MS = 600_000;

/** A heartbeat as the keeper mints it; the time stays on the node. */
export interface Beat extends Heartbeat {
  mintedAtMs: number;
}

export interface Registration extends VmGeneration {
  /** `claimRevision` of the node's row in the view in which the agent saw the claim. */
  revision: number;
  /** False: has no deadline, and dies only when it is left out of a claim set. */
  deadline: boolean;
  recipe: KillRecipe;
}

export type KeeperRequest =
  | { op: "hello"; killLeadMs: number }
  | { op: "beat" }
  | ({ op: "ack" } & Acknowledgement)
  | ({ op: "register" } & Registration)
  | ({ op: "confirm" } & VmGeneration)
  | ({ op: "unregister" } & VmGeneration)
  /** The agent has registered every domain that runs: from now on the keeper knows all there is. */
  | { op: "settled" }
  /** The parked claim is committed (HA-9). `seq`: a beat taken before it was proposed; the park counts from there. */
  | { op: "park"; seq: number; durationMs: number }
  /** Falls back to acknowledged time. Must be answered with ok before `node.hello` is proposed. */
  | { op: "unpark" }
  | { op: "list" }
  | { op: "shutdown" };

export type RefusalReason =
  /** Another boot or another keeper. */
  | "stranger"
  /** A sequence number that was not minted, or long ago. */
  | "unknown-seq"
  /** The acknowledgement names a newer claim set without carrying it. */
  | "claims-missing"
  /** This generation ran out here before; it stays dead. */
  | "dead"
  /** The deadline is past, or so near that killing would begin at once. */
  | "expired"
  /** The newest claim set does not have it. */
  | "left-out"
  /** Another generation of the VM is still here. */
  | "busy"
  | "not-registered"
  /** Not seen gone yet. */
  | "not-gone"
  | "limit"
  /** The guardian's feed could not be written: a VM may not run without it. */
  | "guardian"
  | "invalid";

export interface RegisteredVm extends VmGeneration {
  deadline: boolean;
  /** `gone`: it ran out or was left out, and nothing of it was seen at the last look. */
  phase: "live" | "dying" | "gone";
  why: "" | "deadline" | "left-out";
}

export interface KeeperStatus {
  bootId: string;
  nonce: string;
  pid: number;
  nowMs: number;
  /** 0: none. */
  deadlineMs: number;
  claimRevision: number;
  armed: boolean;
  /** False from the start of a keeper until `settled`. */
  settled: boolean;
  guardian: string | null;
  vms: RegisteredVm[];
}

export type KeeperAnswer =
  | { ok: true }
  | { ok: true; beat: Beat }
  | { ok: true; deadlineMs: number }
  | { ok: true; status: KeeperStatus }
  | { ok: false; reason: RefusalReason; detail: string };

export interface AnswerFrame {
  id: number;
  answer: KeeperAnswer;
}

type Fields = Record<string, unknown>;
const isText = (value: unknown): value is string => typeof value === "string" && value.length > 0 && value.length <= 4_096;
const isCount = (value: unknown): value is number => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
const isVm = (value: unknown): value is Fields & VmGeneration => isFields(value) && isText(value["vmId"]) && isCount(value["generation"]);

function isRecipe(value: unknown): value is KillRecipe {
  if (!isFields(value)) return false;
  if (value["kind"] === "libvirt") {
    return isText(value["socketPath"]) && isText(value["uri"]) && isText(value["uuid"]) && isText(value["processMark"]);
  }
  return value["kind"] === "file" && isText(value["path"]) && isVm(value);
}

/** A request as it came from the socket, or null if it is not one. Nothing from outside gets past here unchecked. */
export function parseRequest(value: unknown): KeeperRequest | null {
  if (!isFields(value)) return null;
  switch (value["op"]) {
    case "beat":
    case "settled":
    case "unpark":
    case "list":
    case "shutdown":
      return { op: value["op"] };
    case "hello": {
      const killLeadMs = value["killLeadMs"];
      return isCount(killLeadMs) ? { op: "hello", killLeadMs } : null;
    }
    case "confirm":
    case "unregister":
      return isVm(value) ? { op: value["op"], vmId: value.vmId, generation: value.generation } : null;
    case "park": {
      const { seq, durationMs } = value;
      return isCount(seq) && isCount(durationMs) ? { op: "park", seq, durationMs } : null;
    }
    case "register": {
      const { revision, deadline, recipe } = value;
      if (!isVm(value) || !isCount(revision) || typeof deadline !== "boolean" || !isRecipe(recipe)) return null;
      return { op: "register", vmId: value.vmId, generation: value.generation, revision, deadline, recipe };
    }
    case "ack": {
      const { bootId, nonce, seq, grantedMs, claimRevision, claims } = value;
      if (!isText(bootId) || !isText(nonce) || !isCount(seq) || !isCount(grantedMs) || !isCount(claimRevision)) return null;
      if (claims === null) return { op: "ack", bootId, nonce, seq, grantedMs, claimRevision, claims };
      if (!Array.isArray(claims) || !claims.every(isVm)) return null;
      const items = claims.map(({ vmId, generation }) => ({ vmId, generation }));
      return { op: "ack", bootId, nonce, seq, grantedMs, claimRevision, claims: items };
    }
    default:
      return null;
  }
}
