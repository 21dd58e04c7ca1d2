/**
 * Starts and ends the leader's services in one place: they run only while this node leads and has applied an entry of
 * its own term.
 */
import type { Clock } from "../base/clock.ts";
import { asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Store } from "./store.ts";

export interface LeaderService {
  readonly name: string;
  /** Called about every `everyMs` while leading, never twice at once; must not throw for what will pass by itself. */
  run(term: number): Promise<void>;
  readonly everyMs: number;
  /** True if a change of the state is a reason to run at once. */
  readonly onChange: boolean;
}

/** Runs the services; returns the way to stop. */
export function runWhileLeading(store: Store, services: readonly LeaderService[], effects: { clock: Clock; log: Logger }): () => void {
  const stops = services.map((service) => runService(store, service, effects));
  return () => {
    for (const stop of stops) stop();
  };
}

function runService(store: Store, service: LeaderService, { clock, log }: { clock: Clock; log: Logger }): () => void {
  let running = false;
  let again = false;
  let stopped = false;
  let cancel = (): void => {};

  const runNow = async (): Promise<void> => {
    if (stopped) return;
    if (running) {
      again = true;
      return;
    }
    const { leading, term } = store.leadership();
    if (!leading) return;
    running = true;
    try {
      do {
        again = false;
        await service.run(term);
      } while (again && !stopped && store.leadership().leading);
    } catch (thrown) {
      log.warn(`${service.name} failed, will run again`, { error: asRoostError(thrown).message });
    } finally {
      running = false;
    }
  };

  const tick = (): void => {
    if (stopped) return;
    cancel = clock.after(service.everyMs, tick);
    void runNow();
  };
  tick();
  // On the next turn, so that a burst of changes is one run.
  const unsubscribe = service.onChange ? store.subscribe(() => setImmediate(() => void runNow())) : () => {};
  return () => {
    stopped = true;
    cancel();
    unsubscribe();
  };
}
