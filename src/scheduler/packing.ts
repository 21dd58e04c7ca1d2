/**
 * The score of `consolidate`, one VM at a time (SCH-10): the room that a placement wastes by what it leaves, learned from
 * the sizes of the cluster's VMs. Best fit looks at how much is left; this looks at whether what is left serves anybody.
 * Measured beside best fit and its kin in test/bench/scheduler.bench.ts.
 */
import { LIMIT_CPUS, LIMIT_MEMORY, USED_CPUS, USED_MEMORY, WIDTH } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { Item } from "./items.ts";
import { scoreFullEven } from "./scorers.ts";
import type { Scorer } from "./scorers.ts";
import { sizeKey, wasteTable } from "./waste.ts";
import type { SizeCount } from "./waste.ts";

/** Cost of using a node that holds nothing, in the table's measure, unless what waits will need it anyway. */
const OPENING = 0.02;
/** Between equals the fuller node. */
const FULLER = 1e-4;
/** Looks per √(VMs that the open room holds): a node that many VMs are still to come for can wait for the right one. */
const LOOKS = 0.75;
/** The table is made again when the room that is open, or will be, is down to such a part. */
const LESS_ROOM = 0.8;
/** Fewer known VMs than this tell nothing of those that come. */
const TOO_FEW = 16;

export class Packing {
  private readonly arena: Arena;
  /** Of the VMs that have a node and of those asked for: what is known of the VMs that will come. */
  private readonly sizes: readonly SizeCount[];
  private readonly known: number;
  /** Of what is still to be placed in this plan. */
  private waitingMemory: number;
  private waitingCpus: number;
  private current: Scorer | null = null;
  private currentOpening = true;
  private roomThen = 0;

  /** @param items those that will be asked for, each once. */
  constructor(arena: Arena, items: readonly Item[]) {
    this.arena = arena;
    const counts = new Map(arena.sizes());
    for (const { memory, cpus } of items) {
      const key = sizeKey(memory, cpus);
      counts.set(key, { memory, cpus, count: (counts.get(key)?.count ?? 0) + 1 });
    }
    this.sizes = [...counts.values()];
    this.known = this.sizes.reduce((sum, { count }) => sum + count, 0);
    this.waitingMemory = items.reduce((sum, item) => sum + item.memory, 0);
    this.waitingCpus = items.reduce((sum, item) => sum + item.cpus, 0);
  }

  /** The score to place `item` by, now. The same function as before as long as nothing that matters changed. O(nodes). */
  scorer(item: Item): Scorer {
    const room = this.room();
    const opening = this.waitingMemory <= room.openMemory && this.waitingCpus <= room.openCpus;
    this.waitingMemory -= item.memory;
    this.waitingCpus -= item.cpus;
    const expected = opening ? room.openMemory : Math.min(room.memory, Math.max(room.openMemory, this.waitingMemory + item.memory));
    if (
      this.current === null ||
      expected < this.roomThen * LESS_ROOM ||
      expected > this.roomThen / LESS_ROOM ||
      opening !== this.currentOpening
    ) {
      this.current = this.makeScorer(expected, opening, room);
      this.currentOpening = opening;
      this.roomThen = expected;
    }
    return this.current;
  }

  private makeScorer(expected: number, opening: boolean, room: Room): Scorer {
    if (this.known < TOO_FEW) return scoreFullEven;
    const mean = this.sizes.reduce((sum, { memory, count }) => sum + memory * count, 0) / this.known;
    const looks = Math.max(1, LOOKS * Math.sqrt(expected / Math.max(1, mean)));
    const table = wasteTable(this.sizes, { memory: room.limitMemory, cpus: room.limitCpus }, looks);
    return (arena, i, memory, cpus) => {
      const at = i * WIDTH;
      const freeMemory = arena.cells[at + LIMIT_MEMORY]! - arena.cells[at + USED_MEMORY]!;
      const freeCpus = arena.cells[at + LIMIT_CPUS]! - arena.cells[at + USED_CPUS]!;
      return (
        table.at(freeMemory - memory, freeCpus - cpus) -
        table.at(freeMemory, freeCpus) +
        (opening && arena.cells[at + USED_MEMORY] === 0 ? OPENING : 0) +
        FULLER * ((freeMemory - memory) / arena.cells[at + LIMIT_MEMORY]!)
      );
    };
  }

  private room(): Room {
    const { cells, nodes } = this.arena;
    const room: Room = { memory: 0, openMemory: 0, openCpus: 0, limitMemory: 0, limitCpus: 0 };
    for (let at = 0; at < nodes.length * WIDTH; at += WIDTH) {
      const free = cells[at + LIMIT_MEMORY]! - cells[at + USED_MEMORY]!;
      room.memory += free;
      room.limitMemory = Math.max(room.limitMemory, cells[at + LIMIT_MEMORY]!);
      room.limitCpus = Math.max(room.limitCpus, cells[at + LIMIT_CPUS]!);
      if (cells[at + USED_MEMORY] === 0) continue;
      room.openMemory += free;
      room.openCpus += cells[at + LIMIT_CPUS]! - cells[at + USED_CPUS]!;
    }
    return room;
  }
}

/** Free room, MiB and vCPUs, of all nodes and of those in use, and the largest node's limits. */
interface Room {
  memory: number;
  openMemory: number;
  openCpus: number;
  limitMemory: number;
  limitCpus: number;
}
