/**
 * One machine: a hypervisor with its domains, a keeper, and an agent that can be killed at any moment. The agent is the real
 * one; what it calls goes through gates, where a killed agent's calls never come back, before or after their effect.
 */
import { Agent } from "../../src/agent/agent.ts";
import { inspectNode } from "../../src/agent/inspect.ts";
import type { Keeper, KeeperReply } from "../../src/agent/keeper/client.ts";
import { startKeeper, statusOf, step, wakeAtMs } from "../../src/agent/keeper/machine.ts";
import type { KeeperInput, KeeperState } from "../../src/agent/keeper/machine.ts";
import type { KeeperAnswer, KeeperRequest } from "../../src/agent/keeper/protocol.ts";
import { clean, prepare, takeBack } from "../../src/agent/volumes.ts";
import type { Clock } from "../../src/base/clock.ts";
import { RoostError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import { runWhileLeading } from "../../src/cluster/leadership.ts";
import type { DomainEvent, Driver, Session } from "../../src/hypervisor/driver.ts";
import { SimulatedDriver } from "../../src/hypervisor/simulated.ts";
import { MemoryDomainStore } from "../../src/hypervisor/simulated-store.ts";
import type { Inspection } from "../../src/model/doctor.ts";
import type { NodeInfo } from "../../src/model/node.ts";
import { placingService } from "../../src/placing/loop.ts";
import type { StoragePool } from "../../src/storage/pool.ts";
import { tasksService } from "../../src/tasks/loop.ts";
import type { Replica } from "./consensus.ts";
import { MemoryPool } from "./memory-pool.ts";
import type { World } from "./world.ts";

const KILL_LEAD_MS = 500;
const KILL_MS = 20;

/** Operations of a session that change something; the others are not gated. */
const CHANGES = ["define", "undefine", "start", "shutdown", "destroy", "reset", "reboot", "pause", "resume"] as const;

export class Host {
  readonly replica: Replica;
  readonly nodeId: string;
  readonly #world: World;
  alive = false;
  hypervisor: SimulatedDriver | null = null;
  domains = new MemoryDomainStore();
  keeper: KeeperState | null = null;
  process: AgentProcess | null = null;
  #boots = 0;
  #keepers = 0;

  constructor(replica: Replica, world: World) {
    this.replica = replica;
    this.nodeId = replica.nodeId;
    this.#world = world;
  }

  get bootId(): string {
    return `${this.nodeId}-boot${this.#boots}`;
  }

  powerOn(): void {
    const { clock } = this.#world;
    this.alive = true;
    this.#boots++;
    this.domains = new MemoryDomainStore();
    this.hypervisor = new SimulatedDriver(
      { clusterId: "c", shutdownDelayMs: 300, cpus: 64, memoryMib: 65_536 },
      { clock, log: silentLogger, store: this.domains },
    );
    this.keeper = startKeeper({ bootId: this.bootId, nonce: `${this.nodeId}-${++this.#keepers}`, killLeadMs: KILL_LEAD_MS, feed: null });
    this.startAgent();
  }

  powerOff(): void {
    this.killAgent();
    this.alive = false;
    void this.hypervisor?.close();
    this.hypervisor = null;
    this.keeper = null;
    this.domains = new MemoryDomainStore();
  }

  startAgent(): void {
    if (!this.alive || this.process !== null || this.hypervisor === null) return;
    this.replica.start();
    this.process = new AgentProcess(this, this.hypervisor, this.#world);
    this.process.start();
  }

  killAgent(): void {
    this.process?.kill();
    this.process = null;
    this.replica.kill();
  }

  /** The keeper's process: outlives the agent. */
  askKeeper(input: KeeperInput): KeeperAnswer | null {
    if (this.keeper === null) return null;
    const { clock } = this.#world;
    const { state, effects, answer } = step(this.keeper, input, Math.floor(clock.nowMs));
    this.keeper = state;
    const { nonce } = state;
    for (const effect of effects) {
      if (effect.kind !== "kill") continue;
      const { vmId, generation } = effect;
      const { domains } = this;
      clock.after(KILL_MS, () => {
        if (this.keeper?.nonce !== nonce) return;
        void domains.get(vmId).then(async (domain) => {
          if (domain?.generation === generation) await domains.remove(vmId);
          this.askKeeper({ kind: "killed", vmId, generation, gone: true });
        });
      });
    }
    const wake = wakeAtMs(state);
    if (wake < Infinity) {
      clock.after(Math.max(1, wake - clock.nowMs), () => {
        if (this.keeper === state) this.askKeeper({ kind: "tick" });
      });
    }
    return answer;
  }

  /** A heartbeat and its acknowledgement, as consensus carries them. */
  beat(grantedMs: number, claimRevision: number, claims: { vmId: string; generation: number }[]): void {
    const answer = this.askKeeper({ kind: "request", request: { op: "beat" } });
    if (answer === null || !("beat" in answer)) return;
    const { bootId, nonce, seq } = answer.beat;
    this.askKeeper({ kind: "request", request: { op: "ack", bootId, nonce, seq, grantedMs, claimRevision, claims } });
  }

  async inspect(): Promise<Inspection> {
    const agent = this.process;
    if (agent === null) throw new Error(`${this.nodeId} is down`);
    return await inspectNode({
      nodeId: this.nodeId,
      driver: agent.driver,
      keeper: agent.keeper,
      pools: async () => [...agent.pools().values()],
    });
  }
}

/** One run of the agent with the leader's services; what it has in memory is gone with it. */
class AgentProcess {
  alive = true;
  readonly driver: Driver;
  readonly keeper: Keeper;
  readonly #host: Host;
  readonly #world: World;
  readonly #agent: Agent;
  readonly #clock: Clock;
  readonly #sessions = new Set<Session>();
  #stopLeading = (): void => {};
  #stopWatching = (): void => {};

  constructor(host: Host, hypervisor: SimulatedDriver, world: World) {
    this.#host = host;
    this.#world = world;
    const { clock } = world;
    this.#clock = {
      monotonicMs: () => clock.monotonicMs(),
      wallMs: () => clock.wallMs(),
      after: (delayMs, run) => clock.after(delayMs, () => void (this.alive && run())),
    };
    this.driver = this.#driver(hypervisor);
    this.keeper = this.#keeper();
    const call = (): ReadonlyMap<string, StoragePool> => this.pools();
    this.#agent = new Agent(
      { nodeId: host.nodeId, run: world.newId(), apiAddress: `${host.nodeId}:1`, peerAddress: `${host.nodeId}:2`, parallel: 4 },
      {
        store: host.replica,
        driver: this.driver,
        keeper: this.keeper,
        ensureKeeper: () => Promise.resolve(),
        volumes: {
          prepare: (vm, options) => prepare(vm, call(), options),
          takeBack: (vm, options) => takeBack(vm, call(), options),
          clean: (vm, options) => clean(vm, call(), options),
          arriving: (vm, signal) => prepare(vm, call(), { signal, arriving: true }),
        },
        identity: () => ({ ca: "", cert: "", key: "" }),
        nodeInfo: () => Promise.resolve(this.#info()),
        serialLogPath: () => null,
        clock: this.#clock,
        log: world.log,
      },
    );
  }

  start(): void {
    const { replica } = this.#host;
    const services = [
      placingService(replica, { clock: this.#clock, newId: () => this.#world.newId() }),
      tasksService(replica, { clock: this.#clock }),
    ];
    this.#stopLeading = runWhileLeading(replica, services, { clock: this.#clock, log: this.#world.log });
    this.#agent.start();
  }

  kill(): void {
    this.alive = false;
    this.#stopLeading();
    this.#stopWatching();
    // The sockets close with the process.
    for (const session of this.#sessions) void session.logout().catch(() => {});
    this.#sessions.clear();
  }

  pools(): ReadonlyMap<string, StoragePool> {
    const pools = new Map<string, StoragePool>();
    for (const pool of this.#host.replica.view().pools.values()) {
      const shelf = this.#world.shelfOf(pool, this.#host.nodeId);
      const gate = <T>(operation: string, subject: string, change: () => T): Promise<T> =>
        this.#gate(`pool.${operation}`, subject, () => Promise.resolve(change()));
      pools.set(pool.name, new MemoryPool(pool, shelf, this.#host.nodeId, gate));
    }
    return pools;
  }

  /** For ever, once it is dead: nobody of it hears the answer. */
  async #gate<T>(operation: string, subject: string, change: () => Promise<T>): Promise<T> {
    const moment = { operation, subject, nodeId: this.#host.nodeId };
    // Others get their turn meanwhile.
    await this.#living(this.#world.clock.sleep(this.#world.moment()));
    const before = this.#world.at({ ...moment, phase: "before" });
    await this.#living(Promise.resolve());
    if (before !== null) throw before;
    const result = this.#isForgotten(operation) ? ({ ok: true } as T) : await change();
    const after = this.#world.at({ ...moment, phase: "after" });
    await this.#living(Promise.resolve());
    if (after !== null) throw after;
    return result;
  }

  #isForgotten(operation: string): boolean {
    const { mutation } = this.#world;
    if (mutation === "forget to end what was started") return /destroy|undefine|unregister/.test(operation) && !this.#world.isEnding();
    return mutation === "forget to delete what was made" && operation === "pool.delete" && this.#world.isUndoing();
  }

  async #living(wait: Promise<unknown>): Promise<void> {
    await wait;
    if (!this.alive) await new Promise<never>(() => {});
  }

  #driver(hypervisor: SimulatedDriver): Driver {
    const sessions = this.#sessions;
    return {
      kind: "simulated",
      login: async () => {
        await this.#living(this.#world.clock.sleep(this.#world.moment()));
        const real = await hypervisor.login();
        if (!this.alive) await real.logout();
        await this.#living(Promise.resolve());
        sessions.add(real);
        const session: Session = {
          ...real,
          list: async () => {
            const found = await real.list();
            await this.#living(this.#world.clock.sleep(this.#world.moment()));
            return found;
          },
          logout: async () => {
            if (this.#world.mutation === "leave sessions open") return;
            sessions.delete(real);
            await real.logout();
          },
        };
        for (const name of CHANGES) {
          const change = real[name] as (ref: { vmId: string }, options?: unknown) => Promise<void>;
          (session as unknown as Record<string, unknown>)[name] = (ref: { vmId: string }, options?: unknown) =>
            this.#gate(`driver.${name}`, ref.vmId, async () => {
              await change(ref, options);
              this.#world.happened(name, ref.vmId);
            });
        }
        return session;
      },
      capabilities: () => hypervisor.capabilities(),
      sessions: () => sessions.size,
      watch: (listener) => {
        const stop = hypervisor.watch((event: DomainEvent) => void (this.alive && listener(event)));
        this.#stopWatching = stop;
        return stop;
      },
      killRecipe: (ref) => hypervisor.killRecipe(ref),
      close: () => Promise.resolve(),
    };
  }

  #keeper(): Keeper {
    const ask = async (request: KeeperRequest): Promise<KeeperAnswer> => {
      await this.#living(Promise.resolve());
      const answer = this.#host.askKeeper({ kind: "request", request });
      if (answer === null) throw new RoostError({ kind: "unavailable", reason: "no keeper" });
      return answer;
    };
    const reply = async (request: KeeperRequest): Promise<KeeperReply> => {
      const answer = await ask(request);
      return answer.ok ? { ok: true, deadlineMs: 0 } : answer;
    };
    const gated = (request: KeeperRequest & { vmId: string }): Promise<KeeperReply> =>
      this.#gate(`keeper.${request.op}`, request.vmId, () => reply(request));
    return {
      hello: (killLeadMs) => reply({ op: "hello", killLeadMs }),
      beat: async () => {
        const answer = await ask({ op: "beat" });
        if (!("beat" in answer)) throw new RoostError({ kind: "unavailable", reason: "no beat" });
        return answer.beat;
      },
      ack: (acknowledgement) => reply({ op: "ack", ...acknowledgement }),
      register: (registration) => gated({ op: "register", ...registration }),
      confirm: (vm) => gated({ op: "confirm", ...vm }),
      unregister: (vm) => gated({ op: "unregister", ...vm }),
      settled: async () => void (await reply({ op: "settled" })),
      park: (seq, durationMs) => reply({ op: "park", seq, durationMs }),
      unpark: () => reply({ op: "unpark" }),
      list: async () => {
        await this.#living(Promise.resolve());
        if (this.#host.keeper === null) throw new RoostError({ kind: "unavailable", reason: "no keeper" });
        return statusOf(this.#host.keeper, Math.floor(this.#world.clock.nowMs), { pid: 1, guardian: "file" });
      },
      shutdown: () => reply({ op: "shutdown" }),
      close: () => {},
    };
  }

  #info(): NodeInfo {
    const { pools } = this.#host.replica.view();
    return {
      bootId: this.#host.bootId,
      version: "sim",
      driver: "simulated",
      hypervisor: "sim",
      arch: "x86_64",
      hardwareAccelerated: false,
      cpus: 64,
      cpuModel: "sim",
      memoryMib: 65_536,
      reserveMib: 0,
      guardian: "file",
      pools: [...pools.keys()].map((poolId) => ({ poolId, available: true, problem: "", totalBytes: 2 ** 40, freeBytes: 2 ** 39 })),
      bridges: ["br0"],
    };
  }
}
