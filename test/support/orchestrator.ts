/** Sends jobs as the leader does, on a store of one process; for tests of what jobs are sent to. */
import { orchestrate, Turns } from "../../src/tasks/orchestrate.ts";
import type { MemoryStore } from "./memory-store.ts";

/** Returns the way to stop. `look` has to be called where only time has passed. */
export function startOrchestrator(store: MemoryStore): { stop(): void; look(): void } {
  const turns = new Turns();
  let coming = false;
  const look = (): void => {
    if (coming) return;
    coming = true;
    // Not inside of what changed: that one is not told yet.
    queueMicrotask(() => {
      coming = false;
      const sends = orchestrate(store.view(), { inFlight: [], turns, atMs: store.nowMs, max: 100 });
      const origin = store.origin;
      store.origin = "n1";
      if (sends.length > 0) void store.propose({ type: "task.dispatch", sends }, { actor: "orchestrator", term: store.term });
      store.origin = origin;
    });
  };
  look();
  return { stop: store.subscribe(look), look };
}
