/**
 * One error class with a discriminated fault. Every fault maps to one gRPC status (src/api/status.ts) and is
 * retryable or not by its kind alone, so callers never parse texts.
 */
export type Fault =
  | { kind: "invalid"; violations: Violation[] }
  | { kind: "not-found"; what: string; name: string }
  | { kind: "exists"; what: string; name: string }
  | { kind: "precondition"; reason: string; legal?: string[] }
  | { kind: "exhausted"; reason: string }
  | { kind: "unavailable"; reason: string }
  | { kind: "timeout"; what: string; afterMs: number; setting?: string }
  | { kind: "conflict"; reason: string }
  | { kind: "denied"; reason: string }
  | { kind: "unsupported"; what: string }
  /** Never executed again: what it was is forgotten. */
  | { kind: "expired"; what: string }
  | { kind: "damaged"; what: string }
  | { kind: "internal"; reason: string };

/** One wrong field of a user's input: where it is, what is wrong and what was expected. */
export interface Violation {
  /** Path in the input, `disks[0].size`. */
  field: string;
  message: string;
}

export class RoostError extends Error {
  readonly fault: Fault;
  /** What the reader can do about it; printed on its own line by the CLI. */
  readonly hint: string | undefined;

  constructor(fault: Fault, hint?: string, options?: ErrorOptions) {
    super(describe(fault), options);
    this.name = "RoostError";
    this.fault = fault;
    this.hint = hint;
  }
}

/** True if the same call may succeed later without being changed. */
export function isRetryable(fault: Fault): boolean {
  return fault.kind === "unavailable" || fault.kind === "timeout" || fault.kind === "conflict";
}

/** One line for people. */
export function describe(fault: Fault): string {
  switch (fault.kind) {
    case "invalid":
      return fault.violations.map((v) => (v.field === "" ? v.message : `${v.field}: ${v.message}`)).join("; ");
    case "not-found":
      return `no ${fault.what} is named ${JSON.stringify(fault.name)}`;
    case "exists":
      return `a ${fault.what} named ${JSON.stringify(fault.name)} exists already`;
    case "precondition":
      return fault.legal === undefined ? fault.reason : `${fault.reason}; legal now: ${fault.legal.join(", ") || "nothing"}`;
    case "timeout":
      return `${fault.what} took longer than ${fault.afterMs} ms${fault.setting === undefined ? "" : ` (setting ${fault.setting})`}`;
    case "unsupported":
      return `${fault.what} is not supported`;
    case "expired":
      return `${fault.what} has expired`;
    case "damaged":
      return `${fault.what} is damaged`;
    case "exhausted":
    case "unavailable":
    case "conflict":
    case "denied":
    case "internal":
      return fault.reason;
  }
}

/** The error for one wrong field. */
export function invalid(field: string, message: string, hint?: string): RoostError {
  return new RoostError({ kind: "invalid", violations: [{ field, message }] }, hint);
}

/** Anything thrown, as a RoostError; unknown things become `internal` with the original as cause. */
export function asRoostError(thrown: unknown): RoostError {
  if (thrown instanceof RoostError) return thrown;
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return new RoostError({ kind: "internal", reason }, undefined, { cause: thrown });
}
