/**
 * How a claim comes and goes in the replicated state (HA-4): given to a VM that has none, ended by a proof about its holder. The types do
 * not let one be given without the other; test/tidy.test.ts sees that nothing else under src/state takes one away. (A live migration
 * hands it over by the holder's own word, src/state/appliers/vm-migration.ts.)
 */
import { assert } from "../base/assert.ts";
import type { Proof } from "./proof.ts";
import type { Claim, Vm } from "./vm.ts";

/** No node has a right to run it. */
export type Unclaimed = Vm & { claim: null };

export function isUnclaimed(vm: Vm): vm is Unclaimed {
  return vm.claim === null;
}

export function giveClaim(vm: Unclaimed, claim: Claim): Vm {
  return { ...vm, claim, generation: claim.generation };
}

/** A proof about another node than the holder is a bug of the caller. */
export function endClaim(vm: Vm, proof: Proof): Unclaimed {
  assert(vm.claim === null || vm.claim.nodeId === proof.nodeId, `vm ${vm.id}: a ${proof.kind} of ${proof.nodeId} ends no claim of another`);
  return { ...vm, claim: null };
}

/** The holder's word that nothing of it runs any more. */
export function releaseOf(claim: Claim): Proof & { kind: "release" } {
  return { kind: "release", nodeId: claim.nodeId, generation: claim.generation };
}
