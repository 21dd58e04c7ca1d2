/**
 * Is a history of concurrent operations linearizable? The search of Wing and Gong with Lowe's memory of states that were seen
 * (as in Horn and Kroening, "Faster linearizability checking via P-compositionality", 2015), one key at a time: a history is
 * linearizable if the history of each object is (Herlihy and Wing 1990).
 */

/** One operation of one client on one object. Times on one clock for all clients. */
export interface Operation<I, O> {
  /** The object; histories of different keys are checked apart. */
  readonly key: string;
  readonly client: number;
  readonly input: I;
  readonly calledMs: number;
  /** null: nobody knows. It may have taken effect at any time since its call, may yet do so, or never will. */
  readonly ended: { readonly atMs: number; readonly output: O } | null;
}

/** The sequential object. */
export interface Model<S, I, O> {
  readonly initial: S;
  /** The state after `input` answered `output`; undefined if it cannot answer that. `output` undefined: any answer will do. */
  step(state: S, input: I, output: O | undefined): S | undefined;
  /** Equal texts mean equal states. */
  text(state: S): string;
  /** True if taking effect can be told by nobody: such an operation without an end is left out. */
  isRead(input: I): boolean;
}

export interface Verdict<I, O> {
  readonly ok: boolean;
  /** Of the first key that is not linearizable: its history, and how many of its operations the best order explained. */
  readonly bad: { key: string; operations: Operation<I, O>[]; explained: number } | null;
}

export function checkLinearizable<S, I, O>(model: Model<S, I, O>, history: readonly Operation<I, O>[]): Verdict<I, O> {
  const byKey = new Map<string, Operation<I, O>[]>();
  for (const operation of history) {
    if (operation.ended === null && model.isRead(operation.input)) continue;
    const same = byKey.get(operation.key) ?? [];
    same.push(operation);
    byKey.set(operation.key, same);
  }
  for (const [key, operations] of byKey) {
    const explained = longestOrder(model, operations);
    if (explained !== null) return { ok: false, bad: { key, operations, explained } };
  }
  return { ok: true, bad: null };
}

/** A call or an end in the list of all of them by time. */
interface Mark {
  readonly id: number;
  /** null for an end, and for a call without one. */
  readonly end: Mark | null;
  readonly isCall: boolean;
  previous: Mark | null;
  next: Mark | null;
}

/** null if there is an order that explains all; else how many operations the longest one found does. */
function longestOrder<S, I, O>(model: Model<S, I, O>, operations: readonly Operation<I, O>[]): number | null {
  const head = marksOf(operations);
  let open = operations.filter((operation) => operation.ended !== null).length;
  const taken = new Uint32Array((operations.length + 31) >> 5);
  const seen = new Set<string>();
  const stack: { mark: Mark; state: S }[] = [];
  let state = model.initial;
  let longest = 0;
  let mark = head.next;
  while (open > 0) {
    if (mark?.isCall === true) {
      const { input, ended } = operations[mark.id]!;
      const after = model.step(state, input, ended === null ? undefined : ended.output);
      if (after !== undefined) {
        taken[mark.id >> 5]! |= 1 << (mark.id & 31);
        const memory = `${taken.join()} ${model.text(after)}`;
        if (!seen.has(memory)) {
          seen.add(memory);
          stack.push({ mark, state });
          state = after;
          lift(mark);
          if (ended !== null) open--;
          longest = Math.max(longest, stack.length);
          mark = head.next;
          continue;
        }
        taken[mark.id >> 5]! &= ~(1 << (mark.id & 31));
      }
      mark = mark.next;
      continue;
    }
    // An end whose call was not taken yet, or nothing left to try: one step back.
    const last = stack.pop();
    if (last === undefined) return longest;
    state = last.state;
    taken[last.mark.id >> 5]! &= ~(1 << (last.mark.id & 31));
    if (operations[last.mark.id]!.ended !== null) open++;
    unlift(last.mark);
    mark = last.mark.next;
  }
  return null;
}

function marksOf(operations: readonly Operation<unknown, unknown>[]): Mark {
  const events: { atMs: number; isCall: boolean; id: number }[] = [];
  for (const [id, { calledMs, ended }] of operations.entries()) {
    events.push({ atMs: calledMs, isCall: true, id });
    if (ended !== null) events.push({ atMs: ended.atMs, isCall: false, id });
  }
  // At one instant calls come first: such operations overlap.
  events.sort((a, b) => a.atMs - b.atMs || Number(b.isCall) - Number(a.isCall) || a.id - b.id);
  const ends = new Map<number, Mark>();
  const head: Mark = { id: -1, end: null, isCall: false, previous: null, next: null };
  let first: Mark | null = null;
  for (const { id, isCall } of events.reverse()) {
    const mark: Mark = { id, isCall, end: isCall ? (ends.get(id) ?? null) : null, previous: null, next: first };
    if (first !== null) first.previous = mark;
    if (!isCall) ends.set(id, mark);
    first = mark;
  }
  head.next = first;
  if (first !== null) first.previous = head;
  return head;
}

function lift(call: Mark): void {
  unlink(call);
  if (call.end !== null) unlink(call.end);
}

function unlift(call: Mark): void {
  if (call.end !== null) relink(call.end);
  relink(call);
}

function unlink(mark: Mark): void {
  mark.previous!.next = mark.next;
  if (mark.next !== null) mark.next.previous = mark.previous;
}

function relink(mark: Mark): void {
  mark.previous!.next = mark;
  if (mark.next !== null) mark.next.previous = mark;
}

// ---- The object that the cluster's tests use -----------------------------------------------------------------------

/**
 * A register: null is empty. `make` sets it only if it is empty, `clear` empties it only if it is not; both answer whether they
 * did. Values are never written twice.
 */
export type RegisterInput = { kind: "get" } | { kind: "put"; value: string } | { kind: "make"; value: string } | { kind: "clear" };

/** What a get saw, true for done, false for refused. */
export type RegisterOutput = string | null | boolean;

export const REGISTER: Model<string | null, RegisterInput, RegisterOutput> = {
  initial: null,
  step(state, input, output) {
    switch (input.kind) {
      case "get":
        return output === undefined || output === state ? state : undefined;
      case "put":
        return input.value;
      case "make":
        if (output !== undefined && output !== (state === null)) return undefined;
        return state === null ? input.value : state;
      case "clear":
        if (output !== undefined && output !== (state !== null)) return undefined;
        return null;
    }
  },
  text: (state) => state ?? "",
  isRead: (input) => input.kind === "get",
};
