/**
 * A node's way into a cluster, from its own side (CLU-2). Nothing is written here: the daemon stores the result once
 * everything has succeeded, so a join that fails half-way leaves the node as it was.
 */
import { connect as connectTls } from "node:tls";
import type { DetailedPeerCertificate } from "node:tls";
import { RoostError } from "../base/errors.ts";
import { createClient } from "../base/rpc-client.ts";
import { parseAddress } from "../base/rpc.ts";
import { PROGRAM_LEVEL } from "../state/levels.ts";
import type { TlsIdentity } from "../base/rpc.ts";
import { chainOf, createKeyAndRequest, derToPem, fingerprint } from "./certificates.ts";
import { parseToken } from "./tokens.ts";

export interface JoinOptions {
  name: string;
  /** `host:port` under which others reach this node. */
  apiAddress: string;
  peerAddress: string;
  zone: string;
  labels: Record<string, string>;
  /** It shall vote and run no VMs. */
  witness?: boolean;
  /** Makes a repeated join the same join: keep it over retries. */
  requestId: string;
  /** Of the whole join, ms. */
  timeoutMs: number;
  signal?: AbortSignal;
}

export interface NodeIdentity {
  clusterId: string;
  nodeId: string;
  peerId: number;
  /** Of the cluster, when it joined. */
  generation: number;
  /** `cert` is the chain: node, then CA. */
  tls: TlsIdentity;
  peers: { nodeId: string; peerId: number; apiAddress: string; peerAddress: string }[];
  /** API addresses that answered during the join, first the one to confirm at. */
  endpoints: string[];
}

/**
 * Dials the token's addresses in order, pins the CA by the token's fingerprint, and asks to be let in. The answer is the
 * node's identity; it is no part of the cluster until `confirmJoin`. Throws `invalid` for a bad token, `denied` for a
 * wrong fingerprint, the cluster's own fault for a token used up, expired or revoked.
 */
export async function joinCluster(tokenText: string, options: JoinOptions): Promise<NodeIdentity> {
  const token = parseToken(tokenText);
  const deadlineMs = Date.now() + options.timeoutMs;
  const pinned = await findNode(token.addresses, token.caFingerprint, deadlineMs);
  const { keyPem, requestPem } = await createKeyAndRequest();
  const endpoints = [pinned.address, ...token.addresses.filter((address) => address !== pinned.address)];
  const client = createClient({ endpoints, tls: { ca: pinned.ca } });
  try {
    const answer = await client.call(
      "ClusterService",
      "Join",
      {
        tokenId: token.id,
        tokenSecret: token.secret,
        certificateRequest: requestPem,
        nodeName: options.name,
        apiAddress: options.apiAddress,
        peerAddress: options.peerAddress,
        zone: options.zone,
        labels: options.labels,
        level: PROGRAM_LEVEL,
        witness: options.witness ?? false,
        requestId: options.requestId,
      },
      { timeoutMs: Math.max(1, deadlineMs - Date.now()), ...(options.signal === undefined ? {} : { signal: options.signal }) },
    );
    if (fingerprint(answer.caCertificate) !== token.caFingerprint) {
      throw new RoostError({ kind: "denied", reason: `${pinned.address} answered with another CA than the token names` });
    }
    return {
      clusterId: answer.clusterId,
      nodeId: answer.nodeId,
      peerId: answer.peerId,
      generation: Math.max(1, answer.generation),
      tls: { ca: answer.caCertificate, cert: chainOf(answer.certificate, answer.caCertificate), key: keyPem },
      peers: answer.peers,
      endpoints,
    };
  } finally {
    client.close();
  }
}

/** Called when the node has stored its identity and serves: from here on it is a node of the cluster. Safe to repeat. */
export async function confirmJoin(identity: NodeIdentity, limits: { timeoutMs: number; signal?: AbortSignal }): Promise<void> {
  const client = createClient({ endpoints: identity.endpoints, tls: identity.tls });
  try {
    await client.call("ClusterService", "ConfirmJoin", { nodeId: identity.nodeId }, limits);
  } finally {
    client.close();
  }
}

const DIAL_MS = 5_000;

async function findNode(addresses: string[], wanted: string, deadlineMs: number): Promise<{ address: string; ca: string }> {
  const failures: string[] = [];
  for (const address of addresses) {
    const leftMs = Math.min(DIAL_MS, deadlineMs - Date.now());
    if (leftMs <= 0) break;
    const shown = await servedCertificates(address, leftMs).catch((error: Error) => error);
    if (shown instanceof Error) {
      failures.push(`${address}: ${shown.message}`);
      continue;
    }
    const ca = shown.find((der) => fingerprint(der) === wanted);
    if (ca !== undefined) return { address, ca: derToPem(ca) };
    // Somebody else at the address is no accident to pass over in silence.
    throw new RoostError(
      { kind: "denied", reason: `${address} does not belong to the cluster of this token: its CA has another fingerprint` },
      "ask for a new token (roost token create) and check who answers at that address",
    );
  }
  throw new RoostError(
    { kind: "unavailable", reason: `no node of the cluster can be reached: ${failures.join("; ") || "no time left"}` },
    "check the network and firewall between here and these addresses, and that the daemon runs there",
  );
}

/**
 * The chain a server shows, unverified: only hashes of it are compared, and the connection carries nothing. The real call
 * is made with the CA that was found.
 */
function servedCertificates(address: string, timeoutMs: number): Promise<Uint8Array[]> {
  const { host, port } = parseAddress(address) ?? { host: "", port: 0 };
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host, port, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(timeoutMs, () => fail(new Error(`no answer within ${timeoutMs} ms`)));
    socket.once("error", fail);
    socket.once("secureConnect", () => {
      const shown: Uint8Array[] = [];
      let at: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
      while (at?.raw !== undefined && shown.length < 8) {
        shown.push(new Uint8Array(at.raw));
        // A self-signed certificate is its own issuer.
        at = at.issuerCertificate === at ? undefined : at.issuerCertificate;
      }
      socket.destroy();
      resolve(shown);
    });
  });
}
