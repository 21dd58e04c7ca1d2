/** The leader's care for the state as a whole: raises the feature level (RAFT-7), has the replicas compared (STA-1). */
import type { Clock } from "../base/clock.ts";
import { defaultSettings } from "../model/settings.ts";
import { clusterLevel, heldBackBy, PROGRAM_LEVEL, whyNotYet } from "../state/levels.ts";
import type { LeaderService } from "./leadership.ts";
import type { Store } from "./store.ts";

export function upkeepService(store: Store, clock: Clock): LeaderService {
  /** When this process last had them compared or began to wait for it, monotonic ms. */
  let comparedMs = clock.monotonicMs();
  return {
    name: "upkeep",
    everyMs: 500,
    onChange: false,
    async run(term) {
      const view = store.view();
      if (view.cluster === null) return;
      const level = clusterLevel(view) + 1;
      if (level <= PROGRAM_LEVEL && heldBackBy(view, level).length === 0)
        await store.propose({ type: "level.raise", level }, { actor: "leader", term });

      const everyMs = (view.cluster?.settings ?? defaultSettings())["state.verifyMs"];
      const nowMs = clock.monotonicMs();
      if (everyMs === 0 || nowMs - comparedMs < everyMs || whyNotYet(view, "digest.ask") !== null) return;
      comparedMs = nowMs;
      await store.propose({ type: "digest.ask", why: "periodic" }, { actor: "leader", term });
    },
  };
}
