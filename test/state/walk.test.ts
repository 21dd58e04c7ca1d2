/** Random commands, sensible and not, and what must hold after each of them. A failing seed is printed; run it alone with ROOST_SEED. */
import t from "tap";
import { seededRandom, type Random } from "../../src/base/random.ts";
import { legalActions, mayMove, type VmAction } from "../../src/model/lifecycle.ts";
import { type NodeUsage, usageOf } from "../../src/model/capacity.ts";
import { isSent, type Job, type Task } from "../../src/model/task.ts";
import { isEnd, isStart, placeOf } from "../../src/model/task-flow.ts";
import { orchestrate, Turns } from "../../src/tasks/orchestrate.ts";
import type { Vm } from "../../src/model/vm.ts";
import { type Applied, apply } from "../../src/state/apply.ts";
import { decodeEnvelope } from "../../src/state/codec.ts";
import type { Command, VmObservation } from "../../src/state/commands.ts";
import { State } from "../../src/state/state.ts";
import {
  checkpointText,
  CommandLog,
  decodeCheckpoint,
  definition,
  encodeCheckpoint,
  diskIn,
  expiry,
  INFO,
  joining,
  pool,
  tables,
  KEPT,
} from "./log.ts";

const SEEDS = process.env["ROOST_SEED"] === undefined ? Array.from({ length: 14 }, (_, i) => i + 1) : [Number(process.env["ROOST_SEED"])];
const STEPS = 600;
const NODES = ["n1", "n2", "n3", "n4"];
const VMS = Array.from({ length: 9 }, (_, i) => `v${i}`);

type Step = { command: Command; origin: string; term: number };

function randomStep(random: Random, log: CommandLog, minted: () => string): Step {
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)] as T;
  const nodeId = pick(NODES);
  const vms = [...log.state.vms.values()];
  const vm = vms.length === 0 ? undefined : pick(vms);
  const vmId = vm?.id ?? "none";
  // Mostly right, so that the walk gets somewhere; sometimes wrong, so that refusals are walked too.
  const wrong = random.below(12) === 0;
  const term = wrong ? log.term - 1 : log.term;
  const by = (origin: string, command: Command): Step => ({ command, origin: wrong ? pick(NODES) : origin, term });
  switch (random.below(50)) {
    case 0:
    case 36:
    case 37: {
      const changes = {
        memoryMib: 512 * (1 + random.below(3)),
        disks: random.below(3) === 0 ? [] : [diskIn(pick(["shared", "local"]))],
        ha: { enabled: pick([null, true, false]), priority: 0, onQuorumLoss: pick(["stop", "keep"] as const) },
        restart: pick(["never", "on-failure", "always"] as const),
      };
      const create = {
        id: minted(),
        definition: definition(pick(VMS), changes),
        hold: random.below(20) === 0,
        nodeId: null,
        power: pick(["on", "on", "off"] as const),
      };
      return by("n1", { type: "vm.create", vms: [create] });
    }
    case 1:
    case 2:
    case 38:
    case 39: {
      const legal = legalActions(vm?.state ?? "deleted").filter((action) => !/delete|shutdown/.test(action) || random.below(4) === 0);
      const any: VmAction[] = ["start", "deploy", "shutdown", "force-shutdown", "pause", "unpause", "restart", "force-restart", "delete"];
      const action = random.below(4) === 0 || legal.length === 0 ? pick(any) : pick(legal);
      return by("n1", { type: "vm.desire", vmId, action, nodeId: wrong ? "n9" : null });
    }
    case 3:
    case 4:
    case 5:
    case 6: {
      const waiting = vms.filter((one) => one.claim === null);
      const ready = NODES.filter((id) => log.state.nodes.get(id)?.state === "ready");
      const chosen = waiting.length === 0 || wrong ? vms : waiting;
      const placements = chosen.slice(0, 1 + random.below(3)).map((one) => ({
        vmId: one.id,
        nodeId: pick(ready.length > 0 && !wrong ? ready : NODES),
        generation: one.generation - (wrong ? 1 : 0),
      }));
      return by("n1", { type: "vm.place", placements, rejections: [] });
    }
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
    case 12: {
      const claimed = vms.filter((one) => one.claim !== null);
      const one = claimed.length === 0 ? vm : pick(claimed);
      const holder = one?.claim?.nodeId ?? nodeId;
      const observed = pick<VmObservation>([
        { kind: "running" },
        { kind: "running" },
        { kind: "paused" },
        { kind: "gone", cause: pick(["shutdown", "destroyed", "crashed", "failed", "fenced", "never-started"] as const), detail: "" },
      ]);
      const at = (one?.generation ?? 0) - (wrong ? 1 : 0);
      return by(holder, { type: "vm.report", vmId: one?.id ?? "none", nodeId: wrong ? nodeId : holder, generation: at, observed });
    }
    case 13: {
      const working = [...log.state.tasks.values()].filter((task) => task.state === "running");
      const tasks = random.below(3) === 0 ? [...log.state.tasks.values()] : working;
      return by("n1", { type: "task.cancel", taskId: tasks.length === 0 ? "t0" : pick(tasks).id });
    }
    case 20:
    case 21:
    case 22:
    case 23:
    case 24:
    case 25: {
      const turns = new Turns();
      const sends = orchestrate(log.state, { inFlight: [], turns, atMs: log.nowMs, max: 1 + random.below(4) });
      return by("n1", {
        type: "task.dispatch",
        sends: wrong ? sends.map((send) => ({ ...send, attempt: send.attempt + random.below(2), nodeId: pick(NODES) })) : sends,
      });
    }
    case 26: {
      const working = [...log.state.tasks.values()].filter((one) => one.jobs.some(isSent));
      const resets = working.filter((one) => one.action === "restart" || one.action === "force-restart");
      const runs = vms.find((one) => one.state === "running" && !log.state.tasksByObject.has(one.id));
      if (resets.length === 0 && runs !== undefined && random.below(2) === 0)
        return by("n1", { type: "vm.desire", vmId: runs.id, action: pick(["restart", "force-restart"]), nodeId: null });
      const task = pick(resets.length > 0 ? resets : working);
      const job = task?.jobs.find(isSent);
      if (task === undefined || job === undefined) return by("n1", { type: "vm.retry", vmId });
      const key = { taskId: task.id, path: job.path, attempt: job.attempt, nodeId: job.nodeId ?? "" };
      if (resets.length > 0 || random.below(4) === 0) return by(key.nodeId, { type: "task.begin", ...key, run: pick(["r1", "r2"]) });
      return by(key.nodeId, { type: "task.progress", ...key, steps: [{ atMs: log.nowMs, name: "a step", detail: "" }], progress: null });
    }
    case 27:
    case 28:
    case 29:
    case 30:
    case 31:
    case 32:
    case 33:
    case 34:
    case 35: {
      const sent = [...log.state.tasks.values()].flatMap((task) => task.jobs.filter(isSent).map((job) => ({ task, job })));
      if (sent.length === 0) return by("n1", { type: "vm.retry", vmId });
      const { task, job } = pick(sent);
      const code = pick(["broken", "disk-held", "unknown", "cancelled", "timeout"]);
      const ok = random.below(4) !== 0;
      const at = nodeId;
      const holder = job.nodeId ?? at;
      return by(holder, {
        type: "task.answer",
        taskId: task.id,
        path: job.path,
        attempt: job.attempt - (wrong ? random.below(2) : 0),
        nodeId: holder,
        generation: job.generation,
        outcome: ok ? { ok: true } : { ok: false, error: { code, message: "it broke", hint: "" } },
        steps: [],
      });
    }
    case 14:
    case 15:
    case 16: {
      // Seldom, else no node serves for long enough that anything happens on it.
      const dead = [...log.state.nodes.values()].find((node) => node.state === "unreachable");
      switch (random.below(8)) {
        case 0:
          return by("n1", { type: "node.suspect", nodeId, silentMs: 1_500 });
        case 1:
          return by("n1", { type: "node.alive", nodeId: dead?.id ?? nodeId });
        case 2:
          return by("n1", dead === undefined && random.below(3) > 0 ? { type: "vm.retry", vmId } : expiry(dead?.id ?? nodeId, term));
        default:
          return by("n1", { type: "vm.retry", vmId });
      }
    }
    case 17: {
      const away = [...log.state.nodes.values()].filter((node) => node.state === "fenced");
      const node = away.length > 0 ? pick(away) : log.state.nodes.get(nodeId);
      const id = node?.id ?? nodeId;
      const info = { ...INFO, guardian: node?.info?.guardian ?? "test", pools: INFO.pools.slice(0, 1 + random.below(2)) };
      return by(id, { type: "node.hello", nodeId: id, info, parkRevision: 0, apiAddress: `${id}:1`, peerAddress: `${id}:2` });
    }
    case 18:
      return by("n1", { type: "node.enable", nodeId, enabled: random.below(3) !== 0 });
    case 42: {
      const silent = [...log.state.nodes.values()].filter((node) => node.state === "unreachable" || node.state === "fenced");
      const target = silent.length === 0 ? nodeId : pick(silent).id;
      return by("n1", { type: "fence.begin", nodeId: target, why: "the walk", auto: random.below(2) === 0 });
    }
    case 43:
    case 44:
    case 45:
    case 46:
    case 47:
    case 48:
    case 49: {
      const open = [...log.state.fencing.values()].filter((row) => row.attempt?.state === "open");
      const target = open.length === 0 ? nodeId : pick(open).nodeId;
      const attempt = log.state.fencing.get(target)?.attempt;
      const about = { nodeId: target, attempt: (attempt?.id ?? 0) - (wrong ? 1 : 0) };
      if (random.below(8) === 0) return by("n1", { type: "fence.end", ...about, state: "failed", why: "the walk" });
      if (attempt?.current === null || attempt?.current === undefined || random.below(3) === 0)
        return by("n1", { type: "fence.try", ...about, executorId: pick(NODES), newRound: false, gaveUp: null });
      const { executorId, number } = attempt.current;
      const outcome = random.below(3) === 0 ? ({ off: false, reason: "busy" } as const) : ({ off: true, device: "d" } as const);
      return by(executorId, { type: "fence.report", ...about, try: number - random.below(2), executorId, outcome });
    }
    default: {
      if (random.below(2) === 0) return by("n1", { type: "node.join", tokenId: "none", secretHash: "", node: joining(minted()) });
      return by("n1", { type: "node.fence", nodeId, proof: { kind: "operator", nodeId, user: "root" } });
    }
  }
}

/** Everything that is kept beside the rows must be what the rows say. */
function indexFaults(state: State): string[] {
  const faults: string[] = [];
  const same = (what: string, kept: unknown, computed: unknown): void => {
    if (JSON.stringify(kept) !== JSON.stringify(computed))
      faults.push(`${what}: kept ${JSON.stringify(kept)}, computed ${JSON.stringify(computed)}`);
  };
  const sorted = (entries: Iterable<[string, unknown]>): [string, unknown][] => [...entries].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const claims = new Map<string, string[]>();
  for (const vm of state.vms.values())
    if (vm.claim !== null) claims.set(vm.claim.nodeId, [...(claims.get(vm.claim.nodeId) ?? []), vm.id].toSorted());
  const keptClaims = [...state.claimsByNode].map(([nodeId, ids]): [string, unknown] => [nodeId, [...ids].toSorted()]);
  same("claimsByNode", sorted(keptClaims), sorted(claims));
  // A node that holds nothing any more may keep a row of zeros.
  const busy = (nodes: ReadonlyMap<string, NodeUsage>): [string, unknown][] =>
    sorted([...nodes].filter(([, usage]) => Object.values(usage).some((n) => n !== 0)));
  same("usage", busy(state.usage.nodes), busy(usageOf(state).nodes));
  same("totalCpus", state.usage.totalCpus, usageOf(state).totalCpus);
  const tasks = new State();
  for (const [key, row] of [...state.tasks].toReversed()) tasks.write({ table: "tasks", key, row });
  same("tasksByObject", sorted(state.tasksByObject), sorted(tasks.tasksByObject));
  const sets = (index: ReadonlyMap<string, ReadonlySet<string>>): [string, unknown][] =>
    sorted([...index].map(([key, ids]) => [key, [...ids].toSorted()]));
  same("tasksByNode", sets(state.tasksByNode), sets(tasks.tasksByNode));
  same("tasksDue", [...state.tasksDue].toSorted(), [...tasks.tasksDue].toSorted());
  same("slots", sorted(state.slots), sorted(tasks.slots));
  same("finished", state.taskIndex.finished, tasks.taskIndex.finished);
  same("oldest", state.taskIndex.oldest(99), tasks.taskIndex.oldest(99));
  same("vmIdByName", sorted(state.vmIdByName), sorted([...state.vms.values()].map((vm) => [vm.definition.name, vm.id])));
  same("nodeIdByName", sorted(state.nodeIdByName), sorted([...state.nodes.values()].map((node) => [node.name, node.id])));
  same("poolIdByName", sorted(state.poolIdByName), sorted([...state.pools.values()].map((one) => [one.name, one.id])));
  return faults;
}

/** When each node was last heard of, and what each attempt to fence has come to, kept apart from the state that is judged by it. */
interface Heard {
  lifeAt: Map<string, number>;
  /** By the attempt's id. */
  tries: Map<number, { nodeId: string; number: number; executorId: string; term: number }>;
}

function hear(heard: Heard, { command, origin }: Step, log: CommandLog): void {
  heard.lifeAt.set(origin, log.state.index);
  if (command.type === "node.alive") heard.lifeAt.set(command.nodeId, log.state.index);
  if (command.type !== "fence.try") return;
  const { nodeId, attempt, executorId } = command;
  heard.tries.set(attempt, { nodeId, number: (heard.tries.get(attempt)?.number ?? 0) + 1, executorId, term: log.term });
}

/** Why a claim may end: its holder let go, its time ran out, or somebody vouches for the machine (HA-4). */
function mayEndClaim(step: Step, vm: Vm, log: CommandLog, tasks: ReadonlyMap<string, Task>, heard: Heard): boolean {
  const { command, origin, term } = step;
  const { claim } = vm;
  if (claim === null) return false;
  switch (command.type) {
    case "vm.report":
      return (
        command.observed.kind === "gone" && command.vmId === vm.id && origin === claim.nodeId && command.generation === claim.generation
      );
    case "node.expire":
      if (log.state.nodes.get(claim.nodeId)?.info?.guardian === null) return false;
      return command.nodeId === claim.nodeId && claim.deadline && term === log.term && command.proof.term === log.term;
    case "node.fence":
      return command.nodeId === claim.nodeId;
    case "task.answer":
      return origin === claim.nodeId && command.generation === claim.generation && nothingRuns(step, vm, tasks);
    // Called off before anything was started of it.
    case "task.cancel":
    case "vm.desire":
      return nothingRuns(step, vm, tasks);
    case "fence.report": {
      // Seen off by whose turn it was, in the term of the try, and nothing heard of the node since the intent.
      const one = heard.tries.get(command.attempt);
      const silent = (heard.lifeAt.get(claim.nodeId) ?? 0) < command.attempt;
      const turn = one?.nodeId === claim.nodeId && one.number === command.try && one.executorId === origin && one.term === log.term;
      return command.outcome.off && silent && turn && origin !== claim.nodeId;
    }
    default:
      return false;
  }
}

/** A claim is let go only when its domain has been seen to be no more, or has never been: by what was known before the command, and its answer. */
function nothingRuns({ command }: Step, before: Vm, tasks: ReadonlyMap<string, Task>): boolean {
  const answered = (task: Task, job: Job): boolean =>
    command.type === "task.answer" && command.outcome.ok && command.taskId === task.id && command.path === job.path;
  const ofClaim = [...tasks.values()].flatMap((task) =>
    task.jobs
      .filter((job) => task.object.id === before.id && job.generation === before.claim?.generation && job.attempt > 0)
      .map((job) => ({ task, job })),
  );
  if (ofClaim.some(({ task, job }) => (job.name === "power-off" || job.name === "wait-for-power-off") && answered(task, job))) return true;
  return ofClaim.every(
    ({ task, job }) => job.name !== "power-on" || job.state === "undone" || (job.state === "undo-sent" && answered(task, job)),
  );
}

/** What tasks promise, whatever happened (docs/design/015-tasks.md). */
function taskFaults(log: CommandLog): string[] {
  const faults: string[] = [];
  const { state } = log;
  for (const vm of state.vms.values()) {
    const open = (state.tasksByObject.get(vm.id) ?? []).map((id) => state.tasks.get(id)).filter((task) => task !== undefined);
    const starts = open.filter(isStart);
    const waits = vm.state === "pending" || vm.state === "recovering";
    if (starts.length > 1) faults.push(`${vm.id} has ${starts.length} starts`);
    if (waits && (open[0] === undefined || !isStart(open[0]) || placeOf(open[0])?.state !== "waiting"))
      faults.push(`${vm.id} is ${vm.state} and no start of it waits for a place`);
    if (!waits && starts.some((task) => placeOf(task)?.state === "waiting"))
      faults.push(`${vm.id} is ${vm.state}, and a start of it waits`);
    if ((vm.state === "prolog" || vm.state === "boot") && starts.length === 0) faults.push(`${vm.id} is ${vm.state} without a start`);
    if ((vm.state === "shutdown" || vm.state === "epilog") && !open.some(isEnd))
      faults.push(`${vm.id} is ${vm.state} without a task that ends it`);
    if (vm.state === "stopped" || vm.state === "failed")
      for (const task of open) faults.push(`${vm.id} is ${vm.state} and ${task.id} (${task.action}) is ${task.state}`);
    if (vm.desired.power === "off" && vm.claim !== null && open.length === 0) faults.push(`${vm.id} is to be off, and no task does it`);
    if (vm.claim !== null && open[0] !== undefined) {
      const stranger = open[0].jobs.find((job) => isSent(job) && job.generation !== vm.claim?.generation);
      if (stranger !== undefined) faults.push(`${open[0].id}: ${stranger.name} is sent under another generation`);
    }
  }
  for (const [id, ids] of state.tasksByObject) {
    if (!state.vms.has(id)) faults.push(`tasks of ${id}, which is gone, are unfinished: ${ids.join()}`);
    for (const one of ids.slice(1))
      if (state.tasks.get(one)?.jobs.some(isSent) === true) faults.push(`${one} has a job sent before its turn`);
  }
  for (const [key, used] of state.slots) if (used > 2) faults.push(`${used} of 2 slots of ${key} are in use`);
  const finished = [...state.tasks.values()].filter((task) => task.endedRevision !== null).length;
  if (finished > 10) faults.push(`${finished} finished tasks are kept, tasks.kept is 10`);
  return faults;
}

function vmFaults(
  step: Step,
  before: ReadonlyMap<string, Vm>,
  tasks: ReadonlyMap<string, Task>,
  log: CommandLog,
  { given, highest, heard }: { given: Set<string>; highest: Map<string, number>; heard: Heard },
): string[] {
  const faults: string[] = [];
  for (const [id, was] of before) {
    const is = log.state.vms.get(id);
    if (is === undefined) {
      if (was.claim !== null) faults.push(`${id} went while ${was.claim.nodeId} held it`);
      if (!was.desired.deleted && step.command.type !== "vm.desire") faults.push(`${id} went unasked`);
      continue;
    }
    if (is === was) continue;
    if (is.state !== was.state && !mayMove(was.state, is.state)) faults.push(`${id}: ${was.state} → ${is.state}`);
    if (was.claim !== null && is.claim === null && !mayEndClaim(step, was, log, tasks, heard))
      faults.push(`${id}: its claim ended by ${step.command.type}`);
    if (was.claim !== null && is.claim !== null && JSON.stringify(was.claim) !== JSON.stringify(is.claim))
      faults.push(`${id}: its claim moved`);
    if (was.claim === null && is.claim !== null) {
      if (step.command.type !== "vm.place") faults.push(`${id}: placed by ${step.command.type}`);
      if (was.state !== "pending" && was.state !== "recovering") faults.push(`${id}: placed from ${was.state}`);
      if (given.has(`${id}/${is.claim.generation}`)) faults.push(`${id}: generation ${is.claim.generation} was given before`);
      given.add(`${id}/${is.claim.generation}`);
    }
  }
  for (const vm of log.state.vms.values()) {
    if (vm.generation < (highest.get(vm.id) ?? 0)) faults.push(`${vm.id}: its generation fell to ${vm.generation}`);
    highest.set(vm.id, vm.generation);
    if (vm.claim !== null && vm.claim.generation !== vm.generation) faults.push(`${vm.id}: its claim is not of its generation`);
    if (vm.claim === null && ["prolog", "boot", "running", "paused", "shutdown", "unknown"].includes(vm.state))
      faults.push(`${vm.id}: ${vm.state} without a claim`);
    if (vm.claim !== null && ["pending", "recovering", "stopped", "failed", "epilog"].includes(vm.state))
      faults.push(`${vm.id}: ${vm.state} with a claim`);
  }
  // A node whose claim set changed says so, else its keeper would never learn of it (HA-2).
  const claimsOf = (vms: ReadonlyMap<string, Vm>, nodeId: string): string =>
    [...vms.values()]
      .filter((vm) => vm.claim?.nodeId === nodeId)
      .map((vm) => `${vm.id}/${vm.generation}`)
      .toSorted()
      .join();
  for (const node of log.state.nodes.values()) {
    if (claimsOf(before, node.id) !== claimsOf(log.state.vms, node.id) && node.claimRevision !== log.state.index)
      faults.push(`${node.id}: claims changed, its revision did not`);
  }
  return faults;
}

/** The same state with rows in another order: tables are in the order of creation on one replica and of keys on another. */
function fromCheckpoint(state: State): State {
  const rows = [...state.rows()];
  const ordered = new Set(["requests", "callers", "events"]);
  const twin = new State();
  for (const row of [...rows.filter(({ table }) => !ordered.has(table)).toReversed(), ...rows.filter(({ table }) => ordered.has(table))])
    twin.write(row);
  twin.moveTo(state);
  return twin;
}

/** In what order rows are written does not matter. */
function saidText(applied: Applied): string {
  return JSON.stringify({ ...applied, changes: applied.changes.map((change) => JSON.stringify(change)).toSorted() });
}

function walk(seed: number): { faults: string[]; log: CommandLog; seen: Set<string> } {
  const random = seededRandom(seed);
  const log = CommandLog.withNodes(4);
  log.ok(pool("shared", true));
  log.ok(pool("local", false));
  log.ok({ type: "setting.update", key: "ha.maxFailures", value: 3 });
  log.ok({ type: "setting.update", key: "tasks.kept", value: 10 });
  // One node without a guardian: expiry is no proof for it.
  log.hello("n4", { guardian: null });
  const given = new Set<string>();
  const highest = new Map<string, number>();
  const seen = new Set<string>();
  const heard: Heard = { lifeAt: new Map(), tries: new Map() };
  const device = { name: "d", level: 1, agent: "fence_fake", options: {}, secrets: {}, timeoutMs: 1_000 };
  for (const nodeId of NODES) log.ok({ type: "fencing.set", nodeId, device });
  let ids = 0;
  let twin = fromCheckpoint(log.state);
  for (let i = 0; i < STEPS; i++) {
    log.nowMs += random.below(3_000);
    if (random.below(40) === 0) log.term += 1;
    const step = randomStep(random, log, () => `id-${++ids}`);
    const before = new Map(log.state.vms);
    const tasksBefore = new Map(log.state.tasks);
    const text = tables(log.state);
    const said = log.apply(step.command, { origin: step.origin, term: step.term });
    const { outcome, changes } = said;
    const entry = log.entries.at(-1);
    if (entry !== undefined && saidText(apply(twin, decodeEnvelope(entry.data), entry)) !== saidText(said))
      return { faults: [`step ${i}, ${JSON.stringify(step)}: a replica that began with a checkpoint says something else`], log, seen };
    if (i % 50 === 0) twin = fromCheckpoint(log.state);
    if (outcome.ok) hear(heard, step, log);
    const kind = step.command.type === "fence.report" ? `fence.report ${step.command.outcome.off ? "off" : "on"}` : step.command.type;
    seen.add(`${kind} ${outcome.ok ? "ok" : "refused"}`);
    for (const vm of log.state.vms.values()) seen.add(vm.state);
    for (const event of said.events) if (/^(task|job)\./.test(event.kind)) seen.add(event.kind);
    const faults = [...indexFaults(log.state), ...vmFaults(step, before, tasksBefore, log, { given, highest, heard }), ...taskFaults(log)];
    if (!outcome.ok && (tables(log.state) !== text || changes.some((change) => !KEPT.has(change.table))))
      faults.push("a refused command changed something");
    if (faults.length > 0) return { faults: faults.map((fault) => `step ${i}, ${JSON.stringify(step)}: ${fault}`), log, seen };
  }
  return { faults: [], log, seen };
}

t.test("random walks", (t) => {
  const seen = new Set<string>();
  for (const seed of SEEDS) {
    const made = walk(seed);
    for (const one of made.seen) seen.add(one);
    if (made.faults.length > 0) {
      t.fail(`seed ${seed}`, { faults: made.faults });
      break;
    }
    const { log } = made;
    // The same log gives the same state (STA-1), to the byte.
    const text = checkpointText(log.state);
    if (checkpointText(log.replayed()) !== text) t.fail(`seed ${seed}: the same log gave another state`);
    if (checkpointText(log.replayed(7)) !== text) t.fail(`seed ${seed}: a replica with restarts came to another state`);
    const position = {
      index: log.state.index,
      term: log.state.term,
      membership: { voters: [1, 2], outgoing: [], learners: [3], learnersNext: [], autoLeave: false },
    };
    const decoded = decodeCheckpoint(encodeCheckpoint(log.state, position));
    const rebuilt = new State();
    for (const row of decoded.rows) rebuilt.write(row);
    rebuilt.moveTo(decoded.position);
    if (JSON.stringify(decoded.position) !== JSON.stringify(position)) t.fail(`seed ${seed}: the position changed on its way`);
    if (checkpointText(rebuilt) !== text) t.fail(`seed ${seed}: a checkpoint gave another state`);
    if (indexFaults(rebuilt).length > 0) t.fail(`seed ${seed}: ${indexFaults(rebuilt).join()}`);
    if ([...rebuilt.requests.keys()].join() !== [...log.state.requests.keys()].join()) t.fail(`seed ${seed}: answers in another order`);
  }
  t.comment(`${SEEDS.length} seeds from ${SEEDS[0]}, ${STEPS} commands each; saw ${[...seen].toSorted().join(", ")}`);
  if (SEEDS.length > 1) {
    // A walk that stays at home shows nothing.
    for (const state of [
      "pending",
      "prolog",
      "boot",
      "running",
      "paused",
      "shutdown",
      "epilog",
      "task.unknown",
      "task.rolling-back",
      "job.undone",
      "stopped",
      "recovering",
      "failed",
      "unknown",
    ])
      t.ok(seen.has(state), `saw ${state}`);
    for (const type of [
      "vm.create",
      "vm.desire",
      "vm.report",
      "node.expire",
      "node.fence",
      "node.enable",
      "task.dispatch",
      "task.answer",
      "task.begin",
      "task.cancel",
      "fence.begin",
      "fence.try",
      "fence.report off",
    ]) {
      for (const end of ["ok", "refused"]) t.ok(seen.has(`${type} ${end}`), `saw ${type} ${end}`);
    }
  }
  t.end();
});
