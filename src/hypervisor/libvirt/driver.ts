/**
 * The Driver for QEMU through libvirt. Domains are transient: `define` keeps the spec in memory, `start` gives libvirt
 * the XML and runs it in one call, so libvirt itself never has anything that it could start on its own (HA-7).
 */
import { asRoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Capabilities, DomainEvent, DomainRef, Driver, KillRecipe, Session } from "../driver.ts";
import { SessionCounter } from "../session-counter.ts";
import { DEFAULT_CLIENT_OPTIONS, LibvirtClient } from "./client.ts";
import type { LibvirtClientOptions } from "./client.ts";
import { readFeatures, readGuestCpus, readHostCpu, readTopology } from "./host-xml.ts";
import { EventFeed } from "./event-feed.ts";
import { Inventory } from "./inventory.ts";
import { processMark } from "./mark.ts";
import { probeAcceleration } from "./probe.ts";
import { constants } from "./protocol.gen.ts";
import type { ProbeResult } from "./probe.ts";
import type { LibvirtDriverContext } from "./context.ts";
import { LibvirtSession } from "./session.ts";

export interface LibvirtDriverOptions {
  /** Only domains marked with this cluster are seen and touched. */
  clusterId: string;
  /** Over DEFAULT_CLIENT_OPTIONS. */
  client?: Partial<LibvirtClientOptions>;
  /** `probe`: KVM if a guest really runs on it here, else emulation. */
  acceleration: "kvm" | "tcg" | "probe";
  /** Default /usr/bin/qemu-system-<arch>. */
  emulatorPath?: string;
  /** As libvirt calls it; default x86_64. */
  arch?: string;
  /** Default 64. */
  maxSessions?: number;
  /** Default /run/libvirt/roost: where AppArmor lets QEMU listen. Short, a socket's whole path has 107 bytes. */
  migrationFolder?: string;
  /** Limit of a start; default 60 s: a cold host with a slow disk. */
  startTimeoutMs?: number;
  /** Limit of a destroy with its retries; default 30 s. */
  destroyTimeoutMs?: number;
}

export interface LibvirtDriverDeps {
  log: Logger;
  /** Stands in for the real probe in tests. */
  probe?: () => Promise<ProbeResult>;
}

export class LibvirtDriver implements Driver {
  readonly kind = "libvirt";
  private readonly context: LibvirtDriverContext;
  private readonly log: Logger;
  private readonly feed: EventFeed;
  private readonly counter: SessionCounter;
  private known: Promise<Capabilities> | null = null;

  constructor(options: LibvirtDriverOptions, deps: LibvirtDriverDeps) {
    const { log } = deps;
    this.log = log;
    const arch = options.arch ?? "x86_64";
    const emulatorPath = options.emulatorPath ?? `/usr/bin/qemu-system-${arch}`;
    const client = new LibvirtClient(
      { ...DEFAULT_CLIENT_OPTIONS, ...options.client },
      {
        log,
        listener: {
          lifecycle: (event) => this.feed.lifecycle(event),
          connected: () => {
            // With the connection the daemon has let go of its migrations.
            this.context.pushed.clear();
            inventory.forgetIds();
            this.feed.enqueue({ kind: "resync" });
          },
          disconnected: (reason) => this.feed.enqueue({ kind: "disconnected", reason: reason.message }),
        },
      },
    );
    const inventory = new Inventory(client, options.clusterId, log);
    this.feed = new EventFeed(inventory, log);
    this.counter = new SessionCounter(options.maxSessions ?? 64);
    let probed: Promise<ProbeResult> | null = null;
    const acceleration = (): Promise<ProbeResult> => {
      if (options.acceleration !== "probe") {
        return Promise.resolve({ kvm: options.acceleration === "kvm", reason: "set by the operator" });
      }
      const probe = deps.probe ?? ((): Promise<ProbeResult> => probeAcceleration({ emulatorPath, arch, timeoutMs: 10_000, log }));
      probed ??= probe().catch((error: unknown) => {
        probed = null; // QEMU may be installed later: a failure is not kept
        throw error;
      });
      return probed;
    };
    this.context = {
      clusterId: options.clusterId,
      client,
      inventory,
      defined: new Map(),
      pushed: new Map(),
      arriving: new Set(),
      migrationFolder: options.migrationFolder ?? "/run/libvirt/roost",
      startTimeoutMs: options.startTimeoutMs ?? 60_000,
      destroyTimeoutMs: options.destroyTimeoutMs ?? 30_000,
      emulatorPath,
      arch,
      acceleration,
    };
  }

  async login(): Promise<Session> {
    const release = this.counter.take();
    try {
      await this.context.client.connect();
    } catch (error) {
      release();
      throw error;
    }
    return new LibvirtSession(this.context, release);
  }

  sessions(): number {
    return this.counter.inUse;
  }

  capabilities(): Promise<Capabilities> {
    this.known ??= this.findCapabilities().catch((error: unknown) => {
      this.known = null;
      throw error;
    });
    return this.known;
  }

  watch(listener: (event: DomainEvent) => void): () => void {
    const stop = this.feed.watch(listener);
    // Watching alone must keep the connection up; a failure is told as `disconnected` and tried again.
    this.context.client.connect().catch(() => {});
    return stop;
  }

  killRecipe(domain: DomainRef): KillRecipe {
    const { client } = this.context;
    return { kind: "libvirt", socketPath: client.socketPath, uri: client.options.uri, uuid: domain.vmId, processMark: processMark(domain) };
  }

  async close(): Promise<void> {
    await this.context.client.close();
  }

  /** What a guest can be given. A host that cannot say so is no worse for everything else: then nothing is refused here. */
  private async guestCpus(kvm: boolean): Promise<{ models: string[] | null; features: string[] | null }> {
    const { client, emulatorPath, arch } = this.context;
    const shape = { arch, machine: "pc", virttype: kvm ? "kvm" : "qemu" };
    try {
      const found = await client.call("CONNECT_GET_DOMAIN_CAPABILITIES", { ...shape, emulatorbin: emulatorPath, flags: 0 });
      const { models, hostCpu } = readGuestCpus(found.capabilities);
      if (hostCpu === null) return { models, features: null };
      const args = { ...shape, emulator: emulatorPath, xmlCPUs: [hostCpu], flags: EXPAND_FEATURES };
      const { cpu } = await client.call("CONNECT_BASELINE_HYPERVISOR_CPU", args);
      return { models, features: readFeatures(cpu) };
    } catch (error) {
      this.log.warn("libvirt does not say which CPUs guests can have", { reason: asRoostError(error).message });
      return { models: null, features: null };
    }
  }

  private async findCapabilities(): Promise<Capabilities> {
    const { client } = this.context;
    await client.connect();
    const [type, version, info, host, memoryKib, acceleration] = await Promise.all([
      client.call("CONNECT_GET_TYPE", null),
      client.call("CONNECT_GET_VERSION", null),
      client.call("NODE_GET_INFO", null),
      client.call("CONNECT_GET_CAPABILITIES", null),
      hostMemoryKib(client),
      this.context.acceleration(),
    ]);
    const cpu = readHostCpu(host.capabilities);
    const guest = await this.guestCpus(acceleration.kvm);
    return {
      hypervisor: type.type,
      version: versionText(Number(version.hv_ver)),
      arch: cpu.arch,
      hardwareAccelerated: acceleration.kvm,
      cpus: info.cpus,
      memoryMib: Math.floor(memoryKib / 1024),
      cpuModel: cpu.model,
      cpuTopology: readTopology(host.capabilities),
      cpuModels: guest.models,
      cpuFeatures: guest.features,
      actions: ["start", "shutdown", "destroy", "reboot", "reset", "pause", "resume", "stats", "migrate"],
      diskBuses: ["virtio", "sata", "scsi", "ide"],
      maxSessions: this.counter.limit,
    };
  }
}

/** EXPAND_FEATURES of virConnectBaselineHypervisorCPU (libvirt-host.html). */
const EXPAND_FEATURES = 1;

/** All of the host's memory. Not from NODE_GET_INFO, which leaves out what belongs to no NUMA cell. */
async function hostMemoryKib(client: LibvirtClient): Promise<number> {
  const all = { cellNum: constants.VIR_NODE_MEMORY_STATS_ALL_CELLS, flags: 0 };
  const { nparams } = await client.call("NODE_GET_MEMORY_STATS", { ...all, nparams: 0 });
  const { params } = await client.call("NODE_GET_MEMORY_STATS", { ...all, nparams });
  return Number(params.find((param) => param.field === "total")?.value ?? 0n);
}

/** libvirt packs versions as major × 1,000,000 + minor × 1,000 + release. */
function versionText(packed: number): string {
  return `${Math.floor(packed / 1_000_000)}.${Math.floor(packed / 1000) % 1000}.${packed % 1000}`;
}
