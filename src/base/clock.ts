/** Time as a value that is passed in. Durations come from the monotonic clock; wall time is for people only. */
export interface Clock {
  /** Monotonic ms; the same scale in every thread of a process. Never compared between machines. */
  monotonicMs(): number;
  /** Wall clock, ms since 1970. */
  wallMs(): number;
  /** Calls back once; returns the way to cancel. Does not keep the process alive by itself. */
  after(delayMs: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  // hrtime counts from the same origin in all threads; performance.now() does not.
  monotonicMs: () => Number(process.hrtime.bigint() / 1000n) / 1000,
  wallMs: () => Date.now(),
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};
