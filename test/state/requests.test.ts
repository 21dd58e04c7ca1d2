/** Exactly once by request ids (STA-2), against a model that forgets nothing. */
import t from "tap";
import { newRequestId } from "../../src/base/ids.ts";
import { seededRandom } from "../../src/base/random.ts";
import { apply } from "../../src/state/apply.ts";
import type { Command, Envelope } from "../../src/state/commands.ts";
import type { Outcome } from "../../src/state/outcome.ts";
import { AHEAD_MAX_MS, CALLERS_KEPT, OWN_KEPT_REVISIONS, ownRequestId, requestTime } from "../../src/state/requests.ts";
import { decodeEnvelope, encodeEnvelope } from "../../src/state/codec.ts";
import { State } from "../../src/state/state.ts";
import { NO_MEMBERSHIP } from "../../src/model/membership.ts";
import { checkpointText, CommandLog, decodeCheckpoint, encodeCheckpoint, faultOf, tables } from "./log.ts";

const token = (id: string): Command => ({ type: "token.create", id, secretHash: "x", ttlMs: 60_000, uses: 1 });
const AT = "@000001000000";

t.test("a repeated request gets the first answer and does nothing", (t) => {
  const log = CommandLog.withNodes(1);
  for (const [same, refused] of [
    [`same${AT}`, `refused${AT}`],
    [ownRequestId(1, "same"), ownRequestId(1, "refused")],
  ] as const) {
    const first = log.apply(token(`a${same}`), { requestId: same });
    const before = tables(log.state);
    const again = log.apply(token("b"), { requestId: same, origin: "n9" });
    t.same(again, { outcome: first.outcome, events: [], changes: [], repeated: true });
    t.equal(tables(log.state), before);

    const answer = log.apply({ type: "token.revoke", id: `c${same}` }, { requestId: refused });
    log.ok(token(`c${same}`));
    t.same(
      log.apply({ type: "token.revoke", id: `c${same}` }, { requestId: refused }).outcome,
      answer.outcome,
      "a refusal is an answer too",
    );
    t.ok(log.state.tokens.has(`c${same}`));
  }
  t.end();
});

t.test("an id says when it was made, or is refused", (t) => {
  t.same(requestTime("#12.abc"), { kind: "own", revision: 12 });
  t.same(requestTime("deploy-7@1763690000000"), { kind: "caller", madeMs: 1_763_690_000_000 });
  t.same(requestTime("018f0000-0001-7abc-8def-0123456789ab"), { kind: "caller", madeMs: 0x018f00000001 });
  t.same(requestTime(newRequestId(1_763_690_000_123)), { kind: "caller", madeMs: 1_763_690_000_123 });
  for (const bad of ["", "r1", "#x.y", "#1", "@1763690000000", "x@17", "018f0000-0001-4abc-8def-0123456789ab"])
    t.equal(requestTime(bad), null, bad);
  const log = CommandLog.withNodes(1);
  t.match(log.apply(token("a"), { requestId: "r1" }).outcome, { ok: false, fault: { kind: "expired" } });
  // The log's clock stands at 1,000,000.
  const ahead = `x@${String(1_000_000 + AHEAD_MAX_MS + 1).padStart(12, "0")}`;
  t.match(log.apply(token("a"), { requestId: ahead }).outcome, { ok: false, fault: { kind: "expired" } });
  t.notOk(log.state.tokens.has("a"));
  t.end();
});

/**
 * Random ids, new and repeated, over several retentions. The model remembers every id for ever: an id is executed at most once, and
 * as long as it is kept its repeat gets the answer of before.
 */
t.test("never twice, whatever is repeated when", (t) => {
  for (const seed of [1, 2, 3]) {
    t.comment(`seed ${seed}`);
    const random = seededRandom(seed);
    const state = new State();
    const executed = new Map<string, Outcome>();
    const ids: string[] = [];
    let index = 0;
    let expired = 0;
    let repeats = 0;
    const run = (requestId: string, at: number): void => {
      // Each execution shows by another answer: the token's id is in it.
      const command: Command = token(`t${at}`);
      const envelope: Envelope = { requestId, origin: "n1", atMs: 2_000_000_000_000, actor: "", term: 0, command };
      const applied = apply(state, envelope, { index: at, term: 1 });
      const first = executed.get(requestId);
      if (!applied.outcome.ok && applied.outcome.fault.kind === "expired") {
        expired += 1;
        if (applied.changes.length > 0 || state.tokens.has(`t${at}`)) t.fail(`${requestId} was refused and executed`);
        return;
      }
      if (applied.repeated) {
        repeats += 1;
        if (JSON.stringify(applied.outcome) !== JSON.stringify(first)) t.fail(`${requestId}: another answer`);
        return;
      }
      if (first !== undefined) t.fail(`${requestId} was executed twice`);
      executed.set(requestId, applied.outcome);
      for (const change of applied.changes) if (change.table === "tokens") state.write({ ...change, row: null });
    };
    // The log goes on in leaps, so that the window of own requests passes several times.
    for (let step = 0; step < 70_000; step++) {
      index += random.below(50) === 0 ? random.below(200) : 1;
      const dice = random.below(10);
      if (dice < 3 && ids.length > 0) {
        const back = random.below(2) === 0 ? random.below(Math.min(ids.length, 1_000)) : random.below(ids.length);
        run(ids[ids.length - 1 - back] as string, index);
        continue;
      }
      const id =
        dice < 6
          ? ownRequestId(Math.max(0, index - 1 - random.below(500)), `${step}`)
          : // Callers' clocks differ by a minute, and 10 ms pass a step.
            `c${step}@${1_999_000_000_000 + step * 10 + random.below(60_000)}`;
      ids.push(id);
      run(id, index);
    }
    t.ok(expired > 100 && repeats > 1_000 && executed.size > 20_000, `${executed.size} executed, ${repeats} repeated, ${expired} refused`);
    t.ok(state.callers.size <= CALLERS_KEPT && state.callerTimes.length === state.callers.size, `${state.callers.size} callers' answers`);
    t.ok([...state.requests.values()].every(({ revision }) => revision > index - OWN_KEPT_REVISIONS));
    // A replica that begins with a checkpoint refuses and answers as the others do.
    const rebuilt = new State();
    const { rows, position } = decodeCheckpoint(encodeCheckpoint(state, { index, term: 1, membership: NO_MEMBERSHIP }));
    for (const row of rows) rebuilt.write(row);
    rebuilt.moveTo(position);
    for (let i = 0; i < 500; i++) {
      const requestId = ids[random.below(ids.length)] as string;
      const envelope: Envelope = { requestId, origin: "n1", atMs: 2_000_000_000_000, actor: "", term: 0, command: token("z") };
      const at = { index: ++index, term: 1 };
      if (JSON.stringify(apply(state, envelope, at)) !== JSON.stringify(apply(rebuilt, envelope, at))) t.fail(`${requestId}: they differ`);
    }
    t.equal(checkpointText(rebuilt), checkpointText(state));
  }
  t.end();
});

t.test("bytes", (t) => {
  const envelope: Envelope = { requestId: "r", origin: "n1", atMs: 1, actor: "user:ä", term: 3, command: { type: "vm.retry", vmId: "v" } };
  t.same(decodeEnvelope(encodeEnvelope(envelope)), envelope);
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  const { command, ...headless } = envelope;
  t.ok(command);
  const bad: [string, Uint8Array][] = [
    ["nothing", new Uint8Array()],
    ["no JSON", bytes("{")],
    ["no UTF-8", new Uint8Array([0x22, 0xff, 0x22])],
    ["null", bytes("null")],
    ["a number", bytes("7")],
    ["a list", bytes("[]")],
    ["no command", bytes(JSON.stringify(headless))],
    ["a command without a type", bytes(JSON.stringify({ ...envelope, command: {} }))],
    ["no request id", bytes(JSON.stringify({ ...envelope, requestId: 7 }))],
    ["no origin", bytes(JSON.stringify({ ...envelope, origin: null }))],
    ["no time", bytes(JSON.stringify({ ...envelope, atMs: "soon" }))],
  ];
  for (const [what, data] of bad)
    t.match(
      faultOf(() => decodeEnvelope(data)),
      { kind: "damaged" },
      what,
    );

  const log = CommandLog.withNodes(2);
  const whole = encodeCheckpoint(log.state, { index: 9, term: 2, membership: NO_MEMBERSHIP });
  t.same(decodeCheckpoint(whole).position, { index: 9, term: 2, membership: NO_MEMBERSHIP });
  t.match(
    faultOf(() => decodeCheckpoint(whole.subarray(0, whole.length - 2))),
    { kind: "damaged" },
    "cut short",
  );
  t.match(
    faultOf(() => decodeCheckpoint(new Uint8Array())),
    { kind: "damaged" },
  );
  t.match(
    faultOf(() => decodeCheckpoint(bytes('{"format":1,"index":1,"term":1}\n{"table":"moons","key":"x","row":{}}'))),
    { kind: "damaged" },
    "an unknown table",
  );
  t.end();
});
