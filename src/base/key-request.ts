/** Key pairs and certificate requests: made by whoever needs a certificate, so that the key never travels. */
// The X.509 library's dependency container needs this at load.
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

/** ECDSA P-256: what every key of a cluster is. */
export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

// The library declares its types by the DOM's names, which Node has under webcrypto only.
x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

export type KeyPair = Parameters<typeof x509.Pkcs10CertificateRequestGenerator.create>[0]["keys"];

export async function generateKeys(): Promise<KeyPair> {
  return (await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"])) as unknown as KeyPair;
}

/** PKCS#8 PEM. */
export async function exportKey(keys: KeyPair): Promise<string> {
  const der = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey as unknown as webcrypto.CryptoKey);
  return pemText(x509.PemConverter.encode(der, "PRIVATE KEY"));
}

/** A fresh key pair and a request to certify it. The subject in the request is ignored by the CA. */
export async function createKeyAndRequest(): Promise<{ keyPem: string; requestPem: string }> {
  const keys = await generateKeys();
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ name: [{ CN: ["roost"] }], keys, signingAlgorithm: KEY_ALGORITHM });
  return { keyPem: await exportKey(keys), requestPem: pemText(request.toString("pem")) };
}

export function pemText(pem: string): string {
  return `${pem.trim()}\n`;
}
