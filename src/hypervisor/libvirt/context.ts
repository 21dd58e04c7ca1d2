import type { DomainSpec } from "../driver.ts";
import type { LibvirtClient } from "./client.ts";
import type { NonnullDomain } from "./protocol.gen.ts";
import type { Inventory } from "./inventory.ts";
import type { ProbeResult } from "./probe.ts";

/** What the sessions of one driver share. */
export interface LibvirtDriverContext {
  readonly clusterId: string;
  readonly client: LibvirtClient;
  readonly inventory: Inventory;
  /** Defined domains by `refKey`. */
  readonly defined: Map<string, DomainSpec>;
  /** Domains whose push has ended, paused, by `refKey`: a resume takes it back. */
  readonly pushed: Map<string, NonnullDomain>;
  /** Domains that come from elsewhere and are not whole yet, as `refKey`. */
  readonly arriving: Set<string>;
  /** For the sockets of migrations; the daemon and QEMU see it under the same path. */
  readonly migrationFolder: string;
  readonly startTimeoutMs: number;
  readonly destroyTimeoutMs: number;
  readonly emulatorPath: string;
  readonly arch: string;
  acceleration(): Promise<ProbeResult>;
}
