/** Faults as they travel: ErrorDetail and google.rpc.Status in trailers, and back into the same RoostError at the caller. */
import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import { descriptor } from "../gen/descriptor.ts";
import type { ErrorDetail, ErrorDetail__Output } from "../gen/types/roost/v1/ErrorDetail.ts";
import { describe, isRetryable, RoostError } from "./errors.ts";
import type { Fault } from "./errors.ts";

export const ERROR_TRAILER = "roost-error-bin";
/** What generic gRPC tools read: https://cloud.google.com/apis/design/errors */
export const STATUS_TRAILER = "grpc-status-details-bin";

const REASONS: Record<Fault["kind"], string> = {
  invalid: "INVALID",
  "not-found": "NOT_FOUND",
  exists: "EXISTS",
  precondition: "PRECONDITION",
  exhausted: "EXHAUSTED",
  unavailable: "UNAVAILABLE",
  timeout: "TIMEOUT",
  conflict: "CONFLICT",
  denied: "DENIED",
  unsupported: "UNSUPPORTED",
  expired: "EXPIRED",
  damaged: "DAMAGED",
  internal: "INTERNAL",
};

/** Only the three messages of google.rpc that are sent; field numbers are theirs. */
const GOOGLE_RPC = {
  nested: {
    Any: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
    Status: {
      fields: {
        code: { type: "int32", id: 1 },
        message: { type: "string", id: 2 },
        details: { rule: "repeated", type: "Any", id: 3 },
      },
    },
    FieldViolation: { fields: { field: { type: "string", id: 1 }, description: { type: "string", id: 2 } } },
    BadRequest: { fields: { fieldViolations: { rule: "repeated", type: "FieldViolation", id: 1 } } },
    ErrorInfo: { fields: { reason: { type: "string", id: 1 }, domain: { type: "string", id: 2 } } },
  },
};

const google = protobuf.Root.fromJSON(GOOGLE_RPC);
const detailType = protobuf.Root.fromJSON(descriptor).lookupType("roost.v1.ErrorDetail");

export function toDetail(fault: Fault, hint?: string): ErrorDetail {
  return {
    reason: REASONS[fault.kind],
    message: messageOf(fault),
    hint: hint ?? "",
    violations: fault.kind === "invalid" ? fault.violations : [],
    retryable: isRetryable(fault),
    legalActions: fault.kind === "precondition" ? (fault.legal ?? []) : [],
    what: "what" in fault ? fault.what : "",
    name: "name" in fault ? fault.name : "",
    afterMs: fault.kind === "timeout" ? fault.afterMs : 0,
    setting: fault.kind === "timeout" ? (fault.setting ?? "") : "",
  };
}

function messageOf(fault: Fault): string {
  if (fault.kind === "precondition") return fault.reason;
  // The faults themselves are in `violations`; trailers are too small to say them twice.
  return fault.kind === "invalid" && fault.violations.length > 1 ? `${fault.violations.length} faults` : describe(fault);
}

function fromDetail(detail: ErrorDetail__Output): RoostError {
  return new RoostError(faultOf(detail), detail.hint === "" ? undefined : detail.hint);
}

function faultOf(detail: ErrorDetail__Output): Fault {
  const reason = detail.message;
  switch (detail.reason) {
    case "INVALID":
      return { kind: "invalid", violations: detail.violations.map(({ field, message }) => ({ field, message })) };
    case "NOT_FOUND":
      return { kind: "not-found", what: detail.what, name: detail.name };
    case "EXISTS":
      return { kind: "exists", what: detail.what, name: detail.name };
    case "PRECONDITION":
      return { kind: "precondition", reason, ...(detail.legalActions.length > 0 ? { legal: detail.legalActions } : {}) };
    case "TIMEOUT":
      return { kind: "timeout", what: detail.what, afterMs: detail.afterMs, ...(detail.setting === "" ? {} : { setting: detail.setting }) };
    case "UNSUPPORTED":
      return { kind: "unsupported", what: detail.what };
    case "EXPIRED":
      return { kind: "expired", what: detail.what };
    case "DAMAGED":
      return { kind: "damaged", what: detail.what };
    case "EXHAUSTED":
      return { kind: "exhausted", reason };
    case "UNAVAILABLE":
      return { kind: "unavailable", reason };
    case "CONFLICT":
      return { kind: "conflict", reason };
    case "DENIED":
      return { kind: "denied", reason };
    default:
      return { kind: "internal", reason };
  }
}

/** Trailers that carry the fault in roost's own form and in google.rpc's. `code` is the gRPC status chosen for it. */
export function faultTrailers(fault: Fault, hint: string | undefined, code: number): grpc.Metadata {
  const detail = toDetail(fault, hint);
  const bytes = detailType.encode(detailType.fromObject(detail)).finish();
  const trailers = new grpc.Metadata();
  trailers.set(ERROR_TRAILER, Buffer.from(bytes));
  const pack = (name: string, value: object): { typeUrl: string; value: Uint8Array } => {
    const type = google.lookupType(name);
    return { typeUrl: `type.googleapis.com/google.rpc.${name}`, value: type.encode(type.fromObject(value)).finish() };
  };
  const details = [pack("ErrorInfo", { reason: detail.reason, domain: "roost" })];
  if (fault.kind === "invalid") {
    details.push(pack("BadRequest", { fieldViolations: fault.violations.map(({ field, message }) => ({ field, description: message })) }));
  }
  const status = google.lookupType("Status");
  const packed = status.encode(status.fromObject({ code, message: describe(fault).slice(0, 1_024), details })).finish();
  trailers.set(STATUS_TRAILER, Buffer.from(packed));
  return trailers;
}

/** The server's own fault if it sent one, else the nearest to the gRPC status. */
export function faultFromService(error: grpc.ServiceError, context: { endpoint: string; timeoutMs: number }): RoostError {
  const raw = error.metadata?.get(ERROR_TRAILER)[0];
  if (raw instanceof Buffer) {
    const detail = detailType.toObject(detailType.decode(raw), { defaults: true, longs: Number }) as ErrorDetail__Output;
    return fromDetail(detail);
  }
  const options = { cause: error };
  switch (error.code) {
    case grpc.status.DEADLINE_EXCEEDED:
      return new RoostError({ kind: "timeout", what: `the call to ${context.endpoint}`, afterMs: context.timeoutMs }, undefined, options);
    case grpc.status.UNAVAILABLE:
      return new RoostError({ kind: "unavailable", reason: `${context.endpoint}: ${error.details}` }, undefined, options);
    case grpc.status.UNAUTHENTICATED:
    case grpc.status.PERMISSION_DENIED:
      return new RoostError({ kind: "denied", reason: error.details }, undefined, options);
    case grpc.status.UNIMPLEMENTED:
      return new RoostError({ kind: "unsupported", what: error.details }, "the node may run an older version of roost", options);
    case grpc.status.RESOURCE_EXHAUSTED:
      return new RoostError({ kind: "exhausted", reason: error.details }, undefined, options);
    default:
      return new RoostError({ kind: "internal", reason: `${context.endpoint}: ${error.details}` }, undefined, options);
  }
}
