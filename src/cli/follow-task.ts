/** `--wait`: follows a task to its end, job by job, and onward to the task that goes on where it failed. */
import { asRoostError, RoostError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import type { Task__Output } from "../gen/types/roost/v1/Task.ts";
import { EXIT, Exit } from "./exit.ts";
import { paint } from "./io.ts";
import type { Session } from "./session.ts";
import { taskLine } from "./task-text.ts";

const RETRY_MS = 500;

export interface FollowOptions {
  /** A failed task that another goes on for (the next attempt of a start) is not the end. */
  onward: boolean;
  /** What counts as reached; default `done`. */
  goal?: "done" | "cancelled";
}

/** Resolves when it is done. Throws Exit with code `goal` when it ended otherwise, `timeout` when time is up. */
export async function followTask(session: Session, task: { id: string; name: string }, options: FollowOptions): Promise<void> {
  const { io } = session;
  const startMs = io.nowMs();
  const deadlineMs = startMs + session.waitMs;
  const goal = options.goal ?? "done";
  let { id } = task;
  let told = "";
  while (io.nowMs() < deadlineMs) {
    let ended: Task__Output | null = null;
    try {
      const limits = { signal: io.signal, timeoutMs: deadlineMs - io.nowMs() };
      for await (const { task: now } of session.client.watch("TaskService", "WatchTask", { task: id }, limits)) {
        if (now === null) continue;
        const line = `${now.id} ${now.action}: ${taskLine(io, now)}`;
        if (line !== told) {
          told = line;
          const at = paint(io, "dim", `+${((io.nowMs() - startMs) / 1000).toFixed(1)}s`, "err");
          io.err(`${at} ${task.name}: ${line}\n`);
        }
        if (now.endedAtMs !== 0) ended = now;
      }
    } catch (error) {
      const { fault } = asRoostError(error);
      if (fault.kind !== "timeout" && fault.kind !== "unavailable") throw error;
      // The node that answered is gone, or there is no leader for a moment: that is what --wait is for.
      if (fault.kind === "unavailable") await pause(io.signal, Math.min(RETRY_MS, Math.max(0, deadlineMs - io.nowMs())));
    }
    if (io.signal.aborted) throw new Exit(EXIT.interrupted);
    if (ended === null) continue;
    if (ended.state === goal) return;
    if (options.onward && ended.followedBy !== "") {
      id = ended.followedBy;
      continue;
    }
    io.err(
      `${paint(io, "red", "error:", "err")} ${ended.action} of ${task.name} is ${ended.state}${ended.error === null ? "" : `: ${ended.error.message}`}\n`,
    );
    io.err(`${paint(io, "cyan", "hint:", "err")} roost task show ${ended.id}\n`);
    throw new Exit(EXIT.goal);
  }
  throw new RoostError(
    { kind: "timeout", what: `waiting for task ${id} of ${task.name}`, afterMs: session.waitMs },
    `it goes on without you: roost task watch ${id}, or wait longer than ${formatDuration(session.waitMs)} with --timeout`,
  );
}

function pause(signal: AbortSignal, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, delayMs);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
