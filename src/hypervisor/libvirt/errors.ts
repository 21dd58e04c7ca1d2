/** libvirt's typed errors as RoostErrors; the original stays as `cause`, so that code can ask for one libvirt code. */
import { RoostError } from "../../base/errors.ts";
import type { Fault } from "../../base/errors.ts";
import { constants } from "./protocol.gen.ts";

export class LibvirtFailure extends Error {
  /** virErrorNumber of virterror.h. */
  readonly code: number;
  /** virErrorDomain: which part of libvirt raised it. */
  readonly origin: number;

  constructor(code: number, origin: number, message: string) {
    super(message);
    this.name = "LibvirtFailure";
    this.code = code;
    this.origin = origin;
  }
}

/** True if `error` is what became of a libvirt error with this code. */
export function hasLibvirtCode(error: unknown, code: number): boolean {
  return error instanceof RoostError && error.cause instanceof LibvirtFailure && error.cause.code === code;
}

/** The RoostError for an error reply to `call`. */
export function libvirtError(call: string, failure: LibvirtFailure): RoostError {
  return new RoostError(fault(call, failure), undefined, { cause: failure });
}

function fault(call: string, { code, message }: LibvirtFailure): Fault {
  const reason = `libvirt refused ${call.toLowerCase()}: ${message}`;
  switch (code) {
    case constants.VIR_ERR_NO_DOMAIN:
      return { kind: "not-found", what: "domain", name: /'([^']+)'/.exec(message)?.[1] ?? message };
    case constants.VIR_ERR_DOM_EXIST:
    case constants.VIR_ERR_RESOURCE_BUSY:
      return { kind: "conflict", reason };
    case constants.VIR_ERR_OPERATION_INVALID:
      return { kind: "precondition", reason };
    case constants.VIR_ERR_NO_SUPPORT:
    case constants.VIR_ERR_CONFIG_UNSUPPORTED:
    case constants.VIR_ERR_ARGUMENT_UNSUPPORTED:
    case constants.VIR_ERR_OPERATION_UNSUPPORTED:
      return { kind: "unsupported", what: `${call.toLowerCase()} (${message})` };
    case constants.VIR_ERR_INVALID_ARG:
    case constants.VIR_ERR_XML_ERROR:
    case constants.VIR_ERR_XML_DETAIL:
    case constants.VIR_ERR_XML_INVALID_SCHEMA:
      return { kind: "invalid", violations: [{ field: "", message: reason }] };
    case constants.VIR_ERR_AUTH_FAILED:
    case constants.VIR_ERR_AUTH_CANCELLED:
    case constants.VIR_ERR_AUTH_UNAVAILABLE:
    case constants.VIR_ERR_OPERATION_DENIED:
    case constants.VIR_ERR_ACCESS_DENIED:
      return { kind: "denied", reason };
    case constants.VIR_ERR_OPERATION_TIMEOUT:
    case constants.VIR_ERR_NO_CONNECT:
    case constants.VIR_ERR_INVALID_CONN:
    case constants.VIR_ERR_SYSTEM_ERROR:
      return { kind: "unavailable", reason };
    default:
      return { kind: "internal", reason };
  }
}
