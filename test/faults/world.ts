/** A whole cluster on virtual time: three machines, consensus, heartbeats, and one fault to come. */
import { silentLogger, createLogger } from "../../src/base/log.ts";
import type { Logger } from "../../src/base/log.ts";
import type { RoostError } from "../../src/base/errors.ts";
import { seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import type { Pool } from "../../src/model/pool.ts";
import { isSent } from "../../src/model/task.ts";
import type { Task } from "../../src/model/task.ts";
import type { Vm } from "../../src/model/vm.ts";
import type { Command } from "../../src/state/commands.ts";
import type { CommandResult } from "../../src/state/outcome.ts";
import { VirtualClock } from "./clock.ts";
import { Consensus, Replica } from "./consensus.ts";
import { Host } from "./host.ts";
import { Shelf } from "./memory-pool.ts";

const HEARTBEAT_MS = 500;
const CLAIM_MS = 4_000;
const SUSPECT_MS = 1_500;
const EXPIRE_MS = CLAIM_MS + 250;

/** A call of an agent to the outside, or a command on its way to the log. */
export interface Call {
  operation: string;
  /** VM, volume or owner. */
  subject: string;
  nodeId: string;
  phase: "before" | "after";
}

/** Rules that can be broken, to see that the checks see it. */
export const MUTATIONS = [
  "forget to end what was started",
  "forget to delete what was made",
  "take a deposed leader's dispatch",
  "repeat what cannot be repeated",
  "take a failed undo for done",
  "leave sessions open",
] as const;
export type Mutation = (typeof MUTATIONS)[number];

export interface WorldOptions {
  disks: "shared" | "local";
  /** Of delays, and of who is elected; the course of a case follows from it. */
  seed: number;
  mutation?: Mutation | null;
  /** Prints what agents log. */
  verbose?: boolean;
}

export class World {
  readonly clock = new VirtualClock();
  readonly consensus: Consensus;
  readonly hosts: Host[] = [];
  readonly log: Logger;
  /** Asked at each call; what it answers is thrown. */
  onCall: (call: Call) => RoostError | null = () => null;
  /** Effects at the hypervisors by `operation vmId`. */
  readonly effects = new Map<string, number>();
  /** What must never be, in words. */
  violation: string | null = null;
  readonly #shelves = new Map<string, Shelf>();
  readonly #lastBeatMs = new Map<string, number>();
  readonly #deciding = new Set<string>();
  #electedMs = 0;
  #electedTerm = 0;
  #ids = 0;

  /** Of the VM that is created. */
  readonly disks: "shared" | "local";

  readonly random: Random;
  readonly mutation: Mutation | null;

  constructor({ disks, seed, mutation = null, verbose = false }: WorldOptions) {
    this.disks = disks;
    this.random = seededRandom(seed);
    this.mutation = mutation;
    this.consensus = new Consensus(this);
    const write = (line: string): void => console.log(`${Math.round(this.clock.nowMs)} ${line}`);
    this.log = verbose ? createLogger({ level: "debug", write, nowMs: () => this.clock.wallMs() }) : silentLogger;
    for (const name of ["n1", "n2", "n3"]) {
      const replica = new Replica(name, this.consensus);
      this.consensus.replicas.push(replica);
      this.hosts.push(new Host(replica, this));
    }
    this.consensus.onCommand = (command, phase, from) => this.#onCommand(command, phase, from);
  }

  /** A short while, ms. */
  moment(): number {
    return 0.5 + 3 * this.random.unit();
  }

  newId(): string {
    return `00000000-0000-4000-8000-${String(++this.#ids).padStart(12, "0")}`;
  }

  at(call: Call): RoostError | null {
    return this.onCall(call);
  }

  happened(operation: string, vmId: string): void {
    const key = `${operation} ${vmId}`;
    this.effects.set(key, (this.effects.get(key) ?? 0) + 1);
    void this.#neverTwice(vmId);
  }

  effectsOf(operation: string, vmId: string): number {
    return this.effects.get(`${operation} ${vmId}`) ?? 0;
  }

  async #neverTwice(vmId: string): Promise<void> {
    const found = await Promise.all(this.hosts.map(async (host) => ({ host, domain: await host.domains.get(vmId) })));
    const running = found.filter(({ domain }) => domain !== null && domain.state !== "paused");
    // A VM that was paused by its owner counts, too; one that is being started, or was left behind, does not.
    if (running.length > 1) this.violation ??= `${vmId} runs on ${running.map(({ host }) => host.nodeId).join(" and ")}`;
  }

  shelfOf(pool: Pool, nodeId: string): Shelf {
    const key = pool.shared ? pool.id : `${pool.id} ${nodeId}`;
    const shelf = this.#shelves.get(key) ?? new Shelf();
    this.#shelves.set(key, shelf);
    return shelf;
  }

  get shelves(): ReadonlyMap<string, Shelf> {
    return this.#shelves;
  }

  /** The newest that any replica has. */
  get state(): Replica["state"] {
    return this.consensus.replicas.reduce((best, replica) => (replica.state.index > best.state.index ? replica : best)).state;
  }

  vm(vmId: string): Vm | undefined {
    return this.state.vms.get(vmId);
  }

  openTasks(vmId: string): Task[] {
    return (this.state.tasksByObject.get(vmId) ?? []).flatMap((id) => this.state.tasks.get(id) ?? []);
  }

  /** The job that its agent has now, for the name of a moment. */
  sentJob(vmId: string): { name: string; undo: boolean } | null {
    for (const task of this.openTasks(vmId)) {
      const job = task.jobs.find(isSent);
      if (job !== undefined) return { name: job.name, undo: job.state === "undo-sent" };
    }
    return null;
  }

  /** Nothing is under way for it, nothing waits. */
  isQuiet(vmId: string): boolean {
    return this.openTasks(vmId).length === 0;
  }

  describe(vmId: string): string {
    const vm = this.vm(vmId);
    const tasks = [...this.state.tasks.values()].filter(({ object }) => object.id === vmId).slice(-3);
    const jobs = (task: Task): string =>
      task.jobs
        .map((job) => `${job.name} ${job.state}${job.error === null ? "" : ` (${job.error.code}: ${job.error.message})`}`)
        .join(", ");
    const row = vm === undefined ? "absent" : `${vm.state} on ${vm.claim?.nodeId ?? "-"}, wants ${vm.desired.power}, ${vm.reason ?? ""}`;
    const nodes = [...this.state.nodes.values()].map(({ name, state }) => `${name} ${state}`).join(" ");
    return `${row}; ${tasks.map((task) => `${task.id} ${task.action} ${task.state}: ${jobs(task)}`).join("; ")}; ${nodes} at ${Math.round(this.clock.nowMs)} ms`;
  }

  // Faults, each with its own end.

  killAgent(host: Host): void {
    if (host.process === null) return;
    const led = this.consensus.leader === host.replica;
    host.killAgent();
    if (led) void this.consensus.depose();
    this.clock.after(led ? 3_000 : 1_000, () => host.startAgent());
  }

  /** Another leads, and this one goes on as if it did, for a while. */
  depose(host: Host): void {
    host.replica.believes = this.consensus.term;
    void this.consensus.depose();
    this.clock.after(6_000, () => (host.replica.believes = null));
  }

  loseHypervisor(host: Host): void {
    const { hypervisor } = host;
    if (hypervisor === null) return;
    hypervisor.disconnect("injected");
    this.clock.after(3_000, () => hypervisor.reconnect());
  }

  loseHost(host: Host): void {
    if (!host.alive) return;
    const led = this.consensus.leader === host.replica;
    host.powerOff();
    if (led) void this.consensus.depose();
    this.clock.after(15_000, () => host.powerOn());
  }

  /** A VM is being turned off by a job. */
  isEnding(): boolean {
    return [...this.state.vms.keys()].some((vmId) => /power-off/.test(this.sentJob(vmId)?.name ?? ""));
  }

  isUndoing(): boolean {
    return [...this.state.vms.keys()].some((vmId) => this.sentJob(vmId)?.undo === true);
  }

  host(nodeId: string): Host {
    return this.hosts.find((host) => host.nodeId === nodeId) as Host;
  }

  /** Of a user: at a node that works, again until somebody answers. */
  async request(command: Command): Promise<CommandResult> {
    const requestId = `user-${++this.#ids}@${this.clock.wallMs()}`;
    for (;;) {
      const host = this.hosts.find((candidate) => candidate.process !== null);
      if (host === undefined) {
        await this.clock.sleep(100);
        continue;
      }
      const answer = host.replica.propose(command, { actor: "user:test", requestId, timeoutMs: 2_000 });
      try {
        // Whoever was asked may die with the answer.
        return await Promise.race([answer, this.clock.sleep(2_500).then(() => Promise.reject(new Error("no answer")))]);
      } catch (error) {
        const kind = (error as Partial<RoostError>).fault?.kind;
        if (kind !== undefined && kind !== "unavailable") throw error;
      }
    }
  }

  async found(): Promise<void> {
    const joining = (id: string) => ({ id, name: id, zone: "", labels: {}, apiAddress: `${id}:1`, peerAddress: `${id}:2` });
    const log = (command: Command): void => {
      const envelope = {
        requestId: this.consensus.nextRequest(0),
        origin: "n1",
        atMs: this.clock.wallMs(),
        actor: "test",
        term: 0,
        command,
      };
      this.consensus.log.push({ term: 1, envelope });
    };
    log({ type: "cluster.init", clusterId: "c", name: "c", caCertificate: "", caKey: "", node: joining("n1") });
    log({ type: "token.create", id: "t", secretHash: "h", ttlMs: 3_600_000, uses: 9 });
    for (const id of ["n2", "n3"]) {
      log({ type: "node.join", tokenId: "t", secretHash: "h", node: joining(id) });
      log({ type: "node.join-confirm", nodeId: id });
    }
    // Nobody asks later why a VM is where it is.
    log({ type: "setting.update", key: "scheduler.historyMib", value: 0 });
    for (const shared of [true, false]) {
      const name = shared ? "images" : "local";
      log({ type: "pool.create", pool: { id: `p-${name}`, name, kind: "dir", path: `/${name}`, shared } });
    }
    for (const host of this.hosts) host.powerOn();
    this.consensus.lead(this.consensus.replicas[0] as Replica);
    this.#tick();
    const base = { name: "base.raw", format: "raw" as const, sizeBytes: 2 ** 20, allocatedBytes: 2 ** 20 };
    for (const pool of this.state.pools.values())
      for (const { nodeId } of this.hosts) this.shelfOf(pool, nodeId).volumes.set(base.name, base);
    if (!(await this.clock.until(() => this.allReady(), 30_000))) throw new Error("the cluster does not come up");
  }

  allReady(): boolean {
    const { leader } = this.consensus;
    return (
      leader !== null &&
      leader.leadership().leading &&
      this.hosts.every((host) => host.process !== null && host.replica.state.index === this.state.index) &&
      [...this.state.nodes.values()].every((node) => node.state === "ready" || node.state === "disabled")
    );
  }

  /** Heartbeats, and what the leader's detector decides of their absence. */
  #tick(): void {
    const { clock, consensus } = this;
    const { leader } = consensus;
    clock.after(HEARTBEAT_MS / 2, () => this.#tick());
    if (leader === null || !leader.running || !leader.leadership().leading) return;
    if (consensus.term !== this.#electedTerm) {
      this.#electedTerm = consensus.term;
      this.#electedMs = clock.nowMs;
    }
    const { state } = leader;
    for (const host of this.hosts) {
      const { nodeId } = host;
      if (host.process !== null) {
        this.#lastBeatMs.set(nodeId, clock.nowMs);
        const claims = [...(state.claimsByNode.get(nodeId) ?? [])].map((vmId) => ({
          vmId,
          generation: state.vms.get(vmId)?.claim?.generation ?? 0,
        }));
        host.beat(CLAIM_MS, state.nodes.get(nodeId)?.claimRevision ?? 0, claims);
      }
      const row = state.nodes.get(nodeId);
      if (row === undefined || row.info === null) continue;
      const silentMs = clock.nowMs - Math.max(this.#lastBeatMs.get(nodeId) ?? 0, this.#electedMs);
      const holds = [...(state.claimsByNode.get(nodeId) ?? [])].some((vmId) => state.vms.get(vmId)?.claim?.deadline === true);
      const alive = row.state === "ready" || row.state === "disabled";
      if (alive && silentMs > SUSPECT_MS) this.#decide({ type: "node.suspect", nodeId, silentMs });
      else if (row.state === "unreachable" && host.process !== null) this.#decide({ type: "node.alive", nodeId });
      else if (row.state === "unreachable" && silentMs > EXPIRE_MS && holds) {
        const proof = { kind: "expiry" as const, nodeId, term: consensus.term, sinceAckMs: silentMs, grantedMs: CLAIM_MS, marginMs: 250 };
        this.#decide({ type: "node.expire", nodeId, proof, lastHeartbeatMs: 0, leaderChanged: false, suspectMs: 0 });
      }
    }
  }

  #decide(command: Command & { nodeId: string }): void {
    const key = `${command.type} ${command.nodeId}`;
    const { leader, term } = this.consensus;
    if (this.#deciding.has(key) || leader === null) return;
    this.#deciding.add(key);
    const over = (): void => void this.#deciding.delete(key);
    leader.propose(command, { actor: "leader", term, timeoutMs: 3_000 }).then(over, over);
    // A killed leader never hears.
    this.clock.after(4_000, over);
  }

  #onCommand(command: Command, phase: Call["phase"], nodeId: string): void {
    const tell = (operation: string, subject: string): void => void this.at({ operation, subject, nodeId, phase });
    switch (command.type) {
      case "task.dispatch":
        for (const { taskId, path, undo } of command.sends) {
          const task = this.state.tasks.get(taskId);
          const job = task?.jobs.find((one) => one.path === path);
          tell(`${undo ? "undo-" : ""}send:${job?.name ?? path}`, task?.object.id ?? "");
        }
        return;
      case "task.begin":
        return tell("begin", this.state.tasks.get(command.taskId)?.object.id ?? "");
      case "task.answer":
        return tell("answer", this.state.tasks.get(command.taskId)?.object.id ?? "");
      case "vm.place":
        for (const { vmId } of command.placements) tell("place", vmId);
        return;
      case "vm.report":
        return tell(`report:${command.observed.kind}`, command.vmId);
      default:
    }
  }
}
