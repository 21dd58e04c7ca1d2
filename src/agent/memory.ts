/** What the agent remembers of VMs between two looks. Nothing depends on it for safety: it is lost with the agent. */
import type { Clock } from "../base/clock.ts";
import type { DomainRef } from "../hypervisor/driver.ts";
import { TASK_LIMITS, type JobProgress, type Step, type TaskError } from "../model/task.ts";
import type { VmObservation } from "../state/commands.ts";
import { jobId, type JobMemory, type SentJob, type VmMemory } from "./reconcile.ts";

/** Pause after a passing failure: doubles from the first to the last while they follow each other. */
const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 5_000;

interface JobRecord extends JobMemory {
  steps: Step[];
  progress: JobProgress | null;
  /** What of it the cluster was told: steps, and the text of the progress. */
  told: string;
}

interface Remembered extends VmMemory {
  job: JobRecord | null;
  /** This run saw the generation before power-on was sent, and has started nothing of it. */
  untouched: boolean;
  /** Passing failures one after the other. */
  failures: number;
}

export class Memory {
  readonly #clock: Clock;
  readonly #vms = new Map<string, Remembered>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get vms(): ReadonlyMap<string, VmMemory> {
    return this.#vms;
  }

  of({ vmId, generation }: DomainRef): Remembered {
    const known = this.#vms.get(vmId);
    if (known?.generation === generation) return known;
    const fresh: Remembered = {
      generation,
      gone: null,
      shutdownAskedMs: null,
      resumed: false,
      job: null,
      notBeforeMs: 0,
      untouched: false,
      failures: 0,
    };
    this.#vms.set(vmId, fresh);
    return fresh;
  }

  /** A job is worked on: its time runs from the first call on. */
  job(ref: DomainRef, { key }: SentJob): JobRecord {
    const memory = this.of(ref);
    const id = jobId(key);
    if (memory.job?.id === id) return memory.job;
    memory.job = {
      id,
      sinceMs: this.#clock.monotonicMs(),
      acted: false,
      failed: null,
      lastProblem: "",
      steps: [],
      progress: null,
      told: "",
    };
    return memory.job;
  }

  step(ref: DomainRef, job: SentJob, name: string, detail: string): void {
    const { steps } = this.job(ref, job);
    const last = steps.at(-1);
    // Waiting again for the same is no news.
    if (last?.name === name && last.detail === detail) return;
    if (steps.length < TASK_LIMITS.stepsPerJob) steps.push({ atMs: Math.floor(this.#clock.wallMs()), name, detail });
  }

  fail(ref: DomainRef, job: SentJob, error: TaskError): void {
    this.job(ref, job).failed = error;
  }

  /** The VM is left alone for a moment, longer each time. */
  retryLater(ref: DomainRef): void {
    const memory = this.of(ref);
    const pauseMs = Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** memory.failures);
    memory.failures = Math.min(memory.failures + 1, 10);
    memory.notBeforeMs = this.#clock.monotonicMs() + pauseMs;
  }

  /** How a domain ended; the first word counts. */
  gone(ref: DomainRef, observed: VmObservation & { kind: "gone" }): void {
    this.of(ref).gone ??= observed;
  }

  isUntouched({ vmId, generation }: DomainRef): boolean {
    const memory = this.#vms.get(vmId);
    return memory?.generation === generation && memory.untouched;
  }

  delete(vmId: string): void {
    this.#vms.delete(vmId);
  }

  /** Forgets what concerns no claim and no work any more. */
  forget(keep: (vmId: string, generation: number) => boolean): void {
    for (const [vmId, { generation }] of this.#vms) if (!keep(vmId, generation)) this.#vms.delete(vmId);
  }
}
