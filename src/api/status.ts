/** The one table from fault to gRPC status (house rule: errors are values). */
import grpc from "@grpc/grpc-js";
import { describe } from "../base/errors.ts";
import type { Fault, RoostError } from "../base/errors.ts";
import { faultTrailers } from "../base/fault-detail.ts";

export const STATUS: Record<Fault["kind"], grpc.status> = {
  invalid: grpc.status.INVALID_ARGUMENT,
  "not-found": grpc.status.NOT_FOUND,
  exists: grpc.status.ALREADY_EXISTS,
  precondition: grpc.status.FAILED_PRECONDITION,
  exhausted: grpc.status.RESOURCE_EXHAUSTED,
  unavailable: grpc.status.UNAVAILABLE,
  timeout: grpc.status.DEADLINE_EXCEEDED,
  conflict: grpc.status.ABORTED,
  denied: grpc.status.PERMISSION_DENIED,
  unsupported: grpc.status.UNIMPLEMENTED,
  damaged: grpc.status.DATA_LOSS,
  internal: grpc.status.INTERNAL,
};

/** gRPC sends the message as a header: 8 KiB of headers is a common limit, and the full text is in the trailers anyway. */
const MAX_DETAILS = 1_024;

export function statusOf(error: RoostError): { code: grpc.status; details: string; metadata: grpc.Metadata } {
  const code = STATUS[error.fault.kind];
  const details = describe(error.fault);
  return {
    code,
    details: details.length > MAX_DETAILS ? `${details.slice(0, MAX_DETAILS)}…` : details,
    metadata: faultTrailers(limited(error.fault), error.hint, code),
  };
}

/** Trailers have a size limit too: a file with thousands of faults shows the first of them. */
function limited(fault: Fault): Fault {
  const most = 40;
  if (fault.kind !== "invalid" || fault.violations.length <= most) return fault;
  const rest = fault.violations.length - most;
  return { kind: "invalid", violations: [...fault.violations.slice(0, most), { field: "", message: `and ${rest} more faults` }] };
}
