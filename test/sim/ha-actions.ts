/** What the executor does on a simulated host, operation by operation. */
import type { KeeperAnswer, KeeperRequest } from "../../src/agent/keeper/protocol.ts";
import type { Memory } from "../../src/agent/memory.ts";
import { type Action, jobId, type Plan } from "../../src/agent/reconcile.ts";
import { claimOn } from "../../src/model/claims.ts";
import type { Command } from "../../src/state/commands.ts";
import { push } from "./ha-migration.ts";
import type { Domain, Shared, SimHost } from "./ha-node.ts";

export type Failure = null | "claim lost" | "dead" | "refused" | "passing" | "failed";

interface Tools {
  host: SimHost;
  shared: Shared;
  memory: Memory;
  /** Of the agent. */
  run: string;
  ask: (request: KeeperRequest, done: (answer: KeeperAnswer) => void) => void;
  /** Until there is an outcome. */
  reliably(attempt: (heard: () => void) => void): void;
  resume(domain: Domain): void;
  destroy(vmId: string, generation: number): void;
}

/** `done` is told null, or why it could not be done. */
export function act(tools: Tools, action: Action, plan: Plan, done: (failure: Failure) => void): void {
  const { host, shared, memory, run, ask } = tools;
  const { consensus, world } = shared;
  const { vmId, generation, job } = plan;
  const { nodeId } = host.peer;
  const vm = host.peer.state.vms.get(vmId);
  const claimed = vm?.claim?.nodeId === nodeId && vm.claim.generation === generation;
  const replied = (answer: KeeperAnswer): void => {
    if (answer.ok) return done(null);
    done(answer.reason === "dead" ? "dead" : answer.reason === "invalid" ? "passing" : "refused");
  };
  /** Told until there is an outcome; one that comes too late is as good. */
  const tell = (command: Command): void => {
    let told = false;
    tools.reliably((heard) =>
      consensus.propose(host.peer, command, {}, () => {
        if (!told) done(null);
        told = true;
        heard();
      }),
    );
  };
  const domain = host.domains.get(vmId);
  switch (action.op) {
    case "register": {
      const held = vm === undefined ? null : claimOn(vm, nodeId);
      if (held?.generation !== generation) return done("claim lost");
      const revision = Math.max(1, host.peer.state.nodes.get(nodeId)?.claimRevision ?? 0);
      const recipe = { kind: "file" as const, path: "x", vmId, generation };
      return ask({ op: "register", vmId, generation, revision, deadline: held.deadline, recipe }, replied);
    }
    case "begin": {
      if (job === null) return done("failed");
      let told = false;
      const command = { type: "task.begin" as const, ...job.key, nodeId, run };
      const finish = (ok: boolean): void => {
        if (!told) done(ok ? null : "passing");
        told = true;
      };
      consensus.propose(host.peer, command, {}, (outcome) => finish(outcome.ok));
      world.afterIn(host.peer.process, 2_000, () => finish(false));
      return;
    }
    case "start-paused":
      if (domain !== undefined || shared.isLockedElsewhere(vmId, host)) return done("failed");
      host.domains.set(vmId, { vmId, generation, running: false, ran: false, incoming: false });
      return done(null);
    case "confirm":
      if (!claimed) return done("claim lost");
      if (shared.mutation === "resume-unconfirmed") return done(null);
      return ask({ op: "confirm", vmId, generation }, replied);
    case "push": {
      const target = shared.host(vm?.migration?.claim.nodeId ?? "");
      if (vm?.migration === undefined || target === null || !claimed) return done("failed");
      const about = { vmId, generation, incoming: vm.migration.claim.generation };
      return push(world, host, target, about, (ok) => done(ok ? null : "failed"));
    }
    case "resume":
      memory.of(plan).resumed = true;
      if (domain?.generation !== generation || domain.incoming) return done("failed");
      if (vm?.state === "migrating" && !domain.ran) shared.migrated();
      tools.resume(domain);
      return done(null);
    case "pause":
      if (domain?.generation !== generation) return done("failed");
      domain.running = false;
      return done(null);
    case "destroy":
      tools.destroy(vmId, generation);
      return done(null);
    case "unregister":
      return ask({ op: "unregister", vmId, generation }, replied);
    case "report": {
      if (shared.mutation === "take-back-unasked" && action.observed.kind === "handed-over" && domain?.generation === generation) {
        // Impatient: no answer is taken for a no.
        let told = false;
        const impatient = done;
        done = (failure) => {
          told = true;
          impatient(failure);
        };
        world.afterIn(host.peer.process, 300, () => {
          if (!told && host.domains.get(vmId) === domain) tools.resume(domain);
        });
      }
      return tell({ type: "vm.report", vmId, nodeId, generation, run, observed: action.observed });
    }
    case "answer": {
      if (job === null) return done("failed");
      const outcome = action.error === null ? { ok: true as const } : { ok: false as const, error: action.error };
      return tell({ type: "task.answer", ...job.key, nodeId, generation, outcome, steps: [] });
    }
    case "prepare-disks":
    case "define":
      return done(claimed ? null : "claim lost");
    case "undefine":
    case "clean-made":
    case "clean-disks":
      return done(null);
    case "shutdown":
      memory.of(plan).shutdownAskedMs = host.bootMs();
      tools.destroy(vmId, generation);
      return done(null);
    case "reboot":
    case "reset": {
      if (job === null) return done("failed");
      memory.job(plan, job).acted = true;
      shared.acted(jobId(job.key));
      return done(null);
    }
  }
}
