/**
 * What must hold in every run: the rules of the paper (checks.ts), one history of commands that all nodes' tables agree with,
 * nothing acknowledged that is lost, nothing done twice.
 */
import type { CommittedEntry } from "../../src/cluster/consensus/protocol.ts";
import type { Raft } from "../../src/raft/core/raft.ts";
import type { Entry } from "../../src/raft/core/types.ts";
import { decodeEnvelope } from "../../src/state/codec.ts";
import type { Command } from "../../src/state/commands.ts";
import { CALLERS_KEPT, firstAnswer } from "../../src/state/requests.ts";
import type { State } from "../../src/state/state.ts";
import { Checks, Violation } from "./checks.ts";
import type { SimNode } from "./node.ts";

/** What a register was from an index on. */
interface Version {
  index: number;
  value: string | null;
}

/** Longest time for which a leader may believe that it leads although it hears nobody, with a margin. */
const LEADS_ALONE_MS = 3_000;

const NO_DATA = new Uint8Array(0);

export class Invariants {
  readonly #checks = new Checks();
  /** By request id: index of the first entry with it, which is the one that counts. */
  readonly #first = new Map<string, number>();
  readonly #versions = new Map<string, Version[]>();
  /** All rows by index, at some of them. */
  readonly #tables = new Map<number, { rows: string[]; peerId: number }>();
  /** Request ids whose callers were told that it is done. */
  readonly #acknowledged = new Map<string, number>();
  /** Of each register and node, by life: the newest index at which a caller has seen it. */
  readonly #seen = new Map<string, number>();
  #known = 0;
  readonly terms = new Set<number>();

  /** Highest index that any main thread was given. */
  get highest(): number {
    return this.#checks.highest;
  }

  leads(node: SimNode, raft: Raft): void {
    this.terms.add(raft.term);
    this.#checks.leads(node.peer.peerId, raft.term, raft.log);
  }

  /** An entry on its way to the tables of a node. */
  commits(node: SimNode, committed: CommittedEntry): void {
    const { index, term, data, membership } = committed;
    const entry: Entry = { index, term, kind: data === null ? "conf" : "normal", data: data ?? NO_DATA };
    // A change that a checkpoint has overtaken comes without its membership, so only commands are compared byte by byte.
    this.#checks.applies(node.peer.peerId, index - 1, membership === null && data === null ? { ...entry, kind: "conf" } : entry);
    // Of what a checkpoint skipped here, others were told.
    if (data !== null && index > this.#known) this.#replay(index, data);
    this.#known = Math.max(this.#known, index);
  }

  /** The run's own idea of what a command does; of one request only the first entry counts (STA-2). */
  #replay(index: number, data: Uint8Array): void {
    const { requestId, command } = decodeEnvelope(data);
    if (this.#first.has(requestId)) return;
    this.#first.set(requestId, index);
    const change = this.#effect(command);
    if (change === null) return;
    const versions = this.#versions.get(change.key) ?? [];
    versions.push({ index, value: change.value });
    this.#versions.set(change.key, versions);
  }

  #effect(command: Command): { key: string; value: string | null } | null {
    switch (command.type) {
      case "bench.put":
        return { key: command.key, value: command.value };
      case "pool.create": {
        const key = `pool ${command.pool.name}`;
        return this.#newest(key) === null ? { key, value: command.pool.id } : null;
      }
      case "pool.delete": {
        const key = `pool ${command.name}`;
        return this.#newest(key) === null ? null : { key, value: null };
      }
      default:
        return null;
    }
  }

  #newest(key: string): string | null {
    return this.#versions.get(key)?.at(-1)?.value ?? null;
  }

  /** After a node has applied: its registers are as the one history has them at its index. */
  holds(node: SimNode): void {
    const state = node.replica!.view() as State;
    for (const [key, versions] of this.#versions) {
      const expected = at(versions, state.index);
      const found = valueOf(state, key);
      const index = key.startsWith("pool ") ? expected.index : (state.bench.get(key)?.index ?? 0);
      if (found !== expected.value || index !== expected.index)
        throw new Violation(
          `state machine safety: ${key} on node ${node.peer.peerId} at index ${state.index} is ${found} of ${index}, should be ${expected.value} of ${expected.index}`,
        );
    }
    if (state.index % 64 === 0) this.sameTables(node);
  }

  /** All tables of all nodes at one index are the same bytes (STA-1). */
  sameTables(node: SimNode): void {
    const state = node.replica!.view() as State;
    const rows = [...state.rows()].map((row) => JSON.stringify(row));
    const known = this.#tables.get(state.index);
    if (known === undefined) {
      this.#tables.set(state.index, { rows, peerId: node.peer.peerId });
      return;
    }
    const length = Math.max(rows.length, known.rows.length);
    for (let i = 0; i < length; i++) {
      if (rows[i] === known.rows[i]) continue;
      const [here, there] = [node.peer.peerId, known.peerId];
      throw new Violation(`tables at index ${state.index} differ: node ${here} has ${rows[i]}, node ${there} has ${known.rows[i]}`);
    }
  }

  /** A caller at `node` was told that its request is done. */
  acknowledged(node: SimNode, requestId: string): void {
    const index = this.#first.get(requestId);
    if (index === undefined) throw new Violation(`${requestId} was acknowledged by node ${node.peer.peerId} but never committed`);
    if (node.replica!.view().index < index)
      throw new Violation(`${requestId} was acknowledged by node ${node.peer.peerId} before its tables had index ${index}`);
    this.#acknowledged.set(requestId, index);
  }

  /** A stale read says its index: it must be the truth of that index, and never go back within one life of a node (RAFT-5). */
  staleRead(node: SimNode, key: string, quietMs: number): void {
    const { replica, life, peer, skew } = node;
    const view = replica!.view() as State;
    const { silentMs } = replica!.leadership();
    const who = `${peer.peerId} ${life} ${key}`;
    const before = this.#seen.get(who) ?? 0;
    if (view.index < before) throw new Violation(`stale read at node ${peer.peerId} goes back from index ${before} to ${view.index}`);
    this.#seen.set(who, view.index);
    const expected = at(this.#versions.get(key) ?? [], view.index);
    const found = valueOf(view, key);
    if (found !== expected.value)
      throw new Violation(`stale read of ${key} at index ${view.index} is ${found}, should be ${expected.value}`);
    // A leader finds out within two election times that nobody hears it; all others have heard of a leader no later than of anybody.
    if (!(silentMs >= 0) || (node.raft?.role !== "leader" && silentMs < quietMs * skew.rate - LEADS_ALONE_MS))
      throw new Violation(`stale read at node ${peer.peerId} says age ${silentMs}, but it has heard nobody for ${quietMs} ms`);
  }

  /** Log matching and, of those that have the same index, equal tables. */
  compare(nodes: readonly SimNode[]): void {
    const logs = nodes.flatMap((node) => (node.raft === null ? [] : [node.raft.log]));
    for (const [i, a] of logs.entries()) for (const b of logs.slice(i + 1)) this.#checks.match(a, b);
  }

  /** Nothing that was acknowledged is missing from a node that has everything. */
  nothingLost(node: SimNode): void {
    const state = node.replica!.view() as State;
    for (const [requestId, index] of this.#acknowledged) {
      if (index > state.index || firstAnswer(state, requestId) !== undefined || this.#acknowledged.size > CALLERS_KEPT) continue;
      throw new Violation(`durability: ${requestId} was acknowledged at index ${index} and is gone from node ${node.peer.peerId}`);
    }
  }
}

export function valueOf(state: State, key: string): string | null {
  if (!key.startsWith("pool ")) return state.bench.get(key)?.value ?? null;
  return state.poolIdByName.get(key.slice(5)) ?? null;
}

function at(versions: readonly Version[], index: number): Version {
  return versions.findLast((version) => version.index <= index) ?? { index: 0, value: null };
}
