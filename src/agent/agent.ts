/**
 * The node's loop: claims and domains in, plans out (reconcile.ts), done by the executor. Driver events, changes of the
 * state and a poll each only say "look again" (VM-10).
 */
import { asRoostError, RoostError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import type { Duplex } from "node:stream";
import type { Logger } from "../base/log.ts";
import type { TlsIdentity } from "../base/rpc.ts";
import { within } from "../base/time-limit.ts";
import type { Change, Store } from "../cluster/store.ts";
import type { DomainEvent, DomainStatus, Driver } from "../hypervisor/driver.ts";
import { claimOn } from "../model/claims.ts";
import type { Node, NodeInfo } from "../model/node.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import { isTaskId } from "../model/task.ts";
import type { Command } from "../state/commands.ts";
import { Confiner } from "./confiner.ts";
import { Executor } from "./executor.ts";
import type { Keeper } from "./keeper/client.ts";
import type { KeeperStatus } from "./keeper/protocol.ts";
import { Memory } from "./memory.ts";
import { push } from "./migration/source.ts";
import { immigrate } from "./migration/target.ts";
import { specOf } from "./operations.ts";
import type { Telling, Volumes } from "./operations.ts";
import { isStillWanted, jobId, planBlind, planCancel, reconcile, SHUTDOWN_AGAIN_MS } from "./reconcile.ts";
import type { Plan, SentJob } from "./reconcile.ts";
import { sentJobs } from "./sent-jobs.ts";

export interface AgentOptions {
  nodeId: string;
  apiAddress: string;
  peerAddress: string;
  /** Names this run of the agent: what it began and did not answer, no later one repeats (TSK-4). */
  run: string;
  /** Plans carried out at once. */
  parallel: number;
  /** Look at everything at least this often, should events be lost (VM-10). */
  pollMs?: number;
}

export interface AgentDeps {
  store: Store;
  driver: Driver;
  keeper: Keeper;
  /** Starts or replaces the keeper's process; resolves when it answers. */
  ensureKeeper(): Promise<void>;
  volumes: Volumes;
  nodeInfo(): Promise<NodeInfo>;
  serialLogPath(vm: Vm): string | null;
  /** Of this node, for its calls to others' agents. */
  identity(): TlsIdentity;
  clock: Clock;
  log: Logger;
}

const POLL_MS = 30_000;
const KEEPER_CHECK_MS = 500;
const RETRY_MS = 500;
const LIST_LIMIT_MS = 15_000;
const READ_LIMIT_MS = 5_000;
/** A domain that is missing without an event waits this long for the event, which says why it ended. */
const EVENT_GRACE_MS = 300;

export class Agent {
  readonly #options: AgentOptions;
  readonly #deps: AgentDeps;
  readonly #log: Logger;
  #executor: Executor | null = null;
  #running = false;
  #fresh = false;
  #needsHello = true;
  /** A look is wanted; `#looking` while one is under way. */
  #wanted = false;
  #looking: Promise<void> | null = null;
  /** VMs whose plan ended during the present look: what it saw of them may be old. */
  readonly #endedMeanwhile = new Set<string>();
  readonly #missingSince = new Map<string, number>();
  readonly #memory: Memory;
  readonly #cancels = new Set<() => void>();
  #cancelDue = (): void => {};
  #status: { keeper: KeeperStatus; atMs: number } | null = null;
  #greeted = "";
  #restoring: Promise<void> | null = null;
  #lastInfo = "";
  /** Of the keeper when the node was last described because of it: looks read its status, too. */
  #describedNonce = "";
  readonly #confiner: Confiner;
  #resolveReady: () => void = () => {};
  /** Resolves when the node has said hello for the first time since `start`. */
  readonly ready: Promise<void>;

  constructor(options: AgentOptions, deps: AgentDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#log = deps.log.child("agent");
    this.#memory = new Memory(deps.clock);
    this.#confiner = new Confiner({ nodeId: options.nodeId, driver: deps.driver, log: this.#log });
    this.ready = new Promise((resolve) => {
      this.#resolveReady = resolve;
    });
  }

  /** Begins to work towards being ready; see `ready`. */
  start(): void {
    if (this.#running) return;
    this.#running = true;
    const { store, driver } = this.#deps;
    this.#cancels.add(store.subscribe((change) => this.#onChange(change)));
    this.#cancels.add(driver.watch((event) => this.#onEvent(event)));
    this.#every(this.#options.pollMs ?? POLL_MS, () => {
      this.look();
      this.#background("reporting the node's information", () => this.reportInfo());
    });
    this.#every(KEEPER_CHECK_MS, () => this.#background("looking after the keeper", () => this.#checkKeeper()));
    this.#background("looking after the keeper", () => this.#checkKeeper());
    this.#background("reading the claims", () => this.#refresh());
  }

  /** Stops looking and waits for plans under way; VMs stay as they are, and the keeper goes on. */
  async stop(): Promise<void> {
    this.#running = false;
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
    await this.#looking;
    await this.#executor?.stop();
  }

  /**
   * Commits a parked claim (HA-9): the VMs survive if the agent is back within the duration. The park counts from a
   * heartbeat minted before it was proposed, so the leader's count, from when it applied the park, is never shorter.
   */
  async park(durationMs: number): Promise<void> {
    const { store, keeper } = this.#deps;
    const beat = await keeper.beat();
    await store.propose({ type: "node.park", nodeId: this.#options.nodeId, durationMs }, { actor: this.#actor });
    const reply = await keeper.park(beat.seq, durationMs);
    if (reply.ok) return;
    // The cluster counts on a park that the keeper does not hold: the next hello takes it back.
    this.#needsHello = true;
    this.look();
    throw new RoostError({ kind: "conflict", reason: `the keeper refused to park: ${reply.detail}` });
  }

  /** Takes a VM in that another node's agent sends, if the cluster's state says so. */
  immigrate(from: string, stream: Duplex): void {
    const executor = this.#executor;
    const { store, volumes } = this.#deps;
    const { nodeId } = this.#options;
    const clusterId = store.view().cluster?.id ?? "";
    const place = { nodeId, clusterId, view: () => store.view(), serialLogPath: (vm: Vm) => this.#deps.serialLogPath(vm) };
    void immigrate(
      {
        nodeId,
        read: () => store.read({ timeoutMs: READ_LIMIT_MS }),
        // Before its hello the node does not know yet what is left here.
        occupy: (ref, run) =>
          this.#running && !this.#needsHello && executor?.occupy({ ...ref, goal: "immigrate", job: null, actions: [] }, run) === true,
        arriving: (vm, signal) => volumes.arriving(vm, signal),
        spec: (vm, ref, attachments) => specOf(vm, ref, attachments, place),
        log: this.#log,
      },
      from,
      stream,
    );
  }

  /** To be called by whoever finds that the keeper does not answer. */
  keeperLost(): void {
    this.#background("looking after the keeper", () => this.#checkKeeper());
  }

  /** Asks for a look at everything; many calls make one look. */
  look(): void {
    this.#wanted = true;
    if (this.#looking !== null || !this.#running) return;
    this.#looking = this.#lookWhileWanted().finally(() => {
      this.#looking = null;
      if (this.#wanted && this.#running) this.look();
    });
  }

  get #actor(): string {
    return `node:${this.#options.nodeId}`;
  }

  async #lookWhileWanted(): Promise<void> {
    while (this.#wanted && this.#running) {
      this.#wanted = false;
      try {
        await this.#lookOnce();
      } catch (error) {
        const reason = asRoostError(error).message;
        this.#log.warn("the node could not be looked at; trying again", { reason });
        this.#workBlindly(reason);
        this.#lookIn(RETRY_MS);
        return;
      }
    }
  }

  async #lookOnce(): Promise<void> {
    const { store, clock } = this.#deps;
    const cluster = store.view().cluster;
    if (cluster === null) return; // the state is not here yet; its arrival is a change
    const executor = (this.#executor ??= this.#newExecutor(cluster.id));
    this.#endedMeanwhile.clear();
    const busyBefore = executor.busy;
    const domains = await this.#listDomains();
    const status = await this.#keeperStatus();
    const view = store.view();
    const nowMs = clock.monotonicMs();
    const registered = new Map(status.vms.map((vm) => [vm.vmId, vm]));
    const vms = this.#relevant(view, domains, registered);
    const { nodeId, run } = this.#options;
    const jobs = this.#noteJobs(view, executor);
    const memory = this.#memory;
    const input = { clusterId: cluster.id, nodeId, run, fresh: this.#fresh, nowMs, vms, jobs, domains, registered, memory: memory.vms };
    const plans = reconcile(input);
    const known = (domain: DomainStatus): boolean => {
      const vm = vms.get(domain.vmId);
      const held = vm === undefined ? null : claimOn(vm, nodeId);
      const kept = registered.get(domain.vmId);
      return held?.generation === domain.generation && kept?.generation === domain.generation;
    };
    // A start under way may bring up what this look has not seen.
    const starting = [...busyBefore.values()].some(
      ({ goal, job }) => goal === "adopt" || goal === "immigrate" || (job?.name === "power-on" && !job.undo),
    );
    const clean = !starting && domains.every((domain) => domain.clusterId !== cluster.id || known(domain));
    if (this.#fresh) executor.interrupt((plan) => !isStillWanted(view.vms.get(plan.vmId) ?? null, nodeId, plan));
    for (const plan of plans) {
      if (busyBefore.has(plan.vmId) || this.#endedMeanwhile.has(plan.vmId)) continue;
      if (!this.#waitsForEvent(plan, vms, nowMs)) executor.submit(plan);
    }
    this.#lookWhenDue(jobs, nowMs);
    this.#confiner.follow(view);
    const listed = new Set([...domains.map((domain) => domain.vmId), ...registered.keys()]);
    memory.forget((vmId, generation) => {
      const vm = view.vms.get(vmId);
      return (
        (vm !== undefined && claimOn(vm, nodeId)?.generation === generation) ||
        jobs.get(vmId)?.generation === generation ||
        listed.has(vmId) ||
        executor.busy.has(vmId)
      );
    });
    for (const vmId of this.#missingSince.keys()) if (!vms.has(vmId)) this.#missingSince.delete(vmId);
    if (clean && this.#endedMeanwhile.size === 0) await this.#whenClean(status, view.nodes.get(nodeId));
    else if (this.#endedMeanwhile.size > 0) this.#wanted = true;
  }

  /** Looks at the jobs: time runs for those that wait for a guest, the cancelled are ended, and so are plans whose claim has gone. */
  #noteJobs(view: View, executor: Executor): Map<string, SentJob> {
    const { nodeId } = this.#options;
    const jobs = sentJobs(view, nodeId);
    if (!this.#fresh) return jobs;
    for (const [vmId, job] of jobs) {
      const ref = { vmId, generation: job.generation };
      if (job.name === "wait-for-power-off") this.#memory.job(ref, job);
    }
    for (const vmId of view.claimsByNode.get(nodeId) ?? []) {
      const vm = view.vms.get(vmId);
      // Power-on was not sent yet, so no domain of this generation has ever been.
      if (vm?.state === "prolog" && vm.claim !== null) this.#memory.of({ vmId, generation: vm.claim.generation }).untouched = true;
    }
    for (const [vmId, plan] of executor.busy) {
      const job = jobs.get(vmId);
      const mine = plan.job !== null && job !== undefined && jobId(job.key) === jobId(plan.job.key);
      const remembered = this.#memory.vms.get(vmId);
      // A guest that may run by now is not called off: what its start came to is told, and that is undone.
      const ran = job?.name === "power-on" && remembered?.generation === plan.generation && remembered.resumed;
      const cancel = mine && plan.goal === "job" && !ran ? planCancel(vmId, job) : null;
      if (cancel !== null) executor.submit(cancel);
      const claim = view.vms.get(vmId)?.claim ?? null;
      const held = claim?.nodeId === nodeId && claim.generation === plan.generation;
      if (plan.goal === "job" && !mine && !held) executor.drop(vmId, "its claim has ended");
    }
    return jobs;
  }

  /** Nothing else tells that time has passed. */
  #lookWhenDue(jobs: ReadonlyMap<string, SentJob>, nowMs: number): void {
    let dueMs = Infinity;
    for (const [vmId, memory] of this.#memory.vms) {
      if (memory.notBeforeMs > nowMs) dueMs = Math.min(dueMs, memory.notBeforeMs);
      const job = jobs.get(vmId);
      if (job === undefined || memory.job?.id !== jobId(job.key)) continue;
      dueMs = Math.min(dueMs, memory.job.sinceMs + job.limitMs);
      if (job.name === "wait-for-power-off") dueMs = Math.min(dueMs, (memory.shutdownAskedMs ?? nowMs) + SHUTDOWN_AGAIN_MS);
    }
    this.#cancelDue();
    this.#cancelDue = dueMs === Infinity ? () => {} : this.#lookIn(dueMs - nowMs + 5);
  }

  /** The hypervisor does not say what runs: disks are worked on all the same, and starts that never began are given up in time. */
  #workBlindly(reason: string): void {
    const { store, clock } = this.#deps;
    const executor = this.#executor;
    const view = store.view();
    if (!this.#fresh || executor === null || view.cluster === null) return;
    const { nodeId } = this.#options;
    for (const [vmId, job] of this.#noteJobs(view, executor)) {
      const vm = view.vms.get(vmId);
      const ref = { vmId, generation: job.generation };
      if (vm?.claim?.nodeId !== nodeId || vm.claim.generation !== job.generation || executor.busy.has(vmId)) continue;
      this.#memory.job(ref, job).lastProblem = `the hypervisor does not answer: ${reason}`;
      const memory = this.#memory.vms.get(vmId) ?? null;
      const plan = planBlind(vm, job, memory, this.#memory.isUntouched(ref), clock.monotonicMs());
      if (plan !== null) executor.submit(plan);
    }
  }

  /** Everything that runs here is registered, and nothing older is left. */
  async #whenClean(status: KeeperStatus, node: Node | undefined): Promise<void> {
    const { keeper, store } = this.#deps;
    if (!this.#fresh) return;
    if (!status.settled) await keeper.settled();
    // Its claims were ended while it was away: it must show again that nothing of them is left.
    if (node?.state === "fenced") this.#needsHello = true;
    if (!this.#needsHello || node === undefined) return;
    // A park's time must be given up before the cluster forgets the park (docs/never-twice.md, rule 9).
    const reply = await keeper.unpark();
    if (!reply.ok) {
      this.#lookIn(RETRY_MS);
      return;
    }
    const info = await this.#deps.nodeInfo();
    const { nodeId, run, apiAddress, peerAddress } = this.#options;
    // What others than the present leader have granted, it cannot know.
    const held = node.leftOut === undefined ? {} : { heldMs: heldMs(await keeper.list()) };
    await store.propose(
      { type: "node.hello", nodeId, run, info, parkRevision: node.parkRevision, ...held, apiAddress, peerAddress },
      { actor: this.#actor },
    );
    this.#lastInfo = JSON.stringify(info);
    this.#needsHello = false;
    this.#log.info("ready", { nodeId });
    this.#resolveReady();
    this.look();
  }

  /** True if a missing domain should be given a moment, for the event that says why. */
  #waitsForEvent(plan: Plan, vms: ReadonlyMap<string, Vm>, nowMs: number): boolean {
    const state = vms.get(plan.vmId)?.state;
    const memory = this.#memory.vms.get(plan.vmId);
    const crashed = plan.actions.some(
      (action) => action.op === "report" && action.observed.kind === "gone" && action.observed.cause === "crashed",
    );
    if (!crashed || state !== "running" || (memory?.generation === plan.generation && memory.gone !== null)) {
      this.#missingSince.delete(plan.vmId);
      return false;
    }
    const since = this.#missingSince.get(plan.vmId) ?? nowMs;
    this.#missingSince.set(plan.vmId, since);
    if (nowMs - since >= EVENT_GRACE_MS) return false;
    this.#lookIn(EVENT_GRACE_MS - (nowMs - since) + 5);
    return true;
  }

  #relevant(view: View, domains: readonly DomainStatus[], registered: ReadonlyMap<string, unknown>): Map<string, Vm> {
    const { nodeId } = this.#options;
    const vms = new Map<string, Vm>();
    const add = (vmId: string): void => {
      const vm = view.vms.get(vmId);
      if (vm !== undefined) vms.set(vmId, vm);
    };
    for (const vmId of view.claimsByNode.get(nodeId) ?? []) add(vmId);
    for (const domain of domains) add(domain.vmId);
    for (const vmId of registered.keys()) add(vmId);
    for (const taskId of view.tasksByNode.get(nodeId) ?? []) add(view.tasks.get(taskId)?.object.id ?? "");
    return vms;
  }

  async #listDomains(): Promise<DomainStatus[]> {
    const session = await this.#within(this.#deps.driver.login(), LIST_LIMIT_MS, "logging in to the hypervisor");
    try {
      return await this.#within(session.list(), LIST_LIMIT_MS, "listing domains");
    } finally {
      await this.#within(session.logout(), LIST_LIMIT_MS, "logging out of the hypervisor");
    }
  }

  #newExecutor(clusterId: string): Executor {
    const { store, driver, keeper, volumes, clock } = this.#deps;
    return new Executor(
      { parallel: this.#options.parallel },
      {
        clusterId,
        nodeId: this.#options.nodeId,
        driver,
        keeper,
        volumes,
        push: (session, vm, ref, signal) =>
          push({ view: () => store.view(), identity: () => this.#deps.identity(), log: this.#log }, session, vm, ref, signal),
        memory: this.#memory,
        tell: this.#telling(),
        serialLogPath: (vm) => this.#deps.serialLogPath(vm),
        clock,
        log: this.#log,
        view: () => store.view(),
        ended: (vmId) => {
          this.#endedMeanwhile.add(vmId);
          this.look();
        },
      },
    );
  }

  #telling(): Telling {
    const { nodeId, run } = this.#options;
    const propose = async (command: Command): Promise<void> => void (await this.#deps.store.propose(command, { actor: this.#actor }));
    /** The row has moved on (claim ended, task finished): there is nobody left to tell. */
    const unlessLate = async (what: string, command: Command): Promise<void> => {
      try {
        await propose(command);
      } catch (error) {
        const { fault } = asRoostError(error);
        if (fault.kind !== "precondition" && fault.kind !== "not-found") throw error;
        this.#log.debug(`${what} came too late`, { reason: asRoostError(error).message });
      }
    };
    return {
      report: (vmId, generation, observed) => unlessLate("a report", { type: "vm.report", vmId, nodeId, generation, run, observed }),
      begin: ({ key }) => propose({ type: "task.begin", ...key, nodeId, run }),
      answer: ({ key, generation }, error, steps) =>
        unlessLate("an answer", {
          type: "task.answer",
          ...key,
          nodeId,
          generation,
          outcome: error === null ? { ok: true } : { ok: false, error },
          steps: [...steps],
        }),
      progress: ({ key }, steps, progress) => unlessLate("a job's progress", { type: "task.progress", ...key, nodeId, steps, progress }),
    };
  }

  #onChange(change: Change): void {
    const { nodeId } = this.#options;
    if (change.changedIds.has(nodeId)) return this.look();
    for (const id of change.changedIds) {
      const task = isTaskId(id) ? change.view.tasks.get(id) : undefined;
      if (task?.jobs.some((job) => job.nodeId === nodeId) === true) return this.look();
      const vm = change.view.vms.get(id);
      if (vm === undefined || claimOn(vm, nodeId) !== null || vm.homeNodeId === nodeId) return this.look();
    }
  }

  #onEvent(event: DomainEvent): void {
    if (event.kind === "gone") {
      const { vmId, generation } = event;
      const cause = event.cause === "unknown" ? "crashed" : event.cause;
      const detail = event.cause === "crashed" ? "the hypervisor's process ended" : "";
      this.#memory.gone({ vmId, generation }, { kind: "gone", cause, detail });
    }
    if (event.kind === "disconnected") this.#log.warn("the hypervisor is not reachable", { reason: event.reason });
    else this.look();
  }

  /** Claims as they certainly are, before anything is destroyed or started (HA-7). */
  async #refresh(): Promise<void> {
    while (this.#running && !this.#fresh) {
      try {
        await this.#deps.store.read({ timeoutMs: READ_LIMIT_MS });
        this.#fresh = true;
      } catch (error) {
        this.#log.info("waiting for the cluster to read this node's claims", { reason: asRoostError(error).message });
        this.look(); // what matches the claims as last known is registered meanwhile
        await new Promise<void>((resolve) => this.#deps.clock.after(RETRY_MS, resolve));
      }
    }
    this.look();
  }

  async #keeperStatus(): Promise<KeeperStatus> {
    const atMs = this.#deps.clock.monotonicMs();
    const keeper = await this.#deps.keeper.list();
    this.#status = { keeper, atMs };
    const killLeadMs = this.#deps.store.view().cluster?.settings["ha.killLeadMs"];
    if (killLeadMs !== undefined && this.#greeted !== `${keeper.nonce} ${killLeadMs}`) {
      await this.#deps.keeper.hello(killLeadMs);
      this.#greeted = `${keeper.nonce} ${killLeadMs}`;
    }
    return keeper;
  }

  async #checkKeeper(): Promise<void> {
    if (this.#restoring !== null) return await this.#restoring;
    const before = this.#status;
    try {
      const status = await this.#keeperStatus();
      // A new keeper knows none of the domains; what it ended is to be reported.
      if (status.nonce !== before?.keeper.nonce || status.vms.some((vm) => vm.phase !== "live")) this.look();
      // Its guardian may be another one.
      if (status.nonce !== this.#describedNonce && !this.#needsHello) {
        this.#describedNonce = status.nonce;
        this.#background("reporting the node's information", () => this.reportInfo());
      }
    } catch {
      this.#restoring = this.#restoreKeeper().finally(() => {
        this.#restoring = null;
      });
      await this.#restoring;
    }
  }

  async #restoreKeeper(): Promise<void> {
    this.#log.warn("the keeper does not answer; starting another");
    try {
      await this.#deps.ensureKeeper();
      this.look();
    } catch (error) {
      this.#log.error("no keeper could be started", { reason: asRoostError(error).message });
      await this.#endWithoutKeeper();
    }
  }

  /** HA-3: without a keeper nothing renews the deadline; when it comes, the agent ends the VMs itself. */
  async #endWithoutKeeper(): Promise<void> {
    const view = this.#deps.store.view();
    const leadMs = view.cluster?.settings["ha.killLeadMs"] ?? 500;
    const known = this.#status;
    const leftMs = known === null ? 0 : known.keeper.deadlineMs - known.keeper.nowMs - (this.#deps.clock.monotonicMs() - known.atMs);
    if (leftMs > leadMs) return;
    const domains = (await this.#listDomains()).filter(
      (domain) => domain.clusterId === view.cluster?.id && view.vms.get(domain.vmId)?.claim?.deadline !== false,
    );
    if (domains.length === 0) return;
    this.#log.error("the deadline passed without a keeper: ending its VMs", { vms: domains.length });
    const session = await this.#within(this.#deps.driver.login(), LIST_LIMIT_MS, "logging in to the hypervisor");
    const ends = await Promise.allSettled(domains.map((domain) => this.#within(session.destroy(domain), LIST_LIMIT_MS, "ending a domain")));
    await this.#within(session.logout(), LIST_LIMIT_MS, "logging out of the hypervisor");
    for (const end of ends)
      if (end.status === "rejected") this.#log.error("a domain could not be ended", { reason: asRoostError(end.reason).message });
  }

  /** Tells the cluster what the node has, if that changed; called by itself with each poll. */
  async reportInfo(): Promise<void> {
    if (this.#needsHello) return;
    const info = await this.#deps.nodeInfo();
    const text = JSON.stringify(info);
    if (text === this.#lastInfo) return;
    await this.#deps.store.propose({ type: "node.info", nodeId: this.#options.nodeId, info }, { actor: this.#actor });
    this.#lastInfo = text;
  }

  #background(what: string, work: () => Promise<void>): void {
    work().catch((error: unknown) => {
      if (this.#running) this.#log.warn(`${what} failed`, { reason: asRoostError(error).message });
    });
  }

  /** Returns the way to call it off. */
  #lookIn(delayMs: number): () => void {
    if (!this.#running) return () => {};
    const cancel = this.#deps.clock.after(Math.max(1, delayMs), () => {
      this.#cancels.delete(cancel);
      this.look();
    });
    this.#cancels.add(cancel);
    return () => {
      this.#cancels.delete(cancel);
      cancel();
    };
  }

  async #within<T>(work: Promise<T>, afterMs: number, what: string): Promise<T> {
    return await within(work, afterMs, what, this.#deps.clock);
  }

  #every(periodMs: number, run: () => void): void {
    let cancel = (): void => {};
    const again = (): void => {
      cancel = this.#deps.clock.after(periodMs, () => {
        run();
        if (this.#running) again();
      });
    };
    again();
    this.#cancels.add(() => cancel());
  }
}

/** How long the keeper lets VMs run yet, rounded up, ms. */
function heldMs({ deadlineMs, nowMs }: KeeperStatus): number {
  return Math.max(0, Math.ceil(deadlineMs - nowMs));
}
