/** grpc-js's server for the streams between peers, where nobody may call without a certificate. The API's own is in grpc-server.ts. */
import grpc from "@grpc/grpc-js";
import { RoostError } from "./errors.ts";
import { KEEPALIVE, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES } from "./rpc.ts";
import type { TlsIdentity } from "./rpc.ts";

const SERVER_OPTIONS: grpc.ServerOptions = {
  ...KEEPALIVE,
  "grpc.max_receive_message_length": MAX_REQUEST_BYTES,
  "grpc.max_send_message_length": MAX_RESPONSE_BYTES,
  "grpc.max_concurrent_streams": 256,
};

export function createServerCore(options: grpc.ServerOptions = {}): grpc.Server {
  return new grpc.Server({ ...SERVER_OPTIONS, ...options });
}

function contextOf(identity: TlsIdentity): { ca: Buffer[]; cert: Buffer[]; key: Buffer[] } {
  return { ca: [Buffer.from(identity.ca)], cert: [Buffer.from(identity.cert)], key: [Buffer.from(identity.key)] };
}

/** Requires a certificate of the given CA at the TLS level: for ports where nobody may call without one. */
export class StrictCredentials extends grpc.ServerCredentials {
  constructor(identity: TlsIdentity) {
    super({ requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2" }, contextOf(identity));
  }

  update(identity: TlsIdentity): void {
    this.updateSecureContextOptions(contextOf(identity));
  }

  override _equals(other: grpc.ServerCredentials): boolean {
    return this === other;
  }
}

/**
 * Common name of the caller's certificate, or null without a certificate that OpenSSL verified against the cluster's CA.
 * getAuthContext answers nothing unless the socket is `authorized`; and `authorized` alone is not enough, because a
 * resumed TLS 1.3 session counts as authorized even if it never showed a certificate, so one must be there as well.
 */
export function peerCertificate(call: {
  getAuthContext(): { transportSecurityType?: string; sslPeerCertificate?: unknown };
}): string | null {
  const context = call.getAuthContext();
  const certificate = context.sslPeerCertificate as { subject?: { CN?: string | string[] }; raw?: Buffer } | undefined;
  if (context.transportSecurityType !== "ssl" || certificate?.raw === undefined) return null;
  const name = certificate.subject?.CN;
  return typeof name === "string" && name !== "" ? name : null;
}

/** Binds the TLS port; answers the port, which matters for port 0. */
export function listenTls(server: grpc.Server, address: string, credentials: grpc.ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) return resolve(port);
      reject(
        new RoostError(
          { kind: "precondition", reason: `cannot listen on ${address}: ${error.message}` },
          "choose another address with --listen",
        ),
      );
    });
  });
}

/** Lets calls under way finish for a while, then ends them. */
export async function stopServer(server: grpc.Server, drainMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const force = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, drainMs);
    server.tryShutdown(() => {
      clearTimeout(force);
      resolve();
    });
  });
}
