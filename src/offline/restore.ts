/**
 * `roost cluster restore`: a backup founds a cluster of one under the same cluster id, in a new generation (RAFT-8). Nothing of it
 * starts before each node of before is accounted for: what they run now, the backup does not know.
 */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type NodeConfig, splitListen } from "../base/config.ts";
import { RoostError } from "../base/errors.ts";
import { newId, newSecret } from "../base/ids.ts";
import { readBackup } from "../cluster/backup.ts";
import { chainOf, createKeyAndRequest, issue, NODE_TTL_MS } from "../cluster/certificates.ts";
import { placeOf } from "../cluster/found.ts";
import { loadIdentity, saveIdentity } from "../cluster/identity.ts";
import { rebuild } from "../cluster/rebuild.ts";
import { StateDb } from "../cluster/state-db.ts";

interface RestoreOptions {
  file: string;
  config: NodeConfig;
  /** Goes on as this node of the backup, on its own host; null: as a new node. */
  as: string | null;
  off: readonly string[];
  /** Null: one more than the backup's. */
  generation: number | null;
  yes: boolean;
}

interface RestoreReport {
  done: boolean;
  node: string;
  clusterId: string;
  clusterName: string;
  generation: number;
  revision: number;
  createdAtMs: number;
  vms: number;
  /** Nodes of the backup; `off` by the operator's word, the others have to be accounted for before anything starts. */
  nodes: { name: string; off: boolean; vms: number }[];
}

export async function restore(options: RestoreOptions): Promise<RestoreReport> {
  const { config, file, off, yes } = options;
  const { head, state } = await readBackup(file);
  const { cluster } = state;
  if (cluster === null) throw new RoostError({ kind: "damaged", what: `backup ${file} (it has no cluster)` });
  const generation = options.generation ?? cluster.generation + 1;
  const named = (name: string): string => {
    const id = state.nodeIdByName.get(name) ?? (state.nodes.has(name) ? name : undefined);
    if (id === undefined)
      throw new RoostError({ kind: "not-found", what: "node", name }, `nodes in the backup: ${[...state.nodeIdByName.keys()].join(", ")}`);
    return id;
  };
  const offIds = off.map(named);
  const asId = options.as === null ? null : named(options.as);
  const old = asId === null ? undefined : state.nodes.get(asId);
  const place = placeOf(old === undefined ? config : { ...config, name: old.name });
  const nodeId = asId ?? newId();
  const report: RestoreReport = {
    done: yes,
    node: place.name,
    clusterId: cluster.id,
    clusterName: cluster.name,
    generation,
    revision: head.index,
    createdAtMs: head.createdAtMs,
    vms: [...state.vms.values()].filter((vm) => vm.state !== "deleted").length,
    nodes: [...state.nodes.values()]
      .filter((node) => node.id !== nodeId && node.state !== "removed")
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map((node) => ({ name: node.name, off: offIds.includes(node.id), vms: state.claimsByNode.get(node.id)?.size ?? 0 })),
  };
  await refuseUsed(config.data);
  const nowMs = Date.now();
  const { keyPem, requestPem } = await createKeyAndRequest();
  const leaf = await issue({ certificatePem: cluster.caCertificate, keyPem: cluster.caKey }, requestPem, {
    subject: { kind: "node", nodeId },
    names: [splitListen(place.apiAddress).host],
    nowMs,
    ttlMs: NODE_TTL_MS,
    serial: newSecret(16),
  });
  const { name, zone, labels, apiAddress, peerAddress } = place;
  const node = { id: nodeId, name, zone, labels, apiAddress, peerAddress };
  const rebuilt = rebuild(
    state,
    { generation, keepNodeId: nodeId, node, off: offIds, why: `restore of a backup at revision ${head.index}` },
    { lastTerm: head.term, nowMs, actor: "user:root" },
  );
  if (!yes) return report;
  await mkdir(config.data, { recursive: true, mode: 0o700 });
  const db = await StateDb.open(join(config.data, "state"));
  try {
    db.write([...state.rows()], rebuilt.position);
    await db.sync(rebuilt.position);
  } finally {
    await db.close();
  }
  // Last, for it makes the folder a node's.
  await saveIdentity(config.data, {
    ...place,
    clusterId: cluster.id,
    clusterName: cluster.name,
    nodeId,
    peerId: rebuilt.peerId,
    generation,
    tls: { ca: cluster.caCertificate, cert: chainOf(leaf, cluster.caCertificate), key: keyPem },
    peers: [{ peerId: rebuilt.peerId, nodeId, address: peerAddress }],
    founding: null,
    joining: null,
  });
  return report;
}

async function refuseUsed(dataDir: string): Promise<void> {
  const used = (await loadIdentity(dataDir)) !== null || existsSync(join(dataDir, "state")) || existsSync(join(dataDir, "raft"));
  if (used)
    throw new RoostError(
      { kind: "precondition", reason: `${dataDir} holds a node already` },
      "move it away, or name an empty folder with --data",
    );
}
