/** What gRPC's two sides share: the loaded descriptor, limits, credentials, and types of services derived from the protos. */
import grpc from "@grpc/grpc-js";
import { fromJSON } from "@grpc/proto-loader";
import type { MethodDefinition } from "@grpc/proto-loader";
import { descriptor, loaderOptions } from "../gen/descriptor.ts";
import type { ProtoGrpcType } from "../gen/types/grpc.ts";

/** All of proto/, for registering services and for reflection. */
export const packageDefinition = fromJSON(descriptor, loaderOptions);

export const services = (grpc.loadPackageDefinition(packageDefinition) as unknown as ProtoGrpcType).roost;

/** Largest request that is taken and largest answer that is read, bytes (SEC-4). A list of 10,000 VMs is paged far below. */
export const MAX_REQUEST_BYTES = 4 * 2 ** 20;
export const MAX_RESPONSE_BYTES = 64 * 2 ** 20;

/** Every node certificate carries this DNS name, so a client that pins the cluster's CA needs no names of hosts. */
export const SERVER_NAME = "roost";

/** PEM texts. `cert` is the chain sent to the other side: leaf first, then the CA. */
export interface TlsIdentity {
  ca: string;
  cert: string;
  key: string;
}

export type ServiceName =
  | "ClusterService"
  | "NodeService"
  | "VmService"
  | "PoolService"
  | "PolicyService"
  | "SchedulerService"
  | "TaskService"
  | "LimitService"
  | "DoctorService"
  | "HaService"
  | "AuditService"
  | "Bench";

type V1 = ProtoGrpcType["roost"]["v1"];
export type Definition<S extends ServiceName> = V1[S]["service"];
export type MethodName<S extends ServiceName> = Extract<keyof Definition<S>, string> & KnownKeys<Definition<S>>;

/** Drops the index signature that grpc.ServiceDefinition has by default. */
type KnownKeys<T> = keyof { [K in keyof T as string extends K ? never : K]: T[K] };

type Parts<D> =
  D extends MethodDefinition<infer Request, infer Response, infer RequestOut, infer ResponseOut>
    ? { request: Request; response: Response; requestOut: RequestOut; responseOut: ResponseOut }
    : never;

/** What a caller sends, what a service returns, what a service gets, what a caller gets. */
export type Request<S extends ServiceName, M extends MethodName<S>> = Parts<Definition<S>[M]>["request"];
export type Response<S extends ServiceName, M extends MethodName<S>> = Parts<Definition<S>[M]>["response"];
export type RequestOut<S extends ServiceName, M extends MethodName<S>> = Parts<Definition<S>[M]>["requestOut"];
export type ResponseOut<S extends ServiceName, M extends MethodName<S>> = Parts<Definition<S>[M]>["responseOut"];

/** By convention of the protos, exactly the methods that are called Watch… or Backup… stream their answers. */
export type StreamMethod<S extends ServiceName> = Extract<MethodName<S>, `Watch${string}` | `Backup${string}`>;
export type UnaryMethod<S extends ServiceName> = Exclude<MethodName<S>, StreamMethod<S>>;

/** A service as plain functions of (request, context), callable without any network. */
export type ServiceMethods<S extends ServiceName, C> = {
  [M in UnaryMethod<S>]: (request: RequestOut<S, M>, context: C) => Promise<Response<S, M>>;
} & {
  [M in StreamMethod<S>]: (request: RequestOut<S, M>, context: C) => AsyncIterable<Response<S, M>>;
};

/** A call that is idle this long is probed, and a peer that does not answer within the second is gone. */
export const KEEPALIVE = {
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.keepalive_permit_without_calls": 0,
} as const;

/** Splits `host:port`, `[v6]:port`; null if it is neither. */
export function parseAddress(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535) return null;
  return { host: match[1] ?? match[2] ?? "", port };
}
