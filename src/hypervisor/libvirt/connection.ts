/**
 * One connection to a libvirt daemon's unix socket: authentication "none", one opened URI, calls in flight, events,
 * keepalive. It never reconnects (client.ts does) and imports nothing heavy: the keeper uses it as it is.
 */
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { RoostError } from "../../base/errors.ts";
import { LibvirtFailure, libvirtError } from "./errors.ts";
import { FrameReader, encodeFrame } from "./framing.ts";
import type { Frame } from "./framing.ts";
import { calls, constants, events, schema } from "./protocol.gen.ts";
import type { Calls, Events, NetMessageError } from "./protocol.gen.ts";
import { decode, encode } from "./xdr.ts";

/** libvirtd's default `max_client_requests`: more would only wait inside the daemon, out of our sight. */
const MAX_IN_FLIGHT = 5;
/** Calls that may wait for a place; over it a call fails with `exhausted`. */
const MAX_QUEUED = 1000;
/** From libvirt's internal driver features: the daemon starts its own pings once a client has asked for this one. */
const FEATURE_PROGRAM_KEEPALIVE = 10;

export type LibvirtEvent = { [K in keyof Events]: { name: K; message: Events[K] } }[keyof Events];

export interface ConnectionOptions {
  socketPath: string;
  uri: string;
  /** Time limit of a call that names none. */
  callTimeoutMs: number;
  /** A ping each interval; `count` intervals without a byte from the daemon end the connection. */
  keepalive: { intervalMs: number; count: number };
  onEvent?: (event: LibvirtEvent) => void;
  /** Called once, when the connection has ended for whatever reason but `close()`. */
  onClose?: (reason: RoostError) => void;
}

interface Pending {
  name: keyof Calls;
  bytes: Uint8Array;
  serial: number;
  timer: NodeJS.Timeout;
  /** The caller was answered (time limit): only the place in flight is still held until the daemon replies. */
  abandoned: boolean;
  resolve: (value: unknown) => void;
  reject: (error: RoostError) => void;
}

export class Connection {
  private readonly options: ConnectionOptions;
  private readonly socket: Socket;
  private readonly reader = new FrameReader();
  private readonly inFlight = new Map<number, Pending>();
  private readonly queued: Pending[] = [];
  private serial = 0;
  private ended: RoostError | null = null;
  private silentIntervals = 0;
  private keepaliveTimer: NodeJS.Timeout | null = null;
  private ready = false;

  private constructor(options: ConnectionOptions, socket: Socket) {
    this.options = options;
    this.socket = socket;
    socket.on("data", (chunk) => this.received(chunk));
    socket.on("error", (error) => this.end(unavailable(options.socketPath, error.message, error)));
    socket.on("close", () => this.end(unavailable(options.socketPath, "the daemon closed the connection")));
  }

  /** Connects, authenticates and opens the URI, all within `timeoutMs`. Throws RoostError: unavailable, timeout, denied. */
  static async open(options: ConnectionOptions, timeoutMs: number): Promise<Connection> {
    const socket = await connectSocket(options.socketPath, timeoutMs);
    const connection = new Connection(options, socket);
    try {
      const auth = await connection.call("AUTH_LIST", null, { timeoutMs });
      // For root the daemon answers "none" even where it asks others for polkit.
      if (auth.types.length > 0 && !auth.types.includes(constants.REMOTE_AUTH_NONE)) {
        throw new RoostError(
          { kind: "denied", reason: `libvirt at ${options.socketPath} wants authentication` },
          'run roost as root, or set auth_unix_rw = "none" in libvirtd.conf',
        );
      }
      await connection.call("CONNECT_OPEN", { name: options.uri, flags: 0 }, { timeoutMs });
      await connection.call("CONNECT_SUPPORTS_FEATURE", { feature: FEATURE_PROGRAM_KEEPALIVE }, { timeoutMs });
    } catch (error) {
      await connection.close();
      throw error;
    }
    connection.startKeepalive();
    connection.ready = true;
    return connection;
  }

  get isOpen(): boolean {
    return this.ended === null;
  }

  /** Makes one call. Throws RoostError: libvirt's own error mapped, `timeout`, `unavailable` when the connection ends, `exhausted`. */
  call<K extends keyof Calls>(name: K, args: Calls[K]["args"], limit: { timeoutMs?: number } = {}): Promise<Calls[K]["ret"]> {
    if (this.ended !== null) return Promise.reject(this.ended);
    if (this.queued.length >= MAX_QUEUED) {
      return Promise.reject(new RoostError({ kind: "exhausted", reason: `${MAX_QUEUED} calls wait for libvirt already` }));
    }
    const timeoutMs = limit.timeoutMs ?? this.options.callTimeoutMs;
    const definition = calls[name];
    const payload = definition.args === null ? new Uint8Array(0) : encode(schema, ["struct", definition.args], args);
    this.serial = (this.serial + 1) >>> 0;
    const serial = this.serial;
    const bytes = encodeFrame({
      program: constants.REMOTE_PROGRAM,
      version: constants.REMOTE_PROTOCOL_VERSION,
      procedure: definition.number,
      type: constants.VIR_NET_CALL,
      serial,
      status: constants.VIR_NET_OK,
      payload,
    });
    return new Promise<Calls[K]["ret"]>((resolve, reject) => {
      const timer = setTimeout(() => this.timedOut(pending, timeoutMs), timeoutMs);
      const pending: Pending = { name, bytes, serial, timer, abandoned: false, resolve: resolve as (value: unknown) => void, reject };
      this.queued.push(pending);
      this.pump();
    });
  }

  /** Says goodbye and closes; `onClose` is not called. Calls still in flight fail with `unavailable`. */
  async close(): Promise<void> {
    if (this.ended !== null) return;
    this.ready = false;
    const gone = new Promise<void>((resolve) => this.socket.once("close", () => resolve()));
    this.end(unavailable(this.options.socketPath, "the connection was closed by roost"));
    await gone;
  }

  private pump(): void {
    while (this.inFlight.size < MAX_IN_FLIGHT) {
      const pending = this.queued.shift();
      if (pending === undefined) return;
      this.inFlight.set(pending.serial, pending);
      this.socket.write(pending.bytes);
    }
  }

  private timedOut(pending: Pending, afterMs: number): void {
    pending.abandoned = true;
    const at = this.queued.indexOf(pending);
    if (at >= 0) this.queued.splice(at, 1);
    pending.reject(new RoostError({ kind: "timeout", what: `libvirt call ${pending.name.toLowerCase()}`, afterMs }));
    // A daemon that answers none of the calls we may make at once is of no use through this connection any more.
    if (this.inFlight.size === MAX_IN_FLIGHT && [...this.inFlight.values()].every((call) => call.abandoned)) {
      this.end(unavailable(this.options.socketPath, `${MAX_IN_FLIGHT} calls stayed without an answer`));
    }
  }

  private received(chunk: Uint8Array): void {
    this.silentIntervals = 0;
    try {
      for (const frame of this.reader.push(chunk)) this.dispatch(frame);
    } catch (error) {
      this.end(
        unavailable(
          this.options.socketPath,
          `bad message from the daemon: ${error instanceof Error ? error.message : String(error)}`,
          error,
        ),
      );
    }
  }

  private dispatch(frame: Frame): void {
    if (frame.program === constants.KEEPALIVE_PROGRAM) {
      if (frame.procedure === constants.KEEPALIVE_PROC_PING) this.sendKeepalive(constants.KEEPALIVE_PROC_PONG);
      return;
    }
    // Other programs (qemu, lxc) and streams are never asked for by this client.
    if (frame.program !== constants.REMOTE_PROGRAM) return;
    if (frame.type === constants.VIR_NET_REPLY) this.replied(frame);
    else if (frame.type === constants.VIR_NET_MESSAGE) this.notified(frame);
  }

  private replied(frame: Frame): void {
    const pending = this.inFlight.get(frame.serial);
    if (pending === undefined) return;
    this.inFlight.delete(frame.serial);
    clearTimeout(pending.timer);
    try {
      if (frame.status === constants.VIR_NET_OK) {
        const ret = calls[pending.name].ret;
        pending.resolve(ret === null ? null : decode(schema, ["struct", ret], frame.payload));
      } else {
        const error = decode(schema, ["struct", "NetMessageError"], frame.payload) as NetMessageError;
        pending.reject(libvirtError(pending.name, new LibvirtFailure(error.code, error.domain, error.message ?? "no message")));
      }
    } catch (error) {
      pending.reject(
        new RoostError({ kind: "internal", reason: `libvirt's answer to ${pending.name} cannot be read` }, undefined, { cause: error }),
      );
      throw error;
    }
    this.pump();
  }

  private notified(frame: Frame): void {
    const definition = events[frame.procedure];
    if (definition === undefined || this.options.onEvent === undefined) return;
    const message = decode(schema, ["struct", definition.message], frame.payload);
    this.options.onEvent({ name: definition.name, message } as LibvirtEvent);
  }

  private startKeepalive(): void {
    const { intervalMs, count } = this.options.keepalive;
    this.keepaliveTimer = setInterval(() => {
      // With all places taken the daemon stops reading from us, pings included; then the calls' own limits decide.
      if (this.inFlight.size >= MAX_IN_FLIGHT) this.silentIntervals = 0;
      if (this.silentIntervals >= count) {
        this.end(unavailable(this.options.socketPath, `the daemon was silent for ${intervalMs * count} ms`));
        return;
      }
      this.silentIntervals++;
      this.sendKeepalive(constants.KEEPALIVE_PROC_PING);
    }, intervalMs);
    this.keepaliveTimer.unref();
  }

  private sendKeepalive(procedure: number): void {
    this.socket.write(
      encodeFrame({
        program: constants.KEEPALIVE_PROGRAM,
        version: constants.KEEPALIVE_PROTOCOL_VERSION,
        procedure,
        type: constants.VIR_NET_MESSAGE,
        serial: 0,
        status: constants.VIR_NET_OK,
        payload: new Uint8Array(0),
      }),
    );
  }

  private end(reason: RoostError): void {
    if (this.ended !== null) return;
    this.ended = reason;
    if (this.keepaliveTimer !== null) clearInterval(this.keepaliveTimer);
    this.socket.destroy();
    const waiting = [...this.inFlight.values(), ...this.queued.splice(0)];
    this.inFlight.clear();
    for (const pending of waiting) {
      clearTimeout(pending.timer);
      pending.reject(reason);
    }
    if (this.ready) this.options.onClose?.(reason);
  }
}

function connectSocket(path: string, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new RoostError({ kind: "timeout", what: `connecting to libvirt at ${path}`, afterMs: timeoutMs }));
    }, timeoutMs);
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", (error) => {
      clearTimeout(timer);
      reject(unavailable(path, error.message, error));
    });
  });
}

function unavailable(socketPath: string, reason: string, cause?: unknown): RoostError {
  return new RoostError(
    { kind: "unavailable", reason: `libvirt at ${socketPath}: ${reason}` },
    "is libvirtd running on this node?",
    cause === undefined ? undefined : { cause },
  );
}
