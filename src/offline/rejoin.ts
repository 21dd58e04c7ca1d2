/**
 * `roost cluster rejoin`: a node that a recover left out begins anew under its own identity. Its log and state are of a generation
 * that is no more and are put aside; the cluster takes it in as it takes any node that has joined, and its claims are as the
 * recovered state has them.
 */
import { existsSync } from "node:fs";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { RoostError } from "../base/errors.ts";
import { createClient } from "../base/rpc-client.ts";
import { loadIdentity, saveIdentity } from "../cluster/identity.ts";
import { StateDb } from "../cluster/state-db.ts";

const CALL_LIMIT_MS = 10_000;
/** What belongs to a generation; the state last, for by it a repeated run knows that it is not done. */
const PARTS = ["raft", "raft.acked", "state"];

interface RejoinReport {
  done: boolean;
  node: string;
  from: number;
  generation: number;
  /** Suffix of what is put aside. */
  aside: string;
}

export async function rejoin(options: { dataDir: string; address: string; yes: boolean }): Promise<RejoinReport> {
  const { dataDir, address, yes } = options;
  const identity = await loadIdentity(dataDir);
  if (identity === null) throw new RoostError({ kind: "precondition", reason: `${dataDir} holds no node` }, "name its folder with --data");
  const from = await generationOf(dataDir, identity.generation ?? 1);
  const client = createClient({ endpoints: [address], tls: identity.tls });
  try {
    const there = await client.call("ClusterService", "InspectReplica", {}, { timeoutMs: CALL_LIMIT_MS });
    if (there.clusterId !== identity.clusterId)
      throw new RoostError({
        kind: "precondition",
        reason: `${address} is of cluster ${there.clusterId}, this node of ${identity.clusterId}`,
      });
    if (there.generation <= from) {
      throw new RoostError(
        { kind: "precondition", reason: `${address} is of generation ${there.generation}, this node of ${from}: it was not left out` },
        "start it (roost up)",
      );
    }
    const { nodes } = await client.call("NodeService", "ListNodes", {}, { timeoutMs: CALL_LIMIT_MS });
    const me = nodes.find((node) => node.id === identity.nodeId);
    if (me === undefined || me.state === "removed")
      throw new RoostError(
        { kind: "precondition", reason: `node ${identity.name} was removed` },
        "join anew with a token, in an empty data folder",
      );
    const report = { done: yes, node: identity.name, from, generation: there.generation, aside: `.generation-${from}-${Date.now()}` };
    if (!yes) return report;
    // First what it goes by: started now, its peers refuse it; started at the end, it begins empty.
    await saveIdentity(dataDir, {
      ...identity,
      generation: there.generation,
      founding: null,
      joining: { endpoints: [address], again: true },
      peers: nodes
        .filter((node) => node.role !== "none" && node.id !== identity.nodeId)
        .map((node) => ({ peerId: node.peerId, nodeId: node.id, address: node.peerAddress })),
    });
    for (const part of PARTS) {
      const path = join(dataDir, part);
      if (existsSync(path)) await rename(path, `${path}${report.aside}`);
    }
    return report;
  } finally {
    client.close();
  }
}

/** Also makes sure that no agent runs on the folder: the database is locked by one. */
async function generationOf(dataDir: string, known: number): Promise<number> {
  const path = join(dataDir, "state");
  if (!existsSync(path)) return known;
  const db = await StateDb.open(path);
  try {
    return (await db.load()).state.cluster?.generation ?? known;
  } finally {
    await db.close();
  }
}
