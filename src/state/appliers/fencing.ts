/**
 * Switching nodes off from outside (HA-4): the devices, and each attempt from its intent to its proof. What makes an observation a
 * proof is here: it belongs to a try of an attempt that is open, in the term that began the try, and between intent and proof nothing
 * was heard of the node. A node that came back meanwhile may run VMs again, whatever was seen before (docs/design/012-fencing.md).
 */
import { RoostError } from "../../base/errors.ts";
import { deviceFaults, type FenceAttempt, FENCING_LIMITS, type FenceStep, type Fencing } from "../../model/fencing.ts";
import type { Node } from "../../model/node.ts";
import type { FenceBegin, FenceEnd, FenceReport, FenceTry, FencingSet, FencingUnset } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { endClaims } from "./node-moves.ts";

export function set(tx: Transaction, command: FencingSet): CommandResult {
  const node = tx.needNode(command.nodeId);
  if (node.state === "removed") throw new RoostError({ kind: "precondition", reason: `node ${node.name} was removed` });
  const { device } = command;
  const faults = deviceFaults(device);
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
  const before = tx.get("fencing", node.id);
  const others = (before?.devices ?? []).filter(({ name }) => name !== device.name);
  if (others.length >= FENCING_LIMITS.devices)
    throw new RoostError({ kind: "exhausted", reason: `node ${node.name} has ${FENCING_LIMITS.devices} fence devices already` });
  const devices = [...others, device].toSorted((a, b) => a.level - b.level || (a.name < b.name ? -1 : 1));
  put(tx, { nodeId: node.id, devices, attempt: before?.attempt ?? null, revision: 0 });
  tx.emit("fencing.changed", node.id, node.name, `${device.name}: ${device.agent}, level ${device.level}`, node.id);
  return { ids: [device.name] };
}

export function unset(tx: Transaction, command: FencingUnset): CommandResult {
  const node = tx.needNode(command.nodeId);
  const before = tx.get("fencing", node.id);
  const devices = (before?.devices ?? []).filter(({ name }) => command.device !== null && name !== command.device);
  if (before === undefined || before.devices.length === 0) {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} has no fence device` },
      "roost node fencing list shows those of all nodes",
    );
  }
  if (devices.length === before.devices.length) {
    throw new RoostError(
      { kind: "not-found", what: `fence device of ${node.name}`, name: command.device ?? "" },
      "roost node fencing list shows them",
    );
  }
  if (devices.length === 0) tx.put("fencing", node.id, null);
  else put(tx, { ...before, devices });
  tx.emit("fencing.changed", node.id, node.name, `${command.device ?? "all devices"} unset`, node.id);
  return { ids: [node.id] };
}

export function begin(tx: Transaction, command: FenceBegin): CommandResult {
  const node = tx.needNode(command.nodeId);
  const fencing = tx.get("fencing", node.id);
  if (command.auto) checkTerm(tx, tx.envelope.term);
  if (fencing?.attempt?.state === "open") return { ids: [String(fencing.attempt.id)] };
  // A disabled node answers as a ready one does, and its VMs run.
  if (node.state !== "unreachable" && node.state !== "fenced") {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} is alive` },
      "fencing is for nodes that do not answer; use `roost node disable` to keep VMs away",
    );
  }
  if (fencing === undefined) {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} has no fence device` },
      "`roost node fencing set` configures one; or make sure that the machine is off and say so with --confirmed",
    );
  }
  const attempt: FenceAttempt = {
    id: tx.index,
    state: "open",
    auto: command.auto,
    actor: tx.envelope.actor,
    why: command.why.slice(0, FENCING_LIMITS.stepLength),
    beganAtMs: tx.atMs,
    tries: 0,
    round: 1,
    tried: [],
    current: null,
    steps: [],
  };
  put(tx, { ...fencing, attempt });
  tx.emit("fence.began", node.id, node.name, attempt.why, node.id);
  return { ids: [String(attempt.id)] };
}

export function startTry(tx: Transaction, command: FenceTry): CommandResult {
  checkTerm(tx, tx.envelope.term);
  const { node, fencing, attempt } = openAttemptOf(tx, command);
  const executor = tx.needNode(command.executorId);
  if (executor.id === node.id) throw new RoostError({ kind: "conflict", reason: `node ${node.name} cannot switch itself off` });
  const number = attempt.tries + 1;
  const before = attempt.current;
  const steps = before === null || command.gaveUp === null ? attempt.steps : added(tx, attempt, before.executorId, command.gaveUp);
  put(tx, {
    ...fencing,
    attempt: {
      ...attempt,
      tries: number,
      round: attempt.round + (command.newRound ? 1 : 0),
      tried: [...(command.newRound ? [] : attempt.tried.filter((id) => id !== executor.id)), executor.id],
      current: { number, executorId: executor.id, term: tx.term },
      steps,
    },
  });
  const after = command.gaveUp === null ? "" : ` (${command.gaveUp})`;
  tx.emit("fence.try", node.id, node.name, `try ${number} by ${executor.name}${after}`, executor.id);
  return { ids: [String(number)] };
}

export function report(tx: Transaction, command: FenceReport): CommandResult {
  if (tx.envelope.origin !== command.executorId) {
    throw new RoostError({ kind: "denied", reason: `node ${tx.envelope.origin} cannot report for node ${command.executorId}` });
  }
  const { node, fencing, attempt } = openAttemptOf(tx, command);
  const { current } = attempt;
  if (current === null || current.number !== command.try || current.executorId !== command.executorId) {
    throw new RoostError({ kind: "conflict", reason: `try ${command.try} of fencing ${node.name} is over` });
  }
  checkTerm(tx, current.term);
  const executor = tx.needNode(command.executorId);
  const { outcome } = command;
  if (!outcome.off) {
    put(tx, { ...fencing, attempt: { ...attempt, current: null, steps: added(tx, attempt, executor.id, outcome.reason) } });
    tx.emit("fence.failed", node.id, node.name, `${executor.name}: ${outcome.reason.slice(0, FENCING_LIMITS.stepLength)}`, executor.id);
    return { ids: [node.id] };
  }
  const steps = added(tx, attempt, executor.id, `seen off: ${outcome.device}`);
  put(tx, { ...fencing, attempt: { ...attempt, state: "done", current: null, steps } });
  tx.emit("fence.off", node.id, node.name, `seen off at ${outcome.device} by ${executor.name}`, executor.id);
  endClaims(
    tx,
    node,
    { kind: "fence", nodeId: node.id, by: "power", device: outcome.device, observerId: executor.id, attempt: attempt.id },
    { lastHeartbeatMs: node.stateSinceMs, leaderChanged: false, suspectMs: node.stateSinceMs },
    () => true,
  );
  return { ids: [node.id] };
}

export function end(tx: Transaction, command: FenceEnd): CommandResult {
  checkTerm(tx, tx.envelope.term);
  const { node, fencing, attempt } = openAttemptOf(tx, command);
  finish(tx, node, fencing, attempt, command.state, command.why);
  return { ids: [node.id] };
}

/** The node spoke: what was seen of its power before that proves nothing any more. */
export function noteLife(tx: Transaction, nodeId: string, why = "it answers again"): void {
  const fencing = tx.get("fencing", nodeId);
  if (fencing?.attempt?.state !== "open") return;
  finish(tx, tx.needNode(nodeId), fencing, fencing.attempt, "cancelled", why);
}

function finish(tx: Transaction, node: Node, fencing: Fencing, attempt: FenceAttempt, state: "failed" | "cancelled", why: string): void {
  put(tx, { ...fencing, attempt: { ...attempt, state, current: null, steps: added(tx, attempt, null, why) } });
  tx.emit(state === "failed" ? "fence.failed" : "fence.cancelled", node.id, node.name, why, node.id);
}

function openAttemptOf(
  tx: Transaction,
  command: { nodeId: string; attempt: number },
): { node: Node; fencing: Fencing; attempt: FenceAttempt } {
  const node = tx.needNode(command.nodeId);
  const fencing = tx.get("fencing", node.id);
  const attempt = fencing?.attempt;
  if (fencing === undefined || attempt?.state !== "open" || attempt.id !== command.attempt) {
    throw new RoostError({ kind: "conflict", reason: `attempt ${command.attempt} to fence ${node.name} is over` });
  }
  return { node, fencing, attempt };
}

function checkTerm(tx: Transaction, term: number): void {
  if (term !== tx.term) throw new RoostError({ kind: "conflict", reason: `decided in term ${term}, not in ${tx.term}` });
}

function added(tx: Transaction, attempt: FenceAttempt, nodeId: string | null, text: string): FenceStep[] {
  const step = { atMs: tx.atMs, nodeId, text: text.slice(0, FENCING_LIMITS.stepLength) };
  return [...attempt.steps, step].slice(-FENCING_LIMITS.steps);
}

function put(tx: Transaction, fencing: Fencing): void {
  tx.put("fencing", fencing.nodeId, { ...fencing, revision: tx.index });
}
