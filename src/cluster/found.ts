/** How a data folder gets its identity: by founding a cluster of one, or by joining with a token. */
import { hostname, networkInterfaces } from "node:os";
import { DEFAULT_API_PORT, type NodeConfig, splitListen } from "../base/config.ts";
import { RoostError } from "../base/errors.ts";
import { newId, newRequestId, newSecret } from "../base/ids.ts";
import { chainOf, createCa, createKeyAndRequest, issue, NODE_TTL_MS } from "./certificates.ts";
import { joinCluster } from "./join.ts";
import type { Identity } from "./identity.ts";

const JOIN_LIMIT_MS = 30_000;

type Place = Pick<Identity, "name" | "zone" | "labels" | "apiListen" | "peerListen" | "apiAddress" | "peerAddress">;

/** A new cluster with this node as its only voter. Nothing is written. */
export async function foundCluster(config: NodeConfig, clusterName: string | null, nowMs: number): Promise<Identity> {
  const place = placeOf(config);
  const clusterId = newId();
  const nodeId = newId();
  const ca = await createCa({ clusterId, nowMs, serial: newSecret(16) });
  const { keyPem, requestPem } = await createKeyAndRequest();
  const leaf = await issue({ certificatePem: ca.certificatePem, keyPem: ca.keyPem }, requestPem, {
    subject: { kind: "node", nodeId },
    names: [splitListen(place.apiAddress).host],
    nowMs,
    ttlMs: NODE_TTL_MS,
    serial: newSecret(16),
  });
  return {
    ...place,
    clusterId,
    clusterName: clusterName ?? "roost",
    nodeId,
    peerId: 1,
    tls: { ca: ca.certificatePem, cert: chainOf(leaf, ca.certificatePem), key: keyPem },
    peers: [{ peerId: 1, nodeId, address: place.peerAddress }],
    founding: { caKey: ca.keyPem },
    joining: null,
  };
}

/** Asks to be let in. Nothing is written; the node is no part of the cluster until it confirms (confirm.ts). */
export async function joinByToken(config: NodeConfig, token: string, witness = false): Promise<Identity> {
  const place = placeOf(config);
  const { name, zone, labels, apiAddress, peerAddress } = place;
  const me = await joinCluster(token, {
    name,
    zone,
    labels,
    apiAddress,
    peerAddress,
    witness,
    requestId: newRequestId(Date.now()),
    timeoutMs: JOIN_LIMIT_MS,
  });
  return {
    ...place,
    clusterId: me.clusterId,
    clusterName: "",
    nodeId: me.nodeId,
    peerId: me.peerId,
    generation: me.generation,
    tls: me.tls,
    peers: me.peers.map((peer) => ({ peerId: peer.peerId, nodeId: peer.nodeId, address: peer.peerAddress })),
    founding: null,
    joining: { endpoints: me.endpoints },
    ...(witness ? { witness } : {}),
  };
}

/** Name and addresses as configured, or as the host suggests. Peers use the port after the API's. */
export function placeOf(config: NodeConfig): Place {
  const listen = splitListen(config.listen === "" ? `0.0.0.0:${DEFAULT_API_PORT}` : config.listen);
  const wild = listen.host === "0.0.0.0" || listen.host === "::";
  const advertise =
    config.advertise !== "" ? splitListen(config.advertise) : { host: wild ? mainAddress() : listen.host, port: listen.port };
  return {
    name: config.name === "" ? hostNameLabel() : config.name,
    zone: config.zone,
    labels: Object.fromEntries(
      config.labels === ""
        ? []
        : config.labels.split(",").map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]),
    ),
    apiListen: address(listen.host, listen.port),
    peerListen: address(listen.host, listen.port + 1),
    apiAddress: address(advertise.host, advertise.port),
    peerAddress: address(advertise.host, advertise.port + 1),
  };
}

function address(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function mainAddress(): string {
  for (const addresses of Object.values(networkInterfaces())) {
    for (const found of addresses ?? []) if (!found.internal && found.family === "IPv4") return found.address;
  }
  return "127.0.0.1";
}

function hostNameLabel(): string {
  const label = (hostname().split(".")[0] ?? "").toLowerCase();
  if (!/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(label)) {
    throw new RoostError(
      {
        kind: "invalid",
        violations: [{ field: "--name", message: `the host's name ${JSON.stringify(hostname())} cannot be a node's name` }],
      },
      "give one with --name",
    );
  }
  return label;
}
