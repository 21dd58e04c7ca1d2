import type { DomainSpec } from "../driver.ts";
import type { LibvirtClient } from "./client.ts";
import type { Inventory } from "./inventory.ts";
import type { ProbeResult } from "./probe.ts";

/** What the sessions of one driver share. */
export interface LibvirtDriverContext {
  readonly clusterId: string;
  readonly client: LibvirtClient;
  readonly inventory: Inventory;
  /** Defined domains by `refKey`. */
  readonly defined: Map<string, DomainSpec>;
  readonly startTimeoutMs: number;
  readonly destroyTimeoutMs: number;
  readonly emulatorPath: string;
  readonly arch: string;
  acceleration(): Promise<ProbeResult>;
}
