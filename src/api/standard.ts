/**
 * The services every gRPC tool expects: health and reflection. Their interfaces are spelled out here because the usual
 * packages read .proto files from disk at run time, and a single binary has none.
 */
import type grpc from "@grpc/grpc-js";
import { fromJSON } from "@grpc/proto-loader";
import { ReflectionV1Implementation } from "@grpc/reflection/build/src/implementations/reflection-v1.js";
import { RoostError } from "../base/errors.ts";
import { packageDefinition } from "../base/rpc.ts";
import { serve } from "../base/rpc-serve.ts";
import type { Adapter } from "../base/rpc-serve.ts";
import type { GrpcServer } from "../base/grpc-server.ts";

const text = (id: number): object => ({ type: "string", id });

/** https://github.com/grpc/grpc/blob/master/doc/health-checking.md */
const HEALTH = {
  HealthCheckRequest: { fields: { service: text(1) } },
  HealthCheckResponse: {
    fields: { status: { type: "ServingStatus", id: 1 } },
    nested: { ServingStatus: { values: { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } } },
  },
  Health: {
    methods: {
      Check: { requestType: "HealthCheckRequest", responseType: "HealthCheckResponse" },
      Watch: { requestType: "HealthCheckRequest", responseType: "HealthCheckResponse", responseStream: true },
    },
  },
};

/** https://github.com/grpc/grpc/blob/master/doc/server-reflection.md */
const REFLECTION = {
  ServerReflection: {
    methods: {
      ServerReflectionInfo: {
        requestType: "ServerReflectionRequest",
        requestStream: true,
        responseType: "ServerReflectionResponse",
        responseStream: true,
      },
    },
  },
  ServerReflectionRequest: {
    oneofs: {
      messageRequest: {
        oneof: ["fileByFilename", "fileContainingSymbol", "fileContainingExtension", "allExtensionNumbersOfType", "listServices"],
      },
    },
    fields: {
      host: text(1),
      fileByFilename: text(3),
      fileContainingSymbol: text(4),
      fileContainingExtension: { type: "ExtensionRequest", id: 5 },
      allExtensionNumbersOfType: text(6),
      listServices: text(7),
    },
  },
  ExtensionRequest: { fields: { containingType: text(1), extensionNumber: { type: "int32", id: 2 } } },
  ServerReflectionResponse: {
    oneofs: {
      messageResponse: { oneof: ["fileDescriptorResponse", "allExtensionNumbersResponse", "listServicesResponse", "errorResponse"] },
    },
    fields: {
      validHost: text(1),
      originalRequest: { type: "ServerReflectionRequest", id: 2 },
      fileDescriptorResponse: { type: "FileDescriptorResponse", id: 4 },
      allExtensionNumbersResponse: { type: "ExtensionNumberResponse", id: 5 },
      listServicesResponse: { type: "ListServiceResponse", id: 6 },
      errorResponse: { type: "ErrorResponse", id: 7 },
    },
  },
  FileDescriptorResponse: { fields: { fileDescriptorProto: { rule: "repeated", type: "bytes", id: 1 } } },
  ExtensionNumberResponse: { fields: { baseTypeName: text(1), extensionNumber: { rule: "repeated", type: "int32", id: 2 } } },
  ListServiceResponse: { fields: { service: { rule: "repeated", type: "ServiceResponse", id: 1 } } },
  ServiceResponse: { fields: { name: text(1) } },
  ErrorResponse: { fields: { errorCode: { type: "int32", id: 1 }, errorMessage: text(2) } },
};

type Json = Parameters<typeof fromJSON>[0];

function load(packageName: string, nested: object): ReturnType<typeof fromJSON> {
  const root = packageName.split(".").reduceRight<object>((inner, name) => ({ [name]: { nested: inner } }), nested);
  // protobufjs's types ask for comments and options that its own JSON leaves out.
  return fromJSON({ nested: root } as unknown as Json, { keepCase: false, longs: Number, enums: String, defaults: true, oneofs: true });
}

const healthPackage = load("grpc.health.v1", HEALTH);

export const healthDefinition = healthPackage["grpc.health.v1.Health"] as unknown as grpc.ServiceDefinition;

export type ServingStatus = "SERVING" | "NOT_SERVING";

/** Health of this node by service name; "" is the whole server. Watchers hear each change. */
export class Health {
  private readonly statuses = new Map<string, ServingStatus>();
  private readonly listeners = new Set<() => void>();

  set(service: string, status: ServingStatus): void {
    this.statuses.set(service, status);
    for (const listener of this.listeners) listener();
  }

  get(service: string): ServingStatus | null {
    return this.statuses.get(service) ?? null;
  }

  /** The status now, then each other one, until the signal. */
  async *watch(service: string, signal: AbortSignal): AsyncGenerator<ServingStatus | "SERVICE_UNKNOWN"> {
    let wake: (() => void) | null = null;
    const ring = (): void => wake?.();
    this.listeners.add(ring);
    signal.addEventListener("abort", ring, { once: true });
    try {
      let told: string | null = null;
      while (!signal.aborted) {
        const now = this.get(service) ?? "SERVICE_UNKNOWN";
        if (now !== told) yield (told = now);
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      this.listeners.delete(ring);
    }
  }
}

export function serveHealth(server: GrpcServer, health: Health, adapter: Adapter<{ signal: AbortSignal }>): void {
  const methods = {
    Check: async (request: { service: string }): Promise<{ status: string }> => {
      const status = health.get(request.service);
      if (status === null) throw new RoostError({ kind: "not-found", what: "service", name: request.service });
      return { status };
    },
    Watch: async function* (request: { service: string }, context: { signal: AbortSignal }): AsyncGenerator<{ status: string }> {
      for await (const status of health.watch(request.service, context.signal)) yield { status };
    },
  };
  serve(server, healthDefinition, methods, adapter);
}

type ReflectionRequest = Parameters<ReflectionV1Implementation["handleServerReflectionRequest"]>[0];

/** Reflection of the public API only: what agents say to each other is nobody's interface. Both versions that tools use. */
export function serveReflection(server: GrpcServer): void {
  const all = Object.entries({ ...packageDefinition, ...healthPackage });
  const shown = Object.fromEntries(all.filter(([name]) => !name.startsWith("roost.internal.")));
  const reflection = new ReflectionV1Implementation(shown, {
    services: all.filter(([name]) => /^(?:roost\.v1\.(?:\w+Service|Bench)|grpc\.health\.v1\.Health)$/.test(name)).map(([name]) => name),
  });
  for (const version of ["v1", "v1alpha"]) {
    const definition = load(`grpc.reflection.${version}`, REFLECTION)[`grpc.reflection.${version}.ServerReflection`];
    for (const method of Object.values(definition as unknown as grpc.ServiceDefinition)) {
      server.add(method.path, {
        kind: "conversation",
        decode: method.requestDeserialize,
        encode: method.responseSerialize,
        answer: (request) => reflection.handleServerReflectionRequest(request as ReflectionRequest),
      });
    }
  }
}
