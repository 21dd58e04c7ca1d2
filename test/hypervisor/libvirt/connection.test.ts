import t from "tap";
import type { Test } from "tap";
import { RoostError } from "../../../src/base/errors.ts";
import { Connection } from "../../../src/hypervisor/libvirt/connection.ts";
import type { ConnectionOptions, LibvirtEvent } from "../../../src/hypervisor/libvirt/connection.ts";
import { hasLibvirtCode } from "../../../src/hypervisor/libvirt/errors.ts";
import { constants, schema } from "../../../src/hypervisor/libvirt/protocol.gen.ts";
import { encode } from "../../../src/hypervisor/libvirt/xdr.ts";
import { fakeLibvirtd } from "../../support/fake-libvirtd.ts";
import type { FakeLibvirtd } from "../../support/fake-libvirtd.ts";

async function connected(
  t: Test,
  options: Partial<ConnectionOptions> = {},
): Promise<{ daemon: FakeLibvirtd; connection: Connection; closed: Promise<RoostError> }> {
  const daemon = await fakeLibvirtd();
  let ended: (reason: RoostError) => void = () => {};
  const closed = new Promise<RoostError>((resolve) => (ended = resolve));
  const keepalive = { intervalMs: 60_000, count: 3 };
  const all = { socketPath: daemon.socketPath, uri: "test:///default", callTimeoutMs: 5_000, keepalive, onClose: ended, ...options };
  const connection = await Connection.open(all, 5_000);
  t.teardown(async () => {
    await connection.close();
    await daemon.close();
  });
  return { daemon, connection, closed };
}

async function fault(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "none",
    (error: unknown) => (error instanceof RoostError ? error.fault.kind : String(error)),
  );
}

void t.test("five calls are in flight, the others wait; answers may come in any order", async (t) => {
  const { daemon, connection } = await connected(t);
  const results = Array.from({ length: 12 }, () => connection.call("CONNECT_GET_HOSTNAME", null));
  await daemon.until(() => daemon.open.length === 5);
  // The last one made is answered first: the serial, not the order, says whose answer it is.
  daemon.open.reverse();
  const serials: number[] = [];
  for (let answered = 0; answered < 12; answered++) {
    await daemon.until(() => daemon.open.length === Math.min(5, 12 - answered));
    serials.push(daemon.open[0]?.frame.serial ?? 0);
    daemon.reply("CONNECT_GET_HOSTNAME", { hostname: `host ${daemon.open[0]?.frame.serial}` });
  }
  t.strictSame(
    await Promise.all(results.map(async (result) => (await result).hostname)),
    Array.from({ length: 12 }, (_, index) => `host ${index + 4}`),
  );
  t.equal(serials[0], 8, "three calls opened the connection, so the fifth of ours is serial 8");
});

void t.test("libvirt's errors become faults and keep their code", async (t) => {
  const { daemon, connection } = await connected(t);
  const table: [number, string][] = [
    [constants.VIR_ERR_NO_DOMAIN, "not-found"],
    [constants.VIR_ERR_OPERATION_INVALID, "precondition"],
    [constants.VIR_ERR_NO_SUPPORT, "unsupported"],
    [constants.VIR_ERR_XML_ERROR, "invalid"],
    [constants.VIR_ERR_AUTH_FAILED, "denied"],
    [constants.VIR_ERR_DOM_EXIST, "conflict"],
    [constants.VIR_ERR_SYSTEM_ERROR, "unavailable"],
    [constants.VIR_ERR_INTERNAL_ERROR, "internal"],
  ];
  for (const [code, kind] of table) {
    const call = connection.call("CONNECT_GET_HOSTNAME", null);
    await daemon.until(() => daemon.open.length === 1);
    daemon.fail(code, "said so");
    const error = await call.catch((caught: unknown) => caught);
    t.ok(error instanceof RoostError && error.fault.kind === kind && hasLibvirtCode(error, code), kind);
    t.match((error as RoostError).message, /said so/);
  }
});

void t.test("a call ends at its time limit and its late answer disturbs nobody", async (t) => {
  const { daemon, connection } = await connected(t);
  t.equal(await fault(connection.call("CONNECT_GET_HOSTNAME", null, { timeoutMs: 20 })), "timeout");
  const next = connection.call("CONNECT_GET_HOSTNAME", null);
  await daemon.until(() => daemon.open.length === 2);
  daemon.reply("CONNECT_GET_HOSTNAME", { hostname: "late" });
  daemon.reply("CONNECT_GET_HOSTNAME", { hostname: "right" });
  t.equal((await next).hostname, "right");
});

void t.test("a connection whose five calls all stayed without answer ends", async (t) => {
  const { connection, closed } = await connected(t);
  const faults = await Promise.all(
    Array.from({ length: 5 }, () => fault(connection.call("CONNECT_GET_HOSTNAME", null, { timeoutMs: 20 }))),
  );
  t.strictSame(
    faults,
    Array.from({ length: 5 }, () => "timeout"),
  );
  t.match((await closed).message, /without an answer/);
  t.notOk(connection.isOpen);
});

void t.test("waiting calls have a limit", async (t) => {
  const { connection } = await connected(t);
  const waiting = Array.from({ length: 1005 }, () => fault(connection.call("CONNECT_GET_HOSTNAME", null)));
  t.equal(await fault(connection.call("CONNECT_GET_HOSTNAME", null)), "exhausted");
  await connection.close();
  t.strictSame(new Set(await Promise.all(waiting)), new Set(["unavailable"]));
});

void t.test("pings are answered, and a silent daemon ends the connection", async (t) => {
  const { daemon, closed } = await connected(t, { keepalive: { intervalMs: 20, count: 3 } });
  await daemon.until(() => daemon.keepalives.length > 0);
  t.equal(daemon.keepalives[0], constants.KEEPALIVE_PROC_PING, "its own pings");
  const ping = {
    program: constants.KEEPALIVE_PROGRAM,
    version: 1,
    procedure: constants.KEEPALIVE_PROC_PING,
    type: 2,
    serial: 0,
    status: 0,
  };
  daemon.send({ ...ping, payload: new Uint8Array(0) });
  await daemon.until(() => daemon.keepalives.includes(constants.KEEPALIVE_PROC_PONG));
  daemon.answerPings = false;
  const reason = await closed;
  t.equal(reason.fault.kind, "unavailable");
  t.match(reason.message, /silent for 60 ms/);
});

void t.test("events reach the listener; bytes that are no protocol end the connection", async (t) => {
  let heard: (event: LibvirtEvent) => void = () => {};
  const first = new Promise<LibvirtEvent>((resolve) => (heard = resolve));
  const { daemon, connection, closed } = await connected(t, { onEvent: (event) => heard(event) });
  const message = { callbackID: 1, msg: { dom: { name: "a", uuid: new Uint8Array(16), id: 1 }, event: 2, detail: 0 } };
  daemon.send({
    program: constants.REMOTE_PROGRAM,
    version: 1,
    procedure: 318,
    type: constants.VIR_NET_MESSAGE,
    serial: 0,
    status: 0,
    payload: encode(schema, ["struct", "DomainEventCallbackLifecycleMsg"], message),
  });
  t.strictSame(await first, { name: "DOMAIN_EVENT_CALLBACK_LIFECYCLE", message });
  const pending = fault(connection.call("CONNECT_GET_HOSTNAME", null));
  daemon.send(Uint8Array.of(0, 0, 0, 1));
  t.match((await closed).message, /bad message/);
  t.equal(await pending, "unavailable");
  t.equal(await fault(connection.call("CONNECT_GET_HOSTNAME", null)), "unavailable");
});

void t.test("a daemon that wants authentication, or is not there, is told apart", async (t) => {
  const daemon = await fakeLibvirtd();
  daemon.authTypes = [constants.REMOTE_AUTH_SASL];
  const options = { uri: "x", callTimeoutMs: 1_000, keepalive: { intervalMs: 60_000, count: 1 } };
  t.equal(await fault(Connection.open({ ...options, socketPath: daemon.socketPath }, 1_000)), "denied");
  await daemon.close();
  t.equal(await fault(Connection.open({ ...options, socketPath: daemon.socketPath }, 1_000)), "unavailable");
});
