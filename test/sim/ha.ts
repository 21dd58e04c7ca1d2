/**
 * Never twice, simulated: keepers, guardians, agents and leaders with real clocks' faults, until a seed finds two copies
 * of a VM (or proves that a mutation would make two). `runHaSeed(seed)` is one history; the same seed is the same history.
 */
import { expiryOf, detect } from "../../src/ha/detector.ts";
import type { Decision, DetectorInput, NodeBeat } from "../../src/ha/detector.ts";
import { Waiting } from "../../src/placing/waiting.ts";
import { orchestrate, Turns } from "../../src/tasks/orchestrate.ts";
import type { Beat } from "../../src/agent/keeper/protocol.ts";
import type { Command } from "../../src/state/commands.ts";
import { clusterLevel, PROGRAM_LEVEL } from "../../src/state/levels.ts";
import { ownRequestId } from "../../src/state/requests.ts";
import type { Vm } from "../../src/model/vm.ts";
import { claimOn } from "../../src/model/claims.ts";
import { Consensus, Peer } from "./ha-consensus.ts";
import { CLAIM_MS, SimHost } from "./ha-node.ts";
import type { Shared } from "./ha-node.ts";
import type { Mutation } from "./ha-mutations.ts";
import { heal, TROUBLE_MS, trouble } from "./ha-trouble.ts";
import { World } from "./ha-world.ts";

export interface HaResult {
  ok: boolean;
  detail: string;
  /** Claims ended by expiry, and VMs started; a run without either has shown nothing. */
  expiries: number;
  starts: number;
  /** Guests that went on elsewhere. */
  migrations: number;
  resets: number;
}

const HEAL_MS = 40_000;
const VMS = 6;

/** The leader's part: acknowledgements, detector, a placer. One for each peer; it works while its peer believes that it leads. */
class Leader {
  readonly host: SimHost;
  readonly #shared: Shared;
  #term = -1;
  readonly #beats = new Map<string, NodeBeat>();
  readonly #stopped = new Set<string>();
  readonly #expiring = new Set<string>();
  readonly #parks = new Map<string, { revision: number; sinceMs: number }>();
  readonly #busy = new Set<string>();
  #electedMs = 0;
  #turns = new Turns();
  #migrateMs = 5_000;
  expiries = 0;

  constructor(host: SimHost, shared: Shared) {
    this.host = host;
    this.#shared = shared;
  }

  #enterTerm(): void {
    if (this.#term === this.host.peer.term) return;
    this.#term = this.host.peer.term;
    this.#electedMs = this.host.monotonicMs();
    this.#turns = new Turns();
    for (const table of [this.#beats, this.#stopped, this.#expiring, this.#parks, this.#busy]) table.clear();
  }

  heartbeat(from: SimHost, beat: Beat): void {
    const { peer } = this.host;
    const { nodeId } = from.peer;
    if (!peer.leading || !from.peer.member) return;
    this.#enterTerm();
    const { consensus, world, mutation } = this.#shared;
    const seen = this.#beats.get(nodeId) ?? { nodeId, lastBeatMs: 0, lastAckMs: null, grantedMs: 0 };
    seen.lastBeatMs = this.host.monotonicMs();
    this.#beats.set(nodeId, seen);
    const term = this.#term;
    const isBroken = (name: Mutation): boolean => mutation === name;
    const may = (): boolean =>
      peer.leading &&
      peer.term === term &&
      (peer.effective || isBroken("ack-before-own-term")) &&
      (!this.#stopped.has(nodeId) || isBroken("ack-after-stopping"));
    const acknowledge = (): void => {
      if (!may()) return;
      // Its claim sets are at least as new as everything of earlier terms (rule 2).
      if (consensus.log.slice(peer.applied).some((entry) => entry.term < term))
        this.#shared.broken(`${peer.nodeId} acknowledges in term ${term} without having applied what earlier terms committed`);
      seen.lastAckMs = this.host.monotonicMs();
      seen.grantedMs = CLAIM_MS;
      const claimRevision = peer.state.nodes.get(nodeId)?.claimRevision ?? 0;
      const items = [...(peer.state.claimsByNode.get(nodeId) ?? [])].map((vmId) => ({
        vmId,
        generation: claimOn(peer.state.vms.get(vmId) ?? { claim: null }, nodeId)?.generation ?? 0,
      }));
      const { bootId, nonce, seq } = beat;
      const ack = { bootId, nonce, seq, grantedMs: CLAIM_MS, claimRevision, claims: beat.claimRevision === claimRevision ? null : items };
      world.send(peer.id, from.peer.id, from.peer.process, () => from.acknowledge(ack));
    };
    if (!may()) return;
    if (mutation === "ack-without-quorum") acknowledge();
    else consensus.quorumRound(peer, acknowledge);
  }

  look(): void {
    const { peer } = this.host;
    if (!peer.leading || !peer.effective || peer.state.cluster === null) return;
    this.#enterTerm();
    for (const decision of detect(this.#input())) this.#carryOut(decision);
    this.#place();
    this.#migrate();
    this.#letGo();
    this.#dispatch();
  }

  #dispatch(): void {
    const { peer } = this.host;
    const { world, consensus } = this.#shared;
    if (this.#busy.has("dispatch")) return;
    const sends = orchestrate(peer.state, { inFlight: [], turns: this.#turns, atMs: world.nowMs, max: 100 });
    if (sends.length === 0) return;
    this.#busy.add("dispatch");
    const clear = (): void => void this.#busy.delete("dispatch");
    world.afterIn(peer.process, 1_000, clear);
    consensus.propose(peer, { type: "task.dispatch", sends }, { term: this.#term }, clear);
  }

  #input(): DetectorInput {
    const { state } = this.host.peer;
    const { mutation } = this.#shared;
    const nowMs = this.host.monotonicMs();
    const settings = state.cluster?.settings;
    const parkedSinceMs = new Map<string, number>();
    for (const node of state.nodes.values()) {
      if (node.parkedMs === 0) this.#parks.delete(node.id);
      else {
        const known = this.#parks.get(node.id);
        const park = known?.revision === node.revision ? known : { revision: node.revision, sinceMs: nowMs };
        this.#parks.set(node.id, park);
        parkedSinceMs.set(node.id, park.sinceMs);
      }
    }
    const holders = [...state.claimsByNode].filter(([nodeId, vmIds]) =>
      [...vmIds].some((vmId) => claimOn(state.vms.get(vmId) ?? { claim: null }, nodeId)?.deadline === true),
    );
    return {
      nowMs,
      term: this.#term,
      nodes: [...state.nodes.values()].map((node) => (mutation === "expire-parked" ? { ...node, parkedMs: 0 } : node)),
      beats: this.#beats,
      stopped: this.#stopped,
      parkedSinceMs,
      accountedMs: new Map(),
      expiring: mutation === "resume-while-expiring" ? new Set() : this.#expiring,
      electedMs: mutation === "new-leader-does-not-wait" ? this.#electedMs - 2 * CLAIM_MS : this.#electedMs,
      deadlineHolders: new Set(holders.map(([nodeId]) => nodeId)),
      longestGrantedMs: CLAIM_MS,
      claimMs: CLAIM_MS,
      marginMs: mutation === "skip-margin" ? 0 : (settings?.["ha.marginMs"] ?? 250),
      suspectMs: settings?.["ha.suspectMs"] ?? 1500,
      graceUntilMs: 0,
    };
  }

  #carryOut(decision: Decision): void {
    const { nodeId } = decision;
    const { world, consensus } = this.#shared;
    const term = this.#term;
    const once = (command: Command, done: () => void): void => {
      const key = `${decision.kind} ${nodeId}`;
      if (this.#busy.has(key)) return;
      this.#busy.add(key);
      let requestId: string | undefined;
      let over = false;
      const attempt = (): void => {
        if (over || this.#term !== term) return;
        const options = requestId === undefined ? { term } : { term, requestId };
        requestId = consensus.propose(this.host.peer, command, options, () => {
          if (over || this.#term !== term) return;
          over = true;
          this.#busy.delete(key);
          done();
        });
        world.afterIn(this.host.peer.process, 1_000, attempt);
      };
      attempt();
    };
    switch (decision.kind) {
      case "suspect":
        return once({ type: "node.suspect", nodeId, silentMs: Math.round(decision.silentMs) }, () => {});
      case "alive":
        return once({ type: "node.alive", nodeId }, () => {});
      case "resume-acking":
        this.#stopped.delete(nodeId);
        return;
      case "stop-acking":
        world.afterIn(this.host.peer.process, world.between(0.1, 5), () => {
          if (this.#term === term) this.#stopped.add(nodeId);
        });
        return;
      case "expire":
        this.#expiring.add(nodeId);
        return once({ type: "node.expire", nodeId, proof: decision.proof, leaderChanged: false, lastHeartbeatMs: 0, suspectMs: 0 }, () => {
          this.#expiring.delete(nodeId);
          this.expiries++;
        });
    }
  }

  #place(): void {
    const { peer } = this.host;
    const { world, consensus } = this.#shared;
    if (this.#busy.has("place")) return;
    const pending = [...peer.state.vms.values()].filter((vm) => vm.state === "pending" && vm.claim === null && vm.retryAtMs <= world.nowMs);
    const nodes = [...peer.state.nodes.values()].filter((node) => node.state === "ready" && node.witness !== true);
    const waiting = [...this.#recovering(), ...pending];
    if (waiting.length === 0 || nodes.length === 0) return;
    const placements = waiting.map((vm) => ({
      vmId: vm.id,
      generation: vm.generation,
      nodeId: nodes[world.random.below(nodes.length)]?.id ?? "",
    }));
    this.#busy.add("place");
    const clear = (): void => void this.#busy.delete("place");
    world.afterIn(peer.process, 1_000, clear);
    consensus.propose(peer, { type: "vm.place", placements, rejections: [] }, { term: this.#term }, clear);
  }

  /** Somebody moves VMs about all the time, and now and then thinks better of it. */
  #migrate(): void {
    const { peer } = this.host;
    const { world, consensus } = this.#shared;
    if (!this.#shared.moving || world.nowMs > TROUBLE_MS || world.nowMs < this.#migrateMs) return;
    this.#migrateMs = world.nowMs + world.between(500, 2_500);
    const { state } = peer;
    if (clusterLevel(state) < PROGRAM_LEVEL) {
      consensus.propose(peer, { type: "level.raise", level: PROGRAM_LEVEL }, { term: this.#term }, () => {});
      return;
    }
    const vms = [...state.vms.values()].filter((vm) => vm.state === "running" || vm.migration !== undefined);
    const nodes = [...state.nodes.values()].filter((node) => node.state === "ready" && node.witness !== true);
    const [vm, node] = [vms[world.random.below(Math.max(1, vms.length))], nodes[world.random.below(Math.max(1, nodes.length))]];
    if (vm === undefined || node === undefined || vm.claim === null) return;
    if (vm.migration !== undefined) {
      if (world.chance(0.3)) consensus.propose(peer, { type: "vm.migrate-abort", vmId: vm.id, why: "" }, {}, () => {});
      return;
    }
    const { generation } = vm.claim;
    consensus.propose(peer, { type: "vm.migrate", vmId: vm.id, nodeId: node.id, generation, why: "" }, {}, () => {});
  }

  #recovering(): Vm[] {
    const { state } = this.host.peer;
    // Nearly always nobody waits, and this is asked at every look.
    if (![...state.vms.values()].some((vm) => vm.state === "recovering" && vm.claim === null)) return [];
    const due = new Waiting();
    due.reset(state);
    return due.due(state, "recovering", 0, this.#shared.world.nowMs);
  }

  /** Of nodes that somebody removes: first Raft, then the row. */
  #letGo(): void {
    const { peer } = this.host;
    const { world, consensus } = this.#shared;
    if (this.#busy.has("let-go")) return;
    const leaving = [...peer.state.nodes.values()].find((node) => node.removing !== undefined && node.state !== "removed");
    if (leaving === undefined) return;
    const gone = consensus.peers.find(({ nodeId }) => nodeId === leaving.id);
    if (gone?.member === true) consensus.letGo(gone);
    this.#busy.add("let-go");
    const clear = (): void => void this.#busy.delete("let-go");
    world.afterIn(peer.process, 1_000, clear);
    consensus.propose(peer, { type: "node.removed", nodeId: leaving.id }, { term: this.#term }, clear);
  }

  /** For the log of a failed liveness check. */
  describe(): string {
    if (!this.host.peer.leading || this.host.peer.state.cluster === null) return "";
    const input = this.#input();
    return `leader ${this.host.peer.nodeId} term ${this.#term} expiries due in ${[...this.host.peer.state.nodes.values()].map((node) => `${node.id}: ${Math.round(expiryOf(node, input).atMs - input.nowMs)} (${node.state})`).join(", ")}`;
  }
}

export function runHaSeed(seed: number, mutation: Mutation = null): HaResult {
  const world = new World(seed);
  const consensus = new Consensus(world);
  const leaders: Leader[] = [];
  const everStarted = new Set<string>();
  const acted = new Set<string>();
  let violation: string | null = null;
  let starts = 0;
  let migrations = 0;
  const shared: Shared = {
    world,
    consensus,
    mutation,
    moving: seed % 3 === 0,
    migrated: () => void migrations++,
    host: (nodeId) => leaders.find(({ host }) => host.peer.nodeId === nodeId)?.host ?? null,
    started: (vmId, generation, host, again) => {
      starts++;
      const other = leaders.find((leader) => leader.host !== host && leader.host.domains.get(vmId)?.running === true);
      const at = `at ${Math.round(world.nowMs)} ms`;
      if (other !== undefined)
        violation ??= `${vmId} runs twice ${at}: ${other.host.describe()} and now ${host.describe()} generation ${generation % 2 ** 32}`;
      if (!again && everStarted.has(`${vmId}/${generation}`))
        violation ??= `generation ${generation % 2 ** 32} of ${vmId} started a second time ${at} on ${host.describe()}`;
      everStarted.add(`${vmId}/${generation}`);
    },
    acted: (job) => {
      if (acted.has(job)) violation ??= `${job} was done twice at ${Math.round(world.nowMs)} ms`;
      acted.add(job);
    },
    broken: (what) => void (violation ??= `${what}, at ${Math.round(world.nowMs)} ms`),
    isLockedElsewhere: (vmId, host) =>
      mutation !== "ignore-the-lock" &&
      leaders.some((leader) => leader.host !== host && leader.host.held.has(vmId) && leader.host.domains.has(vmId)),
    sendBeat: (host, beat) => {
      for (const leader of leaders) {
        if (leader.host.peer.leading)
          world.send(host.peer.id, leader.host.peer.id, leader.host.peer.process, () => leader.heartbeat(host, beat));
      }
    },
  };
  if (mutation === "reuse-generation") {
    consensus.tamper = (state, envelope) => {
      if (envelope.command.type !== "vm.place") return;
      for (const { vmId, generation } of envelope.command.placements) {
        const vm = state.vms.get(vmId);
        const first = generation - (generation % 2 ** 32) + 1;
        if (vm !== undefined && vm.claim !== null)
          state.write({ table: "vms", key: vmId, row: { ...vm, generation: first, claim: { ...vm.claim, generation: first } } });
      }
    };
  }
  consensus.looseTerms = mutation === "expire-in-any-term";
  const size = world.chance(0.7) ? 3 : 5;
  const witness = world.chance(0.2);
  for (let id = 1; id <= size; id++) consensus.peers.push(new Peer(id));
  for (const peer of consensus.peers) leaders.push(new Leader(new SimHost(peer, shared), shared));
  found(consensus, witness);
  for (const { host } of leaders) host.powerOn();
  world.after(0, () => consensus.watchLeaders());
  const everyLook = (): void => {
    for (const leader of leaders) leader.host.peer.process.deliver(leader.host.peer.process.incarnation, () => leader.look());
    world.after(world.between(5, 30), everyLook);
  };
  world.after(0, everyLook);
  const hosts = leaders.map((leader) => leader.host);
  world.after(6_000, () => trouble(world, consensus, hosts, mutation));
  world.runUntil(TROUBLE_MS, () => violation !== null);
  heal(world, hosts);
  world.runUntil(TROUBLE_MS + HEAL_MS, () => violation !== null);
  const expiries = leaders.reduce((sum, leader) => sum + leader.expiries, 0);
  const resets = leaders.reduce((sum, leader) => sum + leader.host.resets, 0);
  const dead = violation ?? (mutation === null ? notLive(leaders) : null);
  return {
    ok: dead === null,
    detail: dead ?? `${starts} starts, ${migrations} migrations, ${expiries} expiries, ${resets} resets`,
    expiries,
    starts,
    migrations,
    resets,
  };
}

/** The cluster, its nodes (the last perhaps a witness) and its VMs, as every replica has them to begin with. */
function found(consensus: Consensus, witness: boolean): void {
  const joining = (peer: Peer) => ({
    ...(witness && peer.id === consensus.peers.length ? { witness: true } : {}),
    id: peer.nodeId,
    name: peer.nodeId,
    zone: "",
    labels: {},
    apiAddress: `${peer.nodeId}:1`,
    peerAddress: `${peer.nodeId}:2`,
  });
  const commands: Command[] = [];
  consensus.peers.forEach((peer, i) => {
    if (i === 0) commands.push({ type: "cluster.init", clusterId: "c", name: "sim", caCertificate: "", caKey: "", node: joining(peer) });
    else {
      commands.push(
        { type: "node.join", tokenId: "t", secretHash: "h", node: joining(peer) },
        { type: "node.join-confirm", nodeId: peer.nodeId },
      );
    }
    if (i === 0) commands.push({ type: "token.create", id: "t", secretHash: "h", ttlMs: 3_600_000, uses: 100 });
  });
  const vms = Array.from({ length: VMS }, (_, i) => ({
    id: `vm${i}`,
    hold: false,
    nodeId: null,
    power: "on" as const,
    definition: {
      name: `vm${i}`,
      cpus: 1,
      memoryMib: 16,
      arch: "x86_64",
      boot: null,
      disks: [],
      nics: [],
      labels: {},
      restart: "always" as const,
      ha: {
        enabled: true,
        priority: i,
        onQuorumLoss: "stop" as const,
      },
    },
  }));
  commands.push({ type: "setting.update", key: "ha.maxFailures", value: 1_000 }, { type: "vm.create", vms });
  commands.forEach((command, i) => {
    consensus.log.push({
      term: 0,
      envelope: { requestId: ownRequestId(0, `found${i}`), origin: "n1", atMs: 0, actor: "sim", term: 0, command },
    });
  });
  for (const peer of consensus.peers) {
    consensus.applyTo(peer, consensus.log.length);
    if (peer.state.nodes.size !== consensus.peers.length || peer.state.vms.size !== VMS)
      throw new Error("the cluster of the simulation could not be founded");
  }
}

/** After healing, every VM that shall run runs where its claim is, exactly once. */
function notLive(leaders: Leader[]): string | null {
  const newest = leaders.reduce((best, leader) => (leader.host.peer.applied > best.host.peer.applied ? leader : best));
  const { state } = newest.host.peer;
  for (const vm of state.vms.values()) {
    const at = leaders.filter(({ host }) => host.domains.get(vm.id)?.running === true);
    const moving = (state.tasksByObject.get(vm.id) ?? []).find((id) => state.tasks.get(id)?.action === "migrate");
    if (moving !== undefined && vm.state === "running" && vm.migration === undefined) return `${vm.id} runs, and ${moving} never ends`;
    if (vm.desired.power !== "on") return `${vm.id} was given up: ${vm.reason ?? ""}`;
    if (at.length === 1 && vm.state === "running" && vm.migration === undefined && at[0]?.host.peer.nodeId === vm.claim?.nodeId) continue;
    const where = leaders.map(({ host }) => host.describe()).join("; ");
    return `${vm.id} is ${vm.state} on ${vm.claim?.nodeId ?? "no node"} (${vm.reason ?? ""}), runs on ${at.map(({ host }) => host.peer.nodeId).join("+") || "none"}; ${where}; ${leaders.map((leader) => leader.describe()).join("")}`;
  }
  return null;
}
