/** `--wait` of a live migration: it is no task, so the VM itself is followed until it migrates no more. */
import { asRoostError, RoostError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import { EXIT, Exit } from "./exit.ts";
import { paint } from "./io.ts";
import type { Session } from "./session.ts";
import { stateLine } from "./state-line.ts";

const RETRY_MS = 500;

/** Resolves when it runs, here or there, or is gone. Throws Exit `interrupted`, or `timeout` when time is up. */
export async function followMigration(session: Session, vm: { id: string; name: string }): Promise<void> {
  const { io } = session;
  const startMs = io.nowMs();
  const deadlineMs = startMs + session.waitMs;
  let told = "";
  while (io.nowMs() < deadlineMs) {
    try {
      const limits = { signal: io.signal, timeoutMs: deadlineMs - io.nowMs() };
      for await (const { vm: now, deleted } of session.client.watch("VmService", "WatchVm", { vm: vm.id }, limits)) {
        if (deleted || now === null) return;
        const line = stateLine(now);
        if (line !== told) io.err(`${paint(io, "dim", `+${((io.nowMs() - startMs) / 1000).toFixed(1)}s`, "err")} ${vm.name}: ${line}\n`);
        told = line;
        if (now.state !== "migrating") return;
      }
    } catch (error) {
      const { fault } = asRoostError(error);
      if (fault.kind === "not-found") return;
      if (fault.kind !== "timeout" && fault.kind !== "unavailable") throw error;
      // The node that answered is gone, or there is no leader for a moment: that is what --wait is for.
      if (fault.kind === "unavailable")
        await new Promise((resolve) => setTimeout(resolve, Math.min(RETRY_MS, Math.max(0, deadlineMs - io.nowMs()))));
    }
    if (io.signal.aborted) throw new Exit(EXIT.interrupted);
  }
  throw new RoostError(
    { kind: "timeout", what: `waiting for ${vm.name} to migrate${told === "" ? "" : ` (it is ${told})`}`, afterMs: session.waitMs },
    `it goes on without you: roost vm watch ${vm.name}, or wait longer than ${formatDuration(session.waitMs)} with --timeout`,
  );
}
