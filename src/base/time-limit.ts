/** No wait on the outside world is without a limit. */
import { type Clock, systemClock } from "./clock.ts";
import { RoostError } from "./errors.ts";

/** The work's outcome, or a `timeout` fault that names it. The work itself goes on: whoever can stop it passes it a signal. */
export async function within<T>(work: Promise<T>, afterMs: number, what: string, clock: Clock = systemClock): Promise<T> {
  let cancel = (): void => {};
  const limit = new Promise<never>((_, reject) => {
    cancel = clock.after(afterMs, () => reject(new RoostError({ kind: "timeout", what, afterMs })));
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    cancel();
  }
}
