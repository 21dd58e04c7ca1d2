/** The calling side: several endpoints, a deadline on every call, faults turned back into RoostErrors. */
import grpc from "@grpc/grpc-js";
import { RoostError } from "./errors.ts";
import { faultFromService } from "./fault-detail.ts";
import { KEEPALIVE, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, SERVER_NAME, services } from "./rpc.ts";
import type { MethodName, Request, ResponseOut, ServiceName, StreamMethod, UnaryMethod } from "./rpc.ts";

export interface ClientOptions {
  /** `host:port`, or a path that begins with `/` or `.` for a unix socket; tried in order. */
  endpoints: string[];
  /** Of the cluster's CA, and of the caller if it has one. Not needed for unix sockets. */
  tls?: { ca: string; cert?: string; key?: string } | undefined;
  /** Name that the server's certificate must carry: any node by default, or one node's id. */
  serverName?: string;
  /** Time to get a connection to one endpoint before the next is tried, ms. */
  connectMs?: number;
}

export interface CallLimits {
  /** Deadline of the whole call, over all endpoints, ms. */
  timeoutMs: number;
  signal?: AbortSignal;
}

export interface RpcClient {
  /** Tries the endpoints in order until one does not answer UNAVAILABLE, beginning with the last that worked. */
  call<S extends ServiceName, M extends UnaryMethod<S>>(
    service: S,
    method: M,
    request: Request<S, M>,
    limits: CallLimits,
  ): Promise<ResponseOut<S, M>>;
  /** A stream from one endpoint. It ends when the server ends it, the signal is given, or the loop is left. */
  watch<S extends ServiceName, M extends StreamMethod<S>>(
    service: S,
    method: M,
    request: Request<S, M>,
    limits: { signal?: AbortSignal; timeoutMs?: number },
  ): AsyncIterable<ResponseOut<S, M>>;
  close(): void;
}

const CONNECT_MS = 3_000;

export function isSocketPath(endpoint: string): boolean {
  return endpoint.startsWith("/") || endpoint.startsWith(".");
}

function open(endpoint: string, options: ClientOptions): grpc.Client {
  const channelOptions: grpc.ChannelOptions = {
    ...KEEPALIVE,
    "grpc.max_receive_message_length": MAX_RESPONSE_BYTES,
    "grpc.max_send_message_length": MAX_REQUEST_BYTES,
    // A proxy of the environment must not see the way to the cluster.
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.use_local_subchannel_pool": 1,
  };
  if (isSocketPath(endpoint)) return new grpc.Client(`unix:${endpoint}`, grpc.credentials.createInsecure(), channelOptions);
  if (options.tls === undefined) throw new RoostError({ kind: "denied", reason: `${endpoint} needs the cluster's CA certificate` });
  const { ca, cert, key } = options.tls;
  const credentials = grpc.credentials.createSsl(
    Buffer.from(ca),
    key === undefined ? null : Buffer.from(key),
    cert === undefined ? null : Buffer.from(cert),
  );
  return new grpc.Client(endpoint, credentials, { ...channelOptions, "grpc.ssl_target_name_override": options.serverName ?? SERVER_NAME });
}

export function createClient(options: ClientOptions): RpcClient {
  if (options.endpoints.length === 0) throw new RoostError({ kind: "unavailable", reason: "no endpoint to call" });
  const clients = new Map<string, grpc.Client>();
  let first = 0;
  const clientOf = (endpoint: string): grpc.Client => {
    let client = clients.get(endpoint);
    if (client === undefined) clients.set(endpoint, (client = open(endpoint, options)));
    return client;
  };
  const order = (): string[] => [...options.endpoints.slice(first), ...options.endpoints.slice(0, first)];

  /** The first endpoint that can be connected to and `attempt` does not find unavailable. */
  const tryEach = async <T>(deadlineMs: number, attempt: (client: grpc.Client, endpoint: string) => Promise<T>): Promise<T> => {
    const failures: string[] = [];
    let last: RoostError | null = null;
    for (const endpoint of order()) {
      const client = clientOf(endpoint);
      const connectUntil = Math.min(deadlineMs, Date.now() + (options.connectMs ?? CONNECT_MS));
      try {
        await ready(client, endpoint, connectUntil);
        const answer = await attempt(client, endpoint);
        first = options.endpoints.indexOf(endpoint);
        return answer;
      } catch (error) {
        if (!(error instanceof RoostError) || error.fault.kind !== "unavailable") throw error;
        last = error;
        failures.push(error.fault.reason);
        if (Date.now() >= deadlineMs) break;
      }
    }
    if (failures.length === 1 && last !== null) throw last;
    throw new RoostError({ kind: "unavailable", reason: failures.join("; ") }, last?.hint);
  };

  return {
    call(service, method, request, limits) {
      const deadlineMs = Date.now() + limits.timeoutMs;
      return tryEach(deadlineMs, (client, endpoint) => unary(client, endpoint, service, method, request, { ...limits, deadlineMs }));
    },
    async *watch(service, method, request, limits) {
      const deadlineMs = limits.timeoutMs === undefined ? Infinity : Date.now() + limits.timeoutMs;
      const stream = await tryEach(Math.min(deadlineMs, Date.now() + 60_000), async (client, endpoint) => ({ client, endpoint }));
      yield* serverStream(stream.client, stream.endpoint, service, method, request, { signal: limits.signal, deadlineMs });
    },
    close() {
      for (const client of clients.values()) client.close();
      clients.clear();
    },
  };
}

function ready(client: grpc.Client, endpoint: string, untilMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const channel = client.getChannel();
    const fail = (reason: string): void =>
      reject(
        new RoostError(
          { kind: "unavailable", reason: `${endpoint}: ${reason}` },
          isSocketPath(endpoint) ? "is the roost daemon of this machine running (roost up)? is ROOST_SOCKET right?" : undefined,
        ),
      );
    // A refused connection is known at once; waiting for the deadline would only make every fall-back slow.
    const step = (): void => {
      const state = channel.getConnectivityState(true);
      if (state === grpc.connectivityState.READY) return resolve();
      if (state === grpc.connectivityState.TRANSIENT_FAILURE) return fail("cannot connect");
      if (state === grpc.connectivityState.SHUTDOWN) return fail("the client is closed");
      channel.watchConnectivityState(state, untilMs, (error?: Error) => (error === undefined ? step() : fail("no connection in time")));
    };
    step();
  });
}

interface Encoded {
  path: string;
  requestSerialize: (value: object) => Buffer;
  responseDeserialize: (bytes: Buffer) => object;
}

/** The one place that leaves the types: grpc-js wants codecs, the mapped types above have checked the pairing. */
function methodOf<S extends ServiceName>(service: S, method: MethodName<S>): Encoded {
  const definition = services.v1[service].service as unknown as Record<string, Encoded>;
  const found = definition[method];
  if (found === undefined) throw new RoostError({ kind: "internal", reason: `${service} has no method ${method}` });
  return found;
}

function unary<S extends ServiceName, M extends UnaryMethod<S>>(
  client: grpc.Client,
  endpoint: string,
  service: S,
  method: M,
  request: Request<S, M>,
  limits: CallLimits & { deadlineMs: number },
): Promise<ResponseOut<S, M>> {
  const { path, requestSerialize, responseDeserialize } = methodOf(service, method);
  return new Promise((resolve, reject) => {
    const call = client.makeUnaryRequest<object, object>(
      path,
      requestSerialize,
      responseDeserialize,
      request as object,
      new grpc.Metadata(),
      { deadline: limits.deadlineMs },
      (error, answer) => {
        limits.signal?.removeEventListener("abort", cancel);
        if (error !== null) reject(faultFromService(error, { endpoint, timeoutMs: limits.timeoutMs }));
        else resolve(answer as ResponseOut<S, M>);
      },
    );
    const cancel = (): void => call.cancel();
    limits.signal?.addEventListener("abort", cancel, { once: true });
    if (limits.signal?.aborted === true) cancel();
  });
}

async function* serverStream<S extends ServiceName, M extends StreamMethod<S>>(
  client: grpc.Client,
  endpoint: string,
  service: S,
  method: M,
  request: Request<S, M>,
  limits: { signal: AbortSignal | undefined; deadlineMs: number },
): AsyncIterable<ResponseOut<S, M>> {
  const { path, requestSerialize, responseDeserialize } = methodOf(service, method);
  const startedMs = Date.now();
  const call = client.makeServerStreamRequest<object, object>(
    path,
    requestSerialize,
    responseDeserialize,
    request as object,
    new grpc.Metadata(),
    {
      deadline: limits.deadlineMs,
    },
  );
  const cancel = (): void => call.cancel();
  limits.signal?.addEventListener("abort", cancel, { once: true });
  if (limits.signal?.aborted === true) cancel();
  try {
    for await (const message of call) yield message as ResponseOut<S, M>;
  } catch (error) {
    const failed = error as grpc.ServiceError;
    if (failed.code === grpc.status.CANCELLED && limits.signal?.aborted === true) return;
    throw faultFromService(failed, { endpoint, timeoutMs: Date.now() - startedMs });
  } finally {
    limits.signal?.removeEventListener("abort", cancel);
    call.cancel();
  }
}
