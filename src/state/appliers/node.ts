/** Nodes: how they come, what they say, and how their rights end. */
import { invalid, RoostError } from "../../base/errors.ts";
import { isName, labelFaults, NAME_RULE } from "../../model/definition.ts";
import type { Membership } from "../../model/membership.ts";
import { isAnswering, type Node, type NodeState, PARK_MAX_MS } from "../../model/node.ts";
import type {
  JoiningNode,
  NodeAlive,
  NodeEdit,
  NodeEnable,
  NodeExpire,
  NodeFence,
  NodeHello,
  NodeInfoReport,
  NodeJoin,
  NodeJoinAbort,
  NodeJoinConfirm,
  NodePark,
  NodeSuspect,
} from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { noteLife } from "./fencing.ts";
import { forgetNode } from "./policy.ts";
import { endClaims, moved } from "./node-moves.ts";
import { loseSight, rehomeCleaning } from "./vm-moves.ts";

export function newNode(tx: Transaction, joining: JoiningNode, peerId: number, tokenId: string | null): Node {
  return {
    ...joining,
    peerId,
    state: "joining",
    stateSinceMs: tx.atMs,
    stateWhy: tx.envelope.actor,
    role: "none",
    joinedAtMs: tx.atMs,
    tokenId,
    info: null,
    parkedMs: 0,
    parkRevision: 0,
    claimRevision: 0,
    revision: tx.index,
  };
}

export function join(tx: Transaction, command: NodeJoin): CommandResult {
  const cluster = tx.needCluster();
  const token = tx.token(command.tokenId);
  // One answer for unknown and wrong, so that tokens cannot be found out by asking.
  if (token === undefined || token.secretHash !== command.secretHash) {
    throw new RoostError(
      { kind: "denied", reason: "this join token is not known to the cluster" },
      "make a new one with `roost token create`",
    );
  }
  if (token.expiresAtMs < tx.atMs)
    throw new RoostError({ kind: "denied", reason: "this join token has expired" }, "make a new one with `roost token create`");
  const level = cluster.level ?? 1;
  if ((command.node.level ?? 1) < level) {
    throw new RoostError(
      { kind: "precondition", reason: `the cluster is at level ${level}, this roost can apply level ${command.node.level ?? 1} only` },
      "install the version that the cluster's nodes run, then join",
    );
  }
  if (token.usesLeft <= 0)
    throw new RoostError({ kind: "denied", reason: "this join token has been used" }, "make a new one with `roost token create`");
  if (tx.state.nodes.has(command.node.id)) throw new RoostError({ kind: "exists", what: "node", name: command.node.id });
  const namesake = tx.get("nodes", tx.state.nodeIdByName.get(command.node.name) ?? "");
  if (namesake !== undefined && namesake.state !== "removed") {
    throw new RoostError({ kind: "exists", what: "node", name: command.node.name }, "choose another name with --name");
  }
  for (const other of tx.rows("nodes")) {
    if (other.state !== "removed" && other.peerAddress === command.node.peerAddress) {
      throw new RoostError(
        { kind: "precondition", reason: `${other.peerAddress} is the address of node ${other.name} already` },
        "choose another with --listen or --advertise",
      );
    }
  }
  tx.put("tokens", token.id, { ...token, usesLeft: token.usesLeft - 1 });
  tx.put("cluster", "self", { ...cluster, nextPeerId: cluster.nextPeerId + 1 });
  tx.putNode(newNode(tx, command.node, cluster.nextPeerId, token.id));
  tx.emit("node.state", command.node.id, command.node.name, "joining");
  return { ids: [command.node.id], peerId: cluster.nextPeerId };
}

export function confirmJoin(tx: Transaction, command: NodeJoinConfirm): CommandResult {
  const node = tx.needNode(command.nodeId);
  // Only confirmed nodes can be chosen as voters (src/cluster/membership.ts).
  // One that was left out says by it that it begins anew, without the log and state it had (roost cluster rejoin).
  // Its hello may have come first.
  const isLeaving = node.state === "removed" || node.removing !== undefined;
  if (node.role === "none" && !isLeaving) tx.putNode({ ...node, role: "follower", stateWhy: "join confirmed" });
  return { ids: [node.id], peerId: node.peerId };
}

export function abortJoin(tx: Transaction, command: NodeJoinAbort): CommandResult {
  const node = tx.get("nodes", command.nodeId);
  if (node === undefined) return { ids: [] };
  if (node.state !== "joining" || node.role !== "none")
    throw new RoostError({ kind: "precondition", reason: `node ${node.name} has joined` });
  tx.put("nodes", node.id, null);
  if (tx.get("fencing", node.id) !== undefined) tx.put("fencing", node.id, null);
  forgetNode(tx, node.id);
  const token = node.tokenId === null ? undefined : tx.token(node.tokenId);
  if (token !== undefined) tx.put("tokens", token.id, { ...token, usesLeft: token.usesLeft + 1 });
  tx.emit("node.state", node.id, node.name, "join not confirmed in time: undone");
  return { ids: [node.id] };
}

export function hello(tx: Transaction, command: NodeHello): CommandResult {
  const node = ownNode(tx, command.nodeId);
  // A hello from before the park may come after it; it does not know the park, so it does not end it.
  const parkedMs = command.parkRevision === node.parkRevision ? 0 : node.parkedMs;
  const cluster = tx.needCluster();
  const level = cluster.level ?? 1;
  if ((command.info.level ?? 1) < level) {
    throw new RoostError(
      {
        kind: "precondition",
        reason: `the cluster is at level ${level}, roost ${command.info.version} on node ${node.name} can apply level ${command.info.level ?? 1} only`,
      },
      "install the version that the other nodes run",
    );
  }
  // It has destroyed what no claim covers (HA-7): what runs there is known again.
  const { leftOut, ...known } = node;
  // What those of before have acknowledged is in force for so long yet: expiry waits for it (never-twice.md, rule 7).
  const heldMs = leftOut === undefined ? 0 : (command.heldMs ?? 0);
  if (heldMs > cluster.longestClaimMs) tx.put("cluster", "self", { ...cluster, longestClaimMs: heldMs });
  const row: Node = {
    ...withRun(known, command.run),
    info: command.info,
    apiAddress: command.apiAddress,
    peerAddress: command.peerAddress,
    parkedMs,
  };
  tx.putNode(node.state === "disabled" ? row : moved(tx, row, servingState(node), `agent ${command.info.version} started`));
  rehomeCleaning(tx);
  return { ids: [node.id] };
}

/** Runs before the present one whose late reports are known for what they are. */
const FORMER_RUNS = 8;

/**
 * The node with that run of its agent as the present one.
 * @throws RoostError `precondition` for a run before it: what it said has come too late
 */
export function withRun(node: Node, run: string | undefined): Node {
  requirePresentRun(node, run);
  if (run === undefined || node.run === run) return node;
  const former = node.run === undefined ? [] : [node.run];
  return { ...node, run, formerRuns: [...(node.formerRuns ?? []), ...former].slice(-FORMER_RUNS) };
}

/** A run that is over may have seen what the present one has begun anew since. */
export function requirePresentRun(node: Node, run: string | undefined): void {
  if (run === undefined || node.formerRuns?.includes(run) !== true) return;
  throw new RoostError({ kind: "precondition", reason: `run ${run} of the agent on node ${node.name} is over` });
}

export function report(tx: Transaction, command: NodeInfoReport): CommandResult {
  const node = ownNode(tx, command.nodeId);
  tx.putNode({ ...node, info: command.info });
  return { ids: [node.id] };
}

export function suspect(tx: Transaction, command: NodeSuspect): CommandResult {
  const node = tx.needNode(command.nodeId);
  const { silentMs, claimsEndInMs = null } = command;
  const silence = { term: tx.term, sinceMs: tx.atMs - silentMs, claimsEndMs: claimsEndInMs === null ? null : tx.atMs + claimsEndInMs };
  // Another leader's word on a silence that is known.
  if (node.state === "unreachable") tx.putNode({ ...node, silence: { ...silence, sinceMs: node.silence?.sinceMs ?? silence.sinceMs } });
  if (!isAnswering(node)) return { ids: [] };
  tx.putNode({ ...moved(tx, node, "unreachable", `no heartbeat for ${silentMs} ms`), silence });
  for (const vm of tx.vmsOn(node.id)) if (vm.claim?.nodeId === node.id) tx.putVm(loseSight(tx, vm, node));
  rehomeCleaning(tx);
  return { ids: [node.id] };
}

export function alive(tx: Transaction, command: NodeAlive): CommandResult {
  const node = tx.needNode(command.nodeId);
  if (node.state === "unreachable") {
    tx.putNode(moved(tx, node, servingState(node), "heartbeats again"));
    rehomeCleaning(tx);
  }
  noteLife(tx, node.id);
  return { ids: [node.id] };
}

export function expire(tx: Transaction, command: NodeExpire): CommandResult {
  const node = tx.needNode(command.nodeId);
  if (command.proof.nodeId !== node.id) throw new RoostError({ kind: "conflict", reason: `the proof is of node ${command.proof.nodeId}` });
  if (tx.envelope.term !== tx.term || command.proof.term !== tx.term) {
    throw new RoostError({
      kind: "conflict",
      reason: `expiry of ${node.name} was decided in term ${command.proof.term}, not in ${tx.term}`,
    });
  }
  if (node.leftOut !== undefined) {
    throw new RoostError(
      {
        kind: "precondition",
        reason: `node ${node.name} was left out in generation ${node.leftOut}: those of before may still acknowledge it, so time proves nothing`,
      },
      "confirm that it is off with `roost node fence`",
    );
  }
  if (node.info !== null && node.info.guardian === null) {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} has no guardian: expiry proves nothing` },
      "confirm that it is off with `roost node fence`",
    );
  }
  const { lastHeartbeatMs, leaderChanged, suspectMs } = command;
  endClaims(tx, node, command.proof, { lastHeartbeatMs, leaderChanged, suspectMs }, (vm) => vm.deadline);
  return { ids: [node.id] };
}

export function fence(tx: Transaction, command: NodeFence): CommandResult {
  const node = tx.needNode(command.nodeId);
  // A disabled node answers as a ready one does, and its VMs run.
  if (node.state !== "unreachable" && node.state !== "fenced") {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} is alive` },
      "fencing is for nodes that do not answer; use `roost node disable` to keep VMs away",
    );
  }
  endClaims(
    tx,
    node,
    command.proof,
    { lastHeartbeatMs: node.stateSinceMs, leaderChanged: false, suspectMs: node.stateSinceMs },
    () => true,
  );
  return { ids: [node.id] };
}

export function park(tx: Transaction, command: NodePark): CommandResult {
  const node = ownNode(tx, command.nodeId);
  if (!(command.durationMs > 0 && command.durationMs <= PARK_MAX_MS)) {
    throw invalid("park_ms", `expected more than 0 and at most ${PARK_MAX_MS} ms (one hour), not ${command.durationMs}`);
  }
  tx.putNode({ ...node, parkedMs: command.durationMs, parkRevision: tx.index });
  tx.emit("node.state", node.id, node.name, `parked for ${Math.round(command.durationMs / 1000)} s: a planned restart`);
  return { ids: [node.id] };
}

export function enable(tx: Transaction, command: NodeEnable): CommandResult {
  const node = tx.needNode(command.nodeId);
  if (node.state === "removed" || node.removing !== undefined)
    throw new RoostError({ kind: "precondition", reason: `node ${node.name} ${node.state === "removed" ? "was" : "is being"} removed` });
  const from: NodeState = command.enabled ? "disabled" : "ready";
  const to: NodeState = command.enabled ? "ready" : "disabled";
  if (node.state === to) return { ids: [node.id] };
  if (node.state !== from) {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} is ${node.state}`, legal: [] },
      node.drain === undefined ? `only a ${from} node can become ${to}` : `roost node undrain ${node.name} takes it back into use`,
    );
  }
  tx.putNode({ ...moved(tx, node, to, tx.envelope.actor), disabled: !command.enabled });
  return { ids: [node.id] };
}

/** Labels, zone and partition, from the next placement on; what runs there stays. */
export function edit(tx: Transaction, command: NodeEdit): CommandResult {
  const node = tx.needNode(command.nodeId);
  if (node.state === "removed") throw new RoostError({ kind: "precondition", reason: `node ${node.name} was removed` });
  const changed = Object.entries({ ...node.labels, ...command.labels }).filter((entry): entry is [string, string] => entry[1] !== null);
  const labels = Object.fromEntries(changed.toSorted(([a], [b]) => (a < b ? -1 : 1)));
  const faults = labelFaults(labels, "labels");
  for (const [field, value] of [
    ["zone", command.zone],
    ["partition", command.partition],
  ] as const) {
    if (value !== null && value !== "" && !isName(value)) faults.push({ field, message: `expected ${NAME_RULE}` });
  }
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
  const partition = command.partition ?? node.partition ?? "";
  const strangers = tx
    .vmsOn(node.id)
    .map((vm) => vm.definition)
    .filter((definition) => (definition.partition ?? "") !== partition)
    .map((definition) => definition.name);
  if (partition !== (node.partition ?? "") && strangers.length > 0) {
    throw new RoostError(
      { kind: "precondition", reason: `node ${node.name} has VMs of another partition: ${strangers.slice(0, 5).join(", ")}` },
      "a VM of one partition never runs in another: move or stop them first",
    );
  }
  tx.putNode({ ...node, labels, zone: command.zone ?? node.zone, partition });
  const parts = [
    ...Object.entries(command.labels).map(([key, value]) => (value === null ? `${key} removed` : `${key}=${value}`)),
    ...(command.zone === null ? [] : [`zone ${command.zone === "" ? "none" : command.zone}`]),
    ...(command.partition === null ? [] : [`partition ${command.partition === "" ? "none" : command.partition}`]),
  ];
  tx.emit("node.edited", node.id, node.name, parts.join(", "), node.id);
  return { ids: [node.id] };
}

/** Raft's membership as of a configuration entry, mirrored into the rows. Not a command: it comes from Raft itself. */
export function mirrorMembership(tx: Transaction, membership: Membership): void {
  const voters = new Set([...membership.voters, ...membership.outgoing]);
  const learners = new Set([...membership.learners, ...membership.learnersNext]);
  for (const node of tx.rows("nodes")) {
    const other = node.role === "none" ? "none" : "follower";
    const role = voters.has(node.peerId) ? "voter" : learners.has(node.peerId) ? "learner" : other;
    if (role === node.role) continue;
    tx.putNode({ ...node, role });
    tx.emit("node.role", node.id, node.name, `${node.role} → ${role}`);
  }
}

/** What a node is when it answers. */
export function servingState(node: Node): NodeState {
  if (node.drain !== undefined) return node.drain.done ? "maintenance" : "draining";
  return node.disabled === true ? "disabled" : "ready";
}

/** A node speaks for itself only (SEC-3). */
export function ownNode(tx: Transaction, nodeId: string): Node {
  const node = tx.needNode(nodeId);
  if (tx.envelope.origin !== nodeId)
    throw new RoostError({ kind: "denied", reason: `node ${tx.envelope.origin} cannot speak for node ${nodeId}` });
  if (node.state === "removed") throw new RoostError({ kind: "denied", reason: `node ${node.name} has been removed from the cluster` });
  return node;
}
