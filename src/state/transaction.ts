/**
 * The working space of one command: reads see its own writes, and nothing reaches the state until the applier is done.
 * An applier that throws therefore leaves no half of a change behind.
 */
import { assert } from "../base/assert.ts";
import type { Certificate } from "../model/certificate.ts";
import { RoostError } from "../base/errors.ts";
import { mayMove } from "../model/lifecycle.ts";
import { defaultSettings, type Settings } from "../model/settings.ts";
import { VM_LIMITS, type Vm, type VmState } from "../model/vm.ts";
import type { Node } from "../model/node.ts";
import { FINISHED, type Task } from "../model/task.ts";
import type { Cluster, JoinToken } from "../model/cluster.ts";
import type { Envelope } from "./commands.ts";
import type { Event, EventKind } from "./outcome.ts";
import type { RowChange, Rows, State, TableName } from "./state.ts";

export class Transaction {
  readonly state: State;
  readonly envelope: Envelope;
  readonly index: number;
  /** Term of the log entry being applied. */
  readonly term: number;
  readonly events: Event[] = [];
  /** Of a plan that was applied; goes into the history with what it changed. */
  certificate: Certificate | null = null;
  readonly #writes = new Map<string, RowChange>();
  /** Ids of tasks made here, by their object. */
  readonly #made = new Map<string, string[]>();

  constructor(state: State, envelope: Envelope, position: { index: number; term: number }) {
    this.state = state;
    this.envelope = envelope;
    this.index = position.index;
    this.term = position.term;
  }

  get atMs(): number {
    return this.envelope.atMs;
  }

  get settings(): Settings {
    return this.cluster()?.settings ?? defaultSettings();
  }

  get<T extends TableName>(table: T, key: string): Rows[T] | undefined {
    const written = this.#writes.get(`${table}/${key}`);
    if (written !== undefined) return (written.row as Rows[T] | null) ?? undefined;
    if (table === "cluster") return (this.state.cluster as Rows[T] | null) ?? undefined;
    return (this.state[table] as unknown as ReadonlyMap<string, Rows[T]>).get(key);
  }

  /**
   * Rows that match, in order of their keys. A Map's own order is not the same on all replicas (a restarted one has its database's),
   * and nothing that is written, said or refused may depend on it (STA-1).
   */
  rows<T extends "nodes" | "vms" | "tasks" | "pools" | "policies" | "tokens" | "digests" | "fencing">(
    table: T,
    matches: (row: Rows[T]) => boolean = () => true,
  ): Rows[T][] {
    const found: [string, Rows[T]][] = [];
    for (const key of this.state[table].keys()) {
      const row = this.get(table, key);
      if (row !== undefined && matches(row)) found.push([key, row]);
    }
    return found.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
  }

  /** VMs that the node holds claims for or receives, in order of their ids. */
  vmsOn(nodeId: string): Vm[] {
    return [...(this.state.claimsByNode.get(nodeId) ?? [])].toSorted().map((id) => this.needVm(id));
  }

  put<T extends TableName>(table: T, key: string, row: Rows[T] | null): void {
    if (table === "tasks" && row !== null && this.get("tasks", key) === undefined) {
      const { object } = row as Task;
      this.#made.set(object.id, [...(this.#made.get(object.id) ?? []), key]);
    }
    this.#writes.set(`${table}/${key}`, { table, key, row } as RowChange);
  }

  /** Unfinished tasks of an object, in order of their numbers: the first has its turn. */
  tasksOf(objectId: string): Task[] {
    const ids = [...(this.state.tasksByObject.get(objectId) ?? []), ...(this.#made.get(objectId) ?? [])];
    return ids.map((id) => this.get("tasks", id)).filter((task): task is Task => task !== undefined && !FINISHED.has(task.state));
  }

  changes(): RowChange[] {
    return [...this.#writes.values()];
  }

  cluster(): Cluster | undefined {
    return this.get("cluster", "self");
  }

  /** The cluster's row; commands that need one are refused before `cluster.init`. */
  needCluster(): Cluster {
    const cluster = this.cluster();
    if (cluster === undefined) throw new RoostError({ kind: "precondition", reason: "this cluster has not been initialised" });
    return cluster;
  }

  needNode(id: string): Node {
    const node = this.get("nodes", id);
    if (node === undefined) throw new RoostError({ kind: "not-found", what: "node", name: id });
    return node;
  }

  needVm(id: string): Vm {
    const vm = this.get("vms", id);
    if (vm === undefined) throw new RoostError({ kind: "not-found", what: "vm", name: id });
    return vm;
  }

  token(id: string): JoinToken | undefined {
    return this.get("tokens", id);
  }

  putNode(node: Node): void {
    this.put("nodes", node.id, { ...node, revision: this.index });
  }

  putVm(vm: Vm): void {
    this.put("vms", vm.id, { ...vm, revision: this.index });
  }

  /** The VM in another state, with its history; a move that the table does not allow is a bug of the applier. */
  moved(vm: Vm, to: VmState, why: string, reason: string | null = null): Vm {
    if (vm.state === to) return { ...vm, reason };
    assert(mayMove(vm.state, to), `vm ${vm.id}: no transition from ${vm.state} to ${to} (${why})`);
    const { nodeId, generation } = vm.claim ?? { nodeId: null, generation: vm.generation };
    const entry = { state: to, atMs: this.atMs, nodeId, generation, why };
    this.emit("vm.state", vm.id, vm.definition.name, `${vm.state} → ${to}: ${why}`, vm.claim?.nodeId ?? "");
    return { ...vm, state: to, stateSinceMs: this.atMs, reason, history: [...vm.history, entry].slice(-VM_LIMITS.historyEntries) };
  }

  /** The node's claim set changed: its revision is this command's index (HA-2). */
  touchClaims(nodeId: string): void {
    const node = this.get("nodes", nodeId);
    if (node !== undefined) this.putNode({ ...node, claimRevision: this.index });
  }

  emit(kind: EventKind, subjectId: string, subjectName: string, message: string, nodeId = "", objectId?: string): void {
    this.events.push({
      revision: this.index,
      position: this.events.length,
      atMs: this.atMs,
      kind,
      subjectId,
      subjectName,
      nodeId,
      message,
      actor: this.envelope.actor,
      ...(objectId === undefined ? {} : { objectId }),
    });
  }
}
