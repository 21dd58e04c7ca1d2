/**
 * `roost cluster recover`: after the quorum is lost for good, one survivor goes on alone, in a new cluster generation (RAFT-6). Runs
 * beside a stopped agent. Everything is worked out in memory first and becomes true with one synced write, so a crash leaves the
 * node as it was or recovered, and running it again is safe.
 */
import { join } from "node:path";
import { asRoostError, RoostError } from "../base/errors.ts";
import { createClient } from "../base/rpc-client.ts";
import { type Identity, loadIdentity, saveIdentity } from "../cluster/identity.ts";
import { rebuild } from "../cluster/rebuild.ts";
import { StateDb } from "../cluster/state-db.ts";
import type { Node } from "../model/node.ts";
import { LevelLog } from "../raft/storage/level.ts";
import { apply, applyNothing } from "../state/apply.ts";
import { decodeEnvelope } from "../state/codec.ts";
import type { RowChange, State } from "../state/state.ts";

/** A survivor that is only slow may have more than this node: it is waited for. */
const INSPECT_LIMIT_MS = 10_000;

interface RecoverOptions {
  dataDir: string;
  /** Names of nodes that the operator has seen off. */
  off: readonly string[];
  /** False: only say what would happen. */
  yes: boolean;
  /** Goes on although another survivor has more. */
  acceptLoss: boolean;
}

interface RecoverReport {
  done: boolean;
  node: string;
  clusterId: string;
  generation: number;
  lastTerm: number;
  lastIndex: number;
  /** Entries of the log that this node did not know to be committed; they are kept. */
  uncertain: number;
  nodes: RecoverNode[];
}

interface RecoverNode {
  name: string;
  /** `goes on`, `survives` (it answers), `off` (by the operator's word), `unknown`. */
  fate: "goes on" | "survives" | "off" | "unknown";
  lastTerm: number | null;
  lastIndex: number | null;
  /** VMs whose claims it holds. */
  vms: number;
}

export async function recover(options: RecoverOptions): Promise<RecoverReport> {
  const { dataDir, acceptLoss, off, yes } = options;
  const identity = await loadIdentity(dataDir);
  if (identity === null) throw new RoostError({ kind: "precondition", reason: `${dataDir} holds no node` }, "name its folder with --data");
  const db = await StateDb.open(join(dataDir, "state"));
  try {
    const { state } = await db.load();
    const { cluster } = state;
    const me = state.nodes.get(identity.nodeId);
    if (cluster === null || me === undefined) {
      throw new RoostError(
        { kind: "precondition", reason: `node ${identity.name} has no state of its cluster` },
        "recover on a node that has",
      );
    }
    const log = await replay(dataDir, state);
    const offIds = off.map((name) => nodeNamed(state, name).id);
    if (offIds.includes(me.id)) throw new RoostError({ kind: "precondition", reason: `${me.name} goes on: it cannot be off` });
    const others = [...state.nodes.values()]
      .filter((node) => node.id !== me.id && node.state !== "removed")
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const seen = new Map(await Promise.all(others.map(async (node) => [node.id, await inspect(identity, node)] as const)));
    refuseIfWrong(state, identity, log, seen, { acceptLoss });
    const generation = cluster.generation + 1;
    const row = (node: Node): RecoverNode => ({
      name: node.name,
      fate: node.id === me.id ? "goes on" : seen.get(node.id) !== null ? "survives" : offIds.includes(node.id) ? "off" : "unknown",
      lastTerm: node.id === me.id ? log.lastTerm : (seen.get(node.id)?.lastTerm ?? null),
      lastIndex: node.id === me.id ? log.lastIndex : (seen.get(node.id)?.lastIndex ?? null),
      vms: state.claimsByNode.get(node.id)?.size ?? 0,
    });
    for (const node of others) {
      if (offIds.includes(node.id) && seen.get(node.id) !== null)
        throw new RoostError({ kind: "precondition", reason: `${node.name} answers: it is not off` }, "leave it out of --off");
    }
    const report: RecoverReport = {
      done: yes,
      node: me.name,
      clusterId: cluster.id,
      generation,
      lastTerm: log.lastTerm,
      lastIndex: log.lastIndex,
      uncertain: log.uncertain,
      nodes: [me, ...others].map(row),
    };
    if (!yes) return report;
    const command = { generation, keepNodeId: me.id, node: null, off: offIds, why: `recover on ${me.name}` };
    const rebuilt = rebuild(state, command, { lastTerm: log.hardTerm, nowMs: Date.now(), actor: "user:root" });
    db.write([...log.changes, ...rebuilt.changes], rebuilt.position);
    await db.sync(rebuilt.position);
    await saveIdentity(dataDir, { ...identity, generation });
    return report;
  } finally {
    await db.close();
  }
}

interface Replayed {
  lastIndex: number;
  lastTerm: number;
  hardTerm: number;
  uncertain: number;
  changes: RowChange[];
}

/**
 * Applies all that the log holds, also what this node did not know to be committed: with the others gone nobody can say, and what was
 * committed must not be lost. Nothing is written.
 */
async function replay(dataDir: string, state: State): Promise<Replayed> {
  const log = await LevelLog.open(join(dataDir, "raft"));
  try {
    const { hardState } = log.initialState();
    const changes: RowChange[] = [];
    // A node that followed may have a log of an earlier life as a peer: what is not of the state's history was never committed.
    const isOurs = log.term(state.index) === state.term;
    const isLonger = log.lastIndex() > state.index && (isOurs || log.firstIndex() > state.index + 1);
    const lastIndex = isLonger ? log.lastIndex() : state.index;
    const found = isLonger ? log.entries(state.index + 1, log.lastIndex() + 1, Infinity) : [];
    if (!Array.isArray(found))
      throw new RoostError({ kind: "damaged", what: `the log in ${dataDir} (entries after ${state.index} are missing)` });
    const uncertain = Math.max(0, lastIndex - Math.max(hardState.commit, state.index));
    for (const entry of found) {
      if (entry.kind === "normal" && entry.data !== null && entry.data.length > 0)
        changes.push(...apply(state, decodeEnvelope(entry.data), entry).changes);
      // Who voted does not matter any more.
      else applyNothing(state, entry);
    }
    return { lastIndex, lastTerm: state.term, hardTerm: hardState.term, uncertain, changes };
  } finally {
    await log.close();
  }
}

interface Inspected {
  name: string;
  generation: number;
  lastTerm: number;
  lastIndex: number;
  hasQuorum: boolean;
}

/** What another node's agent says of itself, asked with this node's certificate; null without an answer. */
async function inspect(identity: Identity, node: Node): Promise<Inspected | null> {
  const client = createClient({ endpoints: [node.apiAddress], tls: identity.tls });
  try {
    const answer = await client.call("ClusterService", "InspectReplica", {}, { timeoutMs: INSPECT_LIMIT_MS });
    // Somebody else may have its address by now.
    return answer.nodeId === node.id && answer.clusterId === identity.clusterId ? { name: node.name, ...answer } : null;
  } catch (thrown) {
    const { kind } = asRoostError(thrown).fault;
    if (kind === "unavailable" || kind === "timeout" || kind === "internal") return null;
    throw thrown;
  } finally {
    client.close();
  }
}

function refuseIfWrong(
  state: State,
  identity: Identity,
  mine: Replayed,
  seen: ReadonlyMap<string, Inspected | null>,
  options: { acceptLoss: boolean },
): void {
  for (const other of seen.values()) {
    if (other === null) continue;
    if (other.generation > (state.cluster?.generation ?? 1)) {
      throw new RoostError(
        {
          kind: "precondition",
          reason: `the cluster was recovered without ${identity.name} already: ${other.name} is of generation ${other.generation}`,
        },
        `roost cluster rejoin brings this node back`,
      );
    }
    if (other.hasQuorum) {
      throw new RoostError(
        { kind: "precondition", reason: `${other.name} sees a leader: the quorum is not lost` },
        "recovering beside a living quorum would split the cluster; start this node instead (roost up)",
      );
    }
    const isFresher = other.lastTerm > mine.lastTerm || (other.lastTerm === mine.lastTerm && other.lastIndex > mine.lastIndex);
    if (isFresher && !options.acceptLoss) {
      throw new RoostError(
        {
          kind: "precondition",
          reason: `${other.name} has more: its log ends at ${other.lastIndex} of term ${other.lastTerm}, this one at ${mine.lastIndex} of term ${mine.lastTerm}`,
        },
        `run it on ${other.name}; with --accept-loss this node goes on without what it has not`,
      );
    }
  }
}

function nodeNamed(state: State, name: string): Node {
  const node = state.nodes.get(state.nodeIdByName.get(name) ?? name);
  if (node === undefined)
    throw new RoostError({ kind: "not-found", what: "node", name }, `nodes: ${[...state.nodeIdByName.keys()].join(", ")}`);
  return node;
}
