import t from "tap";
import { decodeFrame, encodeFrame, type PeerFrame } from "../../../src/cluster/consensus/frames.ts";
import { seededRandom } from "../../../src/base/random.ts";
import { faultOf } from "../../state/log.ts";

const beat: PeerFrame = { kind: "beat", beat: { bootId: "b", nonce: "n", seq: 3, claimRevision: 9 } };
const ack: PeerFrame = {
  kind: "ack",
  ack: { bootId: "b", nonce: "n", seq: 3, grantedMs: 4_000, claimRevision: 9, claims: [{ vmId: "v", generation: 2 ** 32 + 1 }] },
};

t.test("there and back", (t) => {
  for (const frame of [beat, ack]) t.same(decodeFrame(encodeFrame(frame)), frame);
  t.end();
});

t.test("rubbish is damaged, whatever it is", (t) => {
  const text = (tag: number, body: string): Uint8Array => new Uint8Array([tag, ...new TextEncoder().encode(body)]);
  for (const bytes of [
    new Uint8Array(),
    new Uint8Array([9]),
    text(2, "null"),
    text(2, "7"),
    text(3, "{"),
    text(2, ""),
    new Uint8Array([3, 0xff]),
  ]) {
    t.match(
      faultOf(() => decodeFrame(bytes)),
      { kind: "damaged" },
    );
  }
  const seed = 1;
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  for (let i = 0; i < 3_000; i++) {
    const bytes = Uint8Array.from({ length: random.below(60) }, () => random.below(256));
    if (bytes.length > 0) bytes[0] = 1 + random.below(3);
    try {
      decodeFrame(bytes);
    } catch (thrown) {
      if ((thrown as { fault?: { kind: string } }).fault?.kind !== "damaged")
        t.fail(`${Buffer.from(bytes).toString("hex")}: ${String(thrown)}`);
    }
  }
  t.end();
});
