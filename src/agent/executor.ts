/**
 * Does what reconcile planned: the operations of one VM one after the other, VMs side by side up to a limit (VM-11). What
 * fails for a passing reason is planned again from what is found then; what fails for good is the job's answer.
 */
import { asRoostError, isRetryable, RoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Session } from "../hypervisor/driver.ts";
import { STEPS } from "../model/task-steps.ts";
import type { TaskError } from "../model/task.ts";
import type { VmObservation } from "../state/commands.ts";
import { ClaimLost, JobOverdue, type OperationDeps, Operations, Refused } from "./operations.ts";
import { type Action, NOBODY_KNOWS, overdue, type Plan, type SentJob } from "./reconcile.ts";
import { DiskHeld } from "./volumes.ts";

export interface ExecutorDeps extends OperationDeps {
  log: Logger;
  /** A plan ended: look at the VM again. */
  ended(vmId: string): void;
}

export interface ExecutorOptions {
  /** Plans carried out at once. */
  parallel: number;
}

/** A job that takes longer is told about while it runs, and no more often than this. */
const TELL_MS = 1_000;

interface Work {
  plan: Plan;
  /** In the place of the plan's actions: what somebody else's call began. */
  run: ((tools: Tools) => Promise<void>) | null;
  abort: AbortController;
  /** What overtakes it, to be started when it has ended. */
  next: Plan | null;
}

interface Tools {
  session: Session;
  signal: AbortSignal;
  /** With the keeper. */
  register: () => Promise<void>;
}

export class Executor {
  readonly #deps: ExecutorDeps;
  readonly #options: ExecutorOptions;
  readonly #working = new Map<string, Work>();
  /** Waiting for a free place; one plan a VM, so it is no longer than the VMs are many. */
  readonly #waiting = new Map<string, Plan>();
  #stopped = false;
  #idle: (() => void)[] = [];

  constructor(options: ExecutorOptions, deps: ExecutorDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** What is under way or waiting, by VM. */
  get busy(): ReadonlyMap<string, Plan> {
    const plans = new Map(this.#waiting);
    for (const [vmId, work] of this.#working) plans.set(vmId, work.next ?? work.plan);
    return plans;
  }

  /** Takes a plan; the same for a VM already being worked on changes nothing. */
  submit(plan: Plan): void {
    if (this.#stopped) return;
    const work = this.#working.get(plan.vmId);
    if (work !== undefined) {
      if (work.plan.goal === plan.goal && work.plan.generation === plan.generation) return;
      // Anything else is looked at again when the present plan ends.
      if (plan.goal !== "end" && plan.goal !== "leftover" && plan.goal !== "cancel") return;
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
  occupy(plan: Plan, run: (tools: Tools) => Promise<void>): boolean {
    if (this.#stopped || this.#working.has(plan.vmId) || this.#waiting.has(plan.vmId)) return false;
    const work: Work = { plan, run, abort: new AbortController(), next: null };
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

  /** The plan has lost its ground: what is left is found by the next look. */
  drop(vmId: string, why: string): void {
    if (this.#waiting.delete(vmId)) this.#deps.ended(vmId);
    this.#working.get(vmId)?.abort.abort(new ClaimLost({ kind: "conflict", reason: why }));
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
    const { memory } = this.#deps;
    const log = this.#deps.log.child("executor", {
      vmId: plan.vmId,
      generation: plan.generation,
      goal: plan.goal,
      ...(plan.job === null ? {} : { job: plan.job.name, undo: plan.job.undo, task: plan.job.key.taskId }),
    });
    const operations = new Operations(plan, this.#deps, work.abort.signal);
    if (plan.job !== null) memory.job(plan, plan.job);
    const stopTelling = plan.job === null ? (): void => {} : this.#tellWhile(plan, plan.job, log);
    try {
      const { signal } = work.abort;
      const register = (): Promise<void> => operations.do({ op: "register" });
      if (work.run !== null) await work.run({ session: await operations.session(), signal, register });
      else await this.#carryOut(work, operations, log);
      memory.of(plan).failures = 0;
      if (plan.goal === "end") memory.delete(plan.vmId);
    } catch (error) {
      const reason = asRoostError(error).message;
      log.warn("a plan failed", { reason });
      if (plan.job !== null && !work.abort.signal.aborted) {
        memory.job(plan, plan.job).lastProblem = reason;
        memory.step(plan, plan.job, STEPS.waits, reason);
        void this.#tellProgress(plan, plan.job, log);
      }
      if (work.next === null) memory.retryLater(plan);
    }
    stopTelling();
    await operations.close().catch((error: unknown) => log.warn("logging out failed", { reason: asRoostError(error).message }));
    this.#working.delete(plan.vmId);
    if (work.next !== null && !this.#stopped) this.#waiting.set(plan.vmId, work.next);
    this.#fill();
    if (this.#working.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
    if (!this.#stopped && work.next === null) this.#deps.ended(plan.vmId);
  }

  async #carryOut(work: Work, operations: Operations, log: Logger): Promise<void> {
    const { plan } = work;
    const last = plan.actions.at(-1);
    for (const action of plan.actions) {
      try {
        work.abort.signal.throwIfAborted();
        // The keeper forgets why it ended: if the report fails, the next look makes it again from here.
        if (action.op === "unregister" && last?.op === "report" && last.observed.kind === "gone")
          this.#deps.memory.of(plan).gone = last.observed;
        await operations.do(action);
      } catch (error) {
        if (action.op === "push") return await this.#notMigrated(work, operations, error, log);
        // Overtaken or stopping: the next plan, or the next agent, finds things as they are.
        if (work.abort.signal.aborted && !(error instanceof ClaimLost)) throw error;
        log.warn("could not be done", { op: action.op, reason: asRoostError(error).message });
        await this.#failed(plan, action, operations, error);
        return;
      }
    }
  }

  /** The source keeps its VM; the target is told by the cluster. An abort has told it already, or it is the agent that stops. */
  async #notMigrated(work: Work, operations: Operations, error: unknown, log: Logger): Promise<void> {
    const { message } = asRoostError(error);
    log.warn("a VM was not migrated", { reason: message });
    if (!work.abort.signal.aborted) await operations.do({ op: "report", observed: { kind: "not-migrated", detail: message } });
  }

  /** Decides what a failure means; throws it again if the plan is to be tried again from what is found then. */
  async #failed(plan: Plan, action: Action, operations: Operations, error: unknown): Promise<void> {
    const { job, goal } = plan;
    if (goal !== "job" && goal !== "adopt") throw error;
    // What has no right to run here any more is ended at once, and not only by the next look.
    if (error instanceof ClaimLost && job?.name === "power-on") await this.#end(operations);
    if (error instanceof Refused && isFatal(error, action, goal)) {
      const cause = error.reply.reason === "limit" ? "failed" : "fenced";
      return await this.#gone(plan, operations, { kind: "gone", cause, detail: error.message });
    }
    if (job === null) throw error;
    const { acted } = this.#deps.memory.job(plan, job);
    if (isPassing(action, error, acted)) throw error;
    const failure = errorOf(job, error, acted);
    this.#deps.memory.fail(plan, job, failure);
    await operations.do({ op: "answer", error: failure });
  }

  /** Nothing of it may stay, and the cluster is told. */
  async #gone(plan: Plan, operations: Operations, observed: VmObservation & { kind: "gone" }): Promise<void> {
    const { memory } = this.#deps;
    await this.#end(operations);
    // Kept until the cluster has it: if this report fails, the next look makes it again.
    memory.of(plan).gone = observed;
    await operations.do({ op: "report", observed }, true);
    memory.delete(plan.vmId);
  }

  async #end(operations: Operations): Promise<void> {
    await operations.do({ op: "destroy" }, true);
    await operations.do({ op: "undefine" }, true);
    await operations.do({ op: "unregister" }, true);
  }

  /** Tells how a job is getting on, while it takes long; returns the way to stop. */
  #tellWhile(plan: Plan, job: SentJob, log: Logger): () => void {
    const { clock } = this.#deps;
    let stopped = false;
    let cancel = (): void => {};
    const again = (): void => {
      if (!stopped) cancel = clock.after(TELL_MS, () => void this.#tellProgress(plan, job, log).then(again));
    };
    again();
    return () => {
      stopped = true;
      cancel();
    };
  }

  /** Only news; that it could not be told harms nothing. */
  async #tellProgress(plan: Plan, job: SentJob, log: Logger): Promise<void> {
    const { memory, tell } = this.#deps;
    const record = memory.job(plan, job);
    const news = JSON.stringify([record.steps.length, record.progress]);
    if (record.told === news) return;
    record.told = news;
    try {
      await tell.progress(job, [...record.steps], record.progress);
    } catch (error) {
      log.debug("how a job is getting on could not be told", { reason: asRoostError(error).message });
    }
  }
}

/** The keeper will not have it, now or later: this generation's time is over, or there is no room. */
function isFatal({ reply }: Refused, action: Action, goal: Plan["goal"]): boolean {
  if (action.op === "confirm" || goal === "adopt") return true;
  return action.op === "register" && (reply.reason === "dead" || reply.reason === "limit");
}

/** True if the same may succeed in a moment: neither the cluster, nor the keeper, nor the hypervisor's daemon could be asked. */
function isPassing(action: Action, error: unknown, acted: boolean): boolean {
  // Whether the guest runs is seen by the next look, and not to be guessed: what is taken back goes with what it wrote.
  if (action.op === "resume" && error instanceof JobOverdue) return true;
  if (error instanceof JobOverdue || acted) return false;
  switch (action.op) {
    case "register":
    case "begin":
    case "confirm":
    case "unregister":
    case "report":
    case "answer":
      return true;
    case "push":
    case "prepare-disks":
    case "clean-made":
    case "clean-disks":
      return error instanceof ClaimLost;
    case "reboot":
    case "reset":
    case "define":
    case "start-paused":
    case "resume":
    case "pause":
    case "shutdown":
    case "destroy":
    case "undefine": {
      if (error instanceof ClaimLost) return true;
      const { fault } = asRoostError(error);
      return fault.kind === "unavailable" || fault.kind === "timeout";
    }
  }
}

/** @param acted what must not be repeated was tried */
function errorOf(job: SentJob, thrown: unknown, acted: boolean): TaskError {
  const error = asRoostError(thrown);
  if (acted && (error instanceof JobOverdue || isRetryable(error.fault)))
    return { ...NOBODY_KNOWS, message: `${error.message}: nobody knows whether it happened, and it is not repeated` };
  if (error instanceof JobOverdue) return overdue(job, error.fault.kind === "timeout" ? error.fault.what : error.message);
  if (error instanceof DiskHeld) return { code: "disk-held", message: error.message, hint: error.hint ?? "" };
  return { code: error.fault.kind, message: error.message, hint: error.hint ?? "" };
}
