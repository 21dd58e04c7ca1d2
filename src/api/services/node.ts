/** Nodes: seen, disabled, enabled, fenced, and the agent of this node stopped. */
import { PARK_MAX_MS } from "../../model/node.ts";
import { invalid } from "../../base/errors.ts";
import { within } from "../../base/time-limit.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { usageOf } from "../../model/capacity.ts";
import type { Node as NodeMessage } from "../../gen/types/roost/v1/Node.ts";
import type { Command } from "../../state/commands.ts";
import { actorOf } from "../auth.ts";
import { propose, readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { toNode } from "../convert.ts";
import { findNode, page } from "../lookup.ts";
import { planDrain } from "../../placing/drain.ts";
import { waitOfNode } from "../waits.ts";
import { fencingMethods } from "./fencing.ts";

const DEFAULT_DRAIN_PARALLEL = 2;
const DEFAULT_PARK_MS = 10 * 60_000;
/** Raft's part takes a second where another must become a voter first. */
const REMOVAL_WAIT_MS = 8_000;

/** Finds the node, proposes what `command` says of it, answers it as it is then. */
async function change(
  context: CallContext,
  name: string,
  requestId: string,
  command: (nodeId: string) => Command,
): Promise<{ node: NodeMessage }> {
  const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
  const node = findNode(view, name);
  await propose(context, command(node.id), requestId);
  const after = context.store.view();
  return { node: toNode(after, after.nodes.get(node.id) ?? node, usageOf(after), context.store.leadership().leaderNodeId) };
}

/** Until Raft has let it go, or for so long: then the answer shows that it is still under way. */
async function untilRemoved(context: CallContext, nodeId: string): Promise<void> {
  const { store } = context;
  const isOver = (): boolean => store.view().nodes.get(nodeId)?.state === "removed";
  let unsubscribe = (): void => {};
  const over = new Promise<void>((resolve) => {
    unsubscribe = store.subscribe(() => {
      if (isOver()) resolve();
    });
    if (isOver()) resolve();
  });
  // Not an error: the leader goes on with it.
  await within(over, REMOVAL_WAIT_MS, "Raft to let the node go").catch(() => {});
  unsubscribe();
}

export const nodeService: ServiceMethods<"NodeService", CallContext> = {
  ...fencingMethods,

  async ListNodes(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const part = page([...view.nodes.values()], (node) => node.peerId, request);
    const usage = usageOf(view);
    const { leaderNodeId } = context.store.leadership();
    return { nodes: part.rows.map((node) => toNode(view, node, usage, leaderNodeId)), nextPageToken: part.nextPageToken, read: info };
  },

  async GetNode(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const node = findNode(view, request.node);
    const message = toNode(view, node, usageOf(view), context.store.leadership().leaderNodeId, true);
    return { node: { ...message, waits: waitOfNode(view, node, context.nowMs()) }, read: info };
  },

  DisableNode: (request, context) =>
    change(context, request.node, request.requestId, (nodeId) => ({ type: "node.enable", nodeId, enabled: false })),
  EnableNode: (request, context) =>
    change(context, request.node, request.requestId, (nodeId) => ({ type: "node.enable", nodeId, enabled: true })),

  EditNode(request, context) {
    const twice = request.removeLabels.find((key) => Object.hasOwn(request.setLabels, key));
    if (twice !== undefined) throw invalid("remove_labels", `${JSON.stringify(twice)} is to be set and removed`);
    const labels = { ...request.setLabels, ...Object.fromEntries(request.removeLabels.map((key) => [key, null])) };
    const zone = request.zone ?? null;
    const partition = request.partition ?? null;
    if (Object.keys(labels).length === 0 && zone === null && partition === null)
      throw invalid("set_labels", "expected a label, a zone or a partition to change");
    return change(context, request.node, request.requestId, (nodeId) => ({ type: "node.edit", nodeId, labels, zone, partition }));
  },

  async DrainNode(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const node = findNode(view, request.node);
    const { limitMs, allowRestart } = request;
    const steps = planDrain(view, node, { allowRestart }).map(({ vm, action, move, reasons }) => ({
      vm: vm.definition.name,
      action,
      to: move === null ? "" : (view.nodes.get(move.nodeId)?.name ?? move.nodeId),
      reasons,
    }));
    if (request.preview) return { node: toNode(view, node, usageOf(view), context.store.leadership().leaderNodeId), steps };
    const parallel = request.parallel === 0 ? DEFAULT_DRAIN_PARALLEL : request.parallel;
    const answer = await change(context, request.node, request.requestId, (nodeId) => ({
      type: "node.drain",
      nodeId,
      limitMs,
      allowRestart,
      parallel,
    }));
    return { ...answer, steps };
  },
  UndrainNode: (request, context) =>
    change(context, request.node, request.requestId, (nodeId) => ({
      type: "node.undrain",
      nodeId,
      why: `ended by ${actorOf(context.identity)}`,
    })),

  async FenceNode(request, context) {
    const user = actorOf(context.identity);
    if (request.confirmed) {
      const { node } = await change(context, request.node, request.requestId, (nodeId) => ({
        type: "node.fence",
        nodeId,
        proof: { kind: "operator", nodeId, user },
      }));
      return { node, attempt: 0 };
    }
    const { node } = await change(context, request.node, request.requestId, (nodeId) => ({
      type: "fence.begin",
      nodeId,
      why: `ordered by ${user}`,
      auto: false,
    }));
    return { node, attempt: context.store.view().fencing?.get(node.id ?? "")?.attempt?.id ?? 0 };
  },

  async RemoveNode(request, context) {
    if (request.confirmed && !request.dead) {
      throw invalid("confirmed", "goes with dead only", "a node that is alive says itself what runs there: remove it without --confirmed");
    }
    const user = actorOf(context.identity);
    const answer = await change(context, request.node, request.requestId, (nodeId) => ({
      type: "node.remove",
      nodeId,
      dead: request.dead,
      proof: request.confirmed ? { kind: "operator", nodeId, user } : null,
    }));
    const nodeId = answer.node.id ?? "";
    await untilRemoved(context, nodeId);
    const after = context.store.view();
    const row = after.nodes.get(nodeId);
    return row === undefined ? answer : { node: toNode(after, row, usageOf(after), context.store.leadership().leaderNodeId) };
  },

  async InspectNode(_request, context) {
    const found = await context.hooks.inspect();
    // By id: the asker's view names them.
    const missingPools = found.missingPools.map(({ poolId, ...pool }) => ({ name: poolId, ...pool }));
    return { ...found, missingPools, revision: context.store.view().index };
  },

  async StopAgent(request, context) {
    if (request.parkMs < 0 || request.parkMs > PARK_MAX_MS) throw invalid("park_ms", `expected 0 to ${PARK_MAX_MS}`);
    if (request.withoutParking && request.parkMs !== 0) throw invalid("park_ms", "goes without without_parking only");
    const parkMs = request.parkMs === 0 ? DEFAULT_PARK_MS : request.parkMs;
    const parkedMs = request.withoutParking ? 0 : parkMs;
    await context.hooks.stopAgent({ parkMs: parkedMs, actor: actorOf(context.identity) });
    return { parkedMs };
  },
};
