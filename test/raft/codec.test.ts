import t from "tap";
import type { Random } from "../../src/base/random.ts";
import { seededRandom } from "../../src/base/random.ts";
import { RoostError } from "../../src/base/errors.ts";
import { decodeMessage, encodeMessage } from "../../src/raft/codec.ts";
import { message } from "../../src/raft/core/message.ts";
import type { ConfState, Entry, EntryKind, Message, MessageType } from "../../src/raft/core/types.ts";
import { APPEND_THREAD } from "../../src/raft/core/types.ts";

const seed = Number(process.env["ROOST_SEED"] ?? Date.now() % 1_000_000);
console.log(`# seed ${seed}`);

const TYPES: MessageType[] = [
  "append",
  "append-reply",
  "heartbeat",
  "heartbeat-reply",
  "vote",
  "vote-reply",
  "pre-vote",
  "pre-vote-reply",
  "checkpoint",
  "timeout-now",
  "propose",
  "read-index",
  "read-index-reply",
  "transfer-leader",
];
const KINDS: EntryKind[] = ["normal", "empty", "refused", "conf-v1", "conf"];

/** Numbers near every boundary of the encoding. */
function someNumber(random: Random): number {
  const edges = [0, 1, 127, 128, 16383, 16384, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 35, 2 ** 49, Number.MAX_SAFE_INTEGER];
  return random.below(2) === 0 ? edges[random.below(edges.length)]! : random.below(1000);
}

function someBytes(random: Random): Uint8Array {
  return Uint8Array.from({ length: random.below(4) === 0 ? random.below(300) : random.below(8) }, () => random.below(256));
}

function someMessage(random: Random): Message {
  const m = message(TYPES[random.below(TYPES.length)]!, someNumber(random), someNumber(random));
  m.term = someNumber(random);
  m.logTerm = someNumber(random);
  m.index = someNumber(random);
  m.commit = someNumber(random);
  m.reject = random.below(2) === 0;
  m.rejectHint = someNumber(random);
  m.context = someNumber(random);
  const entries: Entry[] = [];
  const next = m.index < 2 ** 40 ? m.index + 1 : 1;
  for (let i = random.below(5); i > 0; i--) {
    entries.push({
      term: random.below(2) === 0 ? m.logTerm : someNumber(random),
      index: random.below(3) > 0 ? next + entries.length : someNumber(random),
      kind: KINDS[random.below(KINDS.length)]!,
      data: someBytes(random),
    });
  }
  m.entries = entries;
  if (random.below(4) === 0) {
    const ids = (): number[] =>
      Array.from({ length: random.below(4) }, () => 1 + someNumber(random)).map((id) => Math.min(id, 2 ** 53 - 1));
    const confState: ConfState = {
      voters: ids(),
      outgoing: ids(),
      learners: ids(),
      learnersNext: ids(),
      autoLeave: random.below(2) === 0,
    };
    m.checkpoint = { index: someNumber(random), term: someNumber(random), confState, data: someBytes(random) };
  }
  return m;
}

t.test("every message survives the way through bytes", async (t) => {
  const random = seededRandom(seed);
  for (let i = 0; i < 5000; i++) {
    const m = someMessage(random);
    const bytes = encodeMessage(m);
    const back = decodeMessage(bytes);
    if (JSON.stringify(back, asArrays) !== JSON.stringify(m, asArrays)) t.strictSame(back, m, `message ${i}`);
    const reserved = encodeMessage(m, 3);
    if (!equalBytes(reserved.subarray(3), bytes)) t.fail(`message ${i} differs behind reserved bytes`);
  }
  t.pass("5000 messages");
});

t.test("cut, changed or made-up bytes are refused as damaged or decode to something that encodes again", async (t) => {
  const random = seededRandom(seed + 1);
  let refused = 0;
  let decoded = 0;
  const attempt = (bytes: Uint8Array): void => {
    try {
      const m = decodeMessage(bytes);
      encodeMessage(m);
      decoded++;
    } catch (error) {
      if (!(error instanceof RoostError) || error.fault.kind !== "damaged") throw error;
      refused++;
    }
  };
  for (let i = 0; i < 3000; i++) {
    const bytes = encodeMessage(someMessage(random));
    attempt(bytes.slice(0, random.below(bytes.length)));
    const flipped = bytes.slice();
    const at = random.below(flipped.length);
    flipped[at] = flipped[at]! ^ (1 << random.below(8));
    attempt(flipped);
    attempt(Uint8Array.from({ length: random.below(40) }, () => random.below(256)));
    attempt(Uint8Array.from([...bytes, 0]));
  }
  t.ok(refused > 6000, `${refused} refused`);
  t.ok(decoded > 0, `${decoded} decoded: a flipped bit in data is data`);
});

t.test("every cut of a message is refused", async (t) => {
  const random = seededRandom(seed + 2);
  for (let i = 0; i < 200; i++) {
    const bytes = encodeMessage(someMessage(random));
    for (let length = 0; length < bytes.length; length++) {
      try {
        decodeMessage(bytes.slice(0, length));
        t.fail(`a cut to ${length} of ${bytes.length} bytes was taken`);
      } catch (error) {
        if (!(error instanceof RoostError)) throw error;
      }
    }
  }
  t.pass("200 messages");
});

t.test("common messages are small", async (t) => {
  const heartbeat = message("heartbeat", 2, 1);
  heartbeat.term = 7;
  heartbeat.commit = 100_000;
  // type 1 + fields 1 + to 1 + from 1 + term 1 + commit 3
  t.equal(encodeMessage(heartbeat).length, 8);
  const append = message("append", 2, 1);
  append.term = append.logTerm = 7;
  append.index = 100_000;
  append.commit = 100_000;
  append.entries = [{ term: 7, index: 100_001, kind: "normal", data: new Uint8Array(100) }];
  // type 1 + fields 2 + to 1 + from 1 + term 1 + logTerm 1 + index 3 + commit 3 + count 1 + head 1 + length 1 + data 100
  t.equal(encodeMessage(append).length, 116);
});

t.test("what belongs to one peer does not get a form on the wire", async (t) => {
  t.throws(() => encodeMessage(message("storage-append", APPEND_THREAD, 1)));
  t.throws(() => encodeMessage(message("campaign")));
  t.throws(() => encodeMessage({ ...message("append", 2, 1), responses: [message("append-reply", 1)] }));
});

function asArrays(_key: string, value: unknown): unknown {
  return value instanceof Uint8Array ? [...value] : value;
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
