/**
 * The leader's loop around the detector: carries out its decisions. It runs on each node and decides only
 * while its node leads.
 */
import type { Clock } from "../base/clock.ts";
import { asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Leadership, Store } from "../cluster/store.ts";
import type { Cluster } from "../model/cluster.ts";
import { claimOn } from "../model/claims.ts";
import type { View } from "../model/view.ts";
import type { NodeSuspect } from "../state/commands.ts";
import { ownRequestId } from "../state/requests.ts";
import { detect, nextLookMs, waitMs } from "./detector.ts";
import type { Decision, DetectorInput, NodeBeat } from "./detector.ts";

/** What the consensus thread tells and does. All times are Clock.monotonicMs. */
export interface HeartbeatSource {
  /** When the present leadership of this node began; not before the election was won. */
  leadingSinceMs(): number;
  /** When the leader before this one was last heard of; null if never. For time lines only. */
  formerLeaderHeardMs(): number | null;
  beats(): readonly NodeBeat[];
  /** Duration that the thread grants now with each acknowledgement, ms, as it last said in this term; 0 before. */
  grantingMs(): number;
  /**
   * Stops acknowledging a node in this term; `ok: false` if the term is over. `lastAckMs` is read after that, so no acknowledgement
   * of this term can be later.
   */
  stopAcking(nodeId: string, term: number): Promise<{ ok: false } | { ok: true; lastAckMs: number | null }>;
  resumeAcking(nodeId: string): void;
}

export interface SupervisorDeps {
  store: Store;
  source: HeartbeatSource;
  clock: Clock;
  log: Logger;
}

/** Longest pause between two looks. */
const LOOK_MS = 100;
/** A look that comes this late means that the thread stood still and heartbeats may wait unread. */
const STALL_MS = 400;
const PROPOSE_LIMIT_MS = 2_000;

export class Supervisor {
  readonly #deps: SupervisorDeps;
  readonly #log: Logger;
  #stopTimer: () => void = () => {};
  #running = false;
  #term = 0;
  #lastLookMs = 0;
  #graceUntilMs = 0;
  /** Node → last acknowledgement as the worker read it after stopping. */
  readonly #stopped = new Map<string, number | null>();
  readonly #expiring = new Map<string, string>();
  /** `kind nodeId` of decisions under way. */
  readonly #busy = new Set<string>();
  readonly #parks = new Map<string, { revision: number; sinceMs: number }>();
  /** Nodes that a recover left out; and since when they are not any more. */
  readonly #leftOut = new Set<string>();
  readonly #accounted = new Map<string, number>();
  /** Since when the acknowledging thread grants the shorter claim; null if there is nothing to forget. */
  #shorterSinceMs: number | null = null;
  #holders: { index: number; nodeIds: ReadonlySet<string> } = { index: -1, nodeIds: new Set() };

  constructor(deps: SupervisorDeps) {
    this.#deps = deps;
    this.#log = deps.log.child("ha");
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#lastLookMs = this.#deps.clock.monotonicMs();
    this.look();
  }

  stop(): void {
    this.#running = false;
    this.#stopTimer();
  }

  /** One look at all nodes; the loop calls it, and so do tests. */
  look(): void {
    if (!this.#running) return;
    this.#stopTimer();
    const { store, clock } = this.#deps;
    const nowMs = clock.monotonicMs();
    const leadership = store.leadership();
    const view = store.view();
    let pauseMs = LOOK_MS;
    if (leadership.leading && view.cluster !== null) {
      const input = this.#input(view, view.cluster, leadership, nowMs);
      this.#forgetLongerClaims(view.cluster, input.electedMs, leadership.term, nowMs);
      for (const decision of detect(input)) this.#carryOut(decision, view, leadership.term);
      pauseMs = Math.min(LOOK_MS, Math.max(5, nextLookMs(input) - nowMs));
    } else if (this.#term !== 0) this.#enterTerm(0);
    this.#lastLookMs = nowMs;
    this.#stopTimer = clock.after(pauseMs, () => this.look());
  }

  #input(view: View, cluster: Cluster, leadership: Leadership, nowMs: number): DetectorInput {
    const { settings } = cluster;
    if (leadership.term !== this.#term) this.#enterTerm(leadership.term);
    if (nowMs - this.#lastLookMs > STALL_MS) this.#graceUntilMs = nowMs + 2 * settings["ha.heartbeatMs"];
    const beats = new Map<string, NodeBeat>();
    for (const beat of this.#deps.source.beats()) {
      // The thread's reports come a little late; what it said after stopping is the last word.
      const lastAckMs = Math.max(beat.lastAckMs ?? -Infinity, this.#stopped.get(beat.nodeId) ?? -Infinity);
      beats.set(beat.nodeId, { ...beat, lastAckMs: lastAckMs === -Infinity ? null : lastAckMs });
    }
    const nodes = [...view.nodes.values()];
    return {
      nowMs,
      term: leadership.term,
      electedMs: this.#deps.source.leadingSinceMs(),
      nodes,
      beats,
      stopped: new Set(this.#stopped.keys()),
      expiring: new Set(this.#expiring.keys()),
      parkedSinceMs: this.#parkedSince(view, nowMs),
      accountedMs: this.#accountedSince(view, nowMs),
      deadlineHolders: this.#deadlineHolders(view),
      longestGrantedMs: cluster.longestClaimMs,
      claimMs: settings["ha.claimMs"],
      marginMs: settings["ha.marginMs"],
      suspectMs: settings["ha.suspectMs"],
      graceUntilMs: this.#graceUntilMs,
    };
  }

  /** What was stopped and decided in another term is void; the worker forgets it too. */
  #enterTerm(term: number): void {
    this.#term = term;
    this.#stopped.clear();
    this.#expiring.clear();
    this.#busy.clear();
    this.#parks.clear();
    this.#leftOut.clear();
    this.#accounted.clear();
    this.#shorterSinceMs = null;
    this.#graceUntilMs = 0;
  }

  /**
   * After `ha.claimMs` was made smaller, longer claims stay in force until the thread that acknowledges has used the new
   * value for as long as the longest of them lasts, and so do those that a left-out node still has of others. Only then may the
   * cluster forget them; a new leader begins anew.
   */
  #forgetLongerClaims(cluster: Cluster, electedMs: number, term: number, nowMs: number): void {
    const claimMs = cluster.settings["ha.claimMs"];
    const { longestClaimMs } = cluster;
    if (longestClaimMs <= claimMs || this.#deps.source.grantingMs() !== claimMs) {
      this.#shorterSinceMs = null;
      return;
    }
    this.#shorterSinceMs ??= nowMs;
    const wait = waitMs(longestClaimMs, { claimMs, marginMs: cluster.settings["ha.marginMs"] });
    if (nowMs < Math.max(this.#shorterSinceMs, electedMs, ...this.#accounted.values()) + wait.grantedMs + wait.marginMs) return;
    this.#shorterSinceMs = null;
    this.#propose({ type: "claims.shorten", claimMs }, term).catch((error: unknown) => {
      this.#log.warn("longer claims are not forgotten yet", { reason: asRoostError(error).message });
    });
  }

  /** A new leader was elected after it was accounted for, so its own wait covers it. */
  #accountedSince(view: View, nowMs: number): ReadonlyMap<string, number> {
    for (const { id, leftOut } of view.nodes.values()) {
      if (leftOut !== undefined) this.#leftOut.add(id);
      else if (this.#leftOut.delete(id)) this.#accounted.set(id, nowMs);
    }
    return this.#accounted;
  }

  #parkedSince(view: View, nowMs: number): ReadonlyMap<string, number> {
    const since = new Map<string, number>();
    for (const node of view.nodes.values()) {
      if (node.parkedMs === 0) {
        this.#parks.delete(node.id);
        continue;
      }
      // Any change of the row may be a new park: counted from now, it waits longer rather than too short.
      const known = this.#parks.get(node.id);
      const park = known?.revision === node.revision ? known : { revision: node.revision, sinceMs: nowMs };
      this.#parks.set(node.id, park);
      since.set(node.id, park.sinceMs);
    }
    return since;
  }

  #deadlineHolders(view: View): ReadonlySet<string> {
    if (this.#holders.index === view.index) return this.#holders.nodeIds;
    const nodeIds = new Set<string>();
    for (const [nodeId, vmIds] of view.claimsByNode) {
      for (const vmId of vmIds) {
        const vm = view.vms.get(vmId);
        if (vm === undefined || claimOn(vm, nodeId)?.deadline !== true) continue;
        nodeIds.add(nodeId);
        break;
      }
    }
    this.#holders = { index: view.index, nodeIds };
    return nodeIds;
  }

  #carryOut(decision: Decision, view: View, term: number): void {
    const { nodeId } = decision;
    switch (decision.kind) {
      case "resume-acking":
        this.#stopped.delete(nodeId);
        this.#deps.source.resumeAcking(nodeId);
        return;
      case "suspect":
        this.#once(decision, term, async () => {
          await this.#propose(suspicionOf(decision), term);
        });
        return;
      case "alive":
        this.#once(decision, term, async () => {
          await this.#propose({ type: "node.alive", nodeId }, term);
        });
        return;
      case "stop-acking":
        this.#once(decision, term, async () => {
          const answer = await this.#deps.source.stopAcking(nodeId, term);
          if (!answer.ok || this.#term !== term) return;
          this.#stopped.set(nodeId, answer.lastAckMs);
          // Not within this look: the decision must be made again from the last acknowledgement as it is now.
          this.#deps.clock.after(0, () => this.look());
        });
        return;
      case "expire": {
        const wallMs = this.#deps.clock.wallMs();
        const node = view.nodes.get(nodeId);
        const suspectMs = node?.state === "unreachable" ? node.stateSinceMs : wallMs;
        const requestId = ownRequestId(view.index, `expire/${term}/${nodeId}`);
        this.#expiring.set(nodeId, requestId);
        this.#log.warn("claims ran out", { nodeId, term, sinceAckMs: Math.round(decision.proof.sinceAckMs) });
        this.#once(decision, term, async () => {
          const proof = { ...decision.proof, sinceAckMs: Math.round(decision.proof.sinceAckMs) };
          const times = { ...this.#lastHeartbeat(nodeId, wallMs, decision.silentMs), suspectMs };
          await this.#proposeUntilKnown({ type: "node.expire", nodeId, proof, ...times }, term, requestId);
          if (this.#term === term) this.#expiring.delete(nodeId);
        });
      }
    }
  }

  /** A leader that never heard of the node knows only how long the leader before it has been silent. */
  #lastHeartbeat(nodeId: string, wallMs: number, silentMs: number): { lastHeartbeatMs: number; leaderChanged: boolean } {
    const { source, clock } = this.#deps;
    const heardMs = source.formerLeaderHeardMs();
    const leaderChanged = heardMs !== null && !source.beats().some((beat) => beat.nodeId === nodeId);
    const agoMs = leaderChanged ? clock.monotonicMs() - heardMs : silentMs;
    return { lastHeartbeatMs: Math.round(wallMs - agoMs), leaderChanged };
  }

  async #propose(command: Parameters<Store["propose"]>[0], term: number): Promise<void> {
    await this.#deps.store.propose(command, { actor: "leader", term, timeoutMs: PROPOSE_LIMIT_MS });
  }

  /** Returns once the command was applied or refused for good; while neither is known it is proposed again under the same id. */
  async #proposeUntilKnown(command: Parameters<Store["propose"]>[0], term: number, requestId: string): Promise<void> {
    while (this.#running && this.#term === term) {
      try {
        await this.#deps.store.propose(command, { actor: "leader", term, requestId, timeoutMs: PROPOSE_LIMIT_MS });
        return;
      } catch (error) {
        // Only what applying answers says that it will never be applied; anything else leaves its fate open.
        const { kind } = asRoostError(error).fault;
        if (kind === "conflict" || kind === "precondition" || kind === "not-found") throw error;
        this.#log.warn("the expiry is not committed yet; proposing it again", { requestId, reason: asRoostError(error).message });
        await new Promise<void>((resolve) => this.#deps.clock.after(LOOK_MS, resolve));
      }
    }
  }

  /** One at a time of each kind and node; failures are logged, and the next look decides afresh. */
  #once(decision: Decision, term: number, work: () => Promise<void>): void {
    const key = `${decision.kind} ${decision.nodeId}`;
    if (this.#busy.has(key)) return;
    this.#busy.add(key);
    work().then(
      () => this.#settled(decision, key, term),
      (error: unknown) => {
        this.#log.warn(`${decision.kind} failed`, { nodeId: decision.nodeId, reason: asRoostError(error).message });
        this.#settled(decision, key, term);
      },
    );
  }

  #settled(decision: Decision, key: string, term: number): void {
    if (this.#term !== term) return;
    this.#busy.delete(key);
    if (decision.kind === "expire") this.#expiring.delete(decision.nodeId);
  }
}

function suspicionOf({ nodeId, silentMs, claimsEndInMs }: Decision & { kind: "suspect" }): NodeSuspect {
  return {
    type: "node.suspect",
    nodeId,
    silentMs: Math.round(silentMs),
    ...(claimsEndInMs === null ? {} : { claimsEndInMs: Math.round(claimsEndInMs) }),
  };
}
