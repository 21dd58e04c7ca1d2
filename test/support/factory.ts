/**
 * The task engine over a store in memory, with workers that take as long as they are told, in virtual time: state, appliers and the
 * orchestrator's loop are the product's own; nothing is random and nothing waits.
 */
import type { NodeInfo } from "../../src/model/node.ts";
import { JOBS, type PoolKind } from "../../src/model/task-definitions.ts";
import { isSent, type JobName, type Task, type TaskAction, type TaskError } from "../../src/model/task.ts";
import type { Command } from "../../src/state/commands.ts";
import { enqueue } from "../../src/state/tasks/queue.ts";
import { Transaction } from "../../src/state/transaction.ts";
import { tasksService } from "../../src/tasks/loop.ts";
import { definition, INFO, joining } from "../state/log.ts";
import { MemoryStore } from "./memory-store.ts";

/** One job at its worker. */
export interface Span {
  taskId: string;
  job: JobName;
  undo: boolean;
  vm: string;
  vdc: string;
  node: string;
  pool: PoolKind;
  /** Of the device or backup manager; empty for a hypervisor. */
  connection: string;
  fromMs: number;
  toMs: number;
}

export interface FactoryOptions {
  nodes: Record<string, Partial<NodeInfo>>;
  settings?: Record<string, string | number>;
  /** How long a job takes, ms; 100 each unless told. */
  takesMs?: Partial<Record<JobName, number>>;
  /** Pools whose jobs nobody of the factory does: the test brings a worker. */
  idle?: (pool: PoolKind) => boolean;
  /** What goes wrong; null: nothing. */
  fails?: (span: Omit<Span, "toMs">, attempt: number) => TaskError | null;
}

export class Factory {
  readonly store = new MemoryStore("n1");
  readonly spans: Span[] = [];
  nowMs = 0;
  readonly #options: FactoryOptions;
  readonly #service;
  readonly #working = new Set<string>();
  /** Answers to come, in order of their time and then of their making. */
  #coming: { atMs: number; answer: () => void }[] = [];

  constructor(options: FactoryOptions) {
    this.#options = options;
    const clock = { monotonicMs: () => this.nowMs, wallMs: () => this.store.nowMs, after: () => () => {} };
    this.#service = tasksService(this.store, { clock });
    const names = Object.keys(options.nodes);
    const [first] = names;
    if (first === undefined) throw new Error("a factory needs a node");
    this.do({ type: "cluster.init", clusterId: "c", name: "c", caCertificate: "", caKey: "", node: joining(first) });
    for (const name of names.slice(1)) {
      this.do({ type: "token.create", id: name, secretHash: "h", ttlMs: 60_000, uses: 1 });
      this.do({ type: "node.join", tokenId: name, secretHash: "h", node: joining(name) });
    }
    for (const [name, info] of Object.entries(options.nodes)) {
      const all = { ...INFO, cpus: 64, memoryMib: 1_048_576, ...info };
      this.do({ type: "node.hello", nodeId: name, info: all, parkRevision: 0, apiAddress: `${name}:1`, peerAddress: `${name}:2` }, name);
    }
    for (const [key, value] of Object.entries(options.settings ?? {})) this.do({ type: "setting.update", key, value });
  }

  do(command: Command, origin = "n1"): void {
    this.store.origin = origin;
    void this.store.propose(command, { actor: "user:test", term: this.store.term });
    this.store.origin = "n1";
  }

  /** VMs of a vdc, placed on a node; their deploys begin with the next `run`. */
  deploy(node: string, vdc: string, count: number, prefix = vdc): string[] {
    const ids = Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
    const vms = ids.map((id) => ({
      id,
      definition: definition(id, { vdc, memoryMib: 16 }),
      hold: false,
      nodeId: null,
      power: "on" as const,
    }));
    this.do({ type: "vm.create", vms });
    const generation = (vmId: string): number => this.store.state.vms.get(vmId)?.generation ?? 0;
    this.do({ type: "vm.place", placements: ids.map((vmId) => ({ vmId, nodeId: node, generation: generation(vmId) })), rejections: [] });
    return ids;
  }

  /** A task that no command of today makes: for devices and backups. */
  enqueue(action: TaskAction, vmId: string, connection: string): void {
    const { state } = this.store;
    const vm = state.vms.get(vmId);
    if (vm === undefined) throw new Error(`no VM ${vmId}`);
    const position = { index: state.index, term: state.term };
    const envelope = {
      requestId: "",
      origin: "n1",
      atMs: this.store.nowMs,
      actor: "user:test",
      term: 1,
      command: { type: "vm.retry", vmId } as const,
    };
    const tx = new Transaction(state, envelope, position);
    enqueue(tx, { action, vm, cause: "asked", connection });
    for (const change of tx.changes()) state.write(change);
  }

  /** Until nothing is left to do, or that time has come. */
  async run(untilMs = Infinity): Promise<void> {
    for (;;) {
      await this.#service.run(this.store.term);
      await Promise.resolve();
      if (this.#begin()) continue;
      const next = this.#coming.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > untilMs) {
        this.#setNow(Number.isFinite(untilMs) ? untilMs : this.nowMs);
        return;
      }
      this.#setNow(next.atMs);
      // All of one moment, before anybody looks.
      const now = this.#coming.filter(({ atMs }) => atMs === next.atMs);
      this.#coming = this.#coming.filter(({ atMs }) => atMs !== next.atMs);
      for (const { answer } of now) answer();
    }
  }

  #setNow(nowMs: number): void {
    this.store.nowMs += nowMs - this.nowMs;
    this.nowMs = nowMs;
  }

  /** Workers take what was sent to them. @returns true if there was any. */
  #begin(): boolean {
    let begun = false;
    const { state } = this.store;
    for (const id of new Set([...state.tasksByNode.values()].flatMap((ids) => [...ids]))) {
      const task = state.tasks.get(id);
      for (const job of task?.jobs ?? []) {
        const key = `${id} ${job.path} ${job.attempt}`;
        if (task === undefined || !isSent(job) || job.nodeId === null || this.#working.has(key)) continue;
        if (this.#options.idle?.(JOBS[job.name].pool) === true) continue;
        this.#working.add(key);
        begun = true;
        this.#work(task, job.path, job.nodeId);
      }
    }
    return begun;
  }

  #work(task: Task, path: string, nodeId: string): void {
    const job = task.jobs.find((one) => one.path === path);
    if (job === undefined) return;
    const { attempt, generation } = job;
    const { pool } = JOBS[job.name];
    const connection = pool === "compute" ? "" : (task.connection ?? "");
    const begun = {
      taskId: task.id,
      job: job.name,
      undo: job.state === "undo-sent",
      vm: task.object.name,
      vdc: task.vdc,
      node: nodeId,
      pool,
      connection,
      fromMs: this.nowMs,
    };
    const error = this.#options.fails?.(begun, attempt) ?? null;
    const outcome = error === null ? { ok: true as const } : { ok: false as const, error };
    this.#coming.push({
      atMs: this.nowMs + (this.#options.takesMs?.[job.name] ?? 100),
      answer: () => {
        this.spans.push({ ...begun, toMs: this.nowMs });
        this.do({ type: "task.answer", taskId: task.id, path, attempt, nodeId, generation, outcome, steps: [] }, nodeId);
      },
    });
  }
}

/** The most of these that were under way at one time. */
export function peak(spans: readonly Span[], counts: (span: Span) => boolean = () => true): number {
  const edges = spans.filter(counts).flatMap(({ fromMs, toMs }) => [
    { atMs: fromMs, by: 1 },
    { atMs: toMs, by: -1 },
  ]);
  let [now, most] = [0, 0];
  // At one moment the ends come first: a slot that is given back may be taken at once.
  for (const { by } of edges.sort((a, b) => a.atMs - b.atMs || a.by - b.by)) {
    now += by;
    most = Math.max(most, now);
  }
  return most;
}

/** True if some of the one kind and some of the other were under way at the same time. */
export function overlap(spans: readonly Span[], one: (span: Span) => boolean, other: (span: Span) => boolean): boolean {
  return spans.filter(one).some((a) => spans.filter(other).some((b) => a.fromMs < b.toMs && b.fromMs < a.toMs));
}

/** Who worked when, one line a job, to be read where a case fails. */
export function trace(spans: readonly Span[]): string {
  return spans
    .toSorted((a, b) => a.fromMs - b.fromMs || (a.taskId < b.taskId ? -1 : 1))
    .map(
      ({ fromMs, toMs, node, connection, vdc, vm, job }) =>
        `${fromMs}–${toMs} ms  ${node}${connection === "" ? "" : `/${connection}`}  ${vdc}  ${vm}  ${job}`,
    )
    .join("\n");
}
