/**
 * Does what reconcile planned: the actions of one VM one after the other, VMs side by side up to a limit (VM-11), each
 * action with a time limit. It knows nothing of why.
 */
import { asRoostError, RoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Clock } from "../base/clock.ts";
import type { CpuPlacement, DirectBoot, DiskAttachment, DomainRef, DomainSpec, Driver, Session } from "../hypervisor/driver.ts";
import { claimOn } from "../model/claims.ts";
import type { View } from "../model/view.ts";
import type { Claim, Vm } from "../model/vm.ts";
import type { VmObservation } from "../state/commands.ts";
import type { Keeper, KeeperReply } from "./keeper/client.ts";
import type { Action, Goal, Plan, VmMemory } from "./reconcile.ts";

/** Where a VM's disks come from; implemented on the pools. Both are idempotent. */
export interface Volumes {
  prepare(vm: Vm, signal: AbortSignal): Promise<{ boot: DirectBoot | null; disks: DiskAttachment[] }>;
  /** Deletes clones and swap; never a disk that was not made for the VM. */
  clean(vm: Vm, signal: AbortSignal): Promise<void>;
  /** The disks of a VM that arrives by live migration: open elsewhere, and never made new. */
  arriving(vm: Vm, signal: AbortSignal): Promise<{ boot: DirectBoot | null; disks: DiskAttachment[] }>;
}

/** Moves a running domain to the node of `migration`; resolves when it is paused here and whole there. `over` ends the connection. */
export type Push = (session: Session, vm: Vm, ref: DomainRef, signal: AbortSignal) => Promise<{ over(): void }>;

export interface ExecutorDeps {
  clusterId: string;
  nodeId: string;
  driver: Driver;
  keeper: Keeper;
  volumes: Volumes;
  push: Push;
  /** The newest local state. */
  view(): View;
  report(vmId: string, generation: number, observed: VmObservation): Promise<void>;
  /** Where the serial console is written; null for nowhere. */
  serialLogPath(vm: Vm): string | null;
  clock: Clock;
  log: Logger;
  /** A plan ended: look at the VM again. */
  ended(vmId: string): void;
}

export interface ExecutorOptions {
  /** Plans carried out at once. */
  parallel: number;
  /** Time limit of preparing disks and of a start. */
  bootTimeoutMs(): number;
}

/** Time limit of an action that should be quick. */
const QUICK_MS = 15_000;
/** After a passing failure. */
const RETRY_MS = 500;

interface Work {
  plan: Plan;
  /** In the place of the plan's actions: what somebody else's call began. */
  run: ((session: Session, signal: AbortSignal) => Promise<void>) | null;
  abort: AbortController;
  /** What overtakes it, to be started when it has ended. */
  next: Plan | null;
}

/** A refusal of the keeper, with what it means for the VM. */
class Refused extends Error {
  readonly reply: KeeperReply & { ok: false };
  constructor(reply: KeeperReply & { ok: false }) {
    super(`the keeper refused: ${reply.detail}`);
    this.reply = reply;
  }
}

export class Executor {
  readonly #deps: ExecutorDeps;
  readonly #options: ExecutorOptions;
  readonly #working = new Map<string, Work>();
  /** Waiting for a free place; one plan a VM, so it is no longer than the VMs are many. */
  readonly #waiting = new Map<string, Plan>();
  readonly #memory = new Map<string, VmMemory>();
  #stopped = false;
  #idle: (() => void)[] = [];

  constructor(options: ExecutorOptions, deps: ExecutorDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  get memory(): ReadonlyMap<string, VmMemory> {
    return this.#memory;
  }

  /** VMs that have a plan under way or waiting, and its goal. */
  get busy(): ReadonlyMap<string, Goal> {
    const goals = new Map<string, Goal>();
    for (const [vmId, plan] of this.#waiting) goals.set(vmId, plan.goal);
    for (const [vmId, work] of this.#working) goals.set(vmId, work.next?.goal ?? work.plan.goal);
    return goals;
  }

  /** Takes a plan; the same goal for a VM already being worked on changes nothing. */
  submit(plan: Plan): void {
    if (this.#stopped) return;
    const work = this.#working.get(plan.vmId);
    if (work !== undefined) {
      if (work.plan.goal === plan.goal && work.plan.generation === plan.generation) return;
      const overtakes = plan.goal === "end" || plan.goal === "leftover" || (plan.goal === "shutdown" && work.plan.goal === "start");
      if (!overtakes) return; // it is looked at again when the present plan ends
      work.next = plan;
      work.abort.abort(new RoostError({ kind: "conflict", reason: `overtaken: ${plan.goal}` }));
      return;
    }
    this.#waiting.set(plan.vmId, plan);
    this.#fill();
  }

  /**
   * Does `run` as the VM's only work, if it has none; false if it has. What it leaves behind is found by the next look.
   * It must end when the signal is given.
   */
  occupy(plan: Plan, run: (tools: { session: Session; signal: AbortSignal; register: () => Promise<void> }) => Promise<void>): boolean {
    if (this.#stopped || this.#working.has(plan.vmId) || this.#waiting.has(plan.vmId)) return false;
    const work: Work = {
      plan,
      run: (session, signal) =>
        run({ session, signal, register: () => this.#do({ op: "register" }, { plan, session, signal, attachments: null, pushed: null }) }),
      abort: new AbortController(),
      next: null,
    };
    this.#working.set(plan.vmId, work);
    void this.#work(work);
    return true;
  }

  /** Ends what is under way and not wanted any more; the next look decides what comes after it. */
  interrupt(unwanted: (plan: Plan) => boolean): void {
    for (const work of this.#working.values()) {
      if (unwanted(work.plan)) work.abort.abort(new RoostError({ kind: "conflict", reason: `${work.plan.goal} is over` }));
    }
  }

  /** How a domain ended, from the driver's event. */
  noteGone(ref: DomainRef, cause: "shutdown" | "destroyed" | "crashed" | "unknown"): void {
    const memory = this.#remember(ref.vmId, ref.generation);
    memory.gone ??= {
      kind: "gone",
      cause: cause === "unknown" ? "crashed" : cause,
      detail: cause === "crashed" ? "the hypervisor's process ended" : "",
    };
  }

  /** It will not be started any more, only reported, again and again if need be. For a VM without a plan under way. */
  noteNeverStarted(ref: DomainRef, detail: string): VmObservation & { kind: "gone" } {
    const memory = this.#remember(ref.vmId, ref.generation);
    memory.gone ??= { kind: "gone", cause: "never-started", detail };
    return memory.gone;
  }

  /** Forgets what concerns no claim and no work any more. */
  forget(keep: (vmId: string, generation: number) => boolean): void {
    for (const [vmId, memory] of this.#memory) if (!keep(vmId, memory.generation) && !this.#working.has(vmId)) this.#memory.delete(vmId);
  }

  /** Takes no more plans, aborts those under way and waits for them. VMs are left as they are. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#waiting.clear();
    for (const work of this.#working.values()) {
      work.next = null;
      work.abort.abort(new RoostError({ kind: "unavailable", reason: "the agent stops" }));
    }
    if (this.#working.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #remember(vmId: string, generation: number): VmMemory {
    const known = this.#memory.get(vmId);
    if (known?.generation === generation) return known;
    const memory: VmMemory = { generation, gone: null, shutdownAsked: null, notBeforeMs: 0 };
    this.#memory.set(vmId, memory);
    return memory;
  }

  #noteShutdown(ref: DomainRef): void {
    const memory = this.#remember(ref.vmId, ref.generation);
    const nowMs = this.#deps.clock.monotonicMs();
    memory.shutdownAsked = { firstMs: memory.shutdownAsked?.firstMs ?? nowMs, lastMs: nowMs };
  }

  #fill(): void {
    for (const [vmId, plan] of this.#waiting) {
      if (this.#working.size >= this.#options.parallel) return;
      this.#waiting.delete(vmId);
      const work: Work = { plan, run: null, abort: new AbortController(), next: null };
      this.#working.set(vmId, work);
      void this.#work(work);
    }
  }

  async #work(work: Work): Promise<void> {
    const { plan } = work;
    const log = this.#deps.log.child("executor", { vmId: plan.vmId, generation: plan.generation, goal: plan.goal });
    let session: Session | null = null;
    try {
      session = await limited("logging in to the hypervisor", QUICK_MS, null, () => this.#deps.driver.login());
      if (work.run !== null) await work.run(session, work.abort.signal);
      else await this.#carryOut(work, session, log);
    } catch (error) {
      log.warn("a plan failed", { reason: asRoostError(error).message });
      this.#remember(plan.vmId, plan.generation).notBeforeMs = this.#deps.clock.monotonicMs() + RETRY_MS;
    }
    const open = session;
    if (open !== null) {
      await limited("logging out of the hypervisor", QUICK_MS, null, () => open.logout()).catch((error: unknown) =>
        log.warn("logging out failed", { reason: asRoostError(error).message }),
      );
    }
    this.#working.delete(plan.vmId);
    if (work.next !== null && !this.#stopped) this.#waiting.set(plan.vmId, work.next);
    this.#fill();
    if (this.#working.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
    if (!this.#stopped && work.next === null) this.#deps.ended(plan.vmId);
  }

  async #carryOut(work: Work, session: Session, log: Logger): Promise<void> {
    const { plan } = work;
    const context: Context = { plan, session, signal: work.abort.signal, attachments: null, pushed: null };
    try {
      await this.#actions(work, context, log);
    } finally {
      context.pushed?.over();
    }
  }

  async #actions(work: Work, context: Context, log: Logger): Promise<void> {
    const { plan } = work;
    const last = plan.actions.at(-1);
    for (const action of plan.actions) {
      try {
        work.abort.signal.throwIfAborted();
        // The keeper forgets why it ended: if the report fails, the next look makes it again from here.
        if (action.op === "unregister" && last?.op === "report" && last.observed.kind === "gone")
          this.#remember(plan.vmId, plan.generation).gone = last.observed;
        await this.#do(action, context);
      } catch (error) {
        if (action.op === "push") {
          await this.#notMigrated(work, context, error, log);
          return;
        }
        if (plan.goal !== "start" && plan.goal !== "adopt") throw error;
        // Overtaken or stopping: the next plan, or the next agent, finds things as they are.
        if (work.abort.signal.aborted) throw error;
        await this.#undo(action, context, error, log);
        return;
      }
    }
    if (plan.goal === "end") this.#memory.delete(plan.vmId);
  }

  /** The source keeps its VM; the target is told by the cluster. An abort has told it already, or it is the agent that stops. */
  async #notMigrated(work: Work, context: Context, error: unknown, log: Logger): Promise<void> {
    const { message } = asRoostError(error);
    log.warn("a VM was not migrated", { reason: message });
    if (work.abort.signal.aborted) return;
    await this.#do({ op: "report", observed: { kind: "not-migrated", detail: message } }, context);
  }

  /** A start or adoption failed: nothing of it may stay, and the cluster is told, unless it only has to wait. */
  async #undo(action: Action, context: Context, error: unknown, log: Logger): Promise<void> {
    const { plan } = context;
    const refusal = error instanceof Refused ? error.reply : null;
    log.warn("could not be done", { op: action.op, reason: asRoostError(error).message });
    if (refusal === null && plan.goal === "adopt") throw error; // the keeper did not answer; the domain runs on until its guardian's deadline
    if (action.op === "report" && action.observed.kind === "running") throw error; // it runs; the next look reports again
    const undo: Context = { ...context, signal: new AbortController().signal };
    await this.#do({ op: "destroy" }, undo);
    await this.#do({ op: "undefine" }, undo);
    await this.#do({ op: "unregister" }, undo);
    const waits =
      refusal !== null && plan.goal === "start" && refusal.reason !== "dead" && refusal.reason !== "limit" && action.op === "register";
    if (waits) throw error;
    const fenced = refusal !== null && refusal.reason !== "limit";
    const observed: VmObservation & { kind: "gone" } = {
      kind: "gone",
      cause: fenced ? "fenced" : "failed",
      detail: asRoostError(error).message,
    };
    // Kept until the cluster has it: if this report fails, the next look makes it again.
    this.#remember(plan.vmId, plan.generation).gone = observed;
    await this.#do({ op: "report", observed }, undo);
    this.#memory.delete(plan.vmId);
  }

  async #do(action: Action, context: Context): Promise<void> {
    const { plan, session, signal } = context;
    const { keeper, driver, volumes } = this.#deps;
    const ref: DomainRef = { vmId: plan.vmId, generation: plan.generation };
    const quick = (what: string, run: () => Promise<void>): Promise<void> => limited(what, QUICK_MS, signal, run);
    switch (action.op) {
      case "prepare-disks":
        context.attachments = await limited("preparing disks", this.#options.bootTimeoutMs(), signal, () =>
          volumes.prepare(this.#row(ref), signal),
        );
        return;
      case "register": {
        const { deadline } = this.#held(ref);
        const node = this.#deps.view().nodes.get(this.#deps.nodeId);
        // At least 1: a keeper that knows no claim set yet (revision 0) takes the agent's word until the first one comes.
        const revision = Math.max(1, node?.claimRevision ?? 0);
        return await this.#ask(keeper.register({ ...ref, revision, deadline, recipe: driver.killRecipe(ref) }));
      }
      case "define": {
        const vm = this.#row(ref);
        return await quick("defining the domain", () => session.define(this.#spec(vm, ref, context)));
      }
      case "start-paused":
        return await limited("starting the domain", this.#options.bootTimeoutMs(), signal, () => session.start(ref, { paused: true }));
      case "confirm":
        this.#row(ref);
        return await this.#ask(keeper.confirm(ref));
      case "resume":
        return await quick("resuming the domain", () => session.resume(ref));
      case "shutdown":
        this.#noteShutdown(ref);
        return await quick("asking the guest to shut down", () => session.shutdown(ref));
      case "destroy":
        return await limited("ending the domain", QUICK_MS, null, () => session.destroy(ref));
      case "undefine":
        return await quick("forgetting the domain", () => session.undefine(ref));
      case "unregister":
        return await this.#ask(keeper.unregister(ref));
      case "push": {
        const vm = this.#row(ref);
        context.pushed = await this.#deps.push(session, vm, ref, signal);
        return;
      }
      case "clean-disks": {
        const vm = this.#deps.view().vms.get(plan.vmId);
        if (vm === undefined) return;
        return await limited("deleting disks", this.#options.bootTimeoutMs(), signal, () => volumes.clean(vm, signal));
      }
      case "report":
        await limited("reporting", QUICK_MS, null, () => this.#deps.report(ref.vmId, ref.generation, action.observed));
        // The next request to shut down counts from its own beginning.
        if (action.observed.kind === "shutdown-ignored") this.#remember(ref.vmId, ref.generation).shutdownAsked = null;
        return;
    }
  }

  async #ask(asked: Promise<KeeperReply>): Promise<void> {
    const reply = await asked;
    if (!reply.ok) throw new Refused(reply);
  }

  /** What this node holds of the VM in this generation: its claim, or what is arriving. */
  #held(ref: DomainRef): Claim {
    const vm = this.#deps.view().vms.get(ref.vmId);
    const held = vm === undefined ? null : claimOn(vm, this.#deps.nodeId);
    if (held?.generation === ref.generation) return held;
    throw new RoostError({ kind: "conflict", reason: `generation ${ref.generation} is no longer this node's` });
  }

  /** The VM's row, if this node still holds the claim of this generation: what is still arriving is none. */
  #row(ref: DomainRef): Vm {
    const vm = this.#deps.view().vms.get(ref.vmId);
    if (vm?.claim?.nodeId !== this.#deps.nodeId || vm.claim.generation !== ref.generation) {
      throw new RoostError({ kind: "conflict", reason: `generation ${ref.generation} is no longer claimed by this node` });
    }
    return vm;
  }

  #spec(vm: Vm, ref: DomainRef, context: Context): DomainSpec {
    if (context.attachments === null)
      throw new RoostError({ kind: "internal", reason: "a domain is defined before its disks are prepared" });
    return specOf(vm, ref, context.attachments, this.#deps);
  }
}

/** What the driver is told of a VM. */
export function specOf(
  vm: Vm,
  { vmId, generation }: DomainRef,
  attachments: { boot: DirectBoot | null; disks: DiskAttachment[] },
  { clusterId, nodeId, view, serialLogPath }: Pick<ExecutorDeps, "clusterId" | "nodeId" | "view" | "serialLogPath">,
): DomainSpec {
  const { name, cpus, memoryMib, nics } = vm.definition;
  return {
    vmId,
    generation,
    clusterId,
    name,
    cpus,
    cpu: vm.definition.cpu ?? null,
    cpuPlacement: cpuPlacementOf(view(), vm, nodeId),
    memoryMib,
    ...attachments,
    nics: nics.map(({ mac, bridge, model }) => ({ mac, bridge, model })),
    serialLogPath: serialLogPath(vm),
  };
}

/** A pinned VM has its CPUs; the others share what is left, so that exclusive means it. Null where every CPU is anybody's. */
export function cpuPlacementOf(view: Pick<View, "vms" | "nodes" | "claimsByNode">, vm: Vm, nodeId: string): CpuPlacement | null {
  const numa = view.nodes.get(nodeId)?.info?.cpuTopology?.numa ?? [];
  const own = claimOn(vm, nodeId)?.cpus;
  if (own !== undefined) {
    const home = numa.find((node) => own.every((cpu) => node.cpus.includes(cpu)));
    return { kind: "pinned", cpus: own, numaNode: vm.definition.cpuPinning?.numa === "one" ? (home?.id ?? null) : null };
  }
  const taken = new Set<number>();
  for (const id of view.claimsByNode.get(nodeId) ?? []) {
    for (const cpu of claimOn(view.vms.get(id) ?? { claim: null }, nodeId)?.cpus ?? []) taken.add(cpu);
  }
  const left = numa.flatMap((node) => node.cpus).filter((cpu) => !taken.has(cpu));
  return taken.size === 0 || left.length === 0 ? null : { kind: "shared", cpus: left.toSorted((a, b) => a - b) };
}

interface Context {
  plan: Plan;
  session: Session;
  signal: AbortSignal;
  attachments: { boot: DirectBoot | null; disks: DiskAttachment[] } | null;
  /** Held until the plan has ended: its end is how the other side learns that nothing more will come. */
  pushed: { over(): void } | null;
}

/** Waits no longer than the limit, and not past an abort. The work itself may go on: what it does later is found by the next look. */
async function limited<T>(what: string, afterMs: number, signal: AbortSignal | null, run: () => Promise<T>): Promise<T> {
  let onAbort = (): void => {};
  let timer: NodeJS.Timeout | undefined;
  const guard = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new RoostError({ kind: "timeout", what, afterMs })), afterMs);
    onAbort = (): void => reject(asRoostError(signal?.reason));
    signal?.addEventListener("abort", onAbort, { once: true });
  });
  try {
    const work = run();
    work.catch(() => {}); // if the guard wins, the late failure is of no interest
    return await Promise.race([work, guard]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
