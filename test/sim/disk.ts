/**
 * A node's disk: two databases with LevelDB's promises (a batch is whole or not there, order is kept, `sync` makes it and all
 * before it survive a power cut) and a small file. What a process wrote without sync outlives its death, but not a power cut
 * before the database is opened again: then LevelDB writes what it finds in its journal to a synced table.
 */
import { crc32 } from "node:zlib";
import type { Random } from "../../src/base/random.ts";
import type { KeyRange, StateDatabase } from "../../src/cluster/state-database.ts";
import { HALF_KEY } from "../../src/cluster/state-rows.ts";
import type { AcknowledgedMark, LogDatabase } from "../../src/raft/storage/database.ts";
import { MemoryInbox } from "../support/inbox.ts";
import type { EventQueue } from "./queue.ts";
import type { SimThread } from "./thread.ts";

type Value = Uint8Array | string;
/** null deletes. */
type Writes<V> = [key: string, value: V | null][];

/** Rules of a disk that mutations break. */
export interface DiskFaults {
  /** `sync` returns without having done anything. */
  skipFsync?: boolean;
  /** The same for the state's database only. */
  skipStateFsync?: boolean;
  /** A power cut may leave half of a batch. */
  tornBatches?: boolean;
  /** Damage of the log goes by unseen, as if its records had no checksums. */
  noChecksums?: boolean;
  /** Writes of a batch become two, with the time for a crash between them. */
  splitBatches?: boolean;
}

export class SimDisk {
  readonly log = new SimVolume<Uint8Array>();
  readonly state = new SimVolume<string>();
  /** Checkpoints that are being received: a power cut may take what is there of them. */
  readonly inbox = new MemoryInbox();
  /** Longest time of a write and of a sync, ms. */
  slowMs = 1;
  /** Nothing is written before this time. */
  stuckUntilMs = 0;
  /** Writes fail, as on a full disk. */
  full = false;
  /** One has failed in this life of the process. */
  failed = false;
  /** The file that names the last acknowledged record: what is in it, and what it was before. */
  marks: number[] = [0];
  readonly faults: DiskFaults;
  readonly queue: EventQueue;
  readonly random: Random;

  constructor(queue: EventQueue, random: Random, faults: DiskFaults) {
    this.queue = queue;
    this.random = random;
    this.faults = faults;
  }

  /** Ends what is under way; with `power` also what was not synced is lost, from some point on. */
  crash(power: boolean): void {
    const { random, faults } = this;
    this.failed = false;
    this.log.crash(random, power, faults.tornBatches === true);
    this.state.crash(random, power, faults.tornBatches === true);
    // An older one may come back, or a torn one, which counts as none.
    if (power && random.below(2) === 0) void this.inbox.tidy();
    if (power) this.marks = [random.below(5) === 0 ? 0 : this.marks[random.below(this.marks.length)]!];
  }

  /** One bit of what is read at the next start turns. */
  rot(random: Random): void {
    if (random.below(2) === 0) return this.log.rot(random, { sealed: this.faults.noChecksums === true });
    this.state.sync();
    // Of the two halves only the one that counts.
    const half = this.state.durable.get(HALF_KEY)?.at(-1);
    this.state.rot(random, { counts: (key) => half === undefined || key === HALF_KEY || key.startsWith(`${half}!`) });
  }

  /** How long the next write takes from now, ms. */
  writeTime(): number {
    const { queue, random } = this;
    return Math.max(0, this.stuckUntilMs - queue.now) + 0.05 + random.unit() * this.slowMs;
  }

  openMark(thread: SimThread): AcknowledgedMark {
    let waits = false;
    let noted = this.marks.at(-1)!;
    return {
      atOpen: noted,
      note: (seq) => {
        noted = Math.max(noted, seq);
        if (waits) return;
        waits = true;
        thread.after(50, () => {
          waits = false;
          this.marks = [...this.marks.slice(-3), noted];
        });
      },
      close: () => Promise.resolve(),
    };
  }

  openLog(thread: SimThread): LogDatabase {
    this.log.sync();
    const open = new OpenVolume(this.log, this, thread, this.faults.skipFsync === true);
    return {
      batch: (operations, { sync }) =>
        open.write(
          operations.map((one) => [latin1(one.key), one.type === "put" ? one.value.slice() : null]),
          sync,
        ),
      iterator: async function* () {
        for (const [key, value] of open.sorted()) yield [bytesOf(key), value.slice()];
      },
      close: () => open.close(),
    };
  }

  openState(thread: SimThread): StateDatabase {
    const { faults } = this;
    this.state.sync();
    const open = new OpenVolume(this.state, this, thread, faults.skipFsync === true || faults.skipStateFsync === true);
    return {
      batch: async (operations, { sync }) => {
        const writes: Writes<string> = operations.map((one) => [one.key, one.type === "put" ? one.value : null]);
        const first = faults.splitBatches === true ? writes.length >> 1 : 0;
        // The position comes last: written before the rest, it promises rows that are not there yet.
        if (first > 0) await open.write(writes.slice(first), sync);
        await open.write(first > 0 ? writes.slice(0, first) : writes, sync);
      },
      iterator: async function* (range) {
        for (const entry of open.sorted(range)) yield entry;
      },
      clear: async (range) => {
        for (const [key] of open.sorted(range)) await open.write([[key, null]], false);
      },
      snapshot: () => {
        const all = [...open.sorted()];
        return {
          iterator: async function* (range) {
            for (const entry of all) if (within(range, entry[0])) yield entry;
          },
          close: () => Promise.resolve(),
        };
      },
      close: () => open.close(),
    };
  }
}

/** What is on the disk of one database. */
class SimVolume<V extends Value> {
  /** What a power cut leaves. */
  durable = new Map<string, V>();
  /** Written after that, oldest first, and not synced. */
  cached: Writes<V>[] = [];
  /** Handed over, and not yet written. */
  underWay: Writes<V>[] = [];

  read(): Map<string, V> {
    const out = new Map(this.durable);
    for (const writes of this.cached) put(out, writes);
    return out;
  }

  /** Makes everything written so far durable. */
  sync(): void {
    for (const writes of this.cached) put(this.durable, writes);
    this.cached = [];
  }

  crash(random: Random, power: boolean, torn: boolean): void {
    const reached = this.underWay.slice(0, random.below(this.underWay.length + 1));
    this.underWay = [];
    this.cached.push(...reached);
    if (!power) return;
    const kept = this.cached.slice(0, random.below(this.cached.length + 1));
    const half = this.cached[kept.length];
    if (torn && half !== undefined) kept.push(half.slice(0, random.below(half.length)));
    this.cached = kept;
    this.sync();
  }

  /** One bit of one value turns; the volume must not be empty. */
  rot(random: Random, { sealed = false, counts = () => true }: { sealed?: boolean; counts?: (key: string) => boolean } = {}): void {
    this.sync();
    const keys = [...this.durable.keys()].filter(counts).toSorted();
    const key = keys[random.below(keys.length)]!;
    const value = this.durable.get(key)!;
    const at = random.below(value.length);
    const rotten = flip(value, at, 1 << random.below(7)) as V;
    if (sealed && typeof rotten !== "string") new DataView(rotten.buffer, rotten.byteOffset).setUint32(0, crc32(rotten.subarray(4)));
    this.durable.set(key, rotten);
  }

  copyFrom(other: SimVolume<V>): void {
    this.durable = other.read();
    this.cached = [];
    this.underWay = [];
  }
}

class OpenVolume<V extends Value> {
  readonly #volume: SimVolume<V>;
  readonly #disk: SimDisk;
  readonly #thread: SimThread;
  readonly #lying: boolean;
  #closed = false;
  #last: Promise<void> = Promise.resolve();

  constructor(volume: SimVolume<V>, disk: SimDisk, thread: SimThread, lying: boolean) {
    this.#volume = volume;
    this.#disk = disk;
    this.#thread = thread;
    this.#lying = lying;
  }

  /** One after the other, as LevelDB's single writer does. */
  write(writes: Writes<V>, sync: boolean): Promise<void> {
    const volume = this.#volume;
    if (!this.#thread.dead) volume.underWay.push(writes);
    const work = this.#last.then(() => this.#write(writes, sync));
    this.#last = work.catch(() => {});
    return work;
  }

  #write(writes: Writes<V>, sync: boolean): Promise<void> {
    const disk = this.#disk;
    const volume = this.#volume;
    const thread = this.#thread;
    return new Promise((resolve, reject) => {
      const step = (run: () => void): void =>
        disk.queue.after(disk.writeTime(), () => {
          if (thread.dead || this.#closed) return;
          // It may have got stuck meanwhile.
          if (disk.stuckUntilMs > disk.queue.now) step(run);
          else run();
        });
      step(() => {
        volume.underWay.shift();
        if (disk.full) {
          disk.failed = true;
          return thread.run(() => reject(new Error("no space left on device")));
        }
        volume.cached.push(writes);
        if (!sync || this.#lying) return thread.run(resolve);
        step(() => {
          volume.sync();
          thread.run(resolve);
        });
      });
    });
  }

  *sorted(range: KeyRange = {}): Generator<[string, V]> {
    const all = this.#volume.read();
    for (const key of [...all.keys()].toSorted()) if (within(range, key)) yield [key, all.get(key)!];
  }

  async close(): Promise<void> {
    await this.#last;
    this.#closed = true;
  }
}

function within({ gt, gte, lt }: KeyRange, key: string): boolean {
  return (gt === undefined || key > gt) && (gte === undefined || key >= gte) && (lt === undefined || key < lt);
}

function put<V>(into: Map<string, V>, writes: Writes<V>): void {
  for (const [key, value] of writes) {
    if (value === null) into.delete(key);
    else into.set(key, value);
  }
}

function flip(value: Value, at: number, bit: number): Value {
  if (typeof value === "string") return value.slice(0, at) + String.fromCharCode(value.charCodeAt(at) ^ bit) + value.slice(at + 1);
  const out = value.slice();
  out[at]! ^= bit;
  return out;
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
