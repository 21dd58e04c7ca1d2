/**
 * Lazy tournament trees over the nodes: the exact winner of `pick` for a class of equal requests in O(log nodes).
 *
 * The shape is a trie of the nodes' hashes, sixteen branches at a time, shared by all classes; each class keeps the lowest
 * score below every branch. Because ties break by the XOR of the request's number with the node's hash, and a branch stands
 * for one digit of the hash, the winner among equal scores is found on the way down.
 *
 * Trees follow the arena's journal when they are used, not when nodes change.
 */
import type { Arena } from "./arena.ts";
import type { Item } from "./items.ts";
import { pick, roomFor, tieBefore } from "./pick.ts";
import type { Scorer } from "./scorers.ts";

/** Below this a scan is as fast and needs nothing kept. */
const MIN_NODES = 192;
/** Classes that may have a tree at once; each placement costs each of them an update sooner or later. */
const MAX_TREES = 32;
/** Decisions after which the classes that are used most get the trees. */
const WINDOW = 1024;

/** Picks like `pick`, and remembers. */
export type Picker = (item: Item, score: Scorer) => number;

/** A picker for one arena: `pick` where nothing is gained by remembering. */
export function pickerFor(arena: Arena): Picker {
  const forest = arena.nodes.length < MIN_NODES ? null : new Forest(arena);
  return (item, score) => {
    return forest === null ? pick(arena, item, score) : forest.pick(item, score);
  };
}

/**
 * The trie. Its buckets are the leading digits of the hash; above them each level has one entry for sixteen of the one
 * below, up to one. The levels of a class lie in one array, the lowest first, after the leaves.
 */
interface Shape {
  /** Node by leaf, in order of bucket, then of id; and leaf by node. */
  readonly nodeOf: Int32Array;
  readonly leafOf: Int32Array;
  /** First leaf by bucket, and one more for the end; and bucket by leaf. */
  readonly start: Int32Array;
  readonly bucketOf: Int32Array;
  /** Digits of a bucket's number. */
  readonly digits: number;
  /** Where each level begins in a tree's array, buckets first. */
  readonly offset: readonly number[];
  readonly cells: number;
}

interface Tree {
  readonly least: Float64Array;
  readonly eligible: Uint8Array;
  seen: number;
  epoch: number;
}

interface Entry {
  tree: Tree | null;
  uses: number;
}

class Forest {
  private readonly arena: Arena;
  private readonly shape: Shape;
  private readonly entries = new Map<Scorer, Entry[]>();
  private trees = 0;
  private decisions = 0;

  constructor(arena: Arena) {
    this.arena = arena;
    this.shape = shapeOf(arena.hash);
  }

  pick(item: Item, score: Scorer): number {
    const { arena } = this;
    if (item.overlay !== null || item.score !== null || item.class.tiers !== null) return pick(arena, item, score);
    if (++this.decisions % WINDOW === 0) this.review();
    let list = this.entries.get(score);
    if (list === undefined) this.entries.set(score, (list = []));
    let entry = list[item.size];
    if (entry === undefined) list[item.size] = entry = { tree: null, uses: 0 };
    entry.uses++;
    let tree = entry.tree;
    if (tree === null) {
      // The first use is a scan: many a class is asked once only.
      if (entry.uses < 2 || this.trees >= MAX_TREES) return pick(arena, item, score);
      entry.tree = tree = this.plant(item);
      this.trees++;
    }
    this.follow(tree, item, score);
    return this.descend(tree, item.tie);
  }

  private plant(item: Item): Tree {
    const eligible = new Uint8Array(this.arena.nodes.length);
    for (const i of item.class.eligible) eligible[i] = 1;
    return { least: new Float64Array(this.shape.cells).fill(Number.POSITIVE_INFINITY), eligible, seen: 0, epoch: -1 };
  }

  private follow(tree: Tree, item: Item, score: Scorer): void {
    const { journal } = this.arena;
    const behind = journal.count - tree.seen;
    if (tree.epoch !== journal.epoch || behind > this.arena.nodes.length / 4) this.rebuild(tree, item, score);
    else {
      const wrap = journal.ring.length - 1;
      for (let at = tree.seen; at < journal.count; at++) this.update(tree, item, score, journal.ring[at & wrap]!);
    }
    tree.seen = journal.count;
    tree.epoch = journal.epoch;
  }

  private rebuild(tree: Tree, item: Item, score: Scorer): void {
    const { shape, arena } = this;
    const { least } = tree;
    for (let i = 0; i < arena.nodes.length; i++) least[shape.leafOf[i]!] = this.value(tree, item, score, i);
    for (let bucket = 0; bucket + 1 < shape.start.length; bucket++) {
      least[shape.offset[0]! + bucket] = lowest(least, shape.start[bucket]!, shape.start[bucket + 1]!);
    }
    for (let level = 1; level < shape.offset.length; level++) {
      const below = shape.offset[level - 1]!;
      const entries = 16 ** (shape.digits - level);
      for (let e = 0; e < entries; e++) least[shape.offset[level]! + e] = lowest(least, below + e * 16, below + e * 16 + 16);
    }
  }

  private update(tree: Tree, item: Item, score: Scorer, i: number): void {
    const { shape } = this;
    const { least } = tree;
    const leaf = shape.leafOf[i]!;
    const value = this.value(tree, item, score, i);
    let old = least[leaf]!;
    if (old === value) return;
    least[leaf] = value;
    let entry = shape.bucketOf[leaf]!;
    let from = shape.start[entry]!;
    let to = shape.start[entry + 1]!;
    for (let level = 0, now = value; level < shape.offset.length; level++) {
      const at = shape.offset[level]! + entry;
      const was = least[at]!;
      // Only a new lowest, or the lowest going up, can change what is above.
      const next = now <= was ? now : old > was ? was : lowest(least, from, to);
      if (next === was) return;
      least[at] = next;
      old = was;
      now = next;
      entry >>>= 4;
      from = shape.offset[level]! + entry * 16;
      to = from + 16;
    }
  }

  private value(tree: Tree, item: Item, score: Scorer, i: number): number {
    return tree.eligible[i] === 1 && roomFor(this.arena, i, item.memory, item.cpus)
      ? score(this.arena, i, item.memory, item.cpus)
      : Number.POSITIVE_INFINITY;
  }

  private descend(tree: Tree, tie: number): number {
    const { shape, arena } = this;
    const { least } = tree;
    const { offset, digits, start, nodeOf } = shape;
    const best = least[offset[digits]!]!;
    if (best === Number.POSITIVE_INFINITY) return -1;
    let entry = 0;
    for (let level = digits - 1; level >= 0; level--) {
      const from = offset[level]! + entry * 16;
      const own = (tie >>> (28 - 4 * (digits - 1 - level))) & 15;
      // Digits in the order of their XOR with the request's: the first with the lowest score is the winner's.
      let k = 0;
      while (least[from + (own ^ k)] !== best) k++;
      entry = entry * 16 + (own ^ k);
    }
    let winner = -1;
    for (let leaf = start[entry]!; leaf < start[entry + 1]!; leaf++) {
      if (least[leaf] === best && (winner === -1 || tieBefore(arena, tie, nodeOf[leaf]!, winner))) winner = nodeOf[leaf]!;
    }
    return winner;
  }

  /** Gives the trees to the classes used most since the last review. */
  private review(): void {
    const all = [...this.entries.values()].flat().filter((entry) => entry !== undefined);
    if (all.length > MAX_TREES) {
      const ranked = all.toSorted((a, b) => b.uses - a.uses);
      for (const entry of ranked.slice(MAX_TREES)) {
        if (entry.tree === null) continue;
        entry.tree = null;
        this.trees--;
      }
    }
    for (const entry of all) entry.uses = entry.tree === null ? Math.min(entry.uses, 1) : 1;
  }
}

function lowest(least: Float64Array, from: number, to: number): number {
  let low = Number.POSITIVE_INFINITY;
  for (let at = from; at < to; at++) if (least[at]! < low) low = least[at]!;
  return low;
}

/** As many digits as leave some two to forty leaves in a bucket. */
function shapeOf(hash: Uint32Array): Shape {
  const n = hash.length;
  let digits = 1;
  while (digits < 6 && 16 ** (digits + 1) * 2 <= n) digits++;
  const buckets = 16 ** digits;
  const bucket = (i: number): number => hash[i]! >>> (32 - 4 * digits);
  const nodeOf = Int32Array.from(hash.keys()).sort((a, b) => bucket(a) - bucket(b) || a - b);
  const leafOf = new Int32Array(n);
  const bucketOf = new Int32Array(n);
  const start = new Int32Array(buckets + 1);
  for (const [leaf, i] of nodeOf.entries()) {
    leafOf[i] = leaf;
    bucketOf[leaf] = bucket(i);
    start[bucket(i) + 1]! += 1;
  }
  for (let b = 0; b < buckets; b++) start[b + 1]! += start[b]!;
  const offset: number[] = [];
  let cells = n;
  for (let level = 0; level <= digits; level++) {
    offset.push(cells);
    cells += 16 ** (digits - level);
  }
  return { nodeOf, leafOf, start, bucketOf, digits, offset, cells };
}
