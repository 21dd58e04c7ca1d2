/**
 * Live migration by libvirt's protocol of version 3, its five steps made one by one, so that between "all is there" and "it runs there"
 * the cluster can decide (HA-8). Two libvirtds never talk to each other, and neither QEMU listens on the network: each speaks through a
 * unix socket with this process, which gives the bytes to whoever carries them.
 *
 *     source: BEGIN → definition, cookie        target: PREPARE → QEMU waits at its socket
 *     source: PERFORM to our socket                     (bytes)
 *     source: paused                            target: FINISH with PAUSED → whole, paused
 *     source: DESTROY                           target: RESUME
 *
 * CONFIRM, the fifth, is only made to take a finished push back: it starts the source again. Whoever controls the migration going away
 * (we, or the daemon) leaves a finished push paused (qemuMigrationAnyConnectionClosed, qemuProcessRecoverMigrationOut, libvirt 9.0).
 */
import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, rm } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { RoostError, asRoostError } from "../../base/errors.ts";
import type { DomainRef, DomainSpec, Emigration, Immigration, PushOptions } from "../driver.ts";
import { noSuchDomain, refKey } from "../refs.ts";
import type { LibvirtDriverContext } from "./context.ts";
import { readDacOwner } from "./host-xml.ts";
import { domainName } from "./mark.ts";
import { migratedXml } from "./migrated-xml.ts";
import { constants } from "./protocol.gen.ts";
import type { NonnullDomain, TypedParam } from "./protocol.gen.ts";

/**
 * UNSAFE: libvirt takes for shared only what it recognises as a network file system; which pool is shared, the cluster knows better.
 * AUTO_CONVERGE: a guest that writes faster than the link is slowed down instead of never arriving.
 */
const FLAGS =
  constants.VIR_MIGRATE_LIVE |
  constants.VIR_MIGRATE_PAUSED |
  constants.VIR_MIGRATE_UNSAFE |
  constants.VIR_MIGRATE_ABORT_ON_ERROR |
  constants.VIR_MIGRATE_AUTO_CONVERGE;

/** A push has no limit of its own here: its caller's signal ends it. */
const PUSH_LIMIT_MS = 2 ** 31 - 1;
const COMPLETE_LIMIT_MS = 60_000;
const CONNECT_LIMIT_MS = 10_000;
/** After the abort was asked for. */
const ABORT_LIMIT_MS = 15_000;
const ABORT_AGAIN_MS = 250;
const PROGRESS_MS = 250;
/** sun_path with its end. */
const UNIX_PATH_MAX = 107;

export async function emigrate(context: LibvirtDriverContext, ref: DomainRef): Promise<Emigration> {
  const { client, inventory } = context;
  const dom = await inventory.find(ref);
  if (dom === null) throw noSuchDomain(ref);
  const begun = await client.call("DOMAIN_MIGRATE_BEGIN3_PARAMS", { dom, params: [], flags: FLAGS });
  const offer = encodeWords({ xml: begun.xml, cookie: begun.cookie_out });
  let over = false;
  return {
    offer,
    push: async (ticket, stream, options) => {
      if (over) throw new RoostError({ kind: "precondition", reason: "this migration was given up" });
      return await push(context, ref, dom, decodeWords(ticket).cookie, stream, options);
    },
    close: () => {
      // Without CHANGE_PROTECTION a BEGIN leaves nothing behind, and a push that ended has cleaned up.
      over = true;
      return Promise.resolve();
    },
  };
}

async function push(
  context: LibvirtDriverContext,
  ref: DomainRef,
  dom: NonnullDomain,
  cookieIn: Uint8Array,
  stream: Duplex,
  { signal, bandwidthMibPerSecond, downtimeMs, progress }: PushOptions,
): Promise<Uint8Array> {
  const { client } = context;
  signal.throwIfAborted();
  const place = await makePlace(context, null);
  const path = join(place, "out");
  let sent: Promise<void> = Promise.resolve();
  const server = await listen(path, (socket) => {
    server.close();
    sent = carry(socket, stream);
    sent.catch(() => {}); // told below, or QEMU's own failure tells more
  });
  try {
    // QEMU waits until what is left fits into it.
    await client.call("DOMAIN_MIGRATE_SET_MAX_DOWNTIME", { dom, downtime: BigInt(downtimeMs), flags: 0 });
    const params = [text("migrate_uri", `unix://${path}`)];
    if (bandwidthMibPerSecond !== null)
      params.push({ field: "bandwidth", value: { type: constants.VIR_TYPED_PARAM_ULLONG, value: BigInt(bandwidthMibPerSecond) } });
    const args = { dom, dconnuri: null, params, cookie_in: cookieIn, flags: FLAGS };
    const performing = client.call("DOMAIN_MIGRATE_PERFORM3_PARAMS", args, { timeoutMs: PUSH_LIMIT_MS });
    const stop = watch(context, dom, performing, progress);
    try {
      const { cookie_out } = await untilAborted(context, dom, performing, signal);
      context.pushed.set(refKey(ref), dom);
      // The receipt must not overtake the bytes.
      await sent;
      return encodeWords({ xml: "", cookie: cookie_out });
    } finally {
      stop();
    }
  } finally {
    server.close();
    await rm(place, { recursive: true, force: true });
  }
}

/** A finished push is taken back: the guest runs on here. False if this driver knows of none. */
export async function takeBack(context: LibvirtDriverContext, ref: DomainRef): Promise<boolean> {
  const { client, pushed, startTimeoutMs } = context;
  const dom = pushed.get(refKey(ref));
  if (dom === undefined) return false;
  pushed.delete(refKey(ref));
  const args = { dom, params: [], cookie_in: new Uint8Array(0), flags: FLAGS, cancelled: 1 };
  await client.call("DOMAIN_MIGRATE_CONFIRM3_PARAMS", args, { timeoutMs: startTimeoutMs });
  return true;
}

export async function immigrate(context: LibvirtDriverContext, spec: DomainSpec, offer: Uint8Array): Promise<Immigration> {
  const { client, inventory, arriving, emulatorPath, arch, startTimeoutMs } = context;
  const other = await inventory.lookup(spec.vmId);
  if (other !== null) throw new RoostError({ kind: "precondition", reason: `domain ${other.name} of this VM runs already` });
  const { kvm } = await context.acceleration();
  const { xml, cookie } = decodeWords(offer);
  const dom_xml = migratedXml(xml, spec, { kvm, emulatorPath, arch });
  const { capabilities } = await client.call("CONNECT_GET_CAPABILITIES", null);
  const place = await makePlace(context, readDacOwner(capabilities));
  const name = domainName(spec, spec.name);
  // A name that libvirt's AppArmor profile for the domain allows its QEMU to listen at (virt-aa-helper.c).
  const path = join(place, `m.tunnelmigrate.dest.${name}`);
  const mark = { vmId: spec.vmId, generation: spec.generation, clusterId: spec.clusterId, name: spec.name };
  const finish = async (cookieIn: Uint8Array, cancelled: 0 | 1): Promise<void> => {
    const params = [text("destination_name", name)];
    const args = { params, cookie_in: cookieIn, flags: FLAGS, cancelled };
    await client.call("DOMAIN_MIGRATE_FINISH3_PARAMS", args, { timeoutMs: COMPLETE_LIMIT_MS });
  };
  let stage: "incoming" | "complete" | "over" = "incoming";
  const close = async (): Promise<void> => {
    if (stage !== "incoming") return;
    stage = "over";
    arriving.delete(refKey(spec));
    stream?.destroy();
    // It answers with an error that says what became of the migration, which is what was wanted.
    await finish(new Uint8Array(0), 1).catch(() => {});
    const left = await inventory.find(spec);
    if (left !== null) await client.call("DOMAIN_DESTROY", { dom: left }).catch(() => {}); // the caller destroys what it finds
    inventory.forget(mark);
  };
  let stream: Socket | null = null;
  try {
    if (path.length > UNIX_PATH_MAX)
      throw new RoostError({ kind: "invalid", violations: [{ field: "migrationFolder", message: `${path} is too long for a socket` }] });
    inventory.expect(mark);
    arriving.add(refKey(spec));
    const params = [text("destination_name", name), text("destination_xml", dom_xml), text("migrate_uri", `unix://${path}`)];
    const args = { params, cookie_in: cookie, flags: FLAGS };
    const prepared = await client.call("DOMAIN_MIGRATE_PREPARE3_PARAMS", args, { timeoutMs: startTimeoutMs });
    stream = await connect(path);
    return {
      ticket: encodeWords({ xml: "", cookie: prepared.cookie_out }),
      stream,
      complete: async (receipt) => {
        if (stage !== "incoming") throw new RoostError({ kind: "precondition", reason: "this migration was given up" });
        try {
          await finish(decodeWords(receipt).cookie, 0);
          stage = "complete";
          arriving.delete(refKey(spec));
        } catch (error) {
          await close();
          throw error;
        }
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  } finally {
    // The socket is connected, or of no use any more.
    await rm(place, { recursive: true, force: true });
  }
}

/** A folder for one socket. `owner`: whom QEMU runs as; null for the daemon itself, which is root. */
async function makePlace(context: LibvirtDriverContext, owner: { uid: number; gid: number } | null): Promise<string> {
  const folder = context.migrationFolder;
  await mkdir(folder, { recursive: true, mode: 0o711 });
  const place = join(folder, randomBytes(3).toString("base64url"));
  await mkdir(place, { mode: 0o700 });
  if (owner !== null && owner.uid !== 0) await chown(place, owner.uid, owner.gid);
  return place;
}

async function listen(path: string, taken: (socket: Socket) => void): Promise<Server> {
  const server = createServer(taken);
  server.maxConnections = 1;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  server.on("error", () => {}); // nobody connects: PERFORM says so
  await chmod(path, 0o600);
  return server;
}

async function connect(path: string): Promise<Socket> {
  const deadlineMs = performance.now() + CONNECT_LIMIT_MS;
  for (;;) {
    const socket = createConnection({ path });
    const error = await new Promise<Error | null>((resolve) => {
      socket.once("connect", () => resolve(null));
      socket.once("error", resolve);
    });
    if (error === null) {
      socket.removeAllListeners("error");
      return socket;
    }
    if (performance.now() > deadlineMs)
      throw new RoostError({ kind: "unavailable", reason: `QEMU does not listen at ${path}: ${error.message}` });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * QEMU's bytes into the stream, up to their end; resolves when all were handed over. What comes back goes back. The other side may close
 * first: the bytes themselves say where they end.
 */
function carry(socket: Socket, stream: Duplex): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    socket.on("error", fail);
    stream.on("error", fail);
    stream.once("close", () => {
      socket.destroy();
      resolve();
    });
    stream.on("data", (chunk: Uint8Array) => {
      if (!socket.destroyed) socket.write(chunk);
    });
    socket.once("end", () => stream.end(() => resolve()));
    socket.pipe(stream, { end: false });
  });
}

/** Asks how far it is, until it has ended. */
function watch(
  { client }: LibvirtDriverContext,
  dom: NonnullDomain,
  performing: Promise<unknown>,
  progress: PushOptions["progress"],
): () => void {
  let over = false;
  const stop = (): void => {
    over = true;
    clearInterval(timer);
  };
  const timer = setInterval(() => {
    client.call("DOMAIN_GET_JOB_STATS", { dom, flags: 0 }).then(
      ({ params }) => {
        const number = (field: string): number => Number(params.find((param) => param.field === field)?.value.value ?? 0);
        if (!over) progress({ sentBytes: number("data_processed"), leftBytes: number("data_remaining") });
      },
      () => {}, // it has just ended, or the daemon does not answer: the push itself will tell
    );
  }, PROGRESS_MS);
  performing.then(stop, stop);
  return stop;
}

/** The push's end; after `signal` it is told to stop until it does. */
async function untilAborted<T>(
  { client }: LibvirtDriverContext,
  dom: NonnullDomain,
  performing: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = (): void => {
      const sinceMs = performance.now();
      const again = (): void => {
        // Before it has really begun there is no job to abort, hence more than once.
        client.call("DOMAIN_ABORT_JOB", { dom }).catch(() => {});
        if (performance.now() - sinceMs > ABORT_LIMIT_MS)
          reject(new RoostError({ kind: "timeout", what: "aborting a migration", afterMs: ABORT_LIMIT_MS }));
        else timer = setTimeout(again, ABORT_AGAIN_MS);
      };
      again();
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([performing, aborted]);
  } catch (error) {
    throw signal.aborted ? new RoostError(asRoostError(signal.reason).fault, undefined, { cause: error }) : error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    performing.catch(() => {}); // after a time limit its late failure is of no interest
  }
}

function text(field: string, value: string): TypedParam {
  return { field, value: { type: constants.VIR_TYPED_PARAM_STRING, value } };
}

interface Words {
  xml: string;
  cookie: Uint8Array;
}

function encodeWords({ xml, cookie }: Words): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ libvirt: 1, xml, cookie: Buffer.from(cookie).toString("base64") }));
}

function decodeWords(bytes: Uint8Array): Words {
  try {
    const { libvirt, xml, cookie } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    if (libvirt === 1 && typeof xml === "string" && typeof cookie === "string") return { xml, cookie: Buffer.from(cookie, "base64") };
  } catch {
    // below
  }
  throw new RoostError({ kind: "unsupported", what: "migration between libvirt and another hypervisor driver" });
}
