/** A replicated log without Raft: commands applied one by one, kept so that a test can apply them again elsewhere. */
import { apply, type Applied } from "../../src/state/apply.ts";
import {
  encodeCheckpointRow,
  decodeCheckpointHead,
  decodeCheckpointRows,
  decodeEnvelope,
  encodeCheckpointHead,
  encodeEnvelope,
} from "../../src/state/codec.ts";
import type { Command, Envelope, TaskAnswer } from "../../src/state/commands.ts";
import type { CommandResult, Event } from "../../src/state/outcome.ts";
import type { Position, RowChange } from "../../src/state/state.ts";
import { asRoostError, type Fault } from "../../src/base/errors.ts";
import { NO_MEMBERSHIP } from "../../src/model/membership.ts";
import type { NodeInfo } from "../../src/model/node.ts";
import { isSent, type JobName, type Task } from "../../src/model/task.ts";
import { candidates } from "../../src/tasks/orchestrate.ts";
import type { Vm, VmDefinition } from "../../src/model/vm.ts";
import { ownRequestId, packed } from "../../src/state/requests.ts";
import { changedObjects, State } from "../../src/state/state.ts";

export interface Said {
  origin?: string;
  requestId?: string;
  /** Of the envelope: what a leader bound its decision to. */
  term?: number;
  actor?: string;
}

export class CommandLog {
  state = new State();
  readonly entries: { data: Uint8Array; index: number; term: number }[] = [];
  readonly events: Event[] = [];
  /** Of the entries to come. */
  term = 1;
  nowMs = 1_000_000;
  #requests = 0;

  apply(command: Command, said: Said = {}): Applied {
    const envelope: Envelope = {
      requestId: said.requestId ?? ownRequestId(this.state.index, `r${++this.#requests}`),
      origin: said.origin ?? "n1",
      atMs: this.nowMs,
      actor: said.actor ?? "user:test",
      term: said.term ?? 0,
      command,
    };
    const data = encodeEnvelope(envelope);
    const position = { index: this.state.index + 1, term: this.term };
    this.entries.push({ data, ...position });
    // As on a replica: what is applied is what the bytes say.
    const applied = apply(this.state, decodeEnvelope(data), position);
    this.events.push(...applied.events);
    return applied;
  }

  ok(command: Command, said: Said = {}): CommandResult {
    const { outcome } = this.apply(command, said);
    if (!outcome.ok) throw new Error(`${command.type} refused: ${JSON.stringify(outcome.fault)}`);
    return outcome.result;
  }

  /** The fault of a command that must be refused and must not change a thing but the kept answers. */
  refused(command: Command, said: Said = {}): Fault {
    const before = tables(this.state);
    const { outcome, events, changes } = this.apply(command, said);
    if (outcome.ok) throw new Error(`${command.type} was not refused`);
    if (tables(this.state) !== before || events.length > 0) throw new Error(`${command.type} was refused and changed something`);
    if (changedObjects(changes).size > 0) throw new Error(`${command.type} was refused with changes`);
    return outcome.fault;
  }

  /** All commands again, on a new state; after every so many it is read anew from its rows, as a restarted replica does. */
  replayed(restartEvery = Infinity): State {
    let state = new State();
    for (const [i, { data, index, term }] of this.entries.entries()) {
      if (i % restartEvery === restartEvery - 1) state = reread(state);
      apply(state, decodeEnvelope(data), { index, term });
    }
    return state;
  }

  vm(id: string): Vm {
    const vm = this.state.vms.get(id);
    if (vm === undefined) throw new Error(`no VM ${id}`);
    return vm;
  }

  /** Founds a cluster whose nodes have said hello. n1 is peer 1. */
  static withNodes(count: number, info: Partial<NodeInfo> = {}): CommandLog {
    const log = new CommandLog();
    log.ok({ type: "cluster.init", clusterId: "c", name: "lab", caCertificate: "cert", caKey: "key", node: joining("n1") });
    log.hello("n1", info);
    for (let i = 2; i <= count; i++) {
      log.join(`n${i}`);
      log.hello(`n${i}`, info);
    }
    return log;
  }

  join(id: string): void {
    this.ok({ type: "token.create", id: `t-${id}`, secretHash: "hash", ttlMs: 60_000, uses: 1 });
    this.ok({ type: "node.join", tokenId: `t-${id}`, secretHash: "hash", node: joining(id) });
    this.ok({ type: "node.join-confirm", nodeId: id });
  }

  hello(id: string, info: Partial<NodeInfo> = {}): void {
    this.ok(
      {
        type: "node.hello",
        nodeId: id,
        info: { ...INFO, bootId: `boot-${id}`, ...info },
        parkRevision: this.state.nodes.get(id)?.parkRevision ?? 0,
        apiAddress: `${id}:1`,
        peerAddress: `${id}:2`,
      },
      { origin: id },
    );
  }

  create(id: string, changes: Partial<VmDefinition> = {}, power: "on" | "off" = "on"): void {
    this.ok({ type: "vm.create", vms: [{ id, definition: definition(id, changes), hold: false, nodeId: null, power }] });
  }

  place(id: string, nodeId: string): CommandResult {
    return this.ok({ type: "vm.place", placements: [{ vmId: id, nodeId, generation: this.vm(id).generation }], rejections: [] });
  }

  /** What the holder of the claim says. */
  report(id: string, observed: Extract<Command, { type: "vm.report" }>["observed"]): void {
    const { claim } = this.vm(id);
    if (claim === null) throw new Error(`${id} has no claim`);
    this.ok({ type: "vm.report", vmId: id, nodeId: claim.nodeId, generation: claim.generation, observed }, { origin: claim.nodeId });
  }

  /** A VM that runs on a node. */
  running(id: string, nodeId: string, changes: Partial<VmDefinition> = {}): void {
    this.create(id, changes);
    this.place(id, nodeId);
    this.done(id, "power-on");
  }

  /** The unfinished task of the VM whose turn it is. */
  head(vmId: string): Task {
    const task = this.state.tasks.get(this.state.tasksByObject.get(vmId)?.[0] ?? "");
    if (task === undefined) throw new Error(`no task of ${vmId} is unfinished`);
    return task;
  }

  /** As the orchestrator does: the next job of the VM's task goes to its node. */
  send(vmId: string): CommandResult {
    const send = [...candidates(this.state, this.nowMs)].find(({ task }) => task.object.id === vmId)?.send;
    if (send === undefined) throw new Error(`nothing of ${vmId} can be sent: ${JSON.stringify(this.state.tasksByObject.get(vmId))}`);
    return this.ok({ type: "task.dispatch", sends: [send] }, { term: this.term, actor: "orchestrator" });
  }

  /** What the worker says of the job that was sent. */
  answer(vmId: string, outcome: TaskAnswer["outcome"] = { ok: true }): void {
    const task = this.head(vmId);
    const job = task.jobs.find(isSent);
    if (job === undefined || job.nodeId === null) throw new Error(`no job of ${task.id} is sent`);
    const { path, attempt, nodeId, generation } = job;
    this.ok({ type: "task.answer", taskId: task.id, path, attempt, nodeId, generation, outcome, steps: [] }, { origin: nodeId });
  }

  fails(vmId: string, code = "broken", message = "it broke"): void {
    this.answer(vmId, { ok: false, error: { code, message, hint: "" } });
  }

  /** Jobs are sent and succeed, up to the one of that name or its undo. */
  done(vmId: string, last: JobName): void {
    for (let i = 0; i < 8; i++) {
      const name = this.sent(vmId);
      this.answer(vmId);
      if (name === last) return;
    }
    throw new Error(`${last} of ${vmId} never came`);
  }

  /** The next job is sent, if none is. @returns its name. */
  sent(vmId: string): JobName {
    if (!this.head(vmId).jobs.some(isSent)) this.send(vmId);
    const job = this.head(vmId).jobs.find(isSent);
    if (job === undefined) throw new Error(`no job of ${vmId} was sent`);
    return job.name;
  }

  suspect(nodeId: string): void {
    this.ok({ type: "node.suspect", nodeId, silentMs: 1_500 });
  }

  expire(nodeId: string): CommandResult {
    return this.ok(expiry(nodeId, this.term), { term: this.term });
  }
}

export const INFO: NodeInfo = {
  bootId: "boot",
  version: "1",
  driver: "simulated",
  hypervisor: "",
  arch: "x86_64",
  hardwareAccelerated: true,
  cpus: 4,
  cpuModel: "",
  memoryMib: 4_096,
  reserveMib: 0,
  guardian: "test",
  pools: ["p-shared", "p-local"].map((poolId) => ({ poolId, available: true, problem: "", totalBytes: 1, freeBytes: 1 })),
  bridges: ["br0"],
};

export function joining(id: string) {
  return { id, name: id, zone: "", labels: {}, apiAddress: `${id}:1`, peerAddress: `${id}:2` };
}

export function definition(name: string, changes: Partial<VmDefinition> = {}): VmDefinition {
  return {
    name,
    cpus: 1,
    memoryMib: 1_024,
    arch: "x86_64",
    boot: null,
    disks: [],
    nics: [],
    labels: {},
    restart: "on-failure",
    ha: { enabled: null, priority: 0, onQuorumLoss: "stop" },
    ...changes,
  };
}

export function diskIn(pool: string): VmDefinition["disks"][number] {
  return {
    pool,
    source: null,
    sizeBytes: 1,
    clone: true,
    format: "raw",
    target: "vda",
    bus: "virtio",
    device: "disk",
    readonly: false,
    cache: "none",
  };
}

export function pool(name: string, shared: boolean): Extract<Command, { type: "pool.create" }> {
  return { type: "pool.create", pool: { id: `p-${name}`, name, kind: "dir", path: `/${name}`, shared } };
}

export function expiry(nodeId: string, term: number): Extract<Command, { type: "node.expire" }> {
  const proof = { kind: "expiry", nodeId, term, sinceAckMs: 4_250, grantedMs: 4_000, marginMs: 250 } as const;
  return { type: "node.expire", nodeId, proof, lastHeartbeatMs: 900_000, suspectMs: 901_500, leaderChanged: false };
}

export function fencing(nodeId: string): Extract<Command, { type: "node.fence" }> {
  return { type: "node.fence", nodeId, proof: { kind: "operator", nodeId, user: "root" } };
}

/** Answers and events are kept beside what a command changes. */
export const KEPT: ReadonlySet<string> = new Set(["requests", "callers", "events"]);

/** The tables as text, without the kept answers and the position. */
export function tables(state: State): string {
  return JSON.stringify([...state.rows()].filter((row) => !KEPT.has(row.table)));
}

/** Everything that replicas at one index must agree on, as text. */
function reread(state: State): State {
  const again = new State();
  for (const row of state.rows()) again.write(row);
  again.moveTo(state);
  return again;
}

export function checkpointText(state: State): string {
  return new TextDecoder().decode(encodeCheckpoint(state, { index: state.index, term: state.term, membership: NO_MEMBERSHIP }));
}

/** A checkpoint in one piece: the head's line, then the rows'. */
export function encodeCheckpoint(state: State, position: Position): Uint8Array {
  const lines = [new TextDecoder().decode(encodeCheckpointHead(position))];
  for (const { table, key, row } of state.rows()) {
    const stored = table === "requests" && row !== null ? [packed(row)] : row;
    lines.push(encodeCheckpointRow(table, key, JSON.stringify(stored)));
  }
  return new TextEncoder().encode(lines.join("\n"));
}

export function decodeCheckpoint(bytes: Uint8Array): { position: Position; rows: RowChange[] } {
  const at = bytes.indexOf(10);
  const end = at < 0 ? bytes.length : at;
  return { position: decodeCheckpointHead(bytes.subarray(0, end)), rows: decodeCheckpointRows(bytes.subarray(end + 1)) };
}

/** What a call throws; null if it does not. */
export function faultOf(call: () => unknown): Fault | null {
  try {
    call();
    return null;
  } catch (thrown) {
    return asRoostError(thrown).fault;
  }
}
