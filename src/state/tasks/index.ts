/** What is kept beside the rows of tasks, so that nobody has to look through all of them. Follows each write of a row. */
import { FINISHED, isSent, type Task } from "../../model/task.ts";
import { sendable } from "../../model/task-flow.ts";

export class TaskIndex {
  readonly byObject = new Map<string, string[]>();
  readonly byNode = new Map<string, Set<string>>();
  readonly due = new Set<string>();
  readonly slots = new Map<string, number>();
  /** Finished ones; in the order in which they ended when `#sorted`. Those before `#first` have been dropped. */
  #finished: { id: string; number: number; endedRevision: number }[] = [];
  #first = 0;
  #sorted = true;

  get finished(): number {
    return this.#finished.length - this.#first;
  }

  /** The first `count` that ended. */
  oldest(count: number): string[] {
    this.#sort();
    return this.#finished.slice(this.#first, this.#first + count).map(({ id }) => id);
  }

  /** @param tasks the table before the write. */
  replace(tasks: ReadonlyMap<string, Task>, before: Task | null, after: Task | null): void {
    const task = after ?? before;
    if (task === null) return;
    this.#count(before, -1);
    this.#count(after, 1);
    if (before !== null && before.endedRevision !== null) this.#drop(before);
    if (after !== null && after.endedRevision !== null) this.#append(after, after.endedRevision);
    this.#queue(tasks, task, after !== null && !FINISHED.has(after.state) ? after : null);
  }

  #count(task: Task | null, by: 1 | -1): void {
    for (const job of task?.jobs ?? []) {
      if (!isSent(job) || job.nodeId === null || task === null) continue;
      if (job.slot !== null) {
        const used = (this.slots.get(job.slot) ?? 0) + by;
        if (used === 0) this.slots.delete(job.slot);
        else this.slots.set(job.slot, used);
      }
      const there = this.byNode.get(job.nodeId) ?? new Set<string>();
      if (by === 1) there.add(task.id);
      else there.delete(task.id);
      if (there.size === 0) this.byNode.delete(job.nodeId);
      else this.byNode.set(job.nodeId, there);
    }
  }

  #queue(tasks: ReadonlyMap<string, Task>, task: Task, open: Task | null): void {
    const objectId = task.object.id;
    const queue = this.byObject.get(objectId) ?? [];
    const before = queue[0];
    const at = queue.indexOf(task.id);
    if (open === null && at >= 0) queue.splice(at, 1);
    if (open !== null && at < 0) {
      let place = queue.length;
      while (place > 0 && (tasks.get(queue[place - 1] as string)?.number ?? 0) > task.number) place -= 1;
      queue.splice(place, 0, task.id);
    }
    if (queue.length === 0) this.byObject.delete(objectId);
    else this.byObject.set(objectId, queue);
    if (before !== undefined) this.due.delete(before);
    this.due.delete(task.id);
    const head = queue[0];
    if (head === undefined) return;
    const row = head === task.id ? open : tasks.get(head);
    if (row !== null && row !== undefined && sendable(row).length > 0) this.due.add(head);
  }

  #append({ id, number }: Task, endedRevision: number): void {
    const last = this.#finished.at(-1);
    if (this.finished > 0 && last !== undefined && !isBefore(last, { number, endedRevision })) this.#sorted = false;
    this.#finished.push({ id, number, endedRevision });
  }

  #drop({ id }: Task): void {
    this.#sort();
    if (this.#finished[this.#first]?.id === id) this.#first += 1;
    else this.#finished = this.#finished.slice(this.#first).filter((one) => one.id !== id);
    if (this.#finished[this.#first - 1]?.id !== id) this.#first = 0;
    if (this.#first < 1_024) return;
    this.#finished = this.#finished.slice(this.#first);
    this.#first = 0;
  }

  #sort(): void {
    if (this.#sorted) return;
    this.#finished = this.#finished.slice(this.#first).sort((a, b) => (isBefore(a, b) ? -1 : 1));
    this.#first = 0;
    this.#sorted = true;
  }
}

interface Ended {
  number: number;
  endedRevision: number;
}

function isBefore(a: Ended, b: Ended): boolean {
  return a.endedRevision < b.endedRevision || (a.endedRevision === b.endedRevision && a.number < b.number);
}
