/** A frame between peers as gRPC's bytes: a Frame of proto/internal/v1/peer.proto, which has one field. */

/** gRPC's head of a message: not compressed, four bytes of length. Then the field `payload`: its tag, its length. */
const GRPC_HEAD_BYTES = 5;
const PAYLOAD_TAG = 0x0a;
const VARINT_MAX_BYTES = 5;

/** With gRPC's head. */
export function frameOf(payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(GRPC_HEAD_BYTES + 1 + VARINT_MAX_BYTES + payload.length);
  let at = GRPC_HEAD_BYTES;
  bytes[at++] = PAYLOAD_TAG;
  let length = payload.length;
  for (; length >= 0x80; length >>>= 7) bytes[at++] = (length & 0x7f) | 0x80;
  bytes[at++] = length;
  bytes.set(payload, at);
  at += payload.length;
  bytes[0] = 0;
  bytes.writeUInt32BE(at - GRPC_HEAD_BYTES, 1);
  return bytes.subarray(0, at);
}

/** What a message (without gRPC's head) brought, in memory of its own: entries live on in the log, and would keep all that they are cut from. Null: no Frame. */
export function payloadOf(message: Uint8Array): Uint8Array | null {
  if (message[0] !== PAYLOAD_TAG) return null;
  let at = 1;
  let length = 0;
  for (let scale = 1; at <= VARINT_MAX_BYTES; scale *= 128) {
    const byte = message[at++];
    if (byte === undefined) return null;
    length += (byte & 0x7f) * scale;
    if (byte < 0x80) break;
  }
  return at + length === message.length ? new Uint8Array(message.subarray(at)) : null;
}
