/** Exit codes, documented in docs/cli-json.md, and how errors are told. */
import { asRoostError, describe } from "../base/errors.ts";
import type { Fault, RoostError } from "../base/errors.ts";
import { paint } from "./io.ts";
import type { Io } from "./io.ts";

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  precondition: 4,
  unavailable: 5,
  timeout: 6,
  denied: 7,
  /** --wait: the object came to rest elsewhere than at its goal. */
  goal: 8,
  interrupted: 130,
} as const;

const CODE: Record<Fault["kind"], number> = {
  invalid: EXIT.usage,
  "not-found": EXIT.notFound,
  exists: EXIT.precondition,
  precondition: EXIT.precondition,
  conflict: EXIT.precondition,
  exhausted: EXIT.precondition,
  unavailable: EXIT.unavailable,
  timeout: EXIT.timeout,
  denied: EXIT.denied,
  unsupported: EXIT.failed,
  expired: EXIT.precondition,
  damaged: EXIT.failed,
  internal: EXIT.failed,
};

/** Thrown to end with a code after everything has been said. */
export class Exit extends Error {
  readonly code: number;

  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

export function exitCodeOf(error: RoostError): number {
  return CODE[error.fault.kind];
}

/** What happened, where, and what to do; `subject` is the item of a batch it is about. */
export function printError(io: Io, thrown: unknown, subject?: string): number {
  const error = asRoostError(thrown);
  const head = paint(io, "red", "error:", "err");
  const who = subject === undefined ? "" : ` ${subject}:`;
  const { fault } = error;
  if (fault.kind === "invalid" && fault.violations.length > 1) {
    io.err(`${head}${who} ${fault.violations.length} faults\n`);
    for (const { field, message } of fault.violations) io.err(`  ${field === "" ? message : `${field}: ${message}`}\n`);
  } else {
    io.err(`${head}${who} ${describe(fault)}\n`);
  }
  if (error.hint !== undefined) io.err(`${paint(io, "cyan", "hint:", "err")} ${error.hint}\n`);
  return exitCodeOf(error);
}
