/** What services get beside the request. Everything with an effect comes in here, so services run in tests without a network. */
import type { Duplex } from "node:stream";
import { invalid, RoostError, type Violation } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { RpcClient } from "../base/rpc-client.ts";
import type { FrozenTable } from "../cluster/digest.ts";
import type { Store } from "../cluster/store.ts";
import type { Inspection } from "../model/doctor.ts";
import type { FenceDevice } from "../model/fencing.ts";
import type { NodeRuns } from "../model/run.ts";
import type { View } from "../model/view.ts";
import type { Command } from "../state/commands.ts";
import { requestTime } from "../state/requests.ts";
import type { CommandResult } from "../state/outcome.ts";
import type { Consistency__Output } from "../gen/types/roost/v1/Consistency.ts";
import type { InspectNodeResponse__Output } from "../gen/types/roost/v1/InspectNodeResponse.ts";
import type { ReadInfo } from "../gen/types/roost/v1/ReadInfo.ts";
import { actorOf } from "./auth.ts";
import type { Identity } from "./auth.ts";

/** What the daemon gives the API. */
export interface ServerContext {
  store: Store;
  /** The node that answers. */
  nodeId: string;
  /** `uname -m` of the node that answers: the default of definitions. */
  arch: string;
  /** Wall clock, ms. */
  nowMs: () => number;
  newId: () => string;
  newSecret: (bytes: number) => Uint8Array;
  log: Logger;
  hooks: Hooks;
}

export interface Hooks {
  /** Of the answering node's Raft log. */
  lastEntry: () => Promise<{ lastIndex: number; lastTerm: number }>;
  /** The cluster generation that left the answering node out; null if none did. */
  leftOut: () => number | null;
  /** All tables at one index; taken together with the view, nothing is applied between. */
  freeze: () => FrozenTable[];
  /** What is on the answering node. */
  inspect: () => Promise<Inspection>;
  /** Asks another node for the same, as this node. */
  inspectOther: (apiAddress: string, limits: { timeoutMs: number; signal: AbortSignal }) => Promise<InspectNodeResponse__Output>;
  fencing: FencingHook;
  /** This node's own records of runs. */
  runs: () => Promise<NodeRuns>;
  /** Calls another node as this one; to be closed. */
  nodeClient: (nodeId: string, apiAddress: string) => RpcClient;
  /** Another node's agent sends a VM through the stream (HA-8). */
  immigrate: (from: string, stream: Duplex) => void;
  /** Parks the claims of this node for `parkMs` (0: does not), then stops the agent once the call is answered. Returns when parking is committed. */
  stopAgent: (request: { parkMs: number; actor: string }) => Promise<void>;
}

/** Power devices as the answering node reaches them. */
export interface FencingHook {
  /** What is wrong with the options, as far as the device's agent knows; throws if it is not here. */
  faults(device: FenceDevice, signal: AbortSignal): Promise<Violation[]>;
  power(device: FenceDevice, signal: AbortSignal): Promise<"on" | "off">;
}

export interface CallContext extends ServerContext {
  identity: Identity;
  /** Wall clock at which the caller gives up, ms; Infinity if it does not say. */
  deadlineMs: number;
  signal: AbortSignal;
}

/** No call waits longer than this for the cluster, whatever its caller's patience. */
export const MAX_WAIT_MS = 30_000;
const DEFAULT_WAIT_MS = 10_000;

/** Of what is left, a tenth is for the answer's way back, within these: a refusal that says why must not lose to a bare time-out. */
const ANSWER_MIN_MS = 50;
const ANSWER_MAX_MS = 500;

/** Time left for the call, less the answer's way back to the caller. Throws `timeout` if none is left. */
export function timeLeftMs(context: CallContext): number {
  if (context.deadlineMs === Infinity) return DEFAULT_WAIT_MS;
  const all = context.deadlineMs - context.nowMs();
  const left = all - Math.min(ANSWER_MAX_MS, Math.max(ANSWER_MIN_MS, all / 10));
  if (left <= 0) throw new RoostError({ kind: "timeout", what: "the call", afterMs: 0 }, "give it a longer --timeout");
  return Math.min(left, MAX_WAIT_MS);
}

export interface Read {
  view: View;
  info: ReadInfo;
}

/** Linearizable unless the request says stale (RAFT-5). */
export async function readState(context: CallContext, consistency: Consistency__Output): Promise<Read> {
  if (consistency === "CONSISTENCY_STALE") {
    const view = context.store.view();
    const { silentMs } = context.store.leadership();
    const ageMs = Number.isFinite(silentMs) ? Math.round(silentMs) : -1;
    return { view, info: { revision: view.index, nodeId: context.nodeId, linearizable: false, ageMs } };
  }
  const view = await context.store.read({ timeoutMs: timeLeftMs(context) });
  return { view, info: { revision: view.index, nodeId: context.nodeId, linearizable: true, ageMs: 0 } };
}

/** Proposes in the name of the caller. `requestId` comes from the request; empty mints one, so nothing is shared between calls. */
export function propose(context: CallContext, command: Command, requestId: string): Promise<CommandResult> {
  if (requestId.length > 128) throw invalid("request_id", "expected at most 128 characters");
  // What begins so is the nodes' own.
  if (requestId.startsWith("#") || (requestId !== "" && requestTime(requestId) === null)) {
    throw invalid(
      "request_id",
      `expected an id that says when it was made, a UUIDv7 or TEXT@UNIX_MS, not ${JSON.stringify(requestId)}`,
      "repeats of an id without a time could be told from new requests for a while only (STA-2); empty mints one",
    );
  }
  return context.store.propose(command, {
    actor: actorOf(context.identity),
    ...(requestId === "" ? {} : { requestId }),
    timeoutMs: timeLeftMs(context),
  });
}
