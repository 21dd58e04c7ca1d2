/** `--wait`: follows a VM to where a command wants it, telling each step and what it waits for. */
import { asRoostError, RoostError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import type { Vm__Output } from "../gen/types/roost/v1/Vm.ts";
import { EXIT, Exit } from "./exit.ts";
import { paint } from "./io.ts";
import type { Session } from "./session.ts";

export type Goal = "running" | "stopped" | "deleted";

export type Progress = "reached" | "missed" | "waiting";

/** Where a VM is on its way: at the goal, at rest where it will not get there by itself, or still going. */
export function progressTo(goal: Goal, vm: Pick<Vm__Output, "state" | "desired">): Progress {
  if (goal === "deleted") return vm.state === "deleted" ? "reached" : "waiting";
  if (vm.state === goal) return "reached";
  if (vm.state === "deleted" || vm.state === "failed") return "missed";
  // Somebody else wishes otherwise by now.
  if (goal === "running" && vm.state === "stopped" && vm.desired === "off") return "missed";
  if (goal === "stopped" && vm.state === "running" && vm.desired === "on") return "missed";
  return "waiting";
}

/** The VM's state for people, with why it is not further. */
export function stateLine(vm: Vm__Output): string {
  const where = vm.node === "" ? "" : ` on ${vm.node}`;
  const reasons = vm.pendingReasons.map(
    (reason) => `${reason.nodes} ${reason.nodes === 1 ? "node" : "nodes"}: ${reason.code} (${reason.detail})`,
  );
  const why = reasons.length > 0 ? reasons.join("; ") : vm.reason;
  return `${vm.state}${where}${why === "" ? "" : `: ${why}`}`;
}

const RETRY_MS = 500;

/** Resolves with the VM at its goal. Throws Exit with code `goal` when it came to rest elsewhere, `timeout` when time is up. */
export async function follow(session: Session, vm: { id: string; name: string }, goal: Goal): Promise<void> {
  const { io } = session;
  const startMs = io.nowMs();
  const deadlineMs = startMs + session.waitMs;
  let told = "";
  let last = "";
  for (;;) {
    const leftMs = deadlineMs - io.nowMs();
    if (leftMs <= 0) break;
    try {
      for await (const { vm: now, deleted } of session.client.watch(
        "VmService",
        "WatchVm",
        { vm: vm.id },
        { signal: io.signal, timeoutMs: leftMs },
      )) {
        const state = deleted ? "deleted" : (now?.state ?? "");
        const progress = progressTo(goal, { state, desired: now?.desired ?? "" });
        last = deleted || now === null ? state : stateLine(now);
        if (last !== told) {
          told = last;
          const at = paint(io, "dim", `+${((io.nowMs() - startMs) / 1000).toFixed(1)}s`, "err");
          io.err(`${at} ${vm.name}: ${last}\n`);
        }
        if (progress === "reached") return;
        if (progress === "missed") {
          io.err(`${paint(io, "red", "error:", "err")} ${vm.name} is ${last} and will not become ${goal} by itself\n`);
          throw new Exit(EXIT.goal);
        }
      }
    } catch (error) {
      if (error instanceof Exit) throw error;
      const fault = asRoostError(error).fault;
      if (fault.kind === "not-found" && goal === "deleted") return;
      if (fault.kind === "timeout") continue;
      if (fault.kind !== "unavailable") throw error;
      // The node that answered is gone, or there is no leader for a moment: that is what --wait is for.
      await new Promise((resolve) => setTimeout(resolve, Math.min(RETRY_MS, Math.max(0, deadlineMs - io.nowMs()))));
    }
    if (io.signal.aborted) throw new Exit(EXIT.interrupted);
  }
  throw new RoostError(
    { kind: "timeout", what: `waiting for ${vm.name} to be ${goal}${last === "" ? "" : ` (it is ${last})`}`, afterMs: session.waitMs },
    `it goes on without you: roost vm watch ${vm.name}, or wait longer than ${formatDuration(session.waitMs)} with --timeout`,
  );
}
