/**
 * Which jobs are sent now: those whose turn it is in their task, whose node is there, and for which a slot is free. Where several wait for
 * one pool, recoveries go first, in HA order; then each vdc in turn (LIM-8), its undos before its other jobs, and the older task before the
 * younger one. Pure: what is on its way, and which vdc was served last, come in.
 */
import { isFree, type Slot } from "../model/limits.ts";
import { leftOutNodes } from "../model/node.ts";
import { mayRun, sendable } from "../model/task-flow.ts";
import { admit, targetOf } from "../model/task-target.ts";
import type { Job, Task } from "../model/task.ts";
import type { View } from "../model/view.ts";
import type { TaskDispatch } from "../state/commands.ts";

export type Send = TaskDispatch["sends"][number];

/** One that could be sent if there were room. */
export interface Candidate {
  task: Task;
  job: Job;
  send: Send;
  slot: Slot | null;
  /** HA priority of a recovery; null for all else. */
  recovery: number | null;
}

/** When each vdc was last served, by pool; higher is later. The orchestrator's own memory: a new leader begins anew. */
export class Turns {
  readonly #served = new Map<string, Map<string, number>>();
  #last = 0;

  of(pool: string, vdc: string): number {
    return this.#served.get(pool)?.get(vdc) ?? 0;
  }

  served(pool: string, vdc: string): void {
    const vdcs = this.#served.get(pool) ?? new Map<string, number>();
    vdcs.set(vdc, ++this.#last);
    this.#served.set(pool, vdcs);
  }

  /** Pools where nothing waits are forgotten. */
  keep(pools: ReadonlySet<string>): void {
    for (const pool of this.#served.keys()) if (!pools.has(pool)) this.#served.delete(pool);
  }
}

export interface OrchestrateInput {
  /** Proposed and perhaps not yet in the view. */
  inFlight: readonly Send[];
  turns: Turns;
  /** Wall clock, ms. */
  atMs: number;
  max: number;
}

export function orchestrate(view: View, { inFlight, turns, atMs, max }: OrchestrateInput): Send[] {
  const flying = inFlight.filter((send) => !isApplied(view, send));
  const flies = new Set(flying.map(keyOf));
  const taken = new Map<string, number>();
  const take = ({ slot }: Send): void => {
    if (slot !== null) taken.set(slot, (taken.get(slot) ?? 0) + 1);
  };
  for (const send of flying) take(send);
  const used = (key: string): number => (view.slots.get(key) ?? 0) + (taken.get(key) ?? 0);

  const sends: Send[] = [];
  // Only of pools with room: of those that are full, which is most of the time under load, nobody needs the order.
  const pools = new Map<string, Candidate[]>();
  const seen = new Set<string>();
  for (const candidate of candidates(view, atMs)) {
    const { send, slot } = candidate;
    if (flies.has(keyOf(send))) continue;
    if (slot !== null) seen.add(slot.key);
    // Those that wait for nothing go at once, and before all others: they may be what the others are counted against.
    if (slot === null || slot.size === null) {
      if (sends.length >= max) return sends;
      take(send);
      sends.push(send);
    } else if (isFree(slot, used)) listIn(pools, slot.key).push(candidate);
  }
  turns.keep(seen);
  for (const [pool, waiting] of pools) {
    for (const { send, slot, task } of inOrder(waiting, pool, turns)) {
      if (!isFree(slot, used)) break;
      if (sends.length >= max) return sends;
      take(send);
      turns.served(pool, task.vdc);
      sends.push(send);
    }
  }
  return sends;
}

/** Everything that only room is missing for, in no order. */
export function* candidates(view: View, atMs: number): Generator<Candidate> {
  // Thousands that wait ask for few different slots.
  const known = new Map<string, ReturnType<typeof admit>>();
  const isKnownWhatRuns = leftOutNodes(view).length === 0;
  for (const id of view.tasksDue) {
    const task = view.tasks.get(id);
    const vm = task === undefined ? undefined : view.vms.get(task.object.id);
    if (task === undefined || vm === undefined) continue;
    for (const { job, undo } of sendable(task)) {
      if (job.retryAtMs > atMs || (mayRun(job, undo) && !isKnownWhatRuns)) continue;
      const target = targetOf(vm, task, job);
      const node = target === null ? undefined : view.nodes.get(target.nodeId);
      if (target === null || node === undefined) continue;
      const kind = `${node.id} ${job.name} ${task.action} ${task.connection ?? ""} ${task.vdc}`;
      const admitted = known.get(kind) ?? admit(view.cluster, task, job, node, NONE_USED);
      known.set(kind, admitted);
      const { slot, ok } = admitted;
      if (!ok) continue;
      const send = { taskId: task.id, path: job.path, attempt: job.attempt + 1, undo, ...target, slot: slot?.key ?? null };
      yield { task, job, send, slot, recovery: task.action === "recover" && !undo ? vm.definition.ha.priority : null };
    }
  }
}

const NONE_USED = (): number => 0;

/** Those that wait for one pool, in the order in which they get its slots; lazily, as the turns change with each. */
export function* inOrder(waiting: readonly Candidate[], pool: string, turns: Pick<Turns, "of">): Generator<Candidate> {
  const byAge = (a: Candidate, b: Candidate): number => a.task.number - b.task.number;
  yield* waiting.filter(({ recovery }) => recovery !== null).sort((a, b) => (b.recovery ?? 0) - (a.recovery ?? 0) || byAge(a, b));
  const vdcs = new Map<string, Candidate[]>();
  for (const one of waiting) if (one.recovery === null) listIn(vdcs, one.task.vdc).push(one);
  for (const list of vdcs.values()) list.sort((a, b) => Number(b.send.undo) - Number(a.send.undo) || byAge(a, b));
  const firstNumber = (vdc: string): number => vdcs.get(vdc)?.[0]?.task.number ?? 0;
  while (vdcs.size > 0) {
    let next: string | null = null;
    for (const vdc of vdcs.keys()) {
      const before = next === null ? 1 : turns.of(pool, vdc) - turns.of(pool, next) || firstNumber(vdc) - firstNumber(next);
      if (next === null || before < 0) next = vdc;
    }
    const list = vdcs.get(next ?? "") ?? [];
    const candidate = list.shift();
    if (list.length === 0) vdcs.delete(next ?? "");
    if (candidate !== undefined) yield candidate;
  }
}

function listIn(lists: Map<string, Candidate[]>, key: string): Candidate[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}

function keyOf({ taskId, path, attempt }: Send): string {
  return `${taskId} ${path} ${attempt}`;
}

function isApplied(view: View, { taskId, path, attempt }: Send): boolean {
  const job = view.tasks.get(taskId)?.jobs.find((one) => one.path === path);
  return job === undefined || job.attempt >= attempt;
}
