/** The micro-operations of a plan, one by one, each with a time limit. They know nothing of why. */
import { asRoostError, RoostError } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import type { DirectBoot, DiskAttachment, DomainRef, DomainSpec, Driver, Session } from "../hypervisor/driver.ts";
import { STEPS } from "../model/task-steps.ts";
import type { JobProgress, Step, TaskError } from "../model/task.ts";
import type { View } from "../model/view.ts";
import { claimOn } from "../model/claims.ts";
import type { Claim, Vm } from "../model/vm.ts";
import type { VmObservation } from "../state/commands.ts";
import type { Keeper, KeeperReply } from "./keeper/client.ts";
import { cpuPlacementOf } from "./cpu-placement.ts";
import type { Memory } from "./memory.ts";
import type { Action, Plan, SentJob } from "./reconcile.ts";

/** Where a VM's disks come from; implemented on the pools. All are idempotent. */
export interface Volumes {
  prepare(vm: Vm, call: VolumeCall): Promise<{ boot: DirectBoot | null; disks: DiskAttachment[] }>;
  /** Deletes what was made under the VM's present generation. */
  takeBack(vm: Vm, call: VolumeCall): Promise<void>;
  /** Deletes clones and swap; never a disk that was not made for the VM. */
  clean(vm: Vm, call: VolumeCall): Promise<void>;
  /** The disks of a VM that arrives by live migration: open elsewhere, and never made new. */
  arriving(vm: Vm, signal: AbortSignal): Promise<{ boot: DirectBoot | null; disks: DiskAttachment[] }>;
}

/** Moves a running domain to the node of `migration`; resolves when it is paused here and whole there. `over` ends the connection. */
export type Push = (session: Session, vm: Vm, ref: DomainRef, signal: AbortSignal) => Promise<{ over(): void }>;

interface VolumeCall {
  signal: AbortSignal;
  step: (name: string, detail: string) => void;
  progress: (progress: JobProgress) => void;
}

/** What the cluster is told; each resolves when the local state has it. */
export interface Telling {
  report(vmId: string, generation: number, observed: VmObservation): Promise<void>;
  /** This run is about to act for the job. Throws if the job is no longer its. */
  begin(job: SentJob): Promise<void>;
  /** An answer that comes too late is no error. */
  answer(job: SentJob, error: TaskError | null, steps: Step[]): Promise<void>;
  progress(job: SentJob, steps: Step[], progress: JobProgress | null): Promise<void>;
}

export interface OperationDeps {
  clusterId: string;
  nodeId: string;
  driver: Driver;
  keeper: Keeper;
  volumes: Volumes;
  push: Push;
  tell: Telling;
  memory: Memory;
  /** The newest local state. */
  view: () => View;
  /** Where the serial console is written; null for nowhere. */
  serialLogPath: (vm: Vm) => string | null;
  clock: Clock;
}

/** Time limit of an operation that belongs to no job, or must end whatever became of it. */
export const QUICK_MS = 15_000;

/** A refusal of the keeper. */
export class Refused extends RoostError {
  readonly reply: KeeperReply & { ok: false };
  constructor(reply: KeeperReply & { ok: false }) {
    super({ kind: "conflict", reason: `the keeper refused: ${reply.detail}` });
    this.reply = reply;
  }
}

/** This node no longer holds the claim that a plan is about. */
export class ClaimLost extends RoostError {}

/** The job's own time is up; the message says in what. */
export class JobOverdue extends RoostError {}

/** ms, or what is left of the job's time. */
type Limit = number | "job";

/** One plan's session and what its operations hand on to each other. */
export class Operations {
  readonly #plan: Plan;
  readonly #deps: OperationDeps;
  readonly #signal: AbortSignal;
  #session: Session | null = null;
  /** Held until the plan has ended: its end is how the other side learns that nothing more will come. */
  #pushed: { over(): void } | null = null;
  #attachments: { boot: DirectBoot | null; disks: DiskAttachment[] } | null = null;

  constructor(plan: Plan, deps: OperationDeps, signal: AbortSignal) {
    this.#plan = plan;
    this.#deps = deps;
    this.#signal = signal;
  }

  get ref(): DomainRef {
    return { vmId: this.#plan.vmId, generation: this.#plan.generation };
  }

  /** @param always it must be done whatever overtakes the plan */
  async do(action: Action, always = false): Promise<void> {
    const { keeper, driver, volumes, tell, memory } = this.#deps;
    const { ref } = this;
    const { job } = this.#plan;
    const limit: Limit = always || job === null ? QUICK_MS : "job";
    const told = (what: Promise<void>): Promise<void> => this.#limited("telling the cluster", QUICK_MS, null, () => what);
    const hypervisor = async (what: string, run: (session: Session) => Promise<void>): Promise<void> => {
      await this.#limited(what, limit, always ? null : this.#signal, async () => run(await this.session()));
    };
    const onVolumes = async <T>(what: string, run: (call: VolumeCall) => Promise<T>): Promise<T> => {
      const progress = (now: JobProgress): void => {
        if (job !== null) memory.job(ref, job).progress = now;
      };
      const step = (name: string, detail: string): void => this.#step(name, detail);
      return await this.#limited(what, limit, this.#signal, () => run({ signal: this.#signal, step, progress }));
    };
    switch (action.op) {
      case "prepare-disks":
        this.#attachments = await onVolumes("preparing disks", (call) => volumes.prepare(this.#row(), call));
        if (job?.name === "configure") this.#step(STEPS.disksReady, this.#attachments.disks.map(({ target }) => target).join(", "));
        return;
      case "clean-made":
        await onVolumes("taking disks back", (call) => volumes.takeBack(this.#row(), call));
        return this.#step(STEPS.disksDeleted, "those made by this start");
      case "clean-disks": {
        const vm = this.#deps.view().vms.get(ref.vmId);
        if (vm !== undefined) await onVolumes("deleting disks", (call) => volumes.clean(vm, call));
        return this.#step(STEPS.disksDeleted, "");
      }
      case "register": {
        const { deadline } = this.#held();
        const node = this.#deps.view().nodes.get(this.#deps.nodeId);
        // At least 1: a keeper that knows no claim set yet (revision 0) takes the agent's word until the first one comes.
        const revision = Math.max(1, node?.claimRevision ?? 0);
        await this.#ask(keeper.register({ ...ref, revision, deadline, recipe: driver.killRecipe(ref) }));
        return this.#step(STEPS.registered, "");
      }
      case "begin":
        if (job === null) throw new RoostError({ kind: "internal", reason: "there is no job to begin" });
        await told(tell.begin(job));
        return this.#step(STEPS.begun, "");
      case "define": {
        const vm = this.#row();
        await hypervisor("defining the domain", (session) => session.define(this.#spec(vm)));
        return this.#step(STEPS.defined, "");
      }
      case "start-paused":
        memory.of(ref).untouched = false;
        await hypervisor("starting the domain", (session) => session.start(ref, { paused: true }));
        return this.#step(STEPS.startedPaused, "");
      case "confirm":
        this.#row();
        await this.#ask(keeper.confirm(ref));
        return this.#step(STEPS.confirmed, "");
      case "resume":
        await hypervisor("resuming the domain", (session) => {
          memory.of(ref).resumed = true;
          return session.resume(ref);
        });
        return this.#step(STEPS.resumed, "");
      case "pause":
        await hypervisor("pausing the domain", (session) => session.pause(ref));
        return this.#step(STEPS.paused, "");
      case "shutdown":
        memory.of(ref).shutdownAskedMs = this.#deps.clock.monotonicMs();
        await hypervisor("asking the guest to shut down", (session) => session.shutdown(ref));
        return this.#step(STEPS.askedToPowerOff, "");
      case "reboot":
        await hypervisor("asking the guest to reboot", (session) => {
          if (job !== null) memory.job(ref, job).acted = true;
          return session.reboot(ref);
        });
        return this.#step(STEPS.askedToReboot, "");
      case "reset":
        await hypervisor("resetting the domain", (session) => {
          if (job !== null) memory.job(ref, job).acted = true;
          return session.reset(ref);
        });
        return this.#step(STEPS.reset, "");
      case "destroy": {
        let was = false;
        await hypervisor("ending the domain", async (session) => {
          const status = job === null ? null : await session.state(ref);
          was = status !== null && status.state !== "defined";
          await session.destroy(ref);
        });
        if (was) this.#step(STEPS.ended, "");
        return;
      }
      case "undefine":
        return await hypervisor("forgetting the domain", (session) => session.undefine(ref));
      case "unregister":
        await this.#ask(keeper.unregister(ref));
        return this.#step(STEPS.unregistered, "");
      case "push": {
        const vm = this.#row();
        this.#pushed = await this.#deps.push(await this.session(), vm, ref, this.#signal);
        return;
      }
      case "report":
        return await told(tell.report(ref.vmId, ref.generation, action.observed));
      case "answer":
        if (job === null) throw new RoostError({ kind: "internal", reason: "there is no job to answer" });
        return await told(tell.answer(job, action.error, memory.job(ref, job).steps));
    }
  }

  /** Logs out, if anything needed the hypervisor (VM-16). */
  async close(): Promise<void> {
    this.#pushed?.over();
    const session = this.#session;
    this.#session = null;
    if (session !== null) await this.#limited("logging out of the hypervisor", QUICK_MS, null, () => session.logout());
  }

  async session(): Promise<Session> {
    this.#session ??= await this.#limited("logging in to the hypervisor", QUICK_MS, null, () => this.#deps.driver.login());
    return this.#session;
  }

  #step(name: string, detail: string): void {
    const { job } = this.#plan;
    if (job !== null) this.#deps.memory.step(this.ref, job, name, detail);
  }

  async #ask(asked: Promise<KeeperReply>): Promise<void> {
    const reply = await asked;
    if (!reply.ok) throw new Refused(reply);
  }

  /** What this node holds of the VM in this generation: its claim, or what is arriving. */
  #held(): Claim {
    const { vmId, generation } = this.ref;
    const vm = this.#deps.view().vms.get(vmId);
    const held = vm === undefined ? null : claimOn(vm, this.#deps.nodeId);
    if (held?.generation === generation) return held;
    throw new ClaimLost({ kind: "conflict", reason: `generation ${generation} is no longer this node's` });
  }

  /** The VM's row, if this node still holds the claim of this generation: what is still arriving is none. */
  #row(): Vm {
    const { vmId, generation } = this.ref;
    const vm = this.#deps.view().vms.get(vmId);
    if (vm?.claim?.nodeId !== this.#deps.nodeId || vm.claim.generation !== generation) {
      throw new ClaimLost({ kind: "conflict", reason: `generation ${generation} is no longer claimed by this node` });
    }
    return vm;
  }

  #spec(vm: Vm): DomainSpec {
    if (this.#attachments === null) throw new RoostError({ kind: "internal", reason: "a domain is defined before its disks are prepared" });
    return specOf(vm, this.ref, this.#attachments, this.#deps);
  }

  /** Waits no longer than the limit, and not past an abort. The work itself may go on: what it does later is found by the next look. */
  async #limited<T>(what: string, limit: Limit, signal: AbortSignal | null, run: () => Promise<T>): Promise<T> {
    const { clock, memory } = this.#deps;
    const { job } = this.#plan;
    const ofJob = limit === "job" && job !== null ? { ...job, sinceMs: memory.job(this.ref, job).sinceMs } : null;
    const afterMs = limit !== "job" ? limit : ofJob === null ? QUICK_MS : Math.max(1, ofJob.sinceMs + ofJob.limitMs - clock.monotonicMs());
    let cancel = (): void => {};
    let onAbort = (): void => {};
    const guard = new Promise<never>((_, reject) => {
      cancel = clock.after(afterMs, () => {
        if (ofJob === null) reject(new RoostError({ kind: "timeout", what, afterMs }));
        else reject(new JobOverdue({ kind: "timeout", what, afterMs: ofJob.limitMs, setting: ofJob.setting }));
      });
      onAbort = (): void => reject(asRoostError(signal?.reason));
      signal?.addEventListener("abort", onAbort, { once: true });
    });
    try {
      const work = run();
      work.catch(() => {}); // if the guard wins, the late failure is of no interest
      return await Promise.race([work, guard]);
    } finally {
      cancel();
      signal?.removeEventListener("abort", onAbort);
    }
  }
}

/** What the driver is told of a VM. */
export function specOf(
  vm: Vm,
  { vmId, generation }: DomainRef,
  attachments: { boot: DirectBoot | null; disks: DiskAttachment[] },
  { clusterId, nodeId, view, serialLogPath }: Pick<OperationDeps, "clusterId" | "nodeId" | "view" | "serialLogPath">,
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
