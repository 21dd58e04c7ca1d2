/** Answers kept for repeated requests (STA-2), and the bytes that commands and checkpoints travel in. */
import t from "tap";
import { apply, REQUESTS_KEPT } from "../../src/state/apply.ts";
import { decodeCheckpoint, decodeEnvelope, encodeCheckpoint, encodeEnvelope } from "../../src/state/codec.ts";
import type { Command, Envelope } from "../../src/state/commands.ts";
import { State } from "../../src/state/state.ts";
import { NO_MEMBERSHIP } from "../../src/model/membership.ts";
import { CommandLog, faultOf, tables } from "./log.ts";

const token = (id: string): Command => ({ type: "token.create", id, secretHash: "x", ttlMs: 60_000, uses: 1 });

t.test("a repeated request gets the first answer and does nothing", (t) => {
  const log = CommandLog.withNodes(1);
  const first = log.apply(token("a"), { requestId: "same" });
  const before = tables(log.state);
  log.nowMs += 60_000;
  const again = log.apply(token("b"), { requestId: "same", origin: "n9" });
  t.same(again, { outcome: first.outcome, events: [], changes: [], repeated: true });
  t.equal(tables(log.state), before);

  const refused = log.apply({ type: "token.revoke", id: "c" }, { requestId: "refused" });
  log.ok(token("c"));
  t.same(log.apply({ type: "token.revoke", id: "c" }, { requestId: "refused" }).outcome, refused.outcome, "a refusal is an answer too");
  t.ok(log.state.tokens.has("c"));
  t.end();
});

t.test("their number is bounded, whatever the clocks say", (t) => {
  const state = new State();
  let index = 0;
  const run = (requestId: string): void => {
    const envelope: Envelope = { requestId, origin: "n1", atMs: 1_000, actor: "", term: 0, command: { type: "vm.retry", vmId: "none" } };
    apply(state, envelope, { index: ++index, term: 1 });
  };
  for (let i = 0; i < REQUESTS_KEPT; i++) run(`r${i}`);
  t.equal(state.requests.size, REQUESTS_KEPT);
  t.ok(state.requests.has("r0"));
  for (let i = 0; i < 10; i++) run(`s${i}`);
  t.equal(state.requests.size, REQUESTS_KEPT);
  t.same([state.requests.has("r9"), state.requests.has("r10"), state.requests.has("s9")], [false, true, true]);
  t.end();
});

t.test("an unknown command stops the replica, and is not taken for done", (t) => {
  const log = CommandLog.withNodes(1);
  t.throws(() => log.apply({ type: "vm.fly" } as unknown as Command, { requestId: "new" }), {
    name: "AssertionError",
    message: /too old for the cluster/,
  });
  t.notOk(log.state.requests.has("new"));
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
    faultOf(() => decodeCheckpoint(bytes('{"index":1}\n{"table":"moons","key":"x","row":{}}'))),
    { kind: "damaged" },
    "an unknown table",
  );
  t.end();
});
