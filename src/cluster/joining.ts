/** The leader's care for newcomers: undoes joins that were not confirmed, and moves Raft's membership towards what is wanted. */
import type { Clock } from "../base/clock.ts";
import type { LeaderService } from "./leadership.ts";
import { isPeer } from "../model/membership.ts";
import { settingsOf } from "../model/placement.ts";
import { nextMembershipStep } from "./membership.ts";
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
      const peers = replica.membership();
      for (const node of view.nodes.values()) {
        if (node.removing === undefined || node.state === "removed" || isPeer(peers, node.peerId)) continue;
        await replica.propose({ type: "node.removed", nodeId: node.id }, { actor: "leader", term });
      }
      const heard = replica.peersHeard();
      const self = view.nodes.get(replica.nodeId)?.peerId;
      if (heard === null || self === undefined) return;
      const settings = settingsOf(view);
      const step = nextMembershipStep({
        nodes: [...view.nodes.values()],
        membership: replica.membership(),
        self,
        caughtUp: heard.caughtUp,
        silentMs: new Map(heard.lastHeardMs.map(([peerId, atMs]) => [peerId, nowMs - atMs])),
        votersMax: settings["raft.voters"],
        replaceAfterMs: settings["raft.replaceVoterMs"],
      });
      if (step.kind === "change") replica.changeMembership(step.changes);
      if (step.kind === "hand-over") replica.transferLeadership(step.to);
    },
  };
}
