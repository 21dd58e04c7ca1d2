/**
 * The worker for jobs that go to network devices and backup managers: one session a job, its time limit, its answer told until it is taken.
 * What a dead agent leaves is done again by the next one, under the same attempt: these jobs set a state.
 */
import type { Clock } from "../base/clock.ts";
import { asRoostError, isRetryable, RoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { within } from "../base/time-limit.ts";
import type { Store } from "../cluster/store.ts";
import type { ConnectionDriver, ConnectionSession, ConnectionWork } from "../hypervisor/connection.ts";
import type { NodeConnection } from "../model/node.ts";
import { settingsOf } from "../model/placement.ts";
import { JOBS } from "../model/task-definitions.ts";
import { isSent, TASK_LIMITS, type Job, type Step, type Task, type TaskError } from "../model/task.ts";
import type { TaskAnswer } from "../state/commands.ts";

const SESSION_LIMIT_MS = 10_000;
const TELL_AGAIN_MS = 500;

interface Effects {
  clock: Clock;
  log: Logger;
}

export class ConnectionWorker {
  readonly #nodeId: string;
  readonly #store: Store;
  readonly #drivers: readonly ConnectionDriver[];
  readonly #effects: Effects;
  /** By task, path and attempt. */
  readonly #working = new Map<string, AbortController>();
  #stop: () => void = () => {};
  #running = false;

  constructor(nodeId: string, store: Store, drivers: readonly ConnectionDriver[], effects: Effects) {
    this.#nodeId = nodeId;
    this.#store = store;
    this.#drivers = drivers;
    this.#effects = effects;
  }

  start(): void {
    this.#running = true;
    this.#stop = this.#store.subscribe(() => this.#look());
    this.#look();
  }

  /** Sessions are logged out; what is under way is not answered. */
  stop(): void {
    this.#running = false;
    this.#stop();
    for (const controller of this.#working.values()) controller.abort();
  }

  /** For the node's report: the cluster counts slots by it. */
  connections(): NodeConnection[] {
    return this.#drivers.map(({ pool, name, kind, maxSessions, vdcs }) => ({ pool, name, driver: kind, maxSessions, vdcs }));
  }

  #look(): void {
    const view = this.#store.view();
    for (const taskId of view.tasksByNode.get(this.#nodeId) ?? []) {
      const task = view.tasks.get(taskId);
      for (const job of task?.jobs ?? []) {
        if (task === undefined || !isSent(job) || job.nodeId !== this.#nodeId || JOBS[job.name].pool === "compute") continue;
        const key = `${task.id} ${job.path} ${job.attempt}`;
        const controller = this.#working.get(key);
        if (controller === undefined) void this.#run(key, task, job);
        // Called off: its undo follows, so the sooner it ends the better.
        else if (task.cancel !== null && job.state === "sent") controller.abort();
      }
    }
  }

  async #run(key: string, task: Task, job: Job): Promise<void> {
    const controller = new AbortController();
    this.#working.set(key, controller);
    const steps: Step[] = [];
    let error: TaskError | null = null;
    try {
      await this.#work(task, job, controller, steps);
    } catch (thrown) {
      error = controller.signal.aborted && task.cancel === null && this.#isCancelled(task) ? CANCELLED : errorOf(thrown);
    }
    try {
      if (this.#running) await this.#tell(task, job, error === null ? { ok: true } : { ok: false, error }, steps);
    } finally {
      this.#working.delete(key);
    }
  }

  #isCancelled({ id }: Task): boolean {
    return this.#store.view().tasks.get(id)?.cancel !== null;
  }

  async #work(task: Task, job: Job, controller: AbortController, steps: Step[]): Promise<void> {
    const { pool, limit } = JOBS[job.name];
    const { clock } = this.#effects;
    const driver = this.#drivers.find((one) => one.pool === pool && one.name === task.connection);
    if (driver === undefined) throw new RoostError({ kind: "precondition", reason: `this node has no ${pool} ${task.connection ?? ""}` });
    const work: ConnectionWork = {
      job: job.name,
      taskId: task.id,
      vmId: task.object.id,
      vmName: task.object.name,
      vdc: task.vdc,
      signal: controller.signal,
      step: (name, detail) => {
        if (steps.length < TASK_LIMITS.stepsPerJob) steps.push({ atMs: clock.wallMs(), name, detail });
      },
    };
    const session = await within(driver.login(), SESSION_LIMIT_MS, `logging in to ${pool} ${driver.name}`, clock);
    const setting = limit ?? "vm.operationTimeoutMs";
    const limitMs = Number(settingsOf(this.#store.view())[setting]);
    const what = `${job.state === "undo-sent" ? "the undo of " : ""}${job.name}`;
    try {
      const done = job.state === "undo-sent" ? session.undo(work) : session.apply(work);
      await within(done, limitMs, what, clock);
    } catch (thrown) {
      const { fault } = asRoostError(thrown);
      controller.abort();
      throw fault.kind === "timeout" ? new RoostError({ kind: "timeout", what, afterMs: limitMs, setting }) : thrown;
    } finally {
      await this.#logout(driver, session);
    }
  }

  /** A session that does not end is the driver's to count; the job's answer does not depend on it. */
  async #logout(driver: ConnectionDriver, session: ConnectionSession): Promise<void> {
    try {
      await within(session.logout(), SESSION_LIMIT_MS, `logging out of ${driver.pool} ${driver.name}`, this.#effects.clock);
    } catch (thrown) {
      this.#effects.log.warn("a session could not be ended", { name: driver.name, reason: asRoostError(thrown).message });
    }
  }

  /** Until it is taken, or nobody asks for it any more. */
  async #tell(task: Task, job: Job, outcome: TaskAnswer["outcome"], steps: Step[]): Promise<void> {
    const { path, attempt, generation } = job;
    const command = { type: "task.answer", taskId: task.id, path, attempt, nodeId: this.#nodeId, generation, outcome, steps } as const;
    while (this.#running) {
      try {
        await this.#store.propose(command, { actor: `node:${this.#nodeId}` });
        return;
      } catch (thrown) {
        const { fault } = asRoostError(thrown);
        if (!isRetryable(fault)) {
          this.#effects.log.debug("an answer came too late", { task: task.id, path, reason: asRoostError(thrown).message });
          return;
        }
        await new Promise<void>((resolve) => this.#effects.clock.after(TELL_AGAIN_MS, resolve));
      }
    }
  }
}

const CANCELLED: TaskError = { code: "cancelled", message: "cancelled", hint: "" };

function errorOf(thrown: unknown): TaskError {
  const { fault, message, hint } = asRoostError(thrown);
  return { code: fault.kind, message, hint: hint ?? "" };
}
