/**
 * A libvirt connection that comes back by itself (VM-17): connects, registers for life-cycle events, and when the
 * daemon goes away tries again with back-off, telling its listeners `disconnected` and, once events flow again, `connected`.
 */
import { RoostError, asRoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { Connection } from "./connection.ts";
import { constants } from "./protocol.gen.ts";
import type { Calls, DomainEventLifecycleMsg } from "./protocol.gen.ts";

export interface LibvirtClientOptions {
  /** Tried in order: libvirtd's own socket, then the modular daemon's. */
  socketPaths: readonly string[];
  uri: string;
  /** Time limit of a call that names none. */
  callTimeoutMs: number;
  /** Limit of one attempt to connect: socket, authentication, open, event registration each. */
  connectTimeoutMs: number;
  keepalive: { intervalMs: number; count: number };
  /** Pause before the next attempt: doubles from min to max while attempts fail. */
  reconnect: { minMs: number; maxMs: number };
}

export const DEFAULT_CLIENT_OPTIONS: LibvirtClientOptions = {
  socketPaths: ["/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"],
  uri: "qemu:///system",
  callTimeoutMs: 15_000,
  connectTimeoutMs: 5_000,
  keepalive: { intervalMs: 2_000, count: 3 },
  reconnect: { minMs: 100, maxMs: 5_000 },
};

export interface LibvirtClientListener {
  lifecycle(event: DomainEventLifecycleMsg): void;
  /** Events flow (again); what happened before is unknown. */
  connected(): void;
  disconnected(reason: RoostError): void;
}

export class LibvirtClient {
  readonly options: LibvirtClientOptions;
  private readonly listener: LibvirtClientListener;
  private readonly log: Logger;
  private connection: Connection | null = null;
  private attempt: Promise<Connection> | null = null;
  private retry: NodeJS.Timeout | null = null;
  private failures = 0;
  private closed = false;
  /** The listener knows that we are not connected. */
  private told = false;

  constructor(options: LibvirtClientOptions, deps: { listener: LibvirtClientListener; log: Logger }) {
    this.options = options;
    this.listener = deps.listener;
    this.log = deps.log;
  }

  /** Socket of the connection in use, or the first configured one. */
  get socketPath(): string {
    return this.lastPath ?? this.options.socketPaths[0] ?? "";
  }
  private lastPath: string | null = null;

  /** Waits for the connection: joins an attempt under way or makes one now. Throws RoostError unavailable, timeout, denied. */
  connect(): Promise<Connection> {
    if (this.closed) return Promise.reject(new RoostError({ kind: "unavailable", reason: "the libvirt client is closed" }));
    if (this.connection !== null) return Promise.resolve(this.connection);
    if (this.attempt !== null) return this.attempt;
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
    const attempt = this.open();
    this.attempt = attempt;
    attempt.then(
      (connection) => this.opened(connection),
      (error: unknown) => this.failed(asRoostError(error)),
    );
    return attempt;
  }

  /** One call on the connection there is; fails at once with `unavailable` while there is none. */
  call<K extends keyof Calls>(name: K, args: Calls[K]["args"], limit: { timeoutMs?: number } = {}): Promise<Calls[K]["ret"]> {
    if (this.connection !== null) return this.connection.call(name, args, limit);
    if (this.attempt !== null) return this.attempt.then((connection) => connection.call(name, args, limit));
    return Promise.reject(
      new RoostError(
        { kind: "unavailable", reason: `not connected to libvirt at ${this.socketPath}` },
        "is libvirtd running on this node?",
      ),
    );
  }

  async close(): Promise<void> {
    this.closed = true;
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
    const attempt = this.attempt;
    if (attempt !== null) await attempt.then((connection) => connection.close()).catch(() => {}); // a failed attempt leaves nothing to close
    await this.connection?.close();
    this.connection = null;
  }

  private async open(): Promise<Connection> {
    let last: RoostError | null = null;
    for (const socketPath of this.options.socketPaths) {
      try {
        const connection = await this.openAt(socketPath);
        this.lastPath = socketPath;
        return connection;
      } catch (error) {
        // The first path's error is the telling one, unless a later one got further than "no such socket".
        const found = asRoostError(error);
        if (last === null || !isMissingSocket(found)) last = found;
      }
    }
    throw last ?? new RoostError({ kind: "unavailable", reason: "no libvirt socket is configured" });
  }

  private async openAt(socketPath: string): Promise<Connection> {
    const { uri, callTimeoutMs, connectTimeoutMs, keepalive } = this.options;
    const connection = await Connection.open(
      {
        socketPath,
        uri,
        callTimeoutMs,
        keepalive,
        onEvent: (event) => {
          if (event.name === "DOMAIN_EVENT_CALLBACK_LIFECYCLE") this.listener.lifecycle(event.message.msg);
        },
        onClose: (reason) => this.lost(connection, reason),
      },
      connectTimeoutMs,
    );
    try {
      const registration = { eventID: constants.VIR_DOMAIN_EVENT_ID_LIFECYCLE, dom: null };
      await connection.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", registration, { timeoutMs: connectTimeoutMs });
    } catch (error) {
      await connection.close();
      throw error;
    }
    return connection;
  }

  private opened(connection: Connection): void {
    this.attempt = null;
    if (this.closed) return;
    if (!connection.isOpen) return this.failed(new RoostError({ kind: "unavailable", reason: "libvirt went away while connecting" }));
    this.connection = connection;
    this.failures = 0;
    this.log.info("connected to libvirt", { socketPath: this.socketPath, uri: this.options.uri });
    const wasTold = this.told;
    this.told = false;
    if (wasTold) this.listener.connected();
  }

  private failed(reason: RoostError): void {
    this.attempt = null;
    if (this.closed) return;
    this.failures++;
    this.tell(reason);
    const { minMs, maxMs } = this.options.reconnect;
    // No jitter: one client and one local daemon cannot stampede.
    const delayMs = Math.min(maxMs, minMs * 2 ** Math.min(this.failures - 1, 20));
    this.log.warn("cannot reach libvirt", { reason: reason.message, nextAttemptMs: delayMs });
    this.retry = setTimeout(() => {
      this.retry = null;
      this.connect().catch(() => {}); // told by failed()
    }, delayMs);
    this.retry.unref();
  }

  private lost(connection: Connection, reason: RoostError): void {
    if (this.connection !== connection) return;
    this.connection = null;
    this.failed(reason);
  }

  private tell(reason: RoostError): void {
    if (this.told) return;
    this.told = true;
    this.listener.disconnected(reason);
  }
}

function isMissingSocket(error: RoostError): boolean {
  return error.cause instanceof Error && "code" in error.cause && error.cause.code === "ENOENT";
}
