/**
 * Power by Redfish (DMTF DSP0266): the service root leads to the systems, a system has a PowerState and an action to reset it. Always
 * TLS, and the certificate is always checked: against the system's authorities, a given one, or a pinned fingerprint.
 */
import { request as httpRequest } from "node:http";
import { connect, type PeerCertificate, type TLSSocket } from "node:tls";
import { isIP } from "node:net";
import { RoostError, type Violation } from "../base/errors.ts";
import { parseAddress } from "../base/rpc.ts";
import type { PowerFence, PowerState } from "./driver.ts";

const ANSWER_MAX_BYTES = 1024 * 1024;
const REDFISH_PORT = 443;

/** All that the driver takes. */
const OPTIONS: Record<string, { required: boolean }> = {
  /** HOST or HOST:PORT. */
  ip: { required: true },
  username: { required: true },
  /** Id of the system, where the service has several. */
  system: { required: false },
  /** PEM of who signed the certificate. */
  ca: { required: false },
  /** SHA-256 of the certificate in hex, with or without colons. */
  fingerprint: { required: false },
};
const SECRETS = new Set(["password"]);

export function redfishFaults(options: Readonly<Record<string, string>>, secrets: readonly string[]): Violation[] {
  const faults: Violation[] = [];
  const field = (name: string): string => `options.${name}`;
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(OPTIONS, name))
      faults.push({ field: field(name), message: `is not one of ${[...Object.keys(OPTIONS), ...SECRETS].join(", ")}` });
  }
  for (const name of secrets) if (!SECRETS.has(name)) faults.push({ field: field(name), message: "is not one of password" });
  for (const [name, { required }] of Object.entries(OPTIONS)) {
    if (required && (options[name] ?? "") === "") faults.push({ field: field(name), message: "is needed" });
  }
  if (!secrets.includes("password")) faults.push({ field: field("password"), message: "is needed, by --secret-file" });
  const { ip, ca, fingerprint } = options;
  if (ip !== undefined && addressOf(ip) === null) faults.push({ field: field("ip"), message: "expected HOST or HOST:PORT" });
  if (ca !== undefined && fingerprint !== undefined)
    faults.push({ field: field("ca"), message: "goes without fingerprint: one of them says which certificate is right" });
  if (ca !== undefined && !ca.includes("-----BEGIN CERTIFICATE-----")) faults.push({ field: field("ca"), message: "expected a PEM text" });
  if (fingerprint !== undefined && !/^[0-9a-f]{64}$/.test(plainHex(fingerprint)))
    faults.push({ field: field("fingerprint"), message: "expected the SHA-256 of the certificate: 64 hex digits" });
  return faults;
}

export function redfishFence(options: Readonly<Record<string, string>>, secrets: Readonly<Record<string, string>>): PowerFence {
  const address = addressOf(options["ip"] ?? "");
  if (address === null)
    throw new RoostError({ kind: "invalid", violations: [{ field: "options.ip", message: "expected HOST or HOST:PORT" }] });
  const session: Session = {
    ...address,
    ca: options["ca"] ?? null,
    fingerprint: options["fingerprint"] === undefined ? null : plainHex(options["fingerprint"]),
    authorization: `Basic ${Buffer.from(`${options["username"] ?? ""}:${secrets["password"] ?? ""}`).toString("base64")}`,
    name: `redfish ${options["ip"] ?? ""}`,
  };
  const wanted = options["system"] ?? "";
  return {
    name: wanted === "" ? session.name : `${session.name} ${wanted}`,
    async off(signal) {
      const { system } = await findSystem(session, wanted, signal);
      const reset = fields(fields(system["Actions"])["#ComputerSystem.Reset"]);
      const kinds = reset["ResetType@Redfish.AllowableValues"];
      if (Array.isArray(kinds) && !kinds.includes("ForceOff"))
        throw new RoostError({ kind: "unsupported", what: `ForceOff at ${session.name} (it knows ${kinds.join(", ")})` });
      const { status } = await call(session, "POST", pathOf(session, reset["target"]), { ResetType: "ForceOff" }, signal);
      if (status < 200 || status > 299) throw refused(session, status);
    },
    async status(signal): Promise<PowerState> {
      const { system } = await findSystem(session, wanted, signal);
      const state = system["PowerState"];
      // PoweringOff, Paused and whatever comes later are not off.
      if (state === "Off") return "off";
      if (typeof state === "string") return "on";
      throw new RoostError({ kind: "unavailable", reason: `${session.name} tells no PowerState` });
    },
  };
}

interface Session {
  host: string;
  port: number;
  ca: string | null;
  fingerprint: string | null;
  authorization: string;
  name: string;
}

type Fields = Record<string, unknown>;

function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function addressOf(text: string): { host: string; port: number } | null {
  const bare = isIP(text) !== 0 || /^[A-Za-z0-9.-]+$/.test(text);
  if (bare) return { host: text, port: REDFISH_PORT };
  return parseAddress(text);
}

function plainHex(text: string): string {
  return text.replaceAll(":", "").toLowerCase();
}

async function findSystem(session: Session, wanted: string, signal: AbortSignal): Promise<{ system: Fields }> {
  const systems = await get(session, "/redfish/v1/Systems", signal);
  const members = Array.isArray(systems["Members"]) ? systems["Members"] : [];
  const paths = members.map((member) => pathOf(session, fields(member)["@odata.id"]));
  const ids = paths.map((path) => path.split("/").findLast((part) => part !== "") ?? "");
  const at = wanted === "" ? 0 : ids.indexOf(wanted);
  const path = paths[at];
  if (path === undefined || (wanted === "" && paths.length > 1)) {
    throw new RoostError(
      { kind: "invalid", violations: [{ field: "options.system", message: `${session.name} has ${ids.join(", ") || "no system"}` }] },
      "name one of them",
    );
  }
  return { system: await get(session, path, signal) };
}

/** Paths come from the device: they stay at the device. */
function pathOf(session: Session, value: unknown): string {
  if (typeof value !== "string" || !/^\/[\x21-\x7e]*$/.test(value) || value.startsWith("//"))
    throw new RoostError({
      kind: "unavailable",
      reason: `${session.name} answers with what is no path: ${JSON.stringify(value)?.slice(0, 100)}`,
    });
  return value;
}

async function get(session: Session, path: string, signal: AbortSignal): Promise<Fields> {
  const { status, text } = await call(session, "GET", path, null, signal);
  if (status !== 200) throw refused(session, status);
  try {
    return fields(JSON.parse(text));
  } catch {
    throw new RoostError({ kind: "unavailable", reason: `${session.name} answers ${path} with what is no JSON` });
  }
}

function refused(session: Session, status: number): RoostError {
  if (status === 401 || status === 403)
    return new RoostError({ kind: "denied", reason: `${session.name} refuses username and password (HTTP ${status})` });
  return new RoostError({ kind: "unavailable", reason: `${session.name} answers HTTP ${status}` });
}

/** Redirects are not followed: the password would go along. */
async function call(
  session: Session,
  method: "GET" | "POST",
  path: string,
  body: object | null,
  signal: AbortSignal,
): Promise<{ status: number; text: string }> {
  const socket = await dial(session, signal);
  try {
    return await new Promise((resolve, reject) => {
      const payload = body === null ? "" : JSON.stringify(body);
      const headers = {
        host: session.host,
        authorization: session.authorization,
        accept: "application/json",
        connection: "close",
        ...(body === null ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(payload) }),
      };
      const request = httpRequest({ method, path, headers, createConnection: () => socket, signal });
      request.on("error", (error) => reject(unreachable(session, signal, error)));
      request.on("response", (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on("data", (chunk: Buffer) => {
          size += chunk.length;
          if (size > ANSWER_MAX_BYTES) response.destroy(new Error(`answers with more than ${ANSWER_MAX_BYTES} bytes`));
          else chunks.push(chunk);
        });
        response.on("error", (error) => reject(unreachable(session, signal, error)));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") }));
      });
      request.end(payload);
    });
  } finally {
    socket.destroy();
  }
}

/** A connection whose other end is known; nothing was said on it before. */
function dial(session: Session, signal: AbortSignal): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const { host, port, ca, fingerprint } = session;
    const socket = connect({
      host,
      port,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(ca === null ? {} : { ca }),
      // A pinned certificate is compared below, whoever signed it.
      rejectUnauthorized: fingerprint === null,
    });
    const abort = (): void => {
      socket.destroy();
      reject(signal.reason as Error);
    };
    signal.addEventListener("abort", abort, { once: true });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      signal.removeEventListener("abort", abort);
      reject(untrusted(session, error, socket.getPeerCertificate()) ?? unreachable(session, signal, error));
    });
    socket.once("secureConnect", () => {
      signal.removeEventListener("abort", abort);
      const seen = plainHex(socket.getPeerCertificate().fingerprint256 ?? "");
      if (fingerprint === null || seen === fingerprint) return resolve(socket);
      socket.destroy();
      reject(
        new RoostError(
          { kind: "denied", reason: `${session.name} shows another certificate than the pinned one: ${seen}` },
          "if it was renewed, set the new fingerprint",
        ),
      );
    });
  });
}

function untrusted(session: Session, error: NodeJS.ErrnoException, certificate: PeerCertificate | undefined): RoostError | null {
  const code = error.code ?? "";
  if (!code.startsWith("ERR_TLS_CERT") && !/CERT|SIGNATURE|ISSUER/.test(code)) return null;
  const seen = certificate?.fingerprint256 === undefined ? "" : `; its fingerprint is ${plainHex(certificate.fingerprint256)}`;
  return new RoostError(
    { kind: "denied", reason: `the certificate of ${session.name} is not trusted: ${error.message}${seen}` },
    "compare the fingerprint at the device and pin it with --option fingerprint=…, or give who signed it with --option ca=@FILE",
  );
}

function unreachable(session: Session, signal: AbortSignal, error: Error): Error {
  if (signal.aborted) return signal.reason as Error;
  return new RoostError({ kind: "unavailable", reason: `${session.name} cannot be reached: ${error.message}` }, undefined, {
    cause: error,
  });
}
