/**
 * The simulated driver: deterministic, with time passed in and faults to order. Its domains live in a DomainStore, in
 * memory or as files. It keeps the same contract as the real ones and passes the same suite (VM-14).
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import { RoostError, asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { CpuTopology } from "../model/node.ts";
import type {
  Capabilities,
  DomainEvent,
  DomainRef,
  DomainSpec,
  DomainStats,
  DomainStatus,
  Driver,
  DriverAction,
  Emigration,
  Immigration,
  KillRecipe,
  PushOptions,
  Session,
} from "./driver.ts";
import { noSuchDomain, refKey } from "./refs.ts";
import { SessionCounter } from "./session-counter.ts";
import { decodeWords, encodeWords, Intake, pushBytes } from "./simulated-migration.ts";
import type { DomainStore, StoredDomain } from "./simulated-store.ts";
import { MemoryDomainStore } from "./simulated-store.ts";
import { requireGoodSpec } from "./spec-check.ts";

export interface SimulatedDriverOptions {
  clusterId: string;
  /** Default 8. */
  cpus?: number;
  /** NUMA nodes that its CPUs are spread over; default 1. */
  numaNodes?: number;
  /** CPU models and features that its guests can have; default a few. */
  cpuModels?: string[];
  cpuFeatures?: string[];
  /** Default 16384. */
  memoryMib?: number;
  /** How long a guest takes to power off when asked; default 100. */
  shutdownDelayMs?: number;
  /** A migration sends a sixteenth of the guest each time this has passed; default 5. */
  pushStepMs?: number;
  /** How often a shared store is looked at for changes made by others; default 250. */
  pollMs?: number;
  /** Default 64. */
  maxSessions?: number;
  /** What it claims to support; default all that it can. */
  actions?: DriverAction[];
}

export interface SimulatedDriverDeps {
  clock: Clock;
  log: Logger;
  /** Default: a MemoryDomainStore of its own. */
  store?: DomainStore;
}

export type Operation = Exclude<keyof Session, "logout"> | "login" | "push" | "complete";

/** A fault to order: the next `times` calls of `operation` (on `vmId` only, if given) wait `delayMs`, then fail with `fail`. */
export interface OrderedFault {
  operation: Operation;
  vmId?: string;
  /**
   * `before`, the default: nothing happens. `during`: the call fails, and what it asked for happens all the same, later.
   * `after`: it has happened, and only the answer is lost.
   */
  at?: "before" | "during" | "after";
  /** Default 1; Infinity for always. */
  times?: number;
  delayMs?: number;
  fail?: RoostError;
}

/** How long after a call that failed its effect still comes. */
const LATE_MS = 20;

const ALL_ACTIONS: DriverAction[] = ["start", "shutdown", "destroy", "reboot", "reset", "pause", "resume", "stats", "migrate"];
/** What stands for a MiB of the guest in a migration's stream. */
const PUSHED_PER_MIB = 1024;

export class SimulatedDriver implements Driver {
  readonly kind = "simulated";
  private readonly options: SimulatedDriverOptions;
  private readonly clock: Clock;
  private readonly log: Logger;
  private readonly store: DomainStore;
  private readonly counter: SessionCounter;
  private readonly defined = new Map<string, DomainSpec>();
  /** Logical CPUs by VM, of the domains that were confined; for tests to look at. */
  readonly confined = new Map<string, readonly number[]>();
  /** How often each operation changed something, by `OPERATION VM`. */
  private readonly effects = new Map<string, number>();
  private readonly listeners = new Set<(event: DomainEvent) => void>();
  private readonly faults: (OrderedFault & { left: number })[] = [];
  /** What the listeners believe to run; the difference to the store becomes events. */
  private readonly seen = new Map<string, StoredDomain>();
  private readonly powerOffs = new Map<string, () => void>();
  private stopWatching: (() => void) | null = null;
  private cancelPoll: (() => void) | null = null;
  private looking: Promise<void> | null = null;
  private lookAgain = false;
  private tail: Promise<void> = Promise.resolve();
  private connected = true;
  private closed = false;

  constructor(options: SimulatedDriverOptions, deps: SimulatedDriverDeps) {
    this.options = options;
    this.clock = deps.clock;
    this.log = deps.log;
    this.store = deps.store ?? new MemoryDomainStore();
    this.counter = new SessionCounter(options.maxSessions ?? 64);
  }

  async login(): Promise<Session> {
    const release = this.counter.take();
    try {
      await this.suffer("login", null);
      await this.begin();
    } catch (error) {
      release();
      throw error;
    }
    return this.session(release);
  }

  sessions(): number {
    return this.counter.inUse;
  }

  capabilities(): Promise<Capabilities> {
    return Promise.resolve({
      hypervisor: "simulated",
      version: "1",
      arch: "x86_64",
      hardwareAccelerated: false,
      cpus: this.options.cpus ?? 8,
      memoryMib: this.options.memoryMib ?? 16_384,
      cpuModel: "simulated",
      cpuTopology: this.topology(),
      cpuModels: (this.options.cpuModels ?? ["qemu64", "simulated"]).toSorted(),
      cpuFeatures: (this.options.cpuFeatures ?? ["aes", "avx", "avx2"]).toSorted(),
      actions: [...(this.options.actions ?? ALL_ACTIONS)],
      diskBuses: ["virtio", "sata", "scsi", "ide"],
      maxSessions: this.counter.limit,
    });
  }

  /** One socket of single-threaded cores for each NUMA node; the first ones have one more where they cannot be alike. */
  private topology(): CpuTopology {
    const { cpus = 8, memoryMib = 16_384, numaNodes = 1 } = this.options;
    const first = (id: number): number => Math.ceil((cpus * id) / numaNodes);
    const numa = Array.from({ length: numaNodes }, (_, id) => ({
      id,
      cpus: Array.from({ length: first(id + 1) - first(id) }, (_cpu, i) => first(id) + i),
      memoryMib: Math.floor(memoryMib / numaNodes),
    }));
    return { sockets: numaNodes, coresPerSocket: Math.floor(cpus / numaNodes), threadsPerCore: 1, numa };
  }

  watch(listener: (event: DomainEvent) => void): () => void {
    this.listeners.add(listener);
    this.begin().catch((error: unknown) =>
      this.log.warn("the simulated hypervisor cannot be watched", { reason: asRoostError(error).message }),
    );
    return () => void this.listeners.delete(listener);
  }

  killRecipe({ vmId, generation }: DomainRef): KillRecipe {
    return { kind: "file", path: this.store.pathOf(vmId), vmId, generation };
  }

  close(): Promise<void> {
    this.closed = true;
    this.stopWatching?.();
    this.cancelPoll?.();
    for (const cancel of this.powerOffs.values()) cancel();
    this.powerOffs.clear();
    return Promise.resolve();
  }

  // What only a simulation can do.

  /** Orders a fault; faults are used up in the order in which they were ordered. */
  order(fault: OrderedFault): void {
    this.faults.push({ ...fault, left: fault.times ?? 1 });
  }

  /** How often an operation had an effect, on one VM or on all: a repetition that found it done already does not count. */
  effectsOf(operation: Operation, vmId?: string): number {
    let sum = 0;
    for (const [key, count] of this.effects) if (key.startsWith(`${operation} ${vmId ?? ""}`)) sum += count;
    return sum;
  }

  /** The domain ends by itself: its guest powers off (`shutdown`) or its process dies (`crashed`). */
  end(ref: DomainRef, cause: "shutdown" | "crashed"): Promise<void> {
    return this.exclusive(async () => {
      const domain = await this.find(ref);
      if (domain !== null) await this.remove(domain, cause);
    });
  }

  /** The hypervisor's daemon goes away: calls fail, domains go on. */
  disconnect(reason: string): void {
    this.connected = false;
    this.emit({ kind: "disconnected", reason });
  }

  reconnect(): void {
    this.connected = true;
    this.emit({ kind: "resync" });
  }

  private session(release: () => void): Session {
    let open = true;
    /** Runs one operation behind its faults; never after logout. */
    const run = async <T>(operation: Operation, ref: DomainRef | null, action: DriverAction | null, body: () => Promise<T>): Promise<T> => {
      if (!open) throw new RoostError({ kind: "precondition", reason: "this hypervisor session is logged out" });
      if (action !== null && !(this.options.actions ?? ALL_ACTIONS).includes(action)) {
        throw new RoostError({ kind: "unsupported", what: `${action} by this simulated hypervisor` });
      }
      const fault = this.nextFault(operation, ref);
      await this.delay(fault);
      const { fail, at = "before" } = fault ?? {};
      if (fail !== undefined && at === "before") throw fail;
      this.requireDaemon();
      if (fail !== undefined && at === "during") {
        this.clock.after(LATE_MS, () => void this.exclusive(body).catch(() => {})); // nobody waits for it any more
        throw fail;
      }
      const result = await this.exclusive(body);
      if (fail !== undefined) throw fail;
      return result;
    };
    const count = (operation: Operation, { vmId }: DomainRef): void => {
      const key = `${operation} ${vmId}`;
      this.effects.set(key, (this.effects.get(key) ?? 0) + 1);
    };
    return {
      list: () => run("list", null, null, () => this.list()),
      define: (spec) =>
        run("define", spec, null, () => {
          requireGoodSpec(spec, this.options.clusterId);
          this.defined.set(refKey(spec), structuredClone(spec));
          return Promise.resolve();
        }),
      undefine: (ref) =>
        run("undefine", ref, null, async () => {
          if ((await this.find(ref)) !== null) {
            throw new RoostError({ kind: "precondition", reason: `domain ${refKey(ref)} runs`, legal: ["shutdown", "destroy"] });
          }
          this.defined.delete(refKey(ref));
        }),
      start: (ref, options) =>
        run("start", ref, "start", async () => {
          await this.start(ref, options.paused);
          count("start", ref);
        }),
      shutdown: (ref) =>
        run("shutdown", ref, "shutdown", async () => {
          await this.shutdown(ref);
          count("shutdown", ref);
        }),
      destroy: (ref) =>
        run("destroy", ref, "destroy", async () => {
          const domain = await this.find(ref);
          if (domain === null) return;
          await this.remove(domain, "destroyed");
          count("destroy", ref);
        }),
      confine: (ref, { cpus }) =>
        run("confine", ref, null, async () => {
          const { vmId } = await this.require(ref);
          this.confined.set(vmId, [...cpus]);
        }),
      reboot: (ref) =>
        run("reboot", ref, "reboot", async () => {
          await this.require(ref);
          count("reboot", ref);
        }),
      reset: (ref) =>
        run("reset", ref, "reset", async () => {
          await this.require(ref);
          count("reset", ref);
        }),
      pause: (ref) =>
        run("pause", ref, "pause", async () => {
          if (await this.change(ref, "paused")) count("pause", ref);
        }),
      resume: (ref) =>
        run("resume", ref, "resume", async () => {
          if (await this.change(ref, "running")) count("resume", ref);
        }),
      state: (ref) => run("state", ref, null, () => this.state(ref)),
      stats: (ref) => run("stats", ref, "stats", () => this.stats(ref)),
      emigrate: (ref) => run("emigrate", ref, "migrate", () => this.emigrate(ref)),
      immigrate: (spec, offer) => run("immigrate", spec, "migrate", () => this.immigrate(spec, offer)),
      logout: () => {
        open = false;
        release();
        return Promise.resolve();
      },
    };
  }

  private nextFault(operation: Operation, ref: DomainRef | null): OrderedFault | undefined {
    const at = this.faults.findIndex((fault) => fault.operation === operation && (fault.vmId === undefined || fault.vmId === ref?.vmId));
    const fault = this.faults[at];
    if (fault === undefined) return undefined;
    fault.left--;
    if (fault.left <= 0) this.faults.splice(at, 1);
    return fault;
  }

  /** For what is nothing by itself if it fails. */
  private async suffer(operation: Operation, ref: DomainRef | null): Promise<void> {
    const fault = this.nextFault(operation, ref);
    await this.delay(fault);
    if (fault?.fail !== undefined) throw fault.fail;
    this.requireDaemon();
  }

  private async delay(fault: OrderedFault | undefined): Promise<void> {
    const delayMs = fault?.delayMs;
    if (delayMs !== undefined) await new Promise<void>((resolve) => this.clock.after(delayMs, resolve));
  }

  private requireDaemon(): void {
    if (this.closed) throw new RoostError({ kind: "unavailable", reason: "the simulated hypervisor driver is closed" });
    if (!this.connected) throw new RoostError({ kind: "unavailable", reason: "the simulated hypervisor is disconnected" });
  }

  private async list(): Promise<DomainStatus[]> {
    const running = (await this.store.list()).map((domain) => this.status(domain)).filter((status) => status !== null);
    const there = new Set(running.map(refKey));
    for (const spec of this.defined.values()) if (!there.has(refKey(spec))) running.push(definedStatus(spec));
    return running;
  }

  private async start(ref: DomainRef, paused: boolean): Promise<void> {
    const spec = this.defined.get(refKey(ref));
    if (spec === undefined) throw noSuchDomain(ref);
    const other = await this.store.get(ref.vmId);
    if (other !== null) {
      throw new RoostError({ kind: "precondition", reason: `domain ${refKey(other)} of this VM runs already` });
    }
    const { vmId, generation, clusterId, name, cpus, memoryMib } = spec;
    const state = paused ? "paused" : "running";
    const domain: StoredDomain = { vmId, generation, clusterId, name, state, cpus, memoryMib, startedWallMs: this.clock.wallMs() };
    await this.store.create(domain);
    this.seen.set(vmId, domain);
    this.emit({ kind: "started", vmId, generation });
    if (paused) this.emit({ kind: "paused", vmId, generation });
  }

  private async emigrate(ref: DomainRef): Promise<Emigration> {
    const { vmId, generation, memoryMib, state } = await this.require(ref);
    if (state !== "running") throw new RoostError({ kind: "precondition", reason: `domain ${refKey(ref)} is ${state}, not running` });
    const words = { vmId, generation, totalBytes: memoryMib * PUSHED_PER_MIB };
    let over = false;
    return {
      offer: encodeWords(words),
      push: async (ticket: Uint8Array, stream: Duplex, options: PushOptions) => {
        if (over) throw new RoostError({ kind: "precondition", reason: "this migration was given up" });
        decodeWords(ticket);
        await this.suffer("push", ref);
        await pushBytes(stream, words.totalBytes, this.options.pushStepMs ?? 5, this.clock, options);
        await this.exclusive(() => this.change(ref, "paused"));
        return encodeWords(words);
      },
      close: () => {
        over = true;
        return Promise.resolve();
      },
    };
  }

  private async immigrate(spec: DomainSpec, offer: Uint8Array): Promise<Immigration> {
    requireGoodSpec(spec, this.options.clusterId);
    const { vmId, generation, clusterId, name, cpus, memoryMib } = spec;
    const words = decodeWords(offer);
    if (words.vmId !== vmId) throw new RoostError({ kind: "invalid", violations: [{ field: "vmId", message: `${words.vmId} comes` }] });
    const other = await this.store.get(vmId);
    if (other !== null) throw new RoostError({ kind: "precondition", reason: `domain ${refKey(other)} of this VM runs already` });
    const startedWallMs = this.clock.wallMs();
    const domain: StoredDomain = { vmId, generation, clusterId, name, state: "paused", cpus, memoryMib, startedWallMs };
    await this.store.create({ ...domain, incoming: true });
    this.seen.set(vmId, domain);
    this.emit({ kind: "started", vmId, generation });
    this.emit({ kind: "paused", vmId, generation });
    const stream = new Intake();
    let stage: "incoming" | "complete" | "over" = "incoming";
    const close = async (): Promise<void> => {
      if (stage !== "incoming") return;
      stage = "over";
      stream.destroy();
      await this.exclusive(async () => {
        const left = await this.find(spec);
        if (left !== null) await this.remove(left, "destroyed");
      });
    };
    const complete = async (receipt: Uint8Array): Promise<void> => {
      if (stage !== "incoming") throw new RoostError({ kind: "precondition", reason: "this migration was given up" });
      try {
        await this.suffer("complete", spec);
        if ((await this.find(spec)) === null) throw noSuchDomain(spec);
        await stream.whole(decodeWords(receipt).totalBytes, this.clock);
        if (!(await this.exclusive(() => this.store.update(domain)))) throw noSuchDomain(spec);
        stage = "complete";
      } catch (error) {
        await close();
        throw error;
      }
    };
    return { ticket: encodeWords({ vmId, generation, totalBytes: words.totalBytes }), stream, complete, close };
  }

  private async shutdown(ref: DomainRef): Promise<void> {
    const domain = await this.require(ref);
    // A guest whose CPUs stand still hears no power button, as on a real machine.
    if (domain.state === "paused") return;
    await this.change(ref, "shutting-down");
    this.powerOffLater(domain);
  }

  private powerOffLater(domain: StoredDomain): void {
    if (this.powerOffs.has(domain.vmId)) return;
    const cancel = this.clock.after(this.options.shutdownDelayMs ?? 100, () => {
      this.powerOffs.delete(domain.vmId);
      this.end(domain, "shutdown").catch((error: unknown) =>
        this.log.error("a simulated guest cannot end", { reason: asRoostError(error).message }),
      );
    });
    this.powerOffs.set(domain.vmId, cancel);
  }

  /** False if it is so already. */
  private async change(ref: DomainRef, state: StoredDomain["state"]): Promise<boolean> {
    const domain = await this.require(ref);
    if (domain.incoming === true) throw new RoostError({ kind: "precondition", reason: `domain ${refKey(ref)} is still arriving` });
    if (domain.state === state || (domain.state === "shutting-down" && state === "running")) return false;
    const changed = { ...domain, state };
    if (!(await this.store.update(changed))) throw noSuchDomain(ref);
    this.seen.set(domain.vmId, changed);
    const { vmId, generation } = domain;
    if (state === "paused") this.emit({ kind: "paused", vmId, generation });
    if (state === "running") this.emit({ kind: "resumed", vmId, generation });
    return true;
  }

  private async state(ref: DomainRef): Promise<DomainStatus | null> {
    const domain = await this.find(ref);
    if (domain !== null) return this.status(domain);
    const spec = this.defined.get(refKey(ref));
    return spec === undefined ? null : definedStatus(spec);
  }

  private async stats(ref: DomainRef): Promise<DomainStats> {
    const domain = await this.require(ref);
    const ranMs = Math.max(0, this.clock.wallMs() - domain.startedWallMs);
    return {
      cpuTimeNs: ranMs * 1_000_000 * domain.cpus,
      memoryRssKib: domain.memoryMib * 1024,
      diskReadBytes: 0,
      diskWriteBytes: 0,
      netRxBytes: 0,
      netTxBytes: 0,
    };
  }

  private async remove(domain: StoredDomain, cause: "shutdown" | "destroyed" | "crashed"): Promise<void> {
    this.powerOffs.get(domain.vmId)?.();
    this.powerOffs.delete(domain.vmId);
    await this.store.remove(domain.vmId);
    this.seen.delete(domain.vmId);
    this.emit({ kind: "gone", cause, vmId: domain.vmId, generation: domain.generation });
  }

  /** The running domain that is exactly `ref` and ours. */
  private async find(ref: DomainRef): Promise<StoredDomain | null> {
    const domain = await this.store.get(ref.vmId);
    return domain !== null && domain.generation === ref.generation && domain.clusterId === this.options.clusterId ? domain : null;
  }

  private async require(ref: DomainRef): Promise<StoredDomain> {
    const domain = await this.find(ref);
    if (domain === null) throw noSuchDomain(ref);
    return domain;
  }

  private status({ vmId, generation, clusterId, name, state }: StoredDomain): DomainStatus | null {
    return clusterId === this.options.clusterId ? { vmId, generation, clusterId, name, state } : null;
  }

  private emit(event: DomainEvent): void {
    for (const listener of this.listeners) listener(event);
  }

  /** First use: takes what runs already as known, and from then on looks for changes made by others. */
  private async begin(): Promise<void> {
    if (this.stopWatching !== null || this.closed) return;
    this.stopWatching = () => {};
    await this.exclusive(async () => {
      for (const domain of await this.store.list()) {
        if (this.status(domain) === null) continue;
        this.seen.set(domain.vmId, domain);
        // Its former driver died with the power-off still to come.
        if (domain.state === "shutting-down") this.powerOffLater(domain);
      }
    });
    this.stopWatching = this.store.watch(() => void this.look());
    if (this.store.shared) this.poll();
  }

  private poll(): void {
    if (this.closed) return;
    this.cancelPoll = this.clock.after(this.options.pollMs ?? 250, () => void this.look().then(() => this.poll()));
  }

  /** Compares the store with what was told: one look at a time, and one more if something changed meanwhile. */
  private look(): Promise<void> {
    if (this.looking !== null) {
      this.lookAgain = true;
      return this.looking;
    }
    this.looking = this.exclusive(() => this.compare())
      .catch((error: unknown) =>
        this.log.warn("the simulated hypervisor's domains cannot be read", { reason: asRoostError(error).message }),
      )
      .then(() => {
        this.looking = null;
        if (!this.lookAgain) return;
        this.lookAgain = false;
        return this.look();
      });
    return this.looking;
  }

  private async compare(): Promise<void> {
    const there = new Map((await this.store.list()).map((domain) => [domain.vmId, domain]));
    if (this.closed || !this.connected) return;
    for (const [vmId, { generation }] of this.seen) {
      if (there.get(vmId)?.generation === generation) continue;
      this.seen.delete(vmId);
      this.powerOffs.get(vmId)?.();
      this.powerOffs.delete(vmId);
      this.emit({ kind: "gone", cause: "destroyed", vmId, generation });
    }
    for (const [vmId, domain] of there) {
      if (this.status(domain) === null || this.seen.has(vmId)) continue;
      this.seen.set(vmId, domain);
      this.emit({ kind: "started", vmId, generation: domain.generation });
    }
  }

  /** One change or look at a time, so that a look never sees half of our own change and tells it as somebody else's. */
  private exclusive<T>(body: () => Promise<T>): Promise<T> {
    const result = this.tail.then(body);
    this.tail = result.then(
      () => {},
      () => {}, // told to the caller
    );
    return result;
  }
}

function definedStatus({ vmId, generation, clusterId, name }: DomainSpec): DomainStatus {
  return { vmId, generation, clusterId, name, state: "defined" };
}
