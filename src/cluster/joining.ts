/** The leader's care for newcomers: undoes joins that were not confirmed, and moves Raft's membership towards what is wanted. */
import type { Clock } from "../base/clock.ts";
import type { LeaderService } from "./leadership.ts";
import { nextMembershipChange, VOTERS_MAX } from "./membership.ts";
import type { Replica } from "./replica.ts";

/** A node that has its certificate confirms within this, or its join is undone (CLU-2). */
export const JOIN_CONFIRM_MS = 60_000;

export function joiningService(replica: Replica, clock: Clock): LeaderService {
  /** When this leader first saw a node wait for its confirmation, monotonic ms. */
  const waitingSince = new Map<string, number>();
  return {
    name: "joining",
    everyMs: 200,
    onChange: false,
    async run(term) {
      const view = replica.view();
      const nowMs = clock.monotonicMs();
      for (const id of waitingSince.keys()) if (!view.nodes.has(id)) waitingSince.delete(id);
      for (const node of view.nodes.values()) {
        if (node.state !== "joining" || node.role !== "none") {
          waitingSince.delete(node.id);
          continue;
        }
        const since = waitingSince.get(node.id) ?? nowMs;
        waitingSince.set(node.id, since);
        if (nowMs - since > JOIN_CONFIRM_MS) await replica.propose({ type: "node.join-abort", nodeId: node.id }, { actor: "leader", term });
      }
      const changes = nextMembershipChange({
        nodes: [...view.nodes.values()],
        membership: replica.membership(),
        caughtUp: replica.caughtUp(),
        votersMax: VOTERS_MAX,
      });
      if (changes.length > 0) replica.changeMembership(changes);
    },
  };
}
