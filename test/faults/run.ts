/** One case with one fault: the fault at its moment, then everything that must be so afterwards. */
import { RoostError } from "../../src/base/errors.ts";
import { diagnose, findingKey } from "../../src/model/doctor.ts";
import type { Finding, Inspection } from "../../src/model/doctor.ts";
import { FINISHED, isTaskId } from "../../src/model/task.ts";
import type { Task } from "../../src/model/task.ts";
import { bring, domainsOf, during, standing } from "./cases.ts";
import type { Case } from "./cases.ts";
import type { Host } from "./host.ts";
import { World } from "./world.ts";
import type { Call, WorldOptions } from "./world.ts";

export const FAULTS = [
  /** The call fails for good, without its effect or after it; the second also in whatever takes it back, twice. */
  "fails",
  "fails, undo too",
  /** It fails once in a way that passes. */
  "stumbles",
  "leader killed",
  "leader deposed, not knowing",
  "agent killed",
  "leader and agent killed",
  "hypervisor dies",
  "node dies",
  "cancelled",
  "cancelled, undo fails",
] as const;
export type FaultKind = (typeof FAULTS)[number];

/** Only a call to the outside can fail; a command is lost or not. */
const OF_CALLS: ReadonlySet<FaultKind> = new Set<FaultKind>(["fails", "fails, undo too", "stumbles"]);

/** A point in the course of a task: the n-th such call, or command on its way to the log. */
export interface Moment {
  /** `configure pool.clone #1`, `power-on answer #1`. */
  name: string;
  phase: "before" | "after";
}

export interface Fault extends Moment {
  kind: FaultKind;
}

const VM = "00000000-0000-4000-8000-0000000000aa";
const SETTLE_MS = 400_000;
const QUIET_MS = 3_000;
const LOOKS = 3;
const AGAIN_MS = 1_500;

/** Names of all moments of the case, in the order in which they came when nothing went wrong. */
export async function moments(one: Case, seed: number): Promise<string[]> {
  const names: string[] = [];
  await play(one, null, { seed }, (name, phase) => void (phase === "before" && names.push(name)));
  return names;
}

/** All faults of a case: each kind at each moment, before and after it. */
export function faultsOf(names: readonly string[]): Fault[] {
  const faults: Fault[] = [];
  for (const name of names) {
    const isCommand = / (?:send|undo-send|answer|begin|place|report)/.test(` ${name}`);
    for (const phase of ["before", "after"] as const)
      for (const kind of FAULTS) if (!isCommand || !OF_CALLS.has(kind)) faults.push({ name, phase, kind });
  }
  return faults;
}

export function faultText(one: Case, fault: Fault): string {
  return `${one.action} (${one.disks} disks): ${fault.kind} ${fault.phase} ${fault.name}`;
}

/** @returns how the task ended. Throws with what was found wrong. */
export async function runFault(one: Case, fault: Fault, options: Options): Promise<Task["state"]> {
  return await play(one, fault, options, () => {});
}

type Options = Omit<WorldOptions, "disks">;

type TellMoment = (name: string, phase: Call["phase"]) => void;

async function play(one: Case, fault: Fault | null, options: Options, told: TellMoment): Promise<Task["state"]> {
  const world = new World({ disks: one.disks, ...options });
  await world.found();
  await bring(world, VM, one.before);
  const known = new Set(world.state.tasks.keys());
  const injector = new Injector(world, fault, told);
  world.onCall = (call) => injector.onCall(call);
  await during(world, one.ask(world, VM));
  const task = (): Task | undefined => [...world.state.tasks.values()].find(({ id, action }) => !known.has(id) && action === one.action);
  const over = (): boolean => task() !== undefined && world.isQuiet(VM) && world.allReady();
  if (!(await world.clock.until(over, SETTLE_MS))) throw new Error(`it does not come to rest: ${world.describe(VM)}`);
  const resets = world.effectsOf("reset", VM) + world.effectsOf("reboot", VM);
  await world.clock.until(() => false, QUIET_MS);
  world.onCall = () => null;
  if (!over()) throw new Error(`it does not stay at rest: ${world.describe(VM)}`);
  const first = task() as Task;
  if (fault !== null && !injector.fired) {
    // After an earlier moment's fault the later ones may never come; alone, each comes as it did.
    throw new Error(`the moment never came (${first.state})`);
  }
  if (fault === null && first.state !== "done") throw new Error(`without any fault it is ${first.state}: ${world.describe(VM)}`);
  await check(world, one, first, resets);

  // The same request again, on what is there now.
  await bring(world, VM, one.before);
  const before = new Set(world.state.tasks.keys());
  await during(world, one.ask(world, VM));
  const again = (): Task | undefined => [...world.state.tasks.values()].find(({ id, action }) => !before.has(id) && action === one.action);
  const reached = await world.clock.until(
    () => FINISHED.has(again()?.state ?? "waiting") && world.isQuiet(VM) && world.allReady(),
    SETTLE_MS,
  );
  if (!reached || again()?.state !== "done")
    throw new Error(`the same request then is ${again()?.state ?? "never made"}: ${world.describe(VM)}`);
  if (standing(world, VM) !== one.after) throw new Error(`the same request then leaves it ${standing(world, VM)}, not ${one.after}`);

  await bring(world, VM, "absent");
  await world.clock.until(() => false, QUIET_MS);
  await clean(world);
  return first.state;
}

/** TSK-4, TSK-5: at rest it is what its owner wishes, nothing is left over, and what must not be repeated was not. */
async function check(world: World, one: Case, task: Task, resets: number): Promise<void> {
  const wrong = (what: string): Error => new Error(`${what}: ${world.describe(VM)}`);
  if (world.violation !== null) throw wrong(world.violation);
  if (!FINISHED.has(task.state)) throw wrong(`task ${task.id} is ${task.state}`);
  const vm = world.vm(VM);
  const is = standing(world, VM);
  if (vm !== undefined && vm.desired.deleted) throw wrong("it is to be deleted, and nobody does it");
  if (vm?.desired.power === "on" && is !== "running" && is !== "paused") throw wrong(`it shall run and is ${vm.state}`);
  if (vm?.desired.power === "off" && is !== "stopped") throw wrong(`it shall be off and is ${vm.state}`);
  // What came after it by itself, as when its node died, is another matter.
  const isLast = [...world.state.tasks.values()].every(({ number }) => number <= task.number);
  if (task.state === "done" && isLast && is !== one.after) throw wrong(`done, and it is ${is}, not ${one.after}`);
  if (task.state === "failed" || task.state === "cancelled") {
    const open = task.jobs.filter((job) => job.state === "done" && job.name !== "shutdown");
    if (open.length > 0 && one.action !== "shutdown")
      throw wrong(`${task.state}, and ${open.map(({ name }) => name).join(", ")} is not undone`);
  }
  if (resets > 1) throw wrong(`it was reset ${resets} times`);
  if ((one.action === "restart" || one.action === "force-restart") && task.state === "done" && resets !== 1)
    throw wrong(`done, and reset ${resets} times`);
  if (task.state === "unknown" && one.action !== "restart" && one.action !== "force-restart")
    throw wrong("unknown, though it can be repeated");
  // Undone, it has what it had before: nothing, if it never ran.
  const ran = vm?.history.some(({ state }) => state === "running") ?? false;
  if (!ran && is !== "running" && volumesOf(world).length > 0)
    throw wrong(`${volumesOf(world).join(", ")} is left of a start that was undone`);
  const domains = await domainsOf(world, VM);
  const expected = is === "running" || is === "paused" ? 1 : 0;
  if (domains.length !== expected) throw wrong(`${domains.length} domains, not ${expected}`);
  await healthy(world);
}

/** What `roost doctor` says, and sessions at the drivers. */
async function healthy(world: World): Promise<void> {
  const look = async (): Promise<Finding[]> => {
    const inspections: Inspection[] = [];
    for (const host of world.hosts) inspections.push(await during(world, host.inspect()));
    return diagnose(world.state, inspections);
  };
  // As it does: what was only under way is over at the next look.
  let findings = await look();
  for (let i = 1; i < LOOKS && findings.length > 0; i++) {
    await world.clock.until(() => false, AGAIN_MS);
    const before = new Set(findings.map(findingKey));
    findings = (await look()).filter((finding) => before.has(findingKey(finding)));
  }
  if (findings.length > 0)
    throw new Error(`doctor: ${findings.map(({ code, where, subject, what }) => `${code} ${where} ${subject} ${what}`).join("; ")}`);
  if (world.state.slots.size > 0) throw new Error(`slots are held: ${JSON.stringify([...world.state.slots])}`);
  const [first, ...others] = world.consensus.replicas.map((replica) => JSON.stringify([...replica.state.tasks, ...replica.state.vms]));
  if (others.some((other) => other !== first)) throw new Error("the replicas differ");
}

async function clean(world: World): Promise<void> {
  await healthy(world);
  if (volumesOf(world).length > 0) throw new Error(`deleted, and ${volumesOf(world).join(", ")} is left`);
}

/** Everything that is there of VMs, marks too. */
function volumesOf(world: World): string[] {
  return [...world.shelves].flatMap(([pool, { volumes, marks }]) =>
    [...volumes.keys(), ...marks.keys()].filter((name) => name !== "base.raw").map((name) => `${pool}/${name}`),
  );
}

/** Counts calls, and lets the one fault happen at its moment. */
class Injector {
  readonly #world: World;
  readonly #fault: Fault | null;
  readonly #told: TellMoment;
  readonly #counts = new Map<string, number>();
  fired = false;
  #undoFailures = 0;

  constructor(world: World, fault: Fault | null, told: TellMoment) {
    this.#world = world;
    this.#fault = fault;
    this.#told = told;
  }

  onCall(call: Call): RoostError | null {
    if (!call.subject.includes(VM)) return null;
    const job = this.#world.sentJob(VM);
    const label =
      job === null || call.operation.includes("send:") ? call.operation : `${job.undo ? "undo of " : ""}${job.name} ${call.operation}`;
    const key = `${call.phase} ${label}`;
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    const name = `${label} #${count}`;
    this.#told(name, call.phase);
    const isCall = call.operation.includes(".");
    const fault = this.#fault;
    if (this.fired) {
      if (!isCall || this.#undoFailures === 0 || call.phase === "after") return null;
      // A job that goes on to its end, because it cannot be called off, is left alone.
      if (fault?.kind === "cancelled, undo fails" && job?.undo !== true) return null;
      this.#undoFailures--;
      return new RoostError({ kind: "internal", reason: "injected again" });
    }
    if (fault === null || fault.name !== name || fault.phase !== call.phase) return null;
    this.fired = true;
    return this.#fire(fault.kind, this.#world.host(call.nodeId));
  }

  /** @param host where the call was made */
  #fire(kind: FaultKind, host: Host): RoostError | null {
    const world = this.#world;
    const worker = world.host(world.vm(VM)?.claim?.nodeId ?? host.nodeId);
    const leader = world.hosts.find(({ replica }) => replica === world.consensus.leader) ?? null;
    switch (kind) {
      case "fails":
        return new RoostError({ kind: "internal", reason: "injected" });
      case "fails, undo too":
        this.#undoFailures = 2;
        return new RoostError({ kind: "internal", reason: "injected" });
      case "stumbles":
        return new RoostError({ kind: "unavailable", reason: "injected, passing" });
      case "leader killed":
        if (leader !== null) world.killAgent(leader);
        return null;
      case "leader deposed, not knowing":
        if (leader !== null) world.depose(leader);
        return null;
      case "agent killed":
        world.killAgent(worker);
        return null;
      case "leader and agent killed":
        world.killAgent(worker);
        if (leader !== null && leader !== worker) world.killAgent(leader);
        return null;
      case "hypervisor dies":
        world.loseHypervisor(worker);
        return null;
      case "node dies":
        world.loseHost(worker);
        return null;
      case "cancelled, undo fails":
        this.#undoFailures = 2;
        return this.#fire("cancelled", host);
      case "cancelled": {
        const task = world.openTasks(VM)[0];
        // Too late is an answer, too.
        if (task !== undefined && isTaskId(task.id)) void world.request({ type: "task.cancel", taskId: task.id }).catch(() => {});
        return null;
      }
    }
  }
}
