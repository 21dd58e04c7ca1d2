/** A daemon that speaks libvirt's frames and says only what a test tells it to. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FrameReader, encodeFrame } from "../../src/hypervisor/libvirt/framing.ts";
import type { Frame } from "../../src/hypervisor/libvirt/framing.ts";
import { calls, constants, schema } from "../../src/hypervisor/libvirt/protocol.gen.ts";
import type { Calls } from "../../src/hypervisor/libvirt/protocol.gen.ts";
import { encode } from "../../src/hypervisor/libvirt/xdr.ts";

export interface FakeLibvirtd {
  socketPath: string;
  /** Calls that were made and not yet answered, oldest first; opening the connection is answered by itself. */
  readonly open: { name: keyof Calls; frame: Frame; socket: Socket }[];
  /** Keepalive procedures received. */
  readonly keepalives: number[];
  readonly connections: Set<Socket>;
  /** Authentication types that it offers. */
  authTypes: number[];
  answerPings: boolean;
  reply<K extends keyof Calls>(name: K, ret: Calls[K]["ret"]): void;
  fail(code: number, message: string): void;
  /** Sends raw bytes or a frame on every connection. */
  send(data: Uint8Array | Frame): void;
  /** Resolves when so many calls are open, or so many keepalives came. */
  until(condition: () => boolean): Promise<void>;
  close(): Promise<void>;
}

const HANDSHAKE = new Set<keyof Calls>([
  "AUTH_LIST",
  "CONNECT_OPEN",
  "CONNECT_SUPPORTS_FEATURE",
  "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY",
]);
const UNTIL_LIMIT_MS = 10_000;

export async function fakeLibvirtd(): Promise<FakeLibvirtd> {
  const folder = mkdtempSync(join(tmpdir(), "roost-fake-libvirtd-"));
  const socketPath = join(folder, "sock");
  const looks = new Set<() => void>();
  const names = new Map(Object.entries(calls).map(([name, { number }]) => [number, name as keyof Calls]));
  const answer = (socket: Socket, to: Frame, status: number, payload: Uint8Array): void => {
    socket.write(encodeFrame({ ...to, type: constants.VIR_NET_REPLY, status, payload }));
  };
  const body = (name: keyof Calls, ret: unknown): Uint8Array => {
    const struct = calls[name].ret;
    return struct === null ? new Uint8Array(0) : encode(schema, ["struct", struct], ret);
  };
  const fake: FakeLibvirtd = {
    socketPath,
    open: [],
    keepalives: [],
    connections: new Set(),
    authTypes: [constants.REMOTE_AUTH_NONE],
    answerPings: true,
    reply: (name, ret) => {
      const at = fake.open.findIndex((call) => call.name === name);
      const [call] = fake.open.splice(at, 1);
      if (at < 0 || call === undefined) throw new Error(`no open call ${name}`);
      answer(call.socket, call.frame, constants.VIR_NET_OK, body(name, ret));
    },
    fail: (code, message) => {
      const call = fake.open.shift();
      if (call === undefined) throw new Error("no open call");
      const absent = { dom: null, str1: null, str2: null, str3: null, int1: 0, int2: 0, net: null };
      answer(
        call.socket,
        call.frame,
        constants.VIR_NET_ERROR,
        encode(schema, ["struct", "NetMessageError"], { code, domain: 1, message, level: 2, ...absent }),
      );
    },
    send: (data) => {
      for (const socket of fake.connections) socket.write(data instanceof Uint8Array ? data : encodeFrame(data));
    },
    until: (condition) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error("what the test waits for did not come")), UNTIL_LIMIT_MS);
        const look = (): void => {
          if (!condition()) return;
          clearTimeout(timer);
          looks.delete(look);
          resolve();
        };
        looks.add(look);
        look();
      }),
    close: async () => {
      for (const socket of fake.connections) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
  const received = (socket: Socket, frame: Frame): void => {
    if (frame.program === constants.KEEPALIVE_PROGRAM) {
      fake.keepalives.push(frame.procedure);
      if (frame.procedure === constants.KEEPALIVE_PROC_PING && fake.answerPings) {
        socket.write(encodeFrame({ ...frame, procedure: constants.KEEPALIVE_PROC_PONG }));
      }
      return;
    }
    const name = names.get(frame.procedure);
    if (name === undefined) throw new Error(`unknown procedure ${frame.procedure}`);
    if (!HANDSHAKE.has(name)) return void fake.open.push({ name, frame, socket });
    const ret = {
      AUTH_LIST: { types: fake.authTypes },
      CONNECT_SUPPORTS_FEATURE: { supported: 1 },
      CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY: { callbackID: 1 },
    };
    answer(socket, frame, constants.VIR_NET_OK, body(name, ret[name as keyof typeof ret]));
  };
  const server = createServer((socket) => {
    const reader = new FrameReader();
    fake.connections.add(socket);
    socket.on("data", (chunk) => {
      for (const frame of reader.push(new Uint8Array(chunk))) received(socket, frame);
      for (const look of looks) look();
    });
    socket.on("error", () => {}); // the client's end of it is what is tested
    socket.on("close", () => {
      fake.connections.delete(socket);
      for (const look of looks) look();
    });
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return fake;
}
