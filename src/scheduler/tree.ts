/**
 * The exact winner of `pick` for the spec's two scores, in O(log nodes) for any size of VM.
 *
 * Both scores are a sum of a node's load and of what the VM adds, with the same denominators:
 *
 *     score = ((used vCPUs + vCPUs) / C + (used memory + memory) / M) / 2
 *
 * so among nodes of equal C and M the order is that of one whole number, used vCPUs × M + used memory × C, whatever the VM.
 * One tree of these loads, with the room below each branch, serves all sizes of VMs and all classes of requests, and a
 * placement changes one path in it. Nodes of equal C and M are a group; the groups' best are compared by their scores.
 *
 * The shape is a trie of the nodes' hashes, sixteen branches at a time: because ties break by the XOR of the request's
 * number with the node's hash, and a branch stands for one digit of the hash, the winner among equals is found on the way.
 * Trees follow the arena's journal when they are used, not when nodes change.
 */
import { CPUS, LIMIT_CPUS, LIMIT_MEMORY, MEMORY, PLACED_CPUS, PLACED_MEMORY, USED_CPUS, USED_MEMORY, WIDTH } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { Item, RequestClass } from "./items.ts";
import { pick, roomFor, tieBefore } from "./pick.ts";
import { scoreRunning, scoreStopped } from "./scorers.ts";
import type { Scorer } from "./scorers.ts";

/** Below this a scan is as fast and needs nothing kept. */
const MIN_NODES = 160;
/** With fewer nodes a group than this on average, as where no two machines are alike, a scan is as fast. */
const MIN_GROUP = 4;
const MAX_GROUPS = 512;
/** A class open to less than this part of the nodes is scanned: the tree would look at all the others. */
const MIN_ELIGIBLE = 1 / 8;

/** Picks like `pick`, and remembers. */
export type Picker = (item: Item, score: Scorer) => number;

const PLANTED = new WeakMap<Arena, Map<Scorer, Forest>>();

/** A picker for one arena: `pick` where nothing is gained by remembering. What it remembers lives as long as the arena. */
export function pickerFor(arena: Arena): Picker {
  let forests = PLANTED.get(arena);
  if (forests === undefined) PLANTED.set(arena, (forests = new Map<Scorer, Forest>()));
  const planted = forests;
  return (item, score) => {
    if (arena.nodes.length < MIN_NODES || item.overlay !== null || item.class.tiers !== null) return pick(arena, item, score);
    if (score !== scoreStopped && score !== scoreRunning) return pick(arena, item, score);
    let forest = planted.get(score);
    if (forest === undefined) planted.set(score, (forest = new Forest(arena, score)));
    return forest.pick(item);
  };
}

/** The trees of all groups under one score. */
class Forest {
  private readonly arena: Arena;
  private readonly score: Scorer;
  private readonly running: boolean;
  private groups: Group[] = [];
  private groupOf = new Int32Array(0);
  private leafOf = new Int32Array(0);
  private few = true;
  private flags = new WeakMap<RequestClass, Uint8Array | null>();
  private seen = 0;
  private epoch = -1;
  private totalCpus = 0;

  constructor(arena: Arena, score: Scorer) {
    this.arena = arena;
    this.score = score;
    this.running = score === scoreRunning;
  }

  pick(item: Item): number {
    const { arena } = this;
    this.follow();
    if (!this.few || item.class.eligible.length < arena.nodes.length * MIN_ELIGIBLE) return pick(arena, item, this.score);
    const eligible = this.flagsOf(item.class);
    let best = -1;
    let bestScore = Number.POSITIVE_INFINITY;
    for (const group of this.groups) {
      const i = group.best(item, eligible, bestScore);
      if (i === -1) continue;
      const mine = this.score(arena, i, item.memory, item.cpus);
      if (best !== -1 && (mine > bestScore || (mine === bestScore && !tieBefore(arena, item.tie, i, best)))) continue;
      best = i;
      bestScore = mine;
    }
    return best;
  }

  /** null where all nodes are open. */
  private flagsOf(own: RequestClass): Uint8Array | null {
    let flags = this.flags.get(own);
    if (flags !== undefined) return flags;
    flags = own.eligible.length === this.arena.nodes.length ? null : new Uint8Array(this.arena.nodes.length);
    if (flags !== null) for (const i of own.eligible) flags[i] = 1;
    this.flags.set(own, flags);
    return flags;
  }

  private follow(): void {
    const { arena } = this;
    const { journal } = arena;
    if (this.epoch !== journal.epoch || (this.running && this.totalCpus !== arena.totalCpus)) this.plant();
    else if (journal.count - this.seen >= journal.ring.length) for (const group of this.groups) group.measure();
    else {
      const wrap = journal.ring.length - 1;
      for (let at = this.seen; at < journal.count; at++) {
        const i = journal.ring[at & wrap]!;
        this.groups[this.groupOf[i]!]!.update(this.leafOf[i]!);
      }
    }
    this.seen = journal.count;
  }

  private plant(): void {
    const { arena } = this;
    this.epoch = arena.journal.epoch;
    this.totalCpus = arena.totalCpus;
    this.flags = new WeakMap();
    const members = new Map<string, number[]>();
    for (let i = 0; i < arena.nodes.length; i++) {
      const at = i * WIDTH;
      const key = this.running ? `${arena.cells[at + MEMORY]}` : `${arena.cells[at + CPUS]} ${arena.cells[at + MEMORY]}`;
      const list = members.get(key);
      if (list === undefined) members.set(key, [i]);
      else list.push(i);
    }
    this.few = members.size <= Math.min(MAX_GROUPS, arena.nodes.length / MIN_GROUP);
    this.groups = [];
    if (!this.few) return;
    this.groupOf = new Int32Array(arena.nodes.length);
    this.leafOf = new Int32Array(arena.nodes.length);
    for (const nodes of members.values()) {
      for (const i of nodes) this.groupOf[i] = this.groups.length;
      this.groups.push(new Group(arena, nodes, this.leafOf, this.running));
    }
  }
}

/** Nodes of one make: a trie of their hashes whose entries lie level by level, buckets first; then one entry a node. */
class Group {
  private readonly arena: Arena;
  private readonly running: boolean;
  /** What a vCPU and a MiB add to a load, and the load of score 1. */
  private readonly perCpu: number;
  private readonly perMib: number;
  private readonly whole: number;
  /** Node by leaf, in order of bucket, then of id. */
  private readonly nodeOf: Int32Array;
  /** First leaf by bucket, and one more for the end; and bucket by leaf. */
  private readonly start: Int32Array;
  private readonly bucketOf: Int32Array;
  /** Digits of a bucket's number. */
  private readonly digits: number;
  /** First entry of each level, buckets' first, the root's last; after them the leaves. */
  private readonly offset: readonly number[];
  private readonly leaves: number;
  /** Least load, most free memory and most free vCPUs below, by entry. */
  private readonly load: Float64Array;
  private readonly roomMemory: Float64Array;
  private readonly roomCpus: Float64Array;
  /** Of the question under way. */
  private eligible: Uint8Array | null = null;
  private found = -1;
  private foundLoad = 0;

  constructor(arena: Arena, nodes: readonly number[], leafOf: Int32Array, running: boolean) {
    this.arena = arena;
    this.running = running;
    const at = nodes[0]! * WIDTH;
    this.perCpu = arena.cells[at + MEMORY]!;
    this.perMib = running ? arena.totalCpus : arena.cells[at + CPUS]!;
    this.whole = 2 * this.perCpu * this.perMib;
    let digits = 1;
    // As many digits as leave some two to forty leaves in a bucket.
    while (digits < 6 && 16 ** (digits + 1) * 2 <= nodes.length) digits++;
    this.digits = digits;
    const bucket = (i: number): number => arena.hash[i]! >>> (32 - 4 * digits);
    this.nodeOf = Int32Array.from(nodes).sort((a, b) => bucket(a) - bucket(b) || a - b);
    this.bucketOf = this.nodeOf.map(bucket);
    this.start = new Int32Array(16 ** digits + 1);
    for (const [leaf, i] of this.nodeOf.entries()) {
      leafOf[i] = leaf;
      this.start[bucket(i) + 1]! += 1;
    }
    for (let b = 0; b + 1 < this.start.length; b++) this.start[b + 1]! += this.start[b]!;
    const offset: number[] = [];
    let entries = 0;
    for (let level = 0; level <= digits; level++) {
      offset.push(entries);
      entries += 16 ** (digits - level);
    }
    this.offset = offset;
    this.leaves = entries;
    this.load = new Float64Array(entries + nodes.length);
    this.roomMemory = new Float64Array(entries + nodes.length);
    this.roomCpus = new Float64Array(entries + nodes.length);
    this.measure();
  }

  /** All entries anew. */
  measure(): void {
    for (let leaf = 0; leaf < this.nodeOf.length; leaf++) this.measureLeaf(leaf);
    const [first] = this.offset as [number];
    for (let b = 0; b + 1 < this.start.length; b++) this.sum(first + b, this.leaves + this.start[b]!, this.leaves + this.start[b + 1]!);
    for (let level = 1; level <= this.digits; level++) {
      const below = this.offset[level - 1]!;
      for (let e = 0; e < 16 ** (this.digits - level); e++) this.sum(this.offset[level]! + e, below + e * 16, below + e * 16 + 16);
    }
  }

  /** The node at `leaf` changed. */
  update(leaf: number): void {
    const { load, roomMemory, roomCpus } = this;
    let from = this.leaves + leaf;
    let oldLoad = load[from]!;
    let oldMemory = roomMemory[from]!;
    let oldCpus = roomCpus[from]!;
    this.measureLeaf(leaf);
    let entry = this.bucketOf[leaf]!;
    let to = this.leaves + this.start[entry + 1]!;
    let first = this.leaves + this.start[entry]!;
    for (let level = 0; level <= this.digits; level++) {
      const at = this.offset[level]! + entry;
      const wasLoad = load[at]!;
      const wasMemory = roomMemory[at]!;
      const wasCpus = roomCpus[at]!;
      const nowLoad = load[from]!;
      const nowMemory = roomMemory[from]!;
      const nowCpus = roomCpus[from]!;
      // Only a new extreme, or the extreme leaving, can change what is above.
      load[at] = nowLoad <= wasLoad ? nowLoad : oldLoad > wasLoad ? wasLoad : least(load, first, to);
      roomMemory[at] = nowMemory >= wasMemory ? nowMemory : oldMemory < wasMemory ? wasMemory : most(roomMemory, first, to);
      roomCpus[at] = nowCpus >= wasCpus ? nowCpus : oldCpus < wasCpus ? wasCpus : most(roomCpus, first, to);
      if (load[at] === wasLoad && roomMemory[at] === wasMemory && roomCpus[at] === wasCpus) return;
      oldLoad = wasLoad;
      oldMemory = wasMemory;
      oldCpus = wasCpus;
      from = at;
      first = this.offset[level]! + (entry & ~15);
      to = first + 16;
      entry >>>= 4;
    }
  }

  /** The best node of the group, or -1 if none has room or all score more than `bound`. */
  best(item: Item, eligible: Uint8Array | null, bound: number): number {
    const root = this.offset[this.digits]!;
    if (this.roomMemory[root]! < item.memory || this.roomCpus[root]! < item.cpus) return -1;
    if ((this.load[root]! + item.cpus * this.perCpu + item.memory * this.perMib) / this.whole > bound) return -1;
    this.eligible = eligible;
    this.found = -1;
    this.foundLoad = Number.POSITIVE_INFINITY;
    this.visit(item, this.digits, 0, 0);
    return this.found;
  }

  /** Looks below an entry. @param path the entry's digits after XOR with the request's number: what its nodes' ties begin with. */
  private visit(item: Item, level: number, entry: number, path: number): void {
    if (level === 0) return this.visitLeaves(item, entry);
    const { load, roomMemory, roomCpus, digits } = this;
    const first = this.offset[level - 1]! + entry * 16;
    const shift = 28 - 4 * (digits - level);
    const own = (item.tie >>> shift) & 15;
    let looked = 0;
    for (;;) {
      // Lowest load first; between equals in the order of ties.
      let next = -1;
      let nextLoad = this.foundLoad;
      const foundPath = this.found === -1 ? -1 : ((this.arena.hash[this.found]! ^ item.tie) >>> shift) >>> 0;
      for (let k = 0; k < 16; k++) {
        const at = first + (own ^ k);
        const mine = load[at]!;
        if (mine > nextLoad || (looked & (1 << k)) !== 0) continue;
        if (mine === nextLoad && (next !== -1 || foundPath <= path * 16 + k)) continue;
        if (roomMemory[at]! < item.memory || roomCpus[at]! < item.cpus) continue;
        next = k;
        nextLoad = mine;
      }
      if (next === -1) return;
      looked |= 1 << next;
      this.visit(item, level - 1, entry * 16 + (own ^ next), path * 16 + next);
    }
  }

  private visitLeaves(item: Item, bucket: number): void {
    const { arena, eligible } = this;
    for (let leaf = this.start[bucket]!; leaf < this.start[bucket + 1]!; leaf++) {
      const i = this.nodeOf[leaf]!;
      const mine = this.load[this.leaves + leaf]!;
      if (mine > this.foundLoad || (mine === this.foundLoad && !tieBefore(arena, item.tie, i, this.found))) continue;
      if ((eligible !== null && eligible[i] === 0) || !roomFor(arena, i, item.memory, item.cpus)) continue;
      this.found = i;
      this.foundLoad = mine;
    }
  }

  private measureLeaf(leaf: number): void {
    const { cells } = this.arena;
    const at = this.nodeOf[leaf]! * WIDTH;
    const to = this.leaves + leaf;
    this.load[to] = this.running
      ? cells[at + USED_CPUS]! * this.perCpu + cells[at + USED_MEMORY]! * this.perMib
      : cells[at + PLACED_CPUS]! * this.perCpu + cells[at + PLACED_MEMORY]! * this.perMib;
    this.roomMemory[to] = cells[at + LIMIT_MEMORY]! - cells[at + USED_MEMORY]!;
    this.roomCpus[to] = cells[at + LIMIT_CPUS]! - cells[at + USED_CPUS]!;
  }

  private sum(at: number, from: number, to: number): void {
    this.load[at] = least(this.load, from, to);
    this.roomMemory[at] = most(this.roomMemory, from, to);
    this.roomCpus[at] = most(this.roomCpus, from, to);
  }
}

function least(values: Float64Array, from: number, to: number): number {
  let low = Number.POSITIVE_INFINITY;
  for (let at = from; at < to; at++) if (values[at]! < low) low = values[at]!;
  return low;
}

function most(values: Float64Array, from: number, to: number): number {
  let high = Number.NEGATIVE_INFINITY;
  for (let at = from; at < to; at++) if (values[at]! > high) high = values[at]!;
  return high;
}
