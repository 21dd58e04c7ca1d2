/**
 * What a node has to do so that its hypervisor runs what its claims say (HA-7, VM-10, VM-11). Pure: claims, domains and
 * the keeper's list go in, one plan of micro-operations per VM comes out. It is asked again after every change and
 * every finished plan, so it looks only at what is, never at what led there; events mean "look at this VM".
 */
import type { DomainStatus } from "../hypervisor/driver.ts";
import type { Claim, Migration, Vm } from "../model/vm.ts";
import type { VmObservation } from "../state/commands.ts";
import type { RegisteredVm } from "./keeper/protocol.ts";

/** Micro-operations; the executor does them in order and stops at the first that fails. */
export type Action =
  | { op: "prepare-disks" }
  /** With the keeper, before anything of it may run. */
  | { op: "register" }
  | { op: "define" }
  | { op: "start-paused" }
  /** The claim is looked at again, in the view and by the keeper. */
  | { op: "confirm" }
  | { op: "resume" }
  | { op: "shutdown" }
  | { op: "destroy" }
  | { op: "undefine" }
  | { op: "unregister" }
  | { op: "clean-disks" }
  /** To the node that the VM migrates to; ends with the domain here paused and the other whole, or fails. */
  | { op: "push" }
  | { op: "report"; observed: VmObservation };

/**
 * `start` and `adopt` fail into an end: the executor destroys what is there and reports it. `end` and `leftover` overtake
 * whatever else is under way for the VM. `emigrate` that fails gives the migration up; `immigrate` is no plan of this room, but what the
 * source's call begins (migration/).
 */
export type Goal = "start" | "adopt" | "settle" | "shutdown" | "end" | "leftover" | "clean" | "emigrate" | "immigrate";

export interface Plan {
  vmId: string;
  /** Of the domain or claim that the actions are about. */
  generation: number;
  goal: Goal;
  actions: Action[];
}

/** What the agent remembers of a VM between two looks; lost when it restarts, and nothing depends on it for safety. */
export interface VmMemory {
  generation: number;
  /** How its domain ended, from the driver's event or from a failed start; until the cluster knows. */
  gone: (VmObservation & { kind: "gone" }) | null;
  /** When the guest was first and last asked to power off, monotonic ms; null if it was not. */
  shutdownAsked: { firstMs: number; lastMs: number } | null;
  /** A plan failed for a passing reason: none before this, monotonic ms. */
  notBeforeMs: number;
}

export interface ReconcileInput {
  clusterId: string;
  nodeId: string;
  /**
   * False until the claims were read linearizably since the agent's start. Before, what does not match may be newer than
   * the view: nothing is destroyed, started or reported, only what matches is registered.
   */
  fresh: boolean;
  nowMs: number;
  /** How long a guest may take to power off (setting vm.shutdownTimeoutMs). */
  shutdownTimeoutMs: number;
  /** The VMs to look at: those with a claim here, to be cleaned here, with a domain here, or registered here. */
  vms: ReadonlyMap<string, Vm>;
  /** All domains the driver lists. */
  domains: readonly DomainStatus[];
  registered: ReadonlyMap<string, RegisteredVm>;
  memory: ReadonlyMap<string, VmMemory>;
}

/** A guest that ignored the power button (still booting) is asked again after this. */
export const SHUTDOWN_AGAIN_MS = 15_000;

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

/** For a VM that is being started and is no longer wanted: ends the start wherever it is. */
export function planCancel(vm: Vm, nodeId: string): Plan | null {
  if (vm.claim?.nodeId !== nodeId || (vm.desired.power === "on" && !vm.desired.deleted)) return null;
  const cause = vm.state === "prolog" ? "never-started" : "destroyed";
  return {
    vmId: vm.id,
    generation: vm.claim.generation,
    goal: "end",
    actions: [...UNDO, { op: "report", observed: { kind: "gone", cause, detail: "" } }],
  };
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

const UNDO: readonly Action[] = [{ op: "destroy" }, { op: "undefine" }, { op: "unregister" }];

function planVm(vmId: string, domain: DomainStatus | null, input: ReconcileInput): Plan | null {
  const vm = input.vms.get(vmId) ?? null;
  const kept = input.registered.get(vmId) ?? null;
  const memory = input.memory.get(vmId) ?? null;
  const claim = vm?.claim?.nodeId === input.nodeId ? vm.claim : null;
  const migration = vm?.migration?.claim.nodeId === input.nodeId ? vm.migration : null;
  const held = claim ?? migration?.claim ?? null;
  if (memory !== null && memory.notBeforeMs > input.nowMs) return null;

  if (domain !== null && domain.generation !== held?.generation) {
    return input.fresh ? { vmId, generation: domain.generation, goal: "leftover", actions: [...UNDO] } : null;
  }
  if (kept !== null && domain === null && kept.generation !== held?.generation) {
    return input.fresh ? { vmId, generation: kept.generation, goal: "leftover", actions: [...UNDO] } : null;
  }
  if (vm === null) return null;
  if (claim === null && migration !== null) return whileIncoming(vm, migration, domain, kept, input);
  if (claim === null) {
    const cleans =
      vm.state === "epilog" && vm.claim === null && vm.migration === undefined && vm.homeNodeId === input.nodeId && input.fresh;
    return cleans
      ? {
          vmId,
          generation: vm.generation,
          goal: "clean",
          actions: [{ op: "clean-disks" }, { op: "report", observed: { kind: "cleaned" } }],
        }
      : null;
  }
  const ours = memory?.generation === claim.generation ? memory : null;
  if (domain === null || domain.state === "defined") return input.fresh ? withoutDomain(vm, claim, kept, ours) : null;
  return withDomain(vm, claim, domain, kept, ours, input);
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
  const plan = (goal: Goal, actions: Action[]): Plan => ({ vmId: vm.id, generation, goal, actions });
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
function withoutDomain(vm: Vm, claim: Claim, kept: RegisteredVm | null, memory: VmMemory | null): Plan {
  const plan = (goal: Goal, actions: Action[]): Plan => ({ vmId: vm.id, generation: claim.generation, goal, actions });
  const gone = (observed: VmObservation & { kind: "gone" }): Plan => plan("end", [...UNDO, { op: "report", observed }]);
  if (kept !== null && kept.phase !== "live") {
    const detail = kept.why === "deadline" ? "its deadline passed without an acknowledgement" : "it was left out of the node's claims";
    return gone({ kind: "gone", cause: "fenced", detail });
  }
  if (memory !== null && memory.gone !== null) return gone(memory.gone);
  const wanted = vm.desired.power === "on" && !vm.desired.deleted;
  switch (vm.state) {
    case "prolog":
      // `starting` is committed before any start: in this state no domain of this generation has ever been.
      if (wanted) return plan("start", startActions());
      return gone({ kind: "gone", cause: "never-started", detail: "" });
    case "boot":
      return gone({ kind: "gone", cause: "failed", detail: "its start was interrupted" });
    case "shutdown":
      return gone({ kind: "gone", cause: "shutdown", detail: "" });
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
      return gone({ kind: "gone", cause: "crashed", detail: "its domain is gone" });
  }
}

function startActions(): Action[] {
  return [
    { op: "prepare-disks" },
    { op: "register" },
    { op: "report", observed: { kind: "starting" } },
    { op: "define" },
    { op: "start-paused" },
    { op: "confirm" },
    { op: "resume" },
    { op: "report", observed: { kind: "running" } },
  ];
}

/** There is a claim, and a domain of its generation. */
function withDomain(
  vm: Vm,
  claim: Claim,
  domain: DomainStatus,
  kept: RegisteredVm | null,
  memory: VmMemory | null,
  input: ReconcileInput,
): Plan | null {
  const plan = (goal: Goal, actions: Action[]): Plan => ({ vmId: vm.id, generation: claim.generation, goal, actions });
  // What runs is registered before anything else: agent or keeper are new here.
  if (kept === null || kept.generation !== claim.generation) return plan("adopt", [{ op: "register" }]);
  if (!input.fresh) return null;
  if (kept.phase !== "live") {
    // The keeper ends it by itself and goes on until nothing is left; helping does no harm.
    return plan("end", [{ op: "destroy" }]);
  }
  if (vm.desired.power === "off" || vm.desired.deleted) {
    if (vm.desired.how === "force" || vm.desired.deleted || domain.state === "paused") {
      const observed: VmObservation = { kind: "gone", cause: "destroyed", detail: "" };
      return plan("end", [...UNDO, { op: "report", observed }]);
    }
    const asked = memory?.shutdownAsked ?? null;
    if (asked !== null && input.nowMs - asked.firstMs >= input.shutdownTimeoutMs) {
      return plan("settle", [{ op: "report", observed: { kind: "shutdown-ignored", afterMs: input.shutdownTimeoutMs } }]);
    }
    if (domain.state === "shutting-down" || (asked !== null && input.nowMs - asked.lastMs < SHUTDOWN_AGAIN_MS)) return null;
    const told: Action[] = vm.state === "shutdown" ? [] : [{ op: "report", observed: { kind: "stopping" } }];
    return plan("shutdown", [...told, { op: "shutdown" }]);
  }
  const { migration } = vm;
  if (migration?.phase === "incoming") {
    const giveUp = (detail: string): Plan => plan("settle", [{ op: "report", observed: { kind: "not-migrated", detail } }]);
    // All had arrived, and who was to hand it over is no more: nobody knows how far that came but the cluster.
    if (domain.state !== "running") return giveUp("the source's agent was restarted");
    const done: VmObservation = { kind: "handed-over", generation: migration.claim.generation };
    return plan("emigrate", [{ op: "push" }, { op: "report", observed: done }, ...UNDO]);
  }
  switch (domain.state) {
    case "running":
      if (vm.state === "running" || vm.state === "shutdown") return null;
      return plan("settle", [{ op: "report", observed: { kind: "running" } }]);
    case "paused":
      // Handed over to this node, or taken back by it: the claim says who goes on. Its disks may still be let go of elsewhere.
      if (vm.state === "migrating") {
        return plan("settle", [{ op: "confirm" }, { op: "resume" }, { op: "report", observed: { kind: "running" } }]);
      }
      // Started paused, and the agent went away before it resumed; `unknown` may hide the same.
      if (vm.state === "boot" || vm.state === "prolog" || vm.state === "unknown") {
        return plan("start", [{ op: "confirm" }, { op: "resume" }, { op: "report", observed: { kind: "running" } }]);
      }
      return vm.state === "paused" ? null : plan("settle", [{ op: "report", observed: { kind: "paused" } }]);
    case "shutting-down":
    case "defined":
    case "gone":
      return null;
  }
}
