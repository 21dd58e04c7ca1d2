/** Peer links over gRPC streams with mutual TLS: one stream per peer, lane and direction, opened by the sender (RAFT-4). */
import grpc from "@grpc/grpc-js";
import type { Logger } from "../../base/log.ts";
import { RoostError } from "../../base/errors.ts";
import type { CallInfo } from "../../base/grpc-call.ts";
import { GrpcServer } from "../../base/grpc-server.ts";
import { services, type TlsIdentity } from "../../base/rpc.ts";
import type { CheckpointRequest__Output } from "../../gen/types/roost/internal/v1/CheckpointRequest.ts";
import type { PeerClient } from "../../gen/types/roost/internal/v1/Peer.ts";
import { receiveChunks, refusalOf, sentChunks, TAKE_LIMIT_MS } from "./chunks.ts";
import { CHUNK_MAX_BYTES } from "./checkpoint-file.ts";
import type { LinkEvents, Peer, PeerLinks } from "./links.ts";
import { GENERATION_KEY, Sender } from "./sender.ts";
import { payloadOf } from "./wire.ts";

/** A frame holds at most this much: an append of 1 MiB, or one entry as large as a request may be (4 MiB). Longer ones break the link. */
const MAX_FRAME_BYTES = 8 * 2 ** 20;

/** A link that carried nothing for this long, and at most twice as long, is closed until it is needed. */
const IDLE_MS = 60_000;

/** For fetching checkpoints; a cut link must be noticed soon. */
const CHANNEL_OPTIONS: grpc.ChannelOptions = {
  "grpc.keepalive_time_ms": 1_000,
  "grpc.keepalive_timeout_ms": 1_500,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.max_receive_message_length": CHUNK_MAX_BYTES + 1024,
  "grpc.use_local_subchannel_pool": 1,
};

function nodeIdOf({ certificateName }: CallInfo): string {
  return certificateName?.replace(/^node:/, "") ?? "";
}

function wrongGeneration(theirs: number, ours: number): string {
  return theirs < ours
    ? `this cluster was recovered or restored (generation ${ours}), and this node is of generation ${theirs}: it was left out and cannot come back as it was; see roost cluster rejoin --help`
    : `this node is of generation ${ours}, the caller of ${theirs}`;
}

export interface GrpcLinksOptions {
  /** Cluster generation of this node; peers of any other are refused. */
  generation: number;
  /** host:port to serve peers on. */
  listen: string;
  identity: TlsIdentity;
  log: Logger;
  events: LinkEvents;
}

export async function openGrpcLinks(options: GrpcLinksOptions): Promise<PeerLinks> {
  const { generation, identity, log, events } = options;
  /** Opened by the first frame and closed when nothing was said for long: of a thousand nodes a voter talks with few. */
  const senders = new Map<string, Sender>();
  const byPeerId = new Map<number, Peer>();
  let removedIds: ReadonlySet<string> = new Set();
  const byNodeId = new Map<string, Peer>();
  const credentials = grpc.credentials.createSsl(Buffer.from(identity.ca), Buffer.from(identity.key), Buffer.from(identity.cert));

  const server = new GrpcServer({
    admit: (_info, headers) => {
      const theirs = Number(headers[GENERATION_KEY] ?? 1);
      if (theirs === generation) return null;
      if (theirs > generation) events.outdated?.(theirs);
      const trailers = { [GENERATION_KEY]: String(generation) };
      return { code: grpc.status.FAILED_PRECONDITION, details: wrongGeneration(theirs, generation), trailers };
    },
    statusOf: refusalOf,
    streamWindowBytes: MAX_FRAME_BYTES,
  });
  const { Checkpoint: checkpointMethod, Send: sendMethod } = services.internal.v1.Peer.service;
  server.add(sendMethod.path, {
    kind: "intake",
    maxBytes: MAX_FRAME_BYTES,
    open(info) {
      const nodeId = nodeIdOf(info);
      return (message) => {
        if (removedIds.has(nodeId)) return { code: grpc.status.PERMISSION_DENIED, details: "this node was removed from the cluster" };
        // Looked up for each frame: a peer can be removed while its stream is open.
        const peer = byNodeId.get(nodeId);
        const payload = peer === undefined ? null : payloadOf(message);
        if (peer !== undefined && payload !== null) events.frame(peer, payload);
        return null;
      };
    },
  });
  server.add(checkpointMethod.path, {
    kind: "stream",
    decode: checkpointMethod.requestDeserialize,
    encode: checkpointMethod.responseSerialize as (value: unknown) => Uint8Array,
    takeLimitMs: TAKE_LIMIT_MS,
    call: (request, info) => sentChunks(events.checkpoint(nodeIdOf(info), request as CheckpointRequest__Output), log),
  });
  await server.listenTls(options.listen, identity, "known");
  const sweep = setInterval(() => {
    for (const [key, sender] of senders) {
      if (sender.saidAnything()) continue;
      sender.close();
      senders.delete(key);
    }
  }, IDLE_MS);

  return {
    send(peerId, lane, payload) {
      const key = `${peerId}/${lane}`;
      let sender = senders.get(key);
      if (sender === undefined) {
        const peer = byPeerId.get(peerId);
        if (peer === undefined) return false;
        sender = new Sender(peer, lane, { identity, generation, log, events });
        senders.set(key, sender);
      }
      return sender.send(payload);
    },
    async *fetchCheckpoint(peerId, request, signal) {
      const peer = [...byNodeId.values()].find((one) => one.peerId === peerId);
      if (peer === undefined) throw new RoostError({ kind: "unavailable", reason: `peer ${peerId} is unknown` });
      const client = clientOf(peer, credentials);
      try {
        const metadata = new grpc.Metadata();
        metadata.set(GENERATION_KEY, String(generation));
        yield* receiveChunks(client, request, metadata, signal);
      } finally {
        client.close();
      }
    },
    setPeers(peers, removed) {
      removedIds = removed;
      byNodeId.clear();
      byPeerId.clear();
      for (const peer of peers) {
        byNodeId.set(peer.nodeId, peer);
        byPeerId.set(peer.peerId, peer);
      }
      for (const [key, sender] of senders) {
        if (byPeerId.get(sender.peer.peerId)?.address === sender.peer.address) continue;
        sender.close();
        senders.delete(key);
      }
    },
    async close() {
      clearInterval(sweep);
      for (const sender of senders.values()) sender.close();
      senders.clear();
      await server.close(100);
    },
  };
}

/** A connection of its own: what goes over it stands in no other's way. */
function clientOf(peer: Peer, credentials: grpc.ChannelCredentials): PeerClient {
  return new services.internal.v1.Peer(peer.address, credentials, {
    ...CHANNEL_OPTIONS,
    // The certificate must be of this very node, whoever answers at its address.
    "grpc.ssl_target_name_override": peer.nodeId,
  });
}
