/**
 * Which of the daemon's domains are roost's, of this cluster, and in which generation. Everything the driver does to a
 * domain goes through `find`, so a domain without the mark cannot be touched (HA-7).
 */
import { RoostError, asRoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { DomainRef, DomainState, DomainStatus } from "../driver.ts";
import type { LibvirtClient } from "./client.ts";
import { readMark } from "./domain-xml.ts";
import type { Mark } from "./domain-xml.ts";
import { hasLibvirtCode } from "./errors.ts";
import { uuidBytes, uuidText } from "./mark.ts";
import { constants } from "./protocol.gen.ts";
import type { NonnullDomain } from "./protocol.gen.ts";

/** Domains looked at side by side while listing: keeps the connection busy without filling its queue. */
const LIST_BATCH = 100;

interface Known {
  mark: Mark;
  /** libvirt's id of this run of the domain; null while it is being started. */
  id: number | null;
}

export class Inventory {
  private readonly client: LibvirtClient;
  private readonly clusterId: string;
  private readonly log: Logger;
  /** By domain UUID. Ids are only unique in one life of the daemon, so a reconnect forgets all. */
  private readonly known = new Map<string, Known>();

  constructor(client: LibvirtClient, clusterId: string, log: Logger) {
    this.client = client;
    this.clusterId = clusterId;
    this.log = log;
  }

  /** After a reconnect: ids of the daemon's earlier life mean nothing, but who a domain was is kept for its last event. */
  forgetIds(): void {
    for (const entry of this.known.values()) entry.id = null;
  }

  /** Remembers a domain that is about to start, so that its first event finds its mark. */
  expect(mark: Mark): void {
    this.known.set(mark.vmId, { mark, id: null });
  }

  forget(ref: DomainRef): void {
    if (this.known.get(ref.vmId)?.mark.generation === ref.generation) this.known.delete(ref.vmId);
  }

  /** The mark last seen for this UUID, also when the domain is gone. */
  lastMark(uuid: string): Mark | null {
    return this.known.get(uuid)?.mark ?? null;
  }

  /** The running domain that is exactly `ref`, or null: not there, not roost's, another cluster's or another generation. */
  async find(ref: DomainRef, timeoutMs?: number): Promise<NonnullDomain | null> {
    const dom = await this.lookup(ref.vmId, timeoutMs);
    if (dom === null) return null;
    const mark = await this.markOf(dom, timeoutMs);
    return mark !== null && mark.generation === ref.generation && mark.clusterId === this.clusterId ? dom : null;
  }

  /** Whatever runs under this UUID, roost's or not. */
  async lookup(uuid: string, timeoutMs?: number): Promise<NonnullDomain | null> {
    try {
      const { dom } = await this.client.call("DOMAIN_LOOKUP_BY_UUID", { uuid: uuidBytes(uuid) }, limit(timeoutMs));
      // Inactive domains have id -1; roost's are transient, so an inactive one is somebody's own definition.
      return dom.id < 0 ? null : dom;
    } catch (error) {
      if (hasLibvirtCode(error, constants.VIR_ERR_NO_DOMAIN)) return null;
      throw error;
    }
  }

  /** The domain's mark if it is of this cluster, else null. A domain that vanished meanwhile has none. */
  async markOf(dom: NonnullDomain, timeoutMs?: number): Promise<Mark | null> {
    const uuid = uuidText(dom.uuid);
    const known = this.known.get(uuid);
    if (known !== undefined && known.id === dom.id) return known.mark;
    let mark: Mark | null;
    try {
      const { xml } = await this.client.call("DOMAIN_GET_XML_DESC", { dom, flags: 0 }, limit(timeoutMs));
      mark = readMark(xml);
    } catch (error) {
      if (hasLibvirtCode(error, constants.VIR_ERR_NO_DOMAIN)) return null;
      if (!(error instanceof RoostError) || error.fault.kind !== "damaged") throw error;
      this.log.warn("left alone: a domain whose mark cannot be read", { domain: dom.name, reason: error.message });
      return null;
    }
    // The UUID must be the VM's: a mark copied into another domain by hand does not make that one ours.
    if (mark === null || mark.clusterId !== this.clusterId || mark.vmId !== uuid) return null;
    this.known.set(uuid, { mark, id: dom.id });
    return mark;
  }

  /** All running domains of this cluster. */
  async list(): Promise<DomainStatus[]> {
    const flags = constants.VIR_CONNECT_LIST_DOMAINS_ACTIVE;
    const { domains } = await this.client.call("CONNECT_LIST_ALL_DOMAINS", { need_results: 1, flags });
    const found: DomainStatus[] = [];
    for (let at = 0; at < domains.length; at += LIST_BATCH) {
      const batch = await Promise.all(domains.slice(at, at + LIST_BATCH).map((dom) => this.status(dom)));
      for (const status of batch) if (status !== null) found.push(status);
    }
    return found;
  }

  /** Null if the domain is not ours or vanished while being looked at. */
  async status(dom: NonnullDomain): Promise<DomainStatus | null> {
    const mark = await this.markOf(dom);
    if (mark === null) return null;
    try {
      const { state } = await this.client.call("DOMAIN_GET_STATE", { dom, flags: 0 });
      return { vmId: mark.vmId, generation: mark.generation, clusterId: mark.clusterId, name: mark.name, state: domainState(state) };
    } catch (error) {
      if (hasLibvirtCode(error, constants.VIR_ERR_NO_DOMAIN)) return null;
      throw asRoostError(error);
    }
  }
}

function limit(timeoutMs: number | undefined): { timeoutMs?: number } {
  return timeoutMs === undefined ? {} : { timeoutMs };
}

/** virDomainState to the contract's states; what is unclear counts as running, so that nobody starts it a second time. */
function domainState(state: number): DomainState {
  switch (state) {
    case constants.VIR_DOMAIN_PAUSED:
    case constants.VIR_DOMAIN_PMSUSPENDED:
      return "paused";
    case constants.VIR_DOMAIN_SHUTDOWN:
      return "shutting-down";
    case constants.VIR_DOMAIN_SHUTOFF:
    case constants.VIR_DOMAIN_CRASHED:
      return "gone";
    default:
      return "running";
  }
}
