/** A checkpoint's chunks over a gRPC stream, at the pace of whoever takes them: neither side holds more than a few. */
import grpc from "@grpc/grpc-js";
import { asRoostError, RoostError } from "../../base/errors.ts";
import type { Status } from "../../base/grpc-call.ts";
import type { Logger } from "../../base/log.ts";
import type { CheckpointChunk, CheckpointChunk__Output } from "../../gen/types/roost/internal/v1/CheckpointChunk.ts";
import type { PeerClient } from "../../gen/types/roost/internal/v1/Peer.ts";
import type { CheckpointRequest, WireChunk } from "./links.ts";

/** A receiver that takes nothing for this long is cut off; it may come back for the rest. */
export const TAKE_LIMIT_MS = 10_000;

/** What goes over the wire. Its errors go there too, see `refusalOf`. */
export async function* sentChunks(chunks: AsyncIterable<WireChunk>, log: Logger): AsyncGenerator<CheckpointChunk> {
  try {
    for await (const { id, number, crc, bytes } of chunks) {
      yield { id, number, crc, payload: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) };
    }
  } catch (thrown) {
    log.info("a checkpoint is not sent", { error: asRoostError(thrown).message });
    throw thrown;
  }
}

export function refusalOf(error: RoostError): Status {
  return { code: CODES[error.fault.kind] ?? grpc.status.UNAVAILABLE, details: error.message };
}

const CODES: Partial<Record<RoostError["fault"]["kind"], grpc.status>> = {
  "not-found": grpc.status.NOT_FOUND,
  exhausted: grpc.status.RESOURCE_EXHAUSTED,
  damaged: grpc.status.DATA_LOSS,
};

/** @throws RoostError `not-found` if the peer does not hold it (any more), `unavailable` when the link breaks. */
export async function* receiveChunks(
  client: PeerClient,
  request: CheckpointRequest,
  metadata: grpc.Metadata,
  signal: AbortSignal,
): AsyncGenerator<WireChunk> {
  const call = client.Checkpoint(request, metadata);
  const stop = (): void => call.cancel();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    for await (const chunk of call as AsyncIterable<CheckpointChunk__Output>) {
      yield { id: chunk.id, number: chunk.number, crc: chunk.crc, bytes: new Uint8Array(chunk.payload) };
    }
  } catch (thrown) {
    const { code, details } = thrown as Partial<grpc.ServiceError>;
    if (code === grpc.status.NOT_FOUND) throw new RoostError({ kind: "not-found", what: "checkpoint", name: request.id });
    throw new RoostError({ kind: "unavailable", reason: details ?? asRoostError(thrown).message }, undefined, { cause: thrown });
  } finally {
    signal.removeEventListener("abort", stop);
    call.cancel();
  }
}
