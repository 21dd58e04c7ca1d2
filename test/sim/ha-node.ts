/** One simulated host: clock with a rate error, hypervisor, guardian, keeper (the real machine), agent (the real reconcile). */
import { deadlineMs, startKeeper, step, wakeAtMs } from "../../src/agent/keeper/machine.ts";
import type { Feed, KeeperInput, KeeperState } from "../../src/agent/keeper/machine.ts";
import type { Acknowledgement } from "../../src/model/heartbeat.ts";
import type { Beat, KeeperAnswer, KeeperRequest, RegisteredVm } from "../../src/agent/keeper/protocol.ts";
import { Memory } from "../../src/agent/memory.ts";
import { isStillWanted, jobId, planCancel, reconcile } from "../../src/agent/reconcile.ts";
import type { Action, Plan } from "../../src/agent/reconcile.ts";
import { sentJobs } from "../../src/agent/sent-jobs.ts";
import type { DomainStatus } from "../../src/hypervisor/driver.ts";
import { claimOn } from "../../src/model/claims.ts";
import type { NodeInfo } from "../../src/model/node.ts";
import type { TaskError } from "../../src/model/task.ts";
import { PROGRAM_LEVEL } from "../../src/state/levels.ts";
import type { Consensus, Peer } from "./ha-consensus.ts";
import { act, type Failure } from "./ha-actions.ts";
import { watchSource } from "./ha-migration.ts";
import type { Mutation } from "./ha-mutations.ts";
import { Process } from "./ha-world.ts";
import type { World } from "./ha-world.ts";

export const CLAIM_MS = 4_000;
export const HEARTBEAT_MS = 500;
export const KILL_LEAD_MS = 500;
/** How long what a host held while it stood still counts as locked after it. */
const UNLOCK_MS = 3_000;
/** ± of each clock's rate; two of them may differ by twice that: 5 % of 4 s, and the guardian's 20 ms, stay below 250 ms. */
export const RATE_ERROR = 0.024;

export interface Shared {
  world: World;
  consensus: Consensus;
  mutation: Mutation;
  /** VMs migrate all the time; only in every third history, so that the others keep to what a plain failover can do wrong. */
  moving: boolean;
  /** The checker: told of every resume and end of a guest. `again`: it has run here in this generation, and stood still since. */
  started(vmId: string, generation: number, host: SimHost, again: boolean): void;
  /** A guest goes on where it has arrived. */
  migrated(): void;
  host(nodeId: string): SimHost | null;
  /** What must not be repeated was done for a job. */
  acted(job: string): void;
  /** A promise was not kept, though nothing runs twice yet. */
  broken(what: string): void;
  /** An acknowledgement on its way back is given to the node's agent. */
  sendBeat(host: SimHost, beat: Beat): void;
  /** Another host stands still, or just went on, with a guest of this VM: its disks are locked (HA-6). */
  isLockedElsewhere(vmId: string, host: SimHost): boolean;
}

export interface Domain {
  vmId: string;
  generation: number;
  running: boolean;
  /** Has it run here? */
  ran: boolean;
  /** It comes from elsewhere, and is not whole. */
  incoming: boolean;
}

interface Work {
  plan: Plan;
  /** What overtakes it. */
  cancel: Plan | null;
  /** Its migration is over. */
  unwanted?: boolean;
}

export class SimHost {
  readonly peer: Peer;
  readonly rate: number;
  readonly domains = new Map<string, Domain>();
  readonly keeperProcess = new Process();
  /** Kernel, hypervisor and guardian. */
  readonly hostProcess = new Process();
  readonly #shared: Shared;
  keeper: KeeperState | null = null;
  feed: { bootId: string; feed: Feed } | null = null;
  boot = 0;
  #bootedAtMs = 0;
  resets = 0;
  /** Stands still as a whole, kernel and guests included; `held` are the VMs whose disks it has locked through it. */
  frozen = false;
  readonly held = new Set<string>();
  #nonces = 0;
  /** Agent's own, lost with it. */
  #fresh = false;
  #needsHello = true;
  #busy = new Map<string, Work>();
  #memory = this.#freshMemory();
  #runs = 0;
  #lookComing = false;
  #keeperSilentMs = 0;
  hellos = 0;

  constructor(peer: Peer, shared: Shared) {
    this.peer = peer;
    this.#shared = shared;
    const { world } = shared;
    this.rate = [1 - RATE_ERROR, 1, 1 + RATE_ERROR, 1 + world.between(-RATE_ERROR, RATE_ERROR)][world.random.below(4)] as number;
    this.#bootedAtMs = -world.between(10_000, 1_000_000);
  }

  get bootId(): string {
    return `boot${this.boot}`;
  }

  /** CLOCK_BOOTTIME in steps of 10 ms, as /proc/uptime shows it. */
  bootMs(): number {
    return Math.floor(((this.#shared.world.nowMs - this.#bootedAtMs) * this.rate) / 10) * 10;
  }

  /** Leader's monotonic clock. */
  monotonicMs(): number {
    return (this.#shared.world.nowMs + 1e7) * this.rate;
  }

  powerOn(): void {
    this.boot++;
    this.#bootedAtMs = this.#shared.world.nowMs - 100;
    this.hostProcess.restart();
    this.domains.clear();
    this.#guard();
    this.startAgent();
  }

  powerOff(): void {
    this.hostProcess.kill();
    this.keeperProcess.kill();
    this.killAgent();
    this.keeper = null;
    this.domains.clear();
    this.held.clear();
    this.frozen = false;
  }

  /** The whole host stops, then goes on as if nothing had been (SIGSTOP of all, a stalled hypervisor below). */
  freeze(lastsMs: number): void {
    const { world } = this.#shared;
    if (!this.hostProcess.alive || this.frozen) return;
    const { incarnation } = this.hostProcess;
    const all = [this.hostProcess, this.keeperProcess, this.peer.process]
      .filter((process) => process.alive)
      .map((process) => ({ process, incarnation: process.incarnation }));
    this.frozen = true;
    for (const { process } of all) process.pause();
    for (const vmId of this.domains.keys()) this.held.add(vmId);
    world.after(lastsMs, () => {
      if (this.hostProcess.incarnation !== incarnation) return;
      this.frozen = false;
      for (const one of all) if (one.process.incarnation === one.incarnation) one.process.unpause();
      // By then keeper or guardian have ended whatever ran out meanwhile.
      world.after(UNLOCK_MS, () => {
        if (!this.frozen) this.held.clear();
      });
    });
  }

  killAgent(): void {
    this.peer.process.kill();
    this.peer.leading = false;
    this.peer.effective = false;
    this.peer.waiting.clear();
  }

  startAgent(): void {
    if (!this.hostProcess.alive) return;
    if (this.frozen) return this.#shared.world.afterIn(this.hostProcess, 10, () => this.startAgent());
    this.peer.process.restart();
    this.#fresh = false;
    this.#needsHello = true;
    this.#busy = new Map();
    this.#memory = this.#freshMemory();
    this.#runs++;
    this.#keeperSilentMs = 0;
    this.#every(HEARTBEAT_MS, () => this.#beat());
    this.#every(120, () => this.#look());
    this.#lookComing = false;
    this.peer.onApplied = () => this.#lookSoon();
    this.#every(300, () => this.#watchKeeper());
    this.#refresh();
    this.#watchKeeper();
  }

  /** As the real agent: each change, and each plan that ends, is a reason to look. */
  #lookSoon(): void {
    if (this.#lookComing) return;
    this.#lookComing = true;
    const { world } = this.#shared;
    world.afterIn(this.peer.process, world.between(0.2, 2), () => {
      this.#lookComing = false;
      this.#look();
    });
  }

  #freshMemory(): Memory {
    const wallMs = (): number => this.#shared.world.nowMs;
    return new Memory({ monotonicMs: () => this.bootMs(), wallMs, after: () => () => {} });
  }

  killKeeper(): void {
    this.keeperProcess.kill();
    this.keeper = null;
  }

  #every(periodMs: number, run: () => void): void {
    const { world } = this.#shared;
    const again = (): void => {
      run();
      world.afterIn(this.peer.process, (periodMs / this.rate) * world.between(0.9, 1.1), again);
    };
    world.afterIn(this.peer.process, world.between(0, periodMs), again);
  }

  /** The guardian: outside agent and keeper, polls the feed, resets the host. */
  #guard(): void {
    const { world } = this.#shared;
    const { feed } = this;
    if (
      this.#shared.mutation !== "guardian-sleeps" &&
      feed?.feed.armed === true &&
      feed.bootId === this.bootId &&
      this.bootMs() >= feed.feed.deadlineMs
    ) {
      this.resets++;
      this.powerOff();
      world.after(world.between(500, 3_000), () => {
        if (!this.hostProcess.alive) this.powerOn();
      });
      return;
    }
    world.afterIn(this.hostProcess, 10, () => this.#guard());
  }

  // The keeper's process around the real machine.

  #startKeeper(): void {
    this.keeperProcess.restart();
    const { mutation } = this.#shared;
    if (mutation === "keeper-forgets") this.feed = null;
    const feed = this.feed?.bootId === this.bootId ? this.feed.feed : null;
    this.keeper = startKeeper({ bootId: this.bootId, nonce: `${this.peer.id}-${++this.#nonces}`, killLeadMs: KILL_LEAD_MS, feed });
    this.#keeperStep({ kind: "tick" });
  }

  #keeperStep(input: KeeperInput): KeeperAnswer | null {
    const { world, mutation } = this.#shared;
    if (this.keeper === null) return null;
    let before = this.keeper;
    const nowMs = this.bootMs();
    if (mutation === "count-from-ack" && input.kind === "request" && input.request.op === "ack") {
      before = { ...before, mints: new Map(before.mints).set(input.request.seq, nowMs) };
    }
    const late = mutation === "late-ack-revives" && input.kind === "request" && input.request.op === "ack";
    const result = step(before, input, late ? Math.min(nowMs, deadlineMs(before) - before.killLeadMs - 1) : nowMs);
    this.keeper = result.state;
    if (input.kind === "request" && input.request.op === "ack") this.#checkDeadStayDead(before, result.state, nowMs);
    for (const effect of result.effects) {
      if (effect.kind === "feed") this.feed = { bootId: this.bootId, feed: effect.feed };
      if (effect.kind !== "kill") continue;
      const { vmId, generation } = effect;
      const tookMs = world.chance(0.35) ? world.between(250, 495) : world.chance(0.03) ? world.between(500, 1_500) : world.between(5, 100);
      world.afterIn(this.hostProcess, tookMs, () => {
        if (this.domains.get(vmId)?.generation === generation) this.domains.delete(vmId);
        this.keeperProcess.deliver(this.keeperProcess.incarnation, () =>
          this.#keeperStep({ kind: "killed", vmId, generation, gone: true }),
        );
      });
    }
    if (mutation === "feed-unacknowledged" && this.feed?.feed.armed === true)
      this.feed = { ...this.feed, feed: { armed: true, deadlineMs: nowMs + CLAIM_MS } };
    const wakeMs = Math.min(250, Math.max(1, wakeAtMs(this.keeper) - nowMs));
    const { nonce } = this.keeper;
    world.afterIn(this.keeperProcess, wakeMs / this.rate, () => {
      if (this.keeper?.nonce === nonce && this.keeper === result.state) this.#keeperStep({ kind: "tick" });
    });
    return result.answer;
  }

  /** What had run out when an acknowledgement came is not brought back by it (rule 4). */
  #checkDeadStayDead(before: KeeperState, after: KeeperState, nowMs: number): void {
    const endedMs = deadlineMs(before) - before.killLeadMs;
    if (nowMs < endedMs) return;
    for (const { vmId, generation, deadline, phase } of before.vms.values()) {
      const now = after.vms.get(vmId);
      if (!deadline || phase !== "live" || now?.generation !== generation || now.phase !== "live") continue;
      this.#shared.broken(`${vmId} ran out on ${this.describe()} and an acknowledgement revived it`);
    }
  }

  /** A call over the unix socket. A stopped keeper answers when it goes on, a dead one never. */
  #ask(request: KeeperRequest, done: (answer: KeeperAnswer) => void): void {
    const { world } = this.#shared;
    let over = false;
    const finish = (answer: KeeperAnswer): void => {
      if (!over) done(answer);
      over = true;
    };
    world.afterIn(this.keeperProcess, 0.1, () => {
      const answer = this.#keeperStep({ kind: "request", request });
      if (answer !== null) world.afterIn(this.peer.process, 0.1, () => finish(answer));
    });
    world.afterIn(this.peer.process, 1_000, () => finish({ ok: false, reason: "invalid", detail: "no answer in time" }));
  }

  #watchKeeper(): void {
    const { world } = this.#shared;
    if (this.keeperProcess.works) {
      this.#keeperSilentMs = 0;
      if (this.keeper !== null) return;
    }
    this.#keeperSilentMs += 300;
    if (this.#keeperSilentMs >= 900 || !this.keeperProcess.alive || this.keeper === null) {
      this.#keeperSilentMs = 0;
      this.killKeeper();
      world.afterIn(this.peer.process, world.between(20, 200), () => {
        if (this.keeper === null) this.#startKeeper();
      });
    }
  }

  #beat(): void {
    this.#ask({ op: "beat" }, (answer) => {
      if ("beat" in answer) this.#shared.sendBeat(this, answer.beat);
    });
  }

  acknowledge(ack: Acknowledgement): void {
    this.#ask({ op: "ack", ...ack }, () => {});
  }

  /** A planned restart (HA-9). */
  park(durationMs: number): void {
    const { world, consensus } = this.#shared;
    this.#ask({ op: "beat" }, (answer) => {
      if (!("beat" in answer)) return;
      consensus.propose(this.peer, { type: "node.park", nodeId: this.peer.nodeId, durationMs }, {}, (outcome) => {
        if (!outcome.ok) return;
        // The agent may be slow to pass it on.
        world.afterIn(this.peer.process, world.chance(0.5) ? world.between(0, 5) : world.between(500, 3_000), () => {
          this.#ask({ op: "park", seq: answer.beat.seq, durationMs }, () => {
            this.killAgent();
            world.after(world.between(200, durationMs * 2), () => {
              if (!this.peer.process.alive) this.startAgent();
            });
          });
        });
      });
    });
  }

  // The agent around the real reconcile.

  #refresh(): void {
    this.#shared.consensus.read(this.peer, () => {
      this.#fresh = true;
    });
    this.#shared.world.afterIn(this.peer.process, 500, () => {
      if (!this.#fresh) this.#refresh();
    });
  }

  #look(): void {
    const { keeper, peer } = this;
    const { consensus } = this.#shared;
    if (keeper === null || !this.keeperProcess.works || peer.state.cluster === null) return;
    const clusterId = peer.state.cluster.id;
    const registered = new Map<string, RegisteredVm>([...keeper.vms].map(([vmId, vm]) => [vmId, vm]));
    const domains = [...this.domains.values()].map((domain): DomainStatus => ({
      ...domain,
      clusterId,
      name: domain.vmId,
      state: domain.running ? "running" : "paused",
    }));
    const nowMs = this.bootMs();
    const { nodeId } = peer;
    const memory = this.#memory;
    const run = this.#agentRun;
    const jobs = sentJobs(peer.state, nodeId);
    const { vms } = peer.state;
    for (const [vmId, job] of jobs) if (job.name === "wait-for-power-off") memory.job({ vmId, generation: job.generation }, job);
    const input = { clusterId, nodeId, run, fresh: this.#fresh, nowMs, vms, jobs, domains, registered, memory: memory.vms };
    for (const plan of reconcile(input)) {
      if (this.#busy.has(plan.vmId)) continue;
      const work: Work = { plan, cancel: null };
      this.#busy.set(plan.vmId, work);
      if (plan.job !== null) memory.job(plan, plan.job);
      this.#carryOut(work, 0);
    }
    for (const [vmId, work] of this.#busy) {
      const job = jobs.get(vmId);
      if (work.plan.job === null || job === undefined || jobId(job.key) !== jobId(work.plan.job.key)) continue;
      work.cancel = planCancel(vmId, job);
    }
    for (const [vmId, work] of this.#busy) {
      if (!this.#fresh || isStillWanted(peer.state.vms.get(vmId) ?? null, nodeId, work.plan)) continue;
      work.unwanted = true;
      if (work.plan.goal === "immigrate") this.#endImmigration(vmId, work.plan.generation);
    }
    const known = (domain: Domain): boolean => {
      const vm = peer.state.vms.get(domain.vmId);
      const held = vm === undefined ? null : claimOn(vm, nodeId);
      return held?.generation === domain.generation && registered.get(domain.vmId)?.generation === domain.generation;
    };
    if (!this.#fresh || ![...this.domains.values()].every(known)) return;
    if (!keeper.settled) this.#ask({ op: "settled" }, () => {});
    if (peer.state.nodes.get(nodeId)?.state === "fenced") this.#needsHello = true;
    if (!this.#needsHello) return;
    this.#ask({ op: "unpark" }, (answer) => {
      if (!answer.ok || !this.#needsHello) return;
      this.#needsHello = false;
      const info = nodeInfo(this.bootId);
      const parkRevision = peer.state.nodes.get(nodeId)?.parkRevision ?? 0;
      const addresses = { apiAddress: `${nodeId}:1`, peerAddress: `${nodeId}:2` };
      const command = { type: "node.hello" as const, nodeId, run: this.#agentRun, info, parkRevision, ...addresses };
      this.#reliably(
        (done) => consensus.propose(peer, command, {}, done),
        () => this.hellos++,
      );
    });
  }

  /** Until there is an outcome. */
  #reliably(attempt: (done: () => void) => void, then: () => void): void {
    let over = false;
    const again = (): void => {
      if (over) return;
      attempt(() => {
        if (over) return;
        over = true;
        then();
      });
      this.#shared.world.afterIn(this.peer.process, 1_000, again);
    };
    again();
  }

  #carryOut(work: Work, at: number): void {
    const { world } = this.#shared;
    if (work.cancel !== null && work.plan.goal === "job") work = this.#replace(work, work.cancel);
    const { plan } = work;
    const action = plan.actions[at];
    if (action === undefined || (work.unwanted === true && plan.goal === "emigrate")) {
      this.#memory.of(plan).failures = 0;
      if (plan.goal === "end") this.#memory.delete(plan.vmId);
      this.#busy.delete(plan.vmId);
      return this.#lookSoon();
    }
    // A start is begun by a committed word, so what `confirm` guards is needed only where the hypervisor hangs after it.
    const hangs = this.#shared.mutation === "resume-unconfirmed" && action.op === "define" && world.chance(0.2);
    const tookMs = hangs ? world.between(3_000, 9_000) : world.chance(0.03) ? world.between(100, 2_500) : world.between(0.2, 8);
    world.afterIn(this.peer.process, tookMs / 2, () => {
      this.#do(action, plan, (failure) => {
        world.afterIn(this.peer.process, tookMs / 2, () => {
          if (failure === null) return this.#carryOut(work, at + 1);
          // As the executor does: the cluster is told, whatever it makes of it.
          const given: Action = { op: "report", observed: { kind: "not-migrated", detail: "" } };
          if (action.op === "push" && work.unwanted !== true) return this.#carryOut(this.#replace(work, { ...plan, actions: [given] }), 0);
          const next = this.#failed(plan, action, failure);
          if (next !== null) return this.#carryOut(this.#replace(work, next), 0);
          this.#memory.retryLater(plan);
          this.#busy.delete(plan.vmId);
        });
      });
    });
  }

  #replace({ plan: { vmId } }: Work, plan: Plan): Work {
    const work: Work = { plan, cancel: null };
    this.#busy.set(vmId, work);
    return work;
  }

  /** As the executor: what follows a failure, or null for another look. */
  #failed(plan: Plan, action: Action, failure: string): Plan | null {
    const { job, goal } = plan;
    if (goal !== "job" && goal !== "adopt") return null;
    const refused = failure === "refused" && (action.op === "confirm" || goal === "adopt");
    if (refused || (failure === "dead" && action.op === "register")) {
      const report: Action = { op: "report", observed: { kind: "gone", cause: "fenced", detail: failure } };
      return { ...plan, goal: "end", actions: [{ op: "destroy" }, { op: "undefine" }, { op: "unregister" }, report] };
    }
    if (failure === "claim lost") return { ...plan, goal: "leftover", actions: [{ op: "destroy" }, { op: "unregister" }] };
    if (job === null || failure !== "failed") return null;
    const error: TaskError = { code: "internal", message: failure, hint: "" };
    this.#memory.fail(plan, job, error);
    return { ...plan, actions: [{ op: "answer", error }] };
  }

  #destroy(vmId: string, generation: number): void {
    if (this.domains.get(vmId)?.generation === generation) this.domains.delete(vmId);
  }

  get #agentRun(): string {
    return `${this.peer.nodeId} ${this.#runs}`;
  }

  /** `done` is told null, or why it could not be done. */
  #do(action: Action, plan: Plan, done: (failure: Failure) => void): void {
    act(
      {
        host: this,
        shared: this.#shared,
        memory: this.#memory,
        run: this.#agentRun,
        ask: (request, then) => this.#ask(request, then),
        reliably: (attempt) => this.#reliably(attempt, () => {}),
        resume: (domain) => this.#run(domain),
        destroy: (vmId, generation) => this.#destroy(vmId, generation),
      },
      action,
      plan,
      done,
    );
  }

  #run(domain: Domain): void {
    if (!domain.running) this.#shared.started(domain.vmId, domain.generation, this, domain.ran);
    domain.running = true;
    domain.ran = true;
  }

  // Live migration; the messages between are in ha-migration.ts.

  isAtWork(vmId: string, goal: Plan["goal"]): boolean {
    return this.#busy.get(vmId)?.plan.goal === goal;
  }

  /** Its last bytes are sent: the source stands still, and stays so. */
  pause(vmId: string, generation: number): boolean {
    const domain = this.domains.get(vmId);
    if (domain?.generation !== generation || !domain.running) return false;
    domain.running = false;
    return true;
  }

  /** A source's call. `ready`: it may send. */
  immigrate(source: SimHost, vmId: string, generation: number, ready: () => void): void {
    const vm = this.peer.state.vms.get(vmId);
    const wanted = vm?.migration?.phase === "incoming" && claimOn(vm, this.peer.nodeId)?.generation === generation;
    if (!wanted || !this.#fresh || this.#needsHello || this.#busy.has(vmId) || this.domains.has(vmId)) return;
    const plan: Plan = { vmId, generation, goal: "immigrate", job: null, actions: [] };
    const work: Work = { plan, cancel: null };
    this.#busy.set(vmId, work);
    const isOpen = (): boolean => this.#busy.get(vmId) === work;
    this.#do({ op: "register" }, plan, (failure) => {
      if (!isOpen()) return;
      if (failure !== null) return void this.#busy.delete(vmId);
      this.domains.set(vmId, { vmId, generation, running: false, ran: false, incoming: true });
      watchSource(this.#shared.world, source, this, vmId, isOpen, () => this.#endImmigration(vmId, generation));
      ready();
    });
  }

  /** All of it is here. */
  arrived(vmId: string, generation: number): boolean {
    const domain = this.domains.get(vmId);
    if (domain?.generation !== generation || !this.isAtWork(vmId, "immigrate")) return false;
    domain.incoming = false;
    if (this.#shared.mutation === "resume-before-release") this.#run(domain);
    return true;
  }

  #endImmigration(vmId: string, generation: number): void {
    this.#busy.delete(vmId);
    const domain = this.domains.get(vmId);
    if (domain?.generation === generation && domain.incoming) this.domains.delete(vmId);
  }

  describe(): string {
    const feed = this.keeper === null ? "no keeper" : `deadline ${Math.round(deadlineMs(this.keeper) - this.bootMs())} ms`;
    return `${this.peer.nodeId} rate ${this.rate.toFixed(3)} ${feed} domains [${[...this.domains.values()].map((d) => `${d.vmId}/${d.generation % 2 ** 32}${d.running ? "" : "p"}`).join(" ")}]`;
  }
}

export function nodeInfo(bootId: string): NodeInfo {
  return {
    bootId,
    level: PROGRAM_LEVEL,
    version: "sim",
    driver: "simulated",
    hypervisor: "sim",
    arch: "x86_64",
    hardwareAccelerated: false,
    cpus: 64,
    cpuModel: "sim",
    memoryMib: 65536,
    reserveMib: 0,
    guardian: "file",
    actions: ["migrate"],
    pools: [],
    bridges: [],
  };
}
