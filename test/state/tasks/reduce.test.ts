/** The reducer against a naive model, over random histories legal and not; and each rule of its own by name. */
import t from "tap";
import { seededRandom, type Random } from "../../../src/base/random.ts";
import { DEFINITIONS, JOBS, jobsOf } from "../../../src/model/task-definitions.ts";
import { jobAt, sendable } from "../../../src/model/task-flow.ts";
import { FINISHED, isSent, type Job, type JobTree, type Task, type TaskAction, type TaskError } from "../../../src/model/task.ts";
import { reduce, type TaskEvent } from "../../../src/state/tasks/reduce.ts";

const BROKEN: TaskError = { code: "broken", message: "it broke", hint: "" };

function task(action: TaskAction, tree: JobTree = DEFINITIONS[action]): Task {
  return {
    id: "t1",
    number: 1,
    action,
    object: { kind: "vm", id: "v", name: "v" },
    vdc: "default",
    state: "waiting",
    actor: "user:test",
    cause: "asked",
    createdAtMs: 0,
    startedAtMs: null,
    endedAtMs: null,
    endedRevision: null,
    targetNodeId: null,
    connection: null,
    jobs: jobsOf(tree),
    cancel: null,
    error: null,
  };
}

/** Later with each event, and by more than any back-off. */
let nowMs = 0;

/** Events in turn; each must be taken. */
function after(start: Task, ...events: TaskEvent[]): Task {
  return events.reduce((row, event, i) => {
    nowMs += 100_000;
    const reduced = reduce(row, event, { atMs: nowMs, revision: i + 1 });
    if (!reduced.ok) throw new Error(`${event.kind} (${i}): ${reduced.why}`);
    return reduced.task;
  }, start);
}

const PLACED: TaskEvent = { kind: "placed", nodeId: "n1", generation: 1 };
const sent = (path: string, attempt = 1, undo = false): TaskEvent => ({
  kind: "sent",
  path,
  attempt,
  undo,
  nodeId: "n1",
  generation: 1,
  slot: "p",
});
const ok = (path: string, attempt = 1): TaskEvent => ({ kind: "answered", path, attempt, outcome: { ok: true }, steps: [] });
const fails = (path: string, attempt = 1, error = BROKEN): TaskEvent => ({
  kind: "answered",
  path,
  attempt,
  outcome: { ok: false, error },
  steps: [],
});
const CANCEL: TaskEvent = { kind: "cancel", by: "user:eve" };
const states = (row: Task): string => `${row.state}: ${row.jobs.map((job) => job.state).join(", ")}`;
const refusalOf = (row: Task, event: TaskEvent): string => {
  const reduced = reduce(row, event, { atMs: nowMs + 100_000, revision: 9 });
  return reduced.ok ? "" : reduced.why;
};

t.test("a start, job by job", (t) => {
  let row = after(task("deploy"), PLACED);
  t.equal(states(row), "running: done, waiting, waiting");
  t.match(refusalOf(row, sent("2")), /not to be sent now/, "power-on waits for configure");
  t.match(refusalOf(row, sent("1", 2)), /1 is next/);
  row = after(row, sent("1"), ok("1"), sent("2"), ok("2"));
  t.equal(states(row), "done: done, done, done");
  t.match(refusalOf(row, ok("2")), /done already/);
  t.end();
});

t.test("a failure is undone in reverse, the failed job first", (t) => {
  let row = after(task("deploy"), PLACED, sent("1"), ok("1"), sent("2"), fails("2"));
  t.equal(states(row), "rolling-back: undo-waiting, undo-waiting, undo-waiting");
  t.match(refusalOf(row, sent("1", 2, true)), /not to be undone now/, "configure is undone after power-on");
  t.match(refusalOf(row, { kind: "released" }), /no claim to release now/);
  row = after(row, sent("2", 2, true), fails("2", 2));
  t.match(jobAt(row, "2"), { state: "undo-waiting", error: BROKEN, retryAtMs: nowMs + 2_000 }, "an undo that fails is tried again");
  row = after(row, sent("2", 3, true), ok("2", 3), sent("1", 2, true), ok("1", 2));
  t.equal(states(row), "rolling-back: undo-waiting, undone, undone");
  row = after(row, { kind: "released" });
  t.equal(states(row), "failed: undone, undone, undone");
  t.same(row.error, BROKEN);
  t.end();
});

t.test("what has no way back is tried again", (t) => {
  const row = after(task("force-shutdown"), sent("0"), fails("0"));
  t.equal(states(row), "running: waiting");
  t.equal(jobAt(row, "0")?.retryAtMs, nowMs + 1_000);
  t.match(refusalOf(row, CANCEL), /no way back/);
  t.match(reduce(row, sent("0", 2), { atMs: nowMs + 999, revision: 3 }), { ok: false, why: /in 1 ms/ });
  t.equal(states(after(row, sent("0", 2))), "running: sent");
  t.end();
});

t.test("cancel", (t) => {
  t.equal(states(after(task("deploy"), CANCEL)), "cancelled: skipped, skipped, skipped");
  // The job under way is not known to have stopped: its answer comes first, then its undo.
  const configuring = after(task("deploy"), PLACED, sent("1"), CANCEL);
  t.equal(states(configuring), "rolling-back: undo-waiting, sent, skipped");
  t.equal(states(after(configuring, ok("1"), sent("1", 2, true), ok("1", 2), { kind: "released" })), "cancelled: undone, undone, skipped");
  t.equal(
    states(after(task("shutdown"), sent("0"), ok("0"), sent("1"), CANCEL)),
    "cancelled: done, failed",
    "waiting needs no worker to end",
  );
  t.equal(states(after(task("pause"), sent("0"), CANCEL, ok("0"), sent("0", 2, true), ok("0", 2))), "cancelled: undone");
  const begun = after(task("force-restart"), sent("0"), { kind: "begun", path: "0", attempt: 1, run: "r1" }, CANCEL);
  t.equal(states(begun), "rolling-back: sent", "what has begun and cannot be repeated is waited for");
  t.equal(states(after(begun, ok("0"))), "done: done", "and if it was done, it is said so");
  t.equal(states(after(task("force-restart"), sent("0"), CANCEL)), "cancelled: failed");
  t.match(
    refusalOf(after(task("force-restart"), sent("0"), CANCEL), { kind: "begun", path: "0", attempt: 1, run: "r1" }),
    /cancelled already/,
  );
  t.end();
});

t.test("what cannot be repeated", (t) => {
  const begun = after(task("restart"), sent("0"), { kind: "begun", path: "0", attempt: 1, run: "r1" });
  t.match(refusalOf(begun, { kind: "begun", path: "0", attempt: 1, run: "r2" }), /begun already, by run r1/);
  t.equal(states(after(begun, fails("0", 1, { ...BROKEN, code: "unknown" }))), "unknown: unknown");
  t.equal(states(after(begun, { kind: "claim-ended", again: true, error: BROKEN })), "unknown: unknown");
  t.equal(
    states(after(task("restart"), sent("0"), { kind: "claim-ended", again: true, error: BROKEN })),
    "failed: failed",
    "it had not begun",
  );
  t.end();
});

t.test("the claim ends", (t) => {
  const ended = (again: boolean): TaskEvent => ({ kind: "claim-ended", again, error: BROKEN });
  const booting = after(task("deploy"), PLACED, sent("1"), ok("1"), sent("2"));
  t.equal(states(after(booting, ended(true))), "running: waiting, waiting, waiting");
  t.equal(after(booting, ended(true)).jobs[2]?.attempt, 1, "attempts count on");
  t.equal(states(after(booting, ended(false))), "failed: undone, undone, undone");
  t.equal(states(after(booting, fails("2"), ended(true))), "failed: undone, undone, undone", "one that goes back is over");
  t.equal(states(after(task("shutdown"), sent("0"), ok("0"), sent("1"), ended(false))), "done: done, done");
  t.equal(states(after(task("force-shutdown"), ended(false))), "done: skipped");
  t.equal(states(after(task("delete"), sent("0"), ended(false))), "running: done, waiting");
  t.equal(states(after(task("pause"), sent("0"), ended(true))), "failed: failed");
  t.end();
});

/** Concurrent and nested, which no action of today is. */
const TREE: JobTree = {
  kind: "sequence",
  of: [
    { kind: "job", name: "configure" },
    {
      kind: "concurrent",
      of: [
        { kind: "job", name: "power-on" },
        {
          kind: "sequence",
          of: [
            { kind: "job", name: "pause" },
            { kind: "job", name: "shutdown" },
          ],
        },
      ],
    },
    { kind: "job", name: "unpause" },
  ],
};

t.test("a tree: concurrent jobs at once, what follows after all of them, undone in reverse", (t) => {
  let row = after(task("migrate", TREE), sent("0"), ok("0"));
  t.same(
    row.jobs.map(({ path, after: before }) => [path, before]),
    [
      ["0", []],
      ["1.0", ["0"]],
      ["1.1.0", ["0"]],
      ["1.1.1", ["1.1.0"]],
      ["2", ["1.0", "1.1.1"]],
    ],
  );
  t.same(
    sendable(row).map(({ job }) => job.path),
    ["1.0", "1.1.0"],
  );
  row = after(row, sent("1.0"), sent("1.1.0"), ok("1.1.0"), sent("1.1.1"), fails("1.1.1"));
  t.equal(states(row), "rolling-back: undo-waiting, sent, undo-waiting, failed, skipped");
  t.same(
    sendable(row).map(({ job }) => job.path),
    ["1.1.0"],
    "not the first, while a job after it is out",
  );
  row = after(row, ok("1.0"));
  t.same(
    sendable(row).map(({ job }) => job.path),
    ["1.0", "1.1.0"],
  );
  t.end();
});

/**
 * The naive model: only which jobs have an effect in the world, by the history alone. At the end of a task that failed or was cancelled
 * nothing with an undo may be left, and at the end of a done one everything must be.
 */
class Model {
  readonly #done = new Map<string, boolean>();
  #out = new Set<string>();

  note(job: Job, event: TaskEvent): void {
    if (event.kind === "sent") this.#out.add(job.path);
    if (event.kind !== "answered") return;
    this.#out.delete(job.path);
    // A failed job may have done half of it; only a good undo makes the world what it was.
    if (job.state === "undo-sent") {
      if (event.outcome.ok) this.#done.delete(job.path);
    } else this.#done.set(job.path, event.outcome.ok);
  }

  faults(row: Task): string[] {
    if (!FINISHED.has(row.state)) return [];
    const left = [...this.#done].filter(([path]) => JOBS[jobAt(row, path)?.name ?? "place"].undo !== null);
    const faults = [...this.#out].map((path) => `${path} is out`);
    if (row.state === "failed" || row.state === "cancelled") faults.push(...left.map(([path]) => `${path} was not undone`));
    if (row.state === "done" && row.jobs.some(({ path }) => this.#done.get(path) !== true)) faults.push("not all was done");
    return faults;
  }
}

function anyTree(random: Random, depth = 0): JobTree {
  const names = ["configure", "power-on", "pause", "unpause", "shutdown", "reset", "power-off"] as const;
  const kind = depth > 2 ? 2 : random.below(4);
  if (kind >= 2) return { kind: "job", name: names[random.below(names.length)] as (typeof names)[number] };
  const of = Array.from({ length: 1 + random.below(3) }, () => anyTree(random, depth + 1));
  return { kind: kind === 0 ? "sequence" : "concurrent", of };
}

t.test("random histories of random trees against the naive model", (t) => {
  const first = Number(process.env["ROOST_SEED"] ?? 1);
  t.comment(`seeds from ${first}`);
  const ends = new Map<string, number>();
  for (let seed = first; seed < first + 600; seed++) {
    const random = seededRandom(seed);
    let row = task("migrate", anyTree(random));
    const model = new Model();
    let [atMs, cancelled] = [0, false];
    for (let i = 0; i < 200 && !FINISHED.has(row.state); i++) {
      atMs += 120_000;
      const job = row.jobs[random.below(row.jobs.length)] as Job;
      const attempt = job.attempt + (random.below(10) === 0 ? random.below(3) - 1 : 0);
      const { path } = job;
      const event: TaskEvent = [
        { kind: "sent", path, attempt: attempt + 1, undo: row.state === "rolling-back", nodeId: "n1", generation: 1, slot: null } as const,
        {
          kind: "answered",
          path,
          attempt,
          outcome: random.below(5) === 0 ? { ok: false, error: BROKEN } : { ok: true },
          steps: [],
        } as const,
        { kind: "begun", path, attempt, run: `r${random.below(2)}` } as const,
        { kind: "cancel", by: "user:eve" } as const,
      ][[0, 0, 0, 1, 1, 1, 2, random.below(12) === 0 ? 3 : 0][random.below(8)] as number] as TaskEvent;
      const reduced = reduce(row, event, { atMs, revision: i });
      const isLegal = legal(row, job, event, attempt);
      if (reduced.ok !== isLegal)
        t.fail(
          `seed ${seed}, step ${i}: ${event.kind} of ${path} (${job.state}, task ${row.state}) was ${reduced.ok ? "taken" : "refused"}`,
        );
      if (!reduced.ok) continue;
      if (event.kind !== "cancel") model.note(job, event);
      else cancelled = true;
      // What is called off at once is out no more, and had no effect that could be undone.
      for (const { path: other, state } of reduced.task.jobs)
        if (event.kind === "cancel" && state === "failed" && isSentAt(row, other)) model.note(jobAt(row, other) as Job, fails(other));
      row = reduced.task;
    }
    const faults = model.faults(row);
    if (faults.length > 0) t.fail(`seed ${seed}: ${states(row)}: ${faults.join("; ")}`);
    if (row.state === "cancelled" && !cancelled) t.fail(`seed ${seed}: cancelled by nobody`);
    ends.set(row.state, (ends.get(row.state) ?? 0) + 1);
  }
  t.comment(JSON.stringify([...ends]));
  for (const state of ["done", "failed", "cancelled"]) t.ok((ends.get(state) ?? 0) > 20, state);
  t.end();
});

function isSentAt(row: Task, path: string): boolean {
  const job = jobAt(row, path);
  return job !== undefined && isSent(job);
}

/** What may follow, said anew and plainly. */
function legal(row: Task, job: Job, event: TaskEvent, attempt: number): boolean {
  const before = (path: string): Job => jobAt(row, path) as Job;
  switch (event.kind) {
    case "sent": {
      if (attempt !== job.attempt) return false;
      if (!event.undo) return job.state === "waiting" && job.after.every((path) => before(path).state === "done");
      const depends = (other: Job): boolean => other.after.some((path) => path === job.path || depends(before(path)));
      return (
        job.state === "undo-waiting" &&
        !row.jobs.some((other) => depends(other) && ["sent", "undo-sent", "undo-waiting"].includes(other.state))
      );
    }
    case "answered":
      return isSent(job) && attempt === job.attempt;
    case "begun":
      return job.state === "sent" && attempt === job.attempt && row.cancel === null && (job.begunBy === null || job.begunBy === event.run);
    case "cancel":
      return row.cancel !== null || !row.jobs.some(({ name, attempt: tried }) => name === "power-off" && tried > 0);
    default:
      return false;
  }
}
