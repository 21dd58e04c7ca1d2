/** A checkpoint's chunks over a gRPC stream, at the pace of whoever takes them: neither side holds more than a few. */
import grpc from "@grpc/grpc-js";
import { asRoostError, RoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { CheckpointChunk, CheckpointChunk__Output } from "../../gen/types/roost/internal/v1/CheckpointChunk.ts";
import type { CheckpointRequest__Output } from "../../gen/types/roost/internal/v1/CheckpointRequest.ts";
import type { PeerClient } from "../../gen/types/roost/internal/v1/Peer.ts";
import type { CheckpointRequest, WireChunk } from "./links.ts";

/** A receiver that takes nothing for this long is cut off; it may come back for the rest. */
const TAKE_LIMIT_MS = 10_000;

type Call = grpc.ServerWritableStream<CheckpointRequest__Output, CheckpointChunk>;

/** Ends when all is sent, the receiver is gone, or the source refuses: its error goes over the wire. */
export async function sendChunks(call: Call, chunks: AsyncIterable<WireChunk>, log: Logger): Promise<void> {
  call.on("error", () => call.destroy());
  try {
    for await (const { id, number, crc, bytes } of chunks) {
      if (call.cancelled || call.destroyed) return;
      const payload = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      if (!call.write({ id, number, crc, payload }) && !(await taken(call))) {
        log.info("a node does not take its checkpoint", { checkpoint: id, chunk: number });
        call.destroy();
        return;
      }
    }
    call.end();
  } catch (thrown) {
    const error = asRoostError(thrown);
    log.info("a checkpoint is not sent", { error: error.message });
    call.emit("error", { code: CODES[error.fault.kind] ?? grpc.status.UNAVAILABLE, details: error.message });
  }
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

/** False if it has taken nothing within the limit, or is gone. */
function taken(call: Call): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (took: boolean): void => {
      clearTimeout(limit);
      call.off("drain", drained);
      call.off("cancelled", gone);
      call.off("close", gone);
      resolve(took);
    };
    const drained = (): void => end(true);
    const gone = (): void => end(false);
    const limit = setTimeout(gone, TAKE_LIMIT_MS);
    call.on("drain", drained);
    call.on("cancelled", gone);
    call.on("close", gone);
    if (call.cancelled || call.destroyed) gone();
  });
}
