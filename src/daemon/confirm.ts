/** The end of a join: the node serves, and says so. Done by the daemon itself, so that it survives a crash in between. */
import { asRoostError, RoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { confirmJoin } from "../cluster/join.ts";
import type { Identity } from "../cluster/identity.ts";

const CALL_LIMIT_MS = 10_000;
const RETRY_MS = 500;

/**
 * Confirms until the cluster has taken it. Throws `precondition` if the cluster has undone the join meanwhile: then this
 * node was never a part of it.
 */
export async function confirmUntilTaken(identity: Identity, endpoints: string[], log: Logger): Promise<void> {
  for (;;) {
    try {
      await confirmJoin({ ...identity, generation: identity.generation ?? 1, endpoints, peers: [] }, { timeoutMs: CALL_LIMIT_MS });
      return;
    } catch (thrown) {
      const error = asRoostError(thrown);
      if (error.fault.kind === "not-found") {
        throw new RoostError(
          { kind: "precondition", reason: "the cluster has undone this join, because it was not confirmed within a minute" },
          "join again with a fresh token (roost token create)",
        );
      }
      log.warn("the join is not confirmed yet; trying again", { reason: error.message });
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}
