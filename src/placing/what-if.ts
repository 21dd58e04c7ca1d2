/**
 * `roost what-if` (BEY-3): statements played on a copy of the state with the code that production runs: commands through
 * `apply`, plans through the scheduler, checked where they are applied. Nothing leaves the copy. Pure.
 */
import { invalid, RoostError } from "../base/errors.ts";
import { suggest } from "../base/suggest.ts";
import { limitsOf, nodeUsage } from "../model/capacity.ts";
import type { Node } from "../model/node.ts";
import { checkPlacement, settingsOf } from "../model/placement.ts";
import { parseSetting } from "../model/settings.ts";
import type { PendingReason, Vm, VmDefinition } from "../model/vm.ts";
import { plan } from "../scheduler/plan.ts";
import type { PlanKind } from "../scheduler/types.ts";
import { apply } from "../state/apply.ts";
import { remove } from "../state/tasks/effects.ts";
import { Transaction } from "../state/transaction.ts";
import type { Command } from "../state/commands.ts";
import { scratchOf } from "../state/history.ts";
import { ownRequestId } from "../state/requests.ts";
import type { State } from "../state/state.ts";
import { planWithReserve } from "./admission.ts";
import { nodesToAvoid } from "./request.ts";
import { Waiting } from "./waiting.ts";
import type { Statement } from "./what-if-script.ts";

export interface Move {
  vmId: string;
  vmName: string;
  /** Node ids; null: nowhere. */
  from: string | null;
  to: string | null;
}

/** What one statement brought about. */
export interface Step {
  text: string;
  /** VMs whose node is another one than before the statement. */
  moves: Move[];
  /** Things worth saying: a node without a guardian, a VM that could not leave. */
  notes: string[];
}

/** A VM that is wanted and has no node at the end. */
export interface Stranded {
  vmId: string;
  vmName: string;
  state: string;
  underHa: boolean;
  /** Where it was before the first statement; null for one that waited already or is new. */
  from: string | null;
  reasons: PendingReason[];
}

export interface NodeLoad {
  nodeId: string;
  nodeName: string;
  state: string;
  vms: number;
  memoryMib: number;
  memoryLimitMib: number;
  cpus: number;
}

/** Shares of the ready nodes' memory limits that claims hold. */
export interface Balance {
  mean: number;
  /** Standard deviation: 0 is even. */
  spread: number;
  max: number;
}

export interface WhatIf {
  steps: Step[];
  stranded: Stranded[];
  /** HA VMs that lost their node in a failure, and how many of them have another at the end. */
  ha: { failed: number; recovered: number };
  nodes: { before: NodeLoad; after: NodeLoad }[];
  balance: { before: Balance; after: Balance };
}

/** As large as the loop's. */
const BATCH_MAX = 500;

/**
 * @param definitions models for `add` beside the cluster's own VMs, by name.
 * @throws RoostError `invalid` with the statement's column for names that are not there; a refused command's own fault.
 */
export function whatIf(present: State, statements: readonly Statement[], definitions: readonly VmDefinition[]): WhatIf {
  const world = new World(present, definitions);
  const before = loadsOf(world.state);
  const places = placesOf(world.state);
  const steps = statements.map((statement) => world.play(statement));
  const after = new Map(loadsOf(world.state).map((load) => [load.nodeId, load]));
  const ha = [...world.failedHa];
  return {
    steps,
    stranded: strandedIn(world.state, places),
    ha: { failed: ha.length, recovered: ha.filter((id) => recovered(world.state.vms.get(id))).length },
    nodes: before.map((load) => ({ before: load, after: after.get(load.nodeId) ?? load })),
    balance: { before: balanceOf(present), after: balanceOf(world.state) },
  };
}

/** On a node that runs it, or wanted no more. */
function recovered(vm: Vm | undefined): boolean {
  return vm === undefined || vm.desired.power === "off" || (vm.claim !== null && vm.state !== "unknown");
}

class World {
  readonly state: State;
  readonly failedHa = new Set<string>();
  readonly #definitions: ReadonlyMap<string, VmDefinition>;
  #notes: string[] = [];
  #requests = 0;

  constructor(present: State, definitions: readonly VmDefinition[]) {
    this.state = scratchOf(present);
    this.#definitions = new Map(definitions.map((one) => [one.name, one]));
  }

  play(statement: Statement): Step {
    const places = placesOf(this.state);
    this.#notes = [];
    this.#do(statement);
    this.#settle();
    return { text: statement.text, moves: movesBetween(places, this.state), notes: this.#notes };
  }

  #do(statement: Statement): void {
    switch (statement.verb) {
      case "fail": {
        const nodes = statement.zone ? this.#zone(statement) : [this.#node(statement, statement.name)];
        for (const node of nodes) this.#fail(node);
        return;
      }
      case "disable":
      case "enable":
        return this.#say({ type: "node.enable", nodeId: this.#node(statement, statement.node).id, enabled: statement.verb === "enable" });
      case "drain":
        return this.#drain(this.#node(statement, statement.node));
      case "add":
        return this.#add(statement);
      case "remove":
      case "stop":
        return this.#end(this.#vm(statement, statement.vm), statement.verb === "remove");
      case "start":
        return this.#say({ type: "vm.desire", vmId: this.#vm(statement, statement.vm).id, action: "start", nodeId: null });
      case "resize": {
        const vm = this.#vm(statement, statement.vm);
        const { cpus, memoryMib } = statement;
        const definition = { ...vm.definition, cpus: cpus ?? vm.definition.cpus, memoryMib: memoryMib ?? vm.definition.memoryMib };
        this.state.write({ table: "vms", key: vm.id, row: { ...vm, definition } });
        return this.#leaveIfOverbooked(vm.id);
      }
      case "set": {
        const parsed = parseSetting(statement.key, statement.value);
        if (!parsed.ok)
          throw invalid(
            `column ${statement.column}`,
            `${statement.key}: expected ${parsed.expected}, not ${JSON.stringify(statement.value)}`,
          );
        return this.#say({ type: "setting.update", key: parsed.key, value: parsed.value });
      }
      case "policy": {
        const policyId = this.state.policyIdByName.get(statement.policy);
        if (policyId === undefined) throw unknown(statement, "policy", statement.policy, [...this.state.policyIdByName.keys()]);
        return this.#say({ type: "policy.enable", policyId, enabled: statement.enabled });
      }
    }
  }

  /** As a death is found out: silence, then expiry where a guardian makes it a proof. */
  #fail(node: Node): void {
    const { state } = this;
    for (const id of state.claimsByNode.get(node.id) ?? []) if (state.vms.get(id)?.underHa === true) this.failedHa.add(id);
    const silentMs = settingsOf(state)["ha.suspectMs"];
    this.#say({ type: "node.suspect", nodeId: node.id, silentMs });
    const { ["ha.claimMs"]: grantedMs, ["ha.marginMs"]: marginMs } = settingsOf(state);
    const proof = { kind: "expiry", nodeId: node.id, term: state.term, sinceAckMs: grantedMs + marginMs, grantedMs, marginMs } as const;
    try {
      this.#say({ type: "node.expire", nodeId: node.id, proof, lastHeartbeatMs: 0, leaderChanged: false, suspectMs: 0 });
    } catch (thrown) {
      if (!(thrown instanceof RoostError)) throw thrown;
      this.#notes.push(`${node.name}: ${thrown.message}; its VMs wait for \`roost node fence\``);
    }
  }

  /** Nothing new lands, and what runs is migrated as one plan. */
  #drain(node: Node): void {
    this.#say({ type: "node.enable", nodeId: node.id, enabled: false });
    const ids = [...(this.state.claimsByNode.get(node.id) ?? [])].toSorted();
    this.#migrate(ids);
    const left = this.state.claimsByNode.get(node.id)?.size ?? 0;
    if (left > 0) this.#notes.push(`${node.name}: ${left} of ${ids.length} VMs cannot leave`);
  }

  #migrate(vmIds: readonly string[]): void {
    const made = plan(this.state, { vms: vmIds, mode: "batch", kind: "migrate", scoring: null }, "what-if", this.state.usage);
    for (const { vmId, nodeId, cpus } of made.placements) {
      const vm = this.state.vms.get(vmId);
      if (vm === undefined || vm.claim === null) continue;
      const claim = { ...vm.claim, nodeId, generation: vm.generation + 1, ...(cpus === undefined ? {} : { cpus }) };
      this.state.write({ table: "vms", key: vmId, row: { ...vm, claim, generation: claim.generation, homeNodeId: nodeId } });
    }
    for (const { vmId, reasons } of made.rejections) {
      const vm = this.state.vms.get(vmId);
      if (vm !== undefined) this.#notes.push(`${vm.definition.name} stays: ${reasons.map(({ detail }) => detail).join("; ")}`);
    }
  }

  /** A VM that grew past its node has to leave it. */
  #leaveIfOverbooked(vmId: string): void {
    const vm = this.state.vms.get(vmId)!;
    const node = vm.claim === null ? undefined : this.state.nodes.get(vm.claim.nodeId);
    if (node !== undefined && checkPlacement(this.state, vm, node, { usage: this.state.usage }) !== null) this.#migrate([vmId]);
  }

  #add(statement: Statement & { verb: "add" }): void {
    const known = this.state.vms.get(this.state.vmIdByName.get(statement.vm) ?? "");
    const model = this.#definitions.get(statement.vm) ?? known?.definition;
    if (model === undefined)
      throw unknown(statement, "vm or definition", statement.vm, [...this.#definitions.keys(), ...this.state.vmIdByName.keys()]);
    const names: string[] = [];
    for (let i = 1; names.length < statement.count; i++)
      if (!this.state.vmIdByName.has(`${model.name}-${i}`)) names.push(`${model.name}-${i}`);
    const vms = names.map((name) => ({
      id: `what-if/${name}`,
      definition: { ...model, name },
      hold: false,
      nodeId: null,
      power: "on" as const,
    }));
    this.#say({ type: "vm.create", vms });
  }

  /** Off or gone, with the agent's part of it. */
  #end(vm: Vm, deleted: boolean): void {
    if (vm.state !== "stopped" || deleted)
      this.#say({ type: "vm.desire", vmId: vm.id, action: deleted ? "delete" : "force-shutdown", nodeId: null });
    const claim = this.state.vms.get(vm.id)?.claim ?? null;
    if (claim !== null) {
      const observed = { kind: "gone", cause: "destroyed", detail: "" } as const;
      this.#say({ type: "vm.report", vmId: vm.id, nodeId: claim.nodeId, generation: claim.generation, observed }, claim.nodeId);
    }
    // No worker deletes its disks here.
    const left = this.state.vms.get(vm.id);
    if (left?.state === "epilog") this.#forget(left);
  }

  /** As the loop does: recovery first, each batch planned on what those before it left. */
  #settle(): void {
    for (const [kind, waits] of [
      ["recover", "recovering"],
      ["start", "pending"],
    ] as const) {
      const waiting = new Waiting();
      waiting.reset(this.state);
      const due = waiting.due(this.state, waits, 0, Infinity).map((vm) => vm.id);
      for (let i = 0; i < due.length; i += BATCH_MAX) this.#place(kind, due.slice(i, i + BATCH_MAX));
    }
  }

  #place(kind: PlanKind, vms: readonly string[]): void {
    const { state } = this;
    const request = { vms, mode: "batch", kind, scoring: null, avoid: nodesToAvoid(state, vms) } as const;
    const { plan: made } = planWithReserve(state, request, "what-if");
    const generationOf = (vmId: string): number => state.vms.get(vmId)?.generation ?? 0;
    this.#say({
      type: "vm.place",
      placements: made.placements.map((one) => ({ ...one, generation: generationOf(one.vmId) })),
      rejections: made.rejections.map((one) => ({ ...one, generation: generationOf(one.vmId) })),
    });
  }

  #say(command: Command, origin = ""): void {
    const { state } = this;
    const requestId = ownRequestId(state.index, `what-if-${++this.#requests}`);
    const envelope = { requestId, origin, atMs: 0, actor: "user:what-if", term: state.term, command };
    const { outcome } = apply(state, envelope, { index: state.index + 1, term: state.term });
    if (!outcome.ok) throw new RoostError(outcome.fault, outcome.hint);
  }

  #forget(vm: Vm): void {
    const { state } = this;
    const command = { type: "vm.retry", vmId: vm.id } as const;
    const tx = new Transaction(state, { requestId: "", origin: "", atMs: 0, actor: "user:what-if", term: state.term, command }, state);
    remove(tx, vm);
    for (const change of tx.changes()) state.write(change);
  }

  #node(statement: Statement, name: string): Node {
    const node = this.state.nodes.get(this.state.nodeIdByName.get(name) ?? name);
    if (node === undefined || node.state === "removed") throw unknown(statement, "node", name, [...this.state.nodeIdByName.keys()]);
    return node;
  }

  #zone(statement: Statement & { verb: "fail" }): Node[] {
    const nodes = [...this.state.nodes.values()].filter((node) => node.state !== "removed");
    const found = nodes.filter((node) => node.zone === statement.name);
    if (found.length === 0)
      throw unknown(
        statement,
        "zone",
        statement.name,
        [...new Set(nodes.map((node) => node.zone))].filter((zone) => zone !== ""),
      );
    return found;
  }

  #vm(statement: Statement, name: string): Vm {
    const vm = this.state.vms.get(this.state.vmIdByName.get(name) ?? name);
    if (vm === undefined) throw unknown(statement, "vm", name, [...this.state.vmIdByName.keys()]);
    return vm;
  }
}

function unknown({ column, text }: Statement, what: string, name: string, names: readonly string[]): RoostError {
  const near = suggest(name, names);
  return invalid(
    `column ${column}`,
    `${JSON.stringify(text)}: there is no ${what} ${name}`,
    near === null ? undefined : `did you mean ${near}?`,
  );
}

function placesOf(state: State): Map<string, string | null> {
  return new Map([...state.vms.values()].map((vm) => [vm.id, placeNow(vm)]));
}

/** A VM whose node is silent is nowhere that helps. */
function placeNow(vm: Vm): string | null {
  return vm.state === "unknown" ? null : (vm.claim?.nodeId ?? null);
}

function byNumber(state: State): Vm[] {
  return [...state.vms.values()].sort((a, b) => a.number - b.number);
}

function movesBetween(before: ReadonlyMap<string, string | null>, state: State): Move[] {
  const moves: Move[] = [];
  for (const vm of byNumber(state)) {
    const [from, to] = [before.get(vm.id) ?? null, placeNow(vm)];
    if (from !== to) moves.push({ vmId: vm.id, vmName: vm.definition.name, from, to });
  }
  return moves;
}

function strandedIn(state: State, before: ReadonlyMap<string, string | null>): Stranded[] {
  return byNumber(state)
    .filter((vm) => vm.desired.power === "on" && !vm.desired.deleted && placeNow(vm) === null)
    .map((vm) => ({
      vmId: vm.id,
      vmName: vm.definition.name,
      state: vm.state,
      underHa: vm.underHa,
      from: before.get(vm.id) ?? null,
      reasons: vm.pendingReasons,
    }));
}

function loadsOf(state: State): NodeLoad[] {
  const settings = settingsOf(state);
  return [...state.nodes.values()]
    .filter((node) => node.state !== "removed")
    .toSorted((a, b) => a.peerId - b.peerId)
    .map((node) => {
      const { vms, memoryMib, cpus } = nodeUsage(state.usage, node.id);
      return {
        nodeId: node.id,
        nodeName: node.name,
        state: node.state,
        vms,
        memoryMib,
        memoryLimitMib: limitsOf(node, settings).memoryMib,
        cpus,
      };
    });
}

function balanceOf(state: State): Balance {
  const shares = loadsOf(state)
    .filter((load) => load.state === "ready" && load.memoryLimitMib > 0)
    .map((load) => load.memoryMib / load.memoryLimitMib);
  if (shares.length === 0) return { mean: 0, spread: 0, max: 0 };
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
  const variance = shares.reduce((sum, share) => sum + (share - mean) ** 2, 0) / shares.length;
  return { mean, spread: Math.sqrt(variance), max: Math.max(...shares) };
}
