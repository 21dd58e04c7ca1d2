/**
 * What runs on a simulated hypervisor. It stands for the host, not for the agent: a driver that goes away leaves it as
 * it is, and the next driver finds its domains there.
 */
import { RoostError } from "../base/errors.ts";

/** One running domain. */
export interface StoredDomain {
  vmId: string;
  generation: number;
  /** Cluster of roost's mark; null for a domain that somebody else started. */
  clusterId: string | null;
  name: string;
  state: "running" | "paused" | "shutting-down";
  cpus: number;
  memoryMib: number;
  /** Wall clock at its start, ms since 1970. */
  startedWallMs: number;
  /** It comes from elsewhere and is not whole yet: nothing can run. */
  incoming?: true;
}

export interface DomainStore {
  /** True if others than the driver may change it (a keeper that deletes a file), so that it must be looked at again and again. */
  readonly shared: boolean;
  list(): Promise<StoredDomain[]>;
  get(vmId: string): Promise<StoredDomain | null>;
  /** Throws `conflict` if a domain of this VM is there. */
  create(domain: StoredDomain): Promise<void>;
  /** Changes a domain that is there; false (and nothing created) if it is gone: a killed domain must not come back. */
  update(domain: StoredDomain): Promise<boolean>;
  /** False if it was not there. */
  remove(vmId: string): Promise<boolean>;
  /** Calls back when something may have changed; a hint only. */
  watch(changed: () => void): () => void;
  /** The file whose deletion ends the domain; for a store without files a name that no file has. */
  pathOf(vmId: string): string;
}

/** Keeps domains in memory: deterministic, no I/O. */
export class MemoryDomainStore implements DomainStore {
  readonly shared = false;
  private readonly domains = new Map<string, StoredDomain>();
  private readonly watchers = new Set<() => void>();

  list(): Promise<StoredDomain[]> {
    return Promise.resolve([...this.domains.values()].map((domain) => ({ ...domain })));
  }

  get(vmId: string): Promise<StoredDomain | null> {
    const domain = this.domains.get(vmId);
    return Promise.resolve(domain === undefined ? null : { ...domain });
  }

  create(domain: StoredDomain): Promise<void> {
    if (this.domains.has(domain.vmId)) return Promise.reject(alreadyThere(domain.vmId));
    this.domains.set(domain.vmId, { ...domain });
    this.changed();
    return Promise.resolve();
  }

  update(domain: StoredDomain): Promise<boolean> {
    if (this.domains.get(domain.vmId)?.generation !== domain.generation) return Promise.resolve(false);
    this.domains.set(domain.vmId, { ...domain });
    this.changed();
    return Promise.resolve(true);
  }

  remove(vmId: string): Promise<boolean> {
    const was = this.domains.delete(vmId);
    if (was) this.changed();
    return Promise.resolve(was);
  }

  watch(changed: () => void): () => void {
    this.watchers.add(changed);
    return () => void this.watchers.delete(changed);
  }

  pathOf(vmId: string): string {
    return `memory:${vmId}`;
  }

  private changed(): void {
    for (const watcher of this.watchers) watcher();
  }
}

export function alreadyThere(vmId: string): RoostError {
  return new RoostError({ kind: "conflict", reason: `a domain of VM ${vmId} is there already` });
}
