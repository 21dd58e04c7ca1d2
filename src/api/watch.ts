/** Following the store from a stream: the newest view of one object, or every event, each with a bounded memory. */
import type { Store } from "../cluster/store.ts";
import type { View } from "../model/view.ts";
import type { Event } from "../state/outcome.ts";

/**
 * The view now, then after each change of one of these rows, until the signal. A slow reader misses what lay between, never the
 * newest: there is no queue that could fill, and rows carry their own history.
 */
export async function* changesOf(store: Store, ids: readonly string[], signal: AbortSignal): AsyncGenerator<View> {
  const bell = new Bell(signal);
  const stop = store.subscribe((change) => {
    if (ids.some((id) => change.changedIds.has(id))) bell.ring();
  });
  try {
    yield store.view();
    while (await bell.rung()) yield store.view();
  } finally {
    stop();
  }
}

/** The first answer that is not null, looked for at each change; null when the time is over or the signal is given. */
export async function changesWhile<T>(
  store: Store,
  limits: { untilMs: number; nowMs: () => number; signal: AbortSignal },
  look: (view: View) => T | null,
): Promise<T | null> {
  const over = AbortSignal.any([limits.signal, AbortSignal.timeout(Math.max(0, Math.round(limits.untilMs - limits.nowMs())))]);
  const bell = new Bell(over);
  const stop = store.subscribe(() => bell.ring());
  try {
    do {
      const found = look(store.view());
      if (found !== null) return found;
    } while (await bell.rung());
    return null;
  } finally {
    stop();
  }
}

/** Events taken from the store at once: what a stream holds in memory for a slow reader. */
const PAGE_EVENTS = 500;
/** Without events a reader still learns after so many revisions how far it is. */
const MARK_EVERY = 1_000;

/** Either an event, or the revision up to and with which everything has been told. */
export type Told = { event: Event } | { upTo: number };

/**
 * Events from a revision on (0: from now on), in order and without a gap, also over an installed checkpoint: each page is read
 * from the state when the reader has taken the one before, so a slow one costs nothing but its page. One so slow that its next
 * revision is compacted gets that as an error. With `follow` false it ends with the newest.
 */
export async function* eventsFrom(store: Store, revision: number, follow: boolean, signal: AbortSignal): AsyncGenerator<Told> {
  const bell = new Bell(signal);
  const stop = store.subscribe(() => bell.ring());
  let next = revision === 0 && follow ? store.view().index + 1 : revision;
  let marked = -1;
  try {
    for (;;) {
      const now = store.view().index;
      const page = store.eventsSince(next, PAGE_EVENTS);
      for (const event of page) yield { event };
      const isWhole = page.length < PAGE_EVENTS;
      const upTo = isWhole ? now : (page.at(-1)?.revision ?? now);
      if (marked < 0 || page.length > 0 || upTo >= marked + MARK_EVERY) {
        marked = upTo;
        yield { upTo };
      }
      next = Math.max(next, upTo + 1);
      if (isWhole && !follow) return;
      if (isWhole && !(await bell.rung())) return;
      if (signal.aborted) return;
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
