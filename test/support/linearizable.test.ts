/** The judge is judged: histories that are known to be good, and every way in which one can be bad. */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { checkLinearizable, type Operation, REGISTER, type RegisterInput, type RegisterOutput } from "./linearizable.ts";

type Op = Operation<RegisterInput, RegisterOutput>;
let clients = 0;

const op = (key: string, calledMs: number, endedMs: number | null, input: RegisterInput, output: RegisterOutput): Op => ({
  key,
  client: clients++,
  input,
  calledMs,
  ended: endedMs === null ? null : { atMs: endedMs, output },
});
const put = (from: number, to: number | null, value: string): Op => op("k", from, to, { kind: "put", value }, true);
const get = (from: number, to: number | null, value: string | null): Op => op("k", from, to, { kind: "get" }, value);
const make = (from: number, to: number | null, value: string, done: boolean): Op => op("k", from, to, { kind: "make", value }, done);
const clear = (from: number, to: number | null, done: boolean): Op => op("k", from, to, { kind: "clear" }, done);

const good: Record<string, Op[]> = {
  "nothing happened": [],
  "empty at first": [get(0, 1, null)],
  "one after the other": [put(0, 1, "a"), get(2, 3, "a"), put(4, 5, "b"), get(6, 7, "b")],
  "a read during a write sees the old value": [put(0, 1, "a"), put(2, 9, "b"), get(3, 4, "a"), get(10, 11, "b")],
  "a read during a write sees the new value": [put(0, 1, "a"), put(2, 9, "b"), get(3, 4, "b")],
  "two writes at once, in the order that the reads tell": [put(0, 9, "a"), put(0, 9, "b"), get(10, 11, "a")],
  "and in the other": [put(0, 9, "a"), put(0, 9, "b"), get(10, 11, "b")],
  "a write whose end nobody knows takes effect much later": [put(0, 1, "a"), put(2, null, "b"), get(3, 4, "a"), get(100, 101, "b")],
  "or never": [put(0, 1, "a"), put(2, null, "b"), get(100, 101, "a")],
  "a read that never ended": [put(0, 1, "a"), get(2, null, "x")],
  "an end and a call in the same instant overlap": [put(0, 5, "a"), get(5, 6, null)],
  "make and clear in turn": [make(0, 1, "a", true), make(2, 3, "b", false), clear(4, 5, true), clear(6, 7, false), make(8, 9, "c", true)],
  "an unknown clear explains a second make": [make(0, 1, "a", true), clear(2, null, true), make(5, 6, "b", true)],
  "keys do not touch each other": [put(0, 1, "a"), op("other", 2, 3, { kind: "get" }, null), get(2, 3, "a")],
};

const bad: Record<string, Op[]> = {
  "a stale read: the write had ended": [put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")],
  "a stale read of nothing": [put(0, 1, "a"), get(2, 3, null)],
  "a lost update": [put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "b"), get(6, 7, "a")],
  "a dirty read: nobody wrote that": [put(0, 1, "a"), get(2, 3, "z")],
  "a read from the future": [get(0, 1, "a"), put(2, 3, "a")],
  "reads that disagree on the order of two writes": [put(0, 9, "a"), put(0, 9, "b"), get(10, 11, "a"), get(12, 13, "b")],
  "new, then old during one write": [put(0, 1, "a"), put(2, 20, "b"), get(3, 4, "b"), get(5, 6, "a")],
  "a write applied twice": [put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "b"), put(6, 7, "c"), get(8, 9, "b")],
  "an unknown write applied twice": [put(0, null, "a"), get(2, 3, "a"), put(4, 5, "b"), get(6, 7, "b"), get(8, 9, "a")],
  "two makes without a clear": [make(0, 1, "a", true), make(2, 3, "b", true)],
  "a make that was applied twice refuses itself": [make(0, 1, "a", false)],
  "a clear of nothing": [clear(0, 1, true)],
  "a write before its own call": [get(0, 1, "a"), put(2, null, "a")],
};

for (const [name, history] of Object.entries(good)) {
  t.test(`linearizable: ${name}`, async (t) => t.strictSame(checkLinearizable(REGISTER, history), { ok: true, bad: null }));
}
for (const [name, history] of Object.entries(bad)) {
  t.test(`not linearizable: ${name}`, async (t) => {
    const verdict = checkLinearizable(REGISTER, history);
    t.notOk(verdict.ok);
    t.equal(verdict.bad?.key, "k");
  });
}

t.test("the key that is wrong is named", async (t) => {
  const wrong = op("two", 3, 4, { kind: "get" }, "never");
  t.strictSame(checkLinearizable(REGISTER, [put(0, 1, "a"), wrong]).bad, { key: "two", operations: [wrong], explained: 0 });
});

/** Clients that really share a register: each operation takes effect at one instant between its call and its end. */
function honest(seed: number, count: number): Op[] {
  const random = seededRandom(seed);
  const planned = Array.from({ length: count }, (_, i) => {
    const calledMs = random.below(count * 4);
    const effectMs = calledMs + random.unit() * 20;
    const lost = random.below(10) === 0;
    const kind = (["put", "get", "make", "clear"] as const)[random.below(4)]!;
    return { i, calledMs, effectMs, atMs: effectMs + random.unit() * 20, lost, never: lost && random.below(2) === 0, kind };
  }).toSorted((a, b) => a.effectMs - b.effectMs);
  let state: string | null = null;
  return planned.map(({ i, calledMs, atMs, lost, never, kind }) => {
    const value = `v${i}`;
    const input: RegisterInput = kind === "put" || kind === "make" ? { kind, value } : { kind };
    const output: RegisterOutput = kind === "get" ? state : kind === "put" ? true : kind === "make" ? state === null : state !== null;
    if (!never) state = REGISTER.step(state, input, undefined) ?? null;
    return op("k", calledMs, lost ? null : atMs, input, output);
  });
}

t.test("random histories of a real register hold, and with one answer changed most do not", async (t) => {
  const first = Number(process.env["ROOST_SEED"] ?? 1);
  console.log(`# seed ${first}`);
  let caught = 0;
  let changed = 0;
  for (let seed = first; seed < first + 100; seed++) {
    const history = honest(seed, 60);
    const { ok } = checkLinearizable(REGISTER, history);
    if (!ok) t.fail(`seed ${seed} of an honest register is refused`);
    const at = history.findIndex(({ input, ended }, i) => i > 20 && input.kind === "get" && ended !== null);
    if (at < 0) continue;
    changed++;
    const wrong = history.with(at, { ...history[at]!, ended: { atMs: history[at]!.ended!.atMs, output: "v999" } });
    if (!checkLinearizable(REGISTER, wrong).ok) caught++;
  }
  t.ok(changed > 50);
  t.equal(caught, changed, "a value that nobody wrote is always found");
});
