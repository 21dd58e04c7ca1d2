/** The serving side: one gRPC server on a unix socket, one on a TLS port, and the adapter from plain functions to handlers. */
import { mkdtemp, chmod, rename, rm, rmdir } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { dirname, join } from "node:path";
import grpc from "@grpc/grpc-js";
import { asRoostError, RoostError } from "./errors.ts";
import { KEEPALIVE, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES } from "./rpc.ts";
import type { TlsIdentity } from "./rpc.ts";

const SERVER_OPTIONS: grpc.ServerOptions = {
  ...KEEPALIVE,
  "grpc.max_receive_message_length": MAX_REQUEST_BYTES,
  "grpc.max_send_message_length": MAX_RESPONSE_BYTES,
  "grpc.max_concurrent_streams": 256,
};

export function createServerCore(options: grpc.ServerOptions = {}): grpc.Server {
  return new grpc.Server({ ...SERVER_OPTIONS, ...options });
}

/**
 * Asks each client for a certificate but lets the connection live without one: `Join` is called before there is any.
 * Who is on the line is then decided per call (peerCertificate below). Certificates can be replaced while serving.
 */
export class NodeCredentials extends grpc.ServerCredentials {
  constructor(identity: TlsIdentity) {
    super({ requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.2" }, contextOf(identity));
  }

  /** New connections get the new certificate; open ones go on. */
  update(identity: TlsIdentity): void {
    this.updateSecureContextOptions(contextOf(identity));
  }

  override _equals(other: grpc.ServerCredentials): boolean {
    return this === other;
  }
}

function contextOf(identity: TlsIdentity): { ca: Buffer[]; cert: Buffer[]; key: Buffer[] } {
  return { ca: [Buffer.from(identity.ca)], cert: [Buffer.from(identity.cert)], key: [Buffer.from(identity.key)] };
}

/** Requires a certificate of the given CA at the TLS level: for ports where nobody may call without one. */
export class StrictCredentials extends grpc.ServerCredentials {
  constructor(identity: TlsIdentity) {
    super({ requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2" }, contextOf(identity));
  }

  update(identity: TlsIdentity): void {
    this.updateSecureContextOptions(contextOf(identity));
  }

  override _equals(other: grpc.ServerCredentials): boolean {
    return this === other;
  }
}

/**
 * Common name of the caller's certificate, or null without a certificate that OpenSSL verified against the cluster's CA.
 * getAuthContext answers nothing unless the socket is `authorized`; and `authorized` alone is not enough, because a
 * resumed TLS 1.3 session counts as authorized even if it never showed a certificate, so one must be there as well.
 */
export function peerCertificate(call: {
  getAuthContext(): { transportSecurityType?: string; sslPeerCertificate?: unknown };
}): string | null {
  const context = call.getAuthContext();
  const certificate = context.sslPeerCertificate as { subject?: { CN?: string | string[] }; raw?: Buffer } | undefined;
  if (context.transportSecurityType !== "ssl" || certificate?.raw === undefined) return null;
  const name = certificate.subject?.CN;
  return typeof name === "string" && name !== "" ? name : null;
}

/** Binds the TLS port; answers the port, which matters for port 0. */
export function listenTls(server: grpc.Server, address: string, credentials: grpc.ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) return resolve(port);
      reject(
        new RoostError(
          { kind: "precondition", reason: `cannot listen on ${address}: ${error.message}` },
          "choose another address with --listen",
        ),
      );
    });
  });
}

/**
 * Serves without TLS on a unix socket that only its owner can open. The socket is made in a private folder and moved to
 * its place with mode 0600, so that there is no moment at which others could connect. Returns the way to stop listening.
 */
export async function listenUnix(server: grpc.Server, path: string): Promise<() => Promise<void>> {
  if (await answers(path)) {
    throw new RoostError(
      { kind: "precondition", reason: `another roost daemon serves ${path}` },
      "stop it first (roost down), or use another --data folder",
    );
  }
  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const listener = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    injector.injectConnection(socket);
  });
  const folder = await mkdtemp(join(dirname(path), ".socket-"));
  const born = join(folder, "s");
  await new Promise<void>((resolve, reject) => {
    listener.once("error", (error) =>
      reject(
        new RoostError(
          { kind: "precondition", reason: `cannot listen on ${path}: ${error.message}` },
          "a socket's path may have at most 107 bytes",
        ),
      ),
    );
    listener.listen(born, resolve);
  });
  await chmod(born, 0o600);
  await rename(born, path);
  await rmdir(folder);
  return async () => {
    injector.destroy();
    await new Promise<void>((resolve) => void listener.close(() => resolve()));
    await rm(path, { force: true });
  };
}

/** True if somebody accepts connections there; a socket left behind by a dead process refuses them. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1_000, () => done(true));
    socket.once("connect", () => done(true));
    socket.once("error", () => done(false));
  });
}

/** Lets calls under way finish for a while, then ends them. */
export async function stopServer(server: grpc.Server, drainMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const force = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, drainMs);
    server.tryShutdown(() => {
      clearTimeout(force);
      resolve();
    });
  });
}

/** What every handler has: who calls, until when, and whether the caller is gone. */
export interface CallInfo {
  /** `/roost.v1.VmService/ListVms` */
  path: string;
  /** Common name of the verified client certificate; null without one. */
  certificateName: string | null;
  /** Wall clock at which the caller gives up, ms; Infinity if it set no deadline. */
  deadlineMs: number;
  signal: AbortSignal;
}

export interface Adapter<C> {
  /** Throws RoostError to refuse the call. */
  contextOf: (info: CallInfo) => C;
  /** gRPC status and trailers of a fault. */
  statusOf: (error: RoostError, info: CallInfo) => { code: grpc.status; details: string; metadata: grpc.Metadata };
}

type UnaryFunction<C> = (request: unknown, context: C) => Promise<unknown>;
type StreamFunction<C> = (request: unknown, context: C) => AsyncIterable<unknown>;

/** Registers plain functions as a gRPC service. The caller's types come from ServiceMethods. */
export function serve<C>(server: grpc.Server, definition: grpc.ServiceDefinition, methods: object, adapter: Adapter<C>): void {
  const handlers: grpc.UntypedServiceImplementation = {};
  for (const [name, method] of Object.entries(definition)) {
    const implementation = (methods as Record<string, unknown>)[name];
    if (typeof implementation !== "function") throw new Error(`no implementation of ${method.path}`);
    handlers[name] = method.responseStream
      ? streamHandler(method.path, implementation as StreamFunction<C>, adapter)
      : unaryHandler(method.path, implementation as UnaryFunction<C>, adapter);
  }
  server.addService(definition, handlers);
}

type AnyCall = grpc.ServerUnaryCall<unknown, unknown> | grpc.ServerWritableStream<unknown, unknown>;

function infoOf(path: string, call: AnyCall): CallInfo {
  const abort = new AbortController();
  call.on("cancelled", () => abort.abort());
  const deadline = call.getDeadline();
  return {
    path,
    certificateName: peerCertificate(call),
    deadlineMs: deadline instanceof Date ? deadline.getTime() : deadline,
    signal: abort.signal,
  };
}

function unaryHandler<C>(path: string, method: UnaryFunction<C>, adapter: Adapter<C>): grpc.handleUnaryCall<unknown, unknown> {
  return (call, callback) => {
    const info = infoOf(path, call);
    const run = async (): Promise<unknown> => method(call.request, adapter.contextOf(info));
    run().then(
      (answer) => callback(null, answer),
      (error: unknown) => callback(adapter.statusOf(asRoostError(error), info)),
    );
  };
}

function streamHandler<C>(path: string, method: StreamFunction<C>, adapter: Adapter<C>): grpc.handleServerStreamingCall<unknown, unknown> {
  return (call) => {
    const info = infoOf(path, call);
    const run = async (): Promise<void> => {
      for await (const message of method(call.request, adapter.contextOf(info))) {
        if (info.signal.aborted) return;
        if (!call.write(message)) await drained(call, info.signal);
      }
    };
    run().then(
      () => call.end(),
      (error: unknown) => call.emit("error", adapter.statusOf(asRoostError(error), info)),
    );
  };
}

/** Waits until the caller has read, or is gone. */
function drained(call: grpc.ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      call.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    call.once("drain", done);
    signal.addEventListener("abort", done, { once: true });
    if (signal.aborted) done();
  });
}
