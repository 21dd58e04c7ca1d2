/** A domain as one string, for maps and messages. */
import { RoostError } from "../base/errors.ts";
import type { DomainRef } from "./driver.ts";

export function refKey(ref: DomainRef): string {
  return `${ref.vmId}@${ref.generation}`;
}

export function noSuchDomain(ref: DomainRef): RoostError {
  return new RoostError({ kind: "not-found", what: "domain", name: refKey(ref) });
}
