/** A task for people: what happened, what was undone, what it waits for, what to do. */
import { formatBytes, formatDuration } from "../base/units.ts";
import type { Job__Output } from "../gen/types/roost/v1/Job.ts";
import type { Task__Output } from "../gen/types/roost/v1/Task.ts";
import { paint } from "./io.ts";
import type { Colour, Io } from "./io.ts";
import { timeText } from "./output.ts";
import { facts, table } from "./table.ts";

const COLOURS: Record<string, Colour> = {
  done: "green",
  failed: "red",
  unknown: "red",
  "rolling-back": "yellow",
  cancelled: "yellow",
  "undo-waiting": "yellow",
  "undo-sent": "yellow",
  undone: "yellow",
};

export function paintTask(io: Io, state: string): string {
  const colour = COLOURS[state];
  return colour === undefined ? state : paint(io, colour, state);
}

/** From when to when, ms: until now for what goes on, null for what has not begun. */
export function tookMs(io: Io, beganMs: number, endedMs: number): number | null {
  return beganMs === 0 ? null : (endedMs === 0 ? io.nowMs() : endedMs) - beganMs;
}

/** `850ms`, `12.4s`, and from a minute on as durations are written. */
export function shortTime(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))}ms`;
  return ms < 60_000 ? `${(ms / 1_000).toFixed(1)}s` : formatDuration(ms);
}

export function progressText({ progress }: Pick<Job__Output, "progress">): string {
  if (progress === null) return "";
  const amount = (value: number): string => (progress.unit === "bytes" ? formatBytes(value) : `${value} %`);
  const share = progress.total > 0 && progress.unit === "bytes" ? `, ${Math.floor((progress.done / progress.total) * 100)} %` : "";
  return `${progress.what}: ${amount(progress.done)}${progress.total > 0 && progress.unit === "bytes" ? ` of ${amount(progress.total)}` : ""}${share}`;
}

function noteOf(job: Job__Output): string {
  const progress = job.state === "sent" || job.state === "undo-sent" ? progressText(job) : "";
  if (progress !== "") return progress;
  if (job.error !== null) return job.error.message;
  return job.state === "undone" ? job.undo : "";
}

/** A job's name, moved right by its depth in the tree. */
function treeName({ path, name }: Job__Output): string {
  return `${"  ".repeat(path.split(".").length - 1)}${name}`;
}

function jobTable(io: Io, task: Task__Output): string {
  const beginMs = task.createdAtMs;
  return table(
    ["JOB", "STATE", "NODE", "TRY", "BEGAN", "TOOK", "NOTE"],
    task.jobs.map((job) => {
      const took = tookMs(io, job.sentAtMs, job.endedAtMs);
      return [
        treeName(job),
        paintTask(io, job.state),
        job.node,
        job.attempt === 0 ? "" : String(job.attempt),
        job.sentAtMs === 0 ? "" : `+${shortTime(job.sentAtMs - beginMs)}`,
        took === null ? "" : shortTime(took),
        noteOf(job),
      ];
    }),
    ["TRY", "BEGAN", "TOOK"],
  );
}

export function taskText(io: Io, task: Task__Output): string {
  const took = tookMs(io, task.startedAtMs, task.endedAtMs);
  const waited = task.startedAtMs === 0 ? tookMs(io, task.createdAtMs, task.endedAtMs) : task.startedAtMs - task.createdAtMs;
  const head = `${paint(io, "bold", task.id)}  ${task.action} of ${task.objectKind} ${task.objectName}: ${paintTask(io, task.state)}\n`;
  let text = head;
  text += facts([
    ["Asked by", `${task.actor}${task.cause === "" || task.cause === "asked" ? "" : `: ${task.cause}`}`],
    ["VDC", task.vdc],
    ["Created", timeText(task.createdAtMs)],
    ["Waited", waited === null || waited < 1_000 ? "" : shortTime(waited)],
    [task.endedAtMs === 0 ? "Runs for" : "Took", took === null ? "" : shortTime(took)],
    ["Cancelled", task.cancelledBy === "" ? "" : `by ${task.cancelledBy}, ${timeText(task.cancelledAtMs)}`],
    ["To node", task.targetNode],
  ]);
  if (task.summary !== "") text += `\n${task.summary}\n`;
  text += `\n${jobTable(io, task)}`;
  const steps = task.jobs.flatMap((job) => job.steps.map((step) => ({ job, step }))).toSorted((a, b) => a.step.atMs - b.step.atMs);
  if (steps.length > 0) {
    text += "\nSteps:\n";
    for (const { job, step } of steps) {
      const at = `+${shortTime(step.atMs - task.createdAtMs)}`.padStart(8);
      text += `  ${at}  ${job.name}: ${step.name}${step.detail === "" ? "" : `, ${step.detail}`}\n`;
    }
  }
  if (task.waits.length > 0) {
    text += "\nWaits:\n";
    for (const wait of task.waits) text += `  ${waitText(io, task, wait)}\n`;
  }
  if (task.advice.length > 0) text += `\nWhat to do:\n${task.advice.map((line) => `  ${line}\n`).join("")}`;
  return text;
}

export function waitText(io: Io, task: Task__Output, wait: Task__Output["waits"][number]): string {
  const name = task.jobs.find((job) => job.path === wait.path)?.name;
  const left = wait.untilMs - io.nowMs();
  const until = wait.untilMs > 0 && left > 0 ? `, for ${shortTime(left)} yet` : "";
  return `${name === undefined ? "" : `${name}: `}${wait.text}${until}`;
}

/** One line of how far it is: for lists, and for who follows it. */
export function taskLine(io: Io, task: Task__Output): string {
  const open = task.jobs.filter((job) => job.state === "sent" || job.state === "undo-sent");
  if (task.endedAtMs !== 0) return task.summary === "" ? task.state : `${task.state}: ${firstSentence(task.summary)}`;
  const doing = open.map((job) => {
    const progress = progressText(job);
    const verb = job.state === "undo-sent" ? `undoing ${job.name}` : job.name;
    return `${verb}${job.node === "" ? "" : ` on ${job.node}`}${progress === "" ? "" : ` (${progress})`}`;
  });
  const waits = task.waits.filter((wait) => wait.kind !== "worker").map((wait) => waitText(io, task, wait));
  return `${task.state}${[...doing, ...waits].length === 0 ? "" : `: ${[...doing, ...waits].join("; ")}`}`;
}

function firstSentence(text: string): string {
  return text.split("\n")[0] ?? "";
}
