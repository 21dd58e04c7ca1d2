/**
 * The newest events, exact and in order (STA-3). They are a table like the others, so they survive restarts and come with
 * checkpoints, and how many are kept is a replicated setting: every replica can answer from the same revisions.
 */
import { assert } from "../base/assert.ts";
import { RoostError } from "../base/errors.ts";
import type { Event } from "./outcome.ts";

/** All events of one revision. */
export interface EventRow {
  revision: number;
  /** The revision before it that had events; 0 for the first of all. So the oldest row that is kept says what was dropped. */
  previous: number;
  events: Event[];
}

/** Keys sort as revisions do. */
export function eventKey(revision: number): string {
  return String(revision).padStart(16, "0");
}

export class EventRing {
  #rows: EventRow[] = [];
  /** Rows before it are dropped; they leave the array now and then. */
  #first = 0;
  #count = 0;

  /** Events that are kept. */
  get count(): number {
    return this.#count;
  }

  /** The newest revision with events; 0 if none is kept. */
  get newest(): number {
    return this.#rows.at(-1)?.revision ?? 0;
  }

  /** Everything from this revision on is kept. */
  get from(): number {
    const oldest = this.#rows[this.#first];
    return oldest === undefined ? 1 : oldest.previous + 1;
  }

  append(row: EventRow): void {
    assert(row.revision > this.newest, `events of revision ${row.revision} after those of ${this.newest}`);
    this.#rows.push(row);
    this.#count += row.events.length;
  }

  drop(key: string): void {
    const oldest = this.#rows[this.#first];
    assert(oldest !== undefined && eventKey(oldest.revision) === key, `events ${key} are not the oldest`);
    this.#first += 1;
    this.#count -= oldest.events.length;
    if (this.#first < 1_024) return;
    this.#rows = this.#rows.slice(this.#first);
    this.#first = 0;
  }

  /** The oldest rows that are not needed to keep `limit` events. */
  *surplus(limit: number, coming: number): Generator<EventRow> {
    let left = this.#count + coming;
    for (let i = this.#first; i < this.#rows.length; i++) {
      const row = this.#rows[i] as EventRow;
      left -= row.events.length;
      if (left < limit) return;
      yield row;
    }
  }

  rows(): readonly EventRow[] {
    return this.#rows.slice(this.#first);
  }

  /** Whole revisions from `revision` on, about `limit` events. 0: from the oldest. Throws `precondition` for what is dropped. */
  since(revision: number, limit: number): Event[] {
    if (revision !== 0 && revision < this.from) {
      throw new RoostError(
        { kind: "precondition", reason: `revision ${revision} is compacted: events are kept from revision ${this.from} on` },
        `begin at ${this.from}, and list the objects once to know their state (setting state.eventsKept)`,
      );
    }
    let low = this.#first;
    let high = this.#rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#rows[middle] as EventRow).revision < revision) low = middle + 1;
      else high = middle;
    }
    const found: Event[] = [];
    for (; low < this.#rows.length && found.length < limit; low++) found.push(...(this.#rows[low] as EventRow).events);
    return found;
  }
}
