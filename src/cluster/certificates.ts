/**
 * The cluster's own CA and the certificates it signs (CLU-2, SEC-3). ECDSA P-256 throughout. What a certificate may be
 * used for is in it: only nodes can serve, so that no user's certificate can pose as a node.
 */
// Before the X.509 library, which needs it at load.
import "reflect-metadata";
import { createHash, webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { invalid, RoostError } from "../base/errors.ts";
import { exportKey, generateKeys, KEY_ALGORITHM as ALGORITHM, pemText } from "../base/key-request.ts";
import { SERVER_NAME } from "../base/rpc.ts";

export { createKeyAndRequest } from "../base/key-request.ts";

/** A certificate begins this long before it was made, so that nodes whose clocks differ a little accept it. */
const BACKDATE_MS = 10 * 60_000;
const DAY_MS = 86_400_000;
export const CA_TTL_MS = 20 * 365 * DAY_MS;
export const NODE_TTL_MS = 365 * DAY_MS;
export const USER_TTL_MS = 365 * DAY_MS;

export interface Ca {
  certificatePem: string;
  /** PKCS#8. */
  keyPem: string;
}

/** Who a certificate speaks for, as its common name. */
export type Subject = { kind: "node"; nodeId: string } | { kind: "user"; name: string };

export function commonName(subject: Subject): string {
  return subject.kind === "node" ? `node:${subject.nodeId}` : `user:${subject.name}`;
}

/** The subject of a common name that this CA gives out; null for any other. */
export function parseCommonName(name: string): Subject | null {
  const match = /^(node|user):([A-Za-z0-9._@-]{1,128})$/.exec(name);
  if (match === null) return null;
  const rest = match[2] ?? "";
  return match[1] === "node" ? { kind: "node", nodeId: rest } : { kind: "user", name: rest };
}

/** `serial`: at least 8 random bytes. */
export async function createCa(options: { clusterId: string; nowMs: number; serial: Uint8Array }): Promise<Ca> {
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialText(options.serial),
    name: [{ CN: [`roost CA ${options.clusterId}`] }],
    notBefore: new Date(options.nowMs - BACKDATE_MS),
    notAfter: new Date(options.nowMs + CA_TTL_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      // Path length 0: nothing that this CA signs can sign in its turn.
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificatePem: pemText(certificate.toString("pem")), keyPem: await exportKey(keys) };
}

export interface IssueOptions {
  subject: Subject;
  /** Further names of a node: IP addresses and DNS names people may call it by. */
  names?: string[];
  nowMs: number;
  ttlMs: number;
  serial: Uint8Array;
}

/**
 * Signs the public key of a request. Nothing else is taken from it: subject, names and uses are decided here.
 * Throws `invalid` on field certificate_request if it is no request, is not signed by its own key, or has another kind of key.
 */
export async function issue(ca: Ca, requestPem: string, options: IssueOptions): Promise<string> {
  const publicKey = await readRequest(requestPem);
  const caCertificate = new x509.X509Certificate(ca.certificatePem);
  const isNode = options.subject.kind === "node";
  const uses = isNode ? [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth] : [x509.ExtendedKeyUsage.clientAuth];
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension(uses, false),
    await x509.AuthorityKeyIdentifierExtension.create(caCertificate.publicKey),
    await x509.SubjectKeyIdentifierExtension.create(publicKey),
  ];
  if (options.subject.kind === "node") {
    // Ids are how peers know each other: nobody gets another's by calling itself so.
    const asked = (options.names ?? []).filter((name) => name !== "" && !/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(name));
    const names = [SERVER_NAME, options.subject.nodeId, ...asked];
    extensions.push(
      new x509.SubjectAlternativeNameExtension(
        [...new Set(names)].map((name) => ({ type: isIp(name) ? ("ip" as const) : ("dns" as const), value: name })),
      ),
    );
  }
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialText(options.serial),
    subject: [{ CN: [commonName(options.subject)] }],
    issuer: caCertificate.subjectName,
    notBefore: new Date(options.nowMs - BACKDATE_MS),
    notAfter: new Date(Math.min(options.nowMs + options.ttlMs, caCertificate.notAfter.getTime())),
    publicKey,
    signingKey: await importKey(ca.keyPem),
    signingAlgorithm: ALGORITHM,
    extensions,
  });
  return pemText(certificate.toString("pem"));
}

async function readRequest(pem: string): Promise<x509.PublicKey> {
  const field = "certificate_request";
  let request: x509.Pkcs10CertificateRequest;
  try {
    request = new x509.Pkcs10CertificateRequest(pem);
  } catch {
    throw invalid(field, "expected a PKCS#10 certificate request in PEM");
  }
  const algorithm = request.publicKey.algorithm as { name: string; namedCurve?: string };
  if (algorithm.name !== ALGORITHM.name || algorithm.namedCurve !== ALGORITHM.namedCurve) {
    throw invalid(field, "expected a request for an ECDSA P-256 key");
  }
  if (!(await request.verify())) throw invalid(field, "the request is not signed by its own key");
  return request.publicKey;
}

/** Lower-case hex SHA-256 of the certificate's DER: what join tokens carry. Takes PEM or DER. */
export function fingerprint(certificate: string | Uint8Array): string {
  const der = typeof certificate === "string" ? new Uint8Array(new x509.X509Certificate(certificate).rawData) : certificate;
  return createHash("sha256").update(der).digest("hex");
}

export function derToPem(der: Uint8Array): string {
  return pemText(new x509.X509Certificate(new Uint8Array(der)).toString("pem"));
}

/** Wall clock at which it ends, ms. */
export function expiresAtMs(certificatePem: string): number {
  return new x509.X509Certificate(certificatePem).notAfter.getTime();
}

/** The chain a node shows: its own certificate, then the CA, so that a joiner can compare the CA's fingerprint. */
export function chainOf(certificatePem: string, caPem: string): string {
  return pemText(certificatePem) + pemText(caPem);
}

type SigningKey = Parameters<typeof x509.X509CertificateGenerator.create>[0] extends { signingKey: infer K } ? K : never;

async function importKey(pem: string): Promise<SigningKey> {
  const der = x509.PemConverter.decodeFirst(pem);
  try {
    return (await webcrypto.subtle.importKey("pkcs8", der, ALGORITHM, false, ["sign"])) as unknown as SigningKey;
  } catch (error) {
    throw new RoostError({ kind: "damaged", what: "the key of the cluster's CA" }, undefined, { cause: error });
  }
}

/** Hex without a leading sign bit, as X.509 asks for positive serial numbers. */
function serialText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString("hex");
  return (Number.parseInt(hex.slice(0, 2), 16) & 0x7f).toString(16).padStart(2, "0") + hex.slice(2);
}

function isIp(name: string): boolean {
  return /^\d+\.\d+\.\d+\.\d+$/.test(name) || name.includes(":");
}
