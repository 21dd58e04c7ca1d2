/** What will happen, by virtual time; equal times in the order they were asked for, so that a seed always replays. */
export class EventQueue {
  private heap: { at: number; order: number; action: () => void }[] = [];
  private order = 0;
  now = 0;

  after(delay: number, action: () => void): void {
    const { heap } = this;
    heap.push({ at: this.now + delay, order: this.order++, action });
    for (let child = heap.length - 1; child > 0;) {
      const parent = (child - 1) >> 1;
      if (!this.before(child, parent)) break;
      [heap[child], heap[parent]] = [heap[parent]!, heap[child]!];
      child = parent;
    }
  }

  /** Runs everything up to `end`, or until `done`; between two events all promises that they settled have their turn. */
  async drainUntil(end: number, done: () => boolean = () => false): Promise<void> {
    await turn();
    while (this.heap.length > 0 && this.heap[0]!.at <= end) {
      const next = this.pop();
      this.now = next.at;
      next.action();
      await turn();
      if (done()) return;
    }
    this.now = end;
  }

  /** Runs everything up to `end`. */
  runUntil(end: number): void {
    while (this.heap.length > 0 && this.heap[0]!.at <= end) {
      const next = this.pop();
      this.now = next.at;
      next.action();
    }
    this.now = end;
  }

  private pop(): { at: number; action: () => void } {
    const { heap } = this;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length > 0) {
      heap[0] = last;
      for (let parent = 0; ;) {
        let least = parent;
        for (const child of [2 * parent + 1, 2 * parent + 2]) if (child < heap.length && this.before(child, least)) least = child;
        if (least === parent) break;
        [heap[least], heap[parent]] = [heap[parent]!, heap[least]!];
        parent = least;
      }
    }
    return top;
  }

  private before(a: number, b: number): boolean {
    const x = this.heap[a]!;
    const y = this.heap[b]!;
    return x.at < y.at || (x.at === y.at && x.order < y.order);
  }
}

/** Ends when no promise is left that could go on. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
