/** Following the store from a stream: the newest view of one object, or every event, each with a bounded memory. */
import { RoostError } from "../base/errors.ts";
import type { Store } from "../cluster/store.ts";
import type { View } from "../model/view.ts";
import type { Event } from "../state/outcome.ts";

/**
 * The view now, then after each change of row `id`, until the signal. A slow reader misses what lay between, never the
 * newest: there is no queue that could fill, and rows carry their own history.
 */
export async function* changesOf(store: Store, id: string, signal: AbortSignal): AsyncGenerator<View> {
  const bell = new Bell(signal);
  const stop = store.subscribe((change) => {
    if (change.changedIds.has(id)) bell.ring();
  });
  try {
    yield store.view();
    while (await bell.rung()) yield store.view();
  } finally {
    stop();
  }
}

/** Events that a slow reader may be behind; above it the stream ends and says where to go on. */
const MAX_BEHIND = 10_000;

/** Events from a revision on (0: from now on), in order and without a gap. With `follow` false it ends with the newest. */
export async function* eventsFrom(store: Store, revision: number, follow: boolean, signal: AbortSignal): AsyncGenerator<Event> {
  const bell = new Bell(signal);
  let queue: Event[] = [];
  let lastSeen = revision - 1;
  let overflow = false;
  // Between these two calls nothing is applied: what the first misses, the second tells.
  const past = revision > 0 || !follow ? store.eventsSince(revision) : [];
  const stop = follow
    ? store.subscribe((change) => {
        if (queue.length + change.events.length > MAX_BEHIND) overflow = true;
        else queue.push(...change.events);
        bell.ring();
      })
    : (): void => {};
  try {
    for (const event of past) {
      lastSeen = event.revision;
      yield event;
    }
    if (!follow) return;
    for (;;) {
      const batch = queue;
      queue = [];
      for (const event of batch) {
        lastSeen = event.revision;
        yield event;
      }
      if (overflow) {
        throw new RoostError(
          { kind: "exhausted", reason: `the reader is more than ${MAX_BEHIND} events behind` },
          `go on with from_revision ${lastSeen + 1}`,
        );
      }
      if (queue.length === 0 && !(await bell.rung())) return;
    }
  } finally {
    stop();
  }
}

/** Wakes one waiter; rings that come while nobody waits are kept as one. */
class Bell {
  private pending = false;
  private wake: (() => void) | null = null;
  private readonly signal: AbortSignal;

  constructor(signal: AbortSignal) {
    this.signal = signal;
    signal.addEventListener("abort", () => this.ring(), { once: true });
  }

  ring(): void {
    this.pending = true;
    this.wake?.();
  }

  /** False once the signal is given. */
  async rung(): Promise<boolean> {
    if (!this.pending && !this.signal.aborted) await new Promise<void>((resolve) => (this.wake = resolve));
    this.wake = null;
    this.pending = false;
    return !this.signal.aborted;
  }
}
