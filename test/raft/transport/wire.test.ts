/** Frames as bytes: what goes in comes out, in memory of its own, and is protobuf's own Frame. */
import t from "tap";
import { services } from "../../../src/base/rpc.ts";
import { frameOf, payloadOf } from "../../../src/raft/transport/wire.ts";

const { requestDeserialize, requestSerialize } = services.internal.v1.Peer.service.Send;

t.test("frames of all lengths of a length", async (t) => {
  // A varint takes another byte at 2^7, 2^14, 2^21.
  for (const size of [0, 1, 127, 128, 16_383, 16_384, 2 ** 21 - 1, 2 ** 21]) {
    const payload = new Uint8Array(size).fill(size % 251);
    const framed = frameOf(payload);
    t.equal(framed.readUInt32BE(1), framed.length - 5, "gRPC's head");
    const message = framed.subarray(5);
    t.ok(Buffer.from((requestDeserialize(message) as { payload: Uint8Array }).payload).equals(payload), `${size} bytes, read by protobuf`);
    const own = payloadOf(message);
    t.ok(own !== null && Buffer.from(own).equals(payload), `${size} bytes, read here`);
    t.equal(own?.buffer.byteLength, size, "nothing else is kept with it");
    if (size > 0) t.ok(payloadOf(requestSerialize({ payload: Buffer.from(payload) }))?.length === size, "written by protobuf");
  }
});

t.test("what is no frame is none", async (t) => {
  for (const bytes of [[], [0x0a], [0x0a, 0x80], [0x0a, 2, 1], [0x0a, 1, 1, 1], [0x12, 1, 1], [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]])
    t.equal(payloadOf(Uint8Array.from(bytes)), null, Buffer.from(bytes).toString("hex"));
});
