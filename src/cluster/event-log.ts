/** The newest events in memory, exact and in order (STA-3). What is older is a clear error, never a gap. */
import { RoostError } from "../base/errors.ts";
import type { Event } from "../state/outcome.ts";

const EVENTS_MAX = 20_000;

export class EventLog {
  #events: Event[] = [];
  /** Events of revisions up to here are not held. */
  #before = 0;

  /** Forgets all: the state begins anew at a revision. */
  beginAfter(revision: number): void {
    this.#events = [];
    this.#before = revision;
  }

  append(events: readonly Event[]): void {
    this.#events.push(...events);
    if (this.#events.length <= EVENTS_MAX * 1.25) return;
    const cut = this.#events.splice(0, this.#events.length - EVENTS_MAX);
    this.#before = cut.at(-1)?.revision ?? this.#before;
    // A revision is held whole or not at all.
    while (this.#events[0]?.revision === this.#before) this.#events.shift();
  }

  /** 0: all that are held. */
  since(revision: number): Event[] {
    if (revision === 0) return [...this.#events];
    if (revision <= this.#before) {
      throw new RoostError(
        { kind: "precondition", reason: `events of revision ${revision} are not held any more: the oldest is ${this.#before + 1}` },
        "begin at the oldest, and list the objects once to know their state",
      );
    }
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#events[middle]?.revision ?? 0) < revision) low = middle + 1;
      else high = middle;
    }
    return this.#events.slice(low);
  }
}
