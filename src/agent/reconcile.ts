/**
 * What a node has to do so that its hypervisor runs what its claims say and its jobs are done (HA-7, VM-10, VM-11, TSK-4).
 * Pure: claims, sent jobs, domains and the keeper's list go in, one plan of micro-operations per VM comes out. It is asked
 * again after every change and every finished plan, so it looks only at what is, never at what led there; a job is a goal,
 * and whatever of it is done already is not done again. Events mean "look at this VM".
 */
import type { DomainStatus } from "../hypervisor/driver.ts";
import { JOBS } from "../model/task-definitions.ts";
import type { JobKey, JobName, TaskError } from "../model/task.ts";
import type { Claim, Migration, Vm, VmState } from "../model/vm.ts";
import type { VmObservation } from "../state/commands.ts";
import type { RegisteredVm } from "./keeper/protocol.ts";

/** Micro-operations; the executor does them in order and stops at the first that fails. */
export type Action =
  | { op: "prepare-disks" }
  /** With the keeper, before anything of it may run. */
  | { op: "register" }
  /** This run of the agent commits that it is about to act. */
  | { op: "begin" }
  | { op: "define" }
  | { op: "start-paused" }
  /** The claim is looked at again, in the view and by the keeper. */
  | { op: "confirm" }
  | { op: "resume" }
  | { op: "pause" }
  | { op: "shutdown" }
  | { op: "reboot" }
  | { op: "reset" }
  | { op: "destroy" }
  | { op: "undefine" }
  | { op: "unregister" }
  /** Deletes what was made under this generation. */
  | { op: "clean-made" }
  /** Deletes all that was made for the VM. */
  | { op: "clean-disks" }
  /** To the node that the VM migrates to; ends with the domain here paused and the other whole, or fails. */
  | { op: "push" }
  | { op: "report"; observed: VmObservation }
  /** Ends the plan's job. */
  | { op: "answer"; error: TaskError | null };

/**
 * `end`, `leftover` and `cancel` overtake whatever else is under way for the VM. An `adopt` that is refused by the keeper
 * ends the domain. `emigrate` that fails gives the migration up; `immigrate` is no plan of this room, but what the source's call
 * begins (migration/).
 */
export type Goal = "job" | "cancel" | "adopt" | "settle" | "end" | "leftover" | "emigrate" | "immigrate";

export interface Plan {
  vmId: string;
  /** Of the domain or claim that the actions are about. */
  generation: number;
  goal: Goal;
  /** What the plan works on; null: it protects the invariant, or tells what happened, and waits for nobody. */
  job: SentJob | null;
  actions: Action[];
}

/** One job, or its undo, that waits for this node's answer. At most one a VM. */
export interface SentJob {
  key: JobKey;
  name: JobName;
  undo: boolean;
  /** Under which it was sent: of the claim, or of the VM where there is none. */
  generation: number;
  /** The run of an agent that committed to act. */
  begunBy: string | null;
  /** Its task is to end. */
  cancel: boolean;
  limitMs: number;
  /** Where the limit is from. */
  setting: string;
}

/** What the agent remembers of a VM between two looks; lost when it restarts, and nothing depends on it for safety. */
export interface VmMemory {
  generation: number;
  /** How its domain ended, from the driver's event; until the cluster knows. */
  gone: (VmObservation & { kind: "gone" }) | null;
  /** When the guest was last asked to power off, monotonic ms; null if it was not. */
  shutdownAskedMs: number | null;
  /** This run has let its CPUs run, or tried to. */
  resumed: boolean;
  /** The job that was worked on last. */
  job: JobMemory | null;
  /** A plan failed for a passing reason: none before this, monotonic ms. */
  notBeforeMs: number;
}

export interface JobMemory {
  /** jobId of its key. */
  id: string;
  /** First worked on, monotonic ms. */
  sinceMs: number;
  /** It has done what must not be done twice, or tried to. */
  acted: boolean;
  /** It failed for good: only its answer is still to be given. */
  failed: TaskError | null;
  /** Why it was not done at the last attempt, for people; empty: no attempt failed. */
  lastProblem: string;
}

export interface ReconcileInput {
  clusterId: string;
  nodeId: string;
  /** This run of the agent. */
  run: string;
  /**
   * False until the claims were read linearizably since the agent's start. Before, what does not match may be newer than
   * the view: nothing is destroyed, started or reported, only what matches is registered.
   */
  fresh: boolean;
  nowMs: number;
  /** The VMs to look at: those with a claim or a job here, with a domain here, or registered here. */
  vms: ReadonlyMap<string, Vm>;
  /** By VM. */
  jobs: ReadonlyMap<string, SentJob>;
  /** All domains the driver lists. */
  domains: readonly DomainStatus[];
  registered: ReadonlyMap<string, RegisteredVm>;
  memory: ReadonlyMap<string, VmMemory>;
}

/** A guest that ignored the power button (still booting) is asked again after this. */
export const SHUTDOWN_AGAIN_MS = 15_000;

export function jobId({ taskId, path, attempt }: JobKey): string {
  return `${taskId} ${path} ${attempt}`;
}

/** For people: `power-on`, `undo of configure`. */
export function jobText({ name, undo }: Pick<SentJob, "name" | "undo">): string {
  return undo ? `undo of ${name}` : name;
}

/** Plans for every VM that needs something done; at most one each. */
export function reconcile(input: ReconcileInput): Plan[] {
  const domains = new Map<string, DomainStatus>();
  // Only domains that carry this cluster's id are ever touched.
  for (const domain of input.domains) {
    if (domain.clusterId !== input.clusterId || domain.state === "gone") continue;
    // A definition of one generation must not hide what runs of another.
    if (domain.state !== "defined" || !domains.has(domain.vmId)) domains.set(domain.vmId, domain);
  }
  const vmIds = new Set([...input.vms.keys(), ...domains.keys(), ...input.registered.keys()]);
  const plans: Plan[] = [];
  for (const vmId of vmIds) {
    const plan = planVm(vmId, domains.get(vmId) ?? null, input);
    if (plan !== null) plans.push(plan);
  }
  return plans;
}

/** For a job that is being worked on while its task was told to end; null if it goes on all the same. */
export function planCancel(vmId: string, job: SentJob): Plan | null {
  if (!isCancelled(job)) return null;
  return { vmId, generation: job.generation, goal: "cancel", job, actions: [answer(CANCELLED)] };
}

/**
 * Whether what is under way for the VM is still wanted: a migration that was given up ends on both sides, and one that was handed over has
 * nothing left to do at the target but to run.
 */
export function isStillWanted(vm: Vm | null, nodeId: string, plan: { goal: Goal; generation: number }): boolean {
  const { migration } = vm ?? {};
  if (plan.goal === "immigrate") return migration?.phase === "incoming" && migration.claim.generation === plan.generation;
  if (plan.goal !== "emigrate") return true;
  // Handed over: what is left to do is to end what is here.
  if (vm?.claim?.nodeId !== nodeId) return vm?.state === "migrating" && vm.claim !== null && migration === undefined;
  return migration?.phase === "incoming" && !vm.desired.deleted && !(vm.desired.power === "off" && vm.desired.how === "force");
}

/**
 * Where the hypervisor cannot say what runs: disks are prepared and taken back all the same, because before power-on was sent, and
 * after its undo, no domain of the generation is; and a power-on that never got as far as a domain can be given up.
 * @param untouched this run saw the generation before power-on was sent, and started nothing of it
 */
export function planBlind(vm: Vm, job: SentJob, memory: VmMemory | null, untouched: boolean, nowMs: number): Plan | null {
  if (memory !== null && memory.notBeforeMs > nowMs) return null;
  const plan = (actions: Action[]): Plan => ({ vmId: vm.id, generation: job.generation, goal: "job", job, actions });
  const failed = failureOf(job, memory, nowMs);
  if (job.name === "configure" && (job.undo || vm.state === "prolog")) return plan(configure(job, failed));
  if (job.name !== "power-on") return null;
  if (job.undo) return untouched ? plan([answer(null)]) : null;
  // Where its guest may have run, a failure would take the disks back with what it wrote: what is so is seen when it can be asked again.
  const mayHaveRun = memory?.resumed === true || (job.begunBy !== null && !untouched);
  return failed === null || mayHaveRun ? null : plan([answer(failed)]);
}

const UNDO: readonly Action[] = [{ op: "destroy" }, { op: "undefine" }, { op: "unregister" }];

const CANCELLED: TaskError = { code: "cancelled", message: "cancelled", hint: "" };

function answer(error: TaskError | null): Action {
  return { op: "answer", error };
}

/** What has no way back, and what cannot be taken back or repeated, runs to its end. */
function isCancelled({ cancel, undo, name }: SentJob): boolean {
  return cancel && !undo && JOBS[name].onFailure === "rollback" && JOBS[name].repeatable;
}

/** Why there is nothing left to do for a job but to say that it failed; null: go on. */
function failureOf(job: SentJob, memory: VmMemory | null, nowMs: number): TaskError | null {
  const worked = memory?.job?.id === jobId(job.key) ? memory.job : null;
  if (worked !== null && worked.failed !== null) return worked.failed;
  if (isCancelled(job)) return CANCELLED;
  return worked !== null && nowMs - worked.sinceMs >= job.limitMs ? overdue(job, worked.lastProblem) : null;
}

/** The error of a job that took longer than its setting allows. */
export function overdue(job: SentJob, lastProblem: string): TaskError {
  const limit = `${job.limitMs} ms (setting ${job.setting})`;
  if (job.name === "wait-for-power-off") {
    const hint = "force-shutdown ends it without asking; a guest that needs longer: raise the setting, and shut down again";
    return { code: "timeout", message: `the guest did not shut down within ${limit}`, hint };
  }
  const last = lastProblem === "" ? "" : `; at last: ${lastProblem}`;
  return { code: "timeout", message: `${jobText(job)} took longer than ${limit}${last}`, hint: "" };
}

function planVm(vmId: string, domain: DomainStatus | null, input: ReconcileInput): Plan | null {
  const vm = input.vms.get(vmId) ?? null;
  const kept = input.registered.get(vmId) ?? null;
  const memory = input.memory.get(vmId) ?? null;
  const claim = vm?.claim?.nodeId === input.nodeId ? vm.claim : null;
  const migration = vm?.migration?.claim.nodeId === input.nodeId ? vm.migration : null;
  const held = claim ?? migration?.claim ?? null;
  if (memory !== null && memory.notBeforeMs > input.nowMs) return null;
  const leftover = (generation: number): Plan => ({ vmId, generation, goal: "leftover", job: null, actions: [...UNDO] });

  if (domain !== null && domain.generation !== held?.generation) return input.fresh ? leftover(domain.generation) : null;
  if (kept !== null && domain === null && kept.generation !== held?.generation) return input.fresh ? leftover(kept.generation) : null;
  if (vm === null) return null;
  if (claim === null && migration !== null) return whileIncoming(vm, migration, domain, kept, input);
  const sent = input.jobs.get(vmId) ?? null;
  if (claim === null) return input.fresh && sent !== null ? withoutClaim(vm, sent, memory, input.nowMs) : null;
  const job = sent?.generation === claim.generation ? sent : null;
  const ours = memory?.generation === claim.generation ? memory : null;
  const at: At = { vm, claim, kept, memory: ours, job, input };
  if (domain === null || domain.state === "defined") return input.fresh ? withoutDomain(at) : null;
  return withDomain(at, domain.state);
}

interface At {
  vm: Vm;
  claim: Claim;
  kept: RegisteredVm | null;
  memory: VmMemory | null;
  job: SentJob | null;
  input: ReconcileInput;
}

/** Nobody holds the VM: its volumes are deleted by the node that reaches them. */
function withoutClaim(vm: Vm, job: SentJob, memory: VmMemory | null, nowMs: number): Plan | null {
  // Handed over since, with a reset that nobody can take back or hand on.
  if (vm.claim !== null && !JOBS[job.name].repeatable) {
    const error = job.begunBy === null ? MOVED_ON : NOBODY_KNOWS;
    return { vmId: vm.id, generation: job.generation, goal: "job", job, actions: [answer(error)] };
  }
  if (vm.claim !== null || vm.migration !== undefined || job.name !== "unconfigure" || job.generation !== vm.generation) return null;
  const failed = failureOf(job, memory?.generation === vm.generation ? memory : null, nowMs);
  const actions: Action[] = failed === null ? [{ op: "clean-disks" }, answer(null)] : [answer(failed)];
  return { vmId: vm.id, generation: vm.generation, goal: "job", job, actions };
}

/**
 * The target of a live migration, with nobody at work on it here: what has arrived has lost its source, or never had one. It is only
 * destroyed once the cluster knows that it is given up: before, the source may have handed over.
 */
function whileIncoming(
  vm: Vm,
  migration: Migration,
  domain: DomainStatus | null,
  kept: RegisteredVm | null,
  input: ReconcileInput,
): Plan | null {
  const { generation } = migration.claim;
  const plan = (goal: Goal, actions: Action[]): Plan => ({ vmId: vm.id, generation, goal, job: null, actions });
  if (domain !== null && (kept === null || kept.generation !== generation)) return plan("adopt", [{ op: "register" }]);
  if (!input.fresh) return null;
  const ended = domain === null && kept !== null && kept.phase !== "live";
  if (migration.phase === "aborting" || ended) {
    const detail = ended ? "its deadline passed at the target" : "";
    return plan("end", [...UNDO, { op: "report", observed: { kind: "incoming-gone", detail } }]);
  }
  if (domain === null && kept === null) return null; // the source has not come yet
  return plan("settle", [{ op: "report", observed: { kind: "not-migrated", detail: "the target lost its connection to the source" } }]);
}

/** There is a claim, and nothing runs. */
function withoutDomain({ vm, claim, kept, memory, job, input }: At): Plan | null {
  const plan = (goal: Goal, actions: Action[]): Plan => ({ vmId: vm.id, generation: claim.generation, goal, job, actions });
  const gone = (observed: VmObservation & { kind: "gone" }): Plan => ({
    ...plan("end", [...UNDO, { op: "report", observed }]),
    job: null,
  });
  if (kept !== null && kept.phase !== "live") {
    const detail = kept.why === "deadline" ? "its deadline passed without an acknowledgement" : "it was left out of the node's claims";
    return gone({ kind: "gone", cause: "fenced", detail });
  }
  const ended = (otherwise: VmObservation & { kind: "gone" }): Plan => gone(memory?.gone ?? otherwise);
  const crashed = (): Plan => ended({ kind: "gone", cause: "crashed", detail: "its domain is gone" });
  if (job === null) {
    switch (vm.state) {
      case "prolog":
      case "boot":
        // Nothing is started before a job says so, and what was started is ended by one.
        return null;
      case "shutdown":
        return ended({ kind: "gone", cause: "shutdown", detail: "" });
      case "pending":
      case "running":
      case "paused":
      case "suspended":
      case "epilog":
      case "stopped":
      case "migrating":
      case "recovering":
      case "failed":
      case "unknown":
      case "deleted":
        return crashed();
    }
  }
  const failed = failureOf(job, memory, input.nowMs);
  if (job.undo) {
    switch (job.name) {
      case "configure":
        return plan("job", configure(job, failed));
      case "power-on":
        return plan("job", failed === null ? [...UNDO, answer(null)] : [answer(failed)]);
      case "pause":
      case "unpause":
        return crashed();
      case "place":
      case "shutdown":
      case "wait-for-power-off":
      case "power-off":
      case "unconfigure":
      case "reboot":
      case "reset":
      case "migrate":
      case "configure-device":
      case "unconfigure-device":
      case "perform-backup":
        return plan("job", [answer(unknownTo(job))]);
    }
  }
  switch (job.name) {
    case "configure":
      return plan("job", configure(job, failed));
    case "power-on": {
      // A generation runs once: where CPUs of it may have run, what the guest wrote stays, and the claim ends.
      const mayHaveRun = memory?.resumed === true || (job.begunBy !== null && job.begunBy !== input.run);
      if (mayHaveRun) return ended({ kind: "gone", cause: "failed", detail: "its start was interrupted" });
      return plan("job", failed === null ? start(job) : [answer(failed)]);
    }
    case "shutdown":
    case "wait-for-power-off":
    case "power-off":
      // Not `failed`: what was wanted is so.
      return plan("job", [...UNDO, answer(null)]);
    case "pause":
    case "unpause":
    case "reboot":
    case "reset":
      return crashed();
    case "place":
    case "unconfigure":
    case "migrate":
    case "configure-device":
    case "unconfigure-device":
    case "perform-backup":
      return plan("job", [answer(unknownTo(job))]);
  }
}

function configure(job: SentJob, failed: TaskError | null): Action[] {
  if (failed !== null) return [answer(failed)];
  return [job.undo ? { op: "clean-made" } : { op: "prepare-disks" }, answer(null)];
}

function start(job: SentJob): Action[] {
  return [
    // Again: where they are is not kept, and it changes nothing.
    { op: "prepare-disks" },
    { op: "register" },
    ...(job.begunBy === null ? [{ op: "begin" } as const] : []),
    { op: "define" },
    { op: "start-paused" },
    { op: "confirm" },
    { op: "resume" },
    answer(null),
  ];
}

/** There is a claim, and a domain of its generation. */
function withDomain({ vm, claim, kept, memory, job, input }: At, domain: "running" | "paused" | "shutting-down" | "gone"): Plan | null {
  const plan = (goal: Goal, actions: Action[]): Plan => ({ vmId: vm.id, generation: claim.generation, goal, job, actions });
  // What runs is registered before anything else: agent or keeper are new here.
  if (kept === null || kept.generation !== claim.generation) return { ...plan("adopt", [{ op: "register" }]), job: null };
  if (!input.fresh) return null;
  // The keeper ends it by itself and goes on until nothing is left; helping does no harm.
  if (kept.phase !== "live") return { ...plan("end", [{ op: "destroy" }]), job: null };
  if (job === null) {
    const { migration } = vm;
    if (migration?.phase === "incoming") {
      const giveUp = (detail: string): Plan => plan("settle", [{ op: "report", observed: { kind: "not-migrated", detail } }]);
      // All had arrived, and who was to hand it over is no more: nobody knows how far that came but the cluster.
      if (domain !== "running") return giveUp("the source's agent was restarted");
      const done: VmObservation = { kind: "handed-over", generation: migration.claim.generation };
      return plan("emigrate", [{ op: "push" }, { op: "report", observed: done }, ...UNDO]);
    }
    // Handed over to this node, or taken back by it: the claim says who goes on. Its disks may still be let go of elsewhere.
    if (stateBefore(vm) === "migrating" && domain === "paused")
      return plan("settle", [{ op: "confirm" }, { op: "resume" }, { op: "report", observed: { kind: "running" } }]);
    const seen = observed(vm, domain);
    return seen === null ? null : plan("settle", [{ op: "report", observed: seen }]);
  }
  const failed = failureOf(job, memory, input.nowMs);
  /** Done already, or failed, or these. */
  const unless = (done: boolean, actions: Action[]): Plan =>
    plan("job", done ? [answer(null)] : failed === null ? [...actions, answer(null)] : [answer(failed)]);
  const cpusRun: Action[] = [{ op: "confirm" }, { op: "resume" }];
  switch (job.name) {
    case "configure":
      // Not by these jobs' order; but if it is there, nothing is taken from under it.
      return job.undo ? unless(false, [...UNDO, { op: "clean-made" }]) : unless(true, []);
    case "power-on":
      if (job.undo) return unless(false, [...UNDO]);
      return unless(domain !== "paused", cpusRun);
    case "power-off":
      return unless(false, [...UNDO]);
    case "shutdown":
      if (domain === "paused") return plan("job", [answer(failed ?? PAUSED)]);
      return unless(domain === "shutting-down", [{ op: "shutdown" }]);
    case "wait-for-power-off": {
      if (failed !== null) return plan("job", [answer(failed)]);
      const askedMs = memory?.shutdownAskedMs ?? null;
      if (domain !== "running" || (askedMs !== null && input.nowMs - askedMs < SHUTDOWN_AGAIN_MS)) return null;
      return plan("job", [{ op: "shutdown" }]);
    }
    case "pause":
    case "unpause":
      if ((job.name === "pause") === job.undo) return unless(domain !== "paused", cpusRun);
      if (domain === "shutting-down") return plan("job", [answer(failed ?? SHUTTING_DOWN)]);
      return unless(domain === "paused", [{ op: "pause" }]);
    case "reboot":
    case "reset": {
      const act: Action = { op: job.name };
      if (job.undo) return plan("job", [answer(unknownTo(job))]);
      const acted = memory?.job?.id === jobId(job.key) && memory.job.acted;
      if (failed !== null) return plan("job", [answer(failed)]);
      if (job.begunBy === null) return plan("job", [{ op: "begin" }, act, answer(null)]);
      // Whether it happened nobody can see from outside, and once more would be one too many.
      return plan("job", job.begunBy !== input.run || acted ? [answer(NOBODY_KNOWS)] : [act, answer(null)]);
    }
    case "place":
    case "unconfigure":
    case "migrate":
    case "configure-device":
    case "unconfigure-device":
    case "perform-backup":
      return plan("job", [answer(unknownTo(job))]);
  }
}

/** `unknown` says nothing of the VM itself: what it was before says whether its CPUs are to run. */
function stateBefore(vm: Vm): VmState {
  return vm.state === "unknown" ? (vm.history.findLast(({ state }) => state !== "unknown")?.state ?? "unknown") : vm.state;
}

/** What the cluster does not know of a VM that no job is about; null: nothing. */
function observed(vm: Vm, domain: "running" | "paused" | "shutting-down" | "gone"): VmObservation | null {
  if (domain === "running") return vm.state === "paused" || vm.state === "unknown" || vm.state === "migrating" ? { kind: "running" } : null;
  if (domain === "paused") return vm.state === "running" || vm.state === "unknown" ? { kind: "paused" } : null;
  return null;
}

const PAUSED: TaskError = {
  code: "precondition",
  message: "the VM is paused: its guest cannot be asked to shut down",
  hint: "unpause it first, or force-shutdown",
};

const MOVED_ON: TaskError = { code: "lost", message: "the VM moved to another node before it was done", hint: "ask again" };

const SHUTTING_DOWN: TaskError = { code: "precondition", message: "the guest is shutting down", hint: "" };

export const NOBODY_KNOWS: TaskError = {
  code: "unknown",
  message: "the agent ended between the decision to act and its answer: nobody knows whether it happened, and it is not repeated",
  hint: "look at the guest (roost vm console, its uptime); then ask again if need be",
};

function unknownTo(job: SentJob): TaskError {
  return { code: "unsupported", message: `this node's program cannot do the job ${jobText(job)}`, hint: "upgrade it" };
}
