/** No wait on the outside world is without a limit. */
import { RoostError } from "./errors.ts";

/** The work's outcome, or a `timeout` fault that names it. The work itself goes on: whoever can stop it passes it a signal. */
export async function within<T>(work: Promise<T>, afterMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new RoostError({ kind: "timeout", what, afterMs })), afterMs);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
