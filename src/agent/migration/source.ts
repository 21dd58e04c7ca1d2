/** The source's half of a live migration: a connection to the target's agent, and the driver's push through it. */
import http2 from "node:http2";
import type { IncomingHttpHeaders } from "node:http2";
import { RoostError, asRoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { TlsIdentity } from "../../base/rpc.ts";
import type { DomainRef, PushProgress, Session } from "../../hypervisor/driver.ts";
import { settingsOf } from "../../model/placement.ts";
import type { View } from "../../model/view.ts";
import type { Vm } from "../../model/vm.ts";
import { IMMIGRATE_METHOD, Wire } from "./wire.ts";

export interface SourceDeps {
  view(): View;
  identity(): TlsIdentity;
  log: Logger;
}

const CONNECT_MS = 5_000;
const PING_EVERY_MS = 1_000;
const PING_ANSWER_MS = 5_000;
/** The target waits for its hypervisor to take in the last of it. */
const COMPLETE_MS = 75_000;
const TOLD_EVERY_MS = 5_000;

/**
 * Resolves when the domain is paused here and whole there. The target keeps it while the connection stands: `over` is called once the
 * cluster knows whose the VM is. Throws if it failed; then the target has nothing that could run.
 */
export async function push(deps: SourceDeps, session: Session, vm: Vm, ref: DomainRef, signal: AbortSignal): Promise<{ over(): void }> {
  const view = deps.view();
  const settings = settingsOf(view);
  const { migration } = vm;
  const target = view.nodes.get(migration?.claim.nodeId ?? "");
  if (migration === undefined || target === undefined) throw new RoostError({ kind: "conflict", reason: "there is no migration any more" });
  const log = deps.log.child("migration", { vmId: vm.id, to: target.name });
  const timeoutMs = settings["vm.migrateTimeoutMs"];
  const late = AbortSignal.timeout(timeoutMs);
  const connection = await connect({ address: target.apiAddress, nodeId: target.id }, deps.identity());
  const { wire } = connection;
  const over = (): void => {
    wire.close();
    connection.close();
  };
  try {
    const beganMs = performance.now();
    const emigration = await session.emigrate(ref);
    try {
      wire.say({ say: "offer", vmId: vm.id, generation: migration.claim.generation, offer: base64(emigration.offer) });
      const { ticket } = await wire.hear("ticket", settings["vm.bootTimeoutMs"]);
      const ended = AbortSignal.any([signal, wire.gone, late]);
      const bandwidth = settings["vm.migrateMibps"];
      const receipt = await emigration.push(bytes(ticket), wire.body, {
        signal: ended,
        bandwidthMibPerSecond: bandwidth === 0 ? null : bandwidth,
        downtimeMs: settings["vm.migrateDowntimeMs"],
        progress: teller(log),
      });
      wire.say({ say: "receipt", receipt: base64(receipt) });
      await wire.hear("complete", COMPLETE_MS);
      log.info("pushed", { tookMs: Math.round(performance.now() - beganMs) });
      return { over };
    } finally {
      await emigration.close();
    }
  } catch (error) {
    // What the other side says is the better reason: a stream that ends says little.
    const said = wire.gone.aborted ? await wire.hear("complete", 100).catch((thrown: unknown) => asRoostError(thrown)) : null;
    over();
    if (late.aborted && !signal.aborted)
      throw new RoostError({ kind: "timeout", what: "the migration", afterMs: timeoutMs, setting: "vm.migrateTimeoutMs" });
    throw said instanceof RoostError && asRoostError(error).fault.kind !== "timeout" ? said : error;
  }
}

function teller(log: Logger): (progress: PushProgress) => void {
  let toldMs = performance.now();
  return ({ sentBytes, leftBytes }) => {
    if (performance.now() - toldMs < TOLD_EVERY_MS) return;
    toldMs = performance.now();
    log.info("pushing", { sentBytes, leftBytes });
  };
}

/** The node's own certificate at the other end, ours at this one. */
async function connect(
  target: { address: string; nodeId: string },
  { ca, cert, key }: TlsIdentity,
): Promise<{ wire: Wire; close(): void }> {
  const session = http2.connect(`https://${target.address}`, { ca, cert, key, servername: target.nodeId });
  let late: NodeJS.Timeout | undefined;
  const pings = setInterval(() => {
    if (late !== undefined || session.connecting || session.destroyed) return;
    late = setTimeout(() => session.destroy(), PING_ANSWER_MS).unref();
    session.ping(() => {
      clearTimeout(late);
      late = undefined;
    });
  }, PING_EVERY_MS).unref();
  const close = (): void => {
    clearInterval(pings);
    session.close();
    setTimeout(() => session.destroy(), 2_000).unref();
  };
  try {
    await new Promise<void>((resolve, reject) => {
      const limit = setTimeout(
        () => reject(new RoostError({ kind: "timeout", what: `connecting to ${target.address}`, afterMs: CONNECT_MS })),
        CONNECT_MS,
      );
      session.once("connect", () => {
        clearTimeout(limit);
        resolve();
      });
      session.on("error", (error: Error) => {
        clearTimeout(limit);
        reject(new RoostError({ kind: "unavailable", reason: `${target.address}: ${error.message}` }));
      });
    });
  } catch (error) {
    clearInterval(pings);
    session.destroy();
    throw error;
  }
  const headers = { ":method": "POST", ":path": IMMIGRATE_METHOD, "content-type": "application/grpc", te: "trailers" };
  const stream = session.request(headers, { endStream: false });
  const wire = new Wire(stream);
  const refused = (answer: IncomingHttpHeaders): void => {
    const status = answer["grpc-status"];
    if (status !== undefined && status !== "0")
      wire.close(`the target refused: ${decodeURIComponent(String(answer["grpc-message"] ?? status))}`);
  };
  stream.once("response", refused);
  stream.once("trailers", refused);
  return { wire, close };
}

const base64 = (value: Uint8Array): string => Buffer.from(value).toString("base64");
const bytes = (text: string): Uint8Array => Buffer.from(text, "base64");
