/** Who this node is, minted once and kept: DATA/identity.json, readable by its owner only. */
import { chmod, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { RoostError } from "../base/errors.ts";
import type { TlsIdentity } from "../base/rpc.ts";
import type { Peer } from "../raft/transport/links.ts";

export interface Identity {
  clusterId: string;
  clusterName: string;
  nodeId: string;
  peerId: number;
  /** Cluster generation that it belongs to; the state, where there is one, knows better. Absent: 1. */
  generation?: number;
  name: string;
  zone: string;
  labels: Record<string, string>;
  /** host:port each; `listen` is what is bound, `advertise` what others dial. */
  apiListen: string;
  peerListen: string;
  apiAddress: string;
  peerAddress: string;
  tls: TlsIdentity;
  /** Peers known when the node joined; later the state knows them. */
  peers: Peer[];
  /** The CA's key, only on the node that founds the cluster and only until the state has it. */
  founding: { caKey: string } | null;
  /** It votes and runs no VMs. */
  witness?: boolean;
  /** Where to confirm the join, until that is done; then null. `again`: it was a node before (roost cluster rejoin), and stays one if it fails. */
  joining: { endpoints: string[]; again?: boolean } | null;
}

const FILE = "identity.json";

/** null if the data folder has none: the node is in no cluster. */
export async function loadIdentity(dataDir: string): Promise<Identity | null> {
  const path = join(dataDir, FILE);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new RoostError(
      { kind: "precondition", reason: `cannot read ${path}: ${(thrown as Error).message}` },
      "run as the user that owns the data folder",
    );
  }
  let cause: unknown;
  try {
    const value: unknown = JSON.parse(text);
    if (isIdentity(value)) return value;
  } catch (thrown) {
    cause = thrown;
  }
  throw new RoostError({ kind: "damaged", what: path }, "restore it, or move the data folder away and join the cluster again", { cause });
}

/** Written whole or not at all, so a look at what everything hangs on is enough. */
function isIdentity(value: unknown): value is Identity {
  if (typeof value !== "object" || value === null) return false;
  const { clusterId, nodeId, peerId, tls } = value as Record<string, unknown>;
  return typeof clusterId === "string" && typeof nodeId === "string" && typeof peerId === "number" && typeof tls === "object";
}

/** Written whole or not at all, and on disk when it returns. */
export async function saveIdentity(dataDir: string, identity: Identity): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await chmod(dataDir, 0o700);
  const path = join(dataDir, FILE);
  // What an attempt of before left may be readable by others, and would stay so.
  await rm(`${path}.new`, { force: true });
  const file = await open(`${path}.new`, "wx", 0o600);
  try {
    await file.writeFile(JSON.stringify(identity, null, 2));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
  const folder = await open(dataDir, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Takes back what a join wrote that did not come to its end, so that the folder can join again (CLU-2). */
export async function forgetNode(dataDir: string): Promise<void> {
  // The identity goes last: as long as it is there the rest is known to be half of a node.
  for (const name of ["state", "raft", "raft.acked", FILE]) await rm(join(dataDir, name), { recursive: true, force: true });
}
