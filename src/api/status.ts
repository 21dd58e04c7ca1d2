/** The one table from fault to gRPC status (house rule: errors are values). */
import grpc from "@grpc/grpc-js";
import { describe } from "../base/errors.ts";
import type { Fault, RoostError, Violation } from "../base/errors.ts";
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
  expired: grpc.status.FAILED_PRECONDITION,
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

/** gRPC's C core refuses more than 16 KiB of trailers; base64 and the second form nearly triple the text. */
const MAX_TEXT = 4_000;
const MAX_MESSAGE = 500;

/** A file with thousands of faults shows the first of them, and says how many there are more. */
function limited(fault: Fault): Fault {
  if (fault.kind !== "invalid") return fault;
  const shown: Violation[] = [];
  let size = 0;
  for (const { field, message } of fault.violations) {
    const short = { field: field.slice(0, 200), message: message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message };
    size += Buffer.byteLength(short.field) + Buffer.byteLength(short.message);
    if (size > MAX_TEXT) break;
    shown.push(short);
  }
  const rest = fault.violations.length - shown.length;
  if (rest > 0) shown.push({ field: "", message: `and ${rest} more faults` });
  return { kind: "invalid", violations: shown };
}
