/** Power devices of nodes: set, unset, listed without their secrets, asked. */
import { asRoostError, RoostError } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { within } from "../../base/time-limit.ts";
import { deviceFaults, type FenceDevice, FENCING_LIMITS, type Fencing } from "../../model/fencing.ts";
import { isAnswering, type Node } from "../../model/node.ts";
import type { View } from "../../model/view.ts";
import type { NodeFencing as NodeFencingMessage } from "../../gen/types/roost/v1/NodeFencing.ts";
import type { FenceDevice__Output } from "../../gen/types/roost/v1/FenceDevice.ts";
import { type CallContext, propose, readState, timeLeftMs } from "../context.ts";
import { findNode } from "../lookup.ts";

type Methods = "SetFencing" | "UnsetFencing" | "ListFencing" | "TestFencing";

/** Of one device; a BMC takes seconds now and then. */
const ASK_MS = 8_000;

export const fencingMethods: Pick<ServiceMethods<"NodeService", CallContext>, Methods> = {
  async SetFencing(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const node = findNode(view, request.node);
    const device = fromMessage(request.device);
    const violations = deviceFaults(device);
    if (violations.length > 0) throw new RoostError({ kind: "invalid", violations });
    if (!request.unchecked) await check(context, node, device);
    await propose(context, { type: "fencing.set", nodeId: node.id, device }, request.requestId);
    const after = context.store.view();
    const row = after.fencing?.get(node.id);
    return { fencing: row === undefined ? null : toMessage(after, row) };
  },

  async UnsetFencing(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const node = findNode(view, request.node);
    const device = request.device === "" ? null : request.device;
    await propose(context, { type: "fencing.unset", nodeId: node.id, device }, request.requestId);
    return {};
  },

  async ListFencing(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const only = request.node === "" ? null : findNode(view, request.node).id;
    const rows = [...(view.fencing?.values() ?? [])].filter(({ nodeId }) => only === null || nodeId === only);
    const peerIdOf = (row: Fencing): number => view.nodes.get(row.nodeId)?.peerId ?? 0;
    return { nodes: rows.toSorted((a, b) => peerIdOf(a) - peerIdOf(b)).map((row) => toMessage(view, row)), read: info };
  },

  async TestFencing(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const node = findNode(view, request.node);
    const devices = view.fencing?.get(node.id)?.devices ?? [];
    if (devices.length === 0) {
      throw new RoostError(
        { kind: "precondition", reason: `node ${node.name} has no fence device` },
        "`roost node fencing set` configures one",
      );
    }
    const askedFrom = view.nodes.get(context.nodeId)?.name ?? context.nodeId;
    return { askedFrom, devices: await Promise.all(devices.map((device) => test(context, node, device))) };
  },
};

async function test(
  context: CallContext,
  node: Node,
  device: FenceDevice,
): Promise<{ name: string; level: number; agent: string; power: string; problem: string }> {
  const { name, level, agent } = device;
  try {
    const power = await askPower(context, device);
    return { name, level, agent, power, problem: wrongMachine(node, power) ?? "" };
  } catch (error) {
    return { name, level, agent, power: "", problem: asRoostError(error).message };
  }
}

async function askPower(context: CallContext, device: FenceDevice): Promise<"on" | "off"> {
  const limitMs = Math.min(ASK_MS, device.timeoutMs, timeLeftMs(context));
  const controller = new AbortController();
  try {
    return await within(context.hooks.fencing.power(device, controller.signal), limitMs, `asking ${device.agent} for the power state`);
  } finally {
    controller.abort(new RoostError({ kind: "timeout", what: "asking for the power state", afterMs: limitMs }));
  }
}

/** What is configured wrong is found now, not in the night when it is needed. */
async function check(context: CallContext, node: Node, device: FenceDevice): Promise<void> {
  const violations = await context.hooks.fencing.faults(device, context.signal);
  if (violations.length > 0) throw new RoostError({ kind: "invalid", violations });
  let power: "on" | "off";
  try {
    power = await askPower(context, device);
  } catch (error) {
    const { message, hint } = asRoostError(error);
    const further = "--unchecked sets it without asking";
    throw new RoostError(
      { kind: "precondition", reason: `the device does not work: ${message}` },
      hint === undefined ? further : `${hint}; ${further}`,
      {
        cause: error,
      },
    );
  }
  const wrong = wrongMachine(node, power);
  if (wrong !== null) throw new RoostError({ kind: "precondition", reason: wrong }, "check address, plug and system");
}

/** A proof by the wrong machine's power would let VMs run twice. */
function wrongMachine(node: Node, power: "on" | "off"): string | null {
  if (power === "on" || !isAnswering(node)) return null;
  return `the device says off, but node ${node.name} answers: it is another machine's`;
}

function fromMessage(message: FenceDevice__Output | null): FenceDevice {
  return {
    name: message?.name === undefined || message.name === "" ? nameFor(message?.agent ?? "") : message.name,
    level: message?.level === undefined || message.level === 0 ? 1 : message.level,
    agent: message?.agent ?? "",
    options: sorted(message?.options ?? {}),
    secrets: sorted(message?.secrets ?? {}),
    timeoutMs: message?.timeoutMs === undefined || message.timeoutMs === 0 ? FENCING_LIMITS.timeoutDefaultMs : message.timeoutMs,
  };
}

/** `fence_ipmilan`: `fence-ipmilan`. */
function nameFor(agent: string): string {
  const name = agent
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
  return name === "" ? "device" : name;
}

function sorted(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Without the secrets: only their names leave. */
function toMessage(view: View, { nodeId, devices, attempt }: Fencing): NodeFencingMessage {
  const nameOf = (id: string | null): string => (id === null ? "" : (view.nodes.get(id)?.name ?? id));
  return {
    node: nameOf(nodeId),
    nodeId,
    devices: devices.map(({ name, level, agent, options, secrets, timeoutMs }) => ({
      name,
      level,
      agent,
      options,
      secretNames: Object.keys(secrets),
      timeoutMs,
    })),
    attempt:
      attempt === null
        ? null
        : {
            id: attempt.id,
            state: attempt.state,
            auto: attempt.auto,
            actor: attempt.actor,
            why: attempt.why,
            beganAtMs: attempt.beganAtMs,
            tries: attempt.tries,
            executor: nameOf(attempt.current?.executorId ?? null),
            steps: attempt.steps.map((step) => ({ atMs: step.atMs, node: nameOf(step.nodeId), text: step.text })),
          },
  };
}
