/**
 * Which silent nodes are to be switched off, and by whom (HA-4). Pure: the state and the leader's monotonic times go in, decisions come
 * out; each is a command, so nothing is done that a majority does not know of.
 */
import { claimOn } from "../model/claims.ts";
import { type FenceAttempt, type Fencing, openAttempt } from "../model/fencing.ts";
import { isAnswering } from "../model/node.ts";
import type { Node } from "../model/node.ts";
import type { Settings } from "../model/settings.ts";
import type { View } from "../model/view.ts";

export interface FencePlanInput {
  nowMs: number;
  term: number;
  leaderId: string;
  view: Pick<View, "nodes" | "vms" | "claimsByNode" | "fencing">;
  settings: Pick<Settings, "ha.fence" | "ha.fenceAfterMs" | "ha.suspectMs">;
  /** How long this leader has heard nothing of a node, ms; at most since its election. */
  silentMs: (nodeId: string) => number;
  /** Nodes that were unreachable already when this leader was elected: their silence is older than its own. */
  silentBefore: ReadonlySet<string>;
  /** When this leader first saw what a node's attempt has come to, monotonic ms. */
  sinceMs: (attempt: FenceAttempt) => number;
}

export type FenceDecision =
  | { kind: "begin"; nodeId: string; why: string }
  | { kind: "try"; nodeId: string; attempt: number; executorId: string; newRound: boolean; gaveUp: string | null }
  | { kind: "end"; nodeId: string; attempt: number; state: "failed" | "cancelled"; why: string };

/** Between two rounds of all who can try; doubled with each. */
const BACKOFF_FIRST_MS = 5_000;
const BACKOFF_LAST_MS = 300_000;
/** Beyond the devices' own limits: reading the state before, reporting after. */
const TRY_SLACK_MS = 15_000;

export function planFencing(input: FencePlanInput): FenceDecision[] {
  const decisions: FenceDecision[] = [];
  const fencings = [...(input.view.fencing?.values() ?? [])].toSorted((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
  for (const fencing of fencings) {
    const node = input.view.nodes.get(fencing.nodeId);
    if (node === undefined) continue;
    const attempt = openAttempt(fencing);
    const decision = attempt === null ? planBegin(node, input) : planAttempt(node, fencing, attempt, input);
    if (decision !== null) decisions.push(decision);
  }
  return decisions;
}

/** VMs that wait for the node to be off; empty if nothing does. */
export function waitingForFence(node: Node, { view, settings }: Pick<FencePlanInput, "view" | "settings">): string[] {
  const mode = settings["ha.fence"];
  // One that a recover left out may be alive and in the right: that is for people to decide.
  if (mode === "never" || node.leftOut !== undefined) return [];
  const timeFrees = node.info !== null && node.info.guardian !== null;
  const names: string[] = [];
  for (const vmId of view.claimsByNode.get(node.id) ?? []) {
    const vm = view.vms.get(vmId);
    const held = vm === undefined ? null : claimOn(vm, node.id);
    // What was arriving there keeps nobody waiting as long as the source has the VM.
    const arrives = vm?.claim !== null && vm?.claim.nodeId !== node.id;
    if (vm === undefined || held === null || arrives || !vm.underHa || vm.desired.power !== "on" || vm.desired.deleted) continue;
    if (mode === "first" || !held.deadline || !timeFrees) names.push(vm.definition.name);
  }
  return names.toSorted();
}

function planBegin(node: Node, input: FencePlanInput): FenceDecision | null {
  if (node.state !== "unreachable" && node.state !== "fenced") return null;
  const waiting = waitingForFence(node, input);
  if (waiting.length === 0) return null;
  const { settings } = input;
  const patienceMs = input.silentBefore.has(node.id) ? settings["ha.suspectMs"] : settings["ha.fenceAfterMs"];
  const silentMs = input.silentMs(node.id);
  // A planned restart is under way as long as that (HA-9).
  if (silentMs < Math.max(patienceMs, node.parkedMs)) return null;
  const named = waiting.slice(0, 3).join(", ") + (waiting.length > 3 ? ` and ${waiting.length - 3} more` : "");
  return { kind: "begin", nodeId: node.id, why: `silent for ${Math.round(silentMs)} ms, ${named} wait for it to be off` };
}

function planAttempt(node: Node, fencing: Fencing, attempt: FenceAttempt, input: FencePlanInput): FenceDecision | null {
  const { nowMs } = input;
  const about = { nodeId: node.id, attempt: attempt.id };
  if (attempt.auto && waitingForFence(node, input).length === 0)
    return { kind: "end", ...about, state: "cancelled", why: "nothing waits for it any more" };
  const able = executors(node, input);
  const waitedMs = nowMs - input.sinceMs(attempt);
  const { current } = attempt;
  if (current !== null) {
    // A new leader's try under its own term; the same node goes on where it can.
    if (current.term !== input.term) {
      const executorId = able.includes(current.executorId) ? current.executorId : able[0];
      if (executorId === undefined) return null;
      return { kind: "try", ...about, executorId, newRound: false, gaveUp: "the leader changed" };
    }
    const limitMs = fencing.devices.reduce((sum, device) => sum + 2 * device.timeoutMs, TRY_SLACK_MS);
    const gone = !able.includes(current.executorId);
    if (!gone && waitedMs <= limitMs) return null;
    const gaveUp = gone ? "does not answer" : `did not say what became of it within ${limitMs} ms`;
    return planNext(attempt, able, about, gaveUp, Infinity);
  }
  return planNext(attempt, able, about, null, waitedMs);
}

/** The next that has not tried; after all have, another round later, or the end of an order. */
function planNext(
  attempt: FenceAttempt,
  able: readonly string[],
  about: { nodeId: string; attempt: number },
  gaveUp: string | null,
  waitedMs: number,
): FenceDecision | null {
  const next = able.find((id) => !attempt.tried.includes(id));
  if (next !== undefined) return { kind: "try", ...about, executorId: next, newRound: false, gaveUp };
  if (!attempt.auto) {
    const last = gaveUp ?? attempt.steps.at(-1)?.text ?? "no node could try";
    return { kind: "end", ...about, state: "failed", why: `all ${attempt.tried.length} nodes that can have tried; last: ${last}` };
  }
  const [first] = able;
  const backoffMs = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt.round - 1, 10));
  if (first === undefined || (gaveUp === null && waitedMs < backoffMs)) return null;
  return { kind: "try", ...about, executorId: first, newRound: true, gaveUp };
}

/** The leader first: it needs nobody's help. A node that is to be switched off is not asked to do it. */
function executors(target: Node, { view, leaderId }: FencePlanInput): string[] {
  const answers = (node: Node): boolean => node.id === leaderId || isAnswering(node);
  return [...view.nodes.values()]
    .filter((node) => node.id !== target.id && answers(node))
    .toSorted((a, b) => Number(b.id === leaderId) - Number(a.id === leaderId) || a.peerId - b.peerId)
    .map((node) => node.id);
}
