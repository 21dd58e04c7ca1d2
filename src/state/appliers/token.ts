/** Join tokens (CLU-3): only hashes are stored. */
import { RoostError } from "../../base/errors.ts";
import type { TokenCreate, TokenRevoke } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";

const TOKENS_MAX = 1_000;

export function create(tx: Transaction, command: TokenCreate): CommandResult {
  tx.needCluster();
  // Dead tokens go when a new one is made, so that no timer is needed.
  let alive = 0;
  for (const token of tx.rows("tokens")) {
    if (token.expiresAtMs < tx.atMs || token.usesLeft <= 0) tx.put("tokens", token.id, null);
    else alive += 1;
  }
  if (alive >= TOKENS_MAX) {
    throw new RoostError({ kind: "exhausted", reason: `${TOKENS_MAX} join tokens exist` }, "revoke some with `roost token revoke ID`");
  }
  tx.put("tokens", command.id, {
    id: command.id,
    secretHash: command.secretHash,
    createdAtMs: tx.atMs,
    expiresAtMs: tx.atMs + command.ttlMs,
    usesLeft: command.uses,
    createdBy: tx.envelope.actor,
  });
  tx.emit("token.created", command.id, command.id, `join token for ${command.uses} node(s), ${Math.round(command.ttlMs / 1000)} s`);
  return { ids: [command.id] };
}

export function revoke(tx: Transaction, command: TokenRevoke): CommandResult {
  if (tx.token(command.id) === undefined) throw new RoostError({ kind: "not-found", what: "token", name: command.id });
  tx.put("tokens", command.id, null);
  tx.emit("token.revoked", command.id, command.id, "revoked");
  return { ids: [command.id] };
}
