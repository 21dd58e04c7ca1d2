import t from "tap";
import { FrameError, FrameReader, encodeFrame } from "../../../src/hypervisor/libvirt/framing.ts";
import type { Frame } from "../../../src/hypervisor/libvirt/framing.ts";
import { constants, schema } from "../../../src/hypervisor/libvirt/protocol.gen.ts";
import { decode, encode } from "../../../src/hypervisor/libvirt/xdr.ts";
import { seededRandom } from "../../../src/base/random.ts";

function bytes(annotated: string): Uint8Array {
  const hex = annotated.replaceAll(/#.*$/gm, "").replaceAll(/\s/g, "");
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** remote_connect_open of "test:///default", as virsh sends it. */
const OPEN_CALL = bytes(`
  00000038  # length of all, itself included: 28 + 28
  20008086  # program REMOTE_PROGRAM
  00000001  # version 1
  00000001  # procedure REMOTE_PROC_CONNECT_OPEN
  00000000  # type VIR_NET_CALL
  00000002  # serial
  00000000  # status VIR_NET_OK
  00000001  # name: present
  0000000f  # 15 bytes
  746573743a2f2f2f64656661756c74 00  # "test:///default", padded to 16
  00000000  # flags
`);

/** An error reply to a lookup: VIR_ERR_NO_DOMAIN. */
const ERROR_REPLY = bytes(`
  00000064  # length: 28 + 72
  20008086 00000001
  00000018  # procedure REMOTE_PROC_DOMAIN_LOOKUP_BY_UUID (24)
  00000001  # type VIR_NET_REPLY
  00000003  # serial
  00000001  # status VIR_NET_ERROR
  0000002a  # code 42
  0000000c  # domain VIR_FROM_TEST
  00000001 00000010 446f6d61696e206e6f7420666f756e64  # "Domain not found"
  00000002  # level
  00000000  # dom: absent
  00000001 00000002 2573 0000  # str1 "%s"
  00000000 00000000  # str2, str3: absent
  ffffffff ffffffff  # int1, int2: -1
  00000000  # net: absent
`);

/** A life-cycle event: domain "a" stopped, destroyed. */
const EVENT = bytes(`
  00000044  # length: 28 + 40
  20008086 00000001
  0000013e  # REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE (318)
  00000002  # type VIR_NET_MESSAGE
  00000000  # serial: always 0 in events
  00000000
  00000001  # callback id
  00000001 61000000  # dom.name "a"
  000102030405060708090a0b0c0d0e0f  # dom.uuid
  ffffffff  # dom.id -1: not running any more
  00000005  # event VIR_DOMAIN_EVENT_STOPPED
  00000001  # detail VIR_DOMAIN_EVENT_STOPPED_DESTROYED
`);

void t.test("a call is exactly these bytes", (t) => {
  const payload = encode(schema, ["struct", "ConnectOpenArgs"], { name: "test:///default", flags: 0 });
  const header = {
    program: constants.REMOTE_PROGRAM,
    version: constants.REMOTE_PROTOCOL_VERSION,
    procedure: 1,
    type: 0,
    serial: 2,
    status: 0,
  };
  t.strictSame(Buffer.from(encodeFrame({ ...header, payload })).toString("hex"), Buffer.from(OPEN_CALL).toString("hex"));
  t.end();
});

void t.test("an error reply and an event are read from their bytes", (t) => {
  const [error, event] = new FrameReader().push(Buffer.concat([ERROR_REPLY, EVENT]));
  t.match(error, { procedure: 24, type: constants.VIR_NET_REPLY, serial: 3, status: constants.VIR_NET_ERROR });
  t.match(decode(schema, ["struct", "NetMessageError"], error?.payload ?? new Uint8Array()), {
    code: constants.VIR_ERR_NO_DOMAIN,
    message: "Domain not found",
    str1: "%s",
    dom: null,
    int1: -1,
  });
  t.match(event, { procedure: 318, type: constants.VIR_NET_MESSAGE, serial: 0 });
  t.strictSame(decode(schema, ["struct", "DomainEventCallbackLifecycleMsg"], event?.payload ?? new Uint8Array()), {
    callbackID: 1,
    msg: {
      dom: { name: "a", uuid: Uint8Array.from({ length: 16 }, (_, index) => index), id: -1 },
      event: constants.VIR_DOMAIN_EVENT_STOPPED,
      detail: constants.VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
    },
  });
  t.end();
});

void t.test("frames come out whole however the stream is cut", (t) => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  console.log(`# seed ${seed}`);
  const random = seededRandom(seed);
  for (let round = 0; round < 200; round++) {
    const frames: Frame[] = Array.from({ length: 1 + random.below(6) }, (_, index) => ({
      program: constants.REMOTE_PROGRAM,
      version: 1,
      procedure: random.below(500),
      type: random.below(7),
      serial: index,
      status: random.below(3),
      payload: Uint8Array.from({ length: random.below(300) }, () => random.below(256)),
    }));
    const stream = Buffer.concat(frames.map(encodeFrame));
    const reader = new FrameReader();
    const out: Frame[] = [];
    for (let at = 0; at < stream.length;) {
      const step = 1 + random.below(random.below(2) === 0 ? 5 : 400);
      out.push(...reader.push(new Uint8Array(stream.subarray(at, at + step))));
      at += step;
    }
    const plain = (list: Frame[]): unknown[] => list.map((frame) => ({ ...frame, payload: Buffer.from(frame.payload).toString("hex") }));
    if (JSON.stringify(plain(out)) !== JSON.stringify(plain(frames))) t.fail(`round ${round} of seed ${seed}`);
  }
  t.pass("200 streams");
  t.end();
});

void t.test("lengths outside the protocol's limits are refused", (t) => {
  // The smallest frame is 4 + 24 bytes; the largest 4 + VIR_NET_MESSAGE_MAX = 33554436 = 0x02000004.
  t.throws(() => new FrameReader().push(bytes("0000001b")), FrameError);
  t.throws(() => new FrameReader().push(bytes("02000005")), FrameError);
  t.strictSame(new FrameReader().push(bytes("02000004")), []);
  const header = { program: 1, version: 1, procedure: 1, type: 0, serial: 1, status: 0 };
  t.throws(() => encodeFrame({ ...header, payload: new Uint8Array(constants.VIR_NET_MESSAGE_MAX) }), FrameError);
  t.end();
});
