/**
 * The keeper's mind, without a process around it: (state, input, now) → (state, effects). Pure, so that the
 * simulation runs the very code that fences hosts. `now` is CLOCK_BOOTTIME in ms and never goes back.
 *
 * Time passes before an input counts: what ran out while the process was stopped is dead before a late
 * acknowledgement can bring its deadline forward (docs/never-twice.md, rule 4).
 */
import type { KillRecipe } from "../../hypervisor/driver.ts";
import { PARK_MAX_MS } from "../../model/node.ts";
import { MAX_GRANTED_MS, MAX_REGISTERED } from "./protocol.ts";
import type { Acknowledgement, VmGeneration } from "../../model/heartbeat.ts";
import type { KeeperAnswer, KeeperRequest, KeeperStatus, RefusalReason, Registration } from "./protocol.ts";

/** Heartbeats whose mint time is remembered. At the shortest interval (100 ms) that is 25 s of answers under way. */
const MINTS_KEPT = 256;
/** Dead generations remembered after they were unregistered. Beyond it the oldest is forgotten; claim sets still leave it out. */
const DEAD_KEPT = 16_384;
const KILL_RETRY_MS = 100;
/** How often a generation that ran out is looked for again while it is registered: a start may have been under way. */
const KILL_AGAIN_MS = 1_000;
/** An `unpark` needs at least this much acknowledged time before killing would begin. */
const UNPARK_SLACK_MS = 500;

export interface KeptVm extends Registration {
  phase: "live" | "dying" | "gone";
  why: "" | "deadline" | "left-out";
  /** When it must be gone; the guardian is never fed past it. */
  dueMs: number;
  nextKillMs: number;
  killing: boolean;
  overdueTold: boolean;
}

export interface KeeperState {
  readonly bootId: string;
  readonly nonce: string;
  readonly killLeadMs: number;
  readonly seq: number;
  readonly mints: ReadonlyMap<number, number>;
  /** From acknowledgements of this keeper's own heartbeats; 0 for none. */
  readonly ackedMs: number;
  /** From a committed park, or inherited from the guardian's feed; dropped by `unpark`. */
  readonly parkedMs: number;
  readonly claimRevision: number;
  readonly claims: ReadonlyMap<string, number>;
  readonly vms: ReadonlyMap<string, KeptVm>;
  /** Highest generation of each VM that ran out here. */
  readonly dead: ReadonlyMap<string, number>;
  readonly settled: boolean;
  /** Deadline of the armed feed that this keeper found at its start: until `settled`, domains unknown to it may run. 0: none. */
  readonly inheritedMs: number;
  /** What the guardian was told last. */
  readonly fed: Feed;
}

/** `armed`: reset the host at `deadlineMs` unless told otherwise. */
export type Feed = { armed: false } | { armed: true; deadlineMs: number };

export type KeeperInput =
  | { kind: "tick" }
  | { kind: "request"; request: KeeperRequest }
  /** A kill ended. `gone`: nothing of it runs. */
  | ({ kind: "killed"; gone: boolean } & VmGeneration);

export type KeeperEffect =
  | ({ kind: "kill"; recipe: KillRecipe } & VmGeneration)
  | { kind: "feed"; feed: Feed }
  /** It should be gone by now and is not: only the guardian can help. For the log. */
  | ({ kind: "overdue"; dueMs: number } & VmGeneration)
  | ({ kind: "fenced"; why: "deadline" | "left-out" } & VmGeneration)
  | { kind: "exit" };

export interface StepResult {
  state: KeeperState;
  effects: KeeperEffect[];
  /** For requests. */
  answer: KeeperAnswer | null;
}

/**
 * A keeper's first state. `feed` is what an earlier keeper told the guardian in this boot; null if there is none, or if
 * it is from another boot (then nothing of it runs any more).
 */
export function startKeeper(options: { bootId: string; nonce: string; killLeadMs: number; feed: Feed | null }): KeeperState {
  const inherited = options.feed?.armed === true ? options.feed.deadlineMs : 0;
  return {
    bootId: options.bootId,
    nonce: options.nonce,
    killLeadMs: options.killLeadMs,
    seq: 0,
    mints: new Map(),
    ackedMs: 0,
    parkedMs: inherited,
    claimRevision: 0,
    claims: new Map(),
    vms: new Map(),
    dead: new Map(),
    settled: false,
    inheritedMs: inherited,
    fed: options.feed ?? { armed: false },
  };
}

/** Until when this node's deadline VMs may run. */
export function deadlineMs(state: KeeperState): number {
  return Math.max(state.ackedMs, state.parkedMs);
}

export function step(before: KeeperState, input: KeeperInput, nowMs: number): StepResult {
  let state = runOut(before, nowMs);
  let answer: KeeperAnswer | null = null;
  const effects: KeeperEffect[] = [];
  if (input.kind === "killed") state = afterKill(state, input, nowMs);
  if (input.kind === "request") {
    const handled = handle(state, input.request, nowMs);
    state = handled.state;
    answer = handled.answer;
    if (handled.exit) effects.push({ kind: "exit" });
  }
  state = act(state, before, nowMs, effects);
  return { state, effects, answer };
}

/** When `step` must be called at the latest, without any input. */
export function wakeAtMs(state: KeeperState): number {
  let wake = Infinity;
  for (const vm of state.vms.values()) {
    if (vm.phase === "live") {
      if (vm.deadline) wake = Math.min(wake, deadlineMs(state) - state.killLeadMs);
    } else if (!vm.killing) wake = Math.min(wake, vm.nextKillMs);
  }
  return wake;
}

export function statusOf(state: KeeperState, nowMs: number, extra: { pid: number; guardian: string | null }): KeeperStatus {
  return {
    bootId: state.bootId,
    nonce: state.nonce,
    pid: extra.pid,
    guardian: extra.guardian,
    nowMs,
    deadlineMs: deadlineMs(state),
    claimRevision: state.claimRevision,
    armed: state.fed.armed,
    settled: state.settled,
    vms: [...state.vms.values()].map(({ vmId, generation, deadline, phase, why }) => ({ vmId, generation, deadline, phase, why })),
  };
}

/** Marks what ran out by now. It stays dead whatever comes later. */
function runOut(state: KeeperState, nowMs: number): KeeperState {
  const due = deadlineMs(state);
  if (nowMs < due - state.killLeadMs) return state;
  return condemn(state, (vm) => vm.deadline, "deadline", due, nowMs);
}

function condemn(
  state: KeeperState,
  which: (vm: KeptVm) => boolean,
  why: "deadline" | "left-out",
  dueMs: number,
  nowMs: number,
): KeeperState {
  let vms: Map<string, KeptVm> | null = null;
  let dead: Map<string, number> | null = null;
  for (const vm of state.vms.values()) {
    if (vm.phase !== "live" || !which(vm)) continue;
    vms ??= new Map(state.vms);
    dead ??= new Map(state.dead);
    vms.set(vm.vmId, { ...vm, phase: "dying", why, dueMs, nextKillMs: nowMs });
    // Deleted first so that the map's order is the order of death, for forgetting the oldest.
    const last = Math.max(dead.get(vm.vmId) ?? 0, vm.generation);
    dead.delete(vm.vmId);
    dead.set(vm.vmId, last);
  }
  if (vms === null || dead === null) return state;
  for (const vmId of dead.keys()) {
    if (dead.size <= DEAD_KEPT) break;
    dead.delete(vmId);
  }
  return { ...state, vms, dead };
}

function afterKill(state: KeeperState, result: VmGeneration & { gone: boolean }, nowMs: number): KeeperState {
  const vm = state.vms.get(result.vmId);
  if (vm === undefined || vm.generation !== result.generation || vm.phase === "live") return state;
  // Once gone it stays so: what a late start brings up afterwards is paused, is killed all the same, and needs no guardian.
  const phase = result.gone ? "gone" : vm.phase;
  return withVm(state, { ...vm, phase, killing: false, nextKillMs: nowMs + (result.gone ? KILL_AGAIN_MS : KILL_RETRY_MS) });
}

function withVm(state: KeeperState, vm: KeptVm): KeeperState {
  const vms = new Map(state.vms);
  vms.set(vm.vmId, vm);
  return { ...state, vms };
}

interface Handled {
  state: KeeperState;
  answer: KeeperAnswer | null;
  exit?: true;
}

const refuse = (state: KeeperState, reason: RefusalReason, detail: string): Handled => ({ state, answer: { ok: false, reason, detail } });
const accept = (state: KeeperState): Handled => ({ state, answer: { ok: true } });
const acceptUntil = (state: KeeperState): Handled => ({ state, answer: { ok: true, deadlineMs: deadlineMs(state) } });

function handle(state: KeeperState, request: KeeperRequest, nowMs: number): Handled {
  switch (request.op) {
    case "hello":
      // A longer lead takes effect at once, by the next runOut; it can only kill earlier.
      return acceptUntil({ ...state, killLeadMs: request.killLeadMs });
    case "beat":
      return beat(state, nowMs);
    case "ack":
      return acknowledge(state, request, nowMs);
    case "register":
      return register(state, request, nowMs);
    case "confirm":
      return confirm(state, request);
    case "unregister":
      return unregister(state, request);
    case "settled":
      return accept({ ...state, settled: true, inheritedMs: 0 });
    case "park":
      return park(state, request.seq, request.durationMs);
    case "unpark":
      return unpark(state, nowMs);
    case "list":
      // Answered by the process, which knows its pid and guardian (statusOf).
      return { state, answer: null };
    case "shutdown":
      if (state.vms.size > 0) return refuse(state, "busy", `${state.vms.size} VMs are registered`);
      return { state, answer: { ok: true }, exit: true };
  }
}

function beat(state: KeeperState, nowMs: number): Handled {
  const seq = state.seq + 1;
  const mints = new Map(state.mints);
  mints.set(seq, nowMs);
  mints.delete(seq - MINTS_KEPT);
  const { bootId, nonce, claimRevision } = state;
  return { state: { ...state, seq, mints }, answer: { ok: true, beat: { bootId, nonce, seq, mintedAtMs: nowMs, claimRevision } } };
}

function acknowledge(state: KeeperState, ack: Acknowledgement, nowMs: number): Handled {
  if (ack.bootId !== state.bootId || ack.nonce !== state.nonce)
    return refuse(state, "stranger", "acknowledges a heartbeat of another boot or keeper");
  const mintedAtMs = state.mints.get(ack.seq);
  if (mintedAtMs === undefined) return refuse(state, "unknown-seq", `heartbeat ${ack.seq} was not minted here lately`);
  if (ack.grantedMs > MAX_GRANTED_MS) return refuse(state, "invalid", `grants ${ack.grantedMs} ms, more than ${MAX_GRANTED_MS}`);
  // Without the newer set, the extension would also reach generations that were given away.
  if (ack.claimRevision > state.claimRevision && ack.claims === null) {
    return refuse(state, "claims-missing", `names claim set ${ack.claimRevision}, only ${state.claimRevision} is known`);
  }
  let next = state;
  if (ack.claims !== null && ack.claimRevision > state.claimRevision) {
    const claims = new Map(ack.claims.map((item) => [item.vmId, item.generation]));
    const dueMs = Math.max(nowMs, deadlineMs(state));
    next = { ...state, claims, claimRevision: ack.claimRevision };
    next = condemn(next, (vm) => vm.revision <= ack.claimRevision && claims.get(vm.vmId) !== vm.generation, "left-out", dueMs, nowMs);
  }
  return acceptUntil({ ...next, ackedMs: Math.max(next.ackedMs, mintedAtMs + ack.grantedMs) });
}

function register(state: KeeperState, asked: Registration, nowMs: number): Handled {
  const { vmId, generation } = asked;
  if ((state.dead.get(vmId) ?? -1) >= generation) return refuse(state, "dead", `generation ${generation} ran out here`);
  if (asked.revision <= state.claimRevision && state.claims.get(vmId) !== generation) {
    return refuse(state, "left-out", `claim set ${state.claimRevision} does not have generation ${generation}`);
  }
  if (asked.deadline && nowMs >= deadlineMs(state) - state.killLeadMs)
    return refuse(state, "expired", "the node holds no acknowledged time");
  const here = state.vms.get(vmId);
  if (here !== undefined && here.generation !== generation)
    return refuse(state, "busy", `generation ${here.generation} is still registered`);
  if (here === undefined && state.vms.size >= MAX_REGISTERED) return refuse(state, "limit", `${MAX_REGISTERED} VMs are registered`);
  const { revision, deadline, recipe } = asked;
  const fresh: KeptVm = {
    vmId,
    generation,
    revision,
    deadline,
    recipe,
    phase: "live",
    why: "",
    dueMs: 0,
    nextKillMs: 0,
    killing: false,
    overdueTold: false,
  };
  return acceptUntil(
    withVm(state, here === undefined ? fresh : { ...here, revision: Math.max(here.revision, revision), deadline, recipe }),
  );
}

function confirm(state: KeeperState, asked: VmGeneration): Handled {
  const vm = state.vms.get(asked.vmId);
  if (vm === undefined || vm.generation !== asked.generation)
    return refuse(state, "not-registered", `generation ${asked.generation} is not registered`);
  if (vm.phase !== "live")
    return refuse(state, "dead", `generation ${asked.generation} ${vm.why === "left-out" ? "was left out of the claim set" : "ran out"}`);
  return acceptUntil(state);
}

function unregister(state: KeeperState, asked: VmGeneration): Handled {
  const vm = state.vms.get(asked.vmId);
  if (vm === undefined || vm.generation !== asked.generation) return accept(state);
  if (vm.phase === "dying") return refuse(state, "not-gone", "it is being killed and was not seen gone yet");
  const vms = new Map(state.vms);
  vms.delete(asked.vmId);
  return accept({ ...state, vms });
}

function park(state: KeeperState, seq: number, durationMs: number): Handled {
  const mintedAtMs = state.mints.get(seq);
  if (mintedAtMs === undefined) return refuse(state, "unknown-seq", `heartbeat ${seq} was not minted here lately`);
  if (durationMs > PARK_MAX_MS) return refuse(state, "invalid", `parks for ${durationMs} ms, more than ${PARK_MAX_MS}`);
  return acceptUntil({ ...state, parkedMs: Math.max(state.parkedMs, mintedAtMs + durationMs) });
}

function unpark(state: KeeperState, nowMs: number): Handled {
  const needed = [...state.vms.values()].some((vm) => vm.deadline && vm.phase === "live") || state.inheritedMs > 0;
  if (needed && state.ackedMs - state.killLeadMs < nowMs + UNPARK_SLACK_MS) {
    return refuse(state, "expired", "no acknowledged time to fall back to yet; ask again after the next acknowledgement");
  }
  return acceptUntil({ ...state, parkedMs: 0 });
}

/** Turns the state into things to do: kills that are due, words for the log, the guardian's feed. */
function act(state: KeeperState, before: KeeperState, nowMs: number, effects: KeeperEffect[]): KeeperState {
  let vms: Map<string, KeptVm> | null = null;
  for (const vm of state.vms.values()) {
    if (vm.phase === "live") continue;
    const { vmId, generation } = vm;
    let next = vm;
    if (vm.why !== "" && before.vms.get(vmId)?.phase !== vm.phase && vm.phase === "dying")
      effects.push({ kind: "fenced", vmId, generation, why: vm.why });
    if (!vm.killing && nowMs >= vm.nextKillMs) {
      effects.push({ kind: "kill", vmId, generation, recipe: vm.recipe });
      next = { ...next, killing: true };
    }
    if (vm.phase === "dying" && !vm.overdueTold && nowMs >= vm.dueMs) {
      effects.push({ kind: "overdue", vmId, generation, dueMs: vm.dueMs });
      next = { ...next, overdueTold: true };
    }
    if (next !== vm) (vms ??= new Map(state.vms)).set(vmId, next);
  }
  const acted = vms === null ? state : { ...state, vms };
  const feed = feedOf(acted);
  if (sameFeed(feed, acted.fed)) return acted;
  effects.push({ kind: "feed", feed });
  return { ...acted, fed: feed };
}

/**
 * Armed while a deadline VM may run. A generation that was seen gone needs no guardian even if its start was under
 * way: it comes up paused, and is never confirmed.
 */
function feedOf(state: KeeperState): Feed {
  // Only the agent can say which domains an earlier keeper answered for; until it has, their guardian gets no more time.
  let armed = state.inheritedMs > 0;
  let until = armed ? Math.min(deadlineMs(state), state.inheritedMs) : deadlineMs(state);
  for (const vm of state.vms.values()) {
    if (!vm.deadline || vm.phase === "gone") continue;
    armed = true;
    if (vm.phase === "dying") until = Math.min(until, vm.dueMs);
  }
  return armed ? { armed: true, deadlineMs: until } : { armed: false };
}

function sameFeed(a: Feed, b: Feed): boolean {
  return a.armed === b.armed && (!a.armed || !b.armed || a.deadlineMs === b.deadlineMs);
}
