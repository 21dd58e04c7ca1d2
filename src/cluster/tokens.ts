/** The text of a join token (CLU-3): `roost1.` and base64url of its parts as JSON. The secret exists in this text only. */
import { createHash } from "node:crypto";
import { invalid } from "../base/errors.ts";
import { parseAddress } from "../base/rpc.ts";

export interface TokenText {
  id: string;
  /** base64url of 32 random bytes. */
  secret: string;
  /** SHA-256 of the cluster's CA, hex. */
  caFingerprint: string;
  /** `host:port` of nodes' APIs, to be dialled in order. */
  addresses: string[];
}

const PREFIX = "roost1.";
const MAX_LENGTH = 8_192;

export function formatToken(token: TokenText): string {
  const parts = { i: token.id, s: token.secret, f: token.caFingerprint, a: token.addresses };
  return PREFIX + Buffer.from(JSON.stringify(parts)).toString("base64url");
}

/** Throws `invalid` on field `token`; the text itself is never repeated in the message (SEC-5). */
export function parseToken(text: string): TokenText {
  const hint = "copy the whole line that `roost token create` printed; it begins with roost1.";
  const trimmed = text.trim();
  if (!trimmed.startsWith(PREFIX) || trimmed.length > MAX_LENGTH) throw invalid("token", "this is no join token", hint);
  let parts: Record<string, unknown>;
  try {
    parts = JSON.parse(Buffer.from(trimmed.slice(PREFIX.length), "base64url").toString("utf8")) as Record<string, unknown>;
  } catch {
    throw invalid("token", "the token is cut short or damaged", hint);
  }
  const { i: id, s: secret, f: caFingerprint, a: addresses } = parts ?? {};
  if (
    typeof id !== "string" ||
    typeof secret !== "string" ||
    typeof caFingerprint !== "string" ||
    !/^[0-9a-f]{64}$/.test(caFingerprint) ||
    !Array.isArray(addresses) ||
    addresses.length === 0 ||
    !addresses.every((address): address is string => typeof address === "string" && parseAddress(address) !== null)
  ) {
    throw invalid("token", "the token is cut short or damaged", hint);
  }
  return { id, secret, caFingerprint, addresses };
}

export function secretText(secret: Uint8Array): string {
  return Buffer.from(secret).toString("base64url");
}

/**
 * What the cluster keeps and what a join's command carries, hex SHA-256. A plain hash is enough because the secret has
 * 256 random bits; apply compares hashes, so its timing tells nothing about the secret.
 */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}
