/** A node that is to be emptied (HA-15): the wish is on its row, the leader's service (placing/drain.ts) works on it. */
import { invalid, RoostError } from "../../base/errors.ts";
import { isAnswering, type Node } from "../../model/node.ts";
import type { DrainReport, NodeDrain, NodeUndrain } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { moved } from "./node-moves.ts";
import { servingState } from "./node.ts";
import { callOff } from "./vm-migration.ts";

const LIMIT_MAX_MS = 7 * 86_400_000;
const PARALLEL_MAX = 64;

export function drain(tx: Transaction, command: NodeDrain): CommandResult {
  const node = tx.needNode(command.nodeId);
  const { limitMs, allowRestart, parallel } = command;
  if (!(limitMs >= 0 && limitMs <= LIMIT_MAX_MS)) throw invalid("limit_ms", `expected at most ${LIMIT_MAX_MS} ms (seven days); 0 for none`);
  if (!Number.isInteger(parallel) || parallel < 1 || parallel > PARALLEL_MAX) throw invalid("parallel", `expected 1 to ${PARALLEL_MAX}`);
  if (!isAnswering(node) || node.removing !== undefined)
    throw new RoostError({
      kind: "precondition",
      reason: `node ${node.name} is ${node.removing === undefined ? node.state : "being removed"}`,
    });
  const others = tx.rows("nodes", (other) => other.id !== node.id && other.state === "ready" && other.witness !== true);
  if (others.length === 0 && tx.vmsOn(node.id).length > 0)
    throw new RoostError({ kind: "precondition", reason: `no other node is ready to take what runs on ${node.name}` });
  const { actor } = tx.envelope;
  const wishes = { limitMs, allowRestart, parallel };
  const fresh = { actor, beganMs: tx.atMs, done: false, blocked: [], restarting: [] };
  const row: Node = { ...node, drain: { ...(node.drain ?? fresh), ...wishes } };
  tx.putNode(moved(tx, row, servingState(row), `drained by ${actor}`));
  return { ids: [node.id] };
}

/** VMs that were shut down for it are the leader's to start: they stay noted until then. */
export function undrain(tx: Transaction, command: NodeUndrain): CommandResult {
  const node = tx.needNode(command.nodeId);
  if (node.drain === undefined) return { ids: [node.id] };
  const { drain: ended, ...rest } = node;
  for (const vm of tx.vmsOn(node.id)) {
    if (vm.claim?.nodeId === node.id && vm.migration?.phase === "incoming") callOff(tx, vm, command.why);
  }
  const restarting = [...(node.restarting ?? []), ...ended.restarting];
  const row: Node = { ...rest, ...(restarting.length === 0 ? {} : { restarting }) };
  tx.putNode(isAnswering(node) ? moved(tx, row, servingState(row), command.why) : row);
  tx.emit("node.drain", node.id, node.name, `ended: ${command.why}`, node.id);
  return { ids: [node.id] };
}

export function report(tx: Transaction, command: DrainReport): CommandResult {
  const node = tx.needNode(command.nodeId);
  const { done, blocked, restarting } = command;
  if (node.drain === undefined) {
    const { restarting: _, ...rest } = node;
    tx.putNode(restarting.length === 0 ? rest : { ...rest, restarting });
    return { ids: [node.id] };
  }
  const row: Node = { ...node, drain: { ...node.drain, done, blocked, restarting } };
  if (done && !node.drain.done) tx.emit("node.drain", node.id, node.name, "nothing runs there any more", node.id);
  const known = new Set(node.drain.blocked.map((one) => one.vmId));
  for (const { vmId, name, reasons } of blocked)
    if (!known.has(vmId)) tx.emit("node.drain", node.id, node.name, `vm ${name} cannot leave: ${reasons.join("; ")}`, node.id);
  tx.putNode(isAnswering(node) ? moved(tx, row, servingState(row), done ? "drained" : node.stateWhy) : row);
  return { ids: [node.id] };
}
