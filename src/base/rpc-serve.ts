/** From a service as plain functions to methods of a gRPC server. */
import type grpc from "@grpc/grpc-js";
import type { RoostError } from "./errors.ts";
import type { CallInfo, Status } from "./grpc-call.ts";
import { GrpcServer } from "./grpc-server.ts";

export interface Adapter<C> {
  /** Throws RoostError to refuse the call. */
  contextOf: (info: CallInfo) => C;
  /** gRPC status and trailers of a fault. */
  statusOf: (error: RoostError, info: CallInfo) => { code: grpc.status; details: string; metadata: grpc.Metadata };
}

/** A server whose faults go out as the adapter says. */
export function createServer(
  adapter: Pick<Adapter<unknown>, "statusOf">,
  admit: (info: CallInfo) => Status | null = () => null,
): GrpcServer {
  return new GrpcServer({
    admit,
    statusOf: (error, info) => {
      const { code, details, metadata } = adapter.statusOf(error, info);
      return { code, details, trailers: metadata.toHttp2Headers() as Record<string, string[]> };
    },
  });
}

type UnaryFunction<C> = (request: unknown, context: C) => Promise<unknown>;
type StreamFunction<C> = (request: unknown, context: C) => AsyncIterable<unknown>;

/** Registers plain functions as a gRPC service. The caller's types come from ServiceMethods. */
export function serve<C>(server: GrpcServer, definition: grpc.ServiceDefinition, methods: object, adapter: Adapter<C>): void {
  for (const [name, method] of Object.entries(definition)) {
    const implementation = (methods as Record<string, unknown>)[name];
    if (typeof implementation !== "function") throw new Error(`no implementation of ${method.path}`);
    const codec = { decode: method.requestDeserialize, encode: method.responseSerialize };
    if (method.responseStream) {
      const run = implementation as StreamFunction<C>;
      server.add(method.path, { kind: "stream", ...codec, call: (request, info) => run(request, adapter.contextOf(info)) });
    } else {
      const run = implementation as UnaryFunction<C>;
      server.add(method.path, { kind: "unary", ...codec, call: (request, info) => run(request, adapter.contextOf(info)) });
    }
  }
}
