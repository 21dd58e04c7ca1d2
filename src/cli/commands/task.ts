/** roost task …, roost vm tasks: what is done, what was done, and what it waits for. */
import type { Command } from "commander";
import { invalid } from "../../base/errors.ts";
import type { Task__Output } from "../../gen/types/roost/v1/Task.ts";
import { followTask } from "../follow-task.ts";
import type { Io } from "../io.ts";
import { printList, printValue, timeText } from "../output.ts";
import type { Column } from "../output.ts";
import { taskRow } from "../rows.ts";
import { eachItem, withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { paintTask, shortTime, taskLine, taskText, tookMs } from "../task-text.ts";

const LIST_DEFAULT = 50;

function columns(io: Io): Column<Task__Output>[] {
  return [
    { header: "TASK", cell: (task) => task.id },
    { header: "ACTION", cell: (task) => task.action },
    { header: "OBJECT", cell: (task) => task.objectName },
    { header: "STATE", cell: (task) => paintTask(io, task.state) },
    { header: "NODE", cell: (task) => [...new Set(task.jobs.map((job) => job.node).filter((node) => node !== ""))].join(",") },
    { header: "CREATED", cell: (task) => timeText(task.createdAtMs) },
    {
      header: "TOOK",
      cell: (task) => {
        const took = tookMs(io, task.startedAtMs, task.endedAtMs);
        return took === null ? "" : shortTime(took);
      },
      right: true,
    },
    { header: "VDC", cell: (task) => task.vdc, wide: true },
    { header: "BY", cell: (task) => task.actor, wide: true },
    { header: "CAUSE", cell: (task) => task.cause, wide: true },
    { header: "NOTE", cell: (task) => taskLine(io, task).replace(/^[a-z-]+(?:: )?/, "") },
  ];
}

/** The newest first, at most `most`. */
async function listTasks(
  session: Session,
  filter: { vm?: string; node?: string; states?: string[] },
  most: number,
): Promise<Task__Output[]> {
  const tasks: Task__Output[] = [];
  let pageToken = "";
  do {
    const answer = await session.client.call(
      "TaskService",
      "ListTasks",
      { ...filter, consistency: session.consistency, pageToken, pageSize: Math.min(1_000, most - tasks.length) },
      session.limits,
    );
    tasks.push(...answer.tasks);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "" && tasks.length < most);
  return tasks;
}

interface ListOptions {
  vm?: string;
  node?: string;
  state?: string[];
  open?: boolean;
  limit?: string;
}

async function printTasks(session: Session, options: ListOptions): Promise<void> {
  const most = Number(options.limit ?? LIST_DEFAULT);
  if (!Number.isSafeInteger(most) || most < 1)
    throw invalid("--limit", `expected a whole number from 1 on, not ${JSON.stringify(options.limit)}`);
  const states = [...(options.state ?? []), ...(options.open === true ? ["open"] : [])];
  const tasks = await listTasks(session, { vm: options.vm ?? "", node: options.node ?? "", states }, most);
  await printList(session.io, session.format, tasks, columns(session.io), taskRow);
}

async function getTask(session: Session, id: string): Promise<Task__Output> {
  const { task } = await session.client.call("TaskService", "GetTask", { task: id, consistency: session.consistency }, session.limits);
  if (task === null) throw invalid("task", "the answer has no task");
  return task;
}

export function addTaskCommands(program: Command, io: Io): void {
  const task = program.command("task").description("what is done and was done, job by job (docs/tasks.md)");

  task
    .command("list")
    .alias("ls")
    .description("tasks, the newest first")
    .option("--vm <vm>", "only of this VM; also by the id of one that is gone")
    .option("--node <node>", "only with a job on this node")
    .option("--state <state...>", "waiting, running, rolling-back, done, failed, cancelled, unknown; open: none of the last four")
    .option("--open", "only those that have not ended")
    .option("--limit <n>", `at most so many (default ${LIST_DEFAULT})`)
    .action((options: ListOptions, command: Command) => withSession(io, command, (session) => printTasks(session, options)));

  task
    .command("show <task...>")
    .description("what happened, what was undone, what it waits for, and what to do")
    .action((ids: string[], _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const found = new Map<string, Task__Output>();
        await eachItem(io, ids, async (id) => void found.set(id, await getTask(session, id)));
        const tasks = [...new Set(ids)].flatMap((id) => found.get(id) ?? []);
        if (session.format === "json" || session.format === "yaml") {
          return printValue(io, session.format, ids.length === 1 && tasks[0] !== undefined ? taskRow(tasks[0]) : tasks.map(taskRow));
        }
        io.out(tasks.map((one) => taskText(io, one)).join("\n"));
      }),
    );

  task
    .command("watch <task>")
    .description("follow a task to its end; ends with 8 if it was not done")
    .action((id: string, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const first = await getTask(session, id);
        await followTask(session, { id: first.id, name: first.objectName }, { onward: false });
      }),
    );

  task
    .command("cancel <task...>")
    .description("a waiting task is dropped; a running one ends its job, and what it did is undone")
    .option("-w, --wait", "follow to the end, up to --timeout (default 5m)")
    .action((ids: string[], options: { wait?: boolean }, command: Command) =>
      withSession(io, command, async (session) => {
        const done: Task__Output[] = [];
        await eachItem(io, ids, async (id) => {
          const answer = await session.client.call("TaskService", "CancelTask", { task: id, requestId: io.newId() }, session.limits);
          let last = answer.task;
          if (last === null) return;
          if (options.wait === true) {
            await followTask(session, { id: last.id, name: last.objectName }, { onward: false, goal: "cancelled" });
            last = await getTask(session, id);
          }
          done.push(last);
          if (session.format === "table" || session.format === "wide") io.out(`${last.id}: ${taskLine(io, last)}\n`);
        });
        if (session.format === "json" || session.format === "yaml") await printValue(io, session.format, done.map(taskRow));
      }),
    );
}

export function addVmTasks(vm: Command, io: Io): void {
  vm.command("tasks <vm>")
    .description("tasks of a VM, the newest first")
    .option("--open", "only those that have not ended")
    .option("--limit <n>", `at most so many (default ${LIST_DEFAULT})`)
    .action((name: string, options: ListOptions, command: Command) =>
      withSession(io, command, (session) => printTasks(session, { ...options, vm: name })),
    );
}
