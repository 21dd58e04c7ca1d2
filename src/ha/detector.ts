/**
 * Who is silent, and whose claims have run out (HA-4, HA-5). Pure: the leader's monotonic times go in, decisions come out.
 *
 * An expiry takes two steps. First the node is no longer acknowledged, and the consensus worker confirms it; only then, with
 * the last acknowledgement read again, is the expiry proposed. Else an acknowledgement could overtake the proof.
 */
import type { Node } from "../model/node.ts";
import type { Proof } from "../model/proof.ts";

/** What the consensus worker knows of one node's heartbeats in this term; no entry if there was none. Monotonic ms of the leader. */
export interface NodeBeat {
  nodeId: string;
  /** When its last heartbeat arrived. */
  lastBeatMs: number;
  /** When its last acknowledgement was sent; null if none was in this term. */
  lastAckMs: number | null;
  /** Longest duration granted in this term that may still be in force. */
  grantedMs: number;
}

export interface DetectorInput {
  nowMs: number;
  term: number;
  /** When this node won the election of this term. */
  electedMs: number;
  nodes: readonly Node[];
  beats: ReadonlyMap<string, NodeBeat>;
  /** Nodes of which the worker has confirmed, in this term, that it acknowledges them no more. */
  stopped: ReadonlySet<string>;
  /**
   * Nodes whose expiry was proposed and is neither applied nor refused yet. They are not acknowledged whatever they send: it may
   * still be applied, and an acknowledgement before that would extend what it ends.
   */
  expiring: ReadonlySet<string>;
  /** When the leader first saw the node's present park, for parked nodes. */
  parkedSinceMs: ReadonlyMap<string, number>;
  /** When the leader first saw that a node which a recover had left out is accounted for: others may have acknowledged it until then. */
  accountedMs: ReadonlyMap<string, number>;
  /** Nodes with at least one claim with a deadline: only they have something to expire. */
  deadlineHolders: ReadonlySet<string>;
  /** Longest duration that an acknowledgement still in force may have granted, by any leader. */
  longestGrantedMs: number;
  claimMs: number;
  marginMs: number;
  suspectMs: number;
  /** No suspicion before this: the leader itself stood still, and heartbeats may wait in its queues. */
  graceUntilMs: number;
}

export type Decision =
  /** `claimsEndInMs`: when an expiry would be due; null where no time ends its claims, or it has none. */
  | { kind: "suspect"; nodeId: string; silentMs: number; claimsEndInMs: number | null }
  | { kind: "alive"; nodeId: string }
  | { kind: "stop-acking"; nodeId: string }
  /** It was heard of again, or has nothing left to expire. */
  | { kind: "resume-acking"; nodeId: string }
  | { kind: "expire"; nodeId: string; proof: Proof & { kind: "expiry" }; silentMs: number };

/**
 * How long after its last acknowledgement a right of `durationMs` is certainly over: the margin is for ha.claimMs and
 * grows with longer durations, so that it always bounds the same clock rate error (margin / claim).
 */
export function waitMs(durationMs: number, limits: { claimMs: number; marginMs: number }): { grantedMs: number; marginMs: number } {
  return { grantedMs: durationMs, marginMs: Math.max(limits.marginMs, Math.ceil((durationMs * limits.marginMs) / limits.claimMs)) };
}

/** When the claims of a node are certainly over, on the leader's clock, with the numbers of the proof. */
export function expiryOf(node: Node, input: DetectorInput): { atMs: number; sinceMs: number; grantedMs: number; marginMs: number } {
  const beat = input.beats.get(node.id);
  // A new leader knows no acknowledgements of its predecessors: all were for heartbeats minted before its election (HA-5).
  let sinceMs = Math.max(input.electedMs, input.accountedMs.get(node.id) ?? -Infinity, beat?.lastAckMs ?? -Infinity);
  let durationMs = Math.max(input.longestGrantedMs, beat?.grantedMs ?? 0);
  if (node.parkedMs > 0) {
    sinceMs = Math.max(sinceMs, input.parkedSinceMs.get(node.id) ?? input.nowMs);
    durationMs = Math.max(durationMs, node.parkedMs);
  }
  const wait = waitMs(durationMs, input);
  return { atMs: sinceMs + wait.grantedMs + wait.marginMs, sinceMs, ...wait };
}

/** Null if the claims of a node can run out by time alone; else why not, for people. */
export function whyNoExpiry(node: Node): string | null {
  if (node.leftOut !== undefined) return "it was left out by a recover or restore: only its hello, a fence or an operator accounts for it";
  if (node.info === null) return "it never reported ready, so nothing is known of its guardian";
  if (node.info.guardian === null) return "it has no guardian: only a release, a fence or an operator frees its VMs";
  return null;
}

export function detect(input: DetectorInput): Decision[] {
  return input.nodes.flatMap((node) => detectNode(node, input));
}

function detectNode(node: Node, input: DetectorInput): Decision[] {
  if (node.state === "removed" || node.state === "joining") return [];
  const beat = input.beats.get(node.id);
  const silentMs = input.nowMs - Math.max(input.electedMs, beat?.lastBeatMs ?? -Infinity);
  const silent = silentMs >= input.suspectMs;
  const decisions: Decision[] = [];
  const expiry = expiryOf(node, input);
  // Another term's word on it is out of date: this leader waits from its own election.
  const isNews = node.state === "unreachable" ? node.silence !== undefined && node.silence.term !== input.term : node.state !== "fenced";
  if (silent && isNews && input.nowMs >= input.graceUntilMs) {
    const ends = input.deadlineHolders.has(node.id) && whyNoExpiry(node) === null;
    decisions.push({ kind: "suspect", nodeId: node.id, silentMs, claimsEndInMs: ends ? Math.max(0, expiry.atMs - input.nowMs) : null });
  }
  // A heartbeat of this term is needed: before one, a node of unknown fate is not called alive.
  if (!silent && beat !== undefined && node.state === "unreachable") decisions.push({ kind: "alive", nodeId: node.id });

  if (input.expiring.has(node.id)) return decisions;
  const over =
    input.nowMs >= Math.max(expiry.atMs, input.graceUntilMs) && silent && input.deadlineHolders.has(node.id) && whyNoExpiry(node) === null;
  if (!over) {
    if (input.stopped.has(node.id)) decisions.push({ kind: "resume-acking", nodeId: node.id });
    return decisions;
  }
  if (!input.stopped.has(node.id)) {
    decisions.push({ kind: "stop-acking", nodeId: node.id });
    return decisions;
  }
  const { grantedMs, marginMs } = expiry;
  const proof = {
    kind: "expiry" as const,
    nodeId: node.id,
    term: input.term,
    sinceAckMs: input.nowMs - expiry.sinceMs,
    grantedMs,
    marginMs,
  };
  decisions.push({ kind: "expire", nodeId: node.id, proof, silentMs });
  return decisions;
}

/** When the next decision is due at the latest if no heartbeat comes, monotonic ms; for waking up just in time. */
export function nextLookMs(input: DetectorInput): number {
  let next = Infinity;
  for (const node of input.nodes) {
    const candidates: number[] = [];
    const heard = Math.max(input.electedMs, input.beats.get(node.id)?.lastBeatMs ?? -Infinity);
    candidates.push(Math.max(heard + input.suspectMs, input.graceUntilMs));
    if (input.deadlineHolders.has(node.id)) candidates.push(expiryOf(node, input).atMs);
    for (const atMs of candidates) if (atMs > input.nowMs) next = Math.min(next, atMs);
  }
  return next;
}
